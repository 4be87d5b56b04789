"""What decides a model's version, what is filed of a model, and that no score is lost between runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

import tasks.scoring
from engines.base import ClipSet
from engines.comparability import Recorded
from engines.encoders.logmel import LogMelEncoder
from engines.ensemble import Ensemble
from engines.patch_memory import PatchMemory
from engines.prototypes import Prototypes
from schemas.engine_settings import PrototypeSettings
from schemas.references import Asset, Model, Run, Selection, Source
from schemas.settings import OnboardSettings
from tasks.background import Standing
from tasks.engines import Recipe, caveats_of
from tasks.report.words import Words
from tasks.scoring import cut_into_batches, find_unscored, fit_engine, model_version, recipe_of, score_batch
from tasks.store import FolderStore

ASSET = Asset(
    customer="acme",
    machine_type="fan",
    section_id="00",
    asset_id="fan-00",
    ledger_key="ledger.parquet",
    ledger_version="0",
    target=3,
    source=0,
    test=4,
)
MODEL = Model(asset=ASSET, version="v", prefix="assets/acme/fan-00/models/v", engine="a", encoder="logmel")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def run_on(store_url: str, **settings: Any) -> Run:
    asked = OnboardSettings(**settings)
    return Run(run_id="r", customer="acme", package_id="p", store=store_url, settings=asked, code_version="1")


def choice(engine: str, **changes: Any) -> Selection:
    source = Source(
        asset=ASSET,
        key="source.parquet",
        version=changes.pop("source", "s0"),
        recordings=200,
        own=0,
        customers=("acme",),
    )
    said = {"encoder": "logmel", "reason": "", "criteria": (), "candidates": (engine,), "columns": ("speed_level",)}
    return Selection(asset=ASSET, source=source, engine=engine, **(said | changes))


def segments(role: str, *recordings: str, **said: Any) -> pd.DataFrame:
    """Ledger rows, one segment a recording."""
    row = {"segment": 0, "role": role, "sample_rate": 16_000, "bandwidth_hz": 8000.0, "audio": "a.flac", **said}
    return pd.DataFrame({"recording_id": list(recordings)}).assign(**row)


NORMALS = segments("target", "t1", "t2", "t3", speed_level="low", load_level="full", noise_id=None)

# --- the version --------------------------------------------------------------------------------------------------


def version(engine: str, normals: pd.DataFrame = NORMALS, **changes: Any) -> str:
    settings, noise = changes.pop("settings", {}), changes.pop("noise", segments("noise"))
    selection = choice(engine, **changes)
    run = run_on("file:///nowhere", **settings)
    return model_version(recipe_of(selection, engine, seed=run.settings.seed), selection, normals, noise, run)


ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "a": ("a", {}),
    "b": ("b", {}),
    "c": ("c", {}),
    "a rival of c": ("a", {"candidates": ("c", "b", "a")}),
    "b rival of c": ("b", {"candidates": ("c", "b", "a")}),
    "ensemble of a and b": ("ensemble", {"members": ("a", "b")}),
    "ensemble with c": ("ensemble", {"members": ("a", "c")}),
}
LEARN_FROM_SOURCE = ENGINES.keys() - {"a", "a rival of c"}
LOOK_AT_CONDITIONS = {"c", "ensemble with c"}
TAKE_AN_ENCODER = ENGINES.keys() - {"c"}


@pytest.mark.parametrize("name", ENGINES)
def test_a_version_follows_what_the_engine_looks_at_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kind = ENGINES[name]
    here = version(engine, **kind)

    def follows(normals: pd.DataFrame = NORMALS, **changes: Any) -> bool:
        return version(engine, normals, **(kind | changes)) != here

    assert not follows(NORMALS[::-1].assign(package="another", clip_id="x", load_level="half"))
    assert follows(source="s1") == (name in LEARN_FROM_SOURCE)
    assert follows(columns=("speed_level", "noise_id")) == (name in LOOK_AT_CONDITIONS)
    assert follows(columns=()) == (name in LOOK_AT_CONDITIONS)
    assert follows(NORMALS.assign(speed_level=["low", "low", "high"])) == (name in LOOK_AT_CONDITIONS)
    assert follows(NORMALS.assign(speed_level=None)) == (name in LOOK_AT_CONDITIONS)
    assert follows(NORMALS[:2])
    assert follows(NORMALS.assign(segment=1))
    assert follows(settings={"seed": 1})
    for said in ({"false_alarms_per_day": 2.0}, {"clips_per_day": 2.0}, {"confidence": 0.9}, {"max_window": 5}):
        assert follows(settings={"alarm": said})
    for said in ({"hold_off_s": 5.0}, {"rearm_clips": 9}, {"drift_window": 50}, {"drift_alarms_per_year": 2.0}):
        assert not follows(settings={"alarm": said}), "the same model serves"
    assert follows(settings={"qa": {"min_normals": 4}})
    assert follows(noise=segments("noise", "n1"))
    monkeypatch.setattr(LogMelEncoder, "identity", property(lambda _: OtherIdentity))
    assert follows() == (name in TAKE_AN_ENCODER)


class OtherIdentity:
    """What another encoder would say of itself."""

    digest = "another"


def test_a_recipe_s_digest_follows_every_part_of_it() -> None:
    recipes = [
        Recipe("a", "logmel", 0),
        Recipe("a", "logmel", 1),
        Recipe("b", "logmel", 0),
        Recipe("c", "logmel", 0),
        Recipe("c", "logmel", 0, columns=("speed_level",)),
        Recipe("ensemble", "logmel", 0, ("a", "b")),
        Recipe("ensemble", "logmel", 0, ("a", "c")),
        Recipe("ensemble", "logmel", 0, ("a", "c"), ("speed_level",)),
        Recipe("ensemble", "logmel", 0, ("a", "b", "c")),
    ]
    assert len({recipe.digest() for recipe in recipes}) == len(recipes)
    assert Recipe("c", "lite0", 0).digest() == Recipe("c", "logmel", 0).digest(), "engine C takes no encoder"


# --- what keeps a model from being made again ---------------------------------------------------------------------


RECORDED = Recorded(pieces=1, longest_s=10.0, band_hz=(8000.0, 8000.0), level_db=(-30.0, -28.0))


class CutOff(Prototypes):
    """Engine C whose training was stopped by the clock, without the training."""

    def fit(self, target: ClipSet, source: ClipSet | None = None, **_: Any) -> Self:
        self.episodes_trained = 17
        return self

    def normal_scores(self) -> np.ndarray:
        return np.array([0.1, 0.2, 0.3])

    def save(self, folder: Path) -> None:
        (folder / "engine.json").write_text("{}")


def cut_off(**settings: Any) -> CutOff:
    return CutOff(PrototypeSettings(episodes=400, time_budget_s=2.5, **settings)).fit(ClipSet([], None))  # type: ignore[arg-type]


def test_training_that_the_clock_stopped_is_told_and_filed_with_the_model(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(tasks.scoring, "note", told.append)
    monkeypatch.setattr(tasks.scoring, "new_engine", lambda recipe: cut_off())
    monkeypatch.setattr(Recorded, "measure", lambda *_: RECORDED)
    store.put_frame("ledger.parquet", NORMALS)
    store.put_frame("source.parquet", segments("source", "s1"))
    model = fit_engine.fn(choice("c"), "c", run_on(store.url))
    (caveat,) = model.caveats
    assert "stopped at its limit of 2.5 s, after 17 of 400 episodes" in caveat
    assert any(caveat in sentence for sentence in told)

    monkeypatch.setattr(tasks.scoring, "new_engine", lambda recipe: pytest.fail("fitted again"))
    again = fit_engine.fn(choice("c"), "c", run_on(store.url))
    assert (again.reused, again.caveats) == (True, (caveat,)), "the model that is used again is no other"


def test_an_ensemble_has_the_caveats_of_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, least: int) -> Any:
        raise AssertionError

    ensemble = Ensemble(("a", "c"), refuse)
    ensemble.members = {"a": PatchMemory(LogMelEncoder()), "c": Prototypes()}
    ensemble._normal_scores = np.zeros(5)
    assert caveats_of(ensemble) == ()
    ensemble.members["c"] = cut_off()
    assert caveats_of(ensemble) == caveats_of(cut_off()) != ()


def test_an_ensemble_of_few_normals_says_that_it_rings_too_often() -> None:
    def refuse(name: str, least: int) -> Any:
        raise AssertionError

    ensemble = Ensemble(("a", "b"), refuse)
    ensemble.members = {"a": PatchMemory(LogMelEncoder()), "b": PatchMemory(LogMelEncoder())}
    ensemble._normal_scores = np.zeros(4)
    (caveat,) = caveats_of(ensemble)
    assert caveat.startswith("an ensemble of engines that learnt from 4 normals rings several times as often")
    assert Words("ko").translate(caveat).language == "ko"


def test_training_on_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert ["GPU" in caveat for caveat in caveats_of(Prototypes())] == [True]
    assert caveats_of(Prototypes(PrototypeSettings(device="cpu"))) == ()
    assert caveats_of(PatchMemory(LogMelEncoder())) == ()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert caveats_of(Prototypes()) == ()


# --- scores -------------------------------------------------------------------------------------------------------


class Scorer:
    """An engine that scores recording `e7` by 7, and does something else meanwhile."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile, self.scored = meanwhile, []  # type: ignore[var-annotated]

    def decision_function(self, clips: ClipSet, *, progress: Any = None) -> np.ndarray:
        self.meanwhile()
        self.scored += clips.recordings
        return np.array([float(clip.recording_id[1:]) for clip in clips.clips])


