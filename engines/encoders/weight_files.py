"""Pretrained weights on disk: a folder of `model.safetensors` and `weights.json`, which states the file's sha256.

Whoever laid the folder out (`tasks/weights.py`) also wrote there where the weights came from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import WeightsError

WEIGHTS_FILE: Final = "model.safetensors"
CARD_FILE: Final = "weights.json"


class WeightsCard(BaseModel):
    """weights.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = ""
    source: str = ""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def read_weights_card(folder: Path, *, encoder: str) -> WeightsCard:
    """What `weights.json` says.

    Raises
    ------
    WeightsError
        It is absent or states no sha256.
    """
    path = _require(folder / CARD_FILE, encoder)
    try:
        return WeightsCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise WeightsError(f"{path} states no sha256; materialize the weights of {encoder} again") from error


def verify_weights(folder: Path, *, encoder: str) -> str:
    """sha256 of `model.safetensors`, which must be the one in `weights.json`.

    Raises
    ------
    WeightsError
        A file is absent, or the weights are not those that the card names.
    """
    weights = _require(folder / WEIGHTS_FILE, encoder)
    stated = read_weights_card(folder, encoder=encoder).sha256
    found = sha256_of(weights)
    if found != stated:
        raise WeightsError(f"{weights} has sha256 {found}, {CARD_FILE} says {stated}; delete the folder and retry")
    return found


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require(path: Path, encoder: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{path} is absent; materialize the weights of {encoder} again")
    return path
