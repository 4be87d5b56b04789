"""Choose the engine an asset's data can carry, let it prove itself where it must, and keep the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task

from engines.conditions import ConditionEvidence, judge_condition, recording_features
from engines.routing import (
    AssetData,
    Choice,
    advise,
    choose_engine,
    count_false_alarms,
    explain_settled,
    judge_criteria,
    qualifying,
    settle,
)
from schemas.errors import RejectedError
from schemas.references import Asset, Criterion, Model, Run, Selection, Source
from schemas.settings import EngineChoice
from tasks import keys
from tasks.calibrating import normal_scores
from tasks.engines import choose_encoder, load_engine
from tasks.ledger import CONDITIONS, Role, rows_of
from tasks.library import LeftOut, read_left_out, source_clips
from tasks.logbook import note
from tasks.progress import track
from tasks.store import ObjectStore, open_store


@task(name="Choose the engine", task_run_name="Choose the engine for {asset.asset_id}")
def select_engine(asset: Asset, source: Source, run: Run) -> Selection:
    """Judge every criterion of every engine and write `selection.json`.

    Where `auto` would choose engine C, `candidates` names the engines it has to prove itself against, and
    `settle_engine` has the last word.

    Raises
    ------
    RejectedError
        No engine, or not the one that was asked for, can work with what the asset has; the message says what to do.
    WeightsError
        The encoder that was asked for has no weights here.
    """
    store, limits = open_store(run.store), run.settings.routing
    rows = store.get_frame(source.key)
    normals = rows_of(store.get_frame(asset.ledger_key), [Role.TARGET])
    data = AssetData(
        target_normals=asset.target,
        source_normals=source.recordings,
        conditions=tuple(_weigh_conditions(store, source, rows, normals, run)),
        unseen=_unseen_values(rows, normals),
    )
    criteria = [
        *judge_criteria(data, limits, min_target=run.settings.qa.min_normals),
        *note_left_out(read_left_out(store, asset, run)),
    ]
    choice = _choose(criteria, run.settings.engine)
    selection = Selection(
        asset=asset,
        source=source,
        engine=choice.engine,
        encoder=choose_encoder(run.settings.encoder, engine=_listener(choice)),
        reason=choice.reason,
        criteria=tuple(criteria),
        candidates=choice.candidates,
        members=choice.members,
        columns=qualifying(data, limits),
    )
    note(f"{selection.reason}; encoder {selection.encoder}")
    if _was_settled(store, selection, run):
        return selection.model_copy(update={"reused": True})
    return _file(store, selection, run)


def _choose(criteria: Sequence[Criterion], wanted: EngineChoice) -> Choice:
    try:
        return choose_engine(criteria, wanted=wanted)
    except RejectedError as refused:
        raise RejectedError("; ".join([str(refused), *advise(criteria, wanted=wanted)])) from refused


def _listener(choice: Choice) -> str:
    """Of the engines to be fitted, the one whose encoder all share: B where it is among them; C needs none."""
    engines = {*choice.candidates, *choice.members}
    return next((engine for engine in ("b", "a") if engine in engines), "c")


def note_left_out(left_out: LeftOut) -> list[Criterion]:
    """For the reader, why there is less source than the library holds; counting what is left decides."""
    if not left_out.synthetic:
        return []
    sentence = (
        f"B: note: synthetic source recordings left out: {left_out.synthetic},"
        " since not all normals of this machine are synthetic"
    )
    return [
        Criterion(
            engine="b",
            name="synthetic_source",
            value=left_out.synthetic,
            limit=0,
            met=False,
            sentence=sentence,
            decisive=False,
        )
    ]


def _was_settled(store: ObjectStore, selection: Selection, run: Run) -> bool:
    """Whether this very selection was made before and settled since; its trial's criteria stand behind its own."""
    key = keys.run(run.customer, run.run_id, f"{selection.asset.asset_id}/selection.json")
    if not store.exists(key):
        return False
    settled = store.get_model(key, Selection)
    own = {"criteria": settled.criteria[: len(selection.criteria)]}
    unsettled = settled.model_copy(update={"engine": selection.engine, "reason": selection.reason, **own})
    return _say_the_same(unsettled, selection)


def _file(store: ObjectStore, selection: Selection, run: Run) -> Selection:
    key = keys.run(run.customer, run.run_id, f"{selection.asset.asset_id}/selection.json")
    if store.exists(key) and _say_the_same(store.get_model(key, Selection), selection):
        return selection.model_copy(update={"reused": True})
    store.put_model(key, selection)
    return selection


def _say_the_same(one: Selection, other: Selection) -> bool:
    """Whether both would be filed alike: what a run found in the store, and so reused, is not filed."""
    return one.model_dump(mode="json") == other.model_dump(mode="json")


def _weigh_conditions(
    store: ObjectStore, source: Source, rows: pd.DataFrame, normals: pd.DataFrame, run: Run
) -> Sequence[ConditionEvidence]:
    """What each condition column is worth; whether it is true is only asked where engine C could use the answer."""
    limits = run.settings.routing
    recordings = rows.drop_duplicates("recording_id").set_index("recording_id")
    features = None
    names = recordings.index.tolist()
    if source.recordings >= limits.min_source_c:
        clips = source_clips(store, source.key)
        with track(f"Weighing the conditions of {source.asset.asset_id}", total=len(clips)) as advance:
            heard, features = recording_features(
                clips, float(normals["bandwidth_hz"].min()), advance, seed=run.settings.seed
            )
        names = list(heard)
    weighed = []
    for column in CONDITIONS:
        values = recordings[column].reindex(names) if column in recordings else pd.Series(None, index=names)
        told = [None if pd.isna(value) else str(value) for value in values]
        weighed.append(judge_condition(features, told, column=column, limits=limits, seed=run.settings.seed))
    return weighed


def _unseen_values(rows: pd.DataFrame, normals: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Values that the asset's normals name and no source recording does, by column."""
    unseen = {}
    for column in CONDITIONS:
        if column in rows and column in normals:
            new = set(normals[column].dropna().astype(str)) - set(rows[column].dropna().astype(str))
            if new and rows[column].notna().any():
                unseen[column] = tuple(sorted(new))
    return unseen


def _trial_scores(store: ObjectStore, model: Model) -> NDArray[np.float64]:
    """Leave-one-out scores of the normals that an engine learnt from, float64 (n,): what it may be chosen by.

    Never those of recordings held out to calibrate on: an engine that is chosen because they score low by it rings more
    often than the threshold set on them says (docs/calibration.md, section 2).
    """
    scores, method = normal_scores(store, model)
    if method != "split":
        return scores
    with store.local_folder(model.prefix) as folder:
        return load_engine(folder, model.encoder).normal_scores()


@task(name="Settle on an engine", task_run_name="Settle on the engine of {selection.asset.asset_id}")
def settle_engine(selection: Selection, models: list[Model], run: Run) -> Selection:
    """Let engine C keep the asset only if it rings no more often on normals left out than the engines below it.

    With one candidate there is nothing to settle. `selection.json` is written again with what was found.
    """
    if len(models) == 1:
        return selection
    store = open_store(run.store)
    trials = {model.engine: count_false_alarms(_trial_scores(store, model)) for model in models}
    choice = Choice(selection.engine, selection.reason, selection.candidates, selection.members)
    engine, found = settle(choice, trials)
    reason = explain_settled(choice, engine, found)
    settled = selection.model_copy(
        update={"engine": engine, "reason": reason, "criteria": (*selection.criteria, *found), "reused": False}
    )
    note(f"Engine {engine.upper()}: {reason}")
    return _file(store, settled, run)
