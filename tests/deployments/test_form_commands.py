"""`alp form` and `alp pack` as a person runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

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
