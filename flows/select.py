"""select: asset ledger + library → `Selection`: the engine, and every criterion with limit, verdict and sentence."""

from __future__ import annotations

from prefect import flow

from schemas.references import Asset, Run, Selection
from tasks.library import gather_source
from tasks.selecting import select_engine
from tasks.showing import shown


@shown(customer="{run.customer}", machine="{asset.machine_type}")
@flow(name="select", flow_run_name="select-{run.customer}-{asset.asset_id}")
def select(asset: Asset, run: Run) -> Selection:
    """Gather what the asset may learn from, and choose the engine that this can carry."""
    source = gather_source(asset, run)
    return select_engine(asset, source, run)
