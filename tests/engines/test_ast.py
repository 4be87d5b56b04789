"""Encoder ast on a tiny transformer of the published geometry, saved and loaded as the published one is."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTForAudioClassification, ASTModel

from engines.base import ClipSet
from engines.encoders.ast import AstEncoder, native_precision, stretch_bands
from engines.features import Spectrogram
from engines.patch_memory import PatchMemory
from schemas.engine_settings import LogMelSettings, PatchMemorySettings
from schemas.errors import EnvironmentFault, InputError, WeightsError

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 12}
SMALL = SIZES | {"num_mel_bins": 32, "max_length": 64, "patch_size": 8, "frequency_stride": 6, "time_stride": 4}


def write_card(folder: Path) -> Path:
    """weights.json of what lies in the folder."""
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "weights.json").write_text(json.dumps({"name": "ast", "source": "a test", "sha256": sha256}))
    return folder


def save_tiny(folder: Path, **config: Any) -> Path:
    """A classifier of random weights, as the published checkpoint is one, with its card."""
    torch.manual_seed(0)
    network = ASTForAudioClassification(ASTConfig(**config, num_labels=3))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    network.save_pretrained(folder)
    return write_card(folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("ast"), **SIZES)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("small"), **SMALL)


@pytest.fixture(scope="session")
def ast(folder: Path) -> AstEncoder:
    return AstEncoder(folder, precision="float32")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The weights where a test may break them."""
    return Path(shutil.copytree(folder, tmp_path / "weights"))


def image(frames: int, *, bands: int = 128, held: int | None = None, seed: int = 0) -> Spectrogram:
    """A standardized spectrogram of noise, a frame every 10 ms."""
    values = np.random.default_rng(seed).standard_normal((bands, frames)).astype(np.float32)
    mask = np.arange(bands) < (held if held is not None else bands)
    return Spectrogram(
        values * mask[:, None], np.linspace(50.0, 7900.0, bands), 0.0125 + 0.01 * np.arange(frames), mask
    )


def hidden_states(folder: Path, values: NDArray[np.float32], columns: int | None = None) -> list[NDArray[np.float32]]:
    """What transformers itself says of (mel, frames) values, filled up with zeros, per layer (rows, columns, dim).

    Patches from `columns` on are hidden from attention.
    """
    network = ASTModel.from_pretrained(folder).eval()
    filled = np.pad(values, [(0, 0), (0, network.config.max_length - values.shape[1])])
    rows, width = network.embeddings.get_shape(network.config)
    seen = np.ones((rows, width), dtype=np.int64)
    seen[:, columns:] = 0 if columns is not None else 1
    mask = torch.from_numpy(np.concatenate([np.ones(2, dtype=np.int64), seen.ravel()]))[None]
    with torch.inference_mode():
        found = network(
            torch.from_numpy(filled.T.copy())[None],
            attention_mask=mask if columns is not None else None,
            output_hidden_states=True,
        ).hidden_states
    return [states[0, 2:].reshape(rows, width, -1).numpy() for states in found]


def test_a_full_input_gives_eleven_layers_of_twelve_by_a_hundred_and_one_patches(ast: AstEncoder) -> None:
    layers = ast.encode_one(image(1024))
    assert [layer.grid for layer in layers] == [(12, 101)] * 11
    assert {layer.patches.shape for layer in layers} == {(1, 1212, 16)}
    assert all(layer.mask.all() for layer in layers)


def test_the_patches_are_the_outputs_of_layers_1_to_11(ast: AstEncoder, folder: Path) -> None:
    heard = image(1024)
    expected = hidden_states(folder, heard.values * np.float32(0.5))
    assert len(expected) == 13
    for layer, states in zip(ast.encode_one(heard), expected[1:12], strict=True):
        np.testing.assert_allclose(layer.patches[0], states.reshape(1212, -1), atol=1e-4)


