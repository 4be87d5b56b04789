"""A settled choice is known again, the engines in question share one encoder, and a refusal says what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

import tasks.selecting
from engines.conditions import ConditionEvidence
from engines.routing import count_false_alarms
from schemas.errors import RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Asset, Model, Run, Selection, Source
from schemas.settings import OnboardSettings, RoutingSettings
from tasks import keys
from tasks.library import LeftOut
from tasks.selecting import select_engine, settle_engine
from tasks.store import FolderStore

FILED = keys.run("acme", "r", "fan-00/selection.json")
EVEN = 1.0 + 0.01 * np.arange(10)
SCORES = {"a": EVEN, "b": EVEN, "c": np.array([*EVEN[:9], 9.0])}
"""Engine C rings on one of ten normals held out, the others on none."""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    store.put_frame("ledger.parquet", pd.DataFrame({"recording_id": ["t1"], "role": ["target"]}))
    store.put_frame("source.parquet", pd.DataFrame({"recording_id": ["s1"]}))
    store.put_model(keys.run("acme", "r", "fan-00/left_out.json"), LeftOut(synthetic=0))
    return store


@pytest.fixture(autouse=True)
def evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every condition column is true, and engines score the asset's normals as in `SCORES`."""
    true = {"filled": 1.0, "classes": 3, "chance": 1 / 3, "accuracy": 0.9, "p_value": 0.005, "shuffled": 0.4}
    found = [ConditionEvidence(column, **true) for column in CONDITION_COLUMNS]
    monkeypatch.setattr(tasks.selecting, "_weigh_conditions", lambda *_: found)
    monkeypatch.setattr(tasks.selecting, "normal_scores", lambda _, model: (SCORES[model.engine], "leave_one_out"))


def run_on(store: FolderStore, **settings: Any) -> Run:
    asked = OnboardSettings(**({"encoder": "logmel"} | settings))
    return Run(run_id="r", customer="acme", package_id="p", store=store.url, settings=asked, code_version="1")


def select(store: FolderStore, *, source: int = 200, reused: bool = False, **settings: Any) -> Selection:
    asset = Asset(
        customer="acme",
        machine_type="fan",
        section_id="00",
        asset_id="fan-00",
        ledger_key="ledger.parquet",
        ledger_version="0",
        target=10,
        source=0,
        test=0,
        reused=reused,
    )
    found = Source(
        asset=asset,
        key="source.parquet",
        version="0",
        recordings=source,
        own=0,
        customers=("acme",),
        reused=reused,
    )
    return select_engine.fn(asset, found, run_on(store, **settings))


def settle(store: FolderStore, selection: Selection) -> Selection:
    models = [
        Model(asset=selection.asset, version=engine, prefix=engine, engine=engine, encoder="logmel")
        for engine in selection.candidates
    ]
    return settle_engine.fn(selection, models, run_on(store))


def test_a_run_cut_off_after_the_trial_finds_its_choice_settled(store: FolderStore) -> None:
    selection = select(store)
    assert (selection.candidates, selection.reused) == (("c", "b", "a"), False)
    settled = settle(store, selection)
    assert (settled.engine, settled.reused) == ("b", False)
    filed = store.get(FILED)

    again = select(store, reused=True)
    assert store.get(FILED) == filed, "the trial's result stays as it was found"
    assert (again.engine, again.reused) == ("c", True)
    known = settle(store, again)
    assert (known.engine, known.reason, known.reused) == ("b", settled.reason, True)
    assert store.get(FILED) == filed


def test_a_choice_without_a_trial_is_known_again(store: FolderStore) -> None:
    assert not select(store, source=50).reused
    assert select(store, source=50, reused=True).reused


def test_a_choice_on_other_grounds_is_written_anew(store: FolderStore) -> None:
    settle(store, select(store))
    other = select(store, source=201, reused=True)
    assert not other.reused
    assert store.get_model(FILED, Selection).source.recordings == 201


