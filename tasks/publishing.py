"""Hand a run over: whether it was done before, its metrics, and last the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

from prefect import task
from prefect.context import get_run_context

from engines.metrics import AssetMetrics, macro
from schemas.references import (
    AssetResult,
    Calibrated,
    Dataset,
    OnboardResult,
    Package,
    QualityReport,
    Run,
    Stage,
)
from schemas.rules import breaks_only_the_contract
from tasks import keys
from tasks.gate import still_stands
from tasks.logbook import note
from tasks.runs import Manifest, checksums, forget_half_runs, manifest_key, versions
from tasks.store import ObjectStore, open_store

ALL_STAGES: tuple[Stage, ...] = get_args(Stage)


@task(name="Look for a finished run", task_run_name="Look whether run {run.run_id} was finished before")
def find_finished_run(run: Run) -> Manifest | None:
    """The manifest of this very run, if it was finished before and would come out the same today."""
    store = open_store(run.store)
    if not store.exists(manifest_key(run)):
        return None
    manifest = store.get_model(manifest_key(run), Manifest)
    if not still_stands(store, manifest.quality, run) or not _all_there(store, manifest):
        return None
    note(f"Run {run.run_id} was finished before: its outputs serve again")
    # Its store may have been another one, of which this one was restored.
    result = manifest.result.model_copy(update={"reused": ALL_STAGES})
    return manifest.model_copy(update={"run": run, "result": result})


def _all_there(store: ObjectStore, manifest: Manifest) -> bool:
    """Whether nothing the run handed over was deleted since."""
    run = manifest.run
    homes = [keys.asset_id(asset.machine_type, asset.section_id) for asset in manifest.result.assets]
    living = [keys.asset(run.customer, home, name) for home in homes for name in ("champion.json", "ledger.parquet")]
    return all(store.exists(key) for key in (*manifest.objects, *living))


@task(name="Write metrics.json", task_run_name="Write the metrics of package {run.package_id}")
def write_metrics(dataset: Dataset, quality: QualityReport, run: Run) -> None:
    """Metrics of every asset and their means, with the settings, versions, data and counts behind them."""
    store = open_store(run.store)
    assets = {
        asset.asset_id: store.get_model(
            keys.run(run.customer, run.run_id, f"{asset.asset_id}/metrics.json"), AssetMetrics
        )
        for asset in dataset.assets
    }
    document = {
        "package": run.package_id,
        "synthetic": quality.synthetic,
        "assets": {name: metrics.model_dump(mode="json") for name, metrics in assets.items()},
        "macro": macro(list(assets.values())).model_dump(mode="json") if assets else None,
        "counts": {
            asset.asset_id: {"target": asset.target, "source": asset.source, "test": asset.test}
            for asset in dataset.assets
        },
        "ledgers": {asset.asset_id: asset.ledger_version for asset in dataset.assets},
        "settings": run.settings.model_dump(mode="json"),
        "code": run.code_version,
        "versions": versions(),
    }
    store.put(keys.run(run.customer, run.run_id, "metrics.json"), (json.dumps(document, indent=2) + "\n").encode())


def describe_result(
    quality: QualityReport, assets: Sequence[AssetResult], reused: Sequence[Stage], run: Run
) -> OnboardResult:
    """What `alp onboard --json` prints of a run."""
    table = open_store(run.store).get_frame(quality.quality_key)
    broken = table["reasons"].map(breaks_only_the_contract).astype(bool)
    return OnboardResult(
        customer=run.customer,
        package=run.package_id,
        run_id=run.run_id,
        verdict=quality.verdict,
        quarantined=tuple(table.loc[(table["verdict"] == "reject") & ~broken, "clip_id"].astype(str)),
        reused=tuple(reused),
        assets=tuple(assets),
    )


@task(name="Finish the run", task_run_name="Finish run {run.run_id}")
def finish_run(
    package: Package, quality: QualityReport, assets: list[Calibrated], reused: list[Stage], run: Run
) -> Manifest:
    """Write the manifest, which makes the run finished; take away what was left of others that never will be."""
    store = open_store(run.store)
    store.delete(manifest_key(run))
    result = describe_result(quality, [asset.result for asset in assets], reused, run)
    objects = checksums(store, f"runs/{run.customer}/{run.run_id}/")
    # Of two workers that finish one run at once, the other may have written its manifest by now.
    objects.pop(manifest_key(run), None)
    manifest = Manifest(
        run=run,
        package=package,
        quality=quality,
        result=result,
        prefect_run_id=_prefect_run_id(),
        versions=versions(),
        objects=objects,
    )
    store.put_model(manifest_key(run), manifest)
    if gone := forget_half_runs(store, run.customer):
        note(f"{len(gone)} runs that were cut off and did not go on: what they left is taken away")
    return manifest


def _prefect_run_id() -> str | None:
    context = get_run_context()
    return str(context.task_run.flow_run_id) if hasattr(context, "task_run") else None
