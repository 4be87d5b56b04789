"""`alp score`: what the champion says of files at hand, at once and without filing anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from deployments.options import AsJson, StoreUrl, stdout
from schemas.errors import RejectedError
from schemas.settings import Environment

if TYPE_CHECKING:
    from tasks.hearing import Ear, Heard
    from tasks.monitoring import Judgement, Watch

GRADE_STYLES = {"NORMAL": "green", "WARNING": "yellow", "CRITICAL": "bold red", "OFF": "dim", "UNKNOWN": "magenta"}

AssetName = Annotated[
    str, typer.Argument(metavar="ASSET", help="Machine type and section, such as fan-00.", show_default=False)
]
Customer = Annotated[str, typer.Option(metavar="NAME", help="Whose machine it is.")]


def score(
    asset: AssetName,
    clips: Annotated[
        list[Path],
        typer.Argument(metavar="CLIPS...", help="WAV or FLAC files, or folders of them.", show_default=False),
    ],
    customer: Customer = "local",
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Judge recordings by an asset's champion; nothing is filed and no alarm is raised."""
    from deployments.printing import print_json
    from tasks.hearing import find_files
    from tasks.monitoring import judge_files, load_watch
    from tasks.store import open_store

    files = find_files(clips)
    watch = load_watch(open_store(store or Environment().store), customer, asset)
    results = []
    if not as_json:
        print_champion(watch)
    for heard, found in judge_files(watch, _hear_files(files, watch.ear)):
        results.append((heard, found))
        if not as_json:
            print_judgement(heard, found)
    if as_json:
        print_json(_document(watch, results))
    if not any(found for _, found in results):
        raise RejectedError("none of the recordings is good enough to be judged; what is wrong with each stands above")


def _hear_files(files: list[Path], ear: Ear) -> Iterator[Heard]:
    """The files as they are heard, several at a time, in their order."""
    from tasks.parallel import ordered_map

    return ordered_map(lambda path: _hear_file(path, ear), files)


def _hear_file(path: Path, ear: Ear) -> Heard:
    from schemas.rules import report
    from tasks.hearing import hear, read_regular, refused_unread, too_large
    from tasks.plain_text import printable

    name = printable(str(path))
    try:
        data, _ = read_regular(path, most=ear.settings.archive.max_file_bytes, follow=True)
    except OSError as error:
        return refused_unread(name, report("clip.undecodable", file=name, why=f"it cannot be read: {error.strerror}"))
    if problem := too_large(name, len(data), ear.settings):
        return refused_unread(name, problem)
    return hear(name, data, ear)


def print_champion(watch: Watch, console: Console = stdout) -> None:
    """Who judges, in a line."""
    from tasks.engine_names import engine_phrase

    champion, rule = watch.champion, watch.rule
    how = "certified" if rule.certified else "not certified"
    line = (
        f"{watch.machine} of {watch.customer}: {engine_phrase(champion.engine)} ({champion.encoder}), model"
        f" {champion.version}, threshold {watch.threshold.value:.4f}; alarm: {rule.m} of {rule.window} above"
        f" {rule.clip_threshold:.4f}, {rule.alarms_per_day:.2g} false alarms a day expected ({how})"
    )
    console.print(escape(line), style="dim", highlight=False, soft_wrap=True)


def print_judgement(heard: Heard, found: Judgement | None) -> None:
    """A line a clip, or what is wrong with it and what to do."""
    if found is None:
        for problem in heard.problems:
            stdout.print(
                f"[red]refused[/]  {escape(problem.place)}: {escape(problem.message)} [dim]{escape(problem.remedy)}[/]",
                highlight=False,
                soft_wrap=True,
            )
        return
    stdout.print(judgement_line(found), highlight=False, soft_wrap=True)


def judgement_line(found: Judgement) -> str:
    """Grade, numbers, state, decision and name, aligned."""
    notes = f"  [dim]({', '.join(found.notes)})[/]" if found.notes else ""
    return (
        f"[{GRADE_STYLES[found.grade]}]{found.grade:<8}[/] severity {found.severity:5.1f}  score {found.score:.4f}"
        f"  p {found.p_value:.4f}  {found.state:<14} {found.decision:<14} {escape(found.name)}{notes}"
    )


def _document(watch: Watch, results: list[tuple[Heard, Judgement | None]]) -> dict[str, Any]:
    """What `alp score --json` prints."""
    return {
        "customer": watch.customer,
        "asset": watch.asset_id,
        "model_version": watch.champion.version,
        "engine": watch.champion.engine,
        "encoder": watch.champion.encoder,
        "threshold": watch.threshold.value,
        "alarm_rule": watch.rule.model_dump(mode="json"),
        "clips": [found.model_dump(mode="json", exclude={"exceeded"}) for _, found in results if found is not None],
        "refused": [
            {"name": heard.name, "problems": [problem.model_dump(mode="json") for problem in heard.problems]}
            for heard, found in results
            if found is None
        ],
    }
