"""How much the library of a machine type has grown since the type's models last learnt, and who has asked for more.

Counted are normals that can teach somebody: of a machine that another machine of the type may learn from, by consent,
sensor and sample rate, as `library.source_rows` has it. The first machine of a type therefore asks for nothing, and who
consents later adds what was there all along. Real and synthetic recordings are counted apart, as synthetic ones teach
synthetic machines alone; the kind that grew further decides. A recording counts once, whoever sends it how often, and
never once its owner took it back.

`retraining/<machine_type>/growth.json` holds, by library key, what lay there when the last retraining that ended had
begun. It changes by `replace` alone, so that of any number of onboardings at once one asks for a retraining and the
others see that it was asked for. A retraining that is cut off never ends, and is due again; an ask that nobody heard
holds for `HOLDS`, and a start that looks for itself (the nightly sweep) heeds none.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import pandas as pd
from prefect import task
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import EnvironmentFault
from schemas.references import Run
from schemas.settings import GrowthPolicy
from tasks import keys
from tasks.events import Happening, Tell
from tasks.growth_state import Ask, Begun, GrowthState, change_state, ids_of, read_state
from tasks.library import Joined
from tasks.logbook import note
from tasks.store import ObjectStore, open_store
from tasks.teaching import useful_normals
from tasks.telling import configured_tell

GROWN_EVENT = "alp.source.grown"
RETRAINING_LABEL = "alp.retraining"
"""Label of the event's resource that says what an `Answer` says; an automation's trigger can compare no numbers."""
HOLDS = timedelta(hours=6)
"""So long an ask is taken to be on its way, and a retraining that has begun to be under way."""


class Growth(BaseModel):
    """What the library of a machine type gained; of real or of synthetic recordings, whichever grew further."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine_type: str
    recordings: int = Field(ge=0, description="Normals that teach another machine, now.")
    before: int = Field(ge=0, description="Of these, how many were there at the last retraining.")
    new: int = Field(ge=0, description="The others.")
    synthetic: bool = Field(description="Whether synthetic recordings are what was counted.")
    due: bool = Field(description="Whether that passes the policy.")
    policy: GrowthPolicy
    token: str | None = Field(default=None, description="Of the retraining that has begun by it; None: none has.")

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        kind = "synthetic normals" if self.synthetic else "normals"
        more = f", {self.new / self.before:+.0%}" if self.before else ""
        return (
            f"{self.machine_type}: {self.new} new {kind} beside {self.before} of the last retraining{more}; "
            f"a retraining is {'' if self.due else 'not '}due"
            f" (from {self.policy.recordings} new ones, or {self.policy.share:+.0%})"
        )


class Answer(NamedTuple):
    """What asking for a retraining brought: `due` (this ask stands), `asked` (another one does) or `not-due`."""

    growth: Growth
    says: Literal["due", "asked", "not-due"]
    ask: Ask | None


def measure_growth(machine_type: str, shelf: ObjectStore, policy: GrowthPolicy) -> Growth:
    """What the library holds now, against what it held when the last retraining that ended had begun."""
    state, _ = read_state(shelf, machine_type)
    return _weigh(machine_type, useful_normals(shelf, machine_type), ids_of(state.trained), policy)


def ask_for_retraining(
    machine_type: str, shelf: ObjectStore, policy: GrowthPolicy, *, customer: str, package: str
) -> Answer:
    """Measure the growth, and note that this package asks for a retraining where one is due and nobody has asked.

    What a retraining under way began with counts as trained on. Asking again for the same package is the same ask.
    """
    useful, now = useful_normals(shelf, machine_type), datetime.now(UTC)

    def answer(state: GrowthState) -> tuple[GrowthState, Answer]:
        under_way = state.begun.recordings if state.begun and now - state.begun.at < HOLDS else {}
        growth = _weigh(machine_type, useful, ids_of(state.trained) | ids_of(under_way), policy)
        if not growth.due:
            return state, Answer(growth, "not-due", None)
        if state.asked is not None and now - state.asked.at < HOLDS:
            mine = (state.asked.customer, state.asked.package) == (customer, package)
            return state, Answer(growth, "due" if mine else "asked", state.asked)
        ask = Ask(at=now, customer=customer, package=package)
        return state.model_copy(update={"asked": ask}), Answer(growth, "due", ask)

    return change_state(shelf, machine_type, answer)


@task(name="Tell of the growth", task_run_name="Tell how far the library has grown")
def tell_of_growth(joined: tuple[Joined, ...], run: Run) -> None:
    """Tell the Prefect server what a package brought, and ask for the retrainings that are due by it.

    Where no server is configured, nobody is told and nothing is measured: the nightly sweep of one that is looks for
    itself. So it does where the server cannot be told now, which is logged and keeps no onboarding from its end.
    """
    tell = configured_tell()
    if tell is None:
        return
    store = open_store(run.store)
    policy = read_policy(store)
    for part in joined:
        _tell_of(part, run, store, policy, tell)


