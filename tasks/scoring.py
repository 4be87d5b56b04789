"""Fit the chosen engine on an asset's normals, and score the asset's test recordings with it.

A model's version is a hash of everything that decides its numbers, so a model that is there never needs
fitting again. Scores of recordings are kept beside the model, so a recording is scored once per model, and so is
whether the machine was off, where noise-only recordings tell (`background.json`), and in what they differ from the
normals as recordings (`calibration.json`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import task
from pydantic import Field, RootModel

from engines.base import recording_scores
from schemas.references import Model, Reference, Run, Scores, Selection
from tasks import keys
from tasks.background import noise_of, read_background, stand
from tasks.engine_names import engine_phrase
from tasks.engines import Recipe, caveats_of, load_engine, new_engine
from tasks.ledger import Role, clip_set, rows_of
from tasks.library import source_clips
from tasks.lineage import Lineage, lineage_key
from tasks.logbook import note
from tasks.normals import NormalScores, divide, read_normal_scores, save_normal_scores, score_normals
from tasks.progress import track
from tasks.runs import digest
from tasks.spreading import Portion, portions
from tasks.store import ObjectStore, open_store

if TYPE_CHECKING:
    from engines.base import Engine

OWN_FRONT_END = "conv"
"""What the outputs call the encoder of engine C: the network it trained itself."""

SCORING_BATCH = 256
"""Recordings scored between two writes: what a killed run loses at most, of each worker."""
LEAST_BATCH = 64
"""Recordings that are worth loading the model once more for, on another worker."""


class Caveats(RootModel[tuple[str, ...]]):
    """`caveats.json` of a model: the sentences of its `Model.caveats`."""


@task(name="Fit the engine", task_run_name="Fit engine {engine} for {selection.asset.asset_id}")
def fit_engine(selection: Selection, engine: str, run: Run) -> Model:
    """Fit one of the selection's candidates on the asset's normals and the source, unless that model lies there."""
    store, asset = open_store(run.store), selection.asset
    ledger = store.get_frame(asset.ledger_key)
    normals = rows_of(ledger, [Role.TARGET])
    recipe = recipe_of(selection, engine, seed=run.settings.seed)
    version = model_version(recipe, selection, normals, noise_of(ledger), run)
    model = Model(
        asset=asset,
        version=version,
        prefix=keys.model(asset.customer, asset.asset_id, version),
        engine=engine,
        encoder=OWN_FRONT_END if engine == "c" else selection.encoder,
    )
    reused = store.exists(f"{model.prefix}/engine.json")
    if not reused:
        parts = divide(normals, run.settings)
        learnt, held_out = clip_set(store, parts.learnt), clip_set(store, parts.held_out)
        source = source_clips(store, selection.source.key) if learns_from_source(recipe) else None
        with track(f"Learning {asset.asset_id} by {engine_phrase(engine)}", total=len(learnt)) as advance:
            fitted = new_engine(recipe).fit(learnt, source, progress=advance)
        own, others = len(learnt.recordings), selection.source.recordings
        note(f"Fitted {engine_phrase(engine)} on {own} normals and {others} others")
        if parts.is_split:
            note(f"Held {len(held_out.recordings)} normals out to calibrate on")
        lineage = Lineage(customers=selection.source.customers if source is not None else ())
        _file_model(store, model.prefix, fitted, score_normals(fitted, learnt, held_out), lineage)
    caveats = store.get_model(f"{model.prefix}/caveats.json", Caveats).root
    for caveat in caveats:
        note(f"Model {version}: {caveat}")
    return model.model_copy(update={"reused": reused, "caveats": caveats})


def recipe_of(selection: Selection, engine: str, *, seed: int) -> Recipe:
    """How one of the selection's candidates is made; condition columns are for engine C alone."""
    columns = selection.columns if "c" in (engine, *selection.members) else ()
    return Recipe(engine, selection.encoder, seed, selection.members, columns)


def learns_from_source(recipe: Recipe) -> bool:
    """Whether the source changes what the engine learns; engine A never looks at it."""
    return bool(set(recipe.members or (recipe.engine,)) - {"a"})


def model_version(recipe: Recipe, selection: Selection, normals: pd.DataFrame, noise: pd.DataFrame, run: Run) -> str:
    """Hash of the normals, the source, the engine, the settings and the code; free of packages and their order.

    So are the noise-only recordings, which decide when the machine counts as off.

    One version is one model, bit by bit, except of engine C where a clock or a GPU had a hand in its training: such a
    model stands under its version until it is deleted, and fitted again it may differ. Its caveats say so.
    """
    return digest(
        recipe.engine,
        recipe.digest(),
        selection.source.version if learns_from_source(recipe) else "",
        run.settings.standardize.digest(),
        str(run.settings.sample_rate_of(selection.asset.machine_type)),
        run.settings.alarm.calibration_digest(),
        str(run.settings.seed),
        run.code_version,
        str(run.settings.qa.min_normals),
        *sorted(f"{row.recording_id}#{row.segment}#{_conditions(row, recipe)}" for row in normals.itertuples()),
        "noise",
        *sorted(f"{row.recording_id}#{row.segment}" for row in noise.itertuples()),
    )


