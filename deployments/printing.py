"""What the command line says, as a person reads it and as one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.onboarding import Outcome
from schemas.errors import AlpError, PackageError
from schemas.problems import Problem, Severity
from schemas.references import AssetResult, QualityReport, Verdict
from tasks.engine_names import engine_name

_SHOWN_ERRORS, _SHOWN_EXAMPLES = 40, 3
_SEVERITY_WORDS = {
    Severity.ERROR: "[bold red]must be mended[/]",
    Severity.REJECT: "[red]held back[/]",
    Severity.WARN: "[yellow]note[/]",
}
_VERDICT_WORDS = {
    Verdict.ACCEPTED: "[green]accepted[/]",
    Verdict.ACCEPTED_WITH_QUARANTINE: "[yellow]accepted, with clips held back[/]",
    Verdict.REJECTED: "[bold red]rejected[/]",
}


def print_json(document: dict[str, Any]) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def error_document(error: AlpError) -> dict[str, Any]:
    """What `--json` prints where a command ended in an error."""
    problems = error.problems if isinstance(error, PackageError) else ()
    return {
        "error": {
            "type": type(error).__name__,
            "message": str(error),
            "exit_code": error.exit_code,
            "problems": [problem.model_dump(mode="json") for problem in problems],
        }
    }


def check_document(package: Path, report: QualityReport, quality: pd.DataFrame) -> dict[str, Any]:
    """What `alp check --json` prints."""
    return {
        "package": report.package_id,
        "name": package.name,
        "verdict": report.verdict,
        "clips": report.clips,
        "ok": report.ok,
        "warned": report.warned,
        "quarantined": quality.loc[quality["verdict"] == "reject", "clip_id"].astype(str).tolist(),
        "assets": [asset.model_dump(mode="json") for asset in report.assets],
        "problems": [problem.model_dump(mode="json") for problem in report.problems],
    }


def print_check(console: Console, name: str, report: QualityReport) -> None:
    """The quality gate's findings, the worst first."""
    print_problems(console, report.problems)
    console.print(
        f"{escape(name)}: {_VERDICT_WORDS[report.verdict]} · {report.clips} clips: {report.ok} good,"
        f" {report.warned} with a note, {report.quarantined} held back",
        highlight=False,
    )
    for asset in report.assets:
        console.print(
            f"  {escape(asset.machine_type)} {escape(asset.section_id)}: {asset.target} target normals,"
            f" {asset.source} source normals, {asset.test} tests, {asset.supplemental} supplemental",
            highlight=False,
            soft_wrap=True,
        )


def print_problems(console: Console, problems: tuple[Problem, ...]) -> None:
    """Problems with their places, what is wrong and what to do, the worst first; like ones together."""
    groups: dict[tuple[Severity, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.rule, problem.remedy), []).append(problem)
    order = list(Severity)
    for (severity, _, remedy), alike in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        # What must be mended is named place by place; of the rest a few examples tell enough.
        shown = alike[: _SHOWN_ERRORS if severity is Severity.ERROR else _SHOWN_EXAMPLES]
        for problem in shown:
            console.print(
                f"{_SEVERITY_WORDS[severity]} {_place(problem)}: {escape(problem.message)}",
                highlight=False,
                soft_wrap=True,
            )
        if len(alike) > len(shown):
            console.print(f"    … and {len(alike) - len(shown)} more like this; --json names all", style="dim")
        console.print(f"    {escape(remedy)}", style="dim", highlight=False, soft_wrap=True)


def _place(problem: Problem) -> str:
    value = f" = {escape(repr(problem.value))}" if problem.value is not None else ""
    return f"[bold]{escape(problem.place)}[/]{value}" if problem.place else "the package"


def print_outcome(console: Console, outcome: Outcome) -> None:
    """How an onboarding ended, asset by asset, and where its files lie."""
    result = outcome.result
    print_check(console, outcome.manifest.package.name, outcome.manifest.quality)
    if result.assets:
        console.print(_asset_table(result.assets, dry_run=outcome.dry_run))
    if result.reused:
        console.print(f"Reused, not computed again: {', '.join(result.reused)}", style="dim", soft_wrap=True)
    if outcome.dry_run:
        console.print("Dry run: nothing was filed")
        return
    console.print(f"\nRun {result.run_id} of customer {result.customer}", highlight=False)
    if outcome.package_page is not None:
        _print_path(console, "report of the package", outcome.package_page)
    for asset in result.assets:
        for what, path in outcome.files_of(asset).items():
            _print_path(console, f"{what} of {asset.machine_type} {asset.section_id}", path)


def _print_path(console: Console, name: str, path: str) -> None:
    console.print(f"  {escape(name)}: {escape(path)}", highlight=False, soft_wrap=True)


def _asset_table(assets: tuple[AssetResult, ...], *, dry_run: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("asset", "engine", "normals", "tests"):
        table.add_column(heading)
    results = () if dry_run else ("AUC", "threshold", "false alarms a day")
    for heading in results:
        table.add_column(heading, justify="right")
    for asset in assets:
        line = [
            f"{escape(asset.machine_type)} {escape(asset.section_id)}",
            f"{engine_name(asset.engine)} ({asset.encoder})",
            str(asset.n_target),
            str(asset.n_test),
        ]
        table.add_row(*line, *([] if dry_run else _result_cells(asset)))
    return table


def _result_cells(asset: AssetResult) -> list[str]:
    how = "certified" if asset.certified else "modelled"
    return [
        "–" if asset.auc is None else f"{asset.auc:.3f}",
        f"{asset.threshold:.4f}",
        f"{asset.alarms_per_day:.2g} ({how})",
    ]
