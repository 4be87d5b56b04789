"""The pages: what they conclude, in both languages, from numbers and text that a plant sent."""

from __future__ import annotations

import ast
import base64
import inspect
import io
import re
import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from PIL import Image

from engines import routing
from engines.base import AnomalyMap
from engines.calibration import Threshold, calibrate
from engines.conditions import ConditionEvidence
from engines.prototypes import Prototypes
from engines.routing import AssetData, FalseAlarms, advise, choose_engine, explain_settled, judge_criteria, settle
from schemas.engine_settings import PrototypeSettings
from schemas.errors import RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.problems import Problem, Severity, shorten
from schemas.references import Selection, Statement, Verdict
from schemas.rules import RULES, report
from schemas.settings import AlarmPolicy, ArchiveLimits, Kpi, QaLimits, RoutingSettings
from tasks.engine_names import engine_name, engine_phrase
from tasks.engines import caveats_of
from tasks.library import LeftOut
from tasks.report import asset_view, charts, clips_view, package_view, plots, sound, verdicts, words
from tasks.report.pages import render_asset_page, render_package_page
from tasks.report.words import Words
from tasks.selecting import note_left_out

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
RARE_ALARMS = AlarmPolicy(false_alarms_per_day=144)
"""One clip in ten: a budget that a dozen normals carry."""


# --- words --------------------------------------------------------------------------------------------------------


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def texts() -> dict[str, Any]:
    return dict(words._load())


@pytest.mark.parametrize("key", sorted(texts()["texts"]))
def test_a_text_says_the_same_facts_in_both_languages(key: str) -> None:
    text = texts()["texts"][key]
    assert set(text) == {"en", "ko"}
    forms = [form for each in text.values() for form in (each.values() if isinstance(each, dict) else [each])]
    assert all(isinstance(form, str) and form for form in forms)
    assert len({frozenset(placeholders(form) - {"n"}) for form in forms}) == 1


def test_yaml_took_every_sentence_as_text() -> None:
    assert all(isinstance(key, str) for key in texts()["texts"])
    assert all(isinstance(text, str) for phrase in texts()["phrases"] for text in phrase.values())


def problem_of(rule_id: str) -> Any:
    """A problem of the rule, with facts made up to fit its templates."""
    rule = RULES[rule_id]
    numbers = {
        name
        for template in (rule.what, rule.remedy)
        for _, name, form, _ in string.Formatter().parse(template)
        if name and form
    }
    names = (placeholders(rule.what) | placeholders(rule.remedy)) - {"limit", "column"}
    facts = {name: 0.25 if name in numbers else f"<{name}>" for name in names}
    limits = next((each for each in (QaLimits(), ArchiveLimits()) if hasattr(each, rule.limit or "")), None)
    return report(rule_id, limits=limits, column="some_column", **facts)


@pytest.mark.parametrize("rule_id", sorted(RULES))
def test_every_rule_speaks_korean_with_its_facts(rule_id: str) -> None:
    problem, say = problem_of(rule_id), Words("ko")
    for said, english in ((say.message(problem), problem.message), (say.remedy(problem), problem.remedy)):
        assert said.language == "ko"
        assert re.search("[가-힣]", said.text)
        for fact in re.findall(r"<\w+>", english):
            assert fact in said.text


def test_no_korean_stands_for_a_rule_that_is_gone() -> None:
    assert set(texts()["rules"]) == set(RULES)


def test_a_sentence_that_no_template_knows_stays_english_and_says_so() -> None:
    said = Words("ko").translate("something nobody has translated yet")
    assert (said.text, said.language) == ("something nobody has translated yet", "en")


@pytest.mark.parametrize(
    ("problem", "english", "korean"),
    [
        (report("cell.missing", file="metadata.csv", row=1207, column="label"),
         "metadata.csv, row 1207, column label", "metadata.csv, 1207행, label 열"),
        (report("clip.nan", file="audio/a.wav", row=8), "audio/a.wav, row 8 of the table", "audio/a.wav, 목록의 8행"),
        (report("archive.kind"), "the whole package", "패키지 전체"),
    ],
)  # fmt: skip
def test_a_place_is_said_in_both_languages(problem: Problem, english: str, korean: str) -> None:
    assert (Words("en").place(problem), Words("ko").place(problem)) == (english, korean)
    assert problem.place in (english, "")


def test_choices_and_reasons_within_a_sentence_are_korean_too() -> None:
    kinds = report("row.machine_type", choices="fan, teapot")
    assert Words("ko").remedy(kinds).text == "다음 중 하나로 적어 주십시오: 팬(fan), teapot."
    broken = report("clip.undecodable", why="the header promises 32000 bytes of samples, the file holds 156")
    assert "32000바이트" in Words("ko").message(broken).text


def test_problems_of_one_rule_share_a_title() -> None:
    problems = [report("clip.short", limits=QaLimits(), measured=value) for value in (0.5, 0.25, 0.75)]
    assert Words("en").message(*problems).text == "The clip lasts 0.25–0.75 s, less than 1 s."
    assert Words("en").message(problems[0]).text == problems[0].message


@pytest.mark.parametrize(
    ("facts", "merged"),
    [
        (["3", "3"], "3"),
        (["1.2%", "10.0%", "2.0%"], "1.2%–10.0%"),
        (["-3", "-10"], "-10–-3"),
        (["clip_1", "clip_2"], "…"),
        (["1 s", "1 m"], "…"),
    ],
)
def test_facts_that_differ_become_a_range_or_an_ellipsis(facts: list[str], merged: str) -> None:
    assert words.merge_facts(facts) == merged


