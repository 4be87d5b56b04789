"""score: `Selection` + the ledger's clips → a fitted `Model`, its background, and the `Scores` of the tests."""

from __future__ import annotations

from prefect import flow

from schemas.references import Run, Scores, Selection
from tasks.background import learn_background
from tasks.scoring import fit_engine, score_recordings
from tasks.selecting import settle_engine
from tasks.showing import shown


@shown(customer="{run.customer}", machine="{selection.asset.machine_type}")
@flow(name="score", flow_run_name="score-{run.customer}-{selection.asset.asset_id}")
def score(selection: Selection, run: Run) -> Scores:
    """Fit the engines that are candidates, settle on one, learn the background, and score the test recordings."""
    models = [fit_engine(selection, engine, run) for engine in selection.candidates]
    settled = settle_engine(selection, models, run)
    model = next(model for model in models if model.engine == settled.engine)
    learn_background(model, run)
    return score_recordings(settled, model, run)
