"""What is handed over as CSV is whole and safe, what decides a clip, and which model becomes champion."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tasks.calibrating
from engines.alarm import AlarmRule
from engines.calibration import Threshold, calibrate
from engines.comparability import Recorded
from schemas.errors import StoreError
from schemas.references import Calibrated, Model, Run, Scores, Selection, Source
from schemas.settings import AlarmPolicy, OnboardSettings
from tasks import keys
from tasks.calibrating import (
    SCORE_COLUMNS,
    Champion,
    crown_champion,
    decide_and_measure,
    judged_table,
    set_threshold,
    to_csv,
    without_leaked_labels,
)
from tasks.corrections import Correction, add_correction
from tasks.ledger import describe_asset, join, read_corrected, role_of
from tasks.normals import NormalScores, save_normal_scores
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


NORMALS = np.array([0.1, 0.2, 0.3, 0.4])
RECORDED = Recorded(pieces=1, longest_s=10.0, band_hz=(8000.0, 8000.0), level_db=(-30.0, -28.0))


def scored(store: FolderStore, run: Run, scores: dict[str, float], state: str = "on") -> Scores:
    """Test recordings with their scores, all of a machine in the same state."""
    send(store, "1" * 16, *(name for name in ("e1", "e2", "e3")[: max(2, len(scores))]), split="test")
    model = model_now(store, run, "v1")
    source = Source(asset=model.asset, key="s.parquet", version="0", recordings=0, own=0, customers=())
    selection = Selection(
        asset=model.asset, source=source, engine="a", encoder="logmel", reason="", criteria=(), candidates=("a",)
    )
    table = pd.DataFrame({"recording_id": list(scores), "score": list(scores.values()), "state": state, "notes": ""})
    store.put_frame("scores.parquet", table)
    return Scores(selection=selection, model=model, key="scores.parquet", recordings=len(scores))


def file_normals(store: FolderStore, model: Model, tmp_path: Path, scores: np.ndarray = NORMALS) -> None:
    """The scores that a model's threshold rests on; no engine lies there to make them again."""
    folder = tmp_path / "model"
    folder.mkdir()
    names = tuple(f"t{i}" for i in range(len(scores)))
    found = NormalScores(names, scores, "leave_one_out", len(scores), RECORDED)
    save_normal_scores(found, folder)
    for path in folder.iterdir():
        store.put_file(f"{model.prefix}/{path.name}", path)


def calibrated(store: FolderStore, run: Run, tmp_path: Path, scores: Scores) -> tuple[Calibrated, pd.DataFrame]:
    """Threshold and decisions of a run, and its `scores.csv`."""
    file_normals(store, scores.model, tmp_path)
    result = decide_and_measure.fn(scores, set_threshold.fn(scores.model, run), run)
    table = pd.read_csv(io.BytesIO(store.get("runs/acme/r/fan-00/scores.csv")), dtype={"section_id": str})
    return result, table


def test_a_test_clip_without_a_score_is_no_row_of_the_table(store: FolderStore, run: Run) -> None:
    threshold = calibrate(NORMALS, AlarmPolicy(), method="leave_one_out")
    scores = scored(store, run, {"e1": 0.5, "e2": 0.6})
    assert judged_table(store, scores, threshold, NORMALS)["score"].tolist() == [0.5, 0.6]
    store.put_frame(scores.key, pd.DataFrame({"recording_id": ["e1"], "score": [0.5], "state": ["on"], "notes": [""]}))
    with pytest.raises(
        StoreError, match=r"no score of 1 of 2 test clips, such as 'clip-e2'; onboard the package again"
    ):
        judged_table(store, scores, threshold, NORMALS)


def test_severity_and_grade_stand_behind_the_columns_there_were(store: FolderStore, run: Run, tmp_path: Path) -> None:
    _, table = calibrated(store, run, tmp_path, scored(store, run, {"e1": 0.25, "e2": 99.0}))
    assert tuple(table.columns) == SCORE_COLUMNS
    assert SCORE_COLUMNS[-4:] == ("model_version", "severity", "grade", "notes")
    assert table["decision"].tolist() == ["normal", "alarm"]
    assert table["grade"].tolist() == ["NORMAL", "CRITICAL"]
    assert 0 < table["severity"][0] < 50 < 75 < table["severity"][1] <= 100


