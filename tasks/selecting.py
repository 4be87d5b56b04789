"""Choose the engine an asset's data can carry, and keep the reasons."""

from __future__ import annotations

from prefect import task

from engines.routing import AssetData, choose_engine, judge_criteria
from schemas.references import Asset, Run, Selection
from tasks import keys
from tasks.engines import choose_encoder
from tasks.logbook import note
from tasks.store import open_store


@task(name="Choose the engine", task_run_name="Choose the engine for {asset.asset_id}")
def select_engine(asset: Asset, run: Run) -> Selection:
    """Judge every criterion on the ledger's counts and write `selection.json`.

    Raises
    ------
    RejectedError
        No engine can work with what the asset has.
    WeightsError
        The encoder that was asked for has no weights here.
    """
    store = open_store(run.store)
    criteria = judge_criteria(
        AssetData(target_normals=asset.target, source_normals=asset.source), min_target=run.settings.qa.min_normals
    )
    engine, reason = choose_engine(criteria, wanted=run.settings.engine)
    selection = Selection(
        asset=asset,
        engine=engine,
        encoder=choose_encoder(run.settings.encoder),
        reason=reason,
        criteria=tuple(criteria),
    )
    note(f"{selection.reason}; encoder {selection.encoder}")
    key = keys.run(run.customer, run.run_id, f"{asset.asset_id}/selection.json")
    if store.exists(key) and store.get_model(key, Selection) == selection:
        return selection.model_copy(update={"reused": True})
    store.put_model(key, selection)
    return selection
