"""A fault of every row: listed for the first, heard of by every clip."""

from __future__ import annotations

import zipfile
from pathlib import Path

from schemas.problems import MAX_LISTED
from tasks.packages import open_package
from tasks.quality import judge

ROWS = 2 * MAX_LISTED


def test_every_clip_hears_of_a_fault_that_is_listed_for_the_first_ones_only(tmp_path: Path) -> None:
    lines = [f"audio/{i}.wav,teapot,00,true" for i in range(ROWS)]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("metadata.csv", "\n".join(["relative_path,machine_type,section_id,confirmed_normal", *lines]))
    with open_package(tmp_path / "p.zip") as package:
        result = judge(package)
    by_rule = {rule: [p for p in result.problems if p.rule == rule] for rule in ("row.machine_type", "file.missing")}
    for rule, found in by_rule.items():
        assert len(found) == MAX_LISTED
        assert sum(problem.count for problem in found) == ROWS
        assert all(rule in reasons for reasons in result.quality["reasons"])
    assert set(result.quality["verdict"]) == {"reject"}
