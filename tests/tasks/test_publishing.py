"""What the Prefect UI shows of a run is what `scores.csv` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from schemas.references import AssetResult, Run
from schemas.settings import OnboardSettings
from tasks import publishing
from tasks.calibrating import SCORE_COLUMNS, to_csv
from tasks.report.conclusion import Conclusion
from tasks.report.words import Words
from tasks.store import FolderStore


def result(**changes: Any) -> AssetResult:
    known = {"machine_type": "fan", "section_id": "00", "engine": "a", "encoder": "logmel", "n_target": 10}
    known |= {"n_source": 0, "n_test": 2, "auc_source": None, "auc_target": None, "report": None}
    known |= {"auc": 0.9, "pauc": None, "threshold": 0.5, "certified": False, "alarms_per_day": 0.483}
    known |= {"rule": "5 of 5", "clips_per_day": 1440.0, "grades": {"CRITICAL": 1, "NORMAL": 1}}
    return AssetResult(**(known | {"highest_severity": 88.4} | changes))


CONCLUDED = Conclusion(
    verdict="blind",
    tone="bad",
    ringing="blind",
    sureness="estimated",
    auc=0.9,
    auc_interval=(0.72, 0.98),
    normals=20,
    faults=20,
)


def test_clips_stand_as_in_the_csv_the_most_severe_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    table = pd.DataFrame({name: ["", ""] for name in SCORE_COLUMNS}).assign(
        clip_id=["007", "b"],
        severity=[49.9, 88.4],
        grade=["NORMAL", "CRITICAL"],
        label=["normal", None],
        score=[0.1, 0.9],
    )
    store.put("runs/acme/r/fan-00/scores.csv", to_csv(table))
    run = Run(
        run_id="r", customer="acme", package_id="p", store=store.url, settings=OnboardSettings(), code_version="1"
    )
    rows = publishing._verdict_rows(store, result(), run)
    assert [(row["clip_id"], row["severity"], row["grade"]) for row in rows] == [
        ("b", 88.4, "CRITICAL"),
        ("007", 49.9, "NORMAL"),
    ]
    assert (rows[0]["label"], rows[1]["label"]) == (None, "normal")
    assert rows[0]["asset"] == "fan-00"


@pytest.mark.parametrize(
    ("certified", "said"), [(True, "at most 0.48 (certified)"), (False, "about 0.48 (not certified)")]
)
def test_the_summary_counts_grades_and_calls_only_a_certified_rate_a_bound(certified: bool, said: str) -> None:
    row = publishing._summary_row(result(certified=certified), CONCLUDED)
    assert said in row
    assert "AUC 0.900" in row
    assert "0.720" in row, "an AUC is never told without its interval"
    assert Words("en")("headline.blind") in row
    assert "1 CRITICAL, 1 NORMAL" in row
    assert "| 88.4 |" in row
