"""Which noise-only recordings tell that a machine is off, and what is said where they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import tasks.scoring
from engines.base import ClipSet
from engines.comparability import Recorded
from engines.machine_state import Background, Indistinct
from engines.standardize import standardize
from schemas.references import Asset, Model, Run, Selection, Source
from schemas.settings import OnboardSettings
from tasks.background import Standing, learn_background, noise_of, read_background, stand
from tasks.clip_files import to_flac
from tasks.normals import NormalScores, save_normal_scores
from tasks.scoring import cut_into_batches, find_unscored, score_batch
from tasks.store import FolderStore

RATE = 16_000
MODEL = "assets/acme/fan-00/models/v"


def hall(seed: int) -> NDArray[np.float32]:
    return (0.01 * np.random.default_rng(seed).standard_normal(RATE)).astype(np.float32)


def running(seed: int) -> NDArray[np.float32]:
    return (hall(seed) + 0.05 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)


def row(store: FolderStore, recording: str, role: str, sound: NDArray[np.float32], **said: object) -> dict[str, object]:
    """A row of the ledger, its sound filed."""
    audio = f"audio/{recording}.flac"
    store.put(audio, to_flac(standardize(sound, RATE, target_rate=RATE).codes, RATE))
    known = {"domain": "target", "sensor": "microphone", "synthetic": False, "segment": 0}
    known |= {"sample_rate": RATE, "bandwidth_hz": 8000.0, "audio": audio}
    return {"recording_id": recording, "role": role} | known | said


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def normals(store: FolderStore) -> list[dict[str, object]]:
    return [row(store, f"t{i}", "target", running(i)) for i in range(3)]


def model_of(store: FolderStore, rows: list[dict[str, object]]) -> tuple[Model, Run]:
    store.put_frame("ledger.parquet", pd.DataFrame(rows))
    asset = Asset(
        customer="acme",
        machine_type="fan",
        section_id="00",
        asset_id="fan-00",
        ledger_key="ledger.parquet",
        ledger_version="0",
        target=3,
        source=0,
        test=2,
    )
    run = Run(
        run_id="r", customer="acme", package_id="p", store=store.url, settings=OnboardSettings(), code_version="1"
    )
    return Model(asset=asset, version="v", prefix=MODEL, engine="a", encoder="logmel"), run


def test_recordings_of_the_same_place_and_kind_count(store: FolderStore, normals: list[dict[str, object]]) -> None:
    rows = [
        *normals,
        row(store, "n1", "noise", hall(10)),
        row(store, "n1", "noise", hall(10), package="again"),
        row(store, "elsewhere", "noise", hall(11), domain="source"),
        row(store, "shaken", "noise", hall(12), sensor="accelerometer"),
        row(store, "slower", "noise", hall(13), sample_rate=8000),
        row(store, "made", "noise", hall(14), synthetic=True),
        row(store, "clean", "machine", hall(15)),
    ]
    assert noise_of(pd.DataFrame(rows))["recording_id"].tolist() == ["n1"]
    assert noise_of(pd.DataFrame(normals)).empty
    synthetic = pd.DataFrame([{**one, "synthetic": True} for one in rows[:4]])
    assert noise_of(synthetic)["recording_id"].tolist() == ["n1"]


def test_the_state_of_tests_is_told_where_noise_was_sent(
    store: FolderStore, normals: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = [row(store, f"n{i}", "noise", hall(10 + i)) for i in range(3)]
    tests = [row(store, "e1", "test", hall(20)), row(store, "e2", "test", running(21))]
    tests.append(row(store, "e3", "test", (0.01 * running(22)).astype(np.float32)))
    tests += [row(store, "e4", "test", running(23), segment=s) for s in range(2)]
    model, run = model_of(store, [*normals, *noise, *tests])
    learn_background.fn(model, run)
    background = read_background(store, MODEL)
    assert isinstance(background, Background)
    assert (background.n_noise, background.n_normals) == (3, 3)

    class Deaf:
        def decision_function(self, clips: ClipSet, **_: object) -> NDArray[np.float64]:
            return np.zeros(len(clips))

    monkeypatch.setattr(tasks.scoring, "load_engine", lambda *_: Deaf())
    file_calibration(store)
    source = Source(asset=model.asset, key="s.parquet", version="0", recordings=0, own=0, customers=())
    selection = Selection(asset=model.asset, source=source, engine="a", encoder="logmel", reason="", criteria=())
    found = find_unscored.fn(selection, model, run)
    for batch in cut_into_batches([found]):
        score_batch.fn(batch, run)
    scores = store.get_frame(found.key)
    assert dict(zip(scores["recording_id"], scores["state"], strict=True)) == {
        "e1": "off",
        "e2": "on",
        "e3": "not comparable",
        "e4": "on",
    }
    assert dict(zip(scores["recording_id"], scores["notes"], strict=True)) == {
        "e1": "level",
        "e2": "",
        "e3": "level",
        "e4": "longer",
    }


def heard(*sounds: NDArray[np.float32], band: float = 8000.0) -> ClipSet:
    return ClipSet.from_arrays(sounds, bandwidth_hz=band)


def test_a_recorder_unlike_the_normals_is_not_comparable_whatever_it_heard() -> None:
    recorded = Recorded.measure(heard(*(running(i) for i in range(3))))
    background = Background.fit(heard(*(hall(i) for i in range(10, 13))), heard(*(running(i) for i in range(3))))
    assert isinstance(background, Background)
    sounds = [running(20), hall(21), (0.01 * running(22)).astype(np.float32)]
    assert [each.state for each in stand(background, recorded, heard(*sounds))] == ["on", "off", "not comparable"]
    assert {each.state for each in stand(background, recorded, heard(*sounds, band=2000.0))} == {"not comparable"}
    alone = stand(None, recorded, heard(*sounds))
    assert [each.state for each in alone] == ["not assessed", "not comparable", "not comparable"]


def file_calibration(store: FolderStore) -> None:
    """Beside the model of three running normals."""
    names = ("t0", "t1", "t2")
    recorded = Recorded.measure(heard(*(running(i) for i in range(3))))
    folder = store.root / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    save_normal_scores(NormalScores(names, np.array([0.1, 0.2, 0.3]), "leave_one_out", 3, recorded), folder)


def test_a_background_is_learnt_once(
    store: FolderStore, normals: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run = model_of(store, [*normals, *(row(store, f"n{i}", "noise", hall(10 + i)) for i in range(3))])
    learn_background.fn(model, run)
    before = store.get(f"{MODEL}/background.json")
    monkeypatch.setattr(Background, "fit", lambda *_, **__: pytest.fail("learnt again"))
    learn_background.fn(model, run)
    assert store.get(f"{MODEL}/background.json") == before


def test_without_noise_nothing_is_filed_and_the_state_is_not_assessed(
    store: FolderStore, normals: list[dict[str, object]]
) -> None:
    learn_background.fn(*model_of(store, normals))
    assert read_background(store, MODEL) is None
    recorded = Recorded.measure(heard(hall(0)))
    assert stand(None, recorded, heard(hall(1))) == [Standing("not assessed")]


def test_where_machine_and_background_are_alike_the_reason_is_kept(
    store: FolderStore, normals: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("tasks.background.note", told.append)
    learn_background.fn(*model_of(store, [*normals, *(row(store, f"n{i}", "noise", running(i + 5)) for i in range(3))]))
    found = read_background(store, MODEL)
    assert isinstance(found, Indistinct)
    assert any(found.reason in sentence for sentence in told)
    assert stand(found, Recorded.measure(heard(hall(0))), heard(hall(1))) == [Standing("not assessed")]