@pytest.mark.parametrize(
    ("state", "decision", "how"),
    [("off", "off", "OFF"), ("on", "alarm", "CRITICAL"), ("not comparable", "alarm", "CRITICAL")],
)
def test_a_machine_that_is_off_never_alarms(
    store: FolderStore, run: Run, tmp_path: Path, state: str, decision: str, how: str
) -> None:
    _, table = calibrated(store, run, tmp_path, scored(store, run, {"e1": 99.0, "e2": 99.0}, state))
    assert set(table["state"]) == {state}
    assert set(table["decision"]) == {decision}
    assert set(table["grade"]) == {how}


def test_a_low_score_by_another_recorder_is_never_normal(store: FolderStore, run: Run, tmp_path: Path) -> None:
    scores = scored(store, run, {"e1": 0.1, "e2": 0.2}, "not comparable")
    store.put_frame(scores.key, store.get_frame(scores.key).assign(notes=["level", "band; level"]))
    result, table = calibrated(store, run, tmp_path, scores)
    assert table["decision"].tolist() == ["not comparable"] * 2
    assert table["grade"].tolist() == ["UNKNOWN"] * 2
    assert table["notes"].tolist() == ["level", "band; level"]
    assert result.result.grades == {"UNKNOWN": 2}
    assert result.result.highest_severity == table["severity"].max() < 50


def test_clips_that_are_off_do_not_move_the_threshold(store: FolderStore, run: Run, tmp_path: Path) -> None:
    result, _ = calibrated(store, run, tmp_path, scored(store, run, {"e1": 99.0, "e2": 99.0}, "off"))
    assert result.result.threshold == calibrate(NORMALS, run.settings.alarm, method="leave_one_out").value


def test_the_alarm_rule_lies_beside_the_threshold_and_in_the_run(store: FolderStore, run: Run, tmp_path: Path) -> None:
    result, _ = calibrated(store, run, tmp_path, scored(store, run, {"e1": 0.1, "e2": 0.6}))
    rule = store.get_model(result.rule_key, AlarmRule)
    assert store.get(result.rule_key) == store.get("runs/acme/r/fan-00/alarm_rule.json")
    assert result.result.rule == f"{rule.m} of {rule.window}"
    assert (result.result.certified, result.result.alarms_per_day) == (rule.certified, rule.alarms_per_day)
    assert store.get_frame(result.normals_key)["score"].tolist() == NORMALS.tolist()
    assert result.background_key is None
    before = store.get(result.threshold_key), store.get(result.rule_key)
    set_threshold.fn(result.scores.model, run)
    assert (store.get(result.threshold_key), store.get(result.rule_key)) == before


def test_a_clip_rule_is_one_of_one(store: FolderStore, tmp_path: Path) -> None:
    settings = OnboardSettings(alarm=AlarmPolicy(rule="clip"))
    run = Run(run_id="r", customer="acme", package_id="1" * 16, store=store.url, settings=settings, code_version="1")
    result, _ = calibrated(store, run, tmp_path, scored(store, run, {"e1": 0.1, "e2": 0.6}))
    threshold = store.get_model(result.threshold_key, Threshold)
    assert (result.result.rule, result.result.alarms_per_day) == ("1 of 1", threshold.alarms_per_day)


def test_detection_is_told_by_anomaly_type(store: FolderStore, run: Run, tmp_path: Path) -> None:
    scores = scored(store, run, {"e1": 99.0, "e2": 0.1, "e3": 99.0})
    ledger = store.get_frame(scores.model.asset.ledger_key)
    told = ledger.assign(label="anomaly", anomaly_type=["leak", "leak", None])
    store.put_frame(scores.model.asset.ledger_key, told)
    calibrated(store, run, tmp_path, scores)
    found = json.loads(store.get("runs/acme/r/fan-00/metrics.json"))["by_anomaly_type"]
    assert {kind: (one["hits"], one["anomalies"]) for kind, one in found.items()} == {"": (1, 1), "leak": (1, 2)}
    assert found["leak"]["interval"]["low"] == pytest.approx(0.0126, abs=1e-4)


