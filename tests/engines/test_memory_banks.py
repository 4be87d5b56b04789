"""Engine B: what it learns of two domains, what is left out together, and what it refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engines.banks import Domain, Mixes, Spread, mean_of_nearest, pool_over_time, shrink_densities, squared_distances
from engines.base import Clip, ClipSet, recording_scores
from engines.encoders.base import Encoder, PatchLayer
from engines.encoders.logmel import LogMelEncoder
from engines.memory_banks import MemoryBanks, make_comparable
from schemas.engine_settings import MemoryBankSettings
from schemas.errors import InputError

SETTINGS: dict[str, MemoryBankSettings] = {
    "-".join(map(str, chosen)): MemoryBankSettings(
        normalization=chosen[0], distance=chosen[1], mixup=chosen[2], neighbours=chosen[3], mixup_neighbours=3
    )
    for chosen in itertools.product(
        ("zscore", "local_density", "none"), ("sqeuclidean", "cosine"), (True, False), (1, 2)
    )
}


@pytest.fixture(params=SETTINGS)
def settings(request: pytest.FixtureRequest) -> MemoryBankSettings:
    """Every way of scoring in turn."""
    return SETTINGS[request.param]


@pytest.fixture(scope="module")
def source(machine: Any) -> ClipSet:
    return named("s", [machine.recording(500 + seed, speed=1.0 + 0.3 * (seed % 2)) for seed in range(8)])


def named(prefix: str, waveforms: Sequence[NDArray[np.float32]], recordings: Sequence[int] | None = None) -> ClipSet:
    numbers = recordings if recordings is not None else range(len(waveforms))
    return ClipSet.from_arrays(waveforms, recording_ids=[f"{prefix}{number}" for number in numbers])


def fitted(target: ClipSet, source: ClipSet, settings: MemoryBankSettings | None = None, **options: Any) -> MemoryBanks:
    return MemoryBanks(LogMelEncoder(), settings, workers=1, **options).fit(target, source)


def without(clips: ClipSet, recording: str) -> ClipSet:
    return clips.subset([i for i, clip in enumerate(clips.clips) if clip.recording_id != recording])


def test_every_normal_score_is_what_banks_of_the_others_say_to_the_last_bit(
    settings: MemoryBankSettings, machine: Any, source: ClipSet
) -> None:
    target = named("t", [machine.recording(seed) for seed in range(6)], [0, 1, 1, 2, 3, 3])
    scores = fitted(target, source, settings).normal_scores()
    for recording, score in zip(target.recordings, scores, strict=True):
        left_out = target.subset(target.indices_of(recording))
        refitted = fitted(without(target, recording), source, settings)
        assert recording_scores(left_out, refitted.decision_function(left_out))[0] == score


def test_two_target_recordings_give_finite_scores(settings: MemoryBankSettings, machine: Any, source: ClipSet) -> None:
    target, tests = machine.normals(2), ClipSet.from_arrays(machine.tests(2))
    for shrinkage in (0.0, 5.0):
        engine = fitted(target, source, settings.model_copy(update={"shrinkage": shrinkage}), least=2)
        assert np.isfinite(engine.normal_scores()).all()
        normal, anomaly = engine.decision_function(tests)
        assert np.isfinite(normal)
        assert anomaly > normal


def test_copies_of_one_recording_give_finite_scores(
    settings: MemoryBankSettings, machine: Any, source: ClipSet
) -> None:
    target = named("t", [machine.recording(0)] * 3)
    copies = named("s", [machine.recording(500)] * 3 + [machine.recording(501)])
    engine = fitted(target, copies, settings)
    assert np.isfinite(engine.normal_scores()).all()
    assert np.isfinite(engine.decision_function(ClipSet.from_arrays(machine.tests(2)))).all()


def test_a_normal_of_either_domain_scores_lower_than_an_anomaly(encoder: Encoder, machine: Any) -> None:
    source = named("s", [machine.recording(500 + seed, speed=1.5) for seed in range(8)])
    like_source, like_target = machine.recording(900, speed=1.5), machine.recording(901)
    faulty = machine.whistling(machine.recording(902))
    engine = MemoryBanks(encoder).fit(machine.normals(4), source)
    of_source, of_target, of_fault = engine.decision_function(ClipSet.from_arrays([like_source, like_target, faulty]))
    assert max(of_source, of_target) < of_fault


def test_a_model_of_many_source_recordings_keeps_as_many_as_the_setting_says(
    machine: Any, source: ClipSet, tmp_path: Path
) -> None:
    kept = []
    for seed, order in ((0, range(8)), (0, reversed(range(8))), (1, range(8))):
        settings = MemoryBankSettings(max_source=3, seed=seed)
        fitted(machine.normals(3), source.subset(list(order)), settings).save(tmp_path)
        kept.append(load_file(tmp_path / "banks.safetensors")["source.embeddings"])
    assert [len(bank) for bank in kept] == [3, 3, 3]
    np.testing.assert_array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])


def test_the_order_of_the_source_does_not_matter(machine: Any, source: ClipSet) -> None:
    tests = ClipSet.from_arrays(machine.tests(2))
    engines = [fitted(machine.normals(3), source.subset(list(o))) for o in (range(8), reversed(range(8)))]
    np.testing.assert_array_equal(engines[0].decision_function(tests), engines[1].decision_function(tests))
    np.testing.assert_array_equal(engines[0].normal_scores(), engines[1].normal_scores())


def test_segments_of_a_source_recording_are_not_each_others_neighbours(machine: Any, tmp_path: Path) -> None:
    waveforms = [machine.recording(500 + seed) for seed in range(4)]
    once = named("s", waveforms)
    twice = named("s", [*waveforms, *waveforms], [0, 1, 2, 3, 0, 1, 2, 3])
    means = []
    for source in (once, twice):
        fitted(machine.normals(3), source, MemoryBankSettings(normalization="zscore")).save(tmp_path)
        means.append(json.loads((tmp_path / "engine.json").read_text())["source"]["mean"])
    assert means[0] > 0
    assert means[1] == pytest.approx(means[0], rel=1e-5)


@pytest.mark.parametrize("source", [None, [], [0]])
def test_without_source_normals_it_says_what_to_do(machine: Any, source: list[int] | None) -> None:
    clips = None if source is None else named("s", [machine.recording(500)]).subset(source)
    with pytest.raises(InputError, match=r"engine B needs source normals.*domain=source.*engine A"):
        MemoryBanks(LogMelEncoder()).fit(machine.normals(3), clips)


def test_a_source_of_another_sample_rate_is_refused(machine: Any) -> None:
    source = ClipSet.from_arrays([machine.recording(seed) for seed in range(3)], sample_rate=8000)
    with pytest.raises(InputError, match="8000 Hz"):
        MemoryBanks(LogMelEncoder()).fit(machine.normals(3), source)


def test_a_broken_source_clip_is_refused_by_name(machine: Any) -> None:
    source = named("s", [machine.recording(500), np.full(20_000, np.nan, dtype=np.float32)])
    with pytest.raises(InputError, match=r"'s1#1'.*NaN"):
        MemoryBanks(LogMelEncoder()).fit(machine.normals(3), source)


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_layers_count_equally_whatever_the_share_of_deviations(
    encoder: Encoder, machine: Any, source: ClipSet, tmp_path: Path, share: float
) -> None:
    MemoryBanks(encoder, MemoryBankSettings(spread_share=share)).fit(machine.normals(3), source).save(tmp_path)
    variance = load_file(tmp_path / "banks.safetensors")["source.embeddings"].astype(np.float64).var(axis=0)
    layers = encoder.encode_one(encoder.spectrogram(source.waveform(0), sample_rate=16_000, bandwidth_hz=8000.0))
    sizes = np.repeat([layer.grid[0] * layer.patches.shape[2] for layer in layers], 2)
    blocks = [part.sum() for part in np.split(variance, np.cumsum(sizes)[:-1])]
    np.testing.assert_allclose(blocks, [1 - share, share] * len(layers), atol=1e-5)


def of_band(prefix: str, waveforms: Sequence[NDArray[np.float32]], bands: Sequence[float]) -> ClipSet:
    clips = [Clip(f"{prefix}{i}", f"{prefix}{i}", 16_000, band) for i, band in enumerate(bands)]
    return ClipSet(clips, lambda i: waveforms[i])


def test_bands_that_a_source_clip_does_not_hold_teach_nothing(encoder: Encoder, machine: Any, tmp_path: Path) -> None:
    waveforms = [machine.recording(500 + seed) for seed in range(4)]
    loud = [machine.whistling(waveforms[0], frequency_hz=6000.0), *waveforms[1:]]
    learnt = []
    for sounds in (waveforms, loud):
        source = of_band("s", sounds, [4000.0, 8000.0, 8000.0, 8000.0])
        MemoryBanks(encoder).fit(machine.normals(3), source).save(tmp_path)
        learnt.append(load_file(tmp_path / "banks.safetensors"))
    for name in ("bands.mean", "bands.std"):
        high = slice(-20, None)
        np.testing.assert_array_equal(learnt[0][name][high], learnt[1][name][high])
    assert all(np.isfinite(array).all() for array in learnt[0].values())


def test_a_band_that_no_source_clip_holds_is_not_heard(machine: Any) -> None:
    source = of_band("s", [machine.recording(500 + seed) for seed in range(4)], [4000.0] * 4)
    waveforms = [machine.recording(seed) for seed in range(4)]
    wide, narrow = (fitted(of_band("t", waveforms, [band] * 4), source) for band in (8000.0, 4000.0))
    np.testing.assert_array_equal(wide.normal_scores(), narrow.normal_scores())


def test_leaving_the_narrowest_target_out_widens_the_band(machine: Any, source: ClipSet) -> None:
    waveforms = [machine.recording(seed) for seed in range(4)]
    target = of_band("t", waveforms, [4000.0, 8000.0, 8000.0, 8000.0])
    engine = fitted(target, source)
    others = fitted(without(target, "t0"), source)
    assert others.decision_function(target.subset([0]))[0] == engine.normal_scores()[0]


def test_pieces_of_a_long_clip_are_pooled_as_one() -> None:
    cells = np.random.default_rng(2).standard_normal((2, 5, 3)).astype(np.float32)

    def layer(patches: NDArray[np.float32]) -> PatchLayer:
        columns = patches.shape[1]
        mask = np.ones((1, 2 * columns), dtype=np.bool_)
        return PatchLayer(patches.reshape(1, -1, 3), np.array([100.0, 200.0]), np.arange(columns) / 10, mask)

    cut = pool_over_time([layer(cells[:, :2]), layer(cells[:, 2:])])
    np.testing.assert_array_equal(cut, pool_over_time([layer(cells)]))


def test_a_clip_longer_than_an_image_is_scored(encoder: Encoder, machine: Any, source: ClipSet) -> None:
    engine = MemoryBanks(encoder, MemoryBankSettings(max_image_s=1.5)).fit(machine.normals(3), source)
    plain = machine.recording(50, 4.0)
    late = machine.whistling(plain, start_s=3.0)
    normal, anomaly = engine.decision_function(ClipSet.from_arrays([plain, late]))
    assert normal < anomaly


@pytest.mark.parametrize("name", ["source.density", "target.embeddings", "mixes.partners", "ear.weights"])
def test_arrays_that_do_not_fit_together_are_refused(machine: Any, source: ClipSet, tmp_path: Path, name: str) -> None:
    fitted(machine.normals(3), source).save(tmp_path)
    path = tmp_path / "banks.safetensors"
    tensors = load_file(path)
    save_file({**tensors, name: np.ascontiguousarray(tensors[name][:-1])}, path)
    with pytest.raises(InputError, match="do not fit together"):
        MemoryBanks.load(tmp_path, LogMelEncoder())


def test_a_partner_that_is_not_in_the_bank_is_refused(machine: Any, source: ClipSet, tmp_path: Path) -> None:
    fitted(machine.normals(3), source).save(tmp_path)
    path = tmp_path / "banks.safetensors"
    tensors = load_file(path)
    tensors["mixes.partners"][0, 0] = len(source)
    save_file(tensors, path)
    with pytest.raises(InputError, match="do not fit together"):
        MemoryBanks.load(tmp_path, LogMelEncoder())


@pytest.mark.parametrize("mixup", [True, False])
@pytest.mark.parametrize("normalization", ["zscore", "local_density", "none"])
def test_every_normalization_is_saved(
    machine: Any, source: ClipSet, tmp_path: Path, normalization: Any, mixup: bool
) -> None:
    engine = fitted(machine.normals(3), source, MemoryBankSettings(normalization=normalization, mixup=mixup))
    engine.save(tmp_path)
    tests = ClipSet.from_arrays(machine.tests(2))
    loaded = MemoryBanks.load(tmp_path, LogMelEncoder())
    np.testing.assert_array_equal(loaded.decision_function(tests), engine.decision_function(tests))


def test_a_pooled_patch_is_mean_and_deviation_of_the_sound_of_its_row() -> None:
    patches = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    mask = np.array([[True, True, False, False, False, False]])
    layer = PatchLayer(patches, np.array([100.0, 200.0]), np.array([0.1, 0.2, 0.3]), mask)
    pooled = pool_over_time([layer])
    np.testing.assert_array_equal(pooled[:, 0], [[1.0, 2.0], [1.0, 1.0]])
    assert np.isnan(pooled[:, 1]).all()


def test_a_distance_is_the_same_whatever_else_is_in_the_bank() -> None:
    rng = np.random.default_rng(0)
    queries, bank = rng.standard_normal((7, 1153)), rng.standard_normal((11, 1153))
    together = squared_distances(queries, bank)
    alone = [[squared_distances(q[None], b[None])[0, 0] for b in bank] for q in queries]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[1:5, 2:9], squared_distances(queries[1:5], bank[2:9]))


def test_distances_to_mixes_are_those_to_mixes_that_are_really_made() -> None:
    rng = np.random.default_rng(1)
    queries, target, source = (rng.standard_normal((n, 5)) for n in (3, 4, 6))
    to_source = squared_distances(target, source)
    mixes = Mixes.of(to_source, share=0.9, count=2)
    reach = mixes.reach(squared_distances(queries, target), squared_distances(queries, source), neighbours=3)
    for t, own in enumerate(target):
        made = np.stack([own, *(0.9 * own + 0.1 * source[np.argsort(to_source[t])[:2]])])
        np.testing.assert_allclose(reach[:, t], np.sort(squared_distances(queries, made), axis=1), atol=1e-12)


def test_the_mean_of_the_nearest_passes_over_those_left_out() -> None:
    distances = np.array([[3.0, np.inf, 1.0, 2.0], [5.0, np.inf, np.inf, np.inf], [np.inf] * 4])
    np.testing.assert_array_equal(mean_of_nearest(distances, 2), [1.5, 5.0, np.inf])


def test_shrinkage_moves_the_relative_spread_from_the_targets_to_the_sources() -> None:
    own, source = np.array([8.0, 12.0, 10.0]), Spread(mean=1.0, std=0.5)
    spreads = [Spread.of_target(own, recordings=3, source=source, shrinkage=weight) for weight in (0.0, 2.0, 1e9)]
    assert [spread.mean for spread in spreads] == [10.0, 10.0, 10.0]
    np.testing.assert_allclose([spread.std for spread in spreads], [2.0, 10 * np.sqrt((0.04 + 0.25) / 2), 5.0])


def test_one_target_recording_takes_the_sources_spread() -> None:
    source = Spread(mean=1.0, std=0.5)
    assert Spread.of_target(np.array([np.inf]), recordings=1, source=source, shrinkage=0.0) == source
    assert shrink_densities(np.array([np.inf]), recordings=1, source_mean=1.0, shrinkage=0.0).tolist() == [1.0]


def test_local_density_lets_a_lonely_normal_bear_more() -> None:
    density = shrink_densities(np.array([1.0, 1.0, 8.0]), recordings=3, source_mean=1.0, shrinkage=0.0)
    np.testing.assert_allclose(density, [1.0, 1.0, 8.0])
    shrunk = shrink_densities(np.array([1.0, 1.0, 8.0]), recordings=3, source_mean=1.0, shrinkage=3.0)
    np.testing.assert_allclose(shrunk, [2**0.5, 2**0.5, 4.0])
    scores = Domain(density, None).score(np.array([[4.0, 9.0, 9.0], [9.0, 9.0, 4.0]]), neighbours=1)
    np.testing.assert_allclose(scores, [9 / 8, 0.5])


def test_normalization_makes_domains_of_different_size_comparable() -> None:
    near, far = np.array([1.0, 1.2, 0.8, 1.1]), np.array([10.0, 12.0, 8.0, 11.0])
    for normalization in ("zscore", "local_density"):
        settings = MemoryBankSettings(normalization=normalization, shrinkage=0.0)
        source, target = make_comparable(settings, near, far, recordings=4)
        in_source = source.score(np.full((1, 4), 1.0), neighbours=1)
        np.testing.assert_allclose(in_source, target.score(np.full((1, 4), 10.0), neighbours=1))
