"""Engine A: what it remembers, where it points, and what it refuses to load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engines.base import Clip, ClipSet
from engines.coreset import farthest_points
from engines.encoders.base import Encoder, EncoderIdentity, PatchLayer
from engines.encoders.logmel import LogMelEncoder
from engines.features import Spectrogram
from engines.patch_memory import PatchMemory
from engines.patches import aligned, map_layers, nearest_cosine, smooth, tail_mean
from engines.workers import Workers
from schemas.engine_settings import PatchMemorySettings
from schemas.errors import InputError


class Padding(Encoder):
    """An encoder that fills every clip up with rubbish, as one of fixed input length does, and masks it."""

    name = "padding"

    def __init__(self, encoder: Encoder, cells: int) -> None:
        self.encoder, self.cells, self.front_end = encoder, cells, encoder.front_end

    @property
    def identity(self) -> EncoderIdentity:
        return self.encoder.identity

    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        return [self._pad(layer) for layer in self.encoder.encode_one(spectrogram)]

    def _pad(self, layer: PatchLayer) -> PatchLayer:
        rows, columns = layer.grid
        rubbish = np.random.default_rng(0).standard_normal((rows, self.cells, layer.patches.shape[2]))
        patches = layer.patches.reshape(rows, columns, -1)
        mask = layer.mask.reshape(rows, columns)
        step = layer.times_s[-1] - layer.times_s[0] + 1.0
        return PatchLayer(
            patches=np.concatenate([patches, rubbish.astype(np.float32)], axis=1).reshape(1, -1, patches.shape[2]),
            frequencies_hz=layer.frequencies_hz,
            times_s=np.append(layer.times_s, layer.times_s[-1] + step * np.arange(1, self.cells + 1)),
            mask=np.concatenate([mask, np.zeros((rows, self.cells), dtype=np.bool_)], axis=1).reshape(1, -1),
        )


def mixed_lengths(machine: Any) -> ClipSet:
    return ClipSet.from_arrays([machine.recording(seed, seconds) for seed, seconds in enumerate((1.0, 2.0, 5.0, 1.5))])


@pytest.mark.parametrize("neighbourhood", [1, 3])
def test_padding_never_changes_a_score(encoder: Encoder, machine: Any, neighbourhood: int) -> None:
    settings = PatchMemorySettings(neighbourhood=neighbourhood)
    normals, tests = mixed_lengths(machine), ClipSet.from_arrays(machine.tests(2))
    plain = PatchMemory(encoder, settings).fit(normals)
    for cells in (1, 7):
        padded = PatchMemory(Padding(encoder, cells), settings).fit(normals)
        np.testing.assert_array_equal(padded.decision_function(tests), plain.decision_function(tests))
        np.testing.assert_array_equal(padded.normal_scores(), plain.normal_scores())
        found, expected = padded.anomaly_map(tests, 0), plain.anomaly_map(tests, 0)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.times_s, expected.times_s)


def test_the_map_points_at_the_anomaly(encoder: Encoder, machine: Any) -> None:
    normals = ClipSet.from_arrays([machine.recording(seed, 4.0) for seed in range(4)])
    faulty = machine.whistling(machine.recording(9, 4.0), start_s=2.5, stop_s=3.0, frequency_hz=3000.0)
    found = PatchMemory(encoder).fit(normals).anomaly_map(ClipSet.from_arrays([faulty]), 0)
    row, column = np.unravel_index(found.values.argmax(), found.values.shape)
    assert 2.2 < found.times_s[column] < 3.3
    spacing = np.gradient(found.frequencies_hz)[row]
    assert abs(found.frequencies_hz[row] - 3000.0) < max(500.0, spacing)


def test_a_known_clip_scores_nothing(encoder: Encoder, machine: Any) -> None:
    normals = machine.normals(3)
    np.testing.assert_allclose(PatchMemory(encoder).fit(normals).decision_function(normals), 0.0, atol=1e-5)


def test_a_normal_scores_higher_left_out_than_known(encoder: Encoder, machine: Any) -> None:
    engine = PatchMemory(encoder).fit(machine.normals(5))
    assert (engine.normal_scores() > engine.decision_function(machine.normals(5))).all()


def test_source_is_ignored(machine: Any) -> None:
    normals, source = machine.normals(3), ClipSet.from_arrays(machine.tests(4))
    with_source = PatchMemory(LogMelEncoder()).fit(normals, source)
    np.testing.assert_array_equal(
        with_source.normal_scores(), PatchMemory(LogMelEncoder()).fit(normals).normal_scores()
    )


def test_many_recordings_are_left_out_in_groups(machine: Any) -> None:
    normals = machine.normals(5)
    settings = PatchMemorySettings(max_refits=2)
    engine = PatchMemory(LogMelEncoder(), settings).fit(normals)
    assert engine.normal_scores_method == "2_fold"
    others = PatchMemory(LogMelEncoder(), PatchMemorySettings()).fit(normals.subset([0, 2, 4]))
    assert others.normal_scores_method == "leave_one_out"
    np.testing.assert_array_equal(engine.normal_scores()[[1, 3]], others.decision_function(normals.subset([1, 3])))


def test_the_memory_keeps_to_its_limit(encoder: Encoder, machine: Any, tmp_path: Path) -> None:
    PatchMemory(encoder, PatchMemorySettings(max_patches=100)).fit(machine.normals(5)).save(tmp_path)
    tensors = load_file(tmp_path / "memory.safetensors")
    sizes = [len(value) for name, value in tensors.items() if name.startswith("layers.")]
    assert max(sizes) <= 100


def test_the_memory_keeps_to_its_size_in_bytes(encoder: Encoder, machine: Any, tmp_path: Path) -> None:
    normals = ClipSet.from_arrays([machine.recording(seed, 10.0) for seed in range(5)])
    PatchMemory(encoder, PatchMemorySettings(max_refits=2)).fit(normals).save(tmp_path)
    layers = [value for name, value in load_file(tmp_path / "memory.safetensors").items() if name.startswith("layers.")]
    assert sum(layer.nbytes for layer in layers) < 2**22
    limited = PatchMemorySettings(max_refits=2, max_memory_mib=1, max_patches=10**6)
    dims = sum(layer.shape[1] for layer in layers)
    quota = -(-(2**20 // (4 * dims)) // 5)
    PatchMemory(encoder, limited).fit(normals).save(tmp_path)
    tensors = load_file(tmp_path / "memory.safetensors")
    for i, layer in enumerate(layers):
        assert len(tensors[f"layers.{i}"]) == min(len(layer), 5 * quota)


@pytest.mark.parametrize("subsample", ["random", "coreset"])
def test_what_a_clip_adds_to_the_memory_hangs_on_that_clip_alone(
    encoder: Encoder, machine: Any, tmp_path: Path, subsample: Any
) -> None:
    settings = PatchMemorySettings(max_patches=120, subsample=subsample)
    normals, test = machine.normals(4), ClipSet.from_arrays(machine.tests(2))
    engine = PatchMemory(encoder, settings, workers=1).fit(normals)
    shuffled = PatchMemory(encoder, settings, workers=3).fit(normals.subset([3, 1, 0, 2]))
    np.testing.assert_array_equal(shuffled.decision_function(test), engine.decision_function(test))
    others = PatchMemory(encoder, settings).fit(normals.subset([0, 1, 3]))
    assert others.decision_function(normals.subset([2]))[0] == engine.normal_scores()[2]


def unit_vectors(count: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_a_coreset_leaves_no_patch_farther_away_than_a_random_draw_does() -> None:
    patches = unit_vectors(500, 8)

    def radius(chosen: np.ndarray) -> float:
        return float(1.0 - (patches @ patches[chosen].T).max(axis=1).min())

    rng = np.random.default_rng(1)
    best_random = min(radius(rng.permutation(500)[:40]) for _ in range(100))
    assert radius(farthest_points(patches, 40, start=3)) < best_random


def test_each_next_patch_is_the_farthest_from_those_before() -> None:
    patches = unit_vectors(60, 5)
    chosen = farthest_points(patches, 20, start=7)
    assert chosen[0] == 7
    for i in range(1, 20):
        nearest = (patches.astype(np.float64) @ patches[chosen[:i]].T).max(axis=1)
        assert nearest[chosen[i]] == pytest.approx(nearest.min(), abs=1e-6)


def test_a_coreset_of_one_patch_repeated_takes_each_copy_once() -> None:
    patches = np.repeat(unit_vectors(1, 6), 10, axis=0)
    assert sorted(farthest_points(patches, 10, start=4).tolist()) == list(range(10))


def test_a_coreset_keeps_the_rare_sound_that_a_random_draw_may_lose() -> None:
    common, rare = np.repeat(unit_vectors(1, 6), 300, axis=0), unit_vectors(1, 6, seed=1)
    patches = np.concatenate([common, rare])
    assert all(300 in farthest_points(patches, 2, start=start) for start in (0, 150, 300))


def test_the_narrowest_normal_sets_the_band(machine: Any) -> None:
    waveforms = [machine.recording(seed) for seed in range(4)]
    clips = [Clip(f"c{i}", f"c{i}", 16_000, band) for i, band in enumerate((8000.0, 8000.0, 4000.0, 8000.0))]
    engine = PatchMemory(LogMelEncoder()).fit(ClipSet(clips, lambda i: waveforms[i]))
    found = engine.anomaly_map(ClipSet.from_arrays(waveforms), 0)
    assert found.frequencies_hz[-1] < 4000.0


def test_what_a_clip_does_not_hold_is_not_anomalous(encoder: Encoder, machine: Any) -> None:
    from soxr import resample

    engine = PatchMemory(encoder).fit(machine.normals(5))
    narrow = resample(resample(machine.recording(9), 16_000, 8000), 8000, 16_000)
    found = engine.anomaly_map(ClipSet.from_arrays([narrow], bandwidth_hz=4000.0), 0)
    unsaid = engine.anomaly_map(ClipSet.from_arrays([narrow]), 0)
    assert np.isnan(found.values).any() or len(found.frequencies_hz) == 1
    assert np.nanmax(found.values) < np.nanmax(unsaid.values)


def test_a_long_clip_is_heard_in_pieces_over_its_whole_length(encoder: Encoder, machine: Any) -> None:
    engine = PatchMemory(encoder, PatchMemorySettings(max_image_s=1.0)).fit(machine.normals(3))
    faulty = machine.whistling(machine.recording(9, 3.5), start_s=3.0)
    found = engine.anomaly_map(ClipSet.from_arrays([faulty]), 0)
    assert (np.diff(found.times_s) > 0).all()
    assert found.times_s[-1] > 3.2
    assert found.times_s[np.nanmax(found.values, axis=0).argmax()] > 2.8


def test_two_normals_of_one_name_are_refused(machine: Any) -> None:
    clips = [Clip("same", f"r{i}", 16_000, 8000.0) for i in range(3)]
    with pytest.raises(InputError, match="same clip_id"):
        PatchMemory(LogMelEncoder()).fit(ClipSet(clips, machine.recording))


@pytest.fixture
def model(machine: Any, tmp_path: Path) -> Path:
    PatchMemory(LogMelEncoder()).fit(machine.normals(3)).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["engine.json", "memory.safetensors"])
def test_a_file_that_is_absent_or_rubbish_is_named(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\xff\x00 rubbish")
    with pytest.raises(InputError, match=name):
        PatchMemory.load(model, LogMelEncoder())
    (model / name).unlink()
    with pytest.raises(InputError, match=name):
        PatchMemory.load(model, LogMelEncoder())


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"engine": "b"}, {"layers": 0}, {"surprise": 1}, {"bandwidth_hz": -1.0}]
)
def test_a_card_of_another_format_is_refused(model: Path, change: dict[str, object]) -> None:
    path = model / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="no model of engine A"):
        PatchMemory.load(model, LogMelEncoder())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers.1", None),
        ("layers.0", np.zeros((3, 5), dtype=np.float64)),
        ("layers.0", np.zeros(5, dtype=np.float32)),
        ("layers.0", np.zeros((0, 5), dtype=np.float32)),
        ("layers.0", np.full((3, 5), np.nan, dtype=np.float32)),
        ("bands.mean", np.zeros(2)),
        ("bands.std", np.zeros(95)),
        ("normal_scores", np.zeros((3, 1))),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model: Path, name: str, value: np.ndarray | None) -> None:
    path = model / "memory.safetensors"
    tensors = load_file(path) | {name: value}
    save_file({key: array for key, array in tensors.items() if array is not None}, path)
    with pytest.raises(InputError, match=r"memory\.safetensors"):
        PatchMemory.load(model, LogMelEncoder())


def test_memory_and_statistics_that_do_not_fit_the_encoder_are_refused(model: Path, machine: Any) -> None:
    path = model / "memory.safetensors"
    tensors = load_file(path)
    for change in ({"layers.0": tensors["layers.0"][:, :-1]}, {"bands.mean": np.zeros(9), "bands.std": np.ones(9)}):
        save_file({key: np.ascontiguousarray(value) for key, value in (tensors | change).items()}, path)
        with pytest.raises(InputError, match="refit"):
            PatchMemory.load(model, LogMelEncoder()).decision_function(machine.normals(1))


def test_the_nearest_cosine_is_that_of_a_full_search() -> None:
    rng = np.random.default_rng(0)
    queries, memory = rng.standard_normal((4, 5, 16)), rng.standard_normal((9000, 16))
    queries /= np.linalg.norm(queries, axis=-1, keepdims=True)
    memory /= np.linalg.norm(memory, axis=-1, keepdims=True)
    found = nearest_cosine(aligned(queries.astype(np.float32)), aligned(memory.astype(np.float32)))
    np.testing.assert_allclose(found, (queries @ memory.T).max(axis=-1), atol=1e-6)


def test_layers_are_averaged_on_the_finest_grid() -> None:
    up, side = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    fine = PatchLayer(np.repeat(up, 4, axis=0)[None], np.arange(2.0), np.arange(2.0), np.ones((1, 4), np.bool_))
    coarse = PatchLayer(side[None], np.array([0.5]), np.array([0.5]), np.ones((1, 1), np.bool_))
    found = map_layers([fine, coarse], [aligned(up), aligned(up)])
    np.testing.assert_allclose(found.values, 0.5)
    assert found.values.shape == (2, 2)


def test_smoothing_takes_no_part_of_what_is_masked() -> None:
    patches = np.array([1.0, 3.0, 1e9], dtype=np.float32).reshape(1, 3, 1)
    layer = PatchLayer(patches, np.zeros(1), np.arange(3.0), np.array([[True, True, False]]))
    np.testing.assert_allclose(smooth(layer, 3).patches[0, :2, 0], 2.0)
    assert smooth(replace(layer, mask=np.ones((1, 3), np.bool_)), 3).patches.max() > 1e8


def test_a_neighbourhood_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="odd number"):
        PatchMemorySettings(neighbourhood=2)


def test_the_tail_is_the_highest_share_of_what_is_sound() -> None:
    values = np.append(np.arange(100, dtype=np.float32), [np.nan] * 100)
    assert tail_mean(values, 0.05) == np.mean([95, 96, 97, 98, 99])
    assert tail_mean(values, 1.0) == 49.5
    assert tail_mean(values[:3], 0.01) == 2.0


def test_workers_leave_the_threads_of_torch_as_they_were() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Workers(2) as workers:
            assert workers.map(lambda _: torch.get_num_threads(), range(8)) == [1] * 8
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
