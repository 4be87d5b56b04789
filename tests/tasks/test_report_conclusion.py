"""What a page concludes is said alike everywhere, its advice fits its verdict, and no figure rests on nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engines.metrics import AssetMetrics
from schemas.settings import AlarmPolicy, Kpi
from tasks.calibrating import LEAKED, measure, without_leaked_labels
from tasks.report import scores_view, verdicts
from tasks.report.conclusion import Conclusion, conclusion_key, name_measured, name_verdict, read_conclusion
from tasks.report.first_screen import answer, conclude
from tasks.report.next_steps import next_steps
from tasks.report.pages import render_asset_page, render_package_page
from tasks.report.words import Words
from tasks.store import FolderStore

WINDOWED = AlarmPolicy()
"""The default policy: a dozen normals cannot carry it by single clips, so several in a row must be high."""


def text(html: str, section: str = "") -> str:
    """What a page says, or a section of it."""
    if section:
        html = html[html.index(f'id="{section}"') :]
        html = html[: html.index("</section>")]
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r'(src|srcset)="data:[^"]*"', "", html)).split())


def deaf(page: Any) -> Any:
    """The page of an engine to which every fault sounds like a normal."""
    scores = page.scores.copy()
    scores.loc[scores["label"] == "anomaly", "score"] = page.normal_scores.min()
    return replace(page, scores=scores, metrics=measure(scores, page.rule, seed=0))


def overshadowed(page: Any) -> Any:
    """The page of an engine that hears every fault, under a threshold that stands above them all."""
    above = page.scores["score"].max() + 1
    return replace(page, rule=page.rule.model_copy(update={"clip_threshold": above}))


# --- the same everywhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ko"])
def test_nobody_stops_at_a_green_package_while_a_machine_is_not_covered(
    make_asset_page: Any, make_package_page: Any, language: Any
) -> None:
    page, say = deaf(make_asset_page(language=language)), Words(language)
    concluded = conclude(page)
    said = answer(page, say)
    assert (said.headline, said.tone) == (say("headline.blind"), "bad")
    package = render_package_page(make_package_page(language=language, concluded=[concluded]))
    assert said.headline in text(package, "verdict")
    assert 'id="verdict" class="answer bad"' in package
    assert 'id="verdict" class="answer good"' in render_package_page(make_package_page(language=language))


def test_the_gravest_machine_comes_first_and_an_auc_stands_with_what_it_rests_on(
    make_asset_page: Any, make_package_page: Any
) -> None:
    plain = make_package_page()
    assets = [plain.assets[0], plain.assets[0].model_copy(update={"section_id": "01"})]
    found = [conclude(make_asset_page()), conclude(deaf(make_asset_page()))]
    said = text(render_package_page(replace(plain, assets=assets, concluded=found)), "verdict")
    assert said.index("fan 01") < said.index("fan 00")
    assert said.count("on 8 normal and 8 faulty labelled recordings") == 2
    assert said.count("95 % interval") == 2


def test_a_conclusion_is_filed_beside_the_page_and_read_again(
    make_asset_page: Any, make_package_page: Any, tmp_path: Path
) -> None:
    store, concluded, asset = FolderStore(tmp_path), conclude(make_asset_page()), make_package_page().assets[0]
    assert read_conclusion(store, asset) is None
    store.put_model(conclusion_key(asset.report), concluded)
    assert read_conclusion(store, asset) == concluded
    assert read_conclusion(store, asset.model_copy(update={"report": None})) is None


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("metric", ["auc", "pauc", "official", "alarms_per_day", "miss_rate"])
@pytest.mark.parametrize("target", [0.0, 0.5, 0.99])
def test_every_conclusion_has_words_and_green_is_for_what_is_met_and_certified(
    make_asset_page: Any, metric: Any, target: float, synthetic: bool
) -> None:
    base = make_asset_page(kpi=Kpi(metric=metric, target=target), synthetic=synthetic)
    sure = replace(base, rule=base.rule.model_copy(update={"certified": True, "kind": "conformal"}))
    for page in (base, sure, deaf(base), overshadowed(sure)):
        concluded = conclude(page)
        assert name_verdict(concluded, Words("en")) == answer(page, Words("en")).headline
        if concluded.tone == "good":
            assert page.rule.certified
            assert verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=synthetic).status == "met"


def missing_one(page: Any) -> Any:
    """The page with one of its eight faults below the threshold."""
    scores = page.scores.copy()
    scores.loc[0, "score"] = page.normal_scores.min()
    return replace(page, scores=scores, metrics=measure(scores, page.rule, seed=0))


def test_the_target_stands_with_what_was_measured_wherever_the_verdict_does(
    make_asset_page: Any, make_package_page: Any
) -> None:
    page = missing_one(make_asset_page(kpi=Kpi(metric="miss_rate", target=0.1)))
    concluded = conclude(page)
    assert concluded.target is not None
    assert (concluded.target.value, concluded.target.default, concluded.target.falls_short) == (0.125, False, True)
    measured = "Measured 0.125 (95 % interval 0.003 to 0.527)."
    said = name_measured(concluded, Words("en"))
    assert said.startswith(f"Target (from the settings): at most 0.1 of faults missed. {measured} AUC 0.")
    assert measured in text(render_asset_page(page), "answer")
    assert said in text(render_package_page(make_package_page(concluded=[concluded])), "verdict")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_an_auc_that_is_the_target_is_said_once(make_asset_page: Any, language: Any) -> None:
    say = Words(language)
    said = name_measured(conclude(make_asset_page()), say)
    assert said.startswith(say("concluded.target.default", goal=say("kpi.auc", target="0.95")))
    assert said.count("1.000") == 2, "value and upper end"


def test_a_target_measured_on_synthetic_sound_is_no_evidence(make_asset_page: Any) -> None:
    page = make_asset_page(kpi=Kpi(metric="miss_rate", target=0.1), synthetic=True)
    said = name_measured(conclude(page), Words("en"))
    assert "Measured 0.000 (95 % interval 0.000 to 0.369). Synthetic: proves the path, not the performance." in said


def test_a_conclusion_of_an_older_version_names_no_target(make_asset_page: Any) -> None:
    older = Conclusion.model_validate(conclude(make_asset_page()).model_dump(exclude={"target"}))
    assert older.target is None
    assert name_measured(older, Words("en")).startswith("AUC 1.000")


@pytest.mark.parametrize("certified", [False, True])
def test_the_headline_says_that_a_measured_value_falls_short(make_asset_page: Any, certified: bool) -> None:
    page = missing_one(make_asset_page(kpi=Kpi(metric="miss_rate", target=0.1)))
    page = replace(page, rule=page.rule.model_copy(update={"certified": certified}))
    short = "what was measured falls short of the target, though too few labels came to be sure."
    assert name_verdict(conclude(page), Words("en")).endswith(short)
    enough = replace(page, kpi=Kpi(metric="miss_rate", target=0.2))
    assert name_verdict(conclude(enough), Words("en")).endswith("that it reaches the target is not proven yet.")


@pytest.mark.parametrize(
    ("rule", "said"), [("5 of 5", "5 clips in a row are"), ("3 of 5", "3 of 5 clips in a row are")]
)
def test_the_package_says_the_rule_in_the_words_of_the_machines_page(
    make_package_page: Any, rule: str, said: str
) -> None:
    page = make_package_page()
    ringing = replace(page, assets=[page.assets[0].model_copy(update={"rule": rule})])
    assert f" {said} too high" in text(render_package_page(ringing), "assets")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_fault_that_is_called_off_is_told_beside_the_clips_that_are(make_asset_page: Any, language: Any) -> None:
    page, say = make_asset_page(language=language), Words(language)
    scores = page.scores.assign(state="on")
    scores.loc[[0, 15], "state"] = "off"
    said = text(render_asset_page(replace(page, scores=scores)), "answer")
    assert f"{say('tile.state.body', n=2, all=16)} {say('tile.state.faults', n=1)}" in said
    scores.loc[0, "state"] = "on"
    assert say("tile.state.faults", n=1) not in text(render_asset_page(replace(page, scores=scores)), "answer")


def test_the_package_says_what_its_warnings_count(make_package_page: Any) -> None:
    said = text(render_package_page(make_package_page()), "verdict")
    assert "Recordings with a warning" in said


# --- advice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_deaf_engine_is_not_told_to_record_more_normals_for_a_certificate(
    make_asset_page: Any, language: Any
) -> None:
    page, say = deaf(make_asset_page(language=language)), Words(language)
    steps = next_steps(page, say)
    assert steps.steps[0] == say("better.blind", n=8)
    assert steps.note is None
    assert not any("1,440" in step or "split" in step for step in steps.steps)


def test_faults_that_are_heard_below_the_threshold_are_not_called_inaudible(make_asset_page: Any) -> None:
    page, say = overshadowed(make_asset_page()), Words("en")
    assert conclude(page).verdict == "blind"
    steps = next_steps(page, say).steps
    assert steps[0] == say("better.blind.threshold", n=8, auc="1.000")
    assert not any(step.startswith("First of all make the fault") for step in steps)


def test_what_a_target_lacks_in_labels_comes_before_what_normals_would_gain(make_asset_page: Any) -> None:
    page, say = make_asset_page(policy=WINDOWED), Words("en")
    verdict = verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=False)
    assert verdict.status == "unproven"
    assert verdict.needed is not None
    first = next_steps(page, say).steps[0]
    assert f"{verdict.needed.normals} normal and {verdict.needed.anomalies} faulty labelled test recordings" in first
    assert "8 and 8 came" in first


def test_a_value_on_the_wrong_side_of_the_target_is_not_told_to_send_labels(make_asset_page: Any) -> None:
    page, say = make_asset_page(), Words("en")
    short = replace(page, metrics=page.metrics.model_copy(update={"auc": 0.9}), kpi=Kpi(target=0.95))
    steps = next_steps(short, say).steps
    assert steps[0] == say("better.target.short", goal="AUC at least 0.95", value="0.900")
    assert steps[0].startswith("The 0.900 measured falls short of the target (AUC at least 0.95).")
    assert not any("would prove" in step or "To prove" in step for step in steps)
    assert say("kpi.beyond") in text(render_asset_page(short), "answer")


def test_a_rehearsal_first_asks_for_the_real_machine(make_asset_page: Any) -> None:
    steps = next_steps(make_asset_page(synthetic=True), Words("en")).steps
    assert steps[0].startswith("Send recordings of the real machine")
    assert not any("To prove the target" in step for step in steps)


def test_the_customers_own_rate_of_alarms_is_among_those_to_certify(make_asset_page: Any) -> None:
    page = make_asset_page(policy=WINDOWED, kpi=Kpi(metric="alarms_per_day", target=0.5))
    assert any("0.5 false alarms a day" in step for step in next_steps(page, Words("en")).steps)


def test_only_normals_kept_from_the_engine_count_towards_those_to_keep_apart(make_asset_page: Any) -> None:
    page = make_asset_page(policy=WINDOWED)
    learnt = " ".join(next_steps(page, Words("en")).steps)
    assert "takes 1,439 normal recordings kept apart from learning" in learnt
    assert "0 kept apart so far" in learnt
    split = replace(page, threshold=page.threshold.model_copy(update={"method": "split"}))
    assert "12 kept apart so far" in " ".join(next_steps(split, Words("en")).steps)


def test_no_split_is_advised_that_the_calibration_would_refuse(make_asset_page: Any) -> None:
    page = make_asset_page(policy=AlarmPolicy(false_alarms_per_day=400))
    asset = page.selection.asset.model_copy(update={"target": 4})
    few = replace(page, selection=page.selection.model_copy(update={"asset": asset}))
    steps = " ".join(next_steps(few, Words("en")).steps)
    # Three to learn from and three to calibrate on.
    assert "2 more normal recordings certify 400 false alarms a day" in steps


# --- figures that rest on nothing -----------------------------------------------------------------------------------


def test_table_and_tile_give_one_interval_of_one_figure(make_asset_page: Any) -> None:
    page = make_asset_page()
    found = verdicts.interval_of(page.metrics, "auc")
    assert found is not None
    assert found.low < 1.0
    assert page.metrics.intervals["auc"].low == 1.0
    said = text(render_asset_page(page))
    assert f"95 % interval {found.low:.3f} to {found.high:.3f}" in said
    assert f"{found.low:.3f}–{found.high:.3f}" in text(render_asset_page(page), "metrics")
    assert "1.000–1.000" not in said


@pytest.mark.parametrize("name", ["auc", "auc_source", "auc_target", "pauc", "official", "precision", "recall"])
def test_a_flawless_figure_on_few_clips_has_a_wide_interval(make_asset_page: Any, name: str) -> None:
    metrics: AssetMetrics = make_asset_page().metrics
    found = verdicts.interval_of(metrics, name)
    assert getattr(metrics, name) == 1.0
    assert found is not None
    assert found.low < 0.8
    assert verdicts.interval_of(metrics.model_copy(update={name: None}), name) is None


def test_the_interval_of_a_recall_is_the_exact_one_where_that_is_wider(make_asset_page: Any) -> None:
    metrics = make_asset_page().metrics.model_copy(update={"intervals": {}, "recall": 0.5, "precision": 0.8})
    recall, precision = (verdicts.interval_of(metrics, name) for name in ("recall", "precision"))
    assert recall is not None
    assert precision is not None
    # Clopper and Pearson of 4 of 8 and of 4 of 5.
    assert (recall.low, recall.high) == pytest.approx((0.1570, 0.8430), abs=1e-4)
    assert (precision.low, precision.high) == pytest.approx((0.2836, 0.9949), abs=1e-4)


# --- tests that were learnt from ------------------------------------------------------------------------------------


def leaking(page: Any) -> Any:
    """The page with two faults and one normal among the tests that are copies of what was learnt."""
    notes = np.full(len(page.scores), "", dtype=object)
    notes[[0, 2, 15]] = [LEAKED, f"longer than the normals; {LEAKED}", LEAKED]
    scores = without_leaked_labels(page.scores.assign(notes=notes))
    return replace(page, scores=scores, metrics=measure(scores, page.rule, seed=0))


def test_a_test_that_was_learnt_from_is_counted_nowhere(make_asset_page: Any) -> None:
    page = leaking(make_asset_page(policy=WINDOWED))
    seen = verdicts.observe(page.scores, page.rule)
    assert (seen.anomalies, seen.normals) == (6, 7)
    assert verdicts.labels_of(page.metrics).anomalies == 6
    said = text(render_asset_page(page))
    assert "6 of 6 faulty clips are too high" in said
    assert "Test, anomaly (6)" in said
    assert "Test, normal (7)" in said
    assert "Test, no label" not in said
    assert "On 7 normal and 6 faulty test recordings, 0 more without a label" in said
    conditions = scores_view.describe_metrics(page, Words("en"))["conditions"]
    of_domain = [row for row in conditions if row.condition == "domain"]
    assert (sum(row.faults for row in of_domain), sum(row.normals for row in of_domain)) == (6, 7)


def test_a_test_that_was_learnt_from_is_no_point_of_the_roc_curve(make_asset_page: Any) -> None:
    page = make_asset_page()
    scores = page.scores.assign(notes="")
    # The one fault that would spoil a perfect curve.
    scores.loc[0, ["score", "notes"]] = [page.normal_scores.min() - 1, LEAKED]
    curve = scores_view.describe_scores(replace(page, scores=without_leaked_labels(scores)), Words("en"))
    assert "100% of faults and 0% of normals" in curve.roc_alt
    spoilt = scores_view.describe_scores(replace(page, scores=scores.assign(notes="")), Words("en"))
    assert "88% of faults" in spoilt.roc_alt


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_test_that_was_learnt_from_is_marked_wherever_it_is_listed(
    make_asset_page: Any, make_clip: Any, language: Any
) -> None:
    say = Words(language)
    clip = make_clip(0, label=None, learnt=True)
    page = leaking(make_asset_page(language=language, worst=[clip]))
    html = render_asset_page(page)
    assert say("clip.learnt") in text(html, "clips")
    assert text(html, "all").count(say("clip.learnt")) == 3
    assert say("leaked.body", n=3, all=16) in text(html, "answer")
    assert say("leaked.title") not in text(render_asset_page(make_asset_page(language=language)), "answer")


def test_a_table_without_notes_leaks_nothing() -> None:
    assert not verdicts.learnt_from(pd.DataFrame({"score": [1.0]})).any()
