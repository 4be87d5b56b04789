"""What was learnt from when a machine type last learnt anew, and who asked for that: `retraining/<type>/growth.json`.

The state changes by `replace` alone: of two who change it at once, one does so, and the other starts from what the
first one left. It holds recording ids by library key, so that a customer who is deleted takes its share along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConflictError
from tasks import keys
from tasks.object_store import model_bytes
from tasks.store import ObjectStore

_TRIES = 50
ResultT = TypeVar("ResultT")
RecordingsByKey = Mapping[str, tuple[str, ...]]


class Ask(BaseModel):
    """That somebody asked for a retraining."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    customer: str
    package: str


class Begun(BaseModel):
    """A retraining that has begun, and what lay there then: recording ids by library key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    token: str
    recordings: dict[str, tuple[str, ...]]


class GrowthState(BaseModel):
    """`growth.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Recording ids by library key, as the last retraining that ended began."
    )
    trained_at: AwareDatetime | None = None
    begun: Begun | None = None
    asked: Ask | None = None

    def without(self, customer: str) -> GrowthState:
        """The same, with nothing of a customer in it."""
        begun = self.begun and self.begun.model_copy(update={"recordings": _others(self.begun.recordings, customer)})
        asked = None if self.asked is None or self.asked.customer == customer else self.asked
        return self.model_copy(update={"trained": _others(self.trained, customer), "begun": begun, "asked": asked})


def ids_of(recordings: RecordingsByKey) -> set[str]:
    """Every recording once, whichever packages brought it."""
    return {name for names in recordings.values() for name in names}


def read_state(store: ObjectStore, machine_type: str) -> tuple[GrowthState, str | None]:
    """The state and its version; a damaged one is none, by which all counts as new."""
    key = keys.growth(machine_type)
    if not store.exists(key):
        return GrowthState(), None
    data, etag = store.get_with_etag(key)
    try:
        return GrowthState.model_validate_json(data), etag
    except ValidationError:
        return GrowthState(), etag


def change_state(
    store: ObjectStore, machine_type: str, step: Callable[[GrowthState], tuple[GrowthState, ResultT]]
) -> ResultT:
    """Do a step from one state to the next, and again where somebody else was quicker; what the step gives beside it.

    Raises
    ------
    ConflictError
        Others were quicker too often.
    """
    for _ in range(_TRIES):
        state, etag = read_state(store, machine_type)
        after, result = step(state)
        if after == state:
            return result
        try:
            store.replace(keys.growth(machine_type), model_bytes(after), expected=etag)
        except ConflictError:
            continue
        return result
    raise ConflictError(
        f"{store.uri(keys.growth(machine_type))} was changed by others {_TRIES} times in a row; start the command again"
    )


def forget_customer(store: ObjectStore, customer: str) -> list[str]:
    """Erase what the states say of a customer, in earlier versions too; the keys of those that named it.

    Raises
    ------
    ConflictError
        A retraining wrote one meanwhile.
    """
    named = []
    for machine_type in _machine_types(store):
        state, _ = read_state(store, machine_type)
        rest = state.without(customer)
        if rest != state:
            named.append(keys.growth(machine_type))
        _rewrite(store, machine_type, rest)
    return named


def growth_naming(store: ObjectStore, customer: str) -> list[str]:
    """Keys of the states that name a customer."""
    states = ((machine_type, read_state(store, machine_type)[0]) for machine_type in _machine_types(store))
    return [keys.growth(machine_type) for machine_type, state in states if state.without(customer) != state]


def _rewrite(store: ObjectStore, machine_type: str, state: GrowthState) -> None:
    """Put a state where all its versions are erased. Cut off in between, all counts as new: due once too often."""
    key = keys.growth(machine_type)
    store.erase(key)
    if state.trained or state.begun or state.asked:
        store.replace(key, model_bytes(state), expected=None)


def _machine_types(store: ObjectStore) -> list[str]:
    found = (key.split("/") for key in store.list_keys("retraining/"))
    return [parts[1] for parts in found if parts[2:] == ["growth.json"]]


def _others(recordings: Mapping[str, tuple[str, ...]], customer: str) -> dict[str, tuple[str, ...]]:
    return {key: ids for key, ids in recordings.items() if keys.library_parts(key)[1] != customer}