def test_recovered_facts_give_the_sentence_again() -> None:
    template = "The clip lasts {measured:.3g} s, less than {limit:g} s."
    sentence = template.format(measured=0.123456, limit=1.0)
    facts = words.recover_facts(template, sentence)
    assert facts == {"measured": "0.123", "limit": "1"}
    assert words.fill(template, facts) == sentence
    assert words.recover_facts(template, "The clip is fine.") is None


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "<0.001"), (0.69, "0.69"), (7.44, "7.4"), (131.2, "131"), (2400, "2,400"), (None, "–")]
)
def test_rates_read_as_people_say_them(value: float | None, said: str) -> None:
    assert words.rate(value) == said


# --- verdicts -----------------------------------------------------------------------------------------------------


def threshold_for(policy: AlarmPolicy = RARE_ALARMS, **how: Any) -> Threshold:
    return calibrate(np.linspace(0.2, 0.3, 12), policy, method=how.pop("method", "leave_one_out"), **how)


def test_a_target_is_met_not_met_or_unproven(make_asset_page: Any) -> None:
    page, unlabelled = make_asset_page(), make_asset_page(labelled=False)

    def status(kpi: Kpi, metrics: Any = page.metrics, threshold: Threshold = page.threshold) -> str:
        return verdicts.judge_kpi(kpi, threshold, metrics, synthetic=False).status

    assert status(Kpi(metric="auc", target=0.6)) == "met"
    assert status(Kpi(metric="auc", target=0.95)) == "unproven", "eight of each prove no more than 0.63"
    deaf = page.metrics.model_copy(update={"auc": 0.1, "intervals": {}})
    assert status(Kpi(metric="auc", target=0.95), deaf) == "not_met"
    assert status(Kpi(metric="auc", target=0.95), unlabelled.metrics) == "unproven"
    assert status(Kpi(metric="miss_rate", target=0.5)) == "met"
    assert status(Kpi(metric="miss_rate", target=0.5), unlabelled.metrics) == "unproven"
    certified = threshold_for(monotone=True)
    assert certified.certified
    assert status(Kpi(metric="alarms_per_day", target=200), threshold=certified) == "met"
    assert status(Kpi(metric="alarms_per_day", target=1), threshold=certified) == "unproven"
    assert status(Kpi(metric="alarms_per_day", target=2)) == "unproven"


def test_a_handful_of_labels_proves_nothing(make_asset_page: Any) -> None:
    page = make_asset_page()
    few = page.metrics.model_copy(update={"counts": page.metrics.counts.model_copy(update={"anomaly_target": 0})})
    assert verdicts.judge_kpi(Kpi(), page.threshold, few, synthetic=False).status == "unproven"
    assert "labelled recordings would prove it" in render_asset_page(make_asset_page(metrics=few))


@pytest.mark.parametrize("metric", ["auc", "pauc", "alarms_per_day", "miss_rate"])
def test_synthetic_sound_never_meets_a_target(make_asset_page: Any, metric: Any) -> None:
    page = make_asset_page()
    target = {"alarms_per_day": 1e9, "miss_rate": 1.0}.get(metric, 0.0)
    verdict = verdicts.judge_kpi(Kpi(metric=metric, target=target), page.threshold, page.metrics, synthetic=True)
    assert verdict.status == "synthetic"


@pytest.mark.parametrize(
    ("language", "caveat"), [("en", "proves the path, not the performance"), ("ko", "성능의 증거")]
)
def test_a_synthetic_package_says_so_on_both_pages(
    make_asset_page: Any, make_package_page: Any, language: Any, caveat: str
) -> None:
    assert caveat in render_asset_page(make_asset_page(language=language, synthetic=True))
    assert caveat in render_package_page(make_package_page(language=language, report={"synthetic": True}))
    assert caveat not in render_asset_page(make_asset_page(language=language))


def test_how_sure_follows_the_threshold() -> None:
    assert verdicts.how_sure(threshold_for(monotone=True)) == "certified"
    assert verdicts.how_sure(threshold_for()) == "estimated"
    assert verdicts.how_sure(threshold_for(AlarmPolicy())) == "modelled"


def with_false_alarms(page: Any, count: int, *, domain: str) -> pd.DataFrame:
    """The page's scores, with so many normals of a domain above the threshold."""
    scores = page.scores.copy()
    rows = scores.index[(scores["label"] == "normal") & (scores["domain"] == domain)][:count]
    scores.loc[rows, "score"] = page.rule.clip_threshold + 1
    return scores


def test_false_alarms_of_the_target_contradict_a_low_rate_and_those_of_the_source_do_not(make_asset_page: Any) -> None:
    page = make_asset_page()
    assert verdicts.contradict(page.rule, page.policy, page.scores) is None
    found = verdicts.contradict(page.rule, page.policy, with_false_alarms(page, 3, domain="target"))
    assert found is not None
    assert (found.false_alarms, found.normals) == (3, 4)
    assert verdicts.contradict(page.rule, page.policy, with_false_alarms(page, 3, domain="source")) is None
    often = make_asset_page(threshold=threshold_for())
    assert verdicts.contradict(often.rule, often.policy, with_false_alarms(often, 1, domain="target")) is None


