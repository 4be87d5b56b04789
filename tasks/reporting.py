"""Gather what a page shows, and file the pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from prefect import task

from engines.base import ClipSet
from engines.calibration import Threshold, conformal_p_values
from engines.metrics import AssetMetrics
from schemas.references import Calibrated, Model, Package, QualityReport, Run, Statement
from tasks import keys
from tasks.calibrating import judged_table
from tasks.engines import load_engine
from tasks.ledger import Role, clip_set, rows_of
from tasks.runs import versions
from tasks.store import ObjectStore, open_store

if TYPE_CHECKING:
    from engines.base import Engine
    from tasks.report.pages import WorstClip

WORST_CLIPS = 6
"""Clips that a page shows with sound and picture."""


@task(name="Write the asset's page", task_run_name="Write the page of {calibrated.scores.model.asset.asset_id}")
def write_asset_page(calibrated: Calibrated, package: Package, quality: QualityReport, run: Run) -> None:
    """Render and file `report.html` of one asset."""
    from tasks.report.pages import AssetPage, render_asset_page

    scores, selection = calibrated.scores, calibrated.scores.selection
    store, model = open_store(run.store), scores.model
    home = f"{selection.asset.asset_id}/"
    threshold = store.get_model(calibrated.threshold_key, Threshold)
    ledger = store.get_frame(model.asset.ledger_key)
    with store.local_folder(model.prefix) as folder:
        engine = load_engine(folder, model.encoder)
        normals = rows_of(ledger, [Role.TARGET])
        table = judged_table(store, scores, threshold, engine.normal_scores())
        page = AssetPage(
            language=run.settings.language,
            package_name=package.name,
            customer=run.customer,
            run_id=run.run_id,
            synthetic=quality.synthetic,
            # The selection names the encoder of the engines that take one; engine C has its own.
            selection=selection.model_copy(update={"encoder": model.encoder}),
            threshold=threshold,
            metrics=store.get_model(keys.run(run.customer, run.run_id, f"{home}metrics.json"), AssetMetrics),
            normal_scores=engine.normal_scores(),
            normal_ids=normals.drop_duplicates("recording_id")["clip_id"].tolist(),
            scores=table,
            kpi=run.settings.kpi,
            worst=_worst_clips(store, engine, model, ledger, table, threshold),
            versions=versions(),
            caveats=model.caveats,
        )
        store.put(keys.run(run.customer, run.run_id, f"{home}report.html"), render_asset_page(page).encode())


def _worst_clips(
    store: ObjectStore,
    engine: Engine,
    model: Model,
    ledger: pd.DataFrame,
    table: pd.DataFrame,
    threshold: Threshold,
) -> list[WorstClip]:
    """The highest-scoring test clips; where there are none, the normals least like the others."""
    calibration = engine.normal_scores()
    if len(table):
        rows = table.sort_values(["score", "clip_id"], ascending=[False, True]).head(WORST_CLIPS)
        ranked = list(zip(rows["clip_id"], rows["score"], strict=True))
        pool = rows_of(ledger, [Role.TEST])
    else:
        pool = rows_of(ledger, [Role.TARGET])
        names = pool.drop_duplicates("recording_id")["clip_id"]
        ranked = sorted(zip(names, calibration, strict=True), key=lambda pair: -pair[1])[:WORST_CLIPS]
    return [
        _worst_clip(store, engine, pool[pool["clip_id"] == name], score, threshold, calibration)
        for name, score in ranked
    ]


def _worst_clip(
    store: ObjectStore,
    engine: Engine,
    rows: pd.DataFrame,
    score: float,
    threshold: Threshold,
    calibration: np.ndarray,
) -> WorstClip:
    """One clip with its map; of a recording of several segments, the segment that scores highest."""
    from tasks.report.pages import WorstClip

    clips: ClipSet = clip_set(store, rows.reset_index(drop=True))
    index = int(np.argmax(engine.decision_function(clips))) if len(clips) > 1 else 0
    row = rows.iloc[index]
    regions = json.loads(row["anomaly_regions"]) if isinstance(row["anomaly_regions"], str) else []
    return WorstClip(
        clip_id=row["clip_id"] if len(clips) == 1 else f"{row['clip_id']} ({row['start_s']:g} s on)",
        label=row["label"] if isinstance(row["label"], str) else None,
        score=float(score),
        p_value=float(conformal_p_values([score], calibration)[0]),
        alarm=bool(score > threshold.value),
        waveform=clips.waveform(index),
        sample_rate=int(row["sample_rate"]),
        bandwidth_hz=float(row["bandwidth_hz"]),
        map=engine.anomaly_map(clips, index),
        regions=[(float(start), float(stop)) for start, stop in regions],
    )


@task(name="Write the package's page", task_run_name="Write the page of {package.name}")
def write_package_page(
    package: Package, quality: QualityReport, assets: list[Calibrated], run: Run, statements: list[Statement]
) -> None:
    """Render and file the package's `report.html`, for a rejected package too."""
    from tasks.report.pages import PackagePage, render_package_page

    store = open_store(run.store)
    page = PackagePage(
        language=run.settings.language,
        package=package,
        quality=quality,
        run_id=run.run_id,
        assets=[calibrated.result for calibrated in assets],
        versions=versions(),
        quality_table=store.get_frame(quality.quality_key),
        statements=statements,
    )
    store.put(keys.run(run.customer, run.run_id, "report.html"), render_package_page(page).encode())
