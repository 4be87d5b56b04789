"""score: `Selection`s + the ledgers' clips → fitted `Model`s, their backgrounds, and the `Scores` of the tests."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow, task

from schemas.references import Run, Scores, Selection
from tasks.background import learn_background
from tasks.scoring import cut_into_batches, find_unscored, fit_engine, score_batch
from tasks.selecting import settle_engine
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner


@shown(customer="{run.customer}", machines="selections.asset.machine_type")
@flow(name="score", flow_run_name="score-{run.customer}-{run.package_id:.8}", task_runner=ChosenRunner)
def score(selections: list[Selection], run: Run) -> list[Scores]:
    """Make each asset's model, and score its test recordings."""
    return score_tests(spread(make_model, selections, run), run)


@task(name="Make a model", task_run_name="Make the model of {selection.asset.asset_id}")
def make_model(selection: Selection, run: Run) -> Scores:
    """Fit the engines that are candidates, settle on one, and learn the background; what it has scored until now."""
    models = [fit_engine(selection, engine, run) for engine in selection.candidates]
    settled = settle_engine(selection, models, run)
    model = next(model for model in models if model.engine == settled.engine)
    learn_background(model, run)
    return find_unscored(settled, model, run)


def score_tests(scores: Sequence[Scores], run: Run) -> list[Scores]:
    """Score what the models have not scored yet."""
    spread(score_batch, cut_into_batches(scores), run)
    return list(scores)
