"""The form: one page a machine type, a sheet that ingest reads as it is, words in both languages."""

from __future__ import annotations

import io
import re
import shutil
import string
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from schemas.condition_words import fold_condition
from schemas.errors import PackageError, UsageError
from schemas.forms import built_in_forms
from schemas.machine_types import load_machine_types
from schemas.metadata import METADATA_COLUMNS, CustomerForm, read_metadata
from schemas.settings import Language
from schemas.tables import header_key
from tasks.forms import content
from tasks.forms.content import FormText, resolve_types
from tasks.forms.form_file import write_form
from tasks.forms.page import render_page
from tasks.forms.workbook import LAST_ROW, write_workbook

TYPES = tuple(built_in_forms())
TEXTS = yaml.safe_load(Path(content.__file__).with_name("texts.yaml").read_text(encoding="utf-8"))
LANGUAGES: tuple[Language, ...] = ("en", "ko")

A4_POINTS = (595, 842)
POINTS_A_CHARACTER = 5.6
"""Of a column's width, in a spreadsheet's default font."""

in_both = pytest.mark.parametrize("language", LANGUAGES)


def opened(*machine_types: str, language: Language = "en") -> Any:
    return openpyxl.load_workbook(io.BytesIO(write_workbook(FormText(machine_types, language))))


def filled(book: Any, rows: list[dict[str, object]], columns: list[content.Column]) -> bytes:
    """The workbook with rows written into its table, as a plant does."""
    sheet = book["metadata"]
    for number, row in enumerate(rows, start=2):
        for place, column in enumerate(columns, start=1):
            sheet.cell(number, place).value = row.get(column.name)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def leaves(node: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict) and not {"en", "ko"} <= node.keys():
        return [leaf for key, below in node.items() for leaf in leaves(below, f"{path}/{key}")]
    return [(path, node)]


# --- words and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "text"), leaves(TEXTS), ids=lambda value: value if isinstance(value, str) else "")
def test_every_sentence_stands_in_both_languages_with_the_same_facts(path: str, text: dict[str, Any]) -> None:
    assert text["en"]
    assert text["ko"]
    if isinstance(text["en"], str):
        facts = [{name for _, name, _, _ in string.Formatter().parse(text[each]) if name} for each in LANGUAGES]
        assert facts[0] == facts[1]
    if not path.startswith(("/joint", "/texts/sheet.metadata")):
        assert re.search("[가-힣]", str(text["ko"]))


@in_both
@pytest.mark.parametrize("machine_type", TYPES)
def test_a_page_states_every_quantity_of_its_type(machine_type: str, language: Language) -> None:
    form = built_in_forms()[machine_type]
    (page,) = FormText([machine_type], language).pages()
    said = " ".join([text for step in page.steps for text in (step.what, step.amount, step.how)] + list(page.checks))
    spans = (form.noise_s, tuple(seconds / 60 for seconds in form.level_s), form.distance_m)

    for number in (form.clip_s, form.min_normals, form.recommended_normals, form.levels, form.test_clips):
        assert re.search(rf"(?<![\d.]){number:g}(?![\d.])", said)
    for low, high in spans:
        assert re.search(rf"{low:g}[–~]{high:g}", said)
    assert "{" not in said


@in_both
def test_no_two_machine_types_read_the_same(language: Language) -> None:
    pages = FormText([], language).pages()
    assert len({tuple(step.how for step in page.steps) for page in pages}) == len(pages) == 8


@pytest.mark.parametrize(("spellings", "ids"), [((), TYPES), (("팬", "Fan"), ("fan",)), (("전동기",), ("motor",))])
def test_machine_types_are_known_by_any_spelling(spellings: tuple[str, ...], ids: tuple[str, ...]) -> None:
    assert set(resolve_types(spellings, load_machine_types())) == set(ids)


# --- the workbook -------------------------------------------------------------------------------------------------


@in_both
def test_every_header_and_choice_of_the_form_is_understood_by_ingest(language: Language) -> None:
    known, form = CustomerForm.header_index(), FormText([], language)
    for column in form.columns():
        assert known[header_key(column.header)] == column.name
    assert {column.name for column in form.columns() if column.required} >= {
        column.name for column in CustomerForm.columns if column.required
    }
    assert {column.name for column in form.columns()} <= set(METADATA_COLUMNS)


