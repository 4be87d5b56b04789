"""Take a customer away: its deployments and file, or with a purge everything that is known of it anywhere.

A purge goes from what could write again to what only lies there. First the deployments go, and its normals are lent to
nobody any more; whoever may have begun to learn from them is waited for. Then its file goes, so that no `alp deploy`
brings it back, once the store says that the purge was begun and what the file alone knew; then the store, with other
customers' models that learnt from it, and what the Prefect server remembers of its runs. Each step can be repeated, so
that a purge that was cut off is started again.
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
from deployments.prefect_server import connect_server, of_runs_under_way
from schemas.errors import AlpError, EnvironmentFault, InputError, StoreError
from schemas.references import Verdict
from schemas.yaml_files import read_mapping
from tasks import keys
from tasks.customers import customer_path, customers_folder, remove_customer_file
from tasks.events import server_url
from tasks.inbox_log import read_log
from tasks.keys import check_customer
from tasks.purging import (
    Deaf,
    Traces,
    begin_purge,
    end_purge,
    erase_learnt,
    erase_own,
    erase_sources,
    find_begun,
    find_traces,
    stop_lending,
    what_is_left,
)
from tasks.store import ObjectStore

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200
_LOOK_AGAIN_S = 2.0
_LEARNING = ("onboard", "challenge")
"""Flows that learn from whoever lends, for a machine of their own customer."""
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
    """Its own, and those of others whose parameters name it."""
    flow_runs_kept: int = 0
    """Retrainings to come that it had asked for, which go on without its name."""
    refitted: list[str] = field(default_factory=list)
    without_champion: dict[str, str] = field(default_factory=dict)
    """Other customers' machines that nobody judges now, and what to do."""
    server: bool = True
    """Whether there was a Prefect server to take anything away from."""


def remove(
    name: str,
    *,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    patience_s: float = 0.0,
) -> Removed:
    """Take away a customer's deployments and its file; what it sent and what was made of it stays in the store.

    patience_s: how long runs under way are waited for, once no schedule starts others; `say` is told of each.

    Raises
    ------
    InputError
        There is neither a file nor a deployment of that name.
    EnvironmentFault
        A run of it is under way still.
    """
    removed = Removed(name)
    with _server_if_any() as client:
        removed.server = client is not None
        if client is not None:
            removed.deployments = remove_deployments(client, name, patience_s=patience_s, say=say)
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
    say: Callable[[str], None] = lambda line: None,
    patience_s: float = 0.0,
) -> Removed | None:
    """Delete everything of a customer, for good; None where `confirm`, shown what there is, says no.

    inbox: where its file says that its packages are dropped; None: it says nothing, or there is none. refit: whether
    other customers' machines whose champion learnt from it learn again at once. say: is told what is being done.
    patience_s: how long runs under way are waited for, once no schedule starts others.

    Raises
    ------
    InputError
        Nothing is known of such a customer.
    EnvironmentFault
        A run that may write of the customer is under way, or something could not be deleted.
    """
    inboxes = _inboxes_of(name, store, inbox, folder)
    with _server_if_any() as client:
        if client is not None and not patience_s:
            _await_rest(client, name, lent=store.exists(keys.consent(name)))
        traces = find_traces(store, name, inboxes=inboxes)
        if traces.is_empty and not _is_known(name, store, client, folder):
            raise InputError(f"{store.url} holds nothing of customer {name}, and no file describes it")
        if not confirm(traces):
            return None
        removed = Removed(name, server=client is not None)
        if client is not None:
            removed.deployments = remove_deployments(client, name, patience_s=patience_s, say=say)
        lent = stop_lending(store, name)
        if client is not None:
            # Schedules went on while somebody thought about the answer.
            _await_rest(client, name, lent=lent, patience_s=patience_s, say=say)
        say(f"Everything of {name} is being deleted; cut off, `alp customer remove {name} --purge` goes on with it")
        begin_purge(store, name, inboxes=inboxes)
        removed.file = _remove_file(name, folder)
        # Whoever had begun to learn from it has a model by now.
        traces = find_traces(store, name, inboxes=inboxes)
        _empty_store(store, traces, removed, inboxes=inboxes, refit=refit, folder=folder)
        if client is not None:
            removed.ways = _forget_ways(name)
            _forget_runs(client, name, removed)
    if left := what_is_left(store, name, inboxes=inboxes):
        raise StoreError(
            f"what is of {name} came back while it was purged, in {len(left)} places, {left[0]} among them: a run that"
            " learnt from it was under way; purge again"
        )
    end_purge(store, name)
    return removed


def _is_known(name: str, store: ObjectStore, client: SyncPrefectClient | None, folder: Path | None) -> bool:
    """Whether there is anything of a customer of whom the store holds nothing of its own."""
    if find_begun(store, name) is not None or customer_path(name, folder).is_file():
        return True
    return client is not None and bool(_runs_naming(client, name))


def _inboxes_of(name: str, store: ObjectStore, inbox: str | None, folder: Path | None) -> list[str]:
    """Folders where the customer's packages were dropped, by its file and by what was looked into, and nobody else's.

    Raises
    ------
    UsageError
        The name is none that a customer can have, or the file of another customer, who may have a folder now, cannot be
        read.
    """
    begun = find_begun(store, check_customer(name))
    known = [*([inbox] if inbox is not None else []), *read_log(store, name).inboxes, *(begun.inboxes if begun else ())]
    own = [f"inbox/{name}", *known]
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
    store: ObjectStore,
    traces: Traces,
    removed: Removed,
    *,
    inboxes: Collection[str],
    refit: bool,
    folder: Path | None,
) -> None:
    """Own objects first; machines that must learn again do so before their champion goes, and are heard all along."""
    removed.objects = erase_own(store, traces, inboxes=inboxes)
    removed.library = list(traces.library)
    if refit:
        _refit(store, traces.deaf, folder)
    silenced = erase_learnt(store, traces)
    # Who learnt the same recordings from somebody else as well had the old model as its own new one.
    told = _refit(store, silenced, folder) if refit else {}
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


