"""qa: `Package` → `QualityReport`, a verdict per clip and one for the package."""

from __future__ import annotations

from prefect import flow

from schemas.references import Package, QualityReport, Run
from tasks.gate import judge_package
from tasks.showing import shown


@shown(customer="{package.customer}")
@flow(name="qa", flow_run_name="qa-{package.customer}-{package.short_id}")
def qa(package: Package, run: Run) -> QualityReport:
    """Judge every recording and the table."""
    return judge_package(package, run)