@in_both
def test_a_filled_form_goes_through_ingest_unchanged(language: Language) -> None:
    form = FormText(["pump", "fan"], language)
    table, problems = read_metadata(
        filled(opened("pump", "fan", language=language), form.examples(), form.columns()), name="form.xlsx"
    )

    assert problems == []
    assert table["machine_type"].tolist() == ["pump"] * 5
    assert table["split"].tolist() == ["train", "train", "supplemental", "test", "test"]
    assert table["label"].tolist() == ["normal", "normal", "normal", "normal", "anomaly"]
    assert table.loc[4, "supp_type"] == "noise"
    assert table["section_id"].tolist() == ["01"] * 5
    sent = [row.get("speed_level") for row in form.examples()]
    read = [value if isinstance(value, str) else None for value in table["speed_level"]]
    assert read == [value and fold_condition("speed_level", value) for value in sent]
    assert read == ["low", "medium", None, "high", "high"]


@in_both
def test_every_choice_offered_is_one_that_ingest_accepts(language: Language) -> None:
    form = FormText([], language)
    columns, example = form.columns(), form.examples()[0]
    rows = [example | {column.name: choice} for column in columns if column.strict for choice in column.choices]
    _, problems = read_metadata(filled(opened(language=language), rows, columns))

    assert len(rows) == 19
    assert not {problem.rule for problem in problems} & {"cell.choice", "cell.boolean", "row.machine_type"}


def test_a_condition_offered_is_read_as_one_value_in_both_languages() -> None:
    offered = {column.name: [column.choices] for column in FormText([], "en").columns() if not column.strict}
    for column in FormText([], "ko").columns():
        if column.name in offered:
            offered[column.name].append(column.choices)
    values = {name: both for name, both in offered.items() if both[0]}
    assert set(values) >= {"speed_level", "load_level"}
    for name, (english, korean) in values.items():
        assert set(korean).isdisjoint(english)
        assert [fold_condition(name, value) for value in korean] == list(english)
        assert [fold_condition(name, value) for value in english] == list(english)


@in_both
def test_an_empty_form_says_that_it_is_empty_and_no_other_sheet_is_read_for_it(language: Language) -> None:
    with pytest.raises(PackageError) as caught:
        read_metadata(write_workbook(FormText(["fan"], language)), name="form.xlsx")
    assert [problem.rule for problem in caught.value.problems] == ["table.empty"]


@in_both
def test_cells_offer_their_choices_and_keep_leading_zeros(language: Language) -> None:
    form = FormText(["fan", "valve"], language)
    sheet = opened("fan", "valve", language=language)["metadata"]
    rules = {str(rule.sqref): rule for rule in sheet.data_validations.dataValidation}
    for place, column in enumerate(form.columns()):
        letter = openpyxl.utils.get_column_letter(place + 1)
        rule = rules[f"{letter}2:{letter}{LAST_ROW}"]
        assert rule.prompt
        assert len(rule.prompt) <= 255
        if column.choices:
            assert rule.formula1 == '"' + ",".join(column.choices) + '"'
            assert rule.showErrorMessage == column.strict
        if column.name != "recorded_at":
            assert sheet.column_dimensions[letter].number_format == "@"


def test_the_workbook_calculates_nothing_and_links_to_nothing() -> None:
    with zipfile.ZipFile(io.BytesIO(write_workbook(FormText([], "ko")))) as archive:
        names = archive.namelist()
        sheets = [archive.read(name).decode() for name in names if name.startswith("xl/worksheets/sheet")]
    assert not [name for name in names if "vba" in name.lower() or "external" in name.lower()]
    assert sheets
    assert not [sheet for sheet in sheets if "<f>" in sheet or "<f " in sheet or "hyperlink" in sheet]


@in_both
@pytest.mark.parametrize("machine_type", TYPES)
def test_a_sheet_of_instructions_prints_on_one_page_without_shrinking_much(
    machine_type: str, language: Language
) -> None:
    sheet = opened(machine_type, language=language).worksheets[0]
    assert (int(sheet.page_setup.paperSize), sheet.page_setup.orientation) == (int(sheet.PAPERSIZE_A4), "portrait")
    assert (sheet.sheet_properties.pageSetUpPr.fitToPage, sheet.page_setup.fitToHeight) == (True, 1)
    margins = sheet.page_margins
    width = A4_POINTS[0] - 72 * (margins.left + margins.right)
    height = A4_POINTS[1] - 72 * (margins.top + margins.bottom)
    used_width = POINTS_A_CHARACTER * sum(sheet.column_dimensions[letter].width for letter in "ABC")
    used_height = sum(sheet.row_dimensions[row].height for row in range(1, sheet.max_row + 1))
    assert min(width / used_width, height / used_height) > 0.85


