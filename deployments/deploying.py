"""Bring a Prefect server to what the customers' files say: what is wanted, what is there, and the way between them.

Every customer has two deployments, `onboard/<name>` and `monitor/<name>`, marked by the tag `alp-customer`; a start
that meets a run under way is cancelled, since what it would have seen the next one sees. Every machine type has
`retrain/<type>` and an automation that starts it (`deployments.retraining`). Two automations more end runs that nobody
works on any more (`deployments.zombies`).

What stands as it is wanted is not touched, so that its scheduled runs stay. What an operator paused in the UI stays
paused. What carries none of our marks is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from deployments import retraining as retrainings
from deployments import zombies
from deployments.prefect_server import connect_server
from deployments.registering import (
    OF_CUSTOMERS,
    POOL,
    Wanted,
    all_deployments,
    changed_fields,
    delete_deployment,
    differences,
    has_pool,
    make_pool,
    workers_of,
    write_deployment,
)
from deployments.watches import Watch, watch_differences, watches_there, write_watches
from schemas.customers import Customer
from schemas.errors import UsageError
from schemas.retraining import Retraining
from schemas.settings import GrowthPolicy
from schemas.time_zones import zone_of_schedule
from tasks.growth import read_policy, set_policy
from tasks.purging import find_begun
from tasks.sharing import consent, set_consent
from tasks.store import ObjectStore, open_store

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import Automation

_WATCHES = {retrainings.MARK: retrainings.NAME, zombies.MARK: zombies.NAME}
"""Names of the automations that are ours, by their tag."""

Action = Literal["add", "change", "remove"]


@dataclass(frozen=True)
class Change:
    """What is to become of a deployment, an automation, a consent or the policy; `fields` from before to after."""

    action: Action
    name: str
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    paused: bool = False

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        fields = {name: {"before": before, "after": after} for name, (before, after) in self.fields.items()}
        return {"action": self.action, "name": self.name, "fields": fields, "paused": self.paused}


@dataclass
class Plan:
    """The way from what is there to what the files say."""

    changes: list[Change] = field(default_factory=list)
    as_wanted: int = 0
    """Deployments and automations that stand as they are wanted."""
    deployments: list[Wanted] = field(default_factory=list)
    """To be written; so are the next three."""
    watches: list[Watch] = field(default_factory=list)
    consents: dict[str, bool] = field(default_factory=dict)
    policy: GrowthPolicy | None = None
    pool: str | None = None
    """The work pool to be made; None where it is there."""
    workers: dict[str, timedelta] = field(default_factory=dict)
    """Who would run it: workers of the pool, and how long ago the server heard of each."""
    deployments_to_remove: list[UUID] = field(default_factory=list)
    automations_to_remove: list[UUID] = field(default_factory=list)


def deploy(
    customers: Mapping[str, Customer],
    store: str,
    *,
    retraining: Retraining | None = None,
    pool: str = POOL,
    dry_run: bool,
    show: Callable[[Plan], None] = lambda plan: None,
) -> Plan:
    """Bring the server to what the files say. `show` is called with the plan before anything is changed.

    retraining: as the file says that `ALP_RETRAINING` names, where it is left out.

    Raises
    ------
    UsageError
        That file is faulty, or a customer's purge was begun and has not ended.
    EnvironmentFault
        No Prefect server is configured, it does not answer, or it refuses a deployment.
    """
    when = retraining or retrainings.load_retraining()
    shelf = open_store(store)
    _refuse_purged(customers, shelf)
    with connect_server("deployments live on one that stays") as client:
        plan = _plan(client, customers.values(), when, shelf, pool)
        show(plan)
        if not dry_run:
            _carry_out(client, plan, shelf)
    return plan


def _refuse_purged(customers: Iterable[str], shelf: ObjectStore) -> None:
    """A UsageError where a customer is to be deployed of whom half is deleted."""
    if faults := [
        f"a purge of {name} was begun and has not ended: `alp customer remove {name} --purge` goes on with it; until"
        " then nothing is deployed while a file describes it"
        for name in customers
        if find_begun(shelf, name) is not None
    ]:
        raise UsageError("\n".join(faults))


def wanted_of(customer: Customer, store: str, *, pool: str = POOL) -> tuple[Wanted, Wanted]:
    """The two deployments of a customer."""
    from flows.scheduled import monitor_machines, onboard_inbox

    settings = customer.settings().model_dump(mode="json", exclude_defaults=True)
    common: dict[str, Any] = {
        "name": customer.name,
        "pool": pool,
        "tags": (OF_CUSTOMERS, *customer.tags),
        "collision": "CANCEL_NEW",
    }
    whom = "".join(f"\n- {contact.line}" for contact in customer.contacts)
    ask = f"\n\nWhom to ask:{whom}" if whom else ""
    return (
        Wanted(
            flow=onboard_inbox,
            entrypoint="flows.scheduled.onboard_inbox",
            cron=customer.schedule.onboard,
            time_zone=_zone_of(customer.schedule.onboard, customer),
            parameters={
                "customer": customer.name,
                "inbox": customer.inbox_folder,
                "store": store,
                "settings": settings,
            },
            description=f"Onboards what {customer.name} drops into {customer.inbox_folder}/.{ask}",
            **common,
        ),
        Wanted(
            flow=monitor_machines,
            entrypoint="flows.scheduled.monitor_machines",
            cron=customer.schedule.monitor,
            time_zone=_zone_of(customer.schedule.monitor, customer),
            parameters={
                "customer": customer.name,
                "store": store,
                "recordings_days": customer.retention.recordings_days,
            },
            description=f"Judges new recordings of {customer.name}'s machines and raises alarms.{ask}",
            **common,
        ),
    )


def _zone_of(cron: str | None, customer: Customer) -> str:
    return customer.time_zone if cron is None else zone_of_schedule(cron, customer.time_zone)


def remove_deployments(
    client: SyncPrefectClient,
    customer: str,
    *,
    patience_s: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Delete a customer's deployments and the runs they have scheduled; their full names.

    patience_s: how long a run of one is waited for; `say` is told of it.

    Raises
    ------
    EnvironmentFault
        One is under way still. What it is of stays, and those after it.
    """
    there = {
        name: found
        for name, found in all_deployments(client).items()
        if found.name == customer and OF_CUSTOMERS in found.tags
    }
    for found in there.values():
        delete_deployment(client, found.id, patience_s=patience_s, say=say)
    return sorted(there)


