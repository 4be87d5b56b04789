"""The benchmark of scale counts what it says it counts; no time is judged here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scale
from tasks.library import library_rows
from tasks.sharing import lenders
from tasks.store import FolderStore

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_processor_seconds_are_of_a_process_and_of_all_below_it() -> None:
    before = scale.processor_s(os.getpid())
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
    subprocess.run([sys.executable, "-c", nested], check=True)
    assert scale.processor_s(os.getpid()) - before >= 0.3


def test_a_process_that_is_gone_has_used_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert scale.processor_s(done.pid) == 0


def test_the_library_is_one_that_a_machine_may_learn_from(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    scale.fill_library(store, range(3))
    owners = lenders(store, "plant-00000")
    assert owners == {"plant-00000", "plant-00001", "plant-00002"}
    rows = library_rows(store, owners, machine_type="pump")
    assert rows["recording_id"].nunique() == 3 * scale._NORMALS
    assert "300 rows" in scale.describe_library(store)


def test_objects_are_counted_by_where_they_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("packages/a/1.flac", "packages/a/2.flac", "runs/a/manifest.json", ".writing-lock-00"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    scale.count_objects(tmp_path, 2)
    said = capsys.readouterr().out
    assert "3, 0.0 MiB" in said
    assert "packages 2" in said
