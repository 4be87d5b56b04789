"""Take a customer away: its deployments and file, or with a purge everything that is known of it anywhere.

A purge goes from what could write again to what only lies there: first the deployments, then the store, then other
customers' models that learnt from it, then what the Prefect server remembers of its runs, and last its file, which says
where its inbox is. Each step can be repeated, so that a purge that was cut off is started again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.deploying import remove_deployments
from deployments.options import stderr
from deployments.prefect_server import connect_server
from schemas.errors import AlpError, EnvironmentFault, InputError, StoreError
from schemas.references import Verdict
from schemas.yaml_files import read_mapping
from tasks.customers import customer_path, customers_folder, remove_customer_file
from tasks.events import server_url
from tasks.inbox_log import read_log
from tasks.keys import check_customer
from tasks.purging import Deaf, Traces, erase_learnt, erase_own, erase_sources, find_traces, what_is_left
from tasks.store import ObjectStore

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200
_LOOK_AGAIN_S = 2.0
_BUSY = ("RUNNING", "PENDING", "CANCELLING")
_NEEDS = "deployments live on one that stays"


@dataclass
class Removed:
    """What was taken away."""

    customer: str
    deployments: list[str] = field(default_factory=list)
    file: str | None = None
    objects: dict[str, int] = field(default_factory=dict)
    library: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs_without_source: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    flow_runs: int = 0
    refitted: list[str] = field(default_factory=list)
    without_champion: dict[str, str] = field(default_factory=dict)
    """Other customers' machines that nobody judges now, and what to do."""
    server: bool = True
    """Whether there was a Prefect server to take anything away from."""


def remove(name: str, *, folder: Path | None = None) -> Removed:
    """Take away a customer's deployments and its file; what it sent and what was made of it stays in the store.

    Raises
    ------
    InputError
        There is neither a file nor a deployment of that name.
    """
    removed = Removed(name)
    with _server_if_any() as client:
        removed.server = client is not None
        removed.deployments = remove_deployments(client, name) if client is not None else []
    removed.file = _remove_file(name, folder)
    if not removed.file and not removed.deployments:
        raise InputError(
            f"{customer_path(name, folder)}: no such file describes customer {name}, and no deployment is called so"
        )
    return removed


def purge(
    name: str,
    store: ObjectStore,
    *,
    inbox: str | None,
    folder: Path | None = None,
    refit: bool = True,
    confirm: Callable[[Traces], bool] = lambda traces: True,
    patience_s: float = 0.0,
) -> Removed | None:
    """Delete everything of a customer, for good; None where `confirm`, shown what there is, says no.

    inbox: where its file says that its packages are dropped; None: it says nothing, or there is none. refit: whether
    other customers' machines whose champion learnt from it learn again at once. patience_s: how long runs under way are
    waited for, once no schedule starts others.

    Raises
    ------
    InputError
        Nothing is known of such a customer.
    EnvironmentFault
        A run of the customer is under way, or something could not be deleted.
    """
    inboxes = _inboxes_of(name, store, inbox, folder)
    with _server_if_any() as client:
        runs = [] if client is None else _require_rest(client, name) if not patience_s else _runs_of(client, name)
        traces = find_traces(store, name, inboxes=inboxes)
        if traces.is_empty and not runs and not customer_path(name, folder).is_file():
            raise InputError(f"{store.url} holds nothing of customer {name}, and no file describes it")
        if not confirm(traces):
            return None
        removed = Removed(name, server=client is not None)
        if client is not None:
            removed.deployments = remove_deployments(client, name)
            # Schedules went on while somebody thought about the answer.
            _await_rest(client, name, patience_s)
        _empty_store(store, traces, removed, inboxes=inboxes, refit=refit)
        if client is not None:
            removed.ways = _forget_ways(name)
            removed.flow_runs = _forget_runs(client, _runs_of(client, name))
    if left := what_is_left(store, name, inboxes=inboxes):
        raise StoreError(
            f"what is of {name} came back while it was purged, in {len(left)} places, {left[0]} among them: a run that"
            " learnt from it was under way; purge again"
        )
    removed.file = _remove_file(name, folder)
    return removed


def _inboxes_of(name: str, store: ObjectStore, inbox: str | None, folder: Path | None) -> list[str]:
    """Folders where the customer's packages were dropped, by its file and by what was looked into, and nobody else's.

    Raises
    ------
    UsageError
        The name is none that a customer can have, or the file of another customer, who may have a folder now, cannot be
        read.
    """
    own = [f"inbox/{check_customer(name)}", *([inbox] if inbox is not None else []), *read_log(store, name).inboxes]
    others = list(_other_inboxes(name, folder))
    return [each for each in dict.fromkeys(own) if not any(_overlap(each, other) for other in others)]


