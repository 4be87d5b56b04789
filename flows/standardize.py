"""standardize: `Package` + `QualityReport` → `Dataset`: one form, segments, joined to the assets' ledgers."""

from __future__ import annotations

from prefect import flow

from schemas.references import Dataset, Package, QualityReport, Run
from tasks.showing import shown
from tasks.standardizing import file_package, join_ledgers


@shown(customer="{package.customer}")
@flow(name="standardize", flow_run_name="standardize-{package.customer}-{package.short_id}")
def standardize(package: Package, quality: QualityReport, run: Run) -> Dataset:
    """File the good clips and enter them in the ledgers."""
    dataset = file_package(package, quality, run)
    return join_ledgers(dataset, package, run)
