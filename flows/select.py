"""select: asset ledger → `Selection`: the engine, and every criterion with value, limit, verdict, sentence."""

from __future__ import annotations

from prefect import flow

from schemas.references import Asset, Run, Selection
from tasks.selecting import select_engine


@flow(name="select", flow_run_name="select-{asset.asset_id}")
def select(asset: Asset, run: Run) -> Selection:
    """Choose the engine this asset's data can carry."""
    return select_engine(asset, run)
