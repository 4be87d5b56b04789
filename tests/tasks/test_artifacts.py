"""What the Prefect UI shows of a run: the numbers of `scores.csv`, the words of the pages, and links that open."""

from __future__ import annotations

import logging
import re
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from schemas.references import AssetResult, OnboardResult, Run, Verdict
from schemas.rules import report
from schemas.settings import Language, OnboardSettings
from tasks import artifacts
from tasks.artifacts import summarize
from tasks.calibrating import SCORE_COLUMNS, to_csv
from tasks.report.conclusion import Conclusion, conclusion_key
from tasks.report.words import Words
from tasks.runs import Manifest
from tasks.store import FolderStore, ObjectStore, open_store
from tests.korean import english_in

HOME = "runs/acme-ulsan/0123456789abcdef"
FLEET = "customers/acme-ulsan/fleet.html"
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


def result(**changes: Any) -> AssetResult:
    known = {"machine_type": "fan", "section_id": "00", "engine": "a", "encoder": "logmel", "n_target": 10}
    known |= {
        "n_source": 0,
        "n_test": 2,
        "auc_source": None,
        "auc_target": None,
        "report": f"{HOME}/fan-00/report.html",
    }
    known |= {"auc": 0.9, "pauc": None, "threshold": 0.5, "certified": False, "alarms_per_day": 0.483}
    known |= {"rule": "5 of 5", "clips_per_day": 1440.0, "grades": {"CRITICAL": 1, "NORMAL": 1}}
    return AssetResult(**(known | {"highest_severity": 88.4} | changes))


def run_in(store: ObjectStore, language: Language = "en") -> Run:
    return Run(
        run_id="0123456789abcdef",
        customer="acme-ulsan",
        package_id="fedcba9876543210",
        store=store.url,
        settings=OnboardSettings(language=language),
        code_version="1",
    )


def filed(
    store: ObjectStore, page: Any, *assets: AssetResult, language: Language = "en", name: str = "march.zip"
) -> Manifest:
    """A run of which every page lies in the store."""
    objects = [f"{HOME}/{name}" for name in ("report.html", "data-docs.html")]
    objects += [f"{HOME}/fan-00/{name}" for name in ("report.html", "scores.csv")] if assets else []
    for key in (*objects, FLEET):
        store.put(key, f"<p>{key}</p>".encode())
    for asset in assets:
        assert asset.report is not None
        store.put_model(conclusion_key(asset.report), CONCLUDED)
    return Manifest(
        run=run_in(store, language),
        package=page.package.model_copy(update={"name": name}),
        quality=page.quality,
        result=OnboardResult(
            customer="acme-ulsan",
            package="fedcba9876543210",
            run_id="0123456789abcdef",
            verdict=page.quality.verdict,
            quarantined=(),
            reused=(),
            assets=assets,
        ),
        prefect_run_id=None,
        versions={},
        objects=dict.fromkeys(objects, ""),
    )


def scores(count: int) -> pd.DataFrame:
    table = pd.DataFrame({name: [""] * count for name in SCORE_COLUMNS})
    return table.assign(clip_id=[f"{i:03}" for i in range(count)], severity=float(count), score=0.5, p_value=0.1)


def test_clips_stand_as_in_the_csv_the_most_severe_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    table = scores(2).assign(
        clip_id=["007", "b"],
        severity=[49.9, 88.4],
        grade=["NORMAL", "CRITICAL"],
        label=["normal", None],
        score=[0.1, 0.9],
    )
    store.put(f"{HOME}/fan-00/scores.csv", to_csv(table))
    rows = artifacts._score_rows(store, result(), run_in(store), most=10)
    assert [(row["clip_id"], row["severity"], row["grade"]) for row in rows] == [
        ("b", 88.4, "CRITICAL"),
        ("007", 49.9, "NORMAL"),
    ]
    assert (rows[0]["label"], rows[1]["label"]) == (None, "normal")
    assert rows[0]["asset"] == "fan-00"


def test_the_table_of_scores_stays_small_however_many_machines_there_are(
    tmp_path: Path, make_package_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, told = FolderStore(tmp_path), dict[str, Any]()
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda **facts: None)
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda **facts: told.update({facts["key"]: facts["table"]}))
    monkeypatch.setattr(artifacts, "_selection_rows", lambda *_: [])
    monkeypatch.setattr(artifacts, "SHOWN_ROWS", 6)
    store.put(f"{HOME}/fan-00/scores.csv", to_csv(scores(20)))
    page = make_package_page()
    for machines, rows in ((1, 6), (3, 6), (4, 4), (9, 9)):
        manifest = filed(store, page, *([result()] * machines))
        store.put(f"{HOME}/fan-00/scores.csv", to_csv(scores(20)))
        artifacts.publish_artifacts.fn(manifest)
        assert len(told["scores-acme-ulsan-fedcba98"]) == rows