def test_a_contradicted_rate_is_said_on_the_first_screen(make_asset_page: Any) -> None:
    page = make_asset_page()
    sentence = "The test recordings contradict this estimate."
    assert sentence not in render_asset_page(page)
    against = make_asset_page(scores=with_false_alarms(page, 3, domain="target"))
    assert sentence in render_asset_page(against)


# --- asset page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kpi", "how", "headline"),
    [
        (Kpi(target=0.6), {}, "Covered: the target is met; the false-alarm rate is still an estimate."),
        (Kpi(target=0.6), {"monotone": True}, "Covered: the target is met and the false-alarm rate is certified."),
        (
            Kpi(metric="alarms_per_day", target=200),
            {},
            "Covered for now: that the false-alarm target is kept is not proven yet.",
        ),
        (
            Kpi(metric="alarms_per_day", target=200),
            {"monotone": True},
            "Covered: the false-alarm target is met, and certified.",
        ),
    ],
)
def test_the_headline_answers(make_asset_page: Any, kpi: Kpi, how: dict[str, Any], headline: str) -> None:
    assert headline in render_asset_page(make_asset_page(kpi=kpi, threshold=threshold_for(**how)))


def test_the_headline_answers_where_the_target_is_missed(make_asset_page: Any) -> None:
    page = make_asset_page()
    poor = page.metrics.model_copy(update={"auc": 0.1, "intervals": {}})
    said = render_asset_page(replace(page, metrics=poor))
    assert "Covered, but it does not tell faults from normal running well enough yet." in said


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("how", [{}, {"method": "split"}, {"monotone": True}])
def test_only_a_certified_rate_is_a_bound_and_every_rate_has_its_cadence(
    make_asset_page: Any, language: Any, how: dict[str, Any]
) -> None:
    page = make_asset_page(language=language, threshold=threshold_for(**how), longest_s=10.0)
    html = render_asset_page(page)
    said = html[html.index('id="answer"') : html.index('id="received"')]
    say = Words(language)
    rate = f"{page.rule.alarms_per_day:.0f}"
    bounds = {"en": f"at most {rate}", "ko": f"{rate}회 이하"}
    assert page.rule.certified == bool(how)
    assert (bounds[language] in said) == page.rule.certified
    assert (say("tile.rate.about") in said) == (not page.rule.certified)
    assert said.count(say("cadence.length", clips="1,440", length=say("time.seconds", n=10, value="10"))) >= 2


def no_tests(page: Any) -> pd.DataFrame:
    return page.scores.iloc[:0]


def lacks_labels(say: Words) -> str:
    return say("better.target.labels.none", goal=say("kpi.auc", target="0.95"), normals=72, faults=72, has=0, holds=0)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_an_asset_without_tests_or_labels_gets_a_page(make_asset_page: Any, language: Any) -> None:
    full = make_asset_page()
    for page in (
        make_asset_page(language=language, labelled=False),
        make_asset_page(language=language, scores=no_tests(full)),
        make_asset_page(language=language, scores=no_tests(full), worst=[]),
    ):
        html = render_asset_page(page)
        assert Words(language)("kpi.status.unproven") in html
        assert Words(language)("metrics.unlabelled") in html
        assert lacks_labels(Words(language)) in html


def all_of_the_korean_pages(make_asset_page: Any, make_package_page: Any) -> Iterator[str]:
    full = make_asset_page()
    one_class = full.scores[full.scores["label"] == "normal"]
    target_only = full.scores[full.scores["domain"] == "target"]
    for changes in (
        {},
        {"labelled": False},
        {"scores": no_tests(full)},
        {"scores": one_class},
        {"scores": target_only},
        {"threshold": threshold_for(monotone=True)},
        {"threshold": threshold_for(method="split")},
        {"threshold": threshold_for()},
    ):
        yield render_asset_page(make_asset_page(language="ko", **changes))
    problems = tuple(problem_of(rule_id) for rule_id in RULES)
    yield render_package_page(make_package_page(language="ko", report={"problems": problems}))


def test_what_engines_metrics_and_rules_say_is_korean_on_a_korean_page(
    make_asset_page: Any, make_package_page: Any
) -> None:
    for html in all_of_the_korean_pages(make_asset_page, make_package_page):
        assert '<html lang="ko">' in html
        assert 'lang="en"' not in html


# --- the engine and why -------------------------------------------------------------------------------------------


def evidence(column: str, **changes: Any) -> ConditionEvidence:
    found = {"filled": 1.0, "classes": 3, "chance": 1 / 3, "accuracy": 0.9, "p_value": 0.005, "shuffled": 0.4}
    return ConditionEvidence(column, **(found | changes))


ALL_TRUE = tuple(evidence(column) for column in CONDITION_COLUMNS)
OF_EVERY_KIND = (
    evidence("speed_level", filled=0.62),
    evidence("load_level", p_value=1.0),
    evidence("mic_position_id", classes=1, accuracy=None, p_value=None),
    evidence("mic_direction", classes=0, accuracy=None, p_value=None),
    evidence("noise_id", accuracy=None, p_value=None),
    evidence("operating_mode"),
    evidence("installation", filled=0.0, classes=0, accuracy=None, p_value=None),
)


def routed() -> Iterator[tuple[AssetData, RoutingSettings, Any]]:
    """Assets, settings and engines asked for, from which every sentence of the router comes."""
    everything, nothing = RoutingSettings(), RoutingSettings(forbid=("a", "b", "c"))
    unseen = {"noise_id": tuple("abcdef"), "speed_level": ("top; speed",)}
    for wanted in ("auto", "a", "b", "c", "ensemble"):
        for conditions in (ALL_TRUE, OF_EVERY_KIND):
            yield AssetData(10, 500, conditions, unseen), everything, wanted
            yield AssetData(10, 500, conditions), RoutingSettings(forbid=("b",)), wanted
            yield AssetData(10, 50, conditions), everything, wanted
            yield AssetData(10, 0, conditions), everything, wanted
            yield AssetData(1, 500, conditions), everything, wanted
            yield AssetData(10, 500, conditions), nothing, wanted


