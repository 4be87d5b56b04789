"""Progress of long steps in the Prefect UI: a bar among the artifacts of the step's run.

A step pays for it with an addition: a thread of its own tells the server, seldom, of what has been counted so far. A
step that is over soon has no bar; where there is no server that stays, nobody is told; and a server that does not
answer keeps no step waiting.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.logging import get_logger

from tasks.events import server_url, without_credentials
from tasks.progress import Advance

_FIRST_S, _EVERY_S = 3.0, 5.0
"""A step has to last so long before it gets a bar, which is then drawn anew so often."""
_PATIENCE_S = 2.0
"""How long a step that is over waits for its bar to be drawn a last time."""


@contextmanager
def progress_artifact(description: str, total: int) -> Iterator[Advance]:
    """Listen to `tasks.progress.track` with a progress artifact."""
    if server_url() is None or TaskRunContext.get() is None or total < 1:
        yield lambda done: None
        return
    bar = _Bar(description, total)
    # In this context, which holds the run that the artifact belongs to and the server's address.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(bar.draw_until_over,), daemon=True)
    thread.start()
    try:
        yield bar.advance
        bar.done = total
    finally:
        bar.over.set()
        thread.join(_PATIENCE_S)


class _Bar:
    """What has been counted, and the artifact that tells of it."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total = description, total
        self._artifact: UUID | None = None
        self.done = 0
        self.over = threading.Event()

    def advance(self, done: int) -> None:
        self.done += done

    def draw_until_over(self) -> None:
        """Draw the bar once the step has lasted a while, then every few seconds, and when it is over."""
        is_over = self.over.wait(_FIRST_S)
        try:
            while not is_over:
                self._draw()
                is_over = self.over.wait(_EVERY_S)
            if self._artifact is not None:
                self._draw()
        except Exception as error:  # a bar is worth no step's failure, whatever befalls it
            why = without_credentials(f"{type(error).__name__}: {error}")
            get_logger("alp").warning(f"The progress of {self._description!r} is no longer shown: {why}")

    def _draw(self) -> None:
        done = min(self.done, self._total)
        share, told = 100 * done / self._total, f"{self._description}: {done:,} of {self._total:,}"
        if self._artifact is None:
            self._artifact = create_progress_artifact(share, description=told)
        else:
            update_progress_artifact(self._artifact, share, description=told)
