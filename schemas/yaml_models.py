"""Fill a pydantic model from a YAML mapping, every fault named with file, key, value and remedy, all in one pass.

YAML fills models and builds nothing: what JSON cannot hold (a date, infinity, a list that holds itself) is a fault, and
numbers are numbers: `yes` is none, nor is a number in quotes. The remedy is the description of the model's field.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import UsageError

ModelT = TypeVar("ModelT", bound=BaseModel)
_SHOWN_CHARS = 200
"""Of a value in a message."""

_WANTED = {
    "model_type": "a table is wanted, `key: value`",
    "dict_type": "a table is wanted, `key: value`",
    "tuple_type": "a list is wanted, each entry behind a hyphen",
    "string_type": "text is wanted; put it in quotes",
}
"""By pydantic's kind of fault, what its message calls by the words of JSON."""

Place = Callable[[Sequence[str | int]], str]
"""From the keys that lead to a value to where it stands, `acme.yaml` or `acme.yaml, line 7`."""


def fill_model(
    model: type[ModelT], entries: Mapping[Any, Any], *, keys: Sequence[str], place: Place, what: str = "setting"
) -> ModelT:
    """The model that the entries make.

    keys: what may stand at the top. place: where a value stands. what: what an entry is called.

    Raises
    ------
    UsageError
        An entry is unknown, or its value is none that the model takes; a line for each.
    """
    faults = [(place([key]), _unknown(str(key), keys, what)) for key in entries if key not in keys]
    known = {str(key): value for key, value in entries.items() if key in keys}
    if foreign := list(_foreign(known)):
        raise UsageError(
            "\n".join(
                f"{place(loc)}: {'.'.join(map(str, loc))}, {_short(str(one))}, is neither number, text, list nor table"
                " of these; text stands in quotes."
                for loc, one in foreign
            )
        )
    try:
        filled = model.model_validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        faults += [(place(fault["loc"]), _describe(fault, model, what)) for fault in found]
    if faults:
        raise UsageError("\n".join(f"{where}: {fault}" for where, fault in faults))
    return filled


def _foreign(
    value: Any, loc: tuple[str | int, ...] = (), above: Collection[int] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Values that YAML can hold and JSON cannot, with the keys that lead to them.

    above: the tables and lists that `value` lies in; one that holds itself is none of JSON's either.
    """
    if id(value) in above:
        yield loc[:1], "a list or table that holds itself"
    elif isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in inside:
            yield from _foreign(one, (*loc, key if isinstance(key, int) else str(key)), {*above, id(value)})
    else:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            yield loc, value


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _describe(fault: Any, model: type[BaseModel], what: str) -> str:
    """One fault of pydantic's, with the key as it stands in the file and what the field is."""
    keys = tuple(str(part) for part in fault["loc"])
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden" and (parent := _model_at(model, keys[:-1])) is not None:
        return _unknown(name, tuple(parent.model_fields), what, before=f"{'.'.join(keys[:-1])}.")
    message = _WANTED.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    if fault["type"] == "missing":
        return f"{name} is missing. {_remedy(model, keys)}".rstrip()
    value = _short(json.dumps(fault["input"], ensure_ascii=False, default=str))
    ended = message if message.endswith(("?", ".")) else f"{message}."
    return f"{name} is {value}: {ended} {_remedy(model, keys)}".rstrip() if name else message


def _unknown(name: str, known: Sequence[str], what: str, *, before: str = "") -> str:
    near = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, n=1)
    meant = f" Did you mean {before}{near[0]}?" if near else ""
    return f"{name} is no {what}.{meant} {what.capitalize()}s there are: {', '.join(known)}."


def _remedy(model: type[BaseModel], keys: Sequence[str]) -> str:
    """What the field is that the keys lead to; nothing of a whole table, nor of an entry of a list."""
    parent = _model_at(model, keys[:-1])
    field = parent.model_fields.get(keys[-1]) if parent is not None and keys else None
    return (field.description if field else None) or ""


def _model_at(model: type[BaseModel], keys: Sequence[str]) -> type[BaseModel] | None:
    """The model that the keys lead to, from `model` down, through lists and tables of models; None where none is."""
    found: Any = model
    for key in keys:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(key)
            found = field.annotation if field else None
        else:
            # Of a table its values' kind, of a list its elements'.
            found = next((part for part in reversed(typing.get_args(found)) if part is not Ellipsis), None)
        found = _without_none(found)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    """The one kind of an optional field; a list's or a table's element type stays inside it."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [part for part in typing.get_args(annotation) if part is not type(None)]
        return kinds[0] if len(kinds) == 1 else None
    return annotation
