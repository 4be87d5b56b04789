"""Whichever runner does the steps, the same comes out, byte by byte; and what it takes to spread them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import State, flow, get_client, task
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId, TaskRunFilter
from prefect.client.schemas.filters import TaskRunFilterFlowRunId as OfFlowRun

import tasks.gate
import tasks.quality
import tasks.scoring
from engines.patch_memory import PatchMemory
from flows.onboard import onboard
from schemas.errors import EnvironmentFault, StoreError
from schemas.settings import OnboardSettings
from tasks.runs import Manifest
from tasks.spreading import portions, spread
from tasks.store import FolderStore
from tasks.task_runner import ChosenRunner
from tests.flows.test_onboard import outputs

Choose = Callable[..., None]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Chooses a runner, and how many workers it has."""

    def set_environment(runner: str, workers: int = 2) -> None:
        monkeypatch.setenv("ALP_RUNNER", runner)
        monkeypatch.setenv("ALP_WORKERS", str(workers))

    return set_environment


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.gate, "LEAST_PORTION", 10)
    monkeypatch.setattr(tasks.scoring, "LEAST_BATCH", 5)


# --- the same results ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings) -> dict[str, bytes]:
    """What one worker files, one step after the other."""
    store = FolderStore(tmp_path_factory.mktemp("alone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALP_WORKERS", "1")
        onboard(str(toy_folder), "acme", store.url, settings)
    return outputs(store)


def test_threads_file_what_one_worker_files(
    alone: dict[str, bytes], toy_folder: Path, tmp_path: Path, settings: OnboardSettings, choose: Choose
) -> None:
    choose("threads")
    onboard(str(toy_folder), "acme", FolderStore(tmp_path).url, settings)
    assert outputs(FolderStore(tmp_path)) == alone


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_processes_do_all_the_heavy_steps_and_file_what_one_worker_files(
    alone: dict[str, bytes],
    toy_folder: Path,
    tmp_path: Path,
    settings: OnboardSettings,
    choose: Choose,
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
) -> None:
    if runner == "dask":
        pytest.importorskip("prefect_dask", reason="the extra dask is not installed")
    choose(runner)
    # Nothing of this reaches a worker's process, which imports the modules anew.
    for home, name in ((tasks.quality, "check_signal"), (PatchMemory, "fit"), (tasks.scoring, "load_engine")):
        monkeypatch.setattr(home, name, lambda *_, **__: pytest.fail("done in the flow's own process"))
    state = onboard(str(toy_folder), "acme", FolderStore(tmp_path).url, settings, return_state=True)
    assert isinstance(state.result(), Manifest)
    assert outputs(FolderStore(tmp_path)) == alone
    spread_over = {
        ("qa", "Hear recordings"): 2,
        ("select", "Select an engine"): 2,
        ("score", "Make the model"): 2,
        ("score", "Score recordings"): 4,  # two batches of each machine
        ("calibrate", "Calibrate"): 2,
        ("report", "Write the page of fan"): 1,
    }

    def counts() -> dict[tuple[str, str], int]:
        steps = steps_by_stage(state)
        return {(stage, step): sum(name.startswith(step) for name in steps[stage]) for stage, step in spread_over}

    # The server writes task runs down some time after they ended.
    deadline = time.monotonic() + 120
    while (found := counts()) != spread_over and time.monotonic() < deadline:
        time.sleep(1)
    assert found == spread_over


def steps_by_stage(state: State[Manifest]) -> dict[str, list[str]]:
    """Names of the task runs of every flow run below an onboarding."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        return {
            stage.name.partition("-")[0]: [
                str(run.name)
                for run in client.read_task_runs(task_run_filter=TaskRunFilter(flow_run_id=OfFlowRun(any_=[stage.id])))
            ]
            for stage in client.read_flow_runs(flow_run_filter=below)
        }


def test_a_run_cut_off_on_one_runner_goes_on_with_another(
    alone: dict[str, bytes],
    toy_folder: Path,
    tmp_path: Path,
    settings: OnboardSettings,
    choose: Choose,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FolderStore(tmp_path)

    def cut_off(*_: object, **__: object) -> None:
        raise StoreError("the plug was pulled")

    choose("processes")
    with monkeypatch.context() as patch:
        # By the gate itself, once the portions are heard.
        patch.setattr(tasks.gate, "judge", cut_off)
        with pytest.raises(StoreError, match="plug"):
            onboard(str(toy_folder), "acme", store.url, settings)
    assert any("/heard/" in key for key in store.list_keys("runs/"))
    choose("threads")
    onboard(str(toy_folder), "acme", store.url, settings)
    assert outputs(store) == alone


def test_a_dry_run_is_done_where_it_is(
    toy_folder: Path, tmp_path: Path, settings: OnboardSettings, choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose("processes")
    monkeypatch.setattr(ChosenRunner, "submit", lambda *_, **__: pytest.fail("spread"))
    manifest = onboard(str(toy_folder), "acme", FolderStore(tmp_path).url, settings, dry_run=True)
    assert [asset.engine for asset in manifest.result.assets] == ["a", "a"]


# --- spreading ----------------------------------------------------------------------------------------------------


@task(name="Tell where it is")
def tell_process(number: int, seconds: float) -> tuple[int, int]:
    time.sleep(seconds)
    return number, os.getpid()


@flow(task_runner=ChosenRunner)
def tell_processes(count: int, seconds: float = 0.0) -> list[tuple[int, int]]:
    return spread(tell_process, range(count), seconds)


def test_two_processes_share_the_steps_and_results_come_in_order(choose: Choose) -> None:
    choose("processes")
    found = tell_processes(12, 0.3)
    assert [number for number, _ in found] == list(range(12))
    workers = {process for _, process in found}
    assert len(workers) == 2
    assert os.getpid() not in workers


@pytest.mark.parametrize(("runner", "workers", "count"), [("threads", 2, 4), ("threads", 1, 4), ("processes", 1, 4)])
def test_one_worker_and_threads_stay_in_this_process(choose: Choose, runner: str, workers: int, count: int) -> None:
    choose(runner, workers)
    assert {process for _, process in tell_processes(count)} == {os.getpid()}


def test_one_step_starts_no_process(choose: Choose) -> None:
    choose("processes")
    assert tell_processes(1) == [(0, os.getpid())]


@task(name="Spread again")
def spread_again(number: int) -> list[tuple[int, int]]:
    return spread(tell_process, range(2), 0.0)


@flow(task_runner=ChosenRunner)
def spread_twice() -> list[list[tuple[int, int]]]:
    return spread(spread_again, range(2))


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_what_is_spread_spreads_nothing_itself(choose: Choose, runner: str) -> None:
    choose(runner)
    for found in spread_twice():
        assert len({process for _, process in found}) == 1


@task(name="Fail by number")
def fail_or_note(number: int, folder: str) -> None:
    if number in (1, 2):
        raise StoreError(f"step {number} failed")
    time.sleep(0.5)
    (Path(folder) / str(number)).touch()


@flow(task_runner=ChosenRunner)
def fail_some(folder: str) -> None:
    spread(fail_or_note, range(4), folder)


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_the_first_error_is_raised_as_it_is_once_the_others_have_ended(
    choose: Choose, runner: str, tmp_path: Path
) -> None:
    choose(runner)
    with pytest.raises(StoreError, match="step 1 failed"):
        fail_some(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"0", "3"}


@task(name="Die at once")
def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow(task_runner=ChosenRunner)
def die_all() -> None:
    spread(die, range(2))


@flow(task_runner=ChosenRunner)
def go_on_after_a_death() -> list[tuple[int, int]]:
    """As the inbox goes on with its next package."""
    with pytest.raises(EnvironmentFault, match="ALP_WORKERS"):
        die_all()
    return tell_processes(2)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_is_killed_is_told_with_the_remedy_and_the_next_steps_have_workers_again(choose: Choose) -> None:
    choose("processes")
    found = go_on_after_a_death()
    assert [number for number, _ in found] == [0, 1]
    assert os.getpid() not in {process for _, process in found}


@flow(task_runner=ChosenRunner)
def cut(count: int, least: int) -> list[tuple[int, int]]:
    return [(portion.start, portion.stop) for portion in portions(count, least=least)]


def test_portions_are_as_many_as_processes_that_share_them(choose: Choose) -> None:
    choose("threads", 3)
    assert cut(100, 10) == [(0, 100)]
    choose("processes", 3)
    assert cut(100, 10) == [(0, 33), (33, 66), (66, 100)]
    assert cut(29, 10) == [(0, 14), (14, 29)]
    assert cut(5, 10) == [(0, 5)]
    assert cut(0, 10) == []
