"""A customer's settings from a YAML file: what `alp onboard --settings FILE` reads.

The file fills the models of `schemas.settings` and nothing else: no objects, no paths. A key that is left out keeps its
default. Numbers are numbers: `yes` is none, nor is a number in quotes.

    kpi: {metric: miss_rate, target: 0.1}
    alarm: {false_alarms_per_day: 0.5, clips_per_day: 288}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.errors import UsageError
from schemas.settings import OnboardSettings
from schemas.yaml_files import read_mapping

KEYS = ("kpi", "alarm", "routing", "qa", "engine", "encoder", "language", "seed")
"""Of `OnboardSettings`, what a customer's file may say. What an archive may weigh and the form of clips are ours."""


def read_settings(path: Path) -> OnboardSettings:
    """The settings that a YAML file gives.

    Raises
    ------
    UsageError
        The file cannot be read, or says what is no setting; the message names file, key, value and remedy, for all
        keys at once.
    """
    entries = read_mapping(
        path,
        what="the settings",
        wanted=f"settings by name are wanted, such as {', '.join(KEYS)}; see docs/commands.md",
    )
    faults = [_unknown(str(key), KEYS) for key in entries if key not in KEYS]
    known = {str(key): value for key, value in entries.items() if key in KEYS}
    if foreign := list(_foreign(known)):
        raise UsageError(
            "\n".join(f"{path}: {name} is neither number, text, list nor table of these." for name in foreign)
        )
    try:
        settings = OnboardSettings.model_validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        faults += [_describe(fault) for fault in error.errors(include_url=False)]
    if faults:
        raise UsageError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def _foreign(entries: dict[str, Any]) -> Iterator[str]:
    """Names of values that YAML can hold and no setting is: a date, infinity, a list that holds itself."""
    for key, value in entries.items():
        inside = value.items() if isinstance(value, dict) else ()
        for name, one in ((f"{key}.{name}", one) for name, one in inside) if inside else ((key, value),):
            try:
                json.dumps(one, allow_nan=False)
            except (TypeError, ValueError):
                yield f"{name}, {one!r},"


def _describe(fault: Any) -> str:
    """One fault of pydantic's, with the key as it stands in the file and what the setting is."""
    keys = tuple(str(part) for part in fault["loc"])
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return _unknown(name, tuple(_model_of(keys[:-1]).model_fields), before=f"{'.'.join(keys[:-1])}.")
    value = json.dumps(fault["input"], ensure_ascii=False)
    remedy = _model_of(keys[:-1]).model_fields[keys[-1]].description if _is_field(keys) else None
    message = fault["msg"].removeprefix("Value error, ")
    return f"{name} is {value}: {message}." + (f" {remedy}" if remedy else "")


def _unknown(name: str, known: tuple[str, ...], *, before: str = "") -> str:
    near = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, n=1)
    meant = f" Did you mean {before}{near[0]}?" if near else ""
    return f"{name} is no setting.{meant} Settings there are: {', '.join(known)}."


def _model_of(keys: tuple[str, ...]) -> type[BaseModel]:
    """The model that the keys lead to, from `OnboardSettings` down."""
    model: type[BaseModel] = OnboardSettings
    for key in keys:
        found = model.model_fields[key].annotation
        assert isinstance(found, type)
        assert issubclass(found, BaseModel)
        model = found
    return model


def _is_field(keys: tuple[str, ...]) -> bool:
    """Whether the keys name a setting by itself, not a whole table, nor an entry of a list."""
    return 0 < len(keys) <= 2 and keys[-1] in _model_of(keys[:-1]).model_fields
