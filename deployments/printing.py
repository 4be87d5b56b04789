"""What the command line says, as a person reads it and as one JSON document.

Sentences come from tasks/report/texts.yaml, so that the terminal and the pages say the same in either language.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.onboarding import Outcome
from schemas.errors import AlpError, LabelsError, PackageError
from schemas.problems import Problem, Severity, as_runs
from schemas.references import AssetResult, QualityReport, Verdict
from schemas.rules import breaks_only_the_contract, visible
from tasks.report.conclusion import name_measured, name_ringing, name_verdict
from tasks.report.words import Words, rate, rows_text

_SHOWN_ERRORS, _SHOWN_EXAMPLES = 40, 3
_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.REJECT: "red", Severity.WARN: "yellow"}
_VERDICT_STYLES = {
    Verdict.ACCEPTED: "green",
    Verdict.ACCEPTED_WITH_QUARANTINE: "yellow",
    Verdict.REJECTED: "bold red",
}
_TONE_STYLES = {"good": "green", "caution": "yellow", "bad": "bold red"}


def plain(text: str) -> str:
    """Text that no terminal acts on, whatever a name in it holds; its line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def shown(text: str) -> str:
    """The same for a console of rich, which takes brackets for markup."""
    return escape(plain(text))


def print_json(document: dict[str, Any]) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def error_document(error: AlpError, say: Words) -> dict[str, Any]:
    """What `--json` prints where a command ended in an error."""
    problems = error.problems if isinstance(error, PackageError | LabelsError) else ()
    return {
        "error": {
            "type": type(error).__name__,
            "message": plain(say.translate(str(error)).text),
            "exit_code": error.exit_code,
            "problems": [say.retell(problem).model_dump(mode="json") for problem in problems],
        }
    }


def print_error(console: Console, error: AlpError, say: Words) -> None:
    """An error that ALP raised on purpose; of one that is made of problems, the problems."""
    if isinstance(error, PackageError | LabelsError) and error.problems:
        print_problems(console, error.problems, say)
        return
    sentence = shown(say.translate(str(error)).text)
    console.print(f"[bold red]{say('terminal.error')}[/] {sentence}", highlight=False, soft_wrap=True)


def check_document(package: Path, report: QualityReport, quality: pd.DataFrame, say: Words) -> dict[str, Any]:
    """What `alp check --json` prints."""
    held_back, broken = quality["verdict"] == "reject", quality["reasons"].map(breaks_only_the_contract).astype(bool)
    return {
        "package": report.package_id,
        "name": visible(package.name),
        "verdict": report.verdict,
        "clips": report.clips,
        "ok": report.ok,
        "warned": report.warned,
        "quarantined": quality.loc[held_back & ~broken, "clip_id"].astype(str).tolist(),
        "broken": quality.loc[broken, "clip_id"].astype(str).tolist(),
        "assets": [asset.model_dump(mode="json") for asset in report.assets],
        "problems": [say.retell(problem).model_dump(mode="json") for problem in report.problems],
    }


def print_check(console: Console, name: str, report: QualityReport, say: Words) -> None:
    """The quality gate's findings, the worst first."""
    print_problems(console, report.problems, say)
    counts = say(
        "terminal.clips", clips=report.clips, ok=report.ok, warned=report.warned, quarantined=report.quarantined
    )
    if report.broken:
        counts += ", " + say("terminal.clips.broken", n=report.broken)
    verdict = f"[{_VERDICT_STYLES[report.verdict]}]{say(f'terminal.verdict.{report.verdict}')}[/]"
    console.print(f"{shown(name)}: {verdict} · {counts}", highlight=False, soft_wrap=True)
    for asset in report.assets:
        counts = say(
            "terminal.intake",
            target=asset.target,
            source=asset.source,
            test=asset.test,
            supplemental=asset.supplemental,
        )
        name = say.machine(asset.machine_type, asset.section_id)
        console.print(f"  {shown(name)}: {counts}", highlight=False, soft_wrap=True)