def test_a_short_clip_is_as_if_the_filling_were_hidden_from_attention(ast: AstEncoder, folder: Path) -> None:
    heard = image(197)
    layers = ast.encode_one(heard)
    # Centres lie at 7.5, 17.5, …; that of column 19 is 197.5, in the filling.
    assert layers[0].grid == (12, 19)
    expected = hidden_states(folder, heard.values * np.float32(0.5), columns=19)
    for layer, states in zip(layers, expected[1:12], strict=True):
        np.testing.assert_allclose(layer.patches[0], states[:, :19].reshape(12 * 19, -1), atol=1e-4)


def test_time_runs_fastest_among_the_patches(ast: AstEncoder) -> None:
    before = image(1024)
    values = before.values.copy()
    row, column = 9, 33
    values[row * 10 + 3 : row * 10 + 13, column * 10 + 3 : column * 10 + 13] += 8.0
    after = Spectrogram(values, before.frequencies_hz, before.times_s, before.band_mask)
    first, second = ast.encode_one(before)[0], ast.encode_one(after)[0]
    change = np.abs(second.patches - first.patches)[0].sum(axis=1).reshape(first.grid)
    assert np.unravel_index(change.argmax(), change.shape) == (row, column)
    np.testing.assert_allclose(first.times_s[column], before.times_s[[337, 338]].mean())
    np.testing.assert_allclose(first.frequencies_hz[row], before.frequencies_hz[[97, 98]].mean())


def test_the_geometry_is_the_checkpoint_s(small_folder: Path) -> None:
    encoder = AstEncoder(small_folder, precision="float32")
    assert encoder.front_end == LogMelSettings(n_mels=32, window_s=0.025, hop_s=0.010)
    heard = image(64, bands=32)
    layers = encoder.encode_one(heard)
    assert {layer.grid for layer in layers} == {(5, 15)}
    expected = hidden_states(small_folder, heard.values * np.float32(0.5))
    np.testing.assert_allclose(layers[10].patches[0], expected[11].reshape(75, -1), atol=1e-4)


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_the_shortest_clip_has_a_column_of_patches(ast: AstEncoder, frames: int) -> None:
    for layer in ast.encode_one(image(frames)):
        assert layer.grid == (12, 1)
        assert layer.mask.all()
        assert np.isfinite(layer.patches).all()


def test_more_frames_than_positions_are_refused(ast: AstEncoder) -> None:
    with pytest.raises(InputError, match="1025 frames exceeds the 1024"):
        ast.encode_one(image(1025))


@pytest.mark.parametrize("bandwidth_hz", [8000.0, 2000.0, 125.0])
def test_the_band_that_is_there_fills_the_input(ast: AstEncoder, machine: Any, bandwidth_hz: float) -> None:
    heard = ast.spectrogram(machine.recording(0, 5.0), sample_rate=16_000, bandwidth_hz=bandwidth_hz)
    assert len(heard.values) < 128
    for layer in ast.encode_one(heard):
        assert layer.grid[0] == 12
        assert layer.mask.all()
        assert 0 < layer.frequencies_hz[0] < 0.1 * bandwidth_hz
        assert 0.7 * bandwidth_hz < layer.frequencies_hz[-1] < bandwidth_hz
        assert (np.diff(layer.frequencies_hz) > 0).all()


def test_rows_above_what_a_clip_holds_are_masked(ast: AstEncoder) -> None:
    layer = ast.encode_one(image(300, bands=64, held=32))[0]
    rows, columns = layer.sound
    assert rows.tolist() == list(range(6))
    assert len(columns) == layer.grid[1]
    assert layer.frequencies_hz[5] < 4000.0 < layer.frequencies_hz[6]


def test_stretching_keeps_a_slope_and_the_ends() -> None:
    slope = np.arange(74, dtype=np.float32)[:, None] * np.ones((1, 3), dtype=np.float32)
    stretched = stretch_bands(slope, 128)
    np.testing.assert_allclose(np.diff(stretched[2:-2], axis=0), 74 / 128, rtol=1e-4)
    assert stretched[0, 0] == 0.0
    assert stretched[-1, 0] == 73.0
    np.testing.assert_array_equal(stretch_bands(slope, 74), slope)


