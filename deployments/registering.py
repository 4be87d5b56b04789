"""One deployment: how it is wanted, what differs from the one that is there, and how it is written.

A deployment carries all its flow needs as parameters, so that a worker reads no YAML; its entrypoint is a module path,
which any machine resolves that has ALP installed. At most one run of each is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from deployments.prefect_server import of_runs_under_way
from schemas.errors import EnvironmentFault

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.utilities.callables import ParameterSchema

POOL = "alp"
OF_CUSTOMERS = "alp-customer"
"""Tag of the deployments that a customer's file makes."""
_PAGE = 200
_LOOK_AGAIN_S = 2.0
_MEANWHILE = {"CANCEL_NEW": "is cancelled", "ENQUEUE": "waits"}


@dataclass(frozen=True)
class Wanted:
    """A deployment as it is to be."""

    flow: Flow[..., Any]
    name: str
    entrypoint: str
    cron: str | None
    time_zone: str
    pool: str
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    description: str
    collision: Literal["CANCEL_NEW", "ENQUEUE"]
    """What becomes of a start while a run is under way."""

    @property
    def full_name(self) -> str:
        """As Prefect calls it: `onboard/acme`."""
        return f"{self.flow.name}/{self.name}"

    def facts(self) -> dict[str, Any]:
        """All that is compared and shown, flat, by name."""
        return {
            "schedule": _spell_schedule(self.cron, self.time_zone),
            "entrypoint": self.entrypoint,
            "work pool": self.pool,
            "tags": ", ".join(sorted(self.tags)),
            "at once": 1,
            "another start": _MEANWHILE[self.collision],
            "version": _version(),
            "description": self.description,
            **flat("parameters", self.parameters),
        }


def differences(there: DeploymentResponse | None, wanted: Wanted) -> dict[str, tuple[Any, Any]] | None:
    """What differs, from before to after; None where the deployment stands as it is wanted."""
    before = {} if there is None else _facts_of(there)
    fields = changed_fields(before, wanted.facts())
    return None if not fields and there is not None and _same_schema(there, wanted) else fields


def write_deployment(client: SyncPrefectClient, wanted: Wanted, there: DeploymentResponse | None) -> None:
    """Create the deployment, or bring the one of that name to what is wanted.

    Raises
    ------
    EnvironmentFault
        The server refuses it.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import PrefectHTTPStatusError

    active = all(schedule.active for schedule in there.schedules) if there is not None else True
    schedules = (
        [DeploymentScheduleCreate(schedule=CronSchedule(cron=wanted.cron, timezone=wanted.time_zone), active=active)]
        if wanted.cron is not None
        else []
    )
    try:
        client.create_deployment(
            flow_id=client.create_flow_from_name(wanted.flow.name),
            name=wanted.name,
            version=_version(),
            schedules=schedules,
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy[wanted.collision]),
            parameters=wanted.parameters,
            description=wanted.description,
            work_pool_name=wanted.pool,
            tags=list(wanted.tags),
            entrypoint=wanted.entrypoint,
            parameter_openapi_schema=_parameters(wanted.flow).model_dump(exclude_unset=True),
            pull_steps=[],
            enforce_parameter_schema=True,
        )
    except PrefectHTTPStatusError as error:
        raise EnvironmentFault(
            f"the Prefect server refuses {wanted.full_name} ({error.response.text[:500]}); those before it are"
            " registered: mend that and deploy again"
        ) from error


def delete_deployment(
    client: SyncPrefectClient,
    gone: UUID,
    *,
    patience_s: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Delete a deployment with the runs it has scheduled, once no run of it is under way.

    A run holds the place that its deployment's limit gives it, and gives it back as it ends. Where the limit is gone by
    then, Prefect refuses the end (3.8.8: "Failed to release concurrency slots"), and the run is *Running* for ever.

    patience_s: how long a run under way is waited for; `say` is told of it.

    Raises
    ------
    EnvironmentFault
        One is under way still; the deployment is as it was.
    """
    there = client.read_deployment(gone)
    # None begins any more while the last one ends.
    client.pause_deployment(gone)
    deadline, said = time.monotonic() + patience_s, ""
    try:
        while (run := _run_under_way(client, gone)) is not None:
            if time.monotonic() >= deadline:
                raise EnvironmentFault(
                    f"{run.name} is under way, and could not end if deployment {there.name} were deleted now: wait for"
                    " its end, or cancel it in the Prefect UI, and start the command again"
                )
            if run.name != said:
                say(f"Waiting for {run.name}, which is under way")
                said = run.name
            time.sleep(_LOOK_AGAIN_S)
    except BaseException:
        if not there.paused:
            client.resume_deployment(gone)
        raise
    client.delete_deployment(gone)


