"""What a plant is asked to record, by machine type: the quantities of `schemas/forms/<type>.yaml`.

They are written there and nowhere else. The form prints them; the quality gate and the router ask for the same normals
and cut the same clips, because the defaults of their settings are read from here (`shared_quantity`); the library says
by them what to collect next. What the gate asks of every machine (`SHARED`) must be the same in all eight files, and a
file that disagrees is refused.

A machine type of one's own (`schemas/machine_types.py`) says what differs under `form` in its YAML; what it leaves out
is asked of it as `schemas/general_form.yaml` has it (`make_form`).

Units: seconds, metres and hertz.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import AlpError, UsageError
from schemas.yaml_files import read_mapping

SHARED = frozenset({"clip_s", "min_normals", "recommended_normals"})
"""Quantities that the gate and the router ask of every machine alike."""

_FOLDER = Path(__file__).with_name("forms")
_GENERAL = Path(__file__).with_name("general_form.yaml")

Varying = Literal["speed_level", "load_level", "operating_mode"]
"""Columns of the table for what a plant sets on a machine."""
Span = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
"""From, to."""


class RecordingForm(BaseModel):
    """What to record of a machine of one type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine_type: str
    clip_s: float = Field(gt=0, description="Length of one recording.")
    min_normals: int = Field(ge=1, description="Normal recordings without which a machine cannot be judged.")
    recommended_normals: int = Field(ge=1, description="Normal recordings to ask for.")
    noise_s: Span = Field(description="Of the same place with the machine off.")
    varies: tuple[Varying, ...] = Field(min_length=1, description="What is set on such a machine, the first by habit.")
    levels: int = Field(ge=2, description="Settings of it to be recorded, such as low, medium and high speed.")
    level_s: Span = Field(description="At each setting.")
    microphones: int = Field(ge=1, le=2, description="Positions of the microphone worth recording at.")
    distance_m: Span = Field(description="From the microphone to the machine.")
    sensors: tuple[Literal["microphone", "accelerometer"], ...] = Field(min_length=1, description="The first is usual.")
    sample_rate: tuple[int, int] = Field(description="Rates to record at.")
    test_clips: int = Field(ge=0, description="Confirmed normal, and as many confirmed faulty recordings, for a test.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        spans = {name: getattr(self, name) for name in ("noise_s", "level_s", "distance_m", "sample_rate")}
        spans["normals"] = (self.min_normals, self.recommended_normals)
        for name, (low, high) in spans.items():
            if low > high:
                raise ValueError(f"{name} goes down, from {low:g} to {high:g}")
        return self

    def clips(self, seconds: float) -> int:
        """Recordings that so many seconds fill."""
        return -int(-seconds // self.clip_s)


def load_forms(folder: Path) -> Mapping[str, RecordingForm]:
    """The forms in a folder, by machine type.

    Raises UsageError, naming file and field, where a file cannot be read as a form, or two differ in a quantity of
    `SHARED`.
    """
    forms = {path.stem: _form(path) for path in sorted(folder.glob("*.yaml"))}
    if not forms:
        raise UsageError(f"{folder}: there is no form in it. Write one YAML file a machine type.")
    first, *others = forms.values()
    for form in others:
        for name in SHARED:
            if getattr(form, name) != getattr(first, name):
                raise UsageError(
                    f"{folder}: {first.machine_type}.yaml has {name} {getattr(first, name):g} and"
                    f" {form.machine_type}.yaml {getattr(form, name):g}. The quality gate asks the same of every"
                    " machine: write one number into all of them."
                )
    return MappingProxyType(forms)


@cache
def built_in_forms() -> Mapping[str, RecordingForm]:
    """The forms of the eight machine types, read once."""
    return load_forms(_FOLDER)


def form_of(machine_type: str) -> RecordingForm:
    """What to record of a machine of a built-in type.

    Raises UsageError of any other type: its form comes with its YAML, as `MachineType.recording_form`.
    """
    forms = built_in_forms()
    if machine_type not in forms:
        raise UsageError(
            f"there is no form for machine type {machine_type!r}; there is one for {', '.join(forms)}. Another type's"
            " quantities stand in its YAML, under `form`"
        )
    return forms[machine_type]


def make_form(machine_type: str, own: Mapping[str, object], *, rate: int | None = None) -> RecordingForm:
    """What to record of a machine of a type that a YAML file of one's own adds or changes.

    own: the quantities that the type states; the others are those of its built-in form, else of the general one.
    rate: Hz at which its sound is judged, below which nothing should be recorded.

    Raises UsageError, naming the field, where they make no form, or where they change a quantity of `SHARED`.
    """
    if changed := sorted(SHARED & own.keys()):
        raise UsageError(f"its form states {', '.join(changed)}, which is asked of every machine alike. Leave it out.")
    built_in = built_in_forms().get(machine_type)
    base = (
        built_in.model_dump() if built_in else {**_read(_GENERAL), **{name: shared_quantity(name) for name in SHARED}}
    )
    if rate is not None:
        base["sample_rate"] = tuple(max(rate, asked) for asked in base["sample_rate"])
    try:
        return RecordingForm(**{**base, "machine_type": machine_type, **own})
    except (ValidationError, TypeError) as error:
        raise UsageError(f"its form is not valid. {error}") from error


def rates_asked_for() -> tuple[int, int]:
    """The lowest and the highest rate, in Hz, that any built-in form asks a plant to record at."""
    rates = [form.sample_rate for form in built_in_forms().values()]
    return min(low for low, _ in rates), max(high for _, high in rates)


def shared_quantity(name: str) -> float:
    """A number that all forms agree on, one of `SHARED`."""
    if name not in SHARED:
        raise AlpError(f"{name} differs from machine type to machine type; ask form_of(type)")
    return float(getattr(next(iter(built_in_forms().values())), name))


def _read(path: Path) -> dict[str, Any]:
    wanted = "a mapping from quantity to number is wanted, such as `clip_s: 10`."
    return read_mapping(path, what="the form", wanted=wanted)


def _form(path: Path) -> RecordingForm:
    fields = _read(path)
    try:
        return RecordingForm(**{"machine_type": path.stem, **fields})
    except (ValidationError, TypeError) as error:
        raise UsageError(f"{path}: the form is not valid. {error}") from error
