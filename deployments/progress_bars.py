"""Bars on the terminal for long work: what is done, at what rate, how long it will take.

Steps name their work in English (`tasks.progress.track`); the bars say it in the language asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from deployments.logs import wants_json
from schemas.settings import Language
from tasks.progress import Advance, listening
from tasks.report.words import Words


class _RateColumn(ProgressColumn):
    """Things done a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bars(console: Console, language: Language = "en") -> Iterator[None]:
    """Show every `tasks.progress.track` of this process as a bar on `console`, unless that is to hold JSON lines."""
    say = Words(language)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=wants_json(os.environ)) as bars:

        @contextmanager
        def show(description: str, total: int) -> Iterator[Advance]:
            bar = bars.add_task(escape(say.translate(description).text), total=total)
            yield lambda done: bars.advance(bar, done)
            bars.update(bar, completed=total)
            bars.stop_task(bar)

        with listening(show):
            yield