def _conditions(row: Any, recipe: Recipe) -> str:
    """Only engine C looks at the conditions that the normals name."""
    values = (getattr(row, column) for column in recipe.columns)
    return "|".join("" if pd.isna(value) else str(value) for value in values)


def _file_model(store: ObjectStore, prefix: str, fitted: Engine, normal_scores: NormalScores, lineage: Lineage) -> None:
    """First whose recordings it learnt from, so that no part of it lies there without; the outermost `engine.json`
    last: a model folder without it was cut off and is written again.

    Where another run filed the model meanwhile, that one stands.
    """
    card = f"{prefix}/engine.json"
    with tempfile.TemporaryDirectory(prefix="alp-") as name, store.lock(card):
        if store.exists(card):
            return
        folder = Path(name)
        store.put_model(lineage_key(prefix), lineage)
        fitted.save(folder)
        save_normal_scores(normal_scores, folder)
        store.put_model(f"{prefix}/caveats.json", Caveats(caveats_of(fitted)))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path == folder / "engine.json"):
            store.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)


class Batch(Reference):
    """Some of an asset's test recordings, by their place in the ledger, to be scored by one model."""

    model: Model
    key: str = Field(description="Of the model's table of scores.")
    recordings: Portion


@task(name="Find what is not scored", task_run_name="Find what {model.asset.asset_id} has scored")
def find_unscored(selection: Selection, model: Model, run: Run) -> Scores:
    """The scores of the test recordings on the asset's ledger; `reused` where this model has scored all of them."""
    store = open_store(run.store)
    recordings, key = list(dict.fromkeys(_tests(store, model)["recording_id"])), f"{model.prefix}/scores.parquet"
    scored = _add_scores(store, key, _no_scores())
    missing = len(set(recordings).difference(scored["recording_id"]))
    note(f"{missing} recordings to score, {len(scored)} scored before")
    return Scores(
        selection=selection, model=model, key=key, recordings=len(recordings), reused=model.reused and not missing
    )


def cut_into_batches(scores: Iterable[Scores]) -> list[Batch]:
    """What there is to score, in batches for as many workers as there are; nothing of models that scored all."""
    return [
        Batch(model=each.model, key=each.key, recordings=recordings)
        for each in scores
        if not each.reused
        for recordings in portions(each.recordings, least=LEAST_BATCH)
    ]


@task(
    name="Score recordings",
    task_run_name="Score recordings of {batch.model.asset.asset_id} from {batch.recordings.start} on",
)
def score_batch(batch: Batch, run: Run) -> None:
    """Score the recordings of a batch that the model has not scored yet."""
    store, model = open_store(run.store), batch.model
    tests, portion = _tests(store, model), batch.recordings
    known = set(store.get_frame(batch.key)["recording_id"])
    wanted = list(dict.fromkeys(tests["recording_id"]))[portion.start : portion.stop]
    if missing := [name for name in wanted if name not in known]:
        _score_missing(store, model, tests, missing, batch.key)


def _tests(store: ObjectStore, model: Model) -> pd.DataFrame:
    """Ledger rows of the asset's test recordings, a segment once, in the ledger's order."""
    return rows_of(store.get_frame(model.asset.ledger_key), [Role.TEST]).drop_duplicates(["recording_id", "segment"])


def _no_scores() -> pd.DataFrame:
    columns = {"recording_id": "str", "score": "float64", "state": "str", "notes": "str"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


def _add_scores(store: ObjectStore, key: str, fresh: pd.DataFrame) -> pd.DataFrame:
    """Enter scores in a model's table, which others may write to as well; the table as it is then.

    By recording: which batch was done first is not seen.
    """
    with store.lock(key):
        before = store.get_frame(key) if store.exists(key) else None
        scored = pd.concat([part for part in (before, fresh) if part is not None and len(part)] or [_no_scores()])
        scored = scored.drop_duplicates("recording_id").sort_values("recording_id").reset_index(drop=True)
        if before is None or not scored.equals(before):
            store.put_frame(key, scored)
    return scored


def _score_missing(store: ObjectStore, model: Model, tests: pd.DataFrame, missing: list[str], key: str) -> None:
    with (
        store.local_folder(model.prefix) as folder,
        track(f"Scoring {model.asset.asset_id}", total=int(tests["recording_id"].isin(missing).sum())) as advance,
    ):
        engine, background = load_engine(folder, model.encoder), read_background(store, model.prefix)
        recorded = read_normal_scores(store, model.prefix).recorded
        for start in range(0, len(missing), SCORING_BATCH):
            batch = missing[start : start + SCORING_BATCH]
            clips = clip_set(store, tests[tests["recording_id"].isin(batch)].reset_index(drop=True))
            scores = recording_scores(clips, engine.decision_function(clips, progress=advance))
            standing = stand(background, recorded, clips)
            fresh = {
                "recording_id": clips.recordings,
                "score": scores,
                "state": [each.state for each in standing],
                "notes": ["; ".join(each.differences) for each in standing],
            }
            _add_scores(store, key, pd.DataFrame(fresh))
