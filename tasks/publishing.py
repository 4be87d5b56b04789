"""Hand a run over: metrics, artifacts of the Prefect UI, and last the manifest."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Sequence
from typing import get_args

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import get_run_context

from engines.metrics import AssetMetrics, macro
from schemas.problems import Problem
from schemas.references import (
    AssetResult,
    Calibrated,
    Dataset,
    OnboardResult,
    Package,
    QualityReport,
    Run,
    Selection,
    Stage,
    Verdict,
)
from schemas.rules import breaks_only_the_contract
from tasks import keys
from tasks.engine_names import engine_name
from tasks.gate import still_stands
from tasks.logbook import note
from tasks.report.conclusion import Conclusion, name_measured, name_verdict, read_conclusion
from tasks.report.words import Words
from tasks.runs import Manifest, checksums, manifest_key, versions
from tasks.store import ObjectStore, open_store

SHOWN_PROBLEMS, SHOWN_CLIPS = 500, 200
"""Rows of a table in the Prefect UI; the report and `scores.csv` have them all."""


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
    return manifest.model_copy(update={"result": manifest.result.model_copy(update={"reused": get_args(Stage)})})


def _all_there(store: ObjectStore, manifest: Manifest) -> bool:
    """Whether nothing the run handed over was deleted since."""
    run = manifest.run
    homes = [keys.asset_id(asset.machine_type, asset.section_id) for asset in manifest.result.assets]
    living = [keys.asset(run.customer, home, name) for home in homes for name in ("champion.json", "ledger.parquet")]
    return all(store.exists(key) for key in (*manifest.objects, *living))


@task(name="Write metrics.json", task_run_name="Write metrics.json")
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


@task(name="Publish artifacts", task_run_name="Publish the summary of {manifest.package.name}")
def publish_artifacts(manifest: Manifest) -> None:
    """A summary and three tables for the Prefect UI."""
    package, quality, run = manifest.package, manifest.quality, manifest.run
    store = open_store(run.store)
    report = store.location(keys.run(run.customer, run.run_id, "report.html"))
    create_markdown_artifact(
        key=f"summary-{package.short_id}", markdown=_summary(manifest, report, store), description=package.name
    )
    if quality.problems:
        create_table_artifact(
            key=f"problems-{package.short_id}",
            table=[_problem_row(problem) for problem in quality.problems[:SHOWN_PROBLEMS]],
            description=f"What the quality gate says of {package.name} (at most {SHOWN_PROBLEMS})",
        )
    if manifest.result.assets:
        create_table_artifact(
            key=f"selection-{package.short_id}",
            table=[row for asset in manifest.result.assets for row in _selection_rows(store, asset, run)],
            description="Which engine, and why",
        )
        create_table_artifact(
            key=f"verdicts-{package.short_id}",
            table=[row for asset in manifest.result.assets for row in _verdict_rows(store, asset, run)],
            description=f"Test clips, the most severe first (at most {SHOWN_CLIPS} an asset)",
        )


def _problem_row(problem: Problem) -> dict[str, str]:
    return {
        "severity": problem.severity,
        "place": problem.place,
        "value": problem.value or "",
        "what": problem.message,
        "remedy": problem.remedy,
    }


def _selection_rows(store: ObjectStore, asset: AssetResult, run: Run) -> list[dict[str, object]]:
    asset_id = keys.asset_id(asset.machine_type, asset.section_id)
    selection = store.get_model(keys.run(run.customer, run.run_id, f"{asset_id}/selection.json"), Selection)
    return [{"asset": asset_id, **criterion.model_dump(exclude={"reused"})} for criterion in selection.criteria]


def _verdict_rows(store: ObjectStore, asset: AssetResult, run: Run) -> list[dict[str, object]]:
    """Clips as `scores.csv` has them, so that the numbers are the same in both."""
    asset_id = keys.asset_id(asset.machine_type, asset.section_id)
    table = pd.read_csv(
        io.BytesIO(store.get(keys.run(run.customer, run.run_id, f"{asset_id}/scores.csv"))),
        dtype=dict.fromkeys(("clip_id", "label", "notes"), "string"),
    )
    shown = table.sort_values(["severity", "clip_id"], ascending=[False, True]).head(SHOWN_CLIPS)
    columns = ["clip_id", "label", "severity", "grade", "decision", "state", "notes", "score", "p_value"]
    return [
        {"asset": asset_id} | {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in shown[columns].to_dict("records")
    ]


def _summary(manifest: Manifest, report: str, store: ObjectStore) -> str:
    quality, assets = manifest.quality, manifest.result.assets
    head = [
        f"# {html.escape(manifest.package.name, quote=False)}: {quality.verdict.replace('_', ' ')}",
        "",
        f"{quality.clips} clips: {quality.ok} good, {quality.warned} with a note, {quality.quarantined} held back"
        + (f", {quality.broken} with a fault in the table or the package." if quality.broken else ".")
        + (" Synthetic: proves the path, not the performance." if quality.synthetic else ""),
        "",
    ]
    table = [
        "| asset | verdict | engine | normals | measured |"
        f" false alarms a day, at {_cadence(manifest.run)} | test clips | highest severity |",
        "|---|---|---|---|---|---|---|---|",
        *(_summary_row(asset, read_conclusion(store, asset)) for asset in assets),
    ]
    remedies = (
        [f"- {html.escape(str(problem), quote=False)}" for problem in quality.problems[:10]]
        if quality.verdict is Verdict.REJECTED
        else []
    )
    return "\n".join([*head, *(table if assets else []), *remedies, "", f"Report: `{report}`"])


def _summary_row(asset: AssetResult, concluded: Conclusion | None) -> str:
    say = Words("en")
    verdict, measured = (
        ("–", "–") if concluded is None else (name_verdict(concluded, say), name_measured(concluded, say))
    )
    rate = "–" if asset.alarms_per_day is None else f"{asset.alarms_per_day:.2g}"
    rate = f"at most {rate} (certified)" if asset.certified else f"about {rate} (not certified)"
    grades = ", ".join(f"{count} {name}" for name, count in (asset.grades or {}).items()) or "–"
    severity = "–" if asset.highest_severity is None else f"{asset.highest_severity:.1f}"
    return (
        f"| {asset.machine_type} {asset.section_id} | {verdict} | {engine_name(asset.engine)} ({asset.encoder}) |"
        f" {asset.n_target} | {measured} | {rate} | {grades} | {severity} |"
    )


def _cadence(run: Run) -> str:
    """What every rate stands on."""
    return f"{run.settings.alarm.clips_per_day:,.6g} recordings a day, none longer than the normals"


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
    """Write the manifest, which makes the run finished."""
    store = open_store(run.store)
    store.delete(manifest_key(run))
    result = describe_result(quality, [asset.result for asset in assets], reused, run)
    manifest = Manifest(
        run=run,
        package=package,
        quality=quality,
        result=result,
        prefect_run_id=_prefect_run_id(),
        versions=versions(),
        objects=checksums(store, f"runs/{run.customer}/{run.run_id}/"),
    )
    store.put_model(manifest_key(run), manifest)
    return manifest


def _prefect_run_id() -> str | None:
    context = get_run_context()
    return str(context.task_run.flow_run_id) if hasattr(context, "task_run") else None
