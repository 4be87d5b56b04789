"""What ends runs that nobody works on any more, so that the next one may begin.

A worker that is killed, or loses its machine, tells nobody. Its run would stay *Running* for ever, and since of each
deployment one run is under way at most, no later one would begin. Two automations mark such runs *Crashed*:

- `alp zombies: silent` a run that has given no sign of life (`tasks.heartbeats`) for `SILENT_FOR`, with the runs below
  it that had given one;
- `alp zombies: never begun` a run that a worker took, and that has not begun after `BEGINS_WITHIN`.

Heard are runs of ALP's alone. A run that was thought dead and is not goes on, and ends as it ends: that the next one
works beside it meanwhile does no harm, since all they share is written under locks and on conditions.

Of runs that begin within five minutes of being planned, just after `alp deploy`, Prefect counts no state in time: each
waits a quarter of an hour for the one before it, and of being planned nothing was told. The first automation then means
to mark runs that are over. The server refuses that: nothing comes of it but a line in its log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from deployments.registering import OF_CUSTOMERS
from deployments.retraining import MARK as OF_RETRAINING
from tasks.heartbeats import ALIVE, EVERY_S

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.events.schemas.automations import AutomationCore, EventTrigger

MARK = "alp-zombies"
"""Tag of these automations."""
NAME = re.compile(r"alp zombies: [a-z ]+")
"""What they are called."""
SILENT_FOR = timedelta(seconds=4 * EVERY_S)
BEGINS_WITHIN = timedelta(minutes=15)
"""A container may have to fetch its image first."""
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Rejected", "NotDue")
"""Names of the states in which a run of ours is over; the last two are ALP's own."""
_NEXT = "; the next run goes on where it stopped"


@dataclass(frozen=True)
class Zombies:
    """An automation that marks runs crashed of which something is not heard in time."""

    name: str
    description: str
    message: str
    after: str
    within: timedelta
    tags: tuple[str, ...] = ()
    """A run must carry one of these; empty: what it is heard by tells whose it is."""
    alive: tuple[str, ...] = ()
    """What else shows that it lives, besides its end."""
    deployment: str | None = None

    def automation(self, deployment_id: UUID | None = None, *, enabled: bool = True) -> AutomationCore:
        """As the server takes it."""
        from prefect.client.schemas.objects import StateType
        from prefect.events.actions import ChangeFlowRunState
        from prefect.events.schemas.automations import AutomationCore

        return AutomationCore(
            name=self.name,
            description=self.description,
            enabled=enabled,
            tags=["alp", MARK],
            trigger=self._trigger(),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=self.message)],
        )

    def _trigger(self) -> EventTrigger:
        from prefect.events.schemas.automations import EventTrigger, Posture

        tags = [f"prefect.tag.{tag}" for tag in self.tags]
        return EventTrigger(
            after={self.after},
            expect={*self.alive, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": tags} if tags else {},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=self.within,
        )


WATCHES = (
    Zombies(
        name="alp zombies: silent",
        description="Marks a run crashed that has given no sign of life for"
        f" {SILENT_FOR.total_seconds():g} s; made by `alp deploy`.",
        message=f"It gave no sign of life for {SILENT_FOR.total_seconds():g} s: its worker was killed, or its machine"
        f" lost{_NEXT}",
        after=ALIVE,
        alive=(ALIVE,),
        within=SILENT_FOR,
    ),
    Zombies(
        name="alp zombies: never begun",
        description="Marks a run crashed that a worker took and that has not begun after"
        f" {BEGINS_WITHIN.total_seconds() / 60:g} minutes; made by `alp deploy`.",
        message=f"A worker took it, and it did not begin within {BEGINS_WITHIN.total_seconds() / 60:g} minutes: the"
        f" worker was stopped{_NEXT}",
        after="prefect.flow-run.Pending",
        alive=("prefect.flow-run.Running", "prefect.flow-run.AwaitingRetry", "prefect.flow-run.Scheduled"),
        within=BEGINS_WITHIN,
        tags=(OF_CUSTOMERS, OF_RETRAINING),
    ),
)
"""Both of them."""