def _plan(
    client: SyncPrefectClient, customers: Iterable[Customer], when: Retraining, shelf: ObjectStore, pool: str
) -> Plan:
    customers = list(customers)
    types = retrainings.machine_types_of(customers, shelf)
    wanted = [
        *(each for customer in customers for each in wanted_of(customer, shelf.url, pool=pool)),
        *(retrainings.wanted_of(kind, shelf.url, when, pool=pool) for kind in types),
    ]
    plan = Plan(pool=None if has_pool(client, pool) else pool)
    if plan.pool is None:
        plan.workers = workers_of(client, pool)
    there = all_deployments(client)
    _plan_deployments(plan, wanted, there)
    # Where nothing is deployed, nothing is left behind.
    watches = [*(retrainings.watch_of(kind, when) for kind in types), *(zombies.WATCHES if wanted else ())]
    names = {found.id: name for name, found in there.items()}
    _plan_watches(plan, watches, watches_there(client, _WATCHES), names)
    _plan_store(plan, customers, when, shelf)
    return plan


def _plan_deployments(plan: Plan, wanted: Iterable[Wanted], there: Mapping[str, DeploymentResponse]) -> None:
    ours = {name: found for name, found in there.items() if {OF_CUSTOMERS, retrainings.MARK} & set(found.tags)}
    for each in wanted:
        ours.pop(each.full_name, None)
        before = there.get(each.full_name)
        fields = differences(before, each)
        if fields is None:
            plan.as_wanted += 1
            continue
        paused = before is not None and before.paused
        plan.changes.append(Change("add" if before is None else "change", each.full_name, fields, paused))
        plan.deployments.append(each)
    plan.changes += [Change("remove", name) for name in sorted(ours)]
    plan.deployments_to_remove += [found.id for found in ours.values()]


def _plan_watches(
    plan: Plan, wanted: Iterable[Watch], there: dict[str, list[Automation]], deployments: Mapping[UUID, str]
) -> None:
    for watch in wanted:
        named = there.pop(watch.name, [])
        before = named[0] if named else None
        plan.automations_to_remove += [each.id for each in named[1:]]
        fields = watch_differences(before, watch, deployments)
        if not fields:
            plan.as_wanted += 1
            continue
        paused = before is not None and not before.enabled
        name = f"automation {watch.name}"
        plan.changes.append(Change("add" if before is None else "change", name, fields, paused))
        plan.watches.append(watch)
    plan.changes += [Change("remove", f"automation {name}") for name in sorted(there)]
    plan.automations_to_remove += [each.id for found in there.values() for each in found]


def _plan_store(plan: Plan, customers: Iterable[Customer], when: Retraining, shelf: ObjectStore) -> None:
    """What is written down in the store, where runs read it that no deployment started."""
    for each in customers:
        if each.share_source is not None and each.share_source != consent(shelf, each.name):
            plan.consents[each.name] = each.share_source
            fields = {"share_source": (not each.share_source, each.share_source)}
            plan.changes.append(Change("change", f"consent of {each.name}", fields))
    before = read_policy(shelf)
    if before != when.growth:
        plan.policy = when.growth
        fields = changed_fields(before.model_dump(mode="json"), when.growth.model_dump(mode="json"))
        plan.changes.append(Change("change", "policy of retraining", fields))


def _carry_out(client: SyncPrefectClient, plan: Plan, shelf: ObjectStore) -> None:
    """Consent first: who withdrew it is not learnt from by a run that starts meanwhile."""
    for name, shares in plan.consents.items():
        set_consent(shelf, name, share_source=shares)
    if plan.policy is not None:
        set_policy(shelf, plan.policy)
    if plan.pool is not None:
        make_pool(client, plan.pool)
    # An automation goes before what it starts, and comes after it.
    for gone in plan.automations_to_remove:
        client.delete_automation(gone)
    there = all_deployments(client) if plan.deployments else {}
    for each in plan.deployments:
        write_deployment(client, each, there.get(each.full_name))
    write_watches(client, plan.watches, _WATCHES)
    # Last: a run that is under way keeps its own from being removed, and nothing else from being deployed.
    for gone in plan.deployments_to_remove:
        delete_deployment(client, gone)
