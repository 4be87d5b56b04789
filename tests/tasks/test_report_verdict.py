"""What an asset's page says of the verdict: coverage, alarm rule, conditions, clips, next steps; and how it looks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tasks.report
from engines.alarm import raise_rate
from engines.calibration import calibrate
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import AssetIntake
from schemas.rules import report
from schemas.settings import AlarmPolicy, Kpi, QaLimits
from tasks.report import charts, figures, next_steps, scores_view, verdicts
from tasks.report.pages import Fault, render_asset_page
from tasks.report.words import Words

WINDOWED = AlarmPolicy()
"""The default policy: a dozen normals cannot carry it by single clips, so several in a row must be high."""


def first_screen(html: str) -> str:
    return html[html.index('id="answer"') : html.index('id="received"')]


def deaf(page: Any) -> pd.DataFrame:
    """The page's scores, every fault as quiet as a normal."""
    scores = page.scores.copy()
    scores.loc[scores["label"] == "anomaly", "score"] = page.normal_scores.min()
    return scores


# --- first screen -------------------------------------------------------------------------------------------------


def test_the_rule_is_said_with_its_delay(make_asset_page: Any) -> None:
    page = make_asset_page(policy=WINDOWED)
    m, window = page.rule.m, page.rule.window
    assert m == window > 1
    said = first_screen(render_asset_page(page))
    assert f"{m} clips in a row are too high" in said
    assert f"{m} of {window}" not in said
    of_more = replace(page, rule=page.rule.model_copy(update={"window": window + 1}))
    assert f"{m} of {window + 1} clips in a row are too high" in first_screen(render_asset_page(of_more))
    assert f"{m} minutes after a fault begins" in said
    assert f"{m} minutes" not in first_screen(render_asset_page(make_asset_page()))


def test_a_single_clip_rings_only_by_the_clip_rule(make_asset_page: Any) -> None:
    assert "one clip is too high" in first_screen(render_asset_page(make_asset_page()))
    assert "One clip alone does not ring." in first_screen(render_asset_page(make_asset_page(policy=WINDOWED)))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_an_alarm_that_hears_no_fault_is_no_cover_whatever_its_rate(make_asset_page: Any, language: Any) -> None:
    say = Words(language)
    few = np.array([0.24, 0.25, 0.27])
    policy = AlarmPolicy(rule="clip")
    threshold = calibrate(few, policy, method="leave_one_out")
    base = make_asset_page(policy=policy)
    page = replace(base, language=language, threshold=threshold, rule=clip_rule(few, threshold, policy))
    assert page.rule.alarms_per_day > 2 * policy.false_alarms_per_day
    said = first_screen(render_asset_page(replace(page, scores=deaf(page))))
    for key in ("headline.blind", "ringing.blind", "blind.title", "tile.rate.blind"):
        assert say(key, n=3) in said
    hearing = first_screen(render_asset_page(page))
    assert say("blind.title") not in hearing
    assert say("tile.rate.blind", n=3) not in hearing


def clip_rule(normals: Any, threshold: Any, policy: AlarmPolicy) -> Any:
    from engines.alarm import choose_alarm_rule

    return choose_alarm_rule(normals, policy, threshold, method="leave_one_out")


def test_whoever_hears_it_ring_is_told_to_go_or_to_listen_first(make_asset_page: Any) -> None:
    windowed, modelled = make_asset_page(policy=WINDOWED), make_asset_page()
    assert verdicts.advise_on_ringing(windowed.rule, windowed.policy, windowed.scores) == "go"
    assert verdicts.how_sure(modelled.rule) == "modelled"
    assert verdicts.advise_on_ringing(modelled.rule, modelled.policy, modelled.scores) == "listen"
    assert verdicts.advise_on_ringing(windowed.rule, windowed.policy, deaf(windowed)) == "blind"


def test_a_rehearsal_says_nothing_about_when_to_go(make_asset_page: Any) -> None:
    said = first_screen(render_asset_page(make_asset_page(synthetic=True)))
    assert "no real machine was heard" in said
    assert "When it rings" not in said