def test_what_is_found_is_what_the_rule_in_use_counts(store: FolderStore, run: Run, tmp_path: Path) -> None:
    """Between the rule's clip limit and the threshold of one clip by itself lies what only the rule rings on."""
    many = np.linspace(0.1, 0.4, 60)
    scores = scored(store, run, {"e1": 0.401, "e2": 0.2})
    ledger = store.get_frame(scores.model.asset.ledger_key)
    store.put_frame(scores.model.asset.ledger_key, ledger.assign(label=["anomaly", "normal"], anomaly_type="leak"))
    file_normals(store, scores.model, tmp_path, many)
    result = decide_and_measure.fn(scores, set_threshold.fn(scores.model, run), run)
    rule = store.get_model(result.rule_key, AlarmRule)
    assert rule.clip_threshold < 0.401 < store.get_model(result.threshold_key, Threshold).value
    table = pd.read_csv(io.BytesIO(store.get("runs/acme/r/fan-00/scores.csv")))
    assert table["decision"].tolist() == ["normal", "normal"]
    found = json.loads(store.get("runs/acme/r/fan-00/metrics.json"))
    assert (found["recall"], found["by_anomaly_type"]["leak"]["hits"]) == (1.0, 1)
    assert (found["found_above"], found["rule"]) == (rule.clip_threshold, f"{rule.m} of {rule.window}")


def test_a_test_clip_that_was_learnt_by_heart_is_no_evidence(store: FolderStore, run: Run, tmp_path: Path) -> None:
    scores = scored(store, run, {"e1": 0.1, "e2": 99.0, "e3": 0.1})
    ledger = store.get_frame(scores.model.asset.ledger_key).assign(label=["anomaly", "anomaly", "normal"])
    copy = ledger[ledger["recording_id"] == "e1"].assign(role="target", split="train", label="normal")
    store.put_frame(scores.model.asset.ledger_key, pd.concat([ledger, copy], ignore_index=True))
    _, table = calibrated(store, run, tmp_path, scores)
    assert table["notes"].fillna("").tolist() == ["leaked", "", ""]
    assert table["label"].tolist() == ["anomaly", "anomaly", "normal"]
    assert without_leaked_labels(table.fillna("")).isna()["label"].tolist() == [True, False, False]
    found = json.loads(store.get("runs/acme/r/fan-00/metrics.json"))
    assert (found["counts"]["anomaly_target"], found["counts"]["unlabelled"]) == (1, 1)
    assert found["recall"] == 1.0


def test_a_test_clip_that_is_nearly_what_was_learnt_is_no_evidence(
    store: FolderStore, run: Run, tmp_path: Path
) -> None:
    scores = scored(store, run, {"e1": 0.1, "e2": 99.0})
    gate = pd.DataFrame(
        {
            "split": ["test", "test", "train"],
            "content_sha256": ["e1".ljust(64, "0"), "e2".ljust(64, "0"), "t1".ljust(64, "0")],
            "reasons": [["clip.near_leak"], ["clip.leak"], ["clip.near_leak"]],
        }
    )
    store.put_frame(f"packages/acme/{'1' * 16}/quality.parquet", gate)
    ledger = store.get_frame(scores.model.asset.ledger_key)
    ids = {"e1": "e1".ljust(16, "0"), "e2": "e2".ljust(16, "0")}
    store.put_frame(scores.model.asset.ledger_key, ledger.replace({"recording_id": ids}))
    store.put_frame(scores.key, store.get_frame(scores.key).replace({"recording_id": ids}))
    _, table = calibrated(store, run, tmp_path, scores)
    # What the gate said of an exact copy stands only as long as the ledger has it: labels are corrected.
    assert table["notes"].fillna("").tolist() == ["leaked", ""]


def test_hold_off_changes_the_rule_s_bound_and_not_the_model(store: FolderStore, run: Run, tmp_path: Path) -> None:
    result, _ = calibrated(store, run, tmp_path, scored(store, run, {"e1": 0.1, "e2": 0.6}))
    before = store.get_model(result.rule_key, AlarmRule)
    longer = run.settings.model_copy(update={"alarm": AlarmPolicy(hold_off_s=7200)})
    threshold = store.get(set_threshold.fn(result.scores.model, run.model_copy(update={"settings": longer})))
    assert threshold == store.get(result.threshold_key)
    after = store.get_model(result.rule_key, AlarmRule)
    assert (before.alarms_per_day_dependent, after.alarms_per_day_dependent) == (24, 12)
    assert after.clip_threshold == before.clip_threshold


def test_a_model_of_an_older_version_is_refused_with_the_remedy(store: FolderStore, run: Run) -> None:
    with pytest.raises(StoreError, match=r"calibration\.json is not there; onboard a package of the asset again"):
        set_threshold.fn(scored(store, run, {"e1": 1.0, "e2": 1.0}).model, run)


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