class Fitted:
    """An engine with leave-one-out scores of what it learnt from."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def normal_scores(self) -> np.ndarray:
        return self.scores


def test_the_trial_spends_none_of_the_recordings_held_out_to_calibrate_on(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two engines equally good, the one kept by its held-out scores would ring 1.4 times as often as certified."""
    rng, n, sets = np.random.default_rng(0), 40, 400
    held_out: dict[str, np.ndarray] = {}
    learnt: dict[str, np.ndarray] = {}
    monkeypatch.setattr(tasks.selecting, "normal_scores", lambda _, model: (held_out[model.engine], "split"))
    monkeypatch.setattr(tasks.selecting, "load_engine", lambda folder, _: Fitted(learnt[(folder / "name").read_text()]))
    monkeypatch.setattr(tasks.selecting, "_file", lambda _, selection, __: selection)
    choice = select(store).model_copy(update={"candidates": ("c", "b")})
    store.put("c/name", b"c")
    store.put("b/name", b"b")
    rates, leaking = [], []
    for _ in range(sets):
        for scores in (held_out, learnt):
            scores |= {engine: rng.standard_t(3, size=n) for engine in ("c", "b")}
        kept = settle(store, choice).engine
        rates.append(student_t.sf(held_out[kept].max(), 3))
        trial = {engine: count_false_alarms(scores).rang for engine, scores in held_out.items()}
        leaking.append(student_t.sf(held_out["c" if trial["c"] <= trial["b"] else "b"].max(), 3))
    certified = 1 / (n + 1)
    assert np.mean(rates) < certified + 3 * np.std(rates) / np.sqrt(sets)
    assert np.mean(leaking) > certified + 3 * np.std(leaking) / np.sqrt(sets), "this test can fail"


@pytest.mark.parametrize(
    ("engine", "forbid", "source", "listener"),
    [
        ("auto", (), 0, "a"),
        ("auto", (), 50, "b"),
        ("auto", (), 200, "b"),
        ("auto", ("b",), 200, "a"),
        ("auto", ("b", "c"), 200, "a"),
        ("ensemble", (), 200, "b"),
        ("ensemble", ("b",), 200, "a"),
        ("c", (), 200, "c"),
    ],
)
def test_engines_in_question_share_the_encoder_of_b_where_it_is_among_them(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, engine: Any, forbid: Any, source: int, listener: str
) -> None:
    monkeypatch.setattr(tasks.selecting, "choose_encoder", lambda wanted, *, engine: f"{wanted} for {engine}")
    selection = select(store, source=source, engine=engine, encoder="auto", routing=RoutingSettings(forbid=forbid))
    assert selection.encoder == f"auto for {listener}"


@pytest.mark.parametrize(
    ("engine", "forbid", "source", "advice"),
    [
        ("b", (), 12, ["for B: onboard 18 more source normals", "or ask for auto, which takes A now"]),
        ("b", ("b",), 50, ["for B: take it off routing.forbid in the settings", "or ask for auto, which takes A now"]),
        ("c", (), 50, ["for C: onboard 150 more source normals", "or ask for auto, which takes B now"]),
        ("ensemble", (), 12, ["for B: onboard 18 more source normals", "or ask for auto, which takes A now"]),
        ("auto", ("a", "b", "c"), 50, ["for A: take it off routing.forbid in the settings"]),
    ],
)
def test_a_refusal_says_what_helps(
    store: FolderStore, engine: Any, forbid: Any, source: int, advice: list[str]
) -> None:
    with pytest.raises(RejectedError) as refused:
        select(store, source=source, engine=engine, routing=RoutingSettings(forbid=forbid))
    said = str(refused.value).split("; ")[-len(advice) :]
    assert [sentence.startswith(start) for sentence, start in zip(said, advice, strict=True)] == [True] * len(advice)
    assert ": no: " in str(refused.value)