def sentences_of_the_router() -> Iterator[str]:
    for asset, limits, wanted in routed():
        criteria = judge_criteria(asset, limits)
        yield from (criterion.sentence for criterion in criteria)
        try:
            choice = choose_engine(criteria, wanted=wanted)
        except RejectedError as refused:
            yield str(refused)
            yield from advise(criteria, wanted=wanted)
            continue
        yield choice.reason
        for rang in (0, 2):
            trials = {"c": FalseAlarms(10, rang), "b": FalseAlarms(10, 1), "a": FalseAlarms(10, 1)}
            engine, trial = settle(choice, trials)
            yield from (criterion.sentence for criterion in trial)
            yield explain_settled(choice, engine, trial)


def prose_of(module: Any) -> Iterator[str]:
    """The wordings in a module's code, but for docstrings and errors of input, which reach no page."""
    tree = ast.parse(inspect.getsource(module))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    refused = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and "InputError" in ast.dump(node)]
    silent = docs | {id(part) for node in refused for part in ast.walk(node)}
    for node in ast.walk(tree):
        wording = node.value if isinstance(node, ast.Constant) and id(node) not in silent else None
        if isinstance(wording, str) and " " in wording.strip():
            yield wording


def test_the_cases_above_bring_out_every_wording_of_the_router() -> None:
    said = "\n".join(sentences_of_the_router())
    wordings = set(prose_of(routing))
    assert len(wordings) > 15
    assert not [wording for wording in wordings if wording not in said]


def test_every_sentence_of_the_router_speaks_korean() -> None:
    say, sentences = Words("ko"), set(sentences_of_the_router())
    assert len(sentences) > 40
    assert not [sentence for sentence in sentences if say.translate(sentence).language != "ko"]


def test_no_fact_of_a_reason_swallows_the_next_sentence() -> None:
    reason = (
        "engine A is the highest that the data carry; C: no: 5 source normals of this machine type, 200 needed; "
        "B: no: 5 source normals of this machine type, 30 needed"
    )
    said = Words("ko").translate(reason).text
    assert not re.search("[a-z]{2}", said)
    assert [number in said for number in ("200", "30")] == [True, True]


def selection_for(page: Any, asset: AssetData, wanted: Any = "auto", **source: Any) -> Selection:
    criteria = judge_criteria(asset, RoutingSettings())
    choice = choose_engine(criteria, wanted=wanted)
    found = {"recordings": asset.source_normals, "own": 0, "customers": ("acme-ulsan",)} | source
    return page.selection.model_copy(
        update={
            "engine": choice.engine,
            "encoder": "conv" if choice.engine == "c" else "lite0",
            "reason": choice.reason,
            "criteria": tuple(criteria),
            "candidates": choice.candidates,
            "members": choice.members,
            "source": page.selection.source.model_copy(update=found),
        }
    )


def routed_page(make_asset_page: Any, asset: AssetData, wanted: Any = "auto", **changes: Any) -> str:
    source = changes.pop("source", {})
    selection = selection_for(make_asset_page(), asset, wanted, **source)
    return render_asset_page(make_asset_page(selection=selection, **changes))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_engines_page_says_what_it_is_and_why(make_asset_page: Any, make_clip: Any, language: Any) -> None:
    say = Words(language)
    worst = [make_clip(map=None)]
    for source, wanted, engine in (
        (0, "auto", "a"),
        (50, "auto", "b"),
        (500, "auto", "c"),
        (500, "ensemble", "ensemble"),
    ):
        data = AssetData(10, source, ALL_TRUE)
        html = routed_page(make_asset_page, data, wanted, language=language, worst=worst, typical=[])
        assert say(f"engine.{engine}").replace("'", "&#39;") in html
        assert html.count(say("criteria.group.used")) == (3 if engine == "ensemble" else 1)
        assert 'lang="en"' not in html or language == "en"
    assert say("engine.name.ensemble", members="A, B, C", encoder="lite0") in html


@pytest.mark.parametrize(("language", "said"), [("en", "Ensemble"), ("ko", "앙상블")])
def test_the_table_of_machines_calls_an_ensemble_by_its_word_and_other_engines_by_their_letter(
    make_package_page: Any, language: Any, said: str
) -> None:
    page = make_package_page(language=language)
    (asset,) = page.assets
    both = [asset, asset.model_copy(update={"engine": "ensemble"})]
    html = render_package_page(make_package_page(language=language, assets=both))
    assert re.findall(r">([^<]+) · lite0</td>", html) == ["A", said]