def _refit(store: ObjectStore, deaf: Iterable[Deaf], folder: Path | None) -> dict[str, str]:
    """Onboard the machines' last packages again, without what is gone; which machines have none after that, and why.

    folder: of the customers' files, for settings that no run tells any more.
    """
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
            try:
                settings = settings_of(store, each.customer, each.asset, each.package, folder=folder)
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


def _await_rest(
    client: SyncPrefectClient,
    customer: str,
    *,
    lent: bool,
    patience_s: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Return once no run is under way that would write again what is deleted, or miss it.

    Those are the customer's own and any retraining, which challenges every machine of a type. Where the customer has
    `lent` its normals, they are also the onboardings of others that were under way at the first look, which may have
    found them before consent was withdrawn; who begins after that finds nothing.

    Raises
    ------
    EnvironmentFault
        One is under way still after `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    own, learning = _under_way(client, customer)
    drawing = {run.id for run in learning} if lent else set()
    said = ""
    while own or (learning := [run for run in learning if run.id in drawing]):
        name = (own or learning)[0].name
        why = "would write again what is deleted" if own else f"may be learning from what {customer} lends"
        if time.monotonic() >= deadline:
            raise EnvironmentFault(
                f"{name} is under way and {why}: wait for its end, or cancel it in the Prefect UI, and purge again."
                f" Nothing was deleted from the store yet; `alp deploy` and `alp library share {customer}` bring back"
                " what a purge that waited had taken away, its schedules and the lending of its normals"
            )
        if name != said:
            say(f"Waiting for {name}, which is under way and {why}")
            said = name
        time.sleep(_LOOK_AGAIN_S)
        own, learning = _under_way(client, customer)


def _under_way(client: SyncPrefectClient, customer: str) -> tuple[list[FlowRun], list[FlowRun]]:
    """Runs under way: those that write of the customer, and those by which somebody else may learn from it."""
    runs = list(_all_runs(client, of_runs_under_way()))
    if not runs:
        return [], []
    retrain, *learning = (_flow_id(client, name) for name in ("retrain", *_LEARNING))
    own = [run for run in runs if _names(run.parameters, customer) or run.flow_id == retrain]
    # A look into an inbox learns by runs of its own below, each of which looks for its source anew.
    others = [run for run in runs if run.flow_id in learning and run not in own and "inbox" not in run.parameters]
    return own, others


def _flow_id(client: SyncPrefectClient, name: str) -> UUID | None:
    """Of a flow that the server has heard of."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    found = client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), limit=1)
    return found[0].id if found else None


def _runs_naming(client: SyncPrefectClient, customer: str) -> list[FlowRun]:
    """Every flow run whose parameters name the customer: its own, and those of others who learnt from it."""
    return [run for run in _all_runs(client) if _names(run.parameters, customer)]


def _all_runs(client: SyncPrefectClient, only: FlowRunFilter | None = None) -> Iterator[FlowRun]:
    """Every run that passes, once, a page at a time."""
    from prefect.client.schemas.sorting import FlowRunSort

    seen: set[UUID] = set()
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=only, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset):
        yield from (run for run in page if run.id not in seen)
        seen |= {run.id for run in page}
        offset += len(page)


def _names(value: Any, customer: str) -> bool:
    """Whether a parameter, however deep, says `customer`: a package, an asset and a run all do, and a source in a list
    of those whose recordings it holds."""
    if isinstance(value, Mapping):
        lent_by = value.get("customers")
        if value.get("customer") == customer or (isinstance(lent_by, list) and customer in lent_by):
            return True
        return any(_names(one, customer) for one in value.values())
    return isinstance(value, list) and any(_names(one, customer) for one in value)


def _forget_ways(customer: str) -> list[str]:
    """Take away how alarms reached people, with the addresses."""
    from deployments.delivery import disconnect, ways

    return [disconnect(customer, way.name).name for way in ways(customer)]


def _forget_runs(client: SyncPrefectClient, customer: str, removed: Removed) -> None:
    """Delete runs with their artifacts; their logs go with them, a little later.

    A retraining to come is due for other machines too: it stays, and loses the name of who asked for it.
    """
    retrain = _flow_id(client, "retrain")
    for run in _runs_naming(client, customer):
        if run.flow_id == retrain and run.state is not None and run.state.is_scheduled():
            asked_by = ("customer", "recordings")
            kept = {key: value for key, value in run.parameters.items() if key not in asked_by}
            # Tags too: the server takes what an update leaves out for empty.
            client.update_flow_run(run.id, parameters=kept, tags=run.tags)
            removed.flow_runs_kept += 1
        else:
            removed.flow_runs += _delete_run(client, run)


def _delete_run(client: SyncPrefectClient, run: FlowRun) -> int:
    """Delete a run with its artifacts; 0 where it went with the run that had started it."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.exceptions import ObjectNotFound

    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    while artifacts := client.read_artifacts(artifact_filter=of_run, limit=_PAGE):
        for artifact in artifacts:
            client.delete_artifact(artifact.id)
    try:
        client.delete_flow_run(run.id)
    except ObjectNotFound:
        return 0
    return 1
