"""What starts `retrain/<machine_type>`: an automation that hears of growth, and every night a sweep.

An onboarding tells the server `alp.source.grown` (`tasks.growth`), and labels it `due` where it asks for a retraining.
The automation `alp retrain: <type>` hears that label alone, and starts the deployment after a rest, so that a burst of
onboardings is in; event triggers compare no numbers. An event can be lost with its server, so the sweep looks at every
type for itself. Whatever starts it, a run that finds nothing due ends at once; a start that meets a run under way waits
for its end, since by then the library may have grown again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.registering import POOL, Wanted
from schemas.customers import Customer
from schemas.errors import UsageError
from schemas.retraining import Retraining, read_retraining
from schemas.settings import Environment
from tasks.growth import GROWN_EVENT, RETRAINING_LABEL, library_resource
from tasks.store import ObjectStore

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.events.schemas.automations import AutomationCore

MARK = "alp-retrain"
"""Tag of the deployments and automations that machine types have."""
DEFAULT_FILE = Path("retraining.yaml")
NAME = re.compile(r"alp retrain: [a-z][a-z0-9_]*")
"""What the automations are called."""


@dataclass(frozen=True)
class Watch:
    """An automation as it is to be: it starts a machine type's retraining when that is due."""

    machine_type: str
    rest: timedelta

    @property
    def name(self) -> str:
        """As Prefect shows it."""
        return f"alp retrain: {self.machine_type}"

    @property
    def deployment(self) -> str:
        """What it starts."""
        return f"retrain/{self.machine_type}"

    def automation(self, deployment_id: UUID | None, *, enabled: bool = True) -> AutomationCore:
        """As the server takes it."""
        from prefect.events.actions import RunDeployment
        from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

        return AutomationCore(
            name=self.name,
            description=f"Starts {self.deployment} once the library of {self.machine_type} has grown far enough;"
            " made by `alp deploy`.",
            enabled=enabled,
            tags=["alp", MARK, f"machine:{self.machine_type}"],
            trigger=EventTrigger(
                expect={GROWN_EVENT},
                match={"prefect.resource.id": library_resource(self.machine_type), RETRAINING_LABEL: "due"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=deployment_id,
                    parameters={
                        "recordings": _typed("event.payload.new_since_training"),
                        "customer": _typed("event.payload.customer"),
                    },
                    schedule_after=self.rest,
                )
            ],
        )


def _typed(expression: str) -> dict[str, Any]:
    """A parameter that is a number where the payload's is one: a bare template would make a text of it."""
    template = {"__prefect_kind": "jinja", "template": f"{{{{ {expression} | tojson }}}}"}
    return {"__prefect_kind": "json", "value": template}


def load_retraining(path: Path | None = None) -> Retraining:
    """What the file says that is named, else the one of `ALP_RETRAINING`, else ./retraining.yaml if there is one.

    Raises
    ------
    UsageError
        The file is faulty, or was named and is not there.
    """
    named = path or (Path(said) if (said := Environment().retraining) else None)
    if named is not None and not named.is_file():
        raise UsageError(f"{named}: there is no such file; write it, or leave it out for a retraining by default")
    found = named or DEFAULT_FILE
    return read_retraining(found) if found.is_file() else Retraining()


def machine_types_of(customers: Iterable[Customer], store: ObjectStore) -> list[str]:
    """Every type that a customer's file names or the library holds, sorted."""
    named = {kind for customer in customers for kind in customer.machine_types}
    return sorted(named | {key.split("/")[1] for key in store.list_keys("library/")})


def wanted_of(machine_type: str, store: str, when: Retraining, *, pool: str = POOL) -> Wanted:
    """The deployment of a machine type; its schedule is the sweep."""
    from flows.retrain import retrain

    return Wanted(
        flow=retrain,
        name=machine_type,
        entrypoint="flows.retrain.retrain",
        cron=when.sweep,
        time_zone=when.time_zone,
        pool=pool,
        tags=("alp", MARK, f"machine:{machine_type}"),
        parameters={
            "machine_type": machine_type,
            "store": store,
            "growth": when.growth.model_dump(mode="json"),
            "only_if_due": True,
        },
        description=f"Lets every {machine_type} learn from what the library has gained, and promotes what is not worse."
        " Ends at once where too little was gained, unless only_if_due is false.",
        collision="ENQUEUE",
    )


def watch_of(machine_type: str, when: Retraining) -> Watch:
    """The automation of a machine type."""
    return Watch(machine_type, timedelta(minutes=when.rest_minutes))
