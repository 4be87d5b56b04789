"""`ast`: the Audio Spectrogram Transformer, frozen, on standardized log-mel spectrograms.

The outputs of transformer layers 1 to 11 are read, a patch each of 16 × 16 pixels every 10: of `MIT/ast-finetuned-
audioset-10-10-0.4593` 12 × 101 patches of 768 dimensions a layer where 1024 frames (10.24 s) are full. The last layer
is left out: it serves the classes it was trained for. Geometry is the checkpoint's own (`config.json`).

What the transformer was trained on is kept where it can be:

- Frames: windows of 25 ms every 10 ms, as in training, for a band of 8 kHz (see `LogMelSettings` for narrower ones).
- Rows: 128, over whatever band the machine's recordings hold, interpolated between the mel bands that the window can
  tell apart (74 of 0-8 kHz). The input is thereby always full: filled up with zeros instead, 74 bands would leave five
  of twelve rows of patches empty, and each band would stand where the transformer learnt lower frequencies. Of a
  band of 8 kHz, interpolated rows lie at most six of 128 from where training had them (Slaney's mel scale here, HTK's
  there).
- Level: deviations from the asset's normals, times 0.5, since training scaled its spectrograms to that deviation.

A shorter clip is a shorter input: only the patches whose centre lies in the sound are computed, with the positions
that a clip at the start of the 1024 frames has. Patches of filling would enter no score, but they would be attended to,
and cost as much as sound: a clip of 2 s takes a tenth of the time of one of 10 s.

Arithmetic is bfloat16 where the processor computes in it, else float32; which of them is part of the encoder's
identity: a model fitted in one is refused in the other.

Source: Gong, Chung & Glass, AST: Audio Spectrogram Transformer (2021), through `transformers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from engines.encoders.base import Encoder, EncoderIdentity, PatchLayer
from engines.encoders.weight_files import WEIGHTS_FILE, verify_weights
from engines.features import Spectrogram
from schemas.engine_settings import LogMelSettings
from schemas.errors import EnvironmentFault, InputError, WeightsError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]

VERSION = 1
"""Raised when the patches change, so that an older model is refused."""

CONTRAST = 0.5
"""What a standard deviation becomes in the input: training scaled its spectrograms to a deviation of 0.5."""

LAYERS = range(1, 12)
"""Transformer layers that are read, counted from 1."""

SPECIAL_TOKENS = 2
"""Class and distillation token, which stand before the patches."""


class AstEncoder(Encoder):
    """The Audio Spectrogram Transformer from a local folder of `config.json`, `model.safetensors`, `weights.json`.

    It runs on CUDA where there is one. `precision` `auto` is bfloat16 where the processor computes in it natively;
    plants that fit on one machine and monitor on another choose one for both. Scores are the same to the last bit on
    one kind of processor alone.

    Raises
    ------
    WeightsError
        The folder lacks a file, the weights are not those that `weights.json` names, or no such transformer.
    EnvironmentFault
        transformers is not installed.
    """

    name: ClassVar[str] = "ast"

    def __init__(self, folder: Path, *, front_end: LogMelSettings | None = None, precision: Precision = "auto") -> None:
        import torch

        self._weights_sha256 = verify_weights(folder, encoder=self.name)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._precision = native_precision(self._device) if precision == "auto" else precision
        self._network = _load_network(folder).to(self._device, getattr(torch, self._precision))
        self._config = self._network.config
        self.front_end = front_end or LogMelSettings(n_mels=self._config.num_mel_bins, window_s=0.025, hop_s=0.010)
        self._special, self._positions = self._split_positions()

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(
            self.name,
            VERSION,
            weights=self._weights_sha256,
            front_end=self.front_end.digest(),
            precision=self._precision,
        )

    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        """Layers of one standardized spectrogram of at most `max_length` frames.

        Raises
        ------
        InputError
            It has more frames than the transformer has positions for.
        """
        import torch

        frames, longest = len(spectrogram.times_s), self._config.max_length
        if frames > longest:
            raise InputError(
                f"a spectrogram of {frames} frames exceeds the {longest} of encoder ast; "
                "encode it in pieces of 10 s (max_image_s)"
            )
        rows = _centres(self._positions.shape[0], self._config.frequency_stride, self._config.patch_size)
        columns = _centres(self._positions.shape[1], self._config.time_stride, self._config.patch_size)
        columns = columns[_first_or(columns < frames)]
        image = self._image(spectrogram.values, int(columns[-1] + (self._config.patch_size + 1) / 2))
        with torch.inference_mode():
            outputs = self._run(torch.from_numpy(image), len(columns))
        # From rows of the input to bands of the spectrogram: both cover the same band.
        bands = (rows + 0.5) * len(spectrogram.values) / self._config.num_mel_bins - 0.5
        held = _first_or(bands + 0.5 < int(spectrogram.band_mask.sum()))
        return [
            PatchLayer(
                patches=patches[None],
                frequencies_hz=np.interp(bands, np.arange(len(spectrogram.values)), spectrogram.frequencies_hz),
                times_s=np.interp(columns, np.arange(frames), spectrogram.times_s),
                mask=np.repeat(held, len(columns))[None],
            )
            for patches in outputs
        ]

    def _image(self, values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        """The input, float32 (width, mel rows): 0, the normals' mean, where the clip does not reach."""
        rows = stretch_bands(values, self._config.num_mel_bins)[:, :width] * np.float32(CONTRAST)
        return np.ascontiguousarray(np.pad(rows, [(0, 0), (0, width - rows.shape[1])]).T)

    def _run(self, image: torch.Tensor, columns: int) -> list[NDArray[np.float32]]:
        """Patches of each layer that is read, float32 (rows · columns, dim), time running fastest."""
        import torch

        embedded = self._network.embeddings.patch_embeddings(image[None].to(self._positions))
        placed = embedded[0] + self._positions[:, :columns].flatten(end_dim=1)
        hidden = torch.cat([self._special, placed])[None]
        outputs = []
        # The layers one by one rather than `output_hidden_states`: the network keeps nothing between calls, so that
        # several threads may share it, and what comes after the last layer that is read is not computed.
        for number, layer in enumerate(self._network.layers[: max(LAYERS)], start=1):
            hidden = layer(hidden)
            if number in LAYERS:
                outputs.append(hidden[0, SPECIAL_TOKENS:].float().cpu().numpy())
        return outputs

    def _split_positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The special tokens at their positions, (2, dim), and the patches' positions, (rows, columns, dim)."""
        embeddings = self._network.embeddings
        positions = embeddings.position_embeddings[0]
        rows, columns = embeddings.get_shape(self._config)
        import torch

        special = torch.cat([embeddings.cls_token[0], embeddings.distillation_token[0]]) + positions[:SPECIAL_TOKENS]
        return special, positions[SPECIAL_TOKENS:].reshape(rows, columns, -1)


