"""score: `Selection` + the ledger's clips → a fitted `Model` and the `Scores` of the test recordings."""

from __future__ import annotations

from prefect import flow

from schemas.references import Run, Scores, Selection
from tasks.scoring import fit_engine, score_recordings


@flow(name="score", flow_run_name="score-{selection.asset.asset_id}")
def score(selection: Selection, run: Run) -> Scores:
    """Fit the engine on the asset's normals and score its test recordings."""
    model = fit_engine(selection, run)
    return score_recordings(selection, model, run)
