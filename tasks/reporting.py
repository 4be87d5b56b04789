"""Gather what a page shows, and file the pages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from prefect import task

from engines.alarm import AlarmRule
from engines.base import ClipSet
from engines.calibration import Threshold, conformal_p_values
from engines.machine_state import Indistinct
from engines.metrics import AssetMetrics
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Asset, AssetIntake, Calibrated, Package, QualityReport, Run, Statement
from tasks import keys
from tasks.background import noise_of, read_background
from tasks.calibrating import LEAKED, judged_table, without_leaked_labels
from tasks.engines import load_engine
from tasks.fleet import file_card
from tasks.ledger import Role, clip_set, rows_of
from tasks.normals import read_normal_scores
from tasks.runs import versions
from tasks.store import ObjectStore, open_store

if TYPE_CHECKING:
    from engines.base import Engine
    from tasks.report.pages import AssetPage, Fault, ShownClip

WORST_CLIPS, MISSED_CLIPS, TYPICAL_CLIPS = 6, 2, 2
"""Clips that a page shows with sound and picture, of each kind."""
CONTEXT = ("clip_id", "recorded_at", *CONDITION_COLUMNS, "anomaly_type")
"""What a page needs to know of a clip beside its scores."""


@task(name="Write the asset's page", task_run_name="Write the page of {calibrated.scores.model.asset.asset_id}")
def write_asset_page(calibrated: Calibrated, package: Package, quality: QualityReport, run: Run) -> None:
    """Render and file `report.html` of one asset, what it concludes, and the card by which the fleet page knows it."""
    from tasks.report.conclusion import conclusion_key
    from tasks.report.first_screen import conclude
    from tasks.report.pages import render_asset_page

    store, model = open_store(run.store), calibrated.scores.model
    page = _gather_page(store, calibrated, package, quality, run)
    key = keys.run(run.customer, run.run_id, f"{model.asset.asset_id}/report.html")
    store.put(key, render_asset_page(page).encode())
    store.put_model(conclusion_key(key), conclude(page))
    file_card(store, page, model, report=key)


def _gather_page(
    store: ObjectStore, calibrated: Calibrated, package: Package, quality: QualityReport, run: Run
) -> AssetPage:
    from tasks.report.pages import AssetPage

    scores, model = calibrated.scores, calibrated.scores.model
    asset = model.asset
    threshold = store.get_model(calibrated.threshold_key, Threshold)
    rule = store.get_model(calibrated.rule_key, AlarmRule)
    ledger = store.get_frame(asset.ledger_key)
    calibration = read_normal_scores(store, model.prefix)
    table = without_leaked_labels(judged_table(store, scores, threshold, calibration.scores))
    normals = _name_normals(ledger, calibration.recording_ids, calibration.scores)
    intake = _intake_of(asset, quality)
    background = read_background(store, model.prefix)
    with store.local_folder(model.prefix) as folder:
        shown = _Shown(store, load_engine(folder, model.encoder), rule, calibration.scores)
        clips = _choose_clips(shown, ledger, table, normals)
    return AssetPage(
        language=run.settings.language,
        types=run.settings.known_machine_types,
        package_name=package.name,
        customer=run.customer,
        run_id=run.run_id,
        synthetic=quality.synthetic,
        # The selection names the encoder of the engines that take one; engine C has its own.
        selection=scores.selection.model_copy(update={"encoder": model.encoder}),
        threshold=threshold,
        rule=rule,
        policy=run.settings.alarm,
        metrics=store.get_model(keys.run(run.customer, run.run_id, f"{asset.asset_id}/metrics.json"), AssetMetrics),
        normal_scores=normals["score"].to_numpy(dtype=np.float64),
        normal_ids=normals["clip_id"].tolist(),
        scores=table,
        kpi=run.settings.kpi,
        versions=versions(),
        context=ledger.reindex(columns=list(CONTEXT)),
        intake=intake,
        faults=_faults_of(asset, quality, store.get_frame(quality.quality_key)),
        noise_recordings=noise_of(ledger)["recording_id"].nunique(),
        indistinct=background.reason if isinstance(background, Indistinct) else None,
        least_normals=run.settings.qa.min_normals,
        longest_s=calibration.recorded.longest_s,
        caveats=model.caveats,
        fleet_link=f"../../../../{keys.fleet(run.customer)}",
        **clips,
    )


def _name_normals(ledger: pd.DataFrame, recording_ids: tuple[str, ...], scores: np.ndarray) -> pd.DataFrame:
    """clip_id and score of each normal that the threshold rests on."""
    rows = rows_of(ledger, [Role.TARGET]).drop_duplicates("recording_id").set_index("recording_id")
    return pd.DataFrame({"clip_id": rows["clip_id"].reindex(list(recording_ids)).tolist(), "score": scores})


def _intake_of(asset: Asset, quality: QualityReport) -> AssetIntake | None:
    """What the package brought for the asset; None where this run's package brought it nothing."""
    name = asset.machine_type, asset.section_id
    return next((intake for intake in quality.assets if (intake.machine_type, intake.section_id) == name), None)