def _other_inboxes(name: str, folder: Path | None) -> Iterator[str]:
    """Those of other customers' files; of one that is otherwise faulty too."""
    for path in sorted(customers_folder(folder).glob("*.yaml")):
        if path.stem != name:
            said = read_mapping(path, what="the customer", wanted="a customer's keys are wanted").get("inbox")
            yield said if isinstance(said, str) else f"inbox/{path.stem}"


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _empty_store(
    store: ObjectStore, traces: Traces, removed: Removed, *, inboxes: Collection[str], refit: bool
) -> None:
    """Own objects first; machines that must learn again do so before their champion goes, and are heard all along."""
    removed.objects = erase_own(store, traces, inboxes=inboxes)
    removed.library = list(traces.library)
    if refit:
        _refit(store, traces.deaf)
    silenced = erase_learnt(store, traces)
    # Who learnt the same recordings from somebody else as well had the old model as its own new one.
    told = _refit(store, silenced) if refit else {}
    erase_sources(store, traces)
    removed.models = [model.prefix for model in traces.models]
    removed.runs_without_source = [run.prefix for run in traces.runs]
    for deaf in traces.deaf:
        machine = f"{deaf.customer} {deaf.asset}"
        if deaf not in silenced or (refit and machine not in told):
            removed.refitted.append(machine)
        else:
            command = f"alp onboard raw/{deaf.customer}/{deaf.package}.zip --customer {deaf.customer}"
            removed.without_champion[machine] = f"{told[machine]}; {command}" if machine in told else command


def _refit(store: ObjectStore, deaf: Iterable[Deaf]) -> dict[str, str]:
    """Onboard the machines' last packages again, without what is gone; which machines have none after that, and why."""
    from deployments.onboarding import run_onboarding
    from deployments.progress_bars import progress_bars
    from tasks.assets import settings_of
    from tasks.keys import raw

    faults: dict[str, str] = {}
    done: dict[tuple[str, str], str | None] = {}
    for each in deaf:
        machine = f"{each.customer} {each.asset}"
        if each.package is None:
            faults[machine] = "its ledger names no package"
            continue
        package = (each.customer, each.package)
        if package not in done:
            settings = settings_of(store, each.customer, each.asset, each.package)
            try:
                with progress_bars(stderr, settings.language):
                    outcome = run_onboarding(raw(*package), each.customer, store.url, settings, dry_run=False)
                done[package] = "it was refused" if outcome.result.verdict is Verdict.REJECTED else None
            except AlpError as error:
                done[package] = str(error)
        if (fault := done[package]) is not None:
            faults[machine] = fault
    return faults


@contextmanager
def _server_if_any() -> Iterator[SyncPrefectClient | None]:
    if server_url() is None:
        yield None
        return
    with connect_server(_NEEDS) as client:
        yield client


def _remove_file(name: str, folder: Path | None) -> str | None:
    path = remove_customer_file(name, folder)
    return None if path is None else str(path)


def _runs_of(client: SyncPrefectClient, customer: str) -> list[FlowRun]:
    """Every flow run whose parameters name the customer, stages of an onboarding included."""
    found: list[FlowRun] = []
    offset = 0
    while page := client.read_flow_runs(limit=_PAGE, offset=offset):
        found += [run for run in page if _names(run.parameters, customer)]
        offset += len(page)
    return found


def _names(value: Any, customer: str) -> bool:
    """Whether a parameter, however deep, says `customer`: a package, an asset and a run all do."""
    if isinstance(value, Mapping):
        return value.get("customer") == customer or any(_names(one, customer) for one in value.values())
    return isinstance(value, list) and any(_names(one, customer) for one in value)


def _require_rest(client: SyncPrefectClient, customer: str) -> list[FlowRun]:
    """The customer's runs, none of which is under way: it would write again what is deleted.

    Nor is a retraining, which learns from whoever lends.
    """
    runs = _runs_of(client, customer)
    busy = [run.name for run in (*runs, *_retrainings(client)) if run.state is not None and run.state.type in _BUSY]
    if busy:
        raise EnvironmentFault(
            f"{busy[0]} is under way and would write again what is deleted: wait for its end, or cancel it in the"
            " Prefect UI, and purge again"
        )
    return runs


def _await_rest(client: SyncPrefectClient, customer: str, patience_s: float) -> None:
    """As `_require_rest`, after waiting so long for those under way to end."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _require_rest(client, customer)
        except EnvironmentFault:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _retrainings(client: SyncPrefectClient) -> list[FlowRun]:
    """The newest runs of `retrain`, those under way among them: of a machine type there is one at a time."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    of_retrain = FlowFilter(name=FlowFilterName(any_=["retrain"]))
    return client.read_flow_runs(flow_filter=of_retrain, sort=FlowRunSort.START_TIME_DESC, limit=_PAGE)


def _forget_ways(customer: str) -> list[str]:
    """Take away how alarms reached people, with the addresses."""
    from deployments.delivery import disconnect, ways

    return [disconnect(customer, way.name).name for way in ways(customer)]


def _forget_runs(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> int:
    """Delete runs with their artifacts; their logs go with them, a little later."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.exceptions import ObjectNotFound

    count = 0
    for run in runs:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        while artifacts := client.read_artifacts(artifact_filter=of_run, limit=_PAGE):
            for artifact in artifacts:
                client.delete_artifact(artifact.id)
        try:
            client.delete_flow_run(run.id)
        except ObjectNotFound:
            continue  # deleted with the run that started it
        count += 1
    return count