def test_engines_are_named_alike_in_tables_and_in_sentences() -> None:
    assert [engine_name(engine) for engine in ("a", "b", "ensemble")] == ["A", "B", "Ensemble"]
    assert [engine_phrase(engine) for engine in ("c", "ensemble")] == ["engine C", "the ensemble"]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "synthetic source recordings left out: 208, since not all normals of this machine are synthetic"),
        ("ko", "기존 자료 중 합성 녹음 208개는 쓰지 않음"),
    ],
)
def test_the_page_says_that_synthetic_source_was_left_out(make_asset_page: Any, language: Any, said: str) -> None:
    selection = selection_for(make_asset_page(), AssetData(10, 0))
    more = (*selection.criteria, *note_left_out(LeftOut(synthetic=208)))
    page = make_asset_page(language=language, selection=selection.model_copy(update={"criteria": more}))
    html = render_asset_page(page)
    assert said in html
    assert Words(language)("criterion.synthetic_source") in html
    assert 'lang="en"' not in html or language == "en"
    assert note_left_out(LeftOut(synthetic=0)) == []


@pytest.mark.parametrize(("language", "said"), [("en", "after 17 of 400 episodes"), ("ko", "400회 중 17회에서 멈춤")])
def test_the_page_says_what_keeps_a_model_from_being_made_again(
    make_asset_page: Any, monkeypatch: pytest.MonkeyPatch, language: Any, said: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    cut_off = Prototypes(PrototypeSettings(episodes=400, time_budget_s=2.5))
    cut_off.episodes_trained = 17
    html = render_asset_page(make_asset_page(language=language, caveats=caveats_of(cut_off)))
    assert said in html
    assert html.count(Words(language)("engine.caveat")) == 2
    assert "GPU" in html
    assert 'lang="en"' not in html or language == "en"
    assert Words(language)("engine.caveat") not in render_asset_page(make_asset_page(language=language))


def test_criteria_stand_under_their_engine_and_those_that_only_explain_are_folded_away(make_asset_page: Any) -> None:
    html = routed_page(make_asset_page, AssetData(10, 500, OF_EVERY_KIND, {"noise_id": ("babble",)}))
    engines = re.findall(r"<h3>Engine (\w) .*?</span>([^<]+)</span></h3>", html)
    assert engines == [("A", "could be used"), ("B", "used here"), ("C", "cannot be used yet")]
    folded = html[html.index("<summary>More about the conditions: 1 of 7 columns can be used") : html.index('id="all"')]
    for column in CONDITION_COLUMNS:
        assert Words("en")(f"criterion.{column}") in folded
    assert "the source never heard noise_id babble" in folded
    assert ">to know<" in folded
    assert "not met" not in folded
    assert "normals of this machine type" not in folded


def test_on_a_phone_every_cell_of_the_criteria_says_what_it_is(make_asset_page: Any) -> None:
    html = routed_page(make_asset_page, AssetData(10, 500, OF_EVERY_KIND))
    section = html[html.index('<section id="engine"') : html.index('<section id="all"')]
    assert section.count("<tr>") > 15
    assert re.findall(r"<td(?! data-name)", section) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "and from 50 source normals: 50 of this customer&#39;s other machines"),
        ({"own": 50}, "and from 50 source normals: 50 of this machine&#39;s other domain"),
        (
            {"own": 20},
            "20 of this machine&#39;s other domain, 30 of this customer&#39;s other machines",
        ),
        (
            {"customers": ("rival-busan", "zeta")},
            "50 of machines of other customers (2)",
        ),
        (
            {"customers": ("acme-ulsan", "rival-busan")},
            "50 of this customer&#39;s other machines and those of other customers (1)",
        ),
    ],
)
def test_the_first_screen_says_where_the_source_came_from_and_names_no_other_customer(
    make_asset_page: Any, source: dict[str, Any], said: str
) -> None:
    html = routed_page(make_asset_page, AssetData(10, 50, ALL_TRUE), source=source)
    assert said in html[: html.index('id="received"')]
    assert "rival-busan" not in html


def test_engine_a_does_not_claim_the_source(make_asset_page: Any) -> None:
    html = routed_page(make_asset_page, AssetData(10, 5, ALL_TRUE))
    assert "5 source normals are at hand, which engine A does not use" in html
    assert "no source normals are at hand" in routed_page(make_asset_page, AssetData(10, 0))


def test_an_undefined_metric_says_why(make_asset_page: Any) -> None:
    full = make_asset_page()
    html = render_asset_page(make_asset_page(scores=full.scores[full.scores["domain"] == "target"]))
    assert "not defined: no labelled source normals" in html


def test_the_score_table_is_sorted_and_capped(make_asset_page: Any) -> None:
    count = asset_view.MAX_SCORE_ROWS + 50
    scores = pd.concat([make_asset_page().scores.iloc[[0]]] * count, ignore_index=True)
    scores["score"] = np.linspace(0.2, 0.4, count)
    scores["clip_id"] = [f"clip-{i:05d}" for i in range(count)]
    html = render_asset_page(make_asset_page(scores=scores))
    names = re.findall(r'<th scope="row">(clip-\d{5})</th>', html)
    assert names == [f"clip-{i:05d}" for i in range(count - 1, count - 1 - asset_view.MAX_SCORE_ROWS, -1)]
    assert f"of {count}; all of them are in scores.csv" in html


@pytest.mark.parametrize(
    ("label", "alarm", "said"),
    [
        ("anomaly", True, "Alarm, rightly"),
        ("anomaly", False, "Missed fault"),
        ("normal", True, "False alarm"),
        ("normal", False, "No alarm, rightly"),
        (None, True, "Alarm"),
    ],
)
def test_a_clip_says_what_the_alarm_did(
    make_asset_page: Any, make_clip: Any, label: str | None, alarm: bool, said: str
) -> None:
    html = render_asset_page(make_asset_page(worst=[make_clip(label=label, alarm=alarm)]))
    card = html[html.index('<article class="clip"') :]
    status = re.search(r'aria-hidden="true">.</span>([^<]+)</span>', card)
    assert status is not None
    assert status[1] == said