def test_a_fault_that_is_called_off_is_not_found(make_asset_page: Any) -> None:
    page = make_asset_page()
    off = page.scores.assign(state=np.where(page.scores["label"] == "anomaly", "off", "on"))
    seen = verdicts.observe(off, page.rule)
    assert (seen.hits, seen.anomalies) == (0, 8)
    said = first_screen(render_asset_page(replace(page, scores=off)))
    assert "Off in 8 of 16 test clips." in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "no recordings of the place with the machine off came"),
        ({"noise_recordings": 4, "indistinct": "record more normals of every way in which the machine runs"}, "4 rec"),
    ],
)
def test_a_machine_whose_state_is_unknown_says_why(make_asset_page: Any, changes: Any, said: str) -> None:
    korean = render_asset_page(make_asset_page(language="ko", **changes))
    assert said in first_screen(render_asset_page(make_asset_page(**changes)))
    assert 'lang="en"' not in korean


@pytest.mark.parametrize("metric", ["auc", "pauc", "official", "alarms_per_day", "miss_rate"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_target_stands_with_its_definition(make_asset_page: Any, metric: Any, language: Any) -> None:
    page = make_asset_page(language=language, kpi=Kpi(metric=metric, target=0.5))
    cadence = Words(language)("cadence", clips="1,440")
    assert Words(language)(f"kpi.{metric}.definition", cadence=cadence) in first_screen(render_asset_page(page))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(40, "40 seconds"), (60, "1 minute"), (300, "5 minutes"), (3600, "60 minutes"), (36_000, "10 hours")],
)
def test_times_are_said_in_their_largest_unit(seconds: float, said: str) -> None:
    from tasks.report.first_screen import name_time

    assert name_time(seconds, Words("en")) == said


# --- what came ----------------------------------------------------------------------------------------------------


def test_what_came_is_counted_and_what_was_wrong_has_its_remedy(make_asset_page: Any) -> None:
    problem = report("clip.clipped", limits=QaLimits(), file="audio/a.wav", measured=0.02)
    counts = {
        "target": 12,
        "source": 3,
        "test": 16,
        "supplemental": 4,
        "quarantined": 1,
        "known_target": 5,
        "normals": 17,
    }
    intake = AssetIntake(machine_type="fan", section_id="00", accepted=True, **counts)
    faults = [Fault("clip.clipped", problem.severity, 7, [problem])]
    html = render_asset_page(make_asset_page(intake=intake, faults=faults))
    section = html[html.index('<section id="received"') : html.index('<section id="scores"')]
    assert problem.message in section
    assert problem.remedy in section
    assert 'href="../report.html#problems"' in section
    assert re.findall(r"<dd>(\d+)</dd>", section) == ["12", "5", "17", "3", "16", "4", "1"]
    assert re.search(r'class="figure">7</td>', section)


# --- timeline and conditions --------------------------------------------------------------------------------------


def test_the_timeline_follows_the_times_and_says_where_days_begin(make_asset_page: Any) -> None:
    html = render_asset_page(make_asset_page())
    assert "in the order they were made, 2026-03-02 to 2026-03-03" in html
    times = [pd.Timestamp(f"2026-03-{day:02d} {hour:02d}:00") for day in (2, 3, 5) for hour in (8, 9)]
    assert [(mark.place, mark.label) for mark in scores_view._marks(times)] == [
        (1, "03-02"),
        (3, "03-03"),
        (5, "03-05"),
    ]
    assert [mark.label for mark in scores_view._marks(times[:2])] == ["08:00", "09:00"]


def test_without_all_times_the_timeline_is_in_the_order_of_names_and_says_so(make_asset_page: Any) -> None:
    page = make_asset_page()
    context = page.context.copy()
    context.loc[:2, "recorded_at"] = None
    assert "In the order of clip ids, since 3 of 28 recordings" in render_asset_page(replace(page, context=context))


def test_scores_far_beyond_the_threshold_do_not_flatten_the_rest() -> None:
    usual = charts.ScoreGroup("normal", "n", np.linspace(0.8, 1.2, 10))
    wild = charts.ScoreGroup("anomaly", "a", np.array([1.5, 20.0, 900.0]))
    assert charts.axis_of([usual], 1.2) == (0.8, 1.2, False)
    low, high, beyond = charts.axis_of([usual, wild], 1.2)
    assert (low, beyond) == (0.8, True)
    assert high < 5


