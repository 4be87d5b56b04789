"""Ordered work on threads."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.parallel import ordered_map


def test_results_come_in_order_whatever_finishes_first() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        return i

    assert list(ordered_map(slow_first, range(20), workers=4)) == list(range(20))


def test_an_error_is_raised_in_its_place() -> None:
    results = ordered_map(lambda i: 1 // (3 - i), range(10), workers=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_runs_only_a_little_ahead_of_who_reads_it() -> None:
    begun = []
    lock = threading.Lock()

    def note(i: int) -> int:
        with lock:
            begun.append(i)
        return i

    results = ordered_map(note, range(100), workers=2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 6
    results.close()


def test_one_worker_needs_no_thread() -> None:
    assert (
        list(ordered_map(lambda _: threading.current_thread(), range(3), workers=1)) == [threading.current_thread()] * 3
    )