def test_anomalous_stretches_are_named(make_asset_page: Any, make_clip: Any) -> None:
    html = render_asset_page(make_asset_page(worst=[make_clip(regions=[(0.4, 1.1)])]))
    assert "Labelled as anomalous: 0.4–1.1 s" in html


def test_stretches_above_the_threshold_follow_the_map() -> None:
    values = np.full((3, 5), 0.1, dtype=np.float32)
    values[1, 1:3] = 0.9
    values[:, 4] = np.nan
    found = AnomalyMap(values, np.array([100.0, 200.0, 300.0]), np.array([0.5, 1.5, 2.5, 3.5, 4.5]))
    assert clips_view.find_stretches(found, 0.5, 4.0) == [(1.0, 3.0)]
    assert clips_view.find_stretches(found, 1.0, 4.0) == []
    assert clips_view.find_peak(found) == (pytest.approx(0.9), 1.5, 200.0)


def test_an_engine_without_a_map_says_so_once_and_leaves_no_hole(make_asset_page: Any, make_clip: Any) -> None:
    html = render_asset_page(make_asset_page(worst=[make_clip(i, map=None) for i in range(3)], typical=[]))
    assert html.count("This engine makes no anomaly map") == 1
    assert "The map's colours" not in html
    assert "Anomaly map" not in html
    assert "Spectrogram of clip_0" in html
    assert "This engine makes no anomaly map" not in render_asset_page(make_asset_page())


# --- package page -------------------------------------------------------------------------------------------------


def rejected_for_bad_input(**report_: Any) -> dict[str, Any]:
    return {"verdict": Verdict.REJECTED, "bad_input": True, "assets": (), **report_}


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_rejected_package_says_what_where_and_what_to_do(make_package_page: Any, language: Any) -> None:
    problem = report("row.normal_only", file="metadata.csv", row=17, column="label", value="anomaly", split="train")
    page = make_package_page(language=language, assets=[], report=rejected_for_bad_input(problems=(problem,)))
    html, say = render_package_page(page), Words(language)
    assert say("verdict.rejected.bad_input") in html
    first_screen = html[html.index('id="verdict"') : html.index('id="problems"')]
    assert say.remedy(problem).text in first_screen
    for place in ("metadata.csv", ">17<", ">label<", "<code>anomaly</code>"):
        assert place in html


def test_a_package_with_too_few_normals_says_what_to_record(make_package_page: Any) -> None:
    problem = report("asset.normals", limits=QaLimits(), asset="fan 00", measured=2, missing=1, recommended=10)
    page = make_package_page(assets=[], report={"verdict": Verdict.REJECTED, "problems": (problem,)})
    html = render_package_page(page)
    assert "Rejected: too few good recordings to learn from." in html
    assert problem.remedy in html[: html.index('id="problems"')]


def test_verdicts_of_accepted_packages(make_package_page: Any) -> None:
    assert "Accepted.</h2>" in render_package_page(make_package_page())
    held = {"verdict": Verdict.ACCEPTED_WITH_QUARANTINE, "quarantined": 3}
    assert "Accepted; 3 recordings were held back." in render_package_page(make_package_page(report=held))
    held["quarantined"] = 1
    assert "Accepted; 1 recording was held back." in render_package_page(make_package_page(report=held))


def test_problems_come_by_severity_and_rule_and_are_counted(make_package_page: Any) -> None:
    limits = QaLimits()
    many = package_view.MAX_PLACES + 7
    problems = [
        report("clip.clipped", limits=limits, file=f"audio/{i}.wav", measured=0.01 + i / 1000) for i in range(many)
    ]
    problems += [report("clip.short", limits=limits, file="audio/short.wav", measured=0.3)]
    problems += [report("table.column_missing", file="metadata.csv", column="section_id")]
    html = render_package_page(make_package_page(report={"problems": tuple(problems)}))
    sections = re.findall(r'<h3 class="severity">.*?</span>([^<]+)</span></h3>', html)
    assert sections == [
        "1 fault that stops the package",
        "1 reason to hold something back",
        f"{many} places with a warning",
    ]
    assert html.count("audio/short.wav") == 1
    assert "and 7 more of the same" in html


def test_a_package_links_to_its_assets_pages_beside_it(make_package_page: Any) -> None:
    assert '<a href="fan-00/report.html">fan 00</a>' in render_package_page(make_package_page())


def test_a_dry_run_has_no_page_to_link_to(make_package_page: Any) -> None:
    (result,) = make_package_page().assets
    nothing = dict.fromkeys(("auc", "threshold", "certified", "alarms_per_day", "report"))
    html = render_package_page(make_package_page(assets=[result.model_copy(update=nothing)]))
    assert "report.html" not in html


def test_a_table_without_rows_is_no_obstacle(make_package_page: Any) -> None:
    page = make_package_page()
    html = render_package_page(replace(page, quality_table=page.quality_table.iloc[:0]))
    assert 'id="quality"' in html
    assert render_package_page(replace(page, quality_table=pd.DataFrame()))