def _faults_of(asset: Asset, quality: QualityReport, table: pd.DataFrame) -> list[Fault]:
    """What was wrong with the asset's recordings, the gravest first, then the most frequent."""
    from tasks.report.pages import Fault

    mine = table[(table["machine_type"] == asset.machine_type) & (table["section_id"] == asset.section_id)]
    broken = Counter(str(rule) for reasons in mine["reasons"] for rule in set(reasons))
    clips = set(mine["clip_id"].dropna())
    faults = []
    for rule, recordings in broken.items():
        problems = [problem for problem in quality.problems if problem.rule == rule]
        # Of very many places only the first are listed, which may all be another machine's.
        own = [problem for problem in problems if problem.clip_id in clips] or problems
        if own:
            faults.append(Fault(rule, own[0].severity, recordings, own))
    gravest = ("error", "reject", "warn")
    return sorted(faults, key=lambda fault: (gravest.index(fault.severity), -fault.recordings, fault.rule))


# --- clips to hear and see ------------------------------------------------------------------------------------------


def _choose_clips(
    shown: _Shown, ledger: pd.DataFrame, table: pd.DataFrame, normals: pd.DataFrame
) -> dict[str, list[ShownClip]]:
    """The highest-scoring tests, or where there are none the least typical normals; missed faults; typical normals."""
    tests, targets = rows_of(ledger, [Role.TEST]), rows_of(ledger, [Role.TARGET])
    ranked = table.sort_values(["score", "clip_id"], ascending=[False, True])
    usual = normals.sort_values(["score", "clip_id"])
    faults = ranked[(ranked["label"] == "anomaly") & ~shown.is_high(ranked)]
    missed = faults[~faults["clip_id"].isin(ranked["clip_id"].head(WORST_CLIPS))].tail(MISSED_CLIPS).iloc[::-1]
    if len(table):
        worst = [shown.clip(tests, row) for row in ranked.head(WORST_CLIPS).to_dict("records")]
    else:
        worst = [shown.clip(targets, row) for row in usual.tail(WORST_CLIPS).iloc[::-1].to_dict("records")]
    names = {clip.clip_id for clip in worst}
    typical = [row for row in usual.head(TYPICAL_CLIPS).to_dict("records") if row["clip_id"] not in names]
    return {
        "worst": worst,
        "missed": [shown.clip(tests, row) for row in missed.to_dict("records")],
        "typical": [shown.clip(targets, row) for row in typical],
    }


class _Shown:
    """What it takes to show clips: the engine, its calibration and the rule."""

    def __init__(self, store: ObjectStore, engine: Engine, rule: AlarmRule, calibration: np.ndarray) -> None:
        self._store, self._engine, self._rule, self._calibration = store, engine, rule, calibration

    def is_high(self, table: pd.DataFrame) -> pd.Series:
        """Which rows count towards an alarm."""
        from tasks.report.verdicts import too_high

        return too_high(table, self._rule)

    def clip(self, pool: pd.DataFrame, judged: Mapping[Any, Any]) -> ShownClip:
        """One clip with its map; of a recording of several segments, the segment that scores highest."""
        from tasks.report.pages import ShownClip

        rows = pool[pool["clip_id"] == judged["clip_id"]].reset_index(drop=True)
        clips: ClipSet = clip_set(self._store, rows)
        index = int(np.argmax(self._engine.decision_function(clips))) if len(clips) > 1 else 0
        row, score = rows.iloc[index], float(judged["score"])
        regions = json.loads(row["anomaly_regions"]) if isinstance(row["anomaly_regions"], str) else []
        return ShownClip(
            clip_id=row["clip_id"] if len(clips) == 1 else f"{row['clip_id']} ({row['start_s']:g} s on)",
            label=row["label"] if isinstance(row["label"], str) else None,
            score=score,
            p_value=float(conformal_p_values([score], self._calibration)[0]),
            alarm=score > self._rule.clip_threshold and judged.get("state") != "off",
            waveform=clips.waveform(index),
            sample_rate=int(row["sample_rate"]),
            bandwidth_hz=float(row["bandwidth_hz"]),
            map=self._engine.anomaly_map(clips, index),
            regions=[(float(start), float(stop)) for start, stop in regions],
            severity=judged.get("severity"),
            grade=judged.get("grade"),
            members=_member_p_values(self._engine, clips.subset([index])),
            learnt=LEAKED in str(judged.get("notes") or ""),
        )


def _member_p_values(engine: Engine, clip: ClipSet) -> dict[str, float]:
    """How unusual each engine of an ensemble finds one clip: its p-value, as the ensemble combines them."""
    from engines.ensemble import Ensemble, log_p_values

    if not isinstance(engine, Ensemble):
        return {}
    return {
        name: float(10 ** log_p_values(member.decision_function(clip), member.normal_scores())[0])
        for name, member in engine.members.items()
    }


@task(name="Write the package's page", task_run_name="Write the page of {package.name}")
def write_package_page(
    package: Package, quality: QualityReport, assets: list[Calibrated], run: Run, statements: list[Statement]
) -> None:
    """Render and file the package's `report.html`, for a rejected package too."""
    from tasks.report.conclusion import read_conclusion
    from tasks.report.pages import PackagePage, render_package_page

    store = open_store(run.store)
    results = [calibrated.result for calibrated in assets]
    page = PackagePage(
        language=run.settings.language,
        types=run.settings.known_machine_types,
        package=package,
        quality=quality,
        run_id=run.run_id,
        assets=results,
        concluded=[read_conclusion(store, result) for result in results],
        versions=versions(),
        quality_table=store.get_frame(quality.quality_key),
        statements=statements,
    )
    store.put(keys.run(run.customer, run.run_id, "report.html"), render_package_page(page).encode())
