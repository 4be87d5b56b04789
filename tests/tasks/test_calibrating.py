"""What is handed over as CSV is whole and safe in a spreadsheet, and which model becomes champion."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tasks.calibrating
from engines.calibration import calibrate
from schemas.errors import StoreError
from schemas.references import Model, Run, Scores, Selection, Source
from schemas.settings import AlarmPolicy, OnboardSettings
from tasks import keys
from tasks.calibrating import Champion, crown_champion, judged_table, to_csv
from tasks.corrections import Correction, add_correction
from tasks.ledger import describe_asset, join, read_corrected, role_of
from tasks.store import FolderStore

LEDGER = keys.asset("acme", "fan-00", "ledger.parquet")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def run(store: FolderStore) -> Run:
    settings = OnboardSettings()
    return Run(run_id="r", customer="acme", package_id="1" * 16, store=store.url, settings=settings, code_version="1")


def send(store: FolderStore, package: str, *recordings: str, split: str = "train") -> None:
    """Enter recordings of a package in the ledger."""
    names = {
        "recording_id": list(recordings),
        "clip_id": [f"clip-{name}" for name in recordings],
    }
    said = {"machine_type": "fan", "section_id": "00", "segment": 0, "split": split, "domain": "target"}
    label = "normal" if split == "train" else None
    rows = pd.DataFrame(names).assign(**said, label=label, supp_type=None, role=str(role_of(split, "target", None)))
    before = store.get_frame(LEDGER) if store.exists(LEDGER) else pd.DataFrame()
    store.put_frame(LEDGER, join(before, rows, package_id=package))


def model_now(store: FolderStore, run: Run, version: str) -> Model:
    """A model of the ledger as it is now."""
    seen = read_corrected(store, "acme", "fan-00")
    store.put_frame(f"{version}.parquet", seen)
    asset = describe_asset(run, seen, ledger_key=f"{version}.parquet")
    prefix = keys.model("acme", "fan-00", version)
    return Model(asset=asset, version=version, prefix=prefix, engine="a", encoder="logmel")


def champion(store: FolderStore) -> tuple[str, str | None]:
    found = store.get_model(keys.asset("acme", "fan-00", "champion.json"), Champion)
    return found.version, found.previous


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-2", "@SUM(A1)", "\tx", "\r=1"])
def test_a_cell_that_starts_a_formula_is_escaped(cell: str) -> None:
    text = to_csv(pd.DataFrame({"clip_id": [cell], "score": [-0.5]})).decode()
    row = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert row == [f"'{cell}", "-0.5"]


def test_an_unlabelled_clip_has_an_empty_cell() -> None:
    text = to_csv(pd.DataFrame({"clip_id": ["a", "b"], "label": pd.array(["normal", None], dtype="string")})).decode()
    assert text == "clip_id,label\r\na,normal\r\nb,\r\n"


def test_a_test_clip_without_a_score_is_no_row_of_the_table(store: FolderStore, run: Run) -> None:
    send(store, "1" * 16, "e1", "e2", split="test")
    model = model_now(store, run, "v1")
    source = Source(asset=model.asset, key="s.parquet", version="0", recordings=0, own=0, customers=())
    selection = Selection(
        asset=model.asset, source=source, engine="a", encoder="logmel", reason="", criteria=(), candidates=("a",)
    )
    normals = np.array([0.1, 0.2, 0.3, 0.4])
    threshold = calibrate(normals, AlarmPolicy(), method="leave_one_out")
    scores = Scores(selection=selection, model=model, key="scores.parquet", recordings=2)
    store.put_frame(scores.key, pd.DataFrame({"recording_id": ["e1", "e2"], "score": [0.5, 0.6]}))
    assert judged_table(store, scores, threshold, normals)["score"].tolist() == [0.5, 0.6]
    store.put_frame(scores.key, pd.DataFrame({"recording_id": ["e1"], "score": [0.5]}))
    with pytest.raises(
        StoreError, match=r"no score of 1 of 2 test clips, such as 'clip-e2'; onboard the package again"
    ):
        judged_table(store, scores, threshold, normals)


# --- the champion -------------------------------------------------------------------------------------------------


def test_a_model_follows_the_one_before_and_crowning_twice_changes_nothing(store: FolderStore, run: Run) -> None:
    send(store, "1" * 16, "t1", "t2", "t3")
    for version, expected in (("v1", ("v1", None)), ("v2", ("v2", "v1")), ("v2", ("v2", "v1"))):
        crown_champion.fn(model_now(store, run, version), run)
        assert champion(store) == expected


def test_a_run_that_was_overtaken_by_a_package_does_not_overwrite_the_newer_champion(
    store: FolderStore, run: Run
) -> None:
    send(store, "1" * 16, "t1", "t2", "t3")
    older = model_now(store, run, "older")
    send(store, "2" * 16, "t4")
    crown_champion.fn(model_now(store, run, "newer"), run)
    crown_champion.fn(older, run)
    assert champion(store) == ("newer", None)


def test_a_model_that_learnt_from_a_clip_taken_back_meanwhile_is_not_crowned(
    store: FolderStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(tasks.calibrating, "note", said.append)
    send(store, "1" * 16, "t1", "t2", "t3", "t4")
    crown_champion.fn(model_now(store, run, "first"), run)
    older = model_now(store, run, "older")
    add_correction(store, "acme", "fan-00", Correction(recording_id="t1", clip_id="clip-t1", action="retract"))
    crown_champion.fn(older, run)
    assert champion(store) == ("first", None)
    assert ["older is not crowned" in sentence for sentence in said] == [True]
    crown_champion.fn(model_now(store, run, "newer"), run)
    assert champion(store) == ("newer", "first")


def test_champions_are_crowned_one_at_a_time(store: FolderStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    send(store, "1" * 16, "t1", "t2", "t3")
    held: list[str] = []
    real_lock, real_put = FolderStore.lock, FolderStore.put

    @contextmanager
    def lock(self: FolderStore, key: str) -> Iterator[None]:
        with real_lock(self, key):
            held.append(key)
            yield
            held.remove(key)

    def put(self: FolderStore, key: str, data: bytes) -> None:
        assert not key.endswith("champion.json") or key in held
        real_put(self, key, data)

    monkeypatch.setattr(FolderStore, "lock", lock)
    monkeypatch.setattr(FolderStore, "put", put)
    crown_champion.fn(model_now(store, run, "v1"), run)
    assert champion(store) == ("v1", None)
