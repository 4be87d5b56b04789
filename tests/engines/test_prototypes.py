"""Engine C: what it learns from, what its prototypes are, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engines import prototypes as module
from engines.base import Clip, ClipSet
from engines.episodes import Footage, Network, Sampler, Task, train
from engines.prototypes import Lessons, Prototypes, plan_tasks
from engines.workers import Workers
from schemas.engine_settings import PrototypeSettings
from schemas.errors import InputError, UsageError

QUICK = PrototypeSettings(episodes=3, finetune_steps=2)
SPEEDS = ("slow", "fast")


def conditions(count: int) -> list[dict[str, str]]:
    return [{"speed_level": SPEEDS[i % 2], "noise_id": SPEEDS[i // 2 % 2]} for i in range(count)]


def recordings(machine: Any, count: int, known: Sequence[dict[str, str]], seconds: float = 1.2) -> ClipSet:
    waveforms = [machine.recording(500 + i, seconds, speed=1.0 + 0.5 * (i % 2), load=i // 2 % 2) for i in range(count)]
    return ClipSet.from_arrays(waveforms, recording_ids=[f"s{i:02d}" for i in range(count)], conditions=known)


@pytest.fixture(scope="module")
def source(machine: Any) -> ClipSet:
    return recordings(machine, 12, conditions(12))


@pytest.fixture
def target(machine: Any) -> ClipSet:
    """Four normals: two fast, one slow, one that does not say."""
    known = [{"speed_level": "fast"}, {"speed_level": "fast"}, {"speed_level": "slow"}, {}]
    return ClipSet.from_arrays([machine.recording(i) for i in range(4)], conditions=known)


def settings(**changes: Any) -> PrototypeSettings:
    return QUICK.model_copy(update=changes)


def fit(target: ClipSet, source: ClipSet, **changes: Any) -> Prototypes:
    return Prototypes(settings(**changes)).fit(target, source)


def tables(engine: Prototypes, folder: Path) -> dict[str, NDArray[Any]]:
    engine.save(folder)
    return load_file(folder / "prototypes.safetensors")


# --- what it learns ----------------------------------------------------------------------------------------------


def learn(mode: str, *, episodes: int = 40, seed: int = 0) -> tuple[Network, Sampler, int]:
    """A network trained to tell images with an edge high up from those with one low down."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(16):
        image = 0.5 * rng.standard_normal((12, 30 + i))
        image[2 + 6 * (i % 2)] += 1.0
        images.append(image.astype(np.float32))
    names = [f"r{i:02d}" for i in range(16)]
    chosen = settings(train_mode=mode, episodes=episodes, learning_rate=3e-3)
    task = Task("height", ("high", "low"), (tuple(names[::2]), tuple(names[1::2])))
    with Workers(1) as workers:

        def teach(_: int) -> tuple[Network, Sampler, int]:
            network = Network(12, 8, seed=seed)
            footage = Footage(images, names, frames=20, device="cpu")
            done = train(network, Sampler(footage, [task], chosen, seed), chosen)
            return network, Sampler(footage, [task], chosen, 99), done

        return workers.map(teach, [0])[0]


@pytest.mark.parametrize("mode", ["protonet", "reptile"])
def test_episodes_teach_the_conditions(mode: str) -> None:
    network, fresh, done = learn(mode)
    untrained = Network(12, 8, seed=0)
    with torch.no_grad():
        episodes = [fresh.draw() for _ in range(10)]
        before, after = (np.mean([float(e.loss(n)) for e in episodes]) for n in (untrained, network))
    assert done == 40
    assert after < 0.2 < before


