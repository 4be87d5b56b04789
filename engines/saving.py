"""Fitted engines on disk: `engine.json` says what a model is, `*.safetensors` hold its arrays. Nothing is unpickled.

What is read is checked before it is used: a file that is absent, cut off or of another format is an `InputError`
that names it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from engines.encoders.base import EncoderIdentity
from schemas.errors import InputError, WeightsError

CardT = TypeVar("CardT", bound=BaseModel)
_Scalar = TypeVar("_Scalar", bound=np.generic)

CARD = "engine.json"


class EncoderCard(BaseModel):
    """The encoder that a model was fitted with, as `engine.json` names it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    version: int
    weights: str
    front_end: str
    precision: str = "float32"

    @classmethod
    def of(cls, identity: EncoderIdentity) -> Self:
        """The card of an encoder."""
        return cls(**asdict(identity))

    def require(self, identity: EncoderIdentity, folder: Path) -> None:
        """Refuse another encoder than the model's.

        Raises
        ------
        WeightsError
            `identity` is not the one the model was fitted with.
        """
        fitted_with = EncoderIdentity(**self.model_dump())
        if fitted_with != identity:
            raise WeightsError(f"the model in {folder} was fitted with {fitted_with}, not {identity}; refit the asset")


class EngineName(BaseModel):
    """The one field that every `engine.json` has."""

    model_config = ConfigDict(extra="ignore")

    engine: str


def write_card(card: BaseModel, folder: Path) -> None:
    """Write `engine.json`."""
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path, kind: type[CardT], *, engine: str) -> CardT:
    """`engine.json` of a saved engine.

    `engine` names in messages whose card it should be: a letter, `ensemble`, or `any`.

    Raises
    ------
    InputError
        It is absent, or not one of `kind`; the first field that is wrong is named.
    """
    path = folder / CARD
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is absent: this folder holds no saved engine; refit the asset") from error
    except (ValidationError, UnicodeDecodeError) as error:
        what = "any engine" if engine == "any" else f"engine {engine.upper()}"
        raise InputError(
            f"{path} is no model of {what} that this version reads: {_first_fault(error)}; refit the asset"
        ) from error


def _first_fault(error: ValidationError | UnicodeDecodeError) -> str:
    """What is wrong in one line: a field with its fault, or why the file is no text or no JSON."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}"
    fault = error.errors(include_url=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    field = ".".join(str(part) for part in fault["loc"])
    return f"field {field!r}: {message}" if field else message


class Tensors:
    """The arrays of one safetensors file, each checked when it is taken.

    Raises
    ------
    InputError
        The file is absent or damaged.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        self.path = path
        try:
            self._arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}; refit the asset") from error

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def array(self, name: str, dtype: type[_Scalar], axes: int, *, finite: bool = True) -> NDArray[_Scalar]:
        """The array `name`, of that dtype and number of axes, not empty.

        Raises
        ------
        InputError
            It is absent, of another kind, or holds NaN or Inf where `finite` is asked for.
        """
        value = self._arrays.get(name)
        if value is None or value.dtype != dtype or value.ndim != axes or not value.size:
            raise InputError(f"{self.path} lacks {name!r} as {np.dtype(dtype)} of {axes} axes; refit the asset")
        if finite and not np.isfinite(value).all():
            raise InputError(f"{self.path}: {name!r} holds NaN or Inf; refit the asset")
        return value
