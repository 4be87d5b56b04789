"""Look at a folder again and again until somebody says stop.

Ctrl-C and SIGTERM end the loop between two batches, with everything filed; a second one ends the process at once, which
loses nothing either. Whatever fails on purpose (a store, a server, an asset without a champion) is named once and tried
again at the next look.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from schemas.errors import AlpError
from tasks.watching import Watcher

QUIET_S = 60.0
"""Without a new recording for this long, that is said once: a recorder may have died."""

Say = Callable[[str, str | None], None]


def keep_watching(
    watcher: Watcher,
    *,
    poll_s: float,
    say: Say,
    say_once: Callable[[str], None],
    after_look: Callable[[], None] = lambda: None,
    quiet_s: float = QUIET_S,
) -> None:
    """Look every `poll_s` seconds until SIGINT or SIGTERM; `after_look`: once people were told of what it brought."""
    heard_at, is_quiet = time.monotonic(), False
    with _stop_signals() as stop:
        while not stop.is_set():
            found = _look(watcher, stop, say_once)
            if found:
                heard_at, is_quiet = time.monotonic(), False
            elif not is_quiet and time.monotonic() - heard_at >= quiet_s:
                is_quiet = True
                say(f"No new recording for {quiet_s:g} s; still listening", "yellow")
            after_look()
            stop.wait(poll_s)
    say("Stopped", "dim")


def _look(watcher: Watcher, stop: threading.Event, say_once: Callable[[str], None]) -> int:
    """One look, whatever fails in it; the number of files that were read."""
    try:
        found = watcher.look(should_stop=stop.is_set)
        watcher.tell_people()
    except AlpError as error:
        say_once(f"{error}; it is tried again")
        return 0
    return found


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second does what it always does."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