def native_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """`bfloat16` where the processor multiplies in it, else `float32`."""
    import torch

    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        native = any(can.get(feature) for feature in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16"))
    return "bfloat16" if native else "float32"


def stretch_bands(values: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """(bands, frames) linearly interpolated to (rows, frames) that cover the same band; each a row where equal."""
    bands = len(values)
    places = ((np.arange(rows) + 0.5) * bands / rows - 0.5).clip(0, bands - 1)
    below = np.floor(places).astype(np.int64)
    share = (places - below).astype(np.float32)[:, None]
    stretched: NDArray[np.float32] = values[below] * (1 - share) + values[np.minimum(below + 1, bands - 1)] * share
    return stretched


def _centres(cells: int, stride: int, side: int) -> NDArray[np.float64]:
    return np.arange(cells, dtype=np.float64) * stride + (side - 1) / 2


def _first_or(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those cells, and the first always, so that the smallest clip has a patch."""
    return np.asarray(cells | (np.arange(len(cells)) == 0))


def _load_network(folder: Path) -> Any:
    """The frozen transformer, with every weight from the file.

    Raises
    ------
    WeightsError
        The folder holds another model, one of too few layers, or not all of its weights.
    """
    try:
        from transformers import ASTConfig, ASTModel
    except ImportError as error:
        raise EnvironmentFault("encoder ast needs transformers: pip install 'alp[ast]', or use lite0") from error
    config = folder / "config.json"
    if not config.is_file():
        raise WeightsError(f"{config} is absent; materialize the weights of ast again")
    with _quiet():
        try:
            settings = ASTConfig.from_pretrained(folder, local_files_only=True)
            if settings.model_type != ASTConfig.model_type:
                raise ValueError(f"config.json describes a model of type {settings.model_type!r}")
            network, report = ASTModel.from_pretrained(
                folder, config=settings, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # transformers raises whatever its many readers raise
            raise WeightsError(f"{folder} does not hold an Audio Spectrogram Transformer: {error}") from error
    # What the file lacks transformers fills with random numbers.
    if absent := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
        raise WeightsError(
            f"{folder / WEIGHTS_FILE} lacks {len(absent)} weights that config.json asks for: {absent[0]}, …"
        )
    if settings.num_hidden_layers < max(LAYERS):
        raise WeightsError(f"{config}: {settings.num_hidden_layers} layers; encoder ast reads {max(LAYERS)}")
    return network.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers without its progress bars and reports: what matters of them is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
