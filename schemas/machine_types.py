"""The machine types a table may name: eight from `machine_types.yaml`, more from a customer's YAML.

A type's id is what every later step and every key in the store uses; its names are what a plant may write. What a plant
is to record of it stands in `schemas/forms`; of a type of one's own, what differs from the usual stands under `form`:

    mixer: { en: mixer, ko: 믹서, form: { varies: [load_level], levels: 2, microphones: 2 } }
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError, field_validator

from schemas.errors import UsageError
from schemas.forms import RecordingForm, make_form
from schemas.settings_base import Settings
from schemas.yaml_files import read_mapping

MACHINE_TYPE_ID = r"[a-z][a-z0-9_]{0,31}"
_BUILT_IN = Path(__file__).with_name("machine_types.yaml")


class MachineType(Settings):
    """One kind of machine."""

    id: str = Field(pattern=f"^{MACHINE_TYPE_ID}$", description="Lower-case name, used in keys of the store.")
    en: str = Field(min_length=1, description="English name.")
    ko: str | None = Field(default=None, min_length=1, description="Korean name.")
    aliases: tuple[str, ...] = Field(default=(), description="Further spellings a plant may write.")
    sample_rate: int | None = Field(default=None, gt=0, description="Hz of its clips; none: the default.")
    form: Mapping[str, Any] = Field(
        default_factory=dict, description="Quantities of its form (`schemas.forms`) that differ from the usual."
    )

    @field_validator("aliases", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @property
    def recording_form(self) -> RecordingForm:
        """What to record of a machine of this type. Raises UsageError where `form` states what makes none."""
        return make_form(self.id, self.form, rate=self.sample_rate)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write the type, the id first."""
        return (self.id, self.en, *((self.ko,) if self.ko else ()), *self.aliases)


MachineTypes = Mapping[str, MachineType]
"""Machine types by id."""


def load_machine_types(*more: Path) -> MachineTypes:
    """The eight built-in types and those that the YAML files `more` add; a later file overrides an earlier one.

    Raises UsageError, naming file and entry, where a file cannot be read as such a list, or where two types
    share a spelling.
    """
    if not more:
        return _built_in()
    types = dict(_built_in())
    for path in more:
        types |= _read(path)
    _check_spellings(types)
    return MappingProxyType(types)


def with_own_types(own: Iterable[MachineType]) -> MachineTypes:
    """The built-in types and a customer's own, which override a built-in one of the same id.

    Raises UsageError where two types share a spelling.
    """
    more = {kind.id: kind for kind in own}
    if not more:
        return _built_in()
    types = dict(_built_in()) | more
    _check_spellings(types)
    return MappingProxyType(types)


def spelling_index(types: MachineTypes) -> dict[str, str]:
    """From every spelling, folded by `fold`, to the type's id."""
    return {fold(spelling): kind.id for kind in types.values() for spelling in kind.spellings}


def fold(text: str) -> str:
    """A spelling without case, spaces, dashes and underscores: `Slide-Rail` → `sliderail`, `기계 종류` → `기계종류`."""
    return re.sub(r"[\s_-]+", "", text).casefold()


@cache
def _built_in() -> MachineTypes:
    types = _read(_BUILT_IN)
    _check_spellings(types)
    return MappingProxyType(types)


def _read(path: Path) -> dict[str, MachineType]:
    wanted = "a mapping from type id to its names is wanted, such as `mixer: {en: mixer}`."
    entries = read_mapping(path, what="the machine types", wanted=wanted)
    return {str(key): _entry(path, str(key), fields) for key, fields in entries.items()}


def _entry(path: Path, key: str, fields: object) -> MachineType:
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: machine type {key!r} wants its names, such as `{key}: {{en: {key}}}`.")
    try:
        kind = MachineType(**{"id": key, **fields})
        if kind.form or kind.sample_rate:
            _ = kind.recording_form
    except (ValidationError, TypeError, UsageError) as error:
        raise UsageError(f"{path}: machine type {key!r} is not valid. {error}") from error
    return kind


def _check_spellings(types: MachineTypes) -> None:
    owner: dict[str, str] = {}
    for kind in types.values():
        for spelling in kind.spellings:
            other = owner.setdefault(fold(spelling), kind.id)
            if other != kind.id:
                raise UsageError(
                    f"machine types {other!r} and {kind.id!r} share the spelling {spelling!r}. Drop it in one."
                )