@pytest.mark.parametrize("mode", ["protonet", "reptile"])
def test_one_seed_gives_the_same_weights_whatever_torch_drew_before(mode: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = learn(mode, episodes=3)[0].weights()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = learn(mode, episodes=3)[0].weights(), learn(mode, episodes=3, seed=1)[0].weights()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert any((value != other[name]).any() for name, value in first.items())


def test_crops_never_reach_beyond_a_clip() -> None:
    images = [np.full((3, length), 1.0, dtype=np.float32) for length in (10, 40, 11)]
    footage = Footage(images, ["a", "b", "b"], frames=10, device="cpu")
    crops = footage.crop(["a", "b"] * 50, torch.Generator().manual_seed(0))
    assert crops.shape == (100, 10, 3)
    assert bool((crops == 1.0).all())


def test_support_and_query_are_of_different_recordings_where_there_are_enough() -> None:
    images = [np.full((3, 12), i, dtype=np.float32) for i in range(16)]
    names = [f"r{i:02d}" for i in range(16)]
    task = Task("column", ("x", "y"), (tuple(names[:8]), tuple(names[8:])))
    sampler = Sampler(Footage(images, names, frames=4, device="cpu"), [task], settings(shots=3, queries=5), 0)
    for _ in range(5):
        episode = sampler.draw()
        drawn = [*episode.support[:, 0, 0].tolist(), *episode.query[:, 0, 0].tolist()]
        assert sorted(drawn) == list(range(16))


def test_an_unused_time_budget_changes_nothing_and_a_spent_one_is_told(
    target: ClipSet, source: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not fit(target, source).hit_budget
    clock = iter(range(0, 10**9, 60))
    # The module's own clock: other threads of this process go by the system's.
    monkeypatch.setattr("engines.episodes.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    engine = fit(target, source, episodes=50, time_budget_s=150.0)
    assert engine.hit_budget
    assert engine.episodes_trained == 3
    engine.save(tmp_path)
    assert json.loads((tmp_path / "engine.json").read_text())["episodes_trained"] == 3
    assert Prototypes.load(tmp_path).hit_budget


# --- which columns -----------------------------------------------------------------------------------------------


def clips_of(known: Sequence[dict[str, str]]) -> ClipSet:
    clips = [Clip(f"c{i:02d}", f"c{i:02d}", 16_000, 8000.0, values) for i, values in enumerate(known)]
    return ClipSet(clips, lambda _: np.zeros(16_000, dtype=np.float32))


def test_columns_qualify_that_are_filled_and_have_two_classes_of_five() -> None:
    known = [
        {"speed_level": SPEEDS[i % 2], "load_level": "one", "noise_id": SPEEDS[i >= 16]}
        | ({"mic_direction": SPEEDS[i % 2]} if i < 17 else {})
        | {"installation": f"i{i}" if i < 4 else SPEEDS[i % 2]}
        for i in range(20)
    ]
    tasks = plan_tasks(clips_of(known), QUICK)
    assert [(task.column, task.values) for task in tasks] == [
        ("installation", ("fast", "slow")),
        ("speed_level", ("fast", "slow")),
    ]
    assert [len(names) for names in tasks[0].classes] == [8, 8]


def test_named_columns_are_learnt_from_alone(target: ClipSet, source: ClipSet) -> None:
    assert fit(target, source).columns == ("noise_id", "speed_level")
    assert fit(target, source, columns=("speed_level",)).columns == ("speed_level",)


def test_a_column_that_cannot_be_learnt_from_is_named(source: ClipSet) -> None:
    with pytest.raises(InputError, match="'load_level' has 0 values"):
        plan_tasks(source, settings(columns=("speed_level", "load_level")))


def test_source_without_conditions_is_refused(target: ClipSet, machine: Any) -> None:
    with pytest.raises(InputError, match="no condition column in 12 source recordings"):
        fit(target, recordings(machine, 12, [{}] * 12))


@pytest.mark.parametrize("source", [None, ClipSet([], lambda _: np.zeros(0))])
def test_no_source_is_refused(target: ClipSet, source: ClipSet | None) -> None:
    with pytest.raises(InputError, match="there is no source"):
        Prototypes(QUICK).fit(target, source)


def test_a_broken_source_clip_is_named(target: ClipSet, source: ClipSet) -> None:
    broken = ClipSet(source.clips, lambda i: np.full(20_000, np.nan if i == 5 else 0.1, dtype=np.float32))
    with pytest.raises(InputError, match="'s05#5' holds NaN"):
        fit(target, broken)


def test_two_source_clips_of_one_name_are_refused(target: ClipSet) -> None:
    clips = [Clip("same", f"r{i}", 16_000, 8000.0, conditions(10)[i]) for i in range(10)]
    with pytest.raises(InputError, match="source have the same clip_id"):
        fit(target, ClipSet(clips, lambda _: np.zeros(20_000)))


def test_cuda_that_is_not_there_is_refused(target: ClipSet, source: ClipSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="'cuda' was asked for"):
        fit(target, source, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_training_on_cuda_scores_about_as_on_the_cpu(target: ClipSet, source: ClipSet) -> None:
    there, here = (fit(target, source, device=device).normal_scores() for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there, here, rtol=0.05)


# --- prototypes --------------------------------------------------------------------------------------------------


def test_every_recording_is_a_prototype(target: ClipSet, source: ClipSet, tmp_path: Path) -> None:
    found = tables(fit(target, source), tmp_path)
    assert len(found["prototypes.target"]) == 4
    assert len(found["prototypes.source"]) == 12
    assert found["weights"].shape[1] == 2


def test_the_segments_of_a_recording_share_its_prototype(machine: Any, source: ClipSet, tmp_path: Path) -> None:
    waveforms = [machine.recording(i) for i in range(4)]
    clips = [Clip(f"c{i}", f"r{i // 2}" if i < 2 else f"r{i}", 16_000, 8000.0) for i in range(4)]
    engine = fit(ClipSet(clips, lambda i: waveforms[i]), source)
    assert len(tables(engine, tmp_path)["prototypes.target"]) == 3
    assert len(engine.normal_scores()) == 3


def test_a_target_without_metadata_is_scored(machine: Any, source: ClipSet) -> None:
    assert np.isfinite(fit(machine.normals(3), source).normal_scores()).all()


def test_what_sounds_like_a_source_normal_is_no_anomaly(target: ClipSet, source: ClipSet) -> None:
    plain, joined = fit(target, source, source_prototypes=False), fit(target, source)
    with_them, without = joined.decision_function(source), plain.decision_function(source)
    assert (with_them <= without).all()
    # A source clip lies on its own prototype.
    assert (with_them < 0).all()


def test_scores_are_deviations_from_how_far_a_domain_s_own_normals_lie(
    target: ClipSet, source: ClipSet, tmp_path: Path
) -> None:
    plain = fit(target, source, normalization="none", source_prototypes=False, columns=("noise_id",))
    engine = fit(target, source, source_prototypes=False, columns=("noise_id",))
    mean, std = tables(engine, tmp_path)["spreads.target"][0]
    np.testing.assert_allclose(
        engine.decision_function(source), (plain.decision_function(source) - mean) / std, rtol=1e-12
    )
    own = fit(target, source, source_prototypes=False, columns=("noise_id",), shrinkage=0.0)
    (tmp_path / "own").mkdir()
    mean, std = tables(own, tmp_path / "own")["spreads.target"][0]
    # A normal is as far from the others as one that was left out of `plain`.
    np.testing.assert_allclose([mean, std], [plain.normal_scores().mean(), plain.normal_scores().std()], rtol=1e-12)


def test_two_recordings_are_enough_where_an_engine_asks_for_it(machine: Any, source: ClipSet) -> None:
    one, other = machine.recording(0), machine.recording(1)
    engine = Prototypes(QUICK, least=2).fit(ClipSet.from_arrays([one, other]), source)
    twice = Prototypes(QUICK, least=2).fit(ClipSet.from_arrays([one, one]), source)
    assert engine.normal_scores()[1] == twice.decision_function(ClipSet.from_arrays([other]))[0]


VARIANTS = [
    {"adapt": "finetune"},
    {"train_mode": "reptile"},
    {"space": "embedding", "score": "distance"},
    {"source_prototypes": False},
    {"normalization": "none"},
    {"max_source": 10},
    {"tail_fraction": 1.0},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=[next(iter(changes)) for changes in VARIANTS])
def test_left_out_scores_and_files_are_exact_in_every_variant(
    changes: dict[str, Any], target: ClipSet, source: ClipSet, tmp_path: Path
) -> None:
    engine = fit(target, source, **changes)
    others = fit(target.subset([0, 1, 3]), source, **changes)
    assert others.decision_function(target.subset([2]))[0] == engine.normal_scores()[2]
    engine.save(tmp_path)
    loaded = Prototypes.load(tmp_path)
    np.testing.assert_array_equal(loaded.decision_function(source), engine.decision_function(source))


def test_the_finetune_changes_the_network(target: ClipSet, source: ClipSet, tmp_path: Path) -> None:
    for name in ("plain", "tuned"):
        (tmp_path / name).mkdir()
    plain = tables(fit(target, source), tmp_path / "plain")
    tuned = tables(fit(target, source, adapt="finetune"), tmp_path / "tuned")
    assert (plain["network.head.weight"] != tuned["network.head.weight"]).any()


def test_the_left_out_recording_does_not_set_the_band(machine: Any, source: ClipSet) -> None:
    waveforms = [machine.recording(i) for i in range(4)]
    clips = [Clip(f"c{i}", f"c{i}", 16_000, band) for i, band in enumerate((8000.0, 4000.0, 8000.0, 8000.0))]
    target = ClipSet(clips, lambda i: waveforms[i])
    engine = fit(target, source)
    assert fit(target.subset([0, 2, 3]), source).decision_function(target.subset([1]))[0] == engine.normal_scores()[1]
    assert fit(target.subset([0, 1, 3]), source).decision_function(target.subset([2]))[0] == engine.normal_scores()[2]


def of_band(waveforms: Sequence[NDArray[np.float32]], bands: Sequence[float]) -> ClipSet:
    """Recordings that hold so much each, every second one of the other condition."""
    known = conditions(len(bands))
    clips = [Clip(f"c{i:02d}", f"c{i:02d}", 16_000, band, known[i]) for i, band in enumerate(bands)]
    return ClipSet(clips, lambda i: waveforms[i])


def test_bands_that_a_source_clip_does_not_hold_teach_nothing(machine: Any, target: ClipSet, tmp_path: Path) -> None:
    waveforms = [machine.recording(500 + seed, speed=1.0 + 0.5 * (seed % 2)) for seed in range(12)]
    loud = [machine.whistling(waveforms[0], frequency_hz=6000.0), *waveforms[1:]]
    learnt = [tables(fit(target, of_band(sounds, [4000.0] + [8000.0] * 11)), tmp_path) for sounds in (waveforms, loud)]
    for name in ("bands.mean", "bands.std"):
        high = slice(-20, None)
        np.testing.assert_array_equal(learnt[0][name][high], learnt[1][name][high])
    assert all(np.isfinite(array).all() for array in learnt[0].values())


def test_a_band_that_no_source_clip_holds_is_not_heard(machine: Any) -> None:
    source = of_band([machine.recording(500 + seed, speed=1.0 + 0.5 * (seed % 2)) for seed in range(12)], [4000.0] * 12)
    waveforms = [machine.recording(i) for i in range(4)]
    wide, narrow = (fit(of_band(waveforms, [band] * 4), source) for band in (8000.0, 4000.0))
    np.testing.assert_array_equal(wide.normal_scores(), narrow.normal_scores())


def test_clips_of_any_lengths_are_learnt_from_and_scored(machine: Any) -> None:
    lengths = [1.0, 2.0, 0.3, 1.5, 3.0, 1.0, 1.0, 2.0, 1.0, 1.0]
    source = ClipSet.from_arrays([machine.recording(i, s) for i, s in enumerate(lengths)], conditions=conditions(10))
    target = ClipSet.from_arrays([machine.recording(20 + i, s) for i, s in enumerate((0.1, 4.0, 1.0))])
    engine = fit(target, source)
    assert np.isfinite(engine.normal_scores()).all()
    assert np.isfinite(engine.decision_function(source)).all()


def test_a_short_fault_at_the_very_end_is_heard(machine: Any, source: ClipSet) -> None:
    engine = fit(machine.normals(4), source)
    plain = machine.recording(9, 2.0)
    faulty = plain.copy()
    faulty[-1600:] += 0.5 * np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    scores = engine.decision_function(ClipSet.from_arrays([plain, faulty]))
    assert scores[1] > 1.3 * scores[0]


def test_lessons_are_learnt_once_and_change_no_score(
    target: ClipSet, source: ClipSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    monkeypatch.setattr(module, "train", lambda *args: times.append(1) or train(*args))
    alone = Prototypes(QUICK).fit(target, source).normal_scores()
    lessons = Lessons()
    shared = [Prototypes(QUICK, lessons=lessons).fit(target, source).normal_scores() for _ in range(2)]
    assert len(times) == 2
    for scores in shared:
        np.testing.assert_array_equal(scores, alone)
    Prototypes(settings(seed=1), lessons=lessons).fit(target, source)
    Prototypes(QUICK, lessons=lessons).fit(target, source.subset(range(11)))
    assert len(times) == 4


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(target: ClipSet, source: ClipSet, tmp_path: Path) -> Path:
    fit(target, source).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["engine.json", "prototypes.safetensors"])
def test_a_file_that_is_absent_or_rubbish_is_named(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\xff\x00 rubbish")
    with pytest.raises(InputError, match=name):
        Prototypes.load(model)
    (model / name).unlink()
    with pytest.raises(InputError, match=name):
        Prototypes.load(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prototypes.source", None),
        ("prototypes.target", np.zeros((2, 7))),
        ("prototypes.target", np.zeros((0, 256))),
        ("weights", np.zeros((7, 2))),
        ("spreads.source", np.zeros((2, 2))),
        ("spreads.target", np.zeros((3, 2))),
        ("network.head.weight", np.zeros((3, 3), dtype=np.float32)),
        ("bands.std", np.zeros(95)),
        ("normal_scores", np.full(4, np.nan)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model: Path, name: str, value: NDArray[Any] | None) -> None:
    path = model / "prototypes.safetensors"
    arrays = load_file(path) | {name: value}
    save_file({key: array for key, array in arrays.items() if array is not None}, path)
    with pytest.raises(InputError, match="refit"):
        Prototypes.load(model)
