"""What the form says, in one language, before it becomes a workbook or a page.

Quantities come from `schemas.forms`, sentences from `texts.yaml`. A column's title is one that
`schemas.metadata.CustomerForm` understands, and a choice one of its spellings: a filled form is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from schemas.errors import UsageError
from schemas.forms import RecordingForm
from schemas.machine_types import MachineTypes, fold, load_machine_types, spelling_index
from schemas.settings import Language

REQUIRED = ("relative_path", "machine_type", "section_id", "confirmed_normal")
_CHOICES: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "confirmed_normal": {"en": ("yes", "no"), "ko": ("예", "아니오")},
    "split": {"en": ("train", "test", "supplemental"), "ko": ("학습", "평가", "보조")},
    "label": {"en": ("normal", "anomaly"), "ko": ("정상", "이상")},
    "supp_type": {"en": ("noise", "machine"), "ko": ("소음", "기계음")},
    "sensor": {"en": ("microphone", "accelerometer"), "ko": ("마이크", "가속도계")},
}


@dataclass(frozen=True)
class Step:
    """One thing to record: what, how much, how."""

    what: str
    amount: str
    how: str


@dataclass(frozen=True)
class MachinePage:
    """The page of one machine type."""

    machine_type: str
    name: str
    title: str
    steps: Sequence[Step]
    table: Sequence[str]
    checks: Sequence[str]
    blanks: Sequence[str]
    """To be filled in by hand on paper."""


@dataclass(frozen=True)
class Column:
    """One column of the table to fill in. `choices` may not be left where `strict`."""

    name: str
    title: str
    hint: str
    choices: Sequence[str] = ()
    strict: bool = True

    @property
    def required(self) -> bool:
        """Whether a training recording needs it."""
        return self.name in REQUIRED

    @property
    def header(self) -> str:
        """Its cell in the header."""
        return f"{self.title} *" if self.required else self.title


class FormText:
    """The form of some machine types in one language."""

    def __init__(self, spellings: Sequence[str], language: Language, types: MachineTypes | None = None) -> None:
        """`spellings` of machine types, of `types` (default: the built-in ones); all of them where none is named."""
        self.language = language
        self._types = types or load_machine_types()
        self.machine_types = resolve_types(spellings, self._types)

    def say(self, key: str, /, **facts: object) -> str:
        """A sentence of `texts.yaml`."""
        return str(_load()["texts"][key][self.language]).format(**facts)

    def name(self, machine_type: str) -> str:
        """The machine type as the reader calls it."""
        kind = self._types[machine_type]
        return (kind.ko if self.language == "ko" else None) or kind.en

    def pages(self) -> list[MachinePage]:
        """A page a machine type."""
        return [self._page(self._types[machine_type].recording_form) for machine_type in self.machine_types]

    def columns(self) -> list[Column]:
        """The columns of the table, in order."""
        return [self._column(name, texts) for name, texts in _load()["columns"].items()]

    def examples(self) -> list[dict[str, str]]:
        """A normal, a noise-only and two test recordings of the first machine type, by column."""
        first = self.machine_types[0]
        varying = self._types[first].recording_form.varies[0]
        levels = self._values(varying, first)
        common = {
            "machine_type": self.name(first),
            "section_id": "01",
            "confirmed_by": self.say("example.confirmed_by"),
            "mic_position_id": "P1",
            "mic_direction": self.say("example.direction"),
            "installation": self.say("example.installation"),
        }
        yes = self._choices("confirmed_normal")[0]
        train, test, extra = self._choices("split")
        normal, anomaly = self._choices("label")
        rows: list[dict[str, str]] = [
            {"confirmed_normal": yes, "split": train},
            {"confirmed_normal": yes, "split": train},
            {"confirmed_normal": yes, "split": extra, "supp_type": self._choices("supp_type")[0]},
            {"confirmed_normal": yes, "split": test, "label": normal},
            {"split": test, "label": anomaly, "anomaly_type": self.say("example.anomaly_type")},
        ]
        for number, row in enumerate(rows, start=1):
            row |= common | {
                "relative_path": f"audio/{first}_01_{number:03d}.wav",
                "recorded_at": f"2026-03-02 09:{25 + 5 * number}",
            }
            if levels and "supp_type" not in row:
                row[varying] = levels[min(number, len(levels)) - 1]
        return rows

    def checklist(self) -> list[str]:
        """What to look at before sending, for all machine types of the form."""
        return list(dict.fromkeys(line for page in self.pages() for line in page.checks))

    def _page(self, form: RecordingForm) -> MachinePage:
        facts = self._facts(form)
        name = self.name(form.machine_type)
        return MachinePage(
            machine_type=form.machine_type,
            name=name,
            title=self.say("title", machine=name),
            steps=[self._step(kind, form, facts) for kind in _STEPS],
            table=[self.say(f"table.{key}") for key in ("intro", "time", "mode", "send")],
            checks=[self.say(key, **facts) for key in _keys("check.")],
            blanks=[self.say(key) for key in _keys("sign.")],
        )

    def _step(self, kind: str, form: RecordingForm, facts: Mapping[str, object]) -> Step:
        amount, how = f"{kind}.amount", self.say(f"{kind}.how", **facts)
        if kind == "microphone":
            amount += ".one" if form.microphones == 1 else ".two"
        if kind == "device" and "accelerometer" in form.sensors:
            how = self.say("device.how.accelerometer", device=how)
        return Step(self.say(f"{kind}.what", **facts), self.say(amount, **facts), how)

    def _facts(self, form: RecordingForm) -> dict[str, object]:
        """Everything that a sentence of the form may need, numbers as they are written."""
        numbers = {name: f"{value:g}" for name, value in form.model_dump().items() if isinstance(value, int | float)}
        spans = {
            "noise": form.noise_s,
            "noise_clips": tuple(map(form.clips, form.noise_s)),
            "level": tuple(seconds / 60 for seconds in form.level_s),
            "level_clips": tuple(map(form.clips, form.level_s)),
            "distance": form.distance_m,
            "rate": tuple(rate / 1000 for rate in form.sample_rate),
        }
        ends = {
            f"{name}_{end}": f"{value:g}"
            for name, span in spans.items()
            for end, value in zip(_ENDS, span, strict=True)
        }
        machine = {key: text[self.language] for key, text in _machine(form.machine_type).items() if key != "values"}
        varies = _load()["joint"][self.language].join(_load()["varies"][c][self.language] for c in form.varies)
        return {**numbers, **ends, **machine, "varies": varies}

    def _column(self, name: str, texts: Mapping[str, str]) -> Column:
        title, hint = texts[self.language], texts[f"{self.language}_hint"]
        if name == "machine_type":
            return Column(name, title, hint, [self.name(kind) for kind in self.machine_types])
        if name in _CHOICES:
            return Column(name, title, hint, self._choices(name))
        offered = dict.fromkeys(value for kind in self.machine_types for value in self._values(name, kind))
        return Column(name, title, hint, tuple(offered), strict=False)

    def _values(self, column: str, machine_type: str) -> Sequence[str]:
        """How the settings of a machine are called in a column; nothing where the column is free."""
        own = _machine(machine_type).get("values", {})
        return tuple((own.get(column) or _load()["values"].get(column) or {}).get(self.language, ()))

    def _choices(self, column: str) -> tuple[str, ...]:
        return _CHOICES[column][self.language]


def column_titles(language: Language) -> Mapping[str, str]:
    """What the form calls the columns of the table."""
    return {name: texts[language] for name, texts in _load()["columns"].items()}


_STEPS = ("normal", "noise", "levels", "microphone", "tests", "device")
_ENDS = ("low", "high")


def resolve_types(spellings: Sequence[str], types: MachineTypes) -> tuple[str, ...]:
    """Ids of machine types, each once, by any of their spellings; all of them for none.

    Raises UsageError where one is not known.
    """
    known = spelling_index(types)
    for spelling in spellings:
        if fold(spelling) not in known:
            raise UsageError(
                f"there is no form for machine type {spelling!r}; there is one for {', '.join(types)}. Another type is"
                " described in a YAML file: --types FILE"
            )
    return tuple(dict.fromkeys(known[fold(spelling)] for spelling in spellings)) or tuple(types)


def _machine(machine_type: str) -> Mapping[str, Any]:
    """What the texts say of a machine type; of one that they do not know, what holds of any."""
    machines: Mapping[str, Any] = _load()["machines"]
    return dict(machines.get(machine_type, machines["general"]))


def _keys(prefix: str) -> list[str]:
    return [key for key in _load()["texts"] if key.startswith(prefix)]


@cache
def _load() -> Mapping[str, Any]:
    text = resources.files("tasks.forms").joinpath("texts.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))
