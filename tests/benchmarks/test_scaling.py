"""The scaling benchmark compares the same work by one worker and by two; no time is judged here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import SETUPS, STAGES, Lap
from schemas.settings import Environment


def lap(seconds: float) -> Lap:
    return Lap(seconds, dict.fromkeys(STAGES, seconds / 10), "same", 100.0)


def test_the_speed_up_is_that_of_the_fastest_laps_over_one_worker_s(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = SETUPS[0], next(setup for setup in SETUPS if setup.runner == "processes")
    scaling.show([one, two], {one.name: [lap(30), lap(20)], two.name: [lap(12.5), lap(40)]})
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith((one.name, two.name))]
    assert "20.0" in first
    assert "1.00" in first
    assert "12.5" in second
    assert "1.60" in second


def test_a_worker_of_the_speed_up_has_one_thread() -> None:
    first, *others = SETUPS
    assert (first.workers, first.threads) == (1, 1)
    assert all(setup.threads == 1 for setup in others if setup.runner != "threads")
    assert {setup.workers for setup in others if setup.threads == 1} == {2}


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_every_runner_is_one_that_can_be_chosen(setup: scaling.Setup) -> None:
    assert Environment(runner=setup.runner, workers=setup.workers, threads=setup.threads).runner == setup.runner


def test_what_was_filed_differs_by_a_byte_and_not_by_what_tells_a_run(tmp_path: Path) -> None:
    for name in ("scores.csv", "manifest.json"):
        (tmp_path / name).write_text("1")
    before = scaling.fingerprint(tmp_path)
    (tmp_path / "manifest.json").write_text("2")
    assert scaling.fingerprint(tmp_path) == before
    (tmp_path / "scores.csv").write_text("2")
    assert scaling.fingerprint(tmp_path) != before


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system tells no process's memory")
def test_the_memory_of_a_family_counts_this_process_s() -> None:
    assert scaling._family(os.getpid())[0] == os.getpid()
    assert scaling._proportional_mb(os.getpid()) > 1
