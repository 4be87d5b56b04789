"""onboard: a package, from the upload to calibrated alarms and their report.

A package that is refused ends the run in a failed state named "Rejected", whose message is the remedy; its page
and manifest are filed like any other's. A dry run stops after `select` and leaves the store as it was.
"""

from __future__ import annotations

from prefect import State, flow

from flows.calibrate import calibrate
from flows.ingest import ingest
from flows.qa import qa
from flows.report import report
from flows.score import score
from flows.select import select
from flows.standardize import standardize
from schemas.references import Verdict
from schemas.settings import OnboardSettings
from tasks.heartbeats import own_signs_only
from tasks.outcomes import conclude, describe_plan, reused_stages, tag_machines
from tasks.publishing import find_finished_run
from tasks.runs import Manifest, name_run
from tasks.showing import label_flow_run, shown
from tasks.spreading import spreading
from tasks.store import working_store
from tasks.task_runner import ChosenRunner


@shown(customer="{customer}")
@flow(name="onboard", flow_run_name="onboard-{customer}", task_runner=ChosenRunner)
def onboard(
    source: str, customer: str, store: str, settings: OnboardSettings, dry_run: bool = False
) -> Manifest | State[Manifest]:
    """Turn one package into scores, thresholds and pages."""
    with working_store(store, dry_run=dry_run) as shelf, own_signs_only(), spreading(not dry_run):
        package = ingest(source, customer, shelf, settings)
        run = name_run(package, shelf, settings)
        label_flow_run(name=f"onboard-{customer}-{package.short_id}{'-dry-run' if dry_run else ''}")
        if not dry_run and (finished := find_finished_run(run)) is not None:
            return conclude(finished)
        quality = qa(package, run)
        tag_machines(quality)
        if quality.verdict is Verdict.REJECTED:
            return conclude(report(package, quality, None, [], [], run), publish=not dry_run)
        dataset = standardize(package, quality, run)
        selections = select(dataset.assets, run)
        if dry_run:
            return describe_plan(package, quality, selections, run)
        scored = score(selections, run)
        calibrated = calibrate(scored, run)
        reused = reused_stages(
            ingest=[package], qa=[quality], standardize=[dataset], select=selections, score=scored, calibrate=calibrated
        )
        return conclude(report(package, quality, dataset, calibrated, reused, run))
