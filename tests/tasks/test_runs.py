"""Runs that were cut off: what lies there of them, and when it is taken away."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

import tasks.runs
from tasks.runs import forget_half_runs, half_runs
from tasks.store import FolderStore

DONE, CUT_OFF, UNDER_WAY, OTHER = (f"{number:016x}" for number in range(4))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    found = FolderStore(tmp_path)
    for run_id in (DONE, CUT_OFF):
        found.put(f"runs/acme/{run_id}/fan-00/selection.json", b"{}")
    found.put(f"runs/acme/{DONE}/manifest.json", b"{}")
    found.put(f"runs/other/{OTHER}/quality.json", b"{}")
    return found


def test_a_run_without_a_manifest_is_half(store: FolderStore) -> None:
    assert set(half_runs(store, "acme")) == {CUT_OFF}


def test_what_a_run_left_that_was_cut_off_goes_after_a_day_and_nothing_else(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forget_half_runs(store, "acme") == [], "it may be under way"
    monkeypatch.setattr(tasks.runs, "STALE", timedelta(0))
    assert forget_half_runs(store, "acme") == [CUT_OFF]
    assert {key.split("/")[2] for key in store.list_keys("runs/")} == {DONE, OTHER}


def test_one_object_that_was_written_lately_keeps_a_whole_run(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = store.stat(f"runs/acme/{CUT_OFF}/fan-00/selection.json").modified
    store.put(f"runs/acme/{CUT_OFF}/fan-00/threshold.json", b"{}")
    later = newest.timestamp() + 1
    os.utime(store.root / f"runs/acme/{CUT_OFF}/fan-00/threshold.json", (later, later))

    class Clock:
        @staticmethod
        def now(zone: object) -> object:
            return newest + timedelta(microseconds=1)

    monkeypatch.setattr(tasks.runs, "STALE", timedelta(0))
    monkeypatch.setattr(tasks.runs, "datetime", Clock)
    assert forget_half_runs(store, "acme") == []
