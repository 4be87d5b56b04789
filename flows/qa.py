"""qa: `Package` → `QualityReport`, a verdict per clip and one for the package."""

from __future__ import annotations

from prefect import flow

from schemas.references import Package, QualityReport, Run
from tasks.gate import judge_package, portions_to_hear
from tasks.heard import hear_portion
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner


@shown(customer="{package.customer}")
@flow(name="qa", flow_run_name="qa-{package.customer}-{package.short_id}", task_runner=ChosenRunner)
def qa(package: Package, run: Run) -> QualityReport:
    """Judge every recording and the table."""
    portions = portions_to_hear(package, run)
    spread(hear_portion, portions, package, run)
    return judge_package(package, run, portions)