def test_results_stand_by_condition_and_by_kind_of_fault(make_asset_page: Any) -> None:
    page = make_asset_page()
    rows = {(row.condition, row.value): row for row in scores_view._condition_rows(page, Words("en"))}
    assert {condition for condition, _ in rows} == {"domain", "speed", "kind of fault"}
    fast, slow = rows["speed", "high"], rows["speed", "low"]
    assert fast.faults + slow.faults == 8
    assert fast.learnt + slow.learnt == 12
    assert (rows["domain", "target"].learnt, rows["domain", "source"].learnt) == (len(page.normal_ids), None)
    assert (rows["kind of fault", "leak"].found, rows["kind of fault", "leak"].faults) == (4, 4)
    html = render_asset_page(page)
    assert "Not written down for any recording, so not shown: load, microphone position" in html


def test_a_condition_that_no_normal_was_learnt_under_is_marked(make_asset_page: Any) -> None:
    page = make_asset_page()
    context = page.context.copy()
    context.loc[context["clip_id"].str.startswith("normal_"), "speed_level"] = "low"
    html = render_asset_page(replace(page, context=context))
    assert re.search(r'aria-hidden="true">!</span>0</span></td>', html)
    assert not re.search(r'aria-hidden="true">!</span>0</span></td>', render_asset_page(page))


def test_korean_sentences_name_condition_columns_in_korean() -> None:
    say = Words("ko")
    for column in CONDITION_COLUMNS:
        said = say.translate(f"C: no: {column} is 0 % filled, 95 % needed").text
        assert column not in said
        assert say.condition(column) in said
    assert (
        "속도, 부하"
        in say.translate("C: yes: 2 of 7 condition columns qualify, 2 needed (speed_level, load_level)").text
    )


# --- clips --------------------------------------------------------------------------------------------------------


def test_the_anomalous_stretch_is_marked_at_the_player(make_asset_page: Any, make_clip: Any) -> None:
    html = render_asset_page(make_asset_page(worst=[make_clip(regions=[(0.5, 1.5)])], typical=[]))
    assert '<i style="left:25.0%;width:50.0%">' in html
    assert 'aria-label="labelled: 0.5–1.5 s of 2.0 s"' in html
    assert 'class="strip' not in render_asset_page(make_asset_page(worst=[make_clip(map=None)], typical=[]))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_recordings_unlike_the_normals_are_said_first(make_asset_page: Any, language: Any) -> None:
    say, page = Words(language), make_asset_page(language=language)
    scores = page.scores.assign(notes="")
    quiet = scores["label"] == "normal"
    scores.loc[quiet, ["state", "decision"]] = "not comparable"
    scores.loc[quiet, ["grade", "notes"]] = ["UNKNOWN", "level"]
    html = render_asset_page(replace(page, scores=scores))
    assert say("unheard.body", n=int(quiet.sum()), all=len(scores)) in first_screen(html)
    assert html.count(say("clip.unheard")) == quiet.sum()
    assert say("unheard.title") not in render_asset_page(page)
    longer = render_asset_page(replace(page, scores=scores.assign(state="on", notes="longer")))
    assert say("longer.body", n=len(scores), all=len(scores)) in first_screen(longer)


def test_grade_and_severity_stand_at_each_clip_and_in_the_table(make_asset_page: Any, make_clip: Any) -> None:
    page = make_asset_page(worst=[make_clip(severity=81.6, grade="CRITICAL")])
    html = render_asset_page(page)
    card = html[html.index('<article class="clip"') :]
    assert re.search(r"<dt>Grade</dt><dd>.*critical", card)
    assert "<dd>81.6</dd>" in card
    table = html[html.index('<section id="all"') :]
    assert table.count(">critical<") == (page.scores["grade"] == "CRITICAL").sum()
    older = page.scores.drop(columns=["severity", "grade"])
    assert ">Grade</th>" not in render_asset_page(replace(page, scores=older))


def test_an_ensembles_clips_say_what_each_engine_finds(make_asset_page: Any, make_clip: Any) -> None:
    html = render_asset_page(make_asset_page(worst=[make_clip(members={"a": 0.002, "b": 0.31})]))
    assert "engine A: 0.002, engine B: 0.31" in html


def test_missed_faults_and_typical_normals_stand_apart(make_asset_page: Any, make_clip: Any) -> None:
    page = make_asset_page(missed=[make_clip(3, clip_id="quiet_fault", alarm=False)])
    html = render_asset_page(page)
    order = [
        html.index(name) for name in ('id="clips-worst"', 'id="clips-missed"', "quiet_fault", 'id="clips-typical"')
    ]
    assert order == sorted(order)


# --- next steps ---------------------------------------------------------------------------------------------------


