"""Clips side by side on several threads, each with one thread of torch.

Torch splits a sum over its own threads by their number, and with it changes the last bit. One thread a clip keeps a
clip's numbers the same on any number of workers, and uses the cores better for images of this size.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from engines.base import Progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_most: int | None = None


def threads_at_hand() -> int:
    """Threads that work over clips takes where nobody says how many: one a core, or what `share_cores` left."""
    return _most or os.cpu_count() or 1


def share_cores(threads: int | None) -> None:
    """Let this process take so many threads from now on, where others beside it work too; None: one a core again."""
    global _most
    _most = threads


class Workers:
    """A pool of threads, to be used in a `with` statement."""

    def __init__(self, count: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(count or threads_at_hand(), "clips", initializer=_pin_torch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Results in the order of `items`; the first error in that order is raised."""
        return list(self._pool.map(function, items))


def _pin_torch() -> None:
    import torch

    # The number belongs to the calling thread, so other threads of the process keep theirs.
    torch.set_num_threads(1)


class WorkDone:
    """Tells `progress` of whole clips in step with the work, where a clip is worked on many times."""

    def __init__(self, progress: Progress | None, *, clips: int, work: int) -> None:
        self._progress, self._clips, self._work = progress, clips, work
        self._done = self._told = 0
        self._lock = threading.Lock()

    def add(self, work: int) -> None:
        """So many units of work are done since the last call."""
        with self._lock:
            self._done += work
            clips = self._done * self._clips // self._work
            if self._progress and clips > self._told:
                self._progress(clips - self._told)
            self._told = clips
