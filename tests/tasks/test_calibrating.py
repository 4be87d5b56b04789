"""What is handed over as CSV is safe in a spreadsheet."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest

from tasks.calibrating import to_csv


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-2", "@SUM(A1)", "\tx", "\r=1"])
def test_a_cell_that_starts_a_formula_is_escaped(cell: str) -> None:
    text = to_csv(pd.DataFrame({"clip_id": [cell], "score": [-0.5]})).decode()
    row = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert row == [f"'{cell}", "-0.5"]


def test_an_unlabelled_clip_has_an_empty_cell() -> None:
    text = to_csv(pd.DataFrame({"clip_id": ["a", "b"], "label": pd.array(["normal", None], dtype="string")})).decode()
    assert text == "clip_id,label\r\na,normal\r\nb,\r\n"