def test_what_is_heard_of_recordings_of_several_channels_is_said(make_package_page: Any) -> None:
    page = make_package_page()
    table = page.quality_table.assign(
        sensor=["microphone", "accelerometer", "accelerometer"], channels=pd.Series([2, 3, None], dtype="Int64")
    )
    english = render_package_page(replace(page, quality_table=table))
    korean = render_package_page(replace(page, quality_table=table, language="ko"))
    assert "1 recording has several channels; the mean of its microphones" in english
    assert "1 recording of an accelerometer has several channels; its first axis" in english
    assert "첫 번째 축(채널)으로 판정합니다" in korean
    assert "several channels" not in render_package_page(replace(page, quality_table=table.assign(channels=1)))


def test_recordings_with_problems_come_first(make_package_page: Any) -> None:
    html = render_package_page(make_package_page())
    rows = re.findall(r'<th scope="row">([^<]+)</th>', html[html.index('id="quality"') :])
    assert rows == ["audio/broken.wav", "clip_1", "clip_0"]


@pytest.mark.parametrize("severity", list(Severity))
def test_every_severity_has_its_words(severity: Severity) -> None:
    assert Words("en").knows(f"severity.{severity}")


# --- what holds for every page ------------------------------------------------------------------------------------


def hostile_pages(make_asset_page: Any, make_package_page: Any, make_clip: Any) -> Iterator[str]:
    scores = make_asset_page().scores.assign(clip_id=HOSTILE)
    worst = [make_clip(clip_id=HOSTILE, regions=[(0.1, 0.2)])]
    for language in ("en", "ko"):
        yield render_asset_page(
            make_asset_page(
                language=language,
                scores=scores,
                worst=worst,
                package_name=HOSTILE,
                normal_ids=[HOSTILE] * 12,
                versions={HOSTILE: HOSTILE},
            )
        )
        problem = report(
            "file.missing", file=HOSTILE, column=HOSTILE, value=HOSTILE, row=2, clip_id=HOSTILE, hint=HOSTILE
        )
        page = make_package_page(language=language, report=rejected_for_bad_input(problems=(problem,)))
        yield render_package_page(
            replace(
                page,
                package=page.package.model_copy(update={"name": HOSTILE}),
                quality_table=page.quality_table.assign(clip_id=HOSTILE),
            )
        )


def test_text_of_a_package_is_never_markup(make_asset_page: Any, make_package_page: Any, make_clip: Any) -> None:
    for html in hostile_pages(make_asset_page, make_package_page, make_clip):
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;" in html