def score(store: FolderStore, scorer: Scorer, monkeypatch: pytest.MonkeyPatch, *recordings: str) -> dict[str, float]:
    """Score a run's test recordings, as every run of the model sees them; the table of scores afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(tasks.scoring, "load_engine", lambda *_: scorer)
        patch.setattr(tasks.scoring, "read_normal_scores", lambda *_: SimpleNamespace(recorded=None))
        patch.setattr(tasks.scoring, "stand", lambda *heard: [Standing("on")] * len(heard[-1].recordings))
        patch.setattr(tasks.scoring, "SCORING_BATCH", 2)
        asset = ASSET.model_copy(update={"ledger_key": f"ledger-{len(recordings)}.parquet"})
        store.put_frame(asset.ledger_key, segments("test", *recordings))
        model = MODEL.model_copy(update={"asset": asset})
        scores, run = find_unscored.fn(choice("a"), model, run_on(store.url)), run_on(store.url)
        for batch in cut_into_batches([scores]):
            score_batch.fn(batch, run)
        table = store.get_frame(scores.key)
    assert table["recording_id"].is_unique
    return dict(zip(table["recording_id"], table["score"], strict=True))


def test_runs_that_share_a_model_lose_none_of_each_other_s_scores(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Scorer()
    scorer = Scorer(lambda: other.scored or score(store, other, monkeypatch, "e2", "e3", "e9"))  # type: ignore[arg-type]
    expected = {"e1": 1.0, "e2": 2.0, "e3": 3.0, "e4": 4.0, "e9": 9.0}
    assert score(store, scorer, monkeypatch, "e1", "e2", "e3", "e4") == expected
    assert other.scored == ["e2", "e3", "e9"]


def test_a_recording_is_scored_once_a_model(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    score(store, Scorer(), monkeypatch, "e1", "e2", "e3")
    later = Scorer()
    assert score(store, later, monkeypatch, "e2", "e4") == {"e1": 1.0, "e2": 2.0, "e3": 3.0, "e4": 4.0}
    assert later.scored == ["e4"]


def test_an_asset_without_tests_has_an_empty_table(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert score(store, Scorer(), monkeypatch) == {}
