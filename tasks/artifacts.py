"""What the Prefect UI shows of an onboarding: a summary, and tables of the problems, the selection and the scores.

The summary is written in the run's language; the tables are an operator's, and English.

The summary links every page of the run, one by one: below `ALP_LINK_BASE` where that is set; else in a bucket by a link
that is signed and expires, and in a folder by its path. A signed link opens one object and no other, so the links of
pages to each other lead nowhere from there. It opens for whoever has it: it stands in the artifact and in no log.
"""

from __future__ import annotations

import html
import io
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from schemas.problems import Problem
from schemas.references import AssetResult, Run, Selection, Verdict
from schemas.settings import Environment
from tasks import keys
from tasks.expectations import PAGE as DATA_DOCS
from tasks.report.conclusion import Conclusion, name_measured, name_verdict, read_conclusion
from tasks.report.words import Words
from tasks.runs import Manifest
from tasks.store import ObjectStore, open_store

SHOWN_PROBLEMS, SHOWN_CLIPS, SHOWN_ROWS = 500, 200, 1000
"""Rows of a table: problems; clips of one asset, and of all; the report and `scores.csv` have every one."""
_NAMED_PROBLEMS = 10
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")


@task(name="Publish artifacts", task_run_name="Publish the summary of {manifest.package.name}")
def publish_artifacts(manifest: Manifest) -> None:
    """File a summary and up to three tables with the run that is under way."""
    package, quality, run = manifest.package, manifest.quality, manifest.run
    store, assets = open_store(run.store), manifest.result.assets
    named = f"{run.customer}-{package.short_id}"
    create_markdown_artifact(
        key=f"summary-{named}", markdown=summarize(manifest, store), description=f"{package.name} of {run.customer}"
    )
    if quality.problems:
        create_table_artifact(
            key=f"problems-{named}",
            table=[_problem_row(problem) for problem in quality.problems[:SHOWN_PROBLEMS]],
            description=f"What the quality gate says of {package.name} (at most {SHOWN_PROBLEMS})",
        )
    if assets:
        create_table_artifact(
            key=f"selection-{named}",
            table=[row for asset in assets for row in _selection_rows(store, asset, run)],
            description="Which engine, and why",
        )
        most = max(1, min(SHOWN_CLIPS, SHOWN_ROWS // len(assets)))
        create_table_artifact(
            key=f"scores-{named}",
            table=[row for asset in assets for row in _score_rows(store, asset, run, most=most)],
            description=f"Test clips, the most severe first (at most {most} an asset)",
        )


# --- tables -----------------------------------------------------------------------------------------------------------


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
    # What is read first stands where a narrow window still shows it.
    first = ("engine", "sentence", "value", "limit", "met")
    facts = [criterion.model_dump(exclude={"reused"}) for criterion in selection.criteria]
    return [{"asset": asset_id} | {name: each[name] for name in first} | each for each in facts]


def _score_rows(store: ObjectStore, asset: AssetResult, run: Run, *, most: int) -> list[dict[str, object]]:
    """Clips as `scores.csv` has them, so that the numbers are the same in both."""
    asset_id = keys.asset_id(asset.machine_type, asset.section_id)
    table = pd.read_csv(
        io.BytesIO(store.get(keys.run(run.customer, run.run_id, f"{asset_id}/scores.csv"))),
        dtype=dict.fromkeys(("clip_id", "label", "notes"), "string"),
    )
    shown = table.sort_values(["severity", "clip_id"], ascending=[False, True]).head(most)
    columns = ["clip_id", "label", "severity", "grade", "decision", "state", "notes", "score", "p_value"]
    return [
        {"asset": asset_id} | {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in shown[columns].to_dict("records")
    ]


# --- summary ----------------------------------------------------------------------------------------------------------


def summarize(manifest: Manifest, store: ObjectStore) -> str:
    """The summary as markdown, in the run's language: lists, since a table of sentences fits no window."""
    run, quality = manifest.run, manifest.quality
    say, links = Words(run.settings.language, run.settings.known_machine_types), _Links(store)
    verdict = say(f"terminal.verdict.{quality.verdict}")
    parts = [f"# {_plain(manifest.package.name)}: {verdict}", _counts(manifest, say)]
    for asset in manifest.result.assets:
        lines = _machine_lines(asset, read_conclusion(store, asset), run, say)
        own = [links.link(name, key) for name, key in _pages_of_machine(asset, manifest, say)]
        parts.append(_list_under(say.machine(asset.machine_type, asset.section_id), [*lines, *own]))
    if quality.verdict is Verdict.REJECTED:
        told = [_tell(problem, say) for problem in quality.problems[:_NAMED_PROBLEMS]]
        parts.append(_list_under(say("summary.mend"), told))
    pages = [links.link(name, key) for name, key in _pages_of_package(manifest, store, say)]
    parts.append(_list_under(say("summary.pages"), pages))
    if links.until is not None:
        command = f"alp store link {keys.run(run.customer, run.run_id, 'report.html')} --store {shlex.quote(store.url)}"
        parts.append(say("summary.until", when=f"{links.until:%Y-%m-%d %H:%M} UTC", command=command))
    return "\n\n".join(parts) + "\n"


def _counts(manifest: Manifest, say: Words) -> str:
    quality = manifest.quality
    counts = say(
        "terminal.clips", clips=quality.clips, ok=quality.ok, warned=quality.warned, quarantined=quality.quarantined
    )
    broken = f", {say('terminal.clips.broken', n=quality.broken)}" if quality.broken else ""
    return f"{counts}{broken}." + (f" {say('summary.synthetic')}" if quality.synthetic else "")


def _machine_lines(asset: AssetResult, concluded: Conclusion | None, run: Run, say: Words) -> list[str]:
    """What a run concluded of one machine, a sentence a line."""
    lines = [] if concluded is None else [f"**{name_verdict(concluded, say)}**", name_measured(concluded, say)]
    if asset.alarms_per_day is not None:
        rate, clips = f"{asset.alarms_per_day:.2g}", f"{run.settings.alarm.clips_per_day:,.6g}"
        lines.append(say(f"summary.rate.{'certified' if asset.certified else 'modelled'}", rate=rate, clips=clips))
    if asset.grades and asset.highest_severity is not None:
        grades = ", ".join(f"{count} {name}" for name, count in asset.grades.items())
        lines.append(say("summary.grades", grades=grades, severity=f"{asset.highest_severity:.1f}"))
    engine = say("summary.engine", engine=say.engine(asset.engine), encoder=asset.encoder, n=asset.n_target)
    return [*lines, engine]


def _tell(problem: Problem, say: Words) -> str:
    """Where a problem is, what is wrong, and what to do."""
    return _plain(f"{say.place(problem)}: {say.message(problem).text} {say.remedy(problem).text}")


def _list_under(heading: str, lines: list[str]) -> str:
    return "\n".join([f"## {_plain(heading)}", "", *(f"- {line}" for line in lines)])


def _plain(text: str) -> str:
    """What others named, as text that markdown shows as it stands: on one line, no markup, no HTML."""
    return html.escape(_MARKDOWN.sub(r"\\\1", " ".join(text.split())), quote=False)


# --- links ------------------------------------------------------------------------------------------------------------


def _pages_of_machine(asset: AssetResult, manifest: Manifest, say: Words) -> Iterator[tuple[str, str]]:
    """Name and key of a machine's page and of its scores."""
    run, machine = manifest.run, say.machine(asset.machine_type, asset.section_id)
    for what, name in (("report", "report.html"), ("scores", "scores.csv")):
        key = keys.run(run.customer, run.run_id, f"{keys.asset_id(asset.machine_type, asset.section_id)}/{name}")
        if key in manifest.objects:
            yield say(f"terminal.file.{what}", asset=machine), key


def _pages_of_package(manifest: Manifest, store: ObjectStore, say: Words) -> Iterator[tuple[str, str]]:
    """Name and key of the pages that are of no one machine."""
    run = manifest.run
    yield say("terminal.package_page"), keys.run(run.customer, run.run_id, "report.html")
    if (docs := keys.run(run.customer, run.run_id, DATA_DOCS)) in manifest.objects:
        yield say("summary.data_docs"), docs
    if manifest.result.assets and store.exists(fleet := keys.fleet(run.customer)):
        yield say("summary.fleet", customer=run.customer), fleet


class _Links:
    """Makes links to objects of a store; `until` says when they end, None where they do not."""

    def __init__(self, store: ObjectStore) -> None:
        environment = Environment()
        self._store, self._base = store, environment.link_base
        self._holds = timedelta(hours=environment.link_hours)
        is_signed = self._base is None and store.url.startswith("s3:")
        self.until = datetime.now(UTC) + self._holds if is_signed else None

    def link(self, name: str, key: str) -> str:
        """An object as an entry of a list in markdown."""
        if self._base is not None:
            return f"[{_plain(name)}](<{self._base.rstrip('/')}/{key}>)"
        if self.until is not None:
            return f"[{_plain(name)}](<{self._store.presigned_url(key, expires_s=int(self._holds.total_seconds()))}>)"
        return f"{_plain(name)}: `{self._store.location(key)}`"
