"""`logmel`: no weights; mean and spread of the standardized log-mel bands over short spans.

Two layers, both over spans of 16 frames (0.26 s of an 8 kHz band): all bands together, which knows the machine's
spectrum, and quarters of the bands, which say where in frequency something differs. To each patch a constant is added:
the cosine then also sees how far a patch lies from the normals' mean, not in which direction alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.encoders.base import Encoder, EncoderIdentity, PatchLayer
from engines.features import Spectrogram
from schemas.engine_settings import LogMelSettings

VERSION = 1
"""Raised when the patches change, so that an older model is refused."""

SPAN_FRAMES = 16
ROWS = (1, 4)
"""Frequency rows of each layer."""


class LogMelEncoder(Encoder):
    """Statistics of the log-mel spectrogram."""

    name: ClassVar[str] = "logmel"

    def __init__(self, *, front_end: LogMelSettings | None = None) -> None:
        self.front_end = front_end or LogMelSettings()

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(self.name, VERSION, weights="none", front_end=self.front_end.digest())

    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        bands, frames = spectrogram.values.shape
        columns = _edges(frames, max(1, frames // SPAN_FRAMES))
        spans = np.split(spectrogram.values.astype(np.float64), columns[1:-1], axis=1)
        statistics = np.stack([[span.mean(axis=1), span.std(axis=1)] for span in spans])
        # The normals' deviation, as 0 is their mean: what a clip does not hold is no deviation from them.
        statistics[:, 1, ~spectrogram.band_mask] = 1.0
        return [_layer(statistics, spectrogram, _edges(bands, rows), columns) for rows in ROWS]


def _layer(
    statistics: NDArray[np.float64], spectrogram: Spectrogram, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> PatchLayer:
    """Patches of (spans, 2, bands) statistics, a row of bands each; the shorter rows are filled up with zeros."""
    heights = np.diff(rows)
    shape = (len(heights), len(statistics), 2, heights.max())
    patches = np.zeros(shape)
    for row, (start, height) in enumerate(zip(rows[:-1], heights, strict=True)):
        patches[row, ..., :height] = statistics[..., start : start + height]
    flat = patches.reshape(1, shape[0] * shape[1], -1)
    constant = np.full((*flat.shape[:2], 1), np.sqrt(flat.shape[2]))
    held = np.array([part.mean() >= 0.5 for part in np.split(spectrogram.band_mask, rows[1:-1])])
    held[0] = True  # so that the narrowest clip has a patch
    return PatchLayer(
        patches=np.concatenate([flat, constant], axis=2).astype(np.float32),
        frequencies_hz=_centres(spectrogram.frequencies_hz, rows),
        times_s=_centres(spectrogram.times_s, columns),
        mask=np.repeat(held, shape[1])[None],
    )


def _edges(count: int, pieces: int) -> NDArray[np.int64]:
    return np.linspace(0, count, pieces + 1).round().astype(np.int64)


def _centres(axis: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array([part.mean() for part in np.split(axis, edges[1:-1])])