@pytest.mark.parametrize(
    ("certified", "said"), [(True, "at most 0.48 (certified)"), (False, "about 0.48 (not certified)")]
)
def test_the_summary_counts_grades_and_calls_only_a_certified_rate_a_bound(
    tmp_path: Path, make_package_page: Any, certified: bool, said: str
) -> None:
    store = FolderStore(tmp_path)
    summary = summarize(filed(store, make_package_page(), result(certified=certified)), store)
    assert said in summary
    assert "1,440 recordings a day" in summary, "a rate is never told without what it stands on"
    assert "AUC 0.900" in summary
    assert "0.720" in summary, "an AUC is never told without its interval"
    assert Words("en")("headline.blind") in summary
    assert "1 CRITICAL, 1 NORMAL; the highest severity is 88.4" in summary
    assert summary.startswith("# march.zip: accepted\n")


def test_a_refused_package_says_what_to_mend(tmp_path: Path, make_package_page: Any) -> None:
    store = FolderStore(tmp_path)
    problem = report("cell.missing", file="metadata.csv", row=2, column="section_id")
    page = make_package_page(report={"verdict": Verdict.REJECTED, "problems": (problem,)})
    summary = summarize(filed(store, page), store)
    assert problem.remedy in summary.replace("\\", "")
    assert f"{HOME}/report.html" in summary
    assert "fleet" not in summary


def test_the_summary_speaks_the_language_of_the_run(tmp_path: Path, make_package_page: Any) -> None:
    store = FolderStore(tmp_path)
    problem = report("cell.missing", file="metadata.csv", row=2, column="section_id")
    page = make_package_page(report={"verdict": Verdict.REJECTED, "problems": (problem,)})
    summary = summarize(filed(store, page, result(), language="ko"), store).replace("\\", "")
    told = re.sub("`[^`]*`", "", summary)
    assert (
        english_in(told, "march.zip", "logmel", "acme-ulsan", "Data Docs", "CRITICAL", "NORMAL", "metadata.csv") == []
    )


def test_what_a_customer_named_is_shown_and_is_no_markup(tmp_path: Path, make_package_page: Any) -> None:
    store = FolderStore(tmp_path)
    name = "<img src=x onerror=alert(1)>\n# [all is well](http://evil.example) `x` |.zip"
    summary = summarize(filed(store, make_package_page(), result(section_id="00"), name=name), store)
    title = summary.splitlines()[0]
    assert title.endswith(": accepted")
    assert "<img" not in summary
    assert re.search(r"(?<!\\)[\[\]`|]", title) is None


def test_pages_of_a_folder_are_named_by_their_paths(tmp_path: Path, make_package_page: Any) -> None:
    store = FolderStore(tmp_path)
    summary = summarize(filed(store, make_package_page(), result()), store)
    named = re.findall("`([^`]+)`", summary)
    assert sorted(named) == sorted(str(tmp_path / key) for key in (*pages(), FLEET))
    assert "until" not in summary


def pages() -> list[str]:
    names = ("report.html", "data-docs.html", "fan-00/report.html", "fan-00/scores.csv")
    return [f"{HOME}/{name}" for name in names]


def test_every_page_of_a_bucket_is_linked_by_a_link_that_opens_and_expires(
    s3_url: str, make_package_page: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALP_LINK_HOURS", "2")
    store = open_store(s3_url)
    manifest = filed(store, make_package_page(), result())
    with caplog.at_level(logging.DEBUG):
        summary = summarize(manifest, store)
    assert "X-Amz-Signature" in summary
    assert "X-Amz-Signature" not in caplog.text, "a link is as good as the page"
    links = re.findall(r"\]\(<([^>]+)>\)", summary)
    opened = set()
    for link in links:
        assert "X-Amz-Expires=7200" in link
        with urllib.request.urlopen(link) as answer:
            opened.add(answer.read().decode())
    assert opened == {f"<p>{key}</p>" for key in (*pages(), FLEET)}
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d UTC", summary)
    assert f"`alp store link {HOME}/report.html --store '{store.url}'`" in summary


def test_below_a_base_of_one_s_own_nothing_is_signed(
    s3_url: str, make_package_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALP_LINK_BASE", "https://files.plant.example/alp/")
    store = open_store(s3_url)
    summary = summarize(filed(store, make_package_page(), result()), store)
    assert f"](<https://files.plant.example/alp/{HOME}/fan-00/report.html>)" in summary
    assert "X-Amz" not in summary
    assert "until" not in summary