def test_threads_side_by_side_get_the_same_bits(ast: AstEncoder) -> None:
    def encode(seed: int) -> bytes:
        torch.set_num_threads(1)
        return b"".join(layer.patches.tobytes() for layer in ast.encode_one(image(150, seed=seed)))

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(4) as four:
        alone = list(one.map(encode, range(8)))
        assert list(four.map(encode, range(8))) == alone
    assert len(set(alone)) == 8


def test_bfloat16_says_nearly_the_same_and_is_another_encoder(ast: AstEncoder, folder: Path) -> None:
    half = AstEncoder(folder, precision="bfloat16")
    assert half.identity != ast.identity
    assert half.identity.digest != ast.identity.digest
    for exact, rounded in zip(ast.encode_one(image(400)), half.encode_one(image(400)), strict=True):
        assert rounded.patches.dtype == np.float32
        a, b = exact.patches[0].astype(np.float64), rounded.patches[0].astype(np.float64)
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert np.median(cosine) > 0.999


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
    ],
)
def test_the_processor_decides_the_precision(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert native_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_engine_a_on_ast_keeps_its_contract(folder: Path, machine: Any, tmp_path: Path, precision: Any) -> None:
    encoder = AstEncoder(folder, precision=precision)
    settings = PatchMemorySettings(max_patches=200)
    normals, tests = machine.normals(4), ClipSet.from_arrays(machine.tests(4))
    engine = PatchMemory(encoder, settings, workers=1).fit(normals)
    scores = engine.decision_function(tests)
    shuffled = PatchMemory(encoder, settings, workers=3).fit(normals.subset([2, 0, 3, 1]))
    np.testing.assert_array_equal(shuffled.decision_function(tests), scores)
    others = PatchMemory(encoder, settings).fit(normals.subset([0, 1, 2]))
    assert others.decision_function(normals.subset([3]))[0] == engine.normal_scores()[3]
    engine.save(tmp_path)
    np.testing.assert_array_equal(PatchMemory.load(tmp_path, encoder).decision_function(tests), scores)
    found = engine.anomaly_map(tests, 1)
    assert found.values.shape == (12, 12)


def test_a_model_of_another_precision_is_refused(ast: AstEncoder, folder: Path, machine: Any, tmp_path: Path) -> None:
    PatchMemory(ast, PatchMemorySettings(max_patches=100)).fit(machine.normals(3)).save(tmp_path)
    with pytest.raises(WeightsError, match=r"precision='float32'.*precision='bfloat16'.*refit"):
        PatchMemory.load(tmp_path, AstEncoder(folder, precision="bfloat16"))


def test_a_bare_transformer_is_read_like_a_classifier(ast: AstEncoder, folder: Path, tmp_path: Path) -> None:
    ASTModel.from_pretrained(folder).save_pretrained(tmp_path)
    bare = AstEncoder(write_card(tmp_path), precision="float32")
    np.testing.assert_array_equal(bare.encode_one(image(100))[10].patches, ast.encode_one(image(100))[10].patches)
    assert bare.identity != ast.identity


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "weights.json"])
def test_the_file_that_is_absent_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=f"{name} is absent"):
        AstEncoder(copy)


def test_weights_that_were_changed_are_refused(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        AstEncoder(copy)


def test_weights_that_are_not_all_there_are_refused_rather_than_drawn_at_random(copy: Path) -> None:
    path = copy / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if ".layer.5.attention.output" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 2 weights .* layers\.5\."):
        AstEncoder(write_card(copy))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": 10}, "10 layers; encoder ast reads 11"),
        ({"model_type": "vit"}, "of type 'vit'"),
        ({"max_length": 512}, "does not hold"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copy: Path, change: dict[str, Any], reason: str) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=reason):
        AstEncoder(copy)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_config_that_is_rubbish_is_refused(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(WeightsError, match="does not hold an Audio Spectrogram Transformer"):
        AstEncoder(copy)


def test_without_transformers_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'alp\[ast\]'"):
        AstEncoder(folder)


def test_loading_says_nothing_on_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    AstEncoder(folder)
    assert capfd.readouterr() == ("", "")