class Outline(HTMLParser):
    """What a page refers to, and what a screen reader needs."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.unnamed: list[str] = []
        self.headers_without_scope = 0
        self.ids: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[name] or "" for name in ("src", "srcset", "href", "poster", "data") if name in found]
        if tag == "img" and not found.get("alt"):
            self.unnamed.append(tag)
        if tag == "audio" and not found.get("aria-label"):
            self.unnamed.append(tag)
        self.headers_without_scope += tag == "th" and "scope" not in found
        self.ids += [found["id"] or ""] if "id" in found else []
        self.labels += [found["aria-labelledby"] or ""] if "aria-labelledby" in found else []


def outlines(make_asset_page: Any, make_package_page: Any) -> Iterator[tuple[str, Outline]]:
    problem = report("clip.short", limits=QaLimits(), file="audio/a.wav", measured=0.3)
    for html in (
        render_asset_page(make_asset_page()),
        render_package_page(make_package_page(report={"problems": (problem,)})),
    ):
        outline = Outline()
        outline.feed(html)
        yield html, outline


def test_a_page_refers_to_nothing_outside_the_run(make_asset_page: Any, make_package_page: Any) -> None:
    for html, outline in outlines(make_asset_page, make_package_page):
        assert not {"script", "link", "iframe", "object"} & set(outline.tags)
        assert "default-src 'none'" in html
        assert "@import" not in html
        for address in outline.addresses:
            assert address.startswith(("data:image/svg+xml,", "data:audio/flac;base64,", "#")) or re.fullmatch(
                r"(\.\.|fan-00)/report\.html(#problems)?", address
            )


def test_a_page_can_be_read_without_seeing_it(make_asset_page: Any, make_package_page: Any) -> None:
    for _, outline in outlines(make_asset_page, make_package_page):
        assert not outline.unnamed
        assert outline.headers_without_scope == 0
        assert {"header", "nav", "main", "footer", "h1", "h2"} <= set(outline.tags)
        assert len(outline.ids) == len(set(outline.ids))
        assert set(outline.labels) <= set(outline.ids)
        anchors = {address[1:] for address in outline.addresses if address.startswith("#")}
        assert anchors <= set(outline.ids)


def test_the_same_page_gives_the_same_bytes(make_asset_page: Any, make_package_page: Any) -> None:
    with ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(render_asset_page, [make_asset_page() for _ in range(3)]))) == 1
    assert render_package_page(make_package_page()) == render_package_page(make_package_page())


def test_six_clips_of_ten_seconds_stay_below_four_megabytes(make_asset_page: Any, make_clip: Any) -> None:
    rng = np.random.default_rng(0)
    worst = [make_clip(i, waveform=rng.standard_normal(160_000).astype(np.float32)) for i in range(6)]
    assert len(render_asset_page(make_asset_page(worst=worst)).encode()) < 4_000_000


# --- figures ------------------------------------------------------------------------------------------------------

LABELS = {"time": "시간", "frequency": "주파수", "level": "dB", "anomaly": "이상도"}


def svg_of(uri: str) -> str:
    return unquote(uri.removeprefix("data:image/svg+xml,"))


def pictures(svg: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(re.sub(r"\s", "", found))))
        for found in re.findall(r'data:image/png;base64,([^"]+)"', svg)
    ]


def draw(values: list[list[float]], *, threshold: float = 0.3, **clip: Any) -> str:
    found = AnomalyMap(
        np.array(values, dtype=np.float32), np.linspace(1000, 7000, len(values)), np.arange(len(values[0])) + 0.5
    )
    level = plots.measure_level(np.ones(16_000 * len(values[0]), dtype=np.float32), 16_000, 8000.0)
    return svg_of(plots.draw_map(found, level, threshold=threshold, labels=LABELS))


def test_a_colour_of_the_map_means_the_same_on_every_page() -> None:
    colours = {
        pictures(draw([[0.2, other]], threshold=threshold))[0].getpixel((5, 5))
        for other, threshold in ((0.1, 0.3), (0.9, 0.3), (0.5, 1.2))
    }
    assert len(colours) == 1


def test_padding_is_grey_and_sound_is_not() -> None:
    picture = pictures(draw([[0.2, float("nan")]]))[0].convert("RGB")
    left, right = picture.getpixel((5, 5)), picture.getpixel((picture.width - 5, 5))
    assert right == (0x8B, 0x93, 0x9C)
    assert left != right


def test_figures_take_text_of_any_script_and_escape_them() -> None:
    assert ">이상도<" in draw([[0.2, 0.4]])
    level = plots.measure_level(np.ones(16_000, dtype=np.float32), 16_000, 8000.0)
    svg = svg_of(plots.draw_spectrogram(level, regions=[(0.1, 0.4)], labels={**LABELS, "time": "<b>"}))
    assert ">&lt;b&gt;<" in svg
    assert "<b>" not in svg


def test_figures_follow_the_readers_scheme_and_name_no_site() -> None:
    svg = draw([[0.2, 0.4]])
    assert "prefers-color-scheme:dark" in svg
    assert "var(--muted)" in svg
    assert "matplotlib.org" not in svg


def test_a_spectrogram_shows_a_tone_where_it_is_and_ends_with_the_band() -> None:
    times = np.arange(32_000) / 16_000
    tone = (0.1 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    level = plots.measure_level(tone, 16_000, 500.0)
    row = int(level.values.mean(axis=1).argmax())
    assert plots.from_mel(row / (plots.SPECTROGRAM_ROWS - 1) * plots.to_mel(500.0)) == pytest.approx(300, abs=10)
    svg = svg_of(plots.draw_spectrogram(level, regions=(), labels=LABELS))
    ticks = re.findall(r">(\d+k?)</text>", svg)
    assert "500" in ticks
    assert "8k" not in ticks


@pytest.mark.parametrize("samples", [1, 100, 1023, 1600])
def test_a_clip_shorter_than_a_window_has_a_spectrogram(samples: int) -> None:
    level = plots.measure_level(np.full(samples, 0.1, dtype=np.float32), 16_000, 8000.0)
    assert np.isfinite(level.values).all()
    assert svg_of(plots.draw_spectrogram(level, regions=(), labels=LABELS)).endswith("</svg>")


def test_a_histogram_of_equal_scores_can_be_drawn() -> None:
    group = charts.ScoreGroup("normal", "Normals", np.full(5, 0.25))
    svg = svg_of(charts.draw_scores([group], threshold=0.25, width=370, labels={"score": "s", "threshold": "t"}))
    assert ">Normals<" in svg


# --- very many problems, and statements ---------------------------------------------------------------------------


def test_a_fault_of_every_row_is_counted_and_its_rows_are_named(make_package_page: Any) -> None:
    rows = [report("cell.missing", file="metadata.csv", row=row, column="section_id") for row in range(2, 50_002)]
    page = render_package_page(make_package_page(language="ko", report={"problems": tuple(shorten(rows))}))
    assert "50,000곳" in page
    assert f"{50_000 - package_view.MAX_PLACES:,}곳 더" in page
    assert f"{package_view.MAX_PLACES + 2}–50001" in page
    assert len(page) < 200_000


def test_statements_that_fail_are_named_and_the_docs_are_linked(make_package_page: Any) -> None:
    kept = Statement(rule="clip.short", needed=0.9, kept=1.0, holds=True)
    failing = Statement(rule="row.path", needed=1.0, kept=0.9999, holds=False)
    page = render_package_page(make_package_page(statements=[kept, failing]))
    assert "1 of 2 statements" in page
    assert "kept by 99.9 % of the recordings, 100 % needed" in page
    assert 'href="data-docs.html"' in page
    assert "All 1 statements" in render_package_page(make_package_page(statements=[kept]))
    assert "data-docs.html" not in render_package_page(make_package_page())


# --- sound --------------------------------------------------------------------------------------------------------


def test_a_player_gets_the_waveform_at_the_pages_gain() -> None:
    rng = np.random.default_rng(3)
    loud = (0.2 * rng.uniform(-1, 1, 8000)).astype(np.float32)
    gain = sound.common_gain([loud, loud / 10])
    uri = sound.flac_uri(loud / 10, 16_000, gain=gain)
    played, rate = sf.read(io.BytesIO(base64.b64decode(uri.removeprefix("data:audio/flac;base64,"))))
    assert rate == 16_000
    assert np.abs(played - loud / 10 * gain).max() <= 1 / 32_768
    assert np.abs(loud * gain).max() == pytest.approx(sound.LISTENING_PEAK)


def test_silence_and_no_clips_leave_the_gain_alone() -> None:
    assert sound.common_gain([np.zeros(10, dtype=np.float32)]) == 1.0
    assert sound.common_gain([]) == 1.0
