"""How long steps tell how far they are, without knowing who listens.

A step opens `track("Judging recordings", total=175)` and calls what it gets with the number done. Nobody
listens by default; the command line listens with bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Advance = Callable[[int], None]
Listener = Callable[[str, int], AbstractContextManager[Advance]]


def _say_nothing(description: str, total: int) -> AbstractContextManager[Advance]:
    return nullcontext(lambda done: None)


_listener: Listener = _say_nothing


def track(description: str, *, total: int) -> AbstractContextManager[Advance]:
    """Open a progress report over `total` things; call what the context gives with the number newly done."""
    return _listener(description, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send all progress reports of this process to `listener` for as long as the context lasts."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
