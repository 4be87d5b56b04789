"""calibrate: the models' normal scores + alarm policy → `threshold.json` each; then decisions and metrics."""

from __future__ import annotations

from prefect import flow, task

from schemas.references import Calibrated, Run, Scores
from tasks.calibrating import crown_champion, decide_and_measure, set_threshold
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner


@shown(customer="{run.customer}", machines="scores.model.asset.machine_type")
@flow(name="calibrate", flow_run_name="calibrate-{run.customer}-{run.package_id:.8}", task_runner=ChosenRunner)
def calibrate(scores: list[Scores], run: Run) -> list[Calibrated]:
    """Set each asset's threshold from its normals alone, then decide and measure."""
    return spread(calibrate_asset, scores, run)


@task(name="Calibrate an asset", task_run_name="Calibrate {scores.model.asset.asset_id}")
def calibrate_asset(scores: Scores, run: Run) -> Calibrated:
    """Set the threshold, decide and measure, and point the asset at its new model."""
    threshold_key = set_threshold(scores.model, run)
    calibrated = decide_and_measure(scores, threshold_key, run)
    crown_champion(scores.model, run)
    return calibrated
