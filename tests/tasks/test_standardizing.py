"""Anomalous stretches stay right across cuts; clips come back from the store as they went, decoded once."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import tasks.audio
import tasks.gate
import tasks.signals
import tasks.standardizing
from engines.standardize import standardize
from schemas.errors import StoreError
from schemas.references import Package, Run
from schemas.settings import OnboardSettings, QaLimits
from tasks.audio import Audio, open_audio
from tasks.clip_files import from_flac, to_flac
from tasks.gate import judge_package
from tasks.intake import receive_package
from tasks.quality import judge
from tasks.runs import name_run
from tasks.standard_clips import StandardClips
from tasks.standardizing import cut_regions, file_package
from tasks.store import FolderStore


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [
        (0.0, 10.0, [[2.0, 3.0], [9.5, 10.0]]),
        (10.0, 20.0, [[0.0, 0.5]]),
        (20.0, 25.0, []),
        (10.5, 20.0, []),
        (3.0000001, 9.5, []),
        (2.9999999, 9.5000001, []),
    ],
)
def test_regions_follow_their_segment(start: float, stop: float, inside: list[list[float]]) -> None:
    assert json.loads(cut_regions("[[2, 3], [9.5, 10.5]]", start, stop) or "") == inside


def test_a_clip_without_regions_has_none_in_any_segment() -> None:
    assert cut_regions(None, 0.0, 10.0) is None


def test_flac_gives_back_the_very_samples() -> None:
    rng = np.random.default_rng(3)
    standard = standardize(rng.normal(0, 0.5, 20_000).astype(np.float32), 44_100, target_rate=16_000)
    stored = from_flac(to_flac(standard.codes, standard.sample_rate), key="x")
    assert np.array_equal(stored, standard.waveform)


def test_a_damaged_object_is_named() -> None:
    with pytest.raises(StoreError, match=r"packages/acme/p/audio/x\.flac"):
        from_flac(b"not flac", key="packages/acme/p/audio/x.flac")


# --- the two steps together -------------------------------------------------------------------------------------------

REGIONS = "[[2.0, 3.0], [9.5, 10.5], [21.0, 24.0]]"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def received(folder: Path, store: FolderStore) -> tuple[Package, Run]:
    """Four short stereo normals, a long test clip with anomalous stretches, and a copy of a normal; none filed yet."""
    rng = np.random.default_rng(0)
    sounds = {f"n{i}": 0.1 * rng.normal(size=(48_000, 2)) for i in range(4)}
    sounds |= {"long": 0.1 * rng.normal(size=(25 * 48_000, 1)), "copy": sounds["n1"]}
    rows = [
        {
            "relative_path": f"audio/{name}.wav",
            "clip_id": name,
            "machine_type": "fan",
            "section_id": "00",
            "split": "test" if name == "long" else "train",
            "label": "anomaly" if name == "long" else "normal",
            "confirmed_normal": "" if name == "long" else "true",
            "anomaly_regions": REGIONS if name == "long" else "",
        }
        for name in sounds
    ]
    with zipfile.ZipFile(folder / "p.zip", "w") as archive:
        archive.writestr("metadata.csv", pd.DataFrame(rows).to_csv(index=False))
        for name, samples in sounds.items():
            stream = io.BytesIO()
            soundfile.write(stream, samples, 48_000, format="WAV", subtype="PCM_16")
            archive.writestr(f"audio/{name}.wav", stream.getvalue())
    settings = OnboardSettings()
    package = receive_package.fn(str(folder / "p.zip"), "acme", store.url, settings)
    return package, name_run(package, store.url, settings)


def test_every_recording_is_decoded_once_and_filed_as_it_sounds(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, run = received(tmp_path, store)
    decoded: list[str] = []

    def counting(content: IO[bytes], limits: QaLimits, *, name: str) -> Audio:
        decoded.append(name)
        return open_audio(content, limits, name=name)

    monkeypatch.setattr(tasks.signals, "open_audio", counting)
    monkeypatch.setattr(tasks.standardizing, "opened", lambda *_, **__: pytest.fail("decoded again"))
    report = judge_package.fn(package, run)
    dataset = file_package.fn(package, report, run)

    assert sorted(decoded) == sorted(f"audio/{name}.wav" for name in ("n0", "n1", "n2", "n3", "long", "copy"))
    filed = store.get_frame(dataset.metadata_key)
    assert filed["clip_id"].tolist() == ["n0", "n1", "n2", "n3", "long", "long", "long"]
    assert filed["sample_rate"].unique().tolist() == [16_000]
    stored = sorted(store.list_keys(f"packages/acme/{package.package_id}/audio/"))
    assert stored == sorted(filed["audio"])
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        samples, rate = soundfile.read(io.BytesIO(archive.read("audio/n2.wav")), dtype="float32")
    expected = standardize(samples, rate, target_rate=16_000).waveform
    assert np.array_equal(from_flac(store.get(filed["audio"].iloc[2]), key="n2"), expected)


def test_a_recording_that_is_too_long_to_be_held_is_judged_and_filed_as_others_are(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.signals, "HELD_BYTES", 100_000)
    monkeypatch.setattr(tasks.audio, "HELD_SAMPLES", 1_000_000)
    package, run = received(tmp_path, store)
    report = judge_package.fn(package, run)
    filed = store.get_frame(file_package.fn(package, report, run).metadata_key)

    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        samples, rate = soundfile.read(io.BytesIO(archive.read("audio/long.wav")), dtype="float32")
    assert samples.size > 1_000_000
    expected = standardize(samples, rate, target_rate=16_000).waveform
    segments = [from_flac(store.get(key), key=key) for key in filed.loc[filed["clip_id"] == "long", "audio"]]
    assert [len(segment) for segment in segments] == [160_000, 160_000, 80_000]
    assert np.array_equal(np.concatenate(segments), expected)
    quality = store.get_frame(report.quality_key).set_index("clip_id")
    assert quality.loc["long", "rms"] == pytest.approx(0.1, rel=0.01)
    assert "clip.copy_train" in quality.loc["copy", "reasons"]


def test_anomalous_stretches_follow_the_recording_into_its_segments(store: FolderStore, tmp_path: Path) -> None:
    package, run = received(tmp_path, store)
    dataset = file_package.fn(package, judge_package.fn(package, run), run)
    segments = store.get_frame(dataset.metadata_key).query("clip_id == 'long'")

    assert segments["duration_s"].tolist() == [10, 10, 5]
    assert [json.loads(regions) for regions in segments["anomaly_regions"]] == [
        [[2.0, 3.0], [9.5, 10.0]],
        [[0.0, 0.5]],
        [[1.0, 4.0]],
    ]


def test_clips_that_are_gone_from_the_store_are_made_again(store: FolderStore, tmp_path: Path) -> None:
    package, run = received(tmp_path, store)
    report = judge_package.fn(package, run)
    before = {key: store.get(key) for key in store.list_keys("packages/")}
    for key in list(before)[:3]:
        store.delete(key)
    file_package.fn(package, report, run)

    assert {key: store.get(key) for key in store.list_keys("packages/") if key.endswith(".flac")} == before


def audio_keys(store: FolderStore) -> list[str]:
    return [key for key in store.list_keys("packages/") if key.endswith(".flac")]


def test_a_filed_package_whose_objects_are_gone_is_not_called_reused_before_they_are_back(
    store: FolderStore, tmp_path: Path
) -> None:
    package, run = received(tmp_path, store)
    dataset = file_package.fn(package, judge_package.fn(package, run), run)
    table, before = store.get_frame(dataset.metadata_key), {key: store.get(key) for key in audio_keys(store)}
    gone = table.query("clip_id == 'n1' or segment == 1")["audio"].tolist()
    for key in gone:
        store.delete(key)
    later = run.model_copy(update={"run_id": "f" * 16})
    again = file_package.fn(package, judge_package.fn(package, later), later)

    assert len(gone) == 2
    assert not again.reused
    assert {key: store.get(key) for key in audio_keys(store)} == before
    pd.testing.assert_frame_equal(store.get_frame(again.metadata_key), table)
    assert file_package.fn(package, judge_package.fn(package, later), later).reused


def test_a_run_that_is_interrupted_while_another_one_files_the_package_takes_nothing_from_it(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, run = received(tmp_path, store)
    other = run.model_copy(update={"run_id": "f" * 16})
    whole = judge

    def interrupted(*args: Any, **options: Any) -> Any:
        whole(*args, **options)
        monkeypatch.setattr(tasks.gate, "judge", whole)
        file_package.fn(package, judge_package.fn(package, other), other)
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks.gate, "judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge_package.fn(package, run)
    filed = store.get_frame(f"packages/acme/{package.package_id}/metadata.parquet")

    assert audio_keys(store) == sorted(filed["audio"])


def test_two_runs_of_one_package_at_once_both_end_whole(store: FolderStore, tmp_path: Path) -> None:
    package, run = received(tmp_path, store)

    def judge_and_file(number: int) -> list[str]:
        own = run.model_copy(update={"run_id": f"{number:016x}"})
        dataset = file_package.fn(package, judge_package.fn(package, own), own)
        return sorted(store.get_frame(dataset.metadata_key)["audio"])

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(judge_and_file, range(2)))

    assert both == [audio_keys(store)] * 2


def test_of_two_runs_of_one_package_the_one_that_loses_its_objects_makes_them_anew(
    store: FolderStore, tmp_path: Path
) -> None:
    package, run = received(tmp_path, store)
    report = judge_package.fn(package, run)
    with StandardClips(store, package, run.settings.standardize) as rejecting:
        rejecting.keep_only([])
    assert audio_keys(store) == []
    filed = store.get_frame(file_package.fn(package, report, run).metadata_key)

    assert audio_keys(store) == sorted(filed["audio"])


def test_filing_takes_away_what_a_killed_run_left(store: FolderStore, tmp_path: Path) -> None:
    package, run = received(tmp_path, store)
    report = judge_package.fn(package, run)
    store.put(f"packages/acme/{package.package_id}/audio/0123456789ab.flac", b"left over")
    for _ in range(2):
        filed = store.get_frame(file_package.fn(package, report, run).metadata_key)
        assert audio_keys(store) == sorted(filed["audio"])
        store.put(f"packages/acme/{package.package_id}/audio/ba9876543210.flac", b"left by another one")
