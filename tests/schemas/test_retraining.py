"""The file that says when to retrain: every fault named at once, and documented as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.retraining import Retraining, read_retraining

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "customers.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## When the source grows")[1].split("\n## ")[0]


def write(folder: Path, text: str) -> Path:
    path = folder / "retraining.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_of_the_documentation_is_the_defaults_and_names_every_key(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    path = write(tmp_path, block)
    assert read_retraining(path) == Retraining()
    assert set(re.findall(r"^(\w+):", block, re.MULTILINE)) == set(Retraining.model_fields)


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    said = read_retraining(write(tmp_path, "growth: {recordings: 100}\nsweep: null\n"))
    assert (said.growth.recordings, said.growth.share, said.sweep, said.rest_minutes) == (100, 0.2, None, 15)


def test_every_fault_is_named_with_line_key_value_and_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, 'growth: {recordings: 0, share: "20 %"}\nsweep: 17 3 * *\ntime_zone: Asia/Soul\nrest: 3\n')
    with pytest.raises(UsageError) as refused:
        read_retraining(path)
    said = str(refused.value)
    for word in ("line 1", "recordings", "share", "line 2", "five fields", "line 3", "Asia/Seoul", "line 4", "rest"):
        assert word in said
    assert len(said.splitlines()) == 5


@pytest.mark.parametrize("text", ["rest_minutes: -1", "rest_minutes: 10000", "growth: {share: 0}", "[]", "growth: 30"])
def test_what_no_policy_can_be_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"retraining\.yaml"):
        read_retraining(write(tmp_path, text))
