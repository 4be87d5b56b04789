"""docs/quality.md, written from the rule table: every rule with its limit, its reason and its remedy.

`make docs` writes the page, and a test holds it against the table. Limits are those of the default settings; facts
that a check measures stand as an ellipsis.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Iterable

from schemas.problems import MAX_LISTED, Severity
from schemas.rules import RULES, Rule, asked_for, quantity
from schemas.settings import ArchiveLimits, QaLimits, Settings, StandardizeSettings
from tasks.report.words import ELLIPSIS, Words, fill

PARTS = {
    "archive": "The archive",
    "table": "The table as a file",
    "cell": "One cell",
    "row": "One row, and rows against each other",
    "ask": "What is asked for",
    "file": "The table against the archive",
    "clip": "The sound of a clip",
    "asset": "A machine as a whole",
}
"""Headings by the first part of a rule's id, in their order."""

EFFECTS = {Severity.ERROR: "the package is refused", Severity.REJECT: "the clip is held back", Severity.WARN: "noted"}

_KOREAN_EFFECTS = {Severity.ERROR: "패키지 반려", Severity.REJECT: "녹음 제외", Severity.WARN: "참고"}

_LIMITS: tuple[Settings, ...] = (ArchiveLimits(), QaLimits(), StandardizeSettings())

_INTRODUCTION = f"""# What the quality gate checks

Written from the rule table (`schemas/rules.py`) by `make docs`; a test keeps the two alike. `alp check PACKAGE` judges
a package by these rules in one pass, and every problem names file, row, column, value and remedy
([what a plant sends](package.md)).

| effect | when | exit code |
|---|---|---|
| {EFFECTS[Severity.ERROR]} | the contract is broken: nothing of the package is filed | 3 |
| {EFFECTS[Severity.REJECT]} | it cannot be learnt from or judged; the rest goes on | 0; 4 where no machine is left |
| {EFFECTS[Severity.WARN]} | it is used, and the report says so | 0 |

Limits are the defaults of the settings named beside them (`schemas/settings.py`); the numbers that a check finds stand
here as `{ELLIPSIS}`. Of one rule in one column {MAX_LISTED} places are listed; the last of these counts the others and
names their rows.

Of a package as a whole, `tasks/expectations.py` states the rules about sound as Great Expectations: at least
{Rule.model_fields["mostly"].default:.0%} of the clips keep each. The statements decide nothing; their Data Docs page,
`data-docs.html`, lies beside the run's report.

Whether a recording sounds like the machine it is said to be (`clip.other_sound`) is asked in one place of the gate,
`engines/sound_typing.py`. Nothing answers there yet, and until then the gate says nothing about it.
"""


def render_rules() -> str:
    """The page, as Markdown."""
    sections = [_INTRODUCTION]
    for part, heading in PARTS.items():
        rules = [rule for rule in RULES.values() if rule.id.startswith(f"{part}.")]
        sections.append(_section(f"## {heading}", _ENGLISH, rules))
    sections.append(
        _section("## 한국어\n\n보고서와 `--lang ko`의 화면에는 다음과 같이 표시됩니다.", _KOREAN, RULES.values())
    )
    return "\n".join(sections)


def _section(heading: str, columns: dict[str, Callable[[Rule], str]], rules: Iterable[Rule]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(column(rule)) for column in columns.values()) for rule in rules]
    return heading + "\n\n" + "".join(f"| {line} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def limit_text(rule: Rule) -> str:
    """The limit with its unit and the setting that holds it, by default; empty where the rule has none."""
    if rule.limit is None:
        return ""
    number = quantity(_limit(rule), rule.unit)
    word = rule.unit if number[-1].isdigit() else ""
    return f"{number} {word}".rstrip() + f" (`{rule.limit}`)"


def _limit(rule: Rule) -> float:
    value = next(getattr(each, rule.limit) for each in _LIMITS if rule.limit in type(each).model_fields)
    return value if isinstance(value, int) else float(value)


def _say(rule: Rule, template: str) -> str:
    """A sentence of a rule with its default limit, and an ellipsis for what a check would measure."""
    facts = {name: ELLIPSIS for _, name, _, _ in string.Formatter().parse(rule.what + rule.remedy) if name}
    facts |= asked_for() | {"hint": ""}
    for _, name, form, _ in string.Formatter().parse(rule.what):
        if name == "limit":
            facts["limit"] = format(_limit(rule), form or "")
        elif name == "limit_db":
            facts["limit_db"] = quantity(_limit(rule), "dBFS").removesuffix(" dBFS")
    return fill(template, facts)


_ENGLISH: dict[str, Callable[[Rule], str]] = {
    "rule": lambda rule: f"`{rule.id}`",
    "what is wrong": lambda rule: _say(rule, rule.what),
    "limit": limit_text,
    "then": lambda rule: EFFECTS[rule.severity],
    "why": lambda rule: rule.reason,
    "what to do": lambda rule: _say(rule, rule.remedy),
}

_KOREAN: dict[str, Callable[[Rule], str]] = {
    "규칙": lambda rule: f"`{rule.id}`",
    "처리": lambda rule: _KOREAN_EFFECTS[rule.severity],
    "내용": lambda rule: _say(rule, Words("ko").rule_templates(rule.id)[0]),
    "조치": lambda rule: _say(rule, Words("ko").rule_templates(rule.id)[1]),
}


if __name__ == "__main__":
    sys.stdout.write(render_rules())
