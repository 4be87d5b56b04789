"""calibrate: the model's normal scores + alarm policy → `threshold.json`; then decisions and metrics."""

from __future__ import annotations

from prefect import flow

from schemas.references import Calibrated, Run, Scores
from tasks.calibrating import crown_champion, decide_and_measure, set_threshold
from tasks.showing import shown


@shown(customer="{run.customer}", machine="{scores.model.asset.machine_type}")
@flow(name="calibrate", flow_run_name="calibrate-{run.customer}-{scores.model.asset.asset_id}")
def calibrate(scores: Scores, run: Run) -> Calibrated:
    """Set the threshold from normals alone, then decide and measure."""
    threshold_key = set_threshold(scores.model, run)
    calibrated = decide_and_measure(scores, threshold_key, run)
    crown_champion(scores.model, run)
    return calibrated
