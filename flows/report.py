"""report: everything a run found → pages, `metrics.json`, library, the customer's fleet page, and last the manifest."""

from __future__ import annotations

from prefect import flow

from schemas.references import Calibrated, Dataset, Package, QualityReport, Run, Stage
from tasks.expectations import write_statements
from tasks.fleet import write_fleet_page
from tasks.growth import tell_of_growth
from tasks.library import join_library
from tasks.publishing import finish_run, write_metrics
from tasks.reporting import write_asset_page, write_package_page
from tasks.runs import Manifest
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner


@shown(customer="{package.customer}")
@flow(name="report", flow_run_name="report-{package.customer}-{package.short_id}", task_runner=ChosenRunner)
def report(
    package: Package,
    quality: QualityReport,
    dataset: Dataset | None,
    assets: list[Calibrated],
    reused: list[Stage],
    run: Run,
) -> Manifest:
    """Hand the run over; a refused package has no dataset and gets its page and manifest all the same."""
    spread(write_asset_page, assets, package, quality, run)
    statements = write_statements(quality, run)
    write_package_page(package, quality, assets, run, statements)
    if dataset is not None:
        write_metrics(dataset, quality, run)
        tell_of_growth(join_library(dataset, package, run), run)
        write_fleet_page(run.customer, run.store, run.settings.language)
    return finish_run(package, quality, assets, reused, run)
