"""How an onboarding ends: done, refused, or only planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from prefect import State, get_client
from prefect.context import FlowRunContext
from prefect.states import Failed

from schemas.problems import Severity
from schemas.references import (
    AssetResult,
    Package,
    QualityReport,
    Reference,
    Run,
    Selection,
    Stage,
    Verdict,
)
from tasks.publishing import describe_result, publish_artifacts
from tasks.runs import REJECTED, Manifest, versions

ALL_STAGES: tuple[Stage, ...] = get_args(Stage)


def name_flow_run(name: str) -> None:
    """Rename the flow run that is under way, once its package has an id."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=name)


def conclude(manifest: Manifest, *, publish: bool = True) -> Manifest | State[Manifest]:
    """The manifest itself, its artifacts published; of a refused package in a failed state with the remedy."""
    if publish:
        publish_artifacts(manifest)
    if manifest.result.verdict is not Verdict.REJECTED:
        return manifest
    blocking = [problem for problem in manifest.quality.problems if problem.severity is not Severity.WARN]
    first = "; ".join(str(problem) for problem in blocking[:3])
    others = sum(problem.count for problem in blocking) - len(blocking[:3])
    more = f" … and {others} more in the report" if others else ""
    return Failed(name=REJECTED, message=f"{first}{more}", data=manifest)


def reused_stages(**stages: Sequence[Reference]) -> list[Stage]:
    """Names of the stages all of whose outputs lay in the store already."""
    return [stage for stage in ALL_STAGES if (outputs := stages.get(stage)) and all(o.reused for o in outputs)]


def describe_plan(package: Package, quality: QualityReport, selections: Sequence[Selection], run: Run) -> Manifest:
    """What a dry run found: the verdict and the engine each asset would get. Not filed."""
    return Manifest(
        run=run,
        package=package,
        quality=quality,
        result=describe_result(quality, [_planned(selection) for selection in selections], [], run),
        prefect_run_id=None,
        versions=versions(),
        objects={},
    )


def _planned(selection: Selection) -> AssetResult:
    asset = selection.asset
    return AssetResult(
        machine_type=asset.machine_type,
        section_id=asset.section_id,
        engine=selection.engine,
        encoder=selection.encoder,
        n_target=asset.target,
        n_source=selection.source.recordings,
        n_test=asset.test,
        auc=None,
        pauc=None,
        auc_source=None,
        auc_target=None,
        threshold=None,
        certified=None,
        alarms_per_day=None,
        report=None,
    )
