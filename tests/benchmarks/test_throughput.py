"""The throughput benchmark asks both sides the same of the same clips; no time is judged here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import soundfile

from benchmarks import throughput
from tasks.packages import open_package
from tasks.quality import judge


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "package.zip"
    throughput.write_package(path, 21)
    return path


def test_every_clip_of_the_benchmark_is_good_and_its_own(package: Path) -> None:
    with open_package(package) as archive:
        result = judge(archive)

    assert result.quality["verdict"].eq("ok").all()
    assert result.quality["content_sha256"].nunique() == 21


def test_both_sides_write_every_clip(package: Path, tmp_path: Path) -> None:
    gate, plain, files = tmp_path / "gate", tmp_path / "plain", tmp_path / "files"
    for folder in (gate, plain, files):
        folder.mkdir()
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist()[1:3]:
            (files / Path(name).name).write_bytes(archive.read(name))

    assert throughput.run_gate(package, gate, None) == 21
    assert len(list(gate.rglob("*.flac"))) == 21
    assert throughput.run_plain_loop(files, plain, None) == 2
    for clip in plain.glob("*.flac"):
        assert soundfile.info(clip).frames == throughput.CLIP_S * throughput.RATE
