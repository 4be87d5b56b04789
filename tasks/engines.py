"""Engines and encoders by name, with the weights that are on this machine.

Encoders are kept for the life of the process: loading weights costs more than a clip.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from engines.encoders.base import Encoder
    from engines.patch_memory import PatchMemory

ENCODERS_BEST_FIRST = ("lite0", "logmel")
"""Order in which `auto` looks for an encoder whose weights are here."""


@cache
def load_encoder(name: str) -> Encoder:
    """The encoder `name`, ready to encode.

    Raises
    ------
    UsageError
        ALP knows no such encoder.
    WeightsError
        Its weights are not on this machine.
    """
    if name == "lite0":
        from engines.encoders.lite0 import Lite0Encoder
        from tasks.weights import lite0_weights

        return Lite0Encoder(lite0_weights())
    if name == "logmel":
        from engines.encoders.logmel import LogMelEncoder

        return LogMelEncoder()
    raise UsageError(f"there is no encoder {name!r}; choose one of {', '.join(ENCODERS_BEST_FIRST)} or auto")


def choose_encoder(wanted: str) -> str:
    """`wanted` itself, or for `auto` the best encoder whose weights are here."""
    if wanted != "auto":
        return load_encoder(wanted).name
    for name in ENCODERS_BEST_FIRST:
        try:
            return load_encoder(name).name
        except WeightsError:
            continue
    raise WeightsError("no encoder's weights are on this machine")


def new_engine(name: str, encoder: str, *, seed: int) -> PatchMemory:
    """An engine to be fitted."""
    from engines.patch_memory import PatchMemory
    from schemas.engine_settings import PatchMemorySettings

    if name != "a":
        raise UsageError(f"there is no engine {name!r} in this version; choose a or auto")
    return PatchMemory(load_encoder(encoder), PatchMemorySettings(seed=seed))


def load_engine(folder: Path, encoder: str) -> PatchMemory:
    """A fitted engine from its folder."""
    from engines.patch_memory import PatchMemory

    return PatchMemory.load(folder, encoder=load_encoder(encoder))
