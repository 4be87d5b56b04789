"""Every sentence of the pages in the reader's language, and numbers as people read them.

`texts.yaml`, and each file of the folder `texts` beside it, holds up to four tables: `texts`, our own sentences by
key; `phrases`, fixed English sentences of engines, metrics and errors with their Korean; `rules` and `reasons`, the
Korean of the rule table and of its reasons. No key stands in two files. Sentences that reach a page in finished English
(a problem's message, a metric's note) are translated as a translation memory does it: the English template that made
the sentence tells the facts in it, and the Korean template says them again. A sentence that no template knows stays
English and is marked as such.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from schemas.machine_types import MachineTypes, load_machine_types
from schemas.metadata import CONDITION_COLUMNS
from schemas.problems import Problem
from schemas.reasons import REASONS, SYSTEM_REASONS
from schemas.rules import RULES, Rule
from schemas.settings import Language
from tasks.engine_names import engine_name
from tasks.forms.content import column_titles

DASH = "–"
ELLIPSIS = "…"
JOINT = "; "
"""Between the sentences of a reason."""

_SYSTEM_SAYS = {os.strerror(code): key for code, key in SYSTEM_REASONS.items()}
"""Reasons by the system's own English, which some sentences hold."""
_COLUMN = re.compile(rf"\b({'|'.join(CONDITION_COLUMNS)})\b", re.ASCII)

MAX_RUNS = 20
"""Runs of rows that one list names."""


@dataclass(frozen=True)
class Said:
    """A sentence and the language it came out in, which may not be the page's."""

    text: str
    language: Language


