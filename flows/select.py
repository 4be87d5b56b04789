"""select: asset ledgers + library → `Selection`s: the engine, and every criterion with limit, verdict and sentence."""

from __future__ import annotations

from prefect import flow, task

from schemas.references import Asset, Run, Selection
from tasks.library import gather_source
from tasks.selecting import select_engine
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner


@shown(customer="{run.customer}", machines="assets.machine_type")
@flow(name="select", flow_run_name="select-{run.customer}-{run.package_id:.8}", task_runner=ChosenRunner)
def select(assets: list[Asset], run: Run) -> list[Selection]:
    """Choose for each asset the engine that its data can carry."""
    return spread(select_for_asset, assets, run)


@task(name="Select an engine", task_run_name="Select an engine for {asset.asset_id}")
def select_for_asset(asset: Asset, run: Run) -> Selection:
    """Gather what the asset may learn from, and choose the engine that this can carry."""
    source = gather_source(asset, run)
    return select_engine(asset, source, run)
