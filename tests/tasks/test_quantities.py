"""A quantity is written in the form's YAML alone: change it there, and every sentence that says it changes."""

from __future__ import annotations

import html
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from schemas import forms
from schemas.forms import built_in_forms, make_form
from schemas.rules import RULES, report
from schemas.settings import Language, QaLimits
from tasks.forms.content import FormText
from tasks.forms.page import render_page
from tasks.forms.workbook import write_workbook
from tasks.report.rule_page import render_rules
from tasks.report.words import Words

ROOT = Path(__file__).resolve().parents[2]
OTHER = {
    "clip_s": 7,
    "min_normals": 4,
    "recommended_normals": 13,
    "noise_s": [35, 140],
    "levels": 5,
    "level_s": [90, 240],
    "distance_m": [0.7, 1.9],
    "sample_rate": [22050, 96000],
    "test_clips": 6,
}
"""Numbers that stand in none of the forms."""
SAID = ("7", "4", "13", "35", "140", "5", "1.5", "0.7", "1.9", "22.05", "96", "6")
"""How a page says them; the upper end of `level_s` is the 4 of `min_normals`."""
ABOUT_RECORDING = ("clip.rate_low", "clip.rate_high", "clip.short", "asset.normals", "asset.few_normals")


@pytest.fixture
def other_quantities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All forms with other numbers."""
    folder = Path(shutil.copytree(forms._FOLDER, tmp_path / "forms"))
    for path in folder.glob("*.yaml"):
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(fields | OTHER), encoding="utf-8")
    monkeypatch.setattr(forms, "_FOLDER", folder)
    built_in_forms.cache_clear()
    yield
    built_in_forms.cache_clear()


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\d.,])\d+(?:\.\d+)?(?![\d.])", text))


def page_text(language: Language) -> str:
    page = re.sub(r"<style.*?</style>", "", render_page(FormText(["bearing"], language)), flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", " ", page.partition("<body>")[2])
    return re.sub(r"audio/\S+|MP3", "", html.unescape(body))


def workbook_text(language: Language) -> str:
    book = openpyxl.load_workbook(io.BytesIO(write_workbook(FormText(["bearing"], language))))
    sheets: list[Any] = [book.worksheets[0], book.worksheets[-1]]
    cells = [str(cell) for sheet in sheets for row in sheet.iter_rows(values_only=True) for cell in row if cell]
    return re.sub(r"audio/\S+|MP3", "", " ".join(cells))


@pytest.mark.usefixtures("other_quantities")
@pytest.mark.parametrize("text", [page_text, workbook_text])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_form_says_the_numbers_of_its_yaml_and_no_others(
    text: Callable[[Language], str], language: Language
) -> None:
    said = numbers(text(language))
    assert said >= set(SAID)
    # One position of the microphone, one whole stroke, ten minutes to warm up; and recordings counted from seconds.
    assert said - set(SAID) <= {"1", "10", "20", "13", "35"}


def told(rule: str, language: Language) -> str:
    facts = {"asset": "fan/a", "measured": 2, "missing": 2, "recommended": QaLimits().recommended_normals}
    problem = report(rule, limits=QaLimits(), **facts)
    return Words(language).remedy(problem).text


@pytest.mark.usefixtures("other_quantities")
@pytest.mark.parametrize("rule", ABOUT_RECORDING)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_remedy_says_the_numbers_of_the_forms(rule: str, language: Language) -> None:
    said = numbers(told(rule, language)) - {"2"}
    assert said
    assert said <= {"7", "13", "22.05", "96"}


@pytest.mark.usefixtures("other_quantities")
def test_the_page_of_rules_says_the_numbers_of_the_forms() -> None:
    page = render_rules()
    assert "Record 7 s at a stretch." in page
    assert "22.05~96 kHz로" in page


def test_no_rule_writes_a_length_or_a_rate_to_record_by_itself() -> None:
    korean = [Words("ko").rule_templates(rule)[1] for rule in RULES]
    for remedy in [*(rule.remedy for rule in RULES.values()), *korean]:
        assert not re.search(r"\d ?(?:s|초|kHz)\b|\d초", remedy), remedy


def test_the_guide_says_the_numbers_of_the_forms() -> None:
    package = (ROOT / "docs" / "package.md").read_text(encoding="utf-8")
    fan = built_in_forms()["fan"]
    low, high = (seconds / 60 for seconds in fan.level_s)
    for said in (
        f"normal running of each machine, {fan.clip_s:g} s a recording | {fan.min_normals} recordings |"
        f" {fan.recommended_normals} |",
        f"| {fan.noise_s[0]:g}–{fan.noise_s[1]:g} s at the same spot |",
        f"| {low:g}–{high:g} minutes each |",
    ):
        assert said in package
    form = (ROOT / "docs" / "form.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", form, re.MULTILINE))
    assert rows["clip_s"] == f"{fan.clip_s:g} s"
    assert (rows["min_normals"], rows["recommended_normals"]) == (f"{fan.min_normals}", f"{fan.recommended_normals}")
    assert rows["noise_s"] == f"{fan.noise_s[0]:g}–{fan.noise_s[1]:g} s"


def test_the_guide_says_what_is_asked_of_a_type_of_one_s_own() -> None:
    page = (ROOT / "docs" / "form.md").read_text(encoding="utf-8").partition("## A machine type of your own")[2]
    usual = make_form("mixer", {})
    rows = dict(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", page, re.MULTILINE))
    assert rows == {
        "`noise_s`": "{:g}–{:g} s".format(*usual.noise_s),
        "`varies`, `levels`, `level_s`": "speed, load; {} settings, {:g}–{:g} s each".format(
            usual.levels, *usual.level_s
        ),
        "`microphones`, `distance_m`": "{} position, {:g}–{:g} m".format(usual.microphones, *usual.distance_m),
        "`sensors`": ", ".join(usual.sensors),
        "`sample_rate`": "{:g}–{:g} kHz, and no less than the type's own `sample_rate`".format(
            *(rate / 1000 for rate in usual.sample_rate)
        ),
        "`test_clips`": f"{usual.test_clips} normal and {usual.test_clips} faulty",
    }
    assert usual.varies == ("speed_level", "load_level")