def _run_under_way(client: SyncPrefectClient, deployment: UUID) -> FlowRun | None:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    runs = client.read_flow_runs(deployment_filter=of_deployment, flow_run_filter=of_runs_under_way(), limit=1)
    return runs[0] if runs else None


def all_deployments(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Every deployment of the server by full name, page by page."""
    found: list[DeploymentResponse] = []
    while len(page := client.read_deployments(limit=_PAGE, offset=len(found))) == _PAGE:
        found += page
    found += page
    flows = {flow_id: client.read_flow(flow_id).name for flow_id in {each.flow_id for each in found}}
    return {f"{flows[each.flow_id]}/{each.name}": each for each in found}


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Facts that differ, from before to after, by name."""
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys((*after, *before))
        if before.get(name) != after.get(name)
    }


def flat(name: str, value: Any) -> dict[str, Any]:
    """A nested table as one of dotted names; what is in a list stays together."""
    if isinstance(value, Mapping) and value:
        return {key: leaf for inner, one in value.items() for key, leaf in flat(f"{name}.{inner}", one).items()}
    return {} if value is None or value == {} else {name: value}


def has_pool(client: SyncPrefectClient, name: str) -> bool:
    """Whether there is such a work pool."""
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        return False
    return True


def workers_of(client: SyncPrefectClient, pool: str) -> dict[str, timedelta]:
    """Workers of the pool that the server takes for online, and how long ago each was heard of."""
    online = {"workers": {"status": {"any_": ["ONLINE"]}}}
    answer = client.request("POST", f"/work_pools/{pool}/workers/filter", json=online)
    answer.raise_for_status()
    now = datetime.now(UTC)
    return {each["name"]: now - datetime.fromisoformat(each["last_heartbeat_time"]) for each in answer.json()}


def make_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a pool whose workers run flows as processes of their own machine."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))


def _facts_of(there: DeploymentResponse) -> dict[str, Any]:
    """As `Wanted.facts`, of a deployment that is there."""
    limit, options = there.global_concurrency_limit, there.concurrency_options
    crons = [
        _spell_schedule(getattr(each.schedule, "cron", "no cron"), getattr(each.schedule, "timezone", None) or "UTC")
        for each in there.schedules
    ]
    return {
        "schedule": "; ".join(crons) or _spell_schedule(None, ""),
        "entrypoint": there.entrypoint,
        "work pool": there.work_pool_name,
        "tags": ", ".join(sorted(there.tags)),
        "at once": limit.limit if limit is not None else None,
        "another start": _MEANWHILE[options.collision_strategy] if options is not None else None,
        "version": there.version,
        "description": there.description,
        **flat("parameters", there.parameters),
    }


def _same_schema(there: DeploymentResponse, wanted: Wanted) -> bool:
    """Whether the flow's parameters are as they were when it was registered; another release may know others."""
    stored = (there.parameter_openapi_schema or {}).get("properties", {}).keys()
    return set(stored) == set(_parameters(wanted.flow).properties)


@cache
def _parameters(flow: Flow[..., Any]) -> ParameterSchema:
    """What a flow takes. Finding out takes a tenth of a second, and of thousands of deployments the flows are three."""
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(flow)


def _spell_schedule(cron: str | None, time_zone: str) -> str:
    return "by hand alone" if cron is None else f"{cron} {time_zone}"


def _version() -> str:
    return metadata.version("alp")
