"""Set an asset's threshold, decide on its recordings, measure where labels allow it, and hand the tables over."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
from prefect import task
from pydantic import BaseModel, ConfigDict

from engines.calibration import Method, Threshold, calibrate, conformal_p_values, decide
from engines.metrics import AssetMetrics, evaluate
from schemas.errors import StoreError
from schemas.references import AssetResult, Calibrated, Model, Run, Scores
from tasks import keys
from tasks.engines import load_engine
from tasks.ledger import Role, ledger_version, read_corrected, rows_of
from tasks.logbook import note
from tasks.store import ObjectStore, open_store

SCORE_COLUMNS = (
    "clip_id",
    "machine_type",
    "section_id",
    "split",
    "domain",
    "label",
    "score",
    "p_value",
    "threshold",
    "decision",
    "state",
    "engine",
    "model_version",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Champion(BaseModel):
    """`champion.json`: the model that judges an asset now, and the one it replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    engine: str
    encoder: str
    ledger_version: str
    previous: str | None


@task(name="Set the threshold", task_run_name="Set the threshold of {model.asset.asset_id}")
def set_threshold(model: Model, run: Run) -> str:
    """Calibrate on the model's leave-one-out scores of the asset's own normals, and on nothing else.

    Returns the key of the model's `threshold.json`.
    """
    store = open_store(run.store)
    key = f"{model.prefix}/threshold.json"
    if not store.exists(key):
        # Band standardization is learnt from the same normals, so one more recording may raise a score too:
        # the claim that would certify plain leave-one-out is not made (docs/decisions/0006).
        scores, method = normal_scores(store, model)
        threshold = calibrate(scores, run.settings.alarm, method=method, seed=run.settings.seed)
        store.put_model(key, threshold)
    store.put(_run_key(model, run, "threshold.json"), store.get(key))
    note(store.get_model(key, Threshold).explanation)
    return key


def normal_scores(store: ObjectStore, model: Model) -> tuple[np.ndarray, Method]:
    """Scores of the asset's normals by engines fitted without them, float64 (n_recordings,), and how that was done."""
    with store.local_folder(model.prefix) as folder:
        engine = load_engine(folder, model.encoder)
    alone = engine.normal_scores_method == "leave_one_out"
    return engine.normal_scores(), "leave_one_out" if alone else "leave_group_out"


def _run_key(model: Model, run: Run, name: str) -> str:
    return keys.run(run.customer, run.run_id, f"{model.asset.asset_id}/{name}")


@task(name="Decide and measure", task_run_name="Decide on the recordings of {scores.model.asset.asset_id}")
def decide_and_measure(scores: Scores, threshold_key: str, run: Run) -> Calibrated:
    """Write `scores.csv` and `metrics.json` of one asset."""
    store, model = open_store(run.store), scores.model
    threshold = store.get_model(threshold_key, Threshold)
    table = judged_table(store, scores, threshold, normal_scores(store, model)[0])
    scores_key, scores_csv = _run_key(model, run, "scores.csv"), to_csv(table)
    reused = store.exists(scores_key) and store.get(scores_key) == scores_csv
    store.put(scores_key, scores_csv)
    metrics = measure(table, seed=run.settings.seed)
    store.put_model(_run_key(model, run, "metrics.json"), metrics)
    asset = model.asset
    result = AssetResult(
        machine_type=asset.machine_type,
        section_id=asset.section_id,
        engine=model.engine,
        encoder=model.encoder,
        n_target=asset.target,
        n_source=scores.selection.source.recordings,
        n_test=asset.test,
        auc=metrics.auc,
        pauc=metrics.pauc,
        auc_source=metrics.auc_source,
        auc_target=metrics.auc_target,
        threshold=threshold.value,
        certified=threshold.certified,
        alarms_per_day=threshold.alarms_per_day,
        report=_run_key(model, run, "report.html"),
    )
    return Calibrated(scores=scores, threshold_key=threshold_key, result=result, reused=reused)


def judged_table(store: ObjectStore, scores: Scores, threshold: Threshold, calibration: np.ndarray) -> pd.DataFrame:
    """One row a test clip with the columns of `scores.csv`, in the order of clip ids.

    `calibration` is what `normal_scores` gives, float64 (n_recordings,).

    Raises
    ------
    StoreError
        A test clip has no score.
    """
    model = scores.model
    tests = rows_of(store.get_frame(model.asset.ledger_key), [Role.TEST])
    clips = tests[tests["segment"] == 0].sort_values("clip_id")
    table = clips.merge(store.get_frame(scores.key), on="recording_id", how="left", validate="many_to_one")
    unscored = table.loc[table["score"].isna(), "clip_id"].tolist()
    if unscored:
        raise StoreError(
            f"{scores.key} holds no score of {len(unscored)} of {len(table)} test clips, such as {unscored[0]!r};"
            " onboard the package again, which scores what is missing"
        )
    values = table["score"].to_numpy(dtype=np.float64)
    table = table.assign(
        p_value=conformal_p_values(values, calibration) if len(values) else [],
        threshold=threshold.value,
        decision=np.where(decide(values, calibration, threshold), "alarm", "normal") if len(values) else [],
        state="not assessed",
        engine=model.engine,
        model_version=model.version,
    )
    return table[list(SCORE_COLUMNS)].reset_index(drop=True)


def measure(table: pd.DataFrame, *, seed: int) -> AssetMetrics:
    """Metrics of `engines.metrics` over the labelled rows of a judged table."""
    labels = table["label"].map({"anomaly": 1.0, "normal": 0.0}).to_numpy(dtype=np.float64)
    return evaluate(
        table["score"].to_numpy(dtype=np.float64),
        labels,
        table["domain"].tolist(),
        decisions=(table["decision"] == "alarm").to_numpy(),
        seed=seed,
    )


def to_csv(table: pd.DataFrame) -> bytes:
    """CSV bytes, UTF-8; a text cell that a spreadsheet would run as a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(table.columns)
    for row in table.itertuples(index=False, name=None):
        writer.writerow([_safe_cell(cell) for cell in row])
    return buffer.getvalue().encode()


def _safe_cell(cell: object) -> object:
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
    return "" if cell is None or pd.isna(cell) else cell


@task(name="Crown the champion", task_run_name="Crown the champion of {model.asset.asset_id}")
def crown_champion(model: Model, run: Run) -> None:
    """Point the asset at this model; the one before stays known as previous.

    A model of another ledger than the asset has now, corrections applied, is not crowned: a later package or a
    correction came while it was made, and the run that follows from that has the last word.
    """
    store, asset = open_store(run.store), model.asset
    key = keys.asset(asset.customer, asset.asset_id, "champion.json")
    with store.lock(key):
        if ledger_version(read_corrected(store, asset.customer, asset.asset_id)) != asset.ledger_version:
            note(f"Model {model.version} is not crowned: the ledger of {asset.asset_id} has changed since it was read")
            return
        before = store.get_model(key, Champion) if store.exists(key) else None
        champion = _succeed(before, model)
        if champion != before:
            store.put_model(key, champion)


def _succeed(before: Champion | None, model: Model) -> Champion:
    """The model as champion after the one before, if any."""
    previous = before.version if before else None
    if before is not None and before.version == model.version:
        previous = before.previous
    return Champion(
        version=model.version,
        engine=model.engine,
        encoder=model.encoder,
        ledger_version=model.asset.ledger_version,
        previous=previous,
    )
