"""How long steps tell how far they are, without knowing who listens.

A step opens `track("Judging recordings", total=175)` and calls what it gets with the number done. Nobody listens by
default; the command line listens with bars, and a flow that runs with a Prefect server with artifacts of its UI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar

Advance = Callable[[int], None]
Listener = Callable[[str, int], AbstractContextManager[Advance]]

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def track(description: str, *, total: int) -> Iterator[Advance]:
    """Open a progress report over `total` things; call what the context gives with the number newly done."""
    with ExitStack() as stack:
        advances = [stack.enter_context(listener(description, total)) for listener in _listeners.get()]

        def advance(done: int) -> None:
            for each in advances:
                each(done)

        yield advance


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send all progress reports to `listener` too, for as long as the context lasts; one that listens already once."""
    heard_by = _listeners.get()
    token = _listeners.set(heard_by if listener in heard_by else (*heard_by, listener))
    try:
        yield
    finally:
        _listeners.reset(token)
