"""How an onboarding ends: done, refused, or only planned."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import State
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
from tasks.artifacts import publish_artifacts
from tasks.onboarded import tell_of_onboarding
from tasks.publishing import ALL_STAGES, describe_result
from tasks.runs import REJECTED, Manifest, versions
from tasks.showing import label_flow_run


def tag_machines(quality: QualityReport) -> None:
    """Tag the flow run that is under way with the machine types that a package holds."""
    label_flow_run(*(f"machine:{asset.machine_type}" for asset in quality.assets))


def conclude(manifest: Manifest, *, publish: bool = True) -> Manifest | State[Manifest]:
    """The manifest itself, its artifacts published; of a refused package in a failed state with the remedy."""
    tag_machines(manifest.quality)
    if publish:
        publish_artifacts(manifest)
        tell_of_onboarding(manifest)
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
