"""The table of a package as a workbook, under another name, or twice."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import soundfile

from schemas.references import Verdict
from tasks.forms.content import FormText
from tasks.forms.workbook import write_workbook
from tasks.packages import open_package
from tasks.quality import Judgement, judge

CSV = "relative_path,machine_type,section_id,confirmed_normal,confirmed_by,recorded_at\n" + "".join(
    f"audio/{number}.wav,fan,1,true,Kim,2026-03-02\n" for number in range(4)
)


def sounds() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {}
    for number in range(4):
        file = io.BytesIO()
        soundfile.write(file, 0.1 * rng.standard_normal(32_000), 16_000, format="WAV")
        found[f"audio/{number}.wav"] = file.getvalue()
    return found


def workbook_of(text: str) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for line in text.splitlines():
        book.active.append(line.split(","))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def judged(folder: Path, files: Mapping[str, bytes], top: str = "") -> Judgement:
    with zipfile.ZipFile(folder / "p.zip", "w") as archive:
        for name, content in {**files, **sounds()}.items():
            archive.writestr(top + name, content)
    with open_package(folder / "p.zip") as package:
        return judge(package)


@pytest.mark.parametrize("top", ["", "from the plant/"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.xlsx", "Metadata.XLSX", "form.xlsx", "목록.csv"])
def test_one_table_at_the_top_is_read_under_any_name(tmp_path: Path, name: str, top: str) -> None:
    content = CSV.encode() if name.endswith("csv") else workbook_of(CSV)
    result = judged(tmp_path, {name: content}, top)

    assert result.verdict is Verdict.ACCEPTED
    assert len(result.metadata) == 4


def test_two_tables_are_not_chosen_from_in_silence(tmp_path: Path) -> None:
    result = judged(tmp_path, {"metadata.csv": CSV.encode(), "metadata.xlsx": workbook_of(CSV)})

    assert [(problem.rule, problem.file) for problem in result.problems if problem.severity == "error"] == [
        ("table.several", "metadata.csv")
    ]
    assert result.bad_input


def test_problems_name_the_workbook_and_its_row(tmp_path: Path) -> None:
    result = judged(tmp_path, {"form.xlsx": workbook_of(CSV + "audio/none.wav,fan,1,true,Kim,2026-03-02\n")})

    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert (problem.rule, problem.file, problem.row) == ("file.missing", "form.xlsx", 6)


def test_a_package_without_a_table_says_which_it_may_be(tmp_path: Path) -> None:
    result = judged(tmp_path, {"audio/metadata.txt": CSV.encode()})

    assert [problem.rule for problem in result.problems] == ["table.missing"]
    assert "metadata.xlsx" in result.problems[0].message


def test_a_form_filled_in_and_zipped_with_its_sounds_is_accepted(tmp_path: Path) -> None:
    form = FormText(["fan"], "ko")
    book = openpyxl.load_workbook(io.BytesIO(write_workbook(form)))
    yes = next(column.choices[0] for column in form.columns() if column.name == "confirmed_normal")
    for number in range(4):
        cells = {"relative_path": f"audio/{number}.wav", "machine_type": "팬", "section_id": "007"}
        cells |= {"confirmed_normal": yes, "confirmed_by": "김", "recorded_at": "2026-03-02 9:30"}
        for place, column in enumerate(form.columns(), start=1):
            book["metadata"].cell(number + 2, place, cells.get(column.name))
    file = io.BytesIO()
    book.save(file)
    result = judged(tmp_path, {"form.xlsx": file.getvalue()})

    assert result.verdict is Verdict.ACCEPTED
    assert {asset.section_id for asset in result.assets} == {"007"}
    assert {problem.rule for problem in result.problems} == {"asset.few_normals", "asset.short_clips", "ask.noise"}
