"""What people say of a recording after it was filed: that it is to be forgotten, or what it really was.

An asset's `corrections.json` is a list that only grows; of a recording the latest correction stands. The ledger
keeps every row as it was sent, and `tasks.ledger.correct` applies the corrections whenever it is read, so they outlive
any package that is sent or onboarded again. A correction is of a recording, known by its sound: it holds for
every clip of the asset that has this very sound, whatever the clip is called.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, RootModel

from schemas.errors import InputError
from tasks import keys
from tasks.store import ObjectStore

Label = Literal["normal", "anomaly"]

_NEAR = 5
"""Names that an error offers."""


class Correction(BaseModel):
    """One thing said of one recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    clip_id: str = Field(description="What the clip was called by who corrected it.")
    action: Literal["retract", "relabel"]
    label: Label | None = Field(default=None, description="What it really is; None where it is retracted.")
    reason: str | None = None


class Corrections(RootModel[tuple[Correction, ...]]):
    """`corrections.json`: every correction of an asset, the oldest first."""


Standing = dict[str, Correction]
"""The correction that stands of each recording, by recording id."""


def read_corrections(store: ObjectStore, customer: str, asset_id: str) -> tuple[Correction, ...]:
    """Every correction of an asset, the oldest first; none where nobody corrected anything."""
    key = keys.corrections(customer, asset_id)
    return store.get_model(key, Corrections).root if store.exists(key) else ()


def any_corrections(store: ObjectStore, customer: str) -> bool:
    """Whether anything was ever corrected of a customer's assets."""
    return any(key.endswith("/corrections.json") for key in store.list_keys(f"assets/{customer}/"))


def standing(corrections: Iterable[Correction]) -> Standing:
    """The latest correction of each recording."""
    return {correction.recording_id: correction for correction in corrections}


def standing_corrections(store: ObjectStore, customer: str, asset_id: str) -> Standing:
    """What stands of an asset's recordings now."""
    return standing(read_corrections(store, customer, asset_id))


def not_normal(corrections: Standing) -> frozenset[str]:
    """Recordings that nobody may learn from as normal: retracted, or anomalous in truth."""
    return frozenset(name for name, said in corrections.items() if said.label != "normal")


def add_correction(store: ObjectStore, customer: str, asset_id: str, correction: Correction) -> None:
    """Write a correction behind those that are there."""
    key = keys.corrections(customer, asset_id)
    with store.lock(key):
        before = read_corrections(store, customer, asset_id)
        store.put_model(key, Corrections((*before, correction)))


def find_clip(ledger: pd.DataFrame, clip_id: str, *, asset_id: str) -> pd.DataFrame:
    """The rows of a clip on a ledger, named by its clip id or else by its recording id.

    Raises
    ------
    InputError
        The ledger holds no such clip; the message names those that are spelt alike.
    """
    for column in ("clip_id", "recording_id"):
        rows = ledger[ledger[column] == clip_id]
        if len(rows):
            return rows
    names = sorted(set(ledger["clip_id"].astype(str)))
    near = near_matches(clip_id, names)
    hint = f"; did you mean {near}?" if near else ""
    raise InputError(
        f"clip {clip_id[:200]!r} is not on the ledger of asset {asset_id}, which holds {len(names)} clips{hint}"
    )


def near_matches(name: str, names: Iterable[str]) -> str:
    """Names spelt like `name`, as words; empty where there are none."""
    by_fold = {known.casefold(): known for known in names}
    folded = name.casefold()
    close = difflib.get_close_matches(folded, by_fold, n=_NEAR, cutoff=0.6)
    inside = [known for known in by_fold if folded and folded in known]
    return ", ".join(by_fold[found] for found in dict.fromkeys([*close, *inside][:_NEAR]))
