"""Encoders make patches whose cells say where they are, and each clip is encoded by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.encoders.base import Encoder, PatchLayer
from engines.encoders.lite0 import Lite0Encoder
from engines.encoders.logmel import LogMelEncoder
from engines.features import BandMoments, BandStatistics, Spectrogram
from schemas.engine_settings import LogMelSettings
from schemas.errors import WeightsError


def heard(
    encoder: Encoder,
    machine: Any,
    seed: int,
    seconds: float,
    *,
    bandwidth_hz: float = 8000.0,
    held_hz: float | None = None,
) -> Spectrogram:
    """A standardized spectrogram of a normal recording."""
    waveform = machine.recording(seed, seconds)
    whole, raw = (
        encoder.spectrogram(waveform, sample_rate=16_000, bandwidth_hz=bandwidth_hz, held_hz=band)
        for band in (None, held_hz)
    )
    return BandStatistics.of([BandMoments.of(whole)], std_floor_db=1.0).standardize(raw)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("bandwidth_hz", [8000.0, 500.0, 125.0])
def test_patches_fill_their_grid(encoder: Encoder, machine: Any, seconds: float, bandwidth_hz: float) -> None:
    for layer in encoder.encode([heard(encoder, machine, 0, seconds, bandwidth_hz=bandwidth_hz)]):
        rows, columns = layer.grid
        assert layer.patches.shape[:2] == layer.mask.shape == (1, rows * columns)
        assert layer.patches.dtype == np.float32
        assert np.isfinite(layer.patches).all()
        sound_rows, sound_columns = layer.sound
        assert len(sound_rows)
        assert len(sound_columns)
        assert 0 < layer.frequencies_hz[0] <= layer.frequencies_hz[-1] < bandwidth_hz
        assert layer.times_s[sound_columns[0]] > 0
        assert layer.times_s[sound_columns[-1]] < seconds


def test_a_clip_encoded_beside_a_longer_one_is_the_same_and_the_rest_is_masked(encoder: Encoder, machine: Any) -> None:
    short, long = heard(encoder, machine, 0, 1.1), heard(encoder, machine, 1, 3.0)
    for alone, both in zip(encoder.encode_one(short), encoder.encode([short, long]), strict=True):
        np.testing.assert_array_equal(both.patches[0][both.mask[0]], alone.patches[alone.mask])
        assert both.mask[0].sum() == alone.mask.sum() < both.mask[1].sum()


def test_encoding_twice_gives_the_same_bits(encoder: Encoder, machine: Any) -> None:
    image = heard(encoder, machine, 0, 2.0)
    for first, second in zip(encoder.encode_one(image), encoder.encode_one(image), strict=True):
        assert first.patches.tobytes() == second.patches.tobytes()


def test_bands_that_a_clip_does_not_hold_are_masked(encoder: Encoder, machine: Any) -> None:
    for layer in encoder.encode_one(heard(encoder, machine, 0, 2.0, held_hz=2000.0)):
        rows, _ = layer.sound
        if len(layer.frequencies_hz) > 1:
            assert layer.frequencies_hz[rows[-1]] < 2500.0
            assert len(rows) < len(layer.frequencies_hz)


def test_the_narrowest_clip_still_has_a_patch_in_every_layer(encoder: Encoder, machine: Any) -> None:
    for layer in encoder.encode_one(heard(encoder, machine, 0, 1.0, held_hz=100.0)):
        assert layer.mask.any()


def test_an_event_changes_the_patches_at_its_time(encoder: Encoder, machine: Any) -> None:
    image = heard(encoder, machine, 0, 4.0)
    values = image.values.copy()
    values[:, np.abs(image.times_s - 3.0) < 0.1] += 5.0
    changed = Spectrogram(values, image.frequencies_hz, image.times_s, image.band_mask)
    before, after = encoder.encode_one(image)[0], encoder.encode_one(changed)[0]
    change = np.abs(after.patches - before.patches).sum(axis=2).reshape(before.grid).sum(axis=0)
    assert abs(before.times_s[change.argmax()] - 3.0) < 0.3


def test_lite0_reads_two_depths(lite0_folder: Path, machine: Any) -> None:
    encoder = Lite0Encoder(lite0_folder)
    layers = encoder.encode_one(heard(encoder, machine, 0, 10.0))
    assert [layer.patches.shape[2] for layer in layers] == [40, 112]
    assert [layer.grid for layer in layers] == [(12, 78), (6, 39)]


def test_lite0_is_the_published_network(lite0_folder: Path) -> None:
    torch = pytest.importorskip("torch")
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors.torch import load_file

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(load_file(lite0_folder / "model.safetensors"))
    network.eval()
    encoder = Lite0Encoder(lite0_folder)
    values = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32)
    image = Spectrogram(values, np.arange(1.0, 97.0), np.arange(128) * 0.016, np.ones(96, dtype=np.bool_))
    with torch.inference_mode():
        x = torch.from_numpy(values * np.float32(0.25)).expand(1, 3, -1, -1)
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block in network._blocks[:11]:
            x = block(x)
    expected = x[0].reshape(112, -1).T.numpy()
    np.testing.assert_allclose(encoder.encode_one(image)[1].patches[0], expected, atol=1e-3)


def test_the_identity_follows_weights_and_front_end(lite0_folder: Path) -> None:
    other = LogMelSettings(hop_s=0.02)
    identities = {
        encoder.identity.digest
        for encoder in (
            LogMelEncoder(),
            LogMelEncoder(front_end=other),
            Lite0Encoder(lite0_folder),
            Lite0Encoder(lite0_folder, front_end=other),
        )
    }
    assert len(identities) == 4
    assert Lite0Encoder(lite0_folder).identity == Lite0Encoder(lite0_folder).identity


@pytest.mark.parametrize("name", ["model.safetensors", "weights.json"])
def test_lite0_names_the_file_that_is_absent(lite0_folder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(lite0_folder, tmp_path / "weights")
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{name} is absent"):
        Lite0Encoder(folder)


def test_lite0_refuses_weights_that_were_changed(lite0_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lite0_folder, tmp_path / "weights")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        Lite0Encoder(folder)


@pytest.mark.parametrize("card", ["", "[]", "{}", json.dumps({"name": "lite0"})])
def test_lite0_refuses_a_card_without_a_hash(lite0_folder: Path, tmp_path: Path, card: str) -> None:
    folder = shutil.copytree(lite0_folder, tmp_path / "weights")
    (folder / "weights.json").write_text(card, encoding="utf-8")
    with pytest.raises(WeightsError, match="no sha256"):
        Lite0Encoder(folder)


def test_a_layer_knows_which_rows_and_columns_are_sound() -> None:
    mask = np.array([[True, True, False], [False, False, False]]).reshape(1, -1)
    layer = PatchLayer(np.zeros((1, 6, 2), dtype=np.float32), np.arange(2.0), np.arange(3.0), mask)
    rows, columns = layer.sound
    assert (rows.tolist(), columns.tolist()) == ([0], [0, 1])
