"""Anomalous stretches stay right across cuts; clips come back from the store as they went, decoded once."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import tasks.signals
import tasks.standardizing
from engines.standardize import standardize
from schemas.errors import StoreError
from schemas.references import Package, Run
from schemas.settings import OnboardSettings
from tasks.audio import decode
from tasks.clip_files import from_flac, to_flac
from tasks.gate import judge_package
from tasks.intake import receive_package
from tasks.runs import name_run
from tasks.standardizing import cut_regions, file_package
from tasks.store import FolderStore


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [
        (0.0, 10.0, [[2.0, 3.0], [9.5, 10.0]]),
        (10.0, 20.0, [[0.0, 0.5]]),
        (20.0, 25.0, []),
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

    def counting(data: bytes, *rest: object, name: str) -> object:
        decoded.append(name)
        return decode(data, *rest, name=name)

    monkeypatch.setattr(tasks.signals, "decode", counting)
    monkeypatch.setattr(tasks.standardizing, "decode", lambda *_, **__: pytest.fail("decoded again"))
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