class Words:
    """The texts of one language.

    Called with a key and facts it gives the sentence; a text with `one` and `other` forms chooses by the fact `n`.
    types: what machine types are called, where a customer has types of its own.
    """

    def __init__(self, language: Language, types: MachineTypes | None = None) -> None:
        self.language = language
        self._types = types or load_machine_types()
        self._texts = _load()["texts"]

    def __call__(self, key: str, /, **facts: object) -> str:
        text = self._texts[key][self.language]
        if isinstance(text, dict):
            text = text["one" if facts["n"] == 1 else "other"]
        return str(text).format(**{name: _fact(value) for name, value in facts.items()})

    def knows(self, key: str) -> bool:
        """Whether there is a text of that key."""
        return key in self._texts

    def translate(self, sentence: str) -> Said:
        """A sentence of an engine or a metric in the page's language; several are parted by `; `."""
        if self.language == "en":
            return Said(sentence, "en")
        korean = _korean(sentence, across=False) or _each_korean(sentence) or _korean(sentence, across=True)
        return Said(sentence, "en") if korean is None else Said(self._name_columns(korean), "ko")

    def _name_columns(self, sentence: str) -> str:
        """The sentence with condition columns by their name in the page's language, `속도` for `speed_level`."""
        return _COLUMN.sub(lambda found: self.condition(found[0]), sentence)

    def condition(self, column: str) -> str:
        """A condition column as people call it: `speed`, `속도`."""
        return self(f"criterion.{column}")

    def message(self, *problems: Problem) -> Said:
        """What is wrong; of several problems of one rule, with the range of facts in which they differ."""
        return self._rule_text(problems, "what")

    def remedy(self, problem: Problem) -> Said:
        """What to do about it."""
        return self._rule_text([problem], "remedy")

    def rule_templates(self, rule_id: str) -> tuple[str, str]:
        """What a rule says is wrong and what is to be done, as templates over its facts."""
        if self.language == "en":
            return RULES[rule_id].what, RULES[rule_id].remedy
        korean = _load()["rules"][rule_id]
        return korean["what"], korean["remedy"]

    def place(self, problem: Problem) -> str:
        """Where a problem is: `metadata.csv, row 7, column label`; of one without a place, what it is about."""
        parts = [problem.file or ""]
        if problem.row is not None:
            # No thousands separator: a line is looked up, not read.
            parts.append(self("place.row" if problem.is_in_table else "place.table_row", row=str(problem.row)))
        if problem.column:
            parts.append(self("place.column", column=problem.column_name))
        return ", ".join(part for part in parts if part) or self.subject(problem)

    def subject(self, problem: Problem) -> str:
        """What a problem without a place is about: a machine, else the whole package."""
        rule = RULES.get(problem.rule)
        asset = ((rule and _facts_of(rule, problem)) or {}).get("asset", "")
        return self.machine(*asset.split(" ", 1)) if " " in asset else self("problems.everywhere")

    def retell(self, problem: Problem) -> Problem:
        """The problem with its sentences in this language."""
        return problem.model_copy(update={"message": self.message(problem).text, "remedy": self.remedy(problem).text})

    def _rule_text(self, problems: Sequence[Problem], part: str) -> Said:
        """The part of the rule's text that the problems have in common; the first one's own where it is not ours."""
        first = problems[0]
        rule, korean = RULES.get(first.rule), _load()["rules"].get(first.rule)
        facts = [_facts_of(rule, problem) for problem in problems] if rule else [None]
        known = [each for each in facts if each is not None]
        if rule is None or len(known) < len(problems) or (self.language == "ko" and korean is None):
            return Said(first.message if part == "what" else first.remedy, "en")
        common = {name: merge_facts([each[name] for each in known]) for name in known[0]}
        if self.language == "en":
            return Said(fill(getattr(rule, part), common), "en")
        return Said(fill(korean[part], {name: self._fact(name, text) for name, text in common.items()}), "ko")

    def _fact(self, name: str, text: str) -> str:
        """A fact of a rule's sentence in the page's language, where it is words: a machine, a reason, a choice."""
        if name == "asset" and " " in text:
            return self.machine(*text.split(" ", 1))
        if name == "column":
            return self.column(text)
        if name in ("choices", "split"):
            return ", ".join(self._choice(each) for each in text.split(", "))
        if name in ("why", "delimiter"):
            return _korean_reason(text)
        return self.translate(text).text if name in ("hint", "level") else text

    def column(self, name: str) -> str:
        """A column as the form in the page's language calls it, its own name behind: `설비 번호(section_id)`."""
        title = column_titles(self.language).get(name)
        return f"{title}({name})" if title and self.language == "ko" else name

    def _choice(self, value: str) -> str:
        """A value of the form, its name in the page's language first: `팬(fan)`."""
        kind = self._types.get(value)
        name = getattr(kind, self.language, None)
        return f"{name}({value})" if name else self.translate(value).text

    def machine(self, machine_type: str, section_id: str) -> str:
        """An asset by its type's name in the page's language and its section: `compressor 00`, `압축기 00`."""
        kind = self._types.get(machine_type)
        name = getattr(kind, self.language, None) or machine_type
        return f"{name} {section_id}"

    def stage(self, stage: str) -> str:
        """A stage of an onboarding, which its JSON calls `qa`."""
        return self(f"stage.{stage}")

    def engine(self, engine: str) -> str:
        """An engine as it stands in a table: `A`; `Ensemble`, `앙상블`."""
        key = f"engine.short.{engine}"
        return self(key) if self.knows(key) else engine_name(engine)


def _korean(sentence: str, *, across: bool) -> str | None:
    """The Korean of a sentence that one template made, None where none did; `across`: its facts may hold a joint."""
    for phrase in _load()["phrases"]:
        facts = recover_facts(phrase["en"], sentence)
        if facts is not None and (across or not any(JOINT in fact for fact in facts.values())):
            return fill(phrase["ko"], _with_korean_reason(facts))
    return None


def _korean_reason(text: str) -> str:
    """The Korean of a reason; what is none stays as it is."""
    if text in _SYSTEM_SAYS:
        return str(_load()["reasons"][_SYSTEM_SAYS[text]])
    for key, template in REASONS.items():
        facts = recover_facts(template, text)
        if facts is not None:
            return fill(_load()["reasons"][key], _with_korean_reason(facts))
    return text


def _with_korean_reason(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: _korean_reason(text) if name == "why" else text for name, text in facts.items()}


