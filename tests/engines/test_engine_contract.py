"""What every engine keeps, with every encoder it runs on. A new engine joins by a line in `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import Clip, ClipSet, Engine, Progress, recording_scores
from engines.encoders.base import Encoder
from engines.ensemble import Ensemble
from engines.memory_banks import MemoryBanks
from engines.patch_memory import PatchMemory
from engines.prototypes import Lessons, Prototypes
from schemas.engine_settings import MemoryBankSettings, PatchMemorySettings, PrototypeSettings
from schemas.errors import InputError, UsageError, WeightsError

# The subsample is in use, so that the seed matters.
PATCHES = 200

SPEEDS, LOADS = ("slow", "fast"), ("light", "heavy")


class Maker:
    """Makes, fits and loads one kind of engine; `source` is what it learns from beside the normals.

    `readings` is how often it reads a clip to score it: an ensemble once a member.
    """

    def __init__(
        self,
        new: Callable[..., Engine],
        load: Callable[[Path], Engine],
        source: ClipSet,
        *,
        encoder: bool = True,
        readings: int = 1,
    ) -> None:
        self.new, self.load, self.source, self.hears_by_encoder = new, load, source, encoder
        self.readings = readings

    def fit(self, target: ClipSet, *, progress: Progress | None = None, **options: Any) -> Engine:
        """A new engine, fitted."""
        return self.new(**options).fit(target, self.source, progress=progress)


def patch_memory(encoder: Encoder, source: ClipSet) -> Maker:
    return Maker(
        lambda *, seed=0, **options: PatchMemory(
            encoder, PatchMemorySettings(seed=seed, max_patches=PATCHES), **options
        ),
        lambda folder: PatchMemory.load(folder, encoder),
        source,
    )


def memory_banks(encoder: Encoder, source: ClipSet) -> Maker:
    return Maker(
        lambda *, seed=0, **options: MemoryBanks(
            encoder, MemoryBankSettings(seed=seed, max_source=len(source) - 2), **options
        ),
        lambda folder: MemoryBanks.load(folder, encoder),
        source,
    )


def prototypes(_: Encoder, source: ClipSet) -> Maker:
    return Maker(
        lambda *, seed=0, **options: Prototypes(PrototypeSettings(seed=seed, episodes=3), **options),
        lambda folder: Prototypes.load(folder),
        source,
        encoder=False,
    )


SINGLE = {"a": patch_memory, "b": memory_banks, "c": prototypes}


def ensemble(*members: str) -> Callable[[Encoder, ClipSet], Maker]:
    """An ensemble of those engines; what C learns from the source is shared by all fits of one ensemble."""

    def make(encoder: Encoder, source: ClipSet) -> Maker:
        kinds = {name: SINGLE[name](encoder, source) for name in members}

        def new(*, seed: int = 0, **options: Any) -> Engine:
            shared = {"c": {"lessons": Lessons()}}
            return Ensemble(
                members,
                lambda name, least: kinds[name].new(seed=seed, least=least, **options, **shared.get(name, {})),
            )

        def load_member(folder: Path) -> Engine:
            return kinds[folder.name].load(folder)

        return Maker(
            new,
            lambda folder: Ensemble.load(folder, load_member, lambda name, least: kinds[name].new()),
            source,
            readings=len(kinds),
        )

    return make


ENGINES = SINGLE | {"ensemble of a and b": ensemble("a", "b"), "ensemble of a and c": ensemble("a", "c")}


@pytest.fixture(scope="module")
def source(machine: Any) -> ClipSet:
    """Normals of other machines, under conditions that are written down."""
    count = 20
    return clip_set(
        [
            machine.recording(500 + seed, speed=1.0 + 0.5 * (seed % 2), load=0.5 * (seed // 2 % 2))
            for seed in range(count)
        ],
        recording_ids=[f"s{seed:02d}" for seed in range(count)],
        conditions=[{"speed_level": SPEEDS[seed % 2], "load_level": LOADS[seed // 2 % 2]} for seed in range(count)],
    )


@pytest.fixture(params=ENGINES)
def maker(request: pytest.FixtureRequest, encoder: Encoder, source: ClipSet) -> Maker:
    return ENGINES[request.param](encoder, source)


@pytest.fixture
def normals(machine: Any) -> ClipSet:
    return machine.normals(4)


@pytest.fixture
def tests(machine: Any) -> ClipSet:
    return clip_set(machine.tests(4))


def clip_set(waveforms: Sequence[NDArray[np.floating]], **options: Any) -> ClipSet:
    return ClipSet.from_arrays(waveforms, **options)


def saved(engine: Engine, folder: Path) -> dict[str, bytes]:
    """What `save` writes, file by file."""
    folder.mkdir()
    engine.save(folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_anomalies_score_higher_than_normals(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    scores = maker.fit(normals).decision_function(tests)
    assert scores.shape == (4,)
    assert scores.dtype == np.float64
    assert scores[1::2].min() > scores[::2].max()


def test_one_seed_gives_the_same_model_and_scores(
    maker: Maker, normals: ClipSet, tests: ClipSet, tmp_path: Path
) -> None:
    first, second = maker.fit(normals, seed=7), maker.fit(normals, seed=7)
    assert saved(first, tmp_path / "first") == saved(second, tmp_path / "second")
    np.testing.assert_array_equal(first.decision_function(tests), second.decision_function(tests))


def test_the_seed_decides_what_is_drawn(maker: Maker, normals: ClipSet, tmp_path: Path) -> None:
    first, second = maker.fit(normals, seed=1), maker.fit(normals, seed=2)
    assert saved(first, tmp_path / "first") != saved(second, tmp_path / "second")


def test_a_saved_engine_gives_the_same_scores(maker: Maker, normals: ClipSet, tests: ClipSet, tmp_path: Path) -> None:
    engine = maker.fit(normals)
    engine.save(tmp_path)
    loaded = maker.load(tmp_path)
    np.testing.assert_array_equal(loaded.decision_function(tests), engine.decision_function(tests))
    np.testing.assert_array_equal(loaded.normal_scores(), engine.normal_scores())
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_the_order_of_clips_does_not_matter(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    engine = maker.fit(normals)
    order = [2, 0, 3, 1]
    scores = engine.decision_function(tests)
    np.testing.assert_array_equal(engine.decision_function(tests.subset(order)), scores[order])


def test_the_order_of_normals_does_not_matter(maker: Maker, normals: ClipSet, tests: ClipSet, tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    engine, shuffled = maker.fit(normals), maker.fit(normals.subset(order))
    np.testing.assert_array_equal(shuffled.decision_function(tests), engine.decision_function(tests))
    np.testing.assert_array_equal(shuffled.normal_scores(), engine.normal_scores()[order])


def test_one_clip_alone_scores_as_in_a_set(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    engine = maker.fit(normals)
    alone = [engine.decision_function(tests.subset([i]))[0] for i in range(len(tests))]
    np.testing.assert_array_equal(alone, engine.decision_function(tests))


def test_the_number_of_workers_does_not_matter(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    one, three = maker.fit(normals, workers=1), maker.fit(normals, workers=3)
    np.testing.assert_array_equal(one.decision_function(tests), three.decision_function(tests))
    np.testing.assert_array_equal(one.normal_scores(), three.normal_scores())


BROKEN = {
    "empty": np.zeros(0, dtype=np.float32),
    "NaN": np.full(20_000, np.nan, dtype=np.float32),
    "Inf": np.full(20_000, np.inf, dtype=np.float32),
    "(2, 20000)": np.zeros((2, 20_000), dtype=np.float32),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_clip_is_refused_by_name(maker: Maker, normals: ClipSet, machine: Any, reason: str) -> None:
    names = ["r0", "r1", "bad", "r3"]
    broken = [machine.recording(0), machine.recording(1), BROKEN[reason], machine.recording(3)]
    clips = clip_set(broken, recording_ids=names)
    expected = rf"'bad#2'.*{reason.replace('(', '[(]').replace(')', '[)]')}"
    with pytest.raises(InputError, match=expected):
        maker.fit(clips)
    with pytest.raises(InputError, match=expected):
        maker.fit(normals).decision_function(clips)


def test_a_clip_too_short_to_hear_is_refused_by_name(maker: Maker, normals: ClipSet) -> None:
    clips = clip_set([np.zeros(100, dtype=np.float32)], recording_ids=["click"])
    with pytest.raises(InputError, match=r"'click#0'.*shorter"):
        maker.fit(normals).decision_function(clips)


def test_another_sample_rate_than_the_models_is_refused(maker: Maker, normals: ClipSet, machine: Any) -> None:
    clips = clip_set([machine.recording(0)], sample_rate=8000)
    with pytest.raises(InputError, match="8000 Hz"):
        maker.fit(normals).decision_function(clips)


def test_no_clips_give_no_scores(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    assert maker.fit(normals).decision_function(tests.subset([])).shape == (0,)


@pytest.mark.parametrize("names", [[], ["r0", "r0", "r0", "r0"], ["r0", "r1", "r0", "r1"]])
def test_fewer_than_three_recordings_are_refused(maker: Maker, machine: Any, names: list[str]) -> None:
    clips = clip_set([machine.recording(i) for i in range(len(names))], recording_ids=names)
    with pytest.raises(InputError, match=f"^{len(set(names))} normal recordings"):
        maker.fit(clips)


def test_an_engine_that_is_not_fitted_says_so(maker: Maker, tests: ClipSet, tmp_path: Path) -> None:
    engine = maker.new()
    for use in (lambda: engine.decision_function(tests), engine.normal_scores, lambda: engine.save(tmp_path)):
        with pytest.raises(UsageError, match="call fit"):
            use()


def test_scoring_changes_nothing_in_the_model(maker: Maker, normals: ClipSet, tests: ClipSet, tmp_path: Path) -> None:
    engine = maker.fit(normals)
    before = saved(engine, tmp_path / "before")
    engine.decision_function(tests)
    engine.anomaly_map(tests, 0)
    assert saved(engine, tmp_path / "after") == before


def test_model_and_normal_scores_are_the_same_when_every_test_is_noise(
    maker: Maker, machine: Any, tmp_path: Path
) -> None:
    def onboard(tests: list[NDArray[np.float32]], folder: Path) -> tuple[dict[str, bytes], NDArray[np.float64]]:
        waveforms = [machine.recording(seed) for seed in range(4)] + tests
        everything = clip_set(waveforms)
        engine = maker.fit(everything.subset(range(4)))
        engine.decision_function(everything.subset(range(4, len(waveforms))))
        return saved(engine, folder), engine.normal_scores()

    noise = [np.random.default_rng(seed).standard_normal(20_000).astype(np.float32) for seed in range(4)]
    real_files, real_scores = onboard(machine.tests(4), tmp_path / "real")
    noise_files, noise_scores = onboard(noise, tmp_path / "noise")
    assert real_files == noise_files
    assert real_scores.tobytes() == noise_scores.tobytes()


def test_normal_scores_are_what_an_engine_fitted_on_the_others_says(maker: Maker, normals: ClipSet) -> None:
    scores = maker.fit(normals).normal_scores()
    assert scores.shape == (4,)
    for i in range(1, 4):
        others = maker.fit(normals.subset([j for j in range(4) if j != i]))
        assert others.decision_function(normals.subset([i]))[0] == scores[i]


def test_an_odd_normal_stands_out_in_its_own_leave_one_out_score(maker: Maker, machine: Any) -> None:
    odd = machine.whistling(machine.recording(3))
    clips = clip_set([machine.recording(0), machine.recording(1), machine.recording(2), odd])
    engine = maker.fit(clips)
    left_out, known = engine.normal_scores(), engine.decision_function(clips)
    assert left_out[3] > known[3]
    assert left_out[3] == left_out.max()


def test_segments_of_one_recording_are_left_out_together(maker: Maker, machine: Any) -> None:
    pieces = [machine.recording(seed) for seed in range(5)]
    clips = clip_set(pieces, recording_ids=["r0", "r1", "r2", "r3", "r3"])
    others = maker.fit(clips.subset([0, 1, 2]))
    own = clips.subset([3, 4])
    expected = recording_scores(own, others.decision_function(own))
    np.testing.assert_array_equal(maker.fit(clips).normal_scores()[3:], expected)


def test_progress_counts_every_clip_once(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    fitted: list[int] = []
    scored: list[int] = []
    engine = maker.fit(normals, progress=fitted.append)
    engine.decision_function(tests, progress=scored.append)
    assert (sum(fitted), sum(scored)) == (len(normals), len(tests))
    assert min(fitted + scored) > 0


def test_a_set_is_read_clip_by_clip(maker: Maker, normals: ClipSet, machine: Any) -> None:
    read: list[int] = []

    def load(i: int) -> NDArray[np.float32]:
        read.append(i)
        return machine.recording(50 + i)

    clips = ClipSet([Clip(f"c{i}", f"c{i}", 16_000, 8000.0) for i in range(3)], load)
    maker.fit(normals).decision_function(clips)
    assert sorted(read) == sorted([0, 1, 2] * maker.readings)


def test_a_map_covers_the_clip_in_hz_and_seconds(maker: Maker, normals: ClipSet, tests: ClipSet) -> None:
    found = maker.fit(normals).anomaly_map(tests, 1)
    if found is None:
        pytest.skip("this engine has no map")
    assert found.values.shape == (len(found.frequencies_hz), len(found.times_s))
    assert found.values.dtype == np.float32
    assert (np.diff(found.frequencies_hz) > 0).all()
    assert (np.diff(found.times_s) > 0).all()
    assert found.frequencies_hz[0] > 0
    assert found.frequencies_hz[-1] < 8000
    assert found.times_s[0] > 0
    assert found.times_s[-1] < 1.2


def test_another_encoder_than_the_models_is_refused(
    maker: Maker, encoder: Encoder, normals: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not maker.hears_by_encoder:
        pytest.skip("this engine hears by a network of its own")
    maker.fit(normals).save(tmp_path)
    monkeypatch.setattr(encoder, "front_end", encoder.front_end.model_copy(update={"hop_s": 0.02}))
    with pytest.raises(WeightsError, match="refit"):
        maker.load(tmp_path)
