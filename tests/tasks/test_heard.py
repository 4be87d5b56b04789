"""A package heard in portions is judged as one that was heard in one pass, to the last byte."""

from __future__ import annotations

import io
import zipfile
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import tasks.gate
import tasks.quality
import tasks.standard_clips
from schemas.errors import StoreError
from schemas.references import Package, QualityReport, Run
from schemas.settings import OnboardSettings
from tasks.clips import Clip
from tasks.gate import judge_package
from tasks.heard import HeardPortions, hear_portion, read_heard
from tasks.intake import receive_package
from tasks.packages import open_package
from tasks.quality import hear, list_clips
from tasks.runs import name_run
from tasks.spreading import Portion
from tasks.standard_clips import StandardClips
from tasks.store import FolderStore

RATE = 16_000
CUTS = [Portion(start=0, stop=3), Portion(start=3, stop=4), Portion(start=4, stop=11)]


def wav(samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV", subtype=subtype)
    return stream.getvalue()


@cache  # a WAV of floats holds the time at which it was written
def sounds() -> dict[str, bytes]:
    """Good normals of one and of three channels, a long test, and something of each kind of fault."""
    rng = np.random.default_rng(3)
    hum = 0.3 * np.sin(2 * np.pi * 60 * np.arange(4 * RATE) / RATE)
    noise = [0.1 * rng.normal(size=4 * RATE) for _ in range(6)]
    return {
        "n0": wav(noise[0]),
        "n1": wav(np.stack([noise[1], 0.5 * noise[1] + 0.02 * rng.normal(size=4 * RATE), noise[2]], axis=1)),
        "n2": wav(noise[3]),
        "long": wav(0.1 * rng.normal(size=25 * RATE)),
        "copy": wav(noise[0]),
        "quieter": wav(0.5 * noise[3]),
        "hum": wav(hum + 0.001 * noise[4]),
        "nan": wav(np.where(np.arange(4 * RATE) == 9, np.nan, noise[5]), "FLOAT"),
        "dead": wav(np.zeros(4 * RATE)),
        "text": b"no sound at all",
        "n3": wav(noise[4]),
    }


def received(home: Path) -> tuple[Package, Run, FolderStore]:
    rows = [
        {
            "relative_path": f"audio/{name}.wav",
            "clip_id": name,
            "machine_type": "fan",
            "section_id": "00",
            "split": "test" if name in ("long", "quieter") else "train",
            "label": "normal",
            "confirmed_normal": "" if name in ("long", "quieter") else "true",
        }
        for name in sounds()
    ]
    home.mkdir()
    with zipfile.ZipFile(home / "p.zip", "w") as archive:
        files = {"metadata.csv": pd.DataFrame(rows).to_csv(index=False).encode()}
        for name, content in (files | {f"audio/{name}.wav": content for name, content in sounds().items()}).items():
            # Of one date, not of now: the upload itself is among the objects that are compared.
            archive.writestr(zipfile.ZipInfo(name), content)
    store, settings = FolderStore(home / "store"), OnboardSettings()
    package = receive_package.fn(str(home / "p.zip"), "acme", store.url, settings)
    return package, name_run(package, store.url, settings), store


def objects(store: FolderStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list_keys()}


@pytest.fixture(scope="module")
def in_one_pass(tmp_path_factory: pytest.TempPathFactory) -> tuple[QualityReport, dict[str, bytes]]:
    package, run, store = received(tmp_path_factory.mktemp("whole") / "home")
    return judge_package.fn(package, run), objects(store)


def test_portions_make_the_same_report_and_the_same_objects(
    in_one_pass: tuple[QualityReport, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, run, store = received(tmp_path / "home")
    for portion in reversed(CUTS):
        hear_portion.fn(portion, package, run)
    monkeypatch.setattr(tasks.quality, "check_signal", lambda *_, **__: pytest.fail("heard again"))
    monkeypatch.setattr(tasks.standard_clips, "to_flac", lambda *_, **__: pytest.fail("stored again"))
    report, there = in_one_pass
    assert judge_package.fn(package, run, CUTS) == report
    assert (report.verdict, report.quarantined) == ("accepted_with_quarantine", 4)
    assert objects(store) == there


def test_what_was_heard_is_the_same_to_the_last_bit_and_of_the_same_kind(tmp_path: Path) -> None:
    package, run, store = received(tmp_path / "home")
    for portion in CUTS:
        hear_portion.fn(portion, package, run)
    with open_package(tmp_path / "home" / "p.zip") as archive:
        here, there = list_clips(archive, run.settings), list_clips(archive, run.settings)
        kept = StandardClips(store, package, run.settings.standardize)
        hear(archive, here, run.settings, keep=kept.add)
        taken = StandardClips(store, package, run.settings.standardize)
        HeardPortions(read_heard(store, CUTS, run), archive, taken)(there.readable)
    assert {clip.path: kept.of(clip.path) for clip in here.clips} == {
        clip.path: taken.of(clip.path) for clip in there.clips
    }
    for one, other in zip(here.clips, there.clips, strict=True):
        assert_alike(one, other)


def assert_alike(one: Clip, other: Clip) -> None:
    assert (one.measures, one.sound, one.problems) == (other.measures, other.sound, other.problems)
    for part in ("measures", "sound"):
        for field in fields(getattr(one, part)) if getattr(one, part) is not None else ():
            values = [getattr(getattr(clip, part), field.name) for clip in (one, other)]
            assert isinstance(values[0], float) == isinstance(values[1], float), field.name
    assert (one.sketch is None) == (other.sketch is None)
    if one.sketch is None or other.sketch is None:
        return
    assert one.sketch.samples == other.sketch.samples
    for name in ("fingerprint", "windows", "profile_db"):
        mine, theirs = getattr(one.sketch, name), getattr(other.sketch, name)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.tobytes() == theirs.tobytes()
    assert len(one.sketch.channels_db) == len(other.sketch.channels_db)
    assert [each.tobytes() for each in one.sketch.channels_db] == [each.tobytes() for each in other.sketch.channels_db]


def test_a_portion_that_was_heard_before_is_not_heard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, run, _ = received(tmp_path / "home")
    hear_portion.fn(CUTS[0], package, run)
    monkeypatch.setattr(tasks.quality, "check_signal", lambda *_, **__: pytest.fail("heard again"))
    hear_portion.fn(CUTS[0], package, run)


def test_a_portion_that_fails_leaves_nothing_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, run, store = received(tmp_path / "home")
    before = set(store.list_keys())
    real, calls = tasks.standard_clips.to_flac, iter(range(99))

    def cut_off(*arguments: object) -> object:
        if next(calls) == 2:
            raise StoreError("the plug was pulled")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks.standard_clips, "to_flac", cut_off)
    with pytest.raises(StoreError, match="plug"):
        hear_portion.fn(CUTS[0], package, run)
    assert set(store.list_keys()) == before


def test_what_an_unfinished_run_heard_is_taken_away_by_whoever_judges(
    in_one_pass: tuple[QualityReport, dict[str, bytes]], tmp_path: Path
) -> None:
    package, run, store = received(tmp_path / "home")
    hear_portion.fn(CUTS[1], package, run)
    assert judge_package.fn(package, run) == in_one_pass[0]
    assert objects(store) == in_one_pass[1]


def test_what_was_heard_is_taken_away_where_another_worker_has_judged_first(
    in_one_pass: tuple[QualityReport, dict[str, bytes]], tmp_path: Path
) -> None:
    package, run, store = received(tmp_path / "home")
    judge_package.fn(package, run)
    for portion in CUTS:
        hear_portion.fn(portion, package, run)
    assert judge_package.fn(package, run, CUTS).reused
    assert objects(store) == in_one_pass[1]


@pytest.mark.parametrize("damage", [None, b"no table"])
def test_portions_that_are_gone_or_damaged_are_heard_again(
    in_one_pass: tuple[QualityReport, dict[str, bytes]], tmp_path: Path, damage: bytes | None
) -> None:
    package, run, store = received(tmp_path / "home")
    for portion in CUTS:
        hear_portion.fn(portion, package, run)
    (key,) = [key for key in store.list_keys("runs/") if key.endswith("/heard/3-4.parquet")]
    if damage is None:
        store.delete(key)
    else:
        store.put(key, damage)
    assert judge_package.fn(package, run, CUTS) == in_one_pass[0]
    assert objects(store) == in_one_pass[1]
