"""What operators see of any run: a name, tags by which it is found, and a failure whose message is the remedy."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, State, Task, flow, get_client, tags
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

import flows
import tasks
from engines.toy.plan import ToyPlan
from flows.onboard import onboard
from schemas.customers import Customer
from schemas.errors import AlpError, EnvironmentFault, InputError, StoreError, UsageError, WeightsError
from schemas.settings import OnboardSettings
from tasks.showing import label_flow_run, shown
from tasks.store import FolderStore
from tasks.toy import write_toy_package
from tests.s3_server import S3Server

Row = dict[str, str]
Edited = Callable[[str, Callable[[list[Row]], list[Row]]], Path]


def read_run(state: State[Any]) -> FlowRun:
    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def below(run: FlowRun) -> list[FlowRun]:
    whole = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=whole)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings) -> FlowRun:
    """The run of a fan's package that was onboarded, by hand and with a tag of its own."""
    folder = tmp_path_factory.mktemp("shown")
    write_toy_package(folder / "fan", ToyPlan(machine_types=("fan",), scale=0.001))
    with tags("of-my-own"):
        state = onboard(str(folder / "fan"), "acme", f"file://{folder}/store", settings, return_state=True)
    assert state.is_completed()
    return read_run(state)


# --- names and tags ---------------------------------------------------------------------------------------------------


def test_a_run_and_all_below_it_are_found_by_customer_and_machine_type(done: FlowRun) -> None:
    assert set(done.tags) == {"alp", "customer:acme", "machine:fan", "of-my-own"}
    parts = {part.name.partition("-")[0]: set(part.tags) for part in below(done)}
    assert set(parts) == {"ingest", "qa", "standardize", "select", "score", "calibrate", "report"}
    assert all({"alp", "customer:acme"} <= found for found in parts.values())
    assert all("machine:fan" in parts[name] for name in ("select", "score", "calibrate"))


def test_tags_are_those_that_a_customer_s_deployments_carry(done: FlowRun) -> None:
    customer = Customer(name="acme", machine_types={"fan": None})
    assert set(customer.tags) <= set(done.tags)


def test_runs_are_named_by_customer_package_and_machine(done: FlowRun) -> None:
    package = re.fullmatch(r"onboard-acme-([0-9a-f]{8})", done.name)
    assert package is not None
    names = {part.name for part in below(done)}
    stages = ("qa", "standardize", "select", "score", "calibrate", "report")
    assert names == {"ingest-acme", *(f"{stage}-acme-{package[1]}" for stage in stages)}


def test_a_dry_run_is_named_as_one(toy_folder: Path, tmp_path: Path, settings: OnboardSettings) -> None:
    state = onboard(str(toy_folder), "acme", f"file://{tmp_path}/store", settings, dry_run=True, return_state=True)
    assert read_run(state).name.endswith("-dry-run")


def modules() -> Iterator[Any]:
    for room in (flows, tasks):
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            yield importlib.import_module(found.name)


def ours(kind: type[Any]) -> dict[str, Any]:
    """Every flow or task by the module and name it is made in."""
    found = {
        f"{value.fn.__module__}.{value.fn.__name__}": value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, kind)
    }
    return {name: value for name, value in found.items() if name.startswith(("flows.", "tasks."))}


@pytest.mark.parametrize("name", ours(Flow))
def test_every_flow_is_shown(name: str) -> None:
    found = ours(Flow)[name]
    assert hasattr(found.fn, "__wrapped__"), f"{name} stands under @flow alone: put @shown(customer=…) above"
    assert found.flow_run_name is not None, f"{name} has runs of no name"


@pytest.mark.parametrize("name", ours(Task))
def test_every_task_reads_as_a_sentence(name: str) -> None:
    found = ours(Task)[name]
    for text in (found.name, found.task_run_name):
        assert isinstance(text, str), f"{name} has runs of no name"
        words = re.sub(r"\{[^}]*\}", "it", text).split()
        assert re.fullmatch("[A-Z][a-z]+", words[0]), f"{text!r} does not begin with a verb"
        assert len(words) >= 2
        assert "_" not in re.sub(r"\{[^}]*\}", "", text), f"{text!r} names code"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_what_a_step_raised_on_purpose_is_the_message_and_reaches_the_caller_as_it_is() -> None:
    error = StoreError("s3://alp does not answer;\nstart its server")

    @shown()
    @flow
    def inner() -> None:
        raise error

    @shown()
    @flow
    def outer() -> None:
        inner()

    state = outer(return_state=True)
    assert (state.name, state.message) == ("Failed", "s3://alp does not answer; start its server")
    assert state.result(raise_on_failure=False) is error
    with pytest.raises(StoreError) as caught:
        outer()
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "space on its disk: /data/x says No space left on",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "files that it may open: it says Too many open files; let it"),
        (MemoryError("Unable to allocate 12 GiB"), "memory: it says Unable to allocate 12 GiB; make room there"),
        (MemoryError(), "memory: it says there is none left; make room there"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_package(error: Exception, said: str) -> None:
    @shown()
    @flow
    def starved() -> None:
        raise error

    state = starved(return_state=True)
    assert said in assert_is_remedy(state, EnvironmentFault)


def test_another_error_of_the_system_is_left_to_prefect() -> None:
    @shown()
    @flow
    def broken() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/x")

    state = broken(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), PermissionError)