# --- the page to print --------------------------------------------------------------------------------------------


@in_both
def test_the_page_stands_alone(language: Language) -> None:
    page = render_page(FormText([], language))
    assert not re.search(r"""(?:src|href)=["']|https?://|<script""", page)
    assert f'<html lang="{language}">' in page
    for kind in FormText([], language).pages():
        assert kind.title in page


@in_both
def test_a_browser_prints_one_page_a_machine_type(tmp_path: Path, language: Language) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium here")
    (tmp_path / "form.html").write_text(render_page(FormText([], language)), encoding="utf-8")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    )
    command = [browser, *flags, f"--user-data-dir={tmp_path}/profile", f"--print-to-pdf={tmp_path}/form.pdf"]
    subprocess.run([*command, f"file://{tmp_path}/form.html"], check=True, capture_output=True, timeout=120)
    pdf = (tmp_path / "form.pdf").read_bytes()

    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == len(TYPES)
    assert re.search(rb"/MediaBox \[0 0 59[45]\S* 84[12]", pdf)


@in_both
def test_the_same_form_is_the_same_bytes_at_any_moment(monkeypatch: pytest.MonkeyPatch, language: Language) -> None:
    first = write_workbook(FormText([], language)), render_page(FormText([], language))
    later = time.time() + 400 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)

    assert (write_workbook(FormText([], language)), render_page(FormText([], language))) == first
    with zipfile.ZipFile(io.BytesIO(first[0])) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        core = archive.read("docProps/core.xml")
    assert b"dcterms:" not in re.sub(rb'xmlns:dcterms="[^"]*"', b"", core)


# --- machine types of one's own -----------------------------------------------------------------------------------


@in_both
def test_a_type_of_one_s_own_gets_a_form_that_goes_through_ingest(tmp_path: Path, language: Language) -> None:
    (tmp_path / "types.yaml").write_text(
        "mixer: {en: mixer, ko: 믹서, form: {varies: [load_level], levels: 2, noise_s: [45, 90]}}", encoding="utf-8"
    )
    types = load_machine_types(tmp_path / "types.yaml")
    form = FormText(["믹서"], language, types)
    (page,) = form.pages()
    said = " ".join(text for step in page.steps for text in (step.what, step.amount, step.how))
    book = openpyxl.load_workbook(io.BytesIO(write_workbook(form)))
    table, problems = read_metadata(filled(book, form.examples(), form.columns()), machine_types=types)

    assert re.search("45[–~]90", said)
    assert page.title.endswith("믹서" if language == "ko" else "mixer")
    assert problems == []
    assert set(table["machine_type"]) == {"mixer"}
    assert len(FormText([], language, types).pages()) == len(TYPES) + 1
    with pytest.raises(UsageError, match=r"'믹서'.*--types FILE"):
        FormText(["믹서"], language)


# --- the file -----------------------------------------------------------------------------------------------------


def test_the_name_s_ending_decides_what_is_written(tmp_path: Path) -> None:
    write_form(tmp_path / "form.XLSX", ["fan"], language="ko")
    write_form(tmp_path / "form.html", ["fan"], language="ko")

    assert (tmp_path / "form.XLSX").read_bytes().startswith(b"PK")
    assert (tmp_path / "form.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["form.XLSX", "form.html"]


@pytest.mark.parametrize(("name", "types"), [("form.pdf", ["fan"]), ("form.xlsx", ["teapot"]), (".", ["fan"])])
def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, name: str, types: list[str]) -> None:
    with pytest.raises(UsageError):
        write_form(tmp_path / name, types, language="en")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "form.html"
    target.write_text("mine")
    with pytest.raises(UsageError, match="overwrite"):
        write_form(target, ["fan"], language="en")
    assert target.read_text() == "mine"
    write_form(target, ["fan"], language="en", overwrite=True)
    assert target.read_text(encoding="utf-8") != "mine"