def _each_korean(sentence: str) -> str | None:
    """The Korean of several joined sentences; None where one of them has none."""
    parts = [_korean(part, across=False) for part in sentence.split(JOINT)]
    known = [part for part in parts if part is not None]
    return JOINT.join(known) if len(known) == len(parts) else None


def _facts_of(rule: Rule, problem: Problem) -> dict[str, str] | None:
    what, remedy = recover_facts(rule.what, problem.message), recover_facts(rule.remedy, problem.remedy)
    return None if what is None or remedy is None else remedy | what


def fill(template: str, facts: Mapping[str, str]) -> str:
    """`template.format(…)` with facts that are texts already, whatever format the template asks of them."""
    return "".join(
        literal + (facts[name] if name else "") for literal, name, _, _ in string.Formatter().parse(template)
    )


def merge_facts(facts: Sequence[str]) -> str:
    """One text for several: the fact they share, the range of numbers of one unit, or an ellipsis."""
    if len(set(facts)) == 1:
        return facts[0]
    numbers = [re.fullmatch(r"(-?\d+(?:\.\d+)?)(\D*)", fact) for fact in facts]
    if all(numbers) and len({found[2] for found in numbers if found}) == 1:
        in_order = sorted(facts, key=lambda fact: float(re.findall(r"-?[\d.]+", fact)[0]))
        return f"{in_order[0]}–{in_order[-1]}"
    return ELLIPSIS


def recover_facts(template: str, sentence: str) -> dict[str, str] | None:
    """The facts with which `template.format(…)` gave `sentence`, as texts; None where it cannot have."""
    match = _template_pattern(template).fullmatch(sentence)
    return match.groupdict() if match else None


@cache
def _template_pattern(template: str) -> re.Pattern[str]:
    parts, seen = [], set()
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(literal))
        if name:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>.*?)")
            seen.add(name)
    return re.compile("".join(parts), re.DOTALL)


@cache
def _load() -> Mapping[str, Any]:
    """The four tables of all files together."""
    home = resources.files("tasks.report")
    more = sorted((file for file in home.joinpath("texts").iterdir() if file.name.endswith(".yaml")), key=str)
    tables: dict[str, Any] = {"texts": {}, "phrases": [], "rules": {}, "reasons": {}}
    for file in (home.joinpath("texts.yaml"), *more):
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        tables["phrases"] += found.get("phrases", [])
        for name in ("texts", "rules", "reasons"):
            if twice := tables[name].keys() & found.get(name, {}).keys():
                raise ValueError(f"{file.name} says {sorted(twice)[0]!r} of {name} a second time")
            tables[name] |= found.get(name, {})
    return tables


def _fact(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def rows_text(runs: Sequence[tuple[int, int]]) -> str:
    """Lines of the table as one reads them: `7, 9–12, 40`; of very many runs the first."""
    shown = [str(first) if first == last else f"{first}–{last}" for first, last in runs[:MAX_RUNS]]
    return ", ".join([*shown, "…"] if len(runs) > MAX_RUNS else shown)


def number(value: float | None, digits: int = 3) -> str:
    """`value` to so many decimals; a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


def rate(value: float | None) -> str:
    """A rate a day, two significant digits below ten: `0.69`, `7.4`, `131`; a dash for None."""
    if value is None:
        return DASH
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.001 else "<0.001"


def probability(value: float | None) -> str:
    """A p-value to two significant digits, never rounded to zero."""
    return DASH if value is None else f"{value:.2g}" if value >= 1e-4 else "<0.0001"


def size(n_bytes: int) -> str:
    """`812 kB`, `34.2 MB`, `1.20 GB`."""
    if n_bytes < 1_000_000:
        return f"{n_bytes / 1e3:,.0f} kB"
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.2f} GB"


def duration(hours: float) -> str:
    """`14 s`, `23 min`, `3.2 h`: never nothing of something."""
    seconds = 3600 * hours
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def hertz(value: float) -> str:
    """`430 Hz`, `3.2 kHz`."""
    return f"{value:.0f} Hz" if value < 1000 else f"{value / 1000:.1f} kHz"
