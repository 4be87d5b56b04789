"""Whose recordings a model learnt from, so that it can be found when a customer takes theirs back.

`lineage.json` of a model names every customer whose normals were its source. Of a model that an older version filed,
which has none, the selections of its asset's runs tell what the asset may have learnt from, and it counts as fitted on
all of that unless it is engine A's, which never looks at a source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from engines.saving import CARD, EngineName
from tasks.store import ObjectStore


class Lineage(BaseModel):
    """`lineage.json` of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: tuple[str, ...] = Field(description="Whose normals were source, sorted; of engine A nobody's.")


class FittedModel(NamedTuple):
    """A model of an asset, by where it lies."""

    customer: str
    asset_id: str
    version: str
    prefix: str


class DrawnRun(NamedTuple):
    """One asset of a run whose source held recordings of a customer."""

    customer: str
    asset_id: str
    prefix: str


def lineage_key(prefix: str) -> str:
    """Where the lineage of a model lies."""
    return f"{prefix}/lineage.json"


def runs_drawing_on(store: ObjectStore, lender: str) -> list[DrawnRun]:
    """Assets of other customers' runs that could learn from the lender's recordings."""
    found = []
    for key in store.list_keys("runs/"):
        parts = key.split("/")
        if parts[-1] not in ("selection.json", "source.parquet") or len(parts) != 5 or parts[1] == lender:
            continue
        drawn = DrawnRun(parts[1], parts[3], key.rpartition("/")[0])
        if drawn not in found and lender in _lenders(store, key):
            found.append(drawn)
    return found


def _lenders(store: ObjectStore, key: str) -> set[str]:
    """Whose recordings a gathered source holds, by itself or by the selection made on it, whichever version did."""
    if key.endswith("selection.json"):
        return set(json.loads(store.get(key))["source"]["customers"])
    return set(store.get_frame(key)["customer"].astype(str))


def models_fitted_on(store: ObjectStore, lender: str, drawn: list[DrawnRun]) -> Iterator[FittedModel]:
    """Models of other customers that learnt from the lender's recordings.

    drawn: as `runs_drawing_on` gives it, to go by where a model does not say.
    """
    may_have = {(run.customer, run.asset_id) for run in drawn}
    for model in _other_models(store, lender):
        key = lineage_key(model.prefix)
        if store.exists(key):
            learnt = lender in store.get_model(key, Lineage).customers
        else:
            learnt = (model.customer, model.asset_id) in may_have and not _ignores_sources(store, model)
        if learnt:
            yield model


def _other_models(store: ObjectStore, lender: str) -> list[FittedModel]:
    found: dict[FittedModel, None] = {}
    for key in store.list_keys("assets/"):
        parts = key.split("/")
        if len(parts) > 5 and parts[3] == "models" and parts[1] != lender:
            found[FittedModel(parts[1], parts[2], parts[4], "/".join(parts[:5]))] = None
    return list(found)


def _ignores_sources(store: ObjectStore, model: FittedModel) -> bool:
    card = f"{model.prefix}/{CARD}"
    return store.exists(card) and store.get_model(card, EngineName).engine == "a"