def print_problems(console: Console, problems: Sequence[Problem], say: Words) -> None:
    """Problems with their places, what is wrong and what to do, the worst first; like ones together."""
    groups: dict[tuple[Severity, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.rule, problem.remedy), []).append(problem)
    order = list(Severity)
    for (severity, *_), alike in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        # What must be mended is named place by place; of the rest a few examples tell enough.
        shown = alike[: _SHOWN_ERRORS if severity is Severity.ERROR else _SHOWN_EXAMPLES]
        for problem in shown:
            console.print(_problem_line(problem, say), highlight=False, soft_wrap=True)
        if more := sum(problem.count for problem in alike) - len(shown):
            rows = {row for problem in alike for row in problem.rows()} - {problem.row for problem in shown}
            where = " " + say("problems.more_rows", rows=rows_text(as_runs(rows))) if rows else ""
            console.print(f"    {say('terminal.more', n=more)}.{where}", style="dim", highlight=False, soft_wrap=True)
        console.print(f"    {escape(say.remedy(alike[0]).text)}", style="dim", highlight=False, soft_wrap=True)


def _problem_line(problem: Problem, say: Words) -> str:
    """Severity, place, value and sentence. What a cell holds is `= 'x'`, what was measured of a file `(0.25 s)`; a
    sentence about a machine or the whole package says it all."""
    severity = f"[{_SEVERITY_STYLES[problem.severity]}]{say(f'terminal.severity.{problem.severity}')}[/]"
    sentence = escape(say.message(problem).text)
    if not (problem.file or problem.column):
        return f"{severity} {sentence}"
    value = ""
    if problem.value is not None:
        value = f" = '{escape(problem.value)}'" if problem.column else f" ({escape(problem.value)})"
    return f"{severity} [bold]{escape(say.place(problem))}[/]{value}: {sentence}"


def print_outcome(console: Console, outcome: Outcome, say: Words) -> None:
    """How an onboarding ended, asset by asset, and where its files lie."""
    result = outcome.result
    print_check(console, outcome.manifest.package.name, outcome.manifest.quality, say)
    if result.assets:
        console.print(_asset_table(result.assets, say))
        _print_conclusions(console, outcome, say)
    if result.reused:
        console.print(
            say("terminal.reused", stages=", ".join(map(say.stage, result.reused))), style="dim", soft_wrap=True
        )
    if outcome.dry_run:
        console.print(say("terminal.dry_run"))
        return
    run = say("terminal.run", run=result.run_id, customer=result.customer)
    console.print(f"\n{run}", highlight=False)
    if outcome.package_page is not None:
        _print_path(console, say("terminal.package_page"), outcome.package_page)
    for asset in result.assets:
        machine = say.machine(asset.machine_type, asset.section_id)
        for what, path in outcome.files_of(asset).items():
            _print_path(console, say(f"terminal.file.{what}", asset=machine), path)


def _print_path(console: Console, name: str, path: str) -> None:
    console.print(f"  {shown(name)}: {shown(path)}", highlight=False, soft_wrap=True)


def _print_conclusions(console: Console, outcome: Outcome, say: Words) -> None:
    """What each machine's page says first, in its words; figures with what they rest on."""
    if outcome.manifest.quality.synthetic:
        console.print(f"\n[yellow]{shown(say('synthetic.title'))}[/]", highlight=False, soft_wrap=True)
    for asset in outcome.result.assets:
        concluded = outcome.conclusion_of(asset)
        if concluded is None:
            continue
        machine = shown(say.machine(asset.machine_type, asset.section_id))
        verdict = f"[{_TONE_STYLES[concluded.tone]}]{name_verdict(concluded, say)}[/]"
        lines = [f"\n{machine}: {verdict}", name_ringing(concluded, say), name_measured(concluded, say)]
        if asset.alarms_per_day is not None and asset.clips_per_day is not None:
            sure, clips = say(f"terminal.sure.{concluded.sureness}"), f"{asset.clips_per_day:,.6g}"
            lines.append(say("terminal.rate", rate=rate(asset.alarms_per_day), sure=sure, clips=clips))
        console.print("\n  ".join(lines), highlight=False, soft_wrap=True)


def _asset_table(assets: tuple[AssetResult, ...], say: Words) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("asset", "engine", "normals", "tests"):
        table.add_column(say(f"terminal.table.{heading}"))
    for asset in assets:
        table.add_row(
            shown(say.machine(asset.machine_type, asset.section_id)),
            f"{say.engine(asset.engine)} ({asset.encoder})",
            str(asset.n_target),
            str(asset.n_test),
        )
    return table
