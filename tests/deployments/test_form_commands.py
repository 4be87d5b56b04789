"""`alp form` and `alp pack` as a person runs them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from deployments import cli
from schemas.errors import UsageError
from tests.korean import english_in

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "normals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(32_000), 16_000)
    return folder


def test_a_form_is_written_in_the_language_asked_for(alp: Alp, tmp_path: Path) -> None:
    done = alp("form", "팬", "pump", "--lang", "ko", "--out", "form.xlsx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "팬, 펌프" in done.stdout
    assert (tmp_path / "form.xlsx").read_bytes().startswith(b"PK")
    page = alp("form", "--out", "form.html", "--json", cwd=tmp_path)
    assert len(json.loads(page.stdout)["machine_types"]) == 8


def test_a_type_of_one_s_own_gets_a_form(alp: Alp, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mixer: {en: mixer, ko: 믹서, form: {levels: 2}}", encoding="utf-8")
    done = alp("form", "믹서", "--types", "mine.yaml", "--lang", "ko", "--out", "form.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "믹서" in (tmp_path / "form.html").read_text(encoding="utf-8")
    unknown = alp("form", "mixer", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "--types FILE" in unknown.stderr


def test_a_known_customer_s_types_get_forms_in_its_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALP_CUSTOMERS", str(tmp_path))
    (tmp_path / "acme.yaml").write_text(
        "name: acme\nlanguage: ko\nmachine_types: {fan: , mixer: {en: mixer, ko: 믹서}}\n", encoding="utf-8"
    )

    def write(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(cli.app, ["form", *arguments, "--json"], catch_exceptions=False)
        return dict(json.loads(done.stdout))

    out = str(tmp_path / "form.html")
    assert write("--customer", "acme", "--out", out) == {
        "form": out,
        "machine_types": ["fan", "mixer"],
        "language": "ko",
    }
    assert "믹서" in (tmp_path / "form.html").read_text(encoding="utf-8")
    named = write("믹서", "--customer", "acme", "--lang", "en", "--out", out, "--overwrite")
    assert (named["machine_types"], named["language"]) == (["mixer"], "en")
    with pytest.raises(UsageError, match="no such file describes customer acmi; did you mean acme"):
        write("--customer", "acmi")


def test_everything_is_said_in_korean_when_asked(alp: Alp, recordings: Path, tmp_path: Path) -> None:
    labels = ("--machine-type", "팬", "--section", "3", "--assume-normal")
    (recordings / "memo.txt").write_text("x")
    commands = (
        ("form", "fan", "--out", "form.xlsx"),
        ("pack", "normals", *labels),
        ("pack", "normals", *labels),
        ("pack", "normals", *labels[:-1]),
        ("pack", "none", *labels),
        ("pack", "normals", "--machine-type", "주전자", *labels[2:], "--overwrite"),
        ("check", "normals.zip"),
        ("check", "none.zip"),
        ("form", "주전자", "--out", "x.xlsx"),
    )
    for command in commands:
        done = alp(*command, "--lang", "ko", cwd=tmp_path)
        said = done.stdout + done.stderr
        given = (str(tmp_path), "normals.zip", "normals", "none.zip", "none", "form.xlsx", "memo.txt", "fan/3")
        ours = ("--assume-normal", "--overwrite", "--types FILE", "--lang ko", str(cli.__file__), "check")
        assert re.search("[가-힣]", said), command
        assert english_in(said, *given, *ours) == [], command


def test_a_folder_is_packed_and_the_package_passes_the_check(alp: Alp, recordings: Path) -> None:
    options = ("--machine-type", "fan", "--section", "3", "--assume-normal", "--confirmed-by", "Kim")
    done = alp("pack", str(recordings), *options, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == {"package": str(recordings.with_suffix(".zip")), "recordings": 3, "left_out": []}
    assert alp("check", document["package"]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("form", "teapot", "--out", "x.xlsx"), 2, "teapot"),
        (("form", "fan", "--out", "x.pdf"), 2, ".xlsx or .html"),
        (("form", "fan", "--lang", "fr"), 2, "fr"),
        (("pack", "none", "--machine-type", "fan", "--section", "1", "--assume-normal"), 3, "no such folder"),
        (("pack", "normals", "--machine-type", "fan", "--section", "1"), 2, "--assume-normal"),
        (("pack", "normals", "--machine-type", "teapot", "--section", "1", "--assume-normal"), 2, "teapot"),
        (("pack", "normals", "--section", "1", "--assume-normal"), 2, "machine-type"),
    ],
)
def test_what_cannot_work_is_said_and_leaves_nothing(
    alp: Alp, tmp_path: Path, recordings: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = alp(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [recordings]