def test_so_many_normals_certify_an_alarm_a_week_and_one_fewer_do_not() -> None:
    found = next_steps.certify_by_window(WINDOWED, alarms_per_day=1 / 7)
    assert found is not None
    assert found.normals == 7
    alpha = 1 / 7 / WINDOWED.clips_per_day
    assert raise_rate(found.normals, 1, m=found.m, window=found.m) <= alpha
    assert raise_rate(found.normals - 1, 1, m=WINDOWED.max_window, window=WINDOWED.max_window) > alpha
    assert next_steps.certify_by_window(AlarmPolicy(max_window=1), alarms_per_day=1) is None


@pytest.mark.parametrize(("held_out", "least", "total"), [(7, 3, 13), (2, 3, 5), (1, 3, 4)])
def test_half_of_the_normals_are_held_out_and_some_are_left_to_learn(held_out: int, least: int, total: int) -> None:
    assert next_steps.normals_to_divide(held_out, least=least) == total
    learnt = max(least, total // 2)
    assert total - learnt >= held_out > total - 1 - max(least, (total - 1) // 2)


def test_the_page_says_how_many_more_normals_certify(make_asset_page: Any) -> None:
    html = render_asset_page(make_asset_page(policy=WINDOWED))
    better = html[html.index('<section id="better"') :]
    assert "The 12 normal recordings at hand can certify one false alarm a day already" in better
    assert "1 more normal recording certifies one false alarm a week" in better
    assert "one false alarm a day takes 1,439 normal recordings kept apart from learning" in better
    assert "4,313 at 95% confidence; 0 kept apart so far." in better


# --- how it looks -------------------------------------------------------------------------------------------------


def test_a_report_of_a_thousand_clips_stays_below_ten_megabytes(make_asset_page: Any, make_clip: Any) -> None:
    rng = np.random.default_rng(0)
    page = make_asset_page()
    scores = pd.concat([page.scores.iloc[[0]]] * 1000, ignore_index=True)
    scores["clip_id"] = [f"compressor_line_7_2026-03-02T09-{i:04d}" for i in range(1000)]
    scores["score"] = rng.normal(0.3, 0.1, 1000)
    context = pd.DataFrame({"clip_id": scores["clip_id"], **dict.fromkeys(CONDITION_COLUMNS), "anomaly_type": None})
    context["recorded_at"] = pd.date_range("2026-03-02", periods=1000, freq="h").strftime("%Y-%m-%dT%H:%M")
    context = pd.concat([page.context, context], ignore_index=True)
    noise = [make_clip(i, waveform=(0.3 * rng.standard_normal(160_000)).astype(np.float32)) for i in range(10)]
    html = render_asset_page(
        replace(page, scores=scores, context=context, worst=noise[:6], missed=noise[6:8], typical=noise[8:])
    )
    assert len(html.encode()) < 10_000_000


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def variables(scheme: str) -> dict[str, str]:
    """The colours of style.css in a scheme."""
    css = (Path(tasks.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{[^}]+\}", css)[:2]
    )
    return light if scheme == "light" else light | dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_it_stands_on(scheme: str) -> None:
    colour = variables(scheme)
    words = ["ink", "muted", "link", "good", "caution", "bad", *(name for name in colour if name.startswith("kind-"))]
    assert len(words) == 11
    for name in words:
        for ground in ("paper", "card"):
            assert contrast(colour[name], colour[ground]) >= 4.5, f"{name} on {ground}"
    for name in ("good", "caution", "bad"):
        assert contrast(colour[name], colour[f"{name}-wash"]) >= 4.5, name
        assert contrast(colour["ink"], colour[f"{name}-wash"]) >= 4.5, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_of_a_figure_stands_out_too(scheme: str) -> None:
    ground = variables(scheme)
    for name, pair in figures.SCHEME.items():
        if name != "rule":
            for below in ("paper", "card"):
                assert contrast(pair[scheme == "dark"], ground[below]) >= 4.5, f"{name} on {below}"


def test_legend_and_figure_agree_on_colours() -> None:
    for i, scheme in enumerate(("light", "dark")):
        colour = variables(scheme)
        for kind in charts.KINDS:
            assert colour[f"kind-{kind}"] == figures.SCHEME[kind][i]


def test_no_kind_of_recording_is_told_by_colour_alone() -> None:
    assert len(set(charts.SIGNS.values())) == len(charts.KINDS)
