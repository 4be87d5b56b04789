"""A run whose worker was killed is marked crashed, with all below it, and the next goes on; one that lives is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

from deployments import deploying, zombies
from deployments.deploying import deploy
from deployments.platform_processes import MARK, marked
from schemas.customers import Customer
from tasks.heartbeats import ALIVE
from tasks.inbox_log import read_log
from tasks.store import FolderStore
from tests.deployments.prefect_rig import await_true
from tests.faults.rig import ROOT, Hands
from tests.faults.test_two_workers import drop

pytestmark = pytest.mark.faults

SILENT_S = 20
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
ACME: dict[str, Any] = {"name": "acme", "schedule": {"onboard": None, "monitor": None}, "encoder": "logmel"}


@contextmanager
def impatience(store: FolderStore) -> Iterator[None]:
    """The customer is deployed, and silence is taken for death after seconds; as ever once the context ends."""
    silent, never_begun = zombies.WATCHES
    customers = {"acme": Customer.model_validate(ACME)}
    with pytest.MonkeyPatch.context() as patch:
        short = (replace(silent, within=timedelta(seconds=SILENT_S)), never_begun)
        patch.setattr(deploying.zombies, "WATCHES", short)
        deploy(customers, store.url, dry_run=False)
        yield
    deploy(customers, store.url, dry_run=False)


@pytest.fixture
def store(tmp_path: Path, api: str) -> Iterator[FolderStore]:
    """A store; what is deployed on it is gone when the test ends."""
    store = FolderStore(tmp_path / "store")
    yield store
    deploy({}, store.url, dry_run=False)


def has_something(path: str) -> bool:
    return Path(path).is_file() and Path(path).read_text() != ""


def read(run_id: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)


def below(run_id: Any) -> list[FlowRun]:
    """Runs below one, and those below them."""
    wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted)
    return [*found, *(deeper for run in found for deeper in below(run.id))]


def state_of(run_id: Any) -> str:
    state = read(run_id).state
    return "" if state is None else str(state.name)


def said_of(run_id: Any) -> str:
    """The message of the state that a run is in."""
    state = read(run_id).state
    return "" if state is None else str(state.message)


def has_given_a_sign(run_id: Any) -> bool:
    wanted = {"event": {"name": [ALIVE]}, "resource": {"id": [f"prefect.flow-run.{run_id}"]}}
    with get_client(sync_client=True) as client:
        return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])


# --- in processes of their own ------------------------------------------------------------------------------------


def live(said: str, lives_s: float) -> int:
    """A flow as ALP's are, with one below it, that says its ids and lives for so long."""
    from prefect import flow
    from prefect.runtime import flow_run

    import tasks.heartbeats
    from tasks.heartbeats import own_signs_only
    from tasks.showing import shown

    tasks.heartbeats.EVERY_S = 2.0

    @shown()
    @flow(name="inner")
    def inner() -> None:
        Path(f"{said}.inner").write_text(flow_run.id)
        time.sleep(lives_s)

    @shown()
    @flow(name="outer")
    def outer() -> None:
        Path(f"{said}.outer").write_text(flow_run.id)
        with own_signs_only():
            inner()

    outer()
    return 0


def test_silence_is_death_and_long_work_is_not(store: FolderStore, workers: Hands, tmp_path: Path) -> None:
    dead, alive = tmp_path / "dead", tmp_path / "alive"
    names = [f"{who}.{which}" for who in (dead, alive) for which in ("outer", "inner")]
    with impatience(store):
        doomed = workers.call(live, str(dead), 600.0)
        lasting = workers.call(live, str(alive), 3.0 * SILENT_S)
        await_true(lambda: all(map(has_something, names)), seconds=90, what="them")
        outer, inner, long, longer = (Path(name).read_text() for name in names)
        await_true(lambda: has_given_a_sign(inner), seconds=30, what="the first sign of the run below")
        doomed.kill()
        await_true(lambda: {state_of(outer), state_of(inner)} == {"Crashed"}, seconds=90, what="the verdict")
        assert "no sign of life" in said_of(outer)
        assert workers.wait(lasting) == 0
    assert {state_of(long), state_of(longer)} == {"Completed"}


@contextmanager
def worker(api: str, mark: str, log: Path) -> Iterator[None]:
    """A worker of the pool; it and all that it started are killed when the context ends."""
    own = {"PREFECT_API_URL": api, "PYTHONPATH": str(ROOT), MARK: mark, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "alp", "--type", "process"]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, env=os.environ | own, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        for other, _ in marked(mark):
            os.kill(other.pid, signal.SIGKILL)


def start_run(name: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.create_flow_run_from_deployment(client.read_deployment_by_name(name).id).id)


def test_after_a_worker_was_killed_the_next_scheduled_run_goes_on(
    store: FolderStore, api: str, packages: Any, tmp_path: Path
) -> None:
    drop(store, packages, {"acme": ("fan",)})
    with impatience(store):
        first = start_run("onboard/acme")
        with worker(api, "zombies-1", tmp_path / "worker.log"):
            await_true(lambda: len(below(first)) > 1, seconds=120, what="a stage under way")
            await_true(lambda: has_given_a_sign(first), seconds=60, what="its first sign of life")
        # On a slow machine the verdict comes before the kill: two signs of a worker's run lie further apart.
        await_true(lambda: state_of(first) == "Crashed", seconds=90, what="the verdict on it")
        assert "no sign of life" in said_of(first)
    second = start_run("onboard/acme")
    with worker(api, "zombies-2", tmp_path / "worker.log"):
        await_true(lambda: state_of(second) in ENDS, seconds=600, what="the next run")
    assert state_of(second) == "Completed", read(second).state
    assert [seen.became for seen in read_log(store, "acme").packages.values()] == ["onboarded"]
