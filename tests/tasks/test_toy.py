"""Toy packages on disk: what a plant would send, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.toy import MACHINE_TYPES, ToyClip, ToyPlan, render_clip
from schemas.errors import EnvironmentFault, UsageError
from schemas.metadata import METADATA_COLUMNS, QA_COLUMNS, read_metadata
from tasks.toy import encode_metadata, metadata_row, write_toy_package

PLAN = ToyPlan(("fan",), scale=0.001, seed=5)


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("toy") / "plant.zip"
    write_toy_package(target, PLAN)
    return target


@pytest.fixture
def no_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence in every clip, for tests that are about the files around it."""
    monkeypatch.setattr("tasks.toy.render_clip", lambda clip: np.zeros(160_000, dtype=np.int16))


def read_table(target: Path) -> bytes:
    if target.is_dir():
        return (target / "metadata.csv").read_bytes()
    with zipfile.ZipFile(target) as archive:
        return archive.read("metadata.csv")


def names_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_zip_holds_metadata_and_every_clip(zipped: Path) -> None:
    clips = PLAN.clips()
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["metadata.csv", *(clip.relative_path for clip in clips)]
        with wave.open(io.BytesIO(archive.read(clips[7].relative_path))) as sound:
            assert sound.getparams()[:4] == (1, 2, 16_000, 160_000)
            samples = np.frombuffer(sound.readframes(160_000), dtype="<i2")
    np.testing.assert_array_equal(samples, render_clip(clips[7]))


def test_a_second_zip_is_the_same_to_the_byte(zipped: Path, tmp_path: Path) -> None:
    again = tmp_path / "another-name.ZIP"
    write_toy_package(again, PLAN)
    assert again.read_bytes() == zipped.read_bytes()


def test_a_folder_holds_the_same_files_as_the_zip(zipped: Path, tmp_path: Path) -> None:
    write_toy_package(tmp_path / "deep" / "plant", PLAN)
    folder = tmp_path / "deep" / "plant"
    with zipfile.ZipFile(zipped) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == inside
    assert names_beside(folder) == ["plant"]


def test_the_metadata_keeps_the_contract() -> None:
    table, problems = read_metadata(encode_metadata(ToyPlan(scale=0.01).clips()))
    assert problems == []
    assert set(table["machine_type"]) == set(MACHINE_TYPES)
    assert table["synthetic"].all()


def test_the_metadata_has_the_contracts_columns_but_those_of_the_quality_check() -> None:
    header, *rows = csv.reader(io.StringIO(encode_metadata(PLAN.clips()).decode()))
    assert header == [column for column in METADATA_COLUMNS if column not in QA_COLUMNS]
    assert set(metadata_row(PLAN.clips()[0])) == set(header)
    assert len(rows) == len(PLAN.clips())


def first(**wanted: object) -> ToyClip:
    return next(c for c in PLAN.clips() if all(getattr(c, name) == value for name, value in wanted.items()))


def test_rows_say_only_what_is_heard() -> None:
    noise, machine = metadata_row(first(supp_type="noise")), metadata_row(first(supp_type="machine"))
    assert noise["noise_id"]
    assert machine["speed_level"]
    assert noise["snr_db"] == noise["speed_level"] == noise["load_level"] == ""
    assert machine["snr_db"] == machine["noise_id"] == ""


def test_an_anomalous_row_tells_where_and_a_test_row_is_not_confirmed() -> None:
    clip = first(label="anomaly")
    row = metadata_row(clip)
    assert clip.fault is not None
    assert json.loads(row["anomaly_regions"]) == clip.fault.regions_s
    assert row["is_anomaly"] == "true"
    assert row["confirmed_normal"] == row["confirmed_by"] == ""
    assert metadata_row(first(split="train"))["confirmed_normal"] == "true"


@pytest.mark.usefixtures("no_sounds")
def test_progress_counts_every_clip_and_the_summary_adds_up(tmp_path: Path) -> None:
    done: list[int] = []
    summary = write_toy_package(tmp_path / "plant.zip", PLAN, progress=done.append)
    assert done == [1] * summary.n_clips
    assert (summary.n_source, summary.n_target, summary.n_test, summary.n_supplemental) == (1, 3, 20, 2)
    assert summary.n_clips == 26


@pytest.mark.parametrize("name", ["plant.zip", "plant"])
def test_a_package_that_fails_half_way_leaves_nothing(name: str, tmp_path: Path) -> None:
    calls = []

    def stop(clips: int) -> None:
        calls.append(clips)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy_package(tmp_path / name, PLAN, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_sounds")
@pytest.mark.parametrize("name", ["plant.zip", "plant"])
def test_an_earlier_package_gives_way_only_when_asked(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    write_toy_package(target, PLAN)
    with pytest.raises(UsageError, match="exists already"):
        write_toy_package(target, PLAN)
    other = replace(PLAN, seed=6)
    write_toy_package(target, other, overwrite=True)
    assert read_table(target) == encode_metadata(other.clips())
    assert names_beside(target) == [name]


@pytest.mark.usefixtures("no_sounds")
def test_a_failed_overwrite_keeps_the_earlier_package(tmp_path: Path) -> None:
    target = tmp_path / "plant"
    write_toy_package(target, PLAN)
    other = replace(PLAN, seed=6)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy_package(target, other, overwrite=True, progress=stop)
    assert names_beside(target) == ["plant"]
    assert read_table(target) == encode_metadata(PLAN.clips())


@pytest.mark.usefixtures("no_sounds")
def test_real_recordings_are_never_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "plant"
    (target / "audio").mkdir(parents=True)
    (target / "metadata.csv").write_text("relative_path,machine_type\naudio/fan.wav,fan\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no toy package"):
        write_toy_package(target, PLAN, overwrite=True)
    write_toy_package(tmp_path / "toy", PLAN)
    (tmp_path / "toy" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="no toy package"):
        write_toy_package(tmp_path / "toy", PLAN, overwrite=True)
    (tmp_path / "other.zip").write_bytes(b"not a zip")
    with pytest.raises(UsageError, match="no toy package"):
        write_toy_package(tmp_path / "other.zip", PLAN, overwrite=True)
    assert (target / "metadata.csv").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match=r"plant\.zip"):
        write_toy_package(tmp_path / "file" / "plant.zip", PLAN)