def test_a_fault_that_nobody_raised_on_purpose_is_left_to_prefect() -> None:
    @shown()
    @flow
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    state = broken(return_state=True)
    assert state.message is not None
    assert "ZeroDivisionError: a bug" in state.message


def test_a_very_long_remedy_is_cut() -> None:
    @shown()
    @flow
    def broken() -> None:
        raise UsageError("mend this. " * 1000)

    state = broken(return_state=True)
    assert state.message is not None
    assert len(state.message) <= 2000
    assert state.message.endswith("…")


def failed(source: Path, store: str, settings: OnboardSettings) -> tuple[State[Any], list[FlowRun]]:
    state = onboard(str(source), "acme", store, settings, return_state=True)
    run = read_run(state)
    assert run.state is not None
    assert run.state.message == state.message, "the server shows what the caller got"
    return state, below(run)


def assert_is_remedy(state: State[Any], kind: type[AlpError]) -> str:
    fault = state.result(raise_on_failure=False)
    assert isinstance(fault, kind)
    assert state.message is not None
    assert state.message.split() == str(fault).split()
    return state.message


def test_a_file_that_is_no_package_says_what_to_send(tmp_path: Path, settings: OnboardSettings) -> None:
    (tmp_path / "notes.zip").write_text("not a zip")
    state, stages = failed(tmp_path / "notes.zip", f"file://{tmp_path}/store", settings)
    assert "Send a zip or a folder" in assert_is_remedy(state, InputError)
    assert [stage.state.message for stage in stages if stage.state] == [state.message], "the stage says it too"


def test_a_refused_package_is_called_so(edited: Edited, tmp_path: Path, settings: OnboardSettings) -> None:
    few = edited("few", lambda rows: [row for row in rows if row["split"] == "train"][:1])
    state, _ = failed(few, FolderStore(tmp_path / "store").url, settings)
    assert state.name == "Rejected"
    assert state.message is not None
    assert "Record" in state.message
    assert "machine:fan" in read_run(state).tags


def test_a_bucket_that_is_missing_says_how_to_make_it(
    toy_folder: Path, s3_server: S3Server, settings: OnboardSettings
) -> None:
    state, _ = failed(toy_folder, s3_server.url("no-such-bucket"), settings)
    assert "alp store init" in assert_is_remedy(state, StoreError)


def test_a_wrong_key_is_called_wrong_and_not_shown(
    toy_folder: Path, s3_url: str, settings: OnboardSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    state, _ = failed(toy_folder, s3_url, settings)
    message = assert_is_remedy(state, StoreError)
    assert "AWS_SECRET_ACCESS_KEY" in message
    assert "wrong-and-secret" not in message


def test_weights_that_are_not_here_say_how_to_fetch_them(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ALP_AST_WEIGHTS", raising=False)
    state, _ = failed(toy_folder, f"file://{tmp_path}/store", OnboardSettings(encoder="ast"))
    assert "alp encoder fetch ast" in assert_is_remedy(state, WeightsError)


def test_outside_a_run_there_is_nothing_to_label() -> None:
    label_flow_run("alp", name="nobody")


def test_a_run_is_labelled_once() -> None:
    asked: list[set[str]] = []

    @shown(customer="{customer}", machine="{asset}")
    @flow
    def heard(customer: str, asset: str) -> str:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        label_flow_run("customer:acme")
        asked.append(set(context.flow_run.tags))
        return str(context.flow_run.id)

    run_id = heard("acme", "fan-line-3_0a1b2c3d4e")
    assert asked == [{"alp", "customer:acme", "machine:fan"}]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))  # type: ignore[list-item]
    assert set(runs[0].tags) == asked[0]