def _tell_of(part: Joined, run: Run, store: ObjectStore, policy: GrowthPolicy, tell: Tell) -> None:
    """Ask before telling, so that of many at once one is told as due; what could not be told takes its ask back."""
    asker = {"customer": run.customer, "package": run.package_id}
    answer = ask_for_retraining(part.machine_type, store, policy, **asker)
    if not part.new and answer.says != "due":
        return
    try:
        refusal = tell(_describe(part, run, answer))
    except EnvironmentFault as error:
        refusal = str(error)
    if refusal is None:
        note(answer.growth.sentence + (", and was asked for before" if answer.says == "asked" else ""))
        return
    if answer.ask is not None and answer.says == "due":
        take_back(part.machine_type, store, answer.ask)
    note(f"Nobody was told that the library of {part.machine_type} has grown, the nightly sweep will see it: {refusal}")


def _describe(part: Joined, run: Run, answer: Answer) -> Happening:
    asked = answer.ask.at.isoformat() if answer.ask is not None and answer.says == "due" else ""
    return Happening(
        event=GROWN_EVENT,
        # An ask is one happening, however many runs of its package tell it.
        key=f"{run.package_id} {asked}" if asked else f"{run.run_id} {answer.says}",
        resource=library_resource(part.machine_type),
        resource_name=part.machine_type,
        labels={RETRAINING_LABEL: answer.says},
        payload={
            "machine_type": part.machine_type,
            "customer": run.customer,
            "package": run.package_id,
            "recordings": part.recordings,
            "hours": part.hours,
            "new_since_training": answer.growth.new,
            "trained_on": answer.growth.before,
            "retraining": answer.says,
        },
    )


def library_resource(machine_type: str) -> str:
    """What events of a machine type's library are about."""
    return f"alp.library.{machine_type}"


def take_back(machine_type: str, shelf: ObjectStore, ask: Ask) -> None:
    """Forget an ask that nobody could be told of, so that the next one is told."""

    def forget(state: GrowthState) -> tuple[GrowthState, None]:
        return (state.model_copy(update={"asked": None}) if state.asked == ask else state), None

    change_state(shelf, machine_type, forget)


@task(name="Measure the growth", task_run_name="See how much the library of {machine_type} has grown")
def begin_retraining(machine_type: str, store: str, policy: GrowthPolicy, *, only_if_due: bool) -> Growth:
    """Measure the growth, and note that a retraining begins: with what lies there now.

    only_if_due: begin none that is not due; then `due` is False and nothing is to be done. An ask is answered by that.
    """
    shelf = open_store(store)
    useful, now, token = useful_normals(shelf, machine_type), datetime.now(UTC), uuid.uuid4().hex

    def begin(state: GrowthState) -> tuple[GrowthState, Growth]:
        growth = _weigh(machine_type, useful, ids_of(state.trained), policy)
        answered = state.model_copy(update={"asked": None})
        if only_if_due and not growth.due:
            return answered, growth
        begun = Begun(at=now, token=token, recordings=_by_key(machine_type, useful))
        return answered.model_copy(update={"begun": begun}), growth.model_copy(update={"token": token})

    growth = change_state(shelf, machine_type, begin)
    note(growth.sentence)
    return growth


@task(name="Note what was learnt from", task_run_name="Note what {growth.machine_type} has learnt from")
def end_retraining(growth: Growth, store: str) -> None:
    """What lay in the library as this retraining began counts as trained on from now on."""
    if growth.token is None:
        return

    def end(state: GrowthState) -> tuple[GrowthState, bool]:
        if state.begun is None or state.begun.token != growth.token:
            return state, False
        ended = {"trained": state.begun.recordings, "trained_at": datetime.now(UTC), "begun": None}
        return state.model_copy(update=ended), True

    if not change_state(open_store(store), growth.machine_type, end):
        note(f"Another retraining of {growth.machine_type} has begun since; what was learnt from counts when that ends")


def read_policy(store: ObjectStore) -> GrowthPolicy:
    """When a retraining is due, as `alp deploy` wrote it down last; by default where it never did."""
    return store.find_model(keys.retraining_policy(), GrowthPolicy) or GrowthPolicy()


def set_policy(store: ObjectStore, policy: GrowthPolicy) -> None:
    """Write down when a retraining is due."""
    store.put_model(keys.retraining_policy(), policy)


def _by_key(machine_type: str, useful: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    return {
        keys.library(machine_type, str(customer), str(package)): tuple(sorted(set(part["recording_id"])))
        for (customer, package), part in useful.groupby(["customer", "package"])
    }


def _weigh(machine_type: str, useful: pd.DataFrame, trained: set[str], policy: GrowthPolicy) -> Growth:
    found = []
    for synthetic in (False, True):
        there = set(useful.loc[useful["synthetic"] == synthetic, "recording_id"])
        before = len(there & trained)
        new = len(there) - before
        found.append(
            Growth(
                machine_type=machine_type,
                recordings=len(there),
                before=before,
                new=new,
                synthetic=synthetic,
                due=policy.is_passed(new=new, before=before),
                policy=policy,
            )
        )
    return max(found, key=lambda growth: (growth.due, growth.new))
