"""`comparison.json`: how a challenger and the champion compared. It is written by `tasks.challenging`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from schemas.references import Criterion, Model
from tasks.champions import Succession
from tasks.object_store import ObjectStore


class Comparison(BaseModel):
    """Champion and challenger on the same recordings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: Model
    challenger: Model
    criteria: tuple[Criterion, ...]
    not_worse: bool
    by_labels: bool = Field(description="Whether labelled clips had a say.")
    must: str | None = Field(description="Why the champion cannot stay, whatever was found; None: it can.")
    learnt_what_is_none: int = Field(
        description="Recordings that the champion learnt as normals and that are none by now; they are no evidence."
    )
    sentence: str


def last_comparison(store: ObjectStore, history: Succession) -> Comparison | None:
    """The last comparison that the history of an asset names, where it is still there."""
    named = [change.comparison for change in history.changes if change.comparison is not None]
    return store.find_intact(named[-1], Comparison) if named else None
