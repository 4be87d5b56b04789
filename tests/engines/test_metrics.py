"""Metrics: equal to scikit-learn and to the DCASE evaluator, and honest about what is undefined."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from engines.metrics import METRIC_NAMES, AssetMetrics, evaluate, macro, partial_auc, roc_auc
from schemas.errors import InputError


def make_clips(n: int = 80, *, seed: int = 0, shift: float = 1.0) -> tuple[Any, Any, Any]:
    """Scores, labels and domains with every class in both domains."""
    rng = np.random.default_rng(seed)
    is_anomaly = np.arange(n) % 2 == 0
    domain = np.where(np.arange(n) % 4 < 2, "source", "target")
    return rng.normal(size=n) + shift * is_anomaly, is_anomaly, domain


@st.composite
def scored_labels(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Both classes present; few distinct scores, so that ties within and across classes are common."""
    n = draw(st.integers(2, 40))
    score = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))
    scores = draw(st.lists(score, min_size=n, max_size=n))
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return scores, [True, False, *labels[2:]]


@given(scored_labels())
@settings(max_examples=200)
def test_auc_equals_scikit_learn_ties_included(clips: tuple[list[float], list[bool]]) -> None:
    scores, labels = clips
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(scored_labels(), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]))
@settings(max_examples=200)
def test_partial_auc_equals_scikit_learn_ties_included(clips: tuple[list[float], list[bool]], max_fpr: float) -> None:
    scores, labels = clips
    expected = roc_auc_score(labels, scores, max_fpr=max_fpr)
    assert partial_auc(scores, labels, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-12)


def test_all_scores_equal_is_chance() -> None:
    assert roc_auc([1.0, 1.0, 1.0], [True, False, False]) == 0.5
    assert partial_auc([1.0, 1.0, 1.0], [True, False, False]) == pytest.approx(0.5)


def test_every_value_of_the_official_evaluator_is_reproduced(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "dcase2023" / "scores.csv")
    expected = json.loads((shared_data / "dcase2023" / "expected.json").read_text())
    machines = {
        name: evaluate(clips.score, clips.is_anomaly, clips.domain, decisions=clips.decision, bootstrap=0)
        for name, clips in table.groupby("machine_type")
    }
    assert set(machines) == set(expected["machines"])
    for machine, values in expected["machines"].items():
        ours = machines[machine].model_dump() | {"auc_all": machines[machine].auc}
        for name, value in values.items():
            assert ours[name] == pytest.approx(value, abs=1e-9), (machine, name)
    assert macro(list(machines.values())).official == pytest.approx(expected["official_score"], abs=1e-9)


def test_a_domain_auc_takes_its_normals_and_all_anomalies() -> None:
    scores, is_anomaly, domain = make_clips()
    of_source = is_anomaly | (domain == "source")
    assert evaluate(scores, is_anomaly, domain, bootstrap=0).auc_source == pytest.approx(
        roc_auc_score(is_anomaly[of_source], scores[of_source])
    )


def test_official_is_the_harmonic_mean_of_three() -> None:
    result = evaluate(*make_clips(), bootstrap=0)
    values = np.array([result.auc_source, result.auc_target, result.pauc], dtype=float)
    expected = 3 / (1 / values).sum()
    assert result.official == pytest.approx(expected)


def test_official_of_an_auc_of_zero_is_zero() -> None:
    scores, domain = [5.0, 1.0, 2.0, 3.0], ["source", "target", "source", "target"]
    result = evaluate(scores, [False, False, True, True], domain, bootstrap=0)
    assert (result.auc_source, result.official) == (0.0, 0.0)


def test_unlabelled_clips_change_nothing_and_are_counted() -> None:
    scores, is_anomaly, domain = make_clips()
    decisions = scores > 1
    labelled = evaluate(scores, is_anomaly, domain, decisions=decisions)
    more = evaluate(
        [*scores, 99.0, -99.0],
        [*is_anomaly, None, math.nan],
        [*domain, "source", "target"],
        decisions=[*decisions, True, False],
    )
    assert more.counts.unlabelled == 2
    assert more.model_dump(exclude={"counts"}) == labelled.model_dump(exclude={"counts"})


@pytest.mark.parametrize(
    ("keep", "missing", "reason"),
    [
        (lambda a, d: ~a, "auc", "no labelled anomalies"),
        (lambda a, d: a, "pauc", "no labelled normals"),
        (lambda a, d: d == "target", "auc_source", "no labelled source normals"),
        (lambda a, d: d == "target", "official", "auc_source is undefined: no labelled source normals"),
        (lambda a, d: ~a, "recall", "no labelled anomalies"),
        (lambda a, d: a | (d == "target"), "auc_source", "no labelled source normals"),
        (lambda a, d: np.zeros_like(a), "auc", "no labelled anomalies and no labelled normals"),
    ],
)
def test_what_is_undefined_is_none_with_a_reason(keep: Any, missing: str, reason: str) -> None:
    scores, is_anomaly, domain = make_clips()
    kept = keep(is_anomaly, domain)
    result = evaluate(scores[kept], is_anomaly[kept], domain[kept], decisions=scores[kept] > 0)
    assert getattr(result, missing) is None
    assert result.notes[missing] == reason
    assert missing not in result.intervals


def test_a_reason_stands_beside_exactly_the_undefined_values() -> None:
    scores, is_anomaly, _ = make_clips()
    result = evaluate(scores, is_anomaly, ["target"] * scores.size, decisions=scores > 99)
    undefined = {name for name in METRIC_NAMES if getattr(result, name) is None}
    assert undefined == set(result.notes) - {"intervals"}
    assert {"auc_source", "precision", "recall_source"} <= undefined
    assert (result.recall, result.f1) == (0.0, 0.0)


def test_without_decisions_only_the_ranking_is_judged() -> None:
    result = evaluate(*make_clips(), bootstrap=0)
    assert result.precision is None
    assert result.notes["f1_target"] == "no decisions were given"
    assert result.auc is not None


def test_a_result_is_plain_json_and_reads_back() -> None:
    scores, is_anomaly, _ = make_clips(8)
    result = evaluate(scores, is_anomaly, ["target"] * 8, decisions=scores > 0)
    text = json.dumps(result.model_dump(mode="json"), allow_nan=False)
    assert AssetMetrics.model_validate_json(text) == result


def test_intervals_are_seeded_and_hold_the_value() -> None:
    clips = make_clips(200)
    first, again, other = (evaluate(*clips, decisions=clips[0] > 1, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.intervals != other.intervals
    assert set(first.intervals) == set(METRIC_NAMES)
    for name, interval in first.intervals.items():
        assert interval.low < getattr(first, name) < interval.high


def test_intervals_cover_the_true_auc_about_as_often_as_they_say() -> None:
    truth = 0.7602  # of two unit normal distributions one standard deviation apart
    covered = 0
    for seed in range(200):
        interval = evaluate(*make_clips(100, seed=seed), seed=seed, bootstrap=200).intervals["auc"]
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_intervals_of_tiny_classes_are_said_to_be_too_narrow() -> None:
    assert "too narrow" in evaluate(*make_clips(8), bootstrap=100).notes["intervals"]
    assert "intervals" not in evaluate(*make_clips(80), bootstrap=100).notes


def test_precision_on_a_single_alarm_gets_no_interval() -> None:
    scores, is_anomaly, domain = make_clips()
    result = evaluate(scores, is_anomaly, domain, decisions=scores >= scores.max())
    assert result.precision is not None
    assert "precision" not in result.intervals
    assert "none for precision" in result.notes["intervals"]


def test_resampling_in_blocks_gives_the_full_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = make_clips()
    whole = evaluate(*clips, bootstrap=1000).intervals["auc"]
    monkeypatch.setattr("engines.metrics._MAX_CELLS", 80 * 7)
    blocks = evaluate(*clips, bootstrap=1000).intervals["auc"]
    assert blocks.low == pytest.approx(whole.low, abs=0.02)
    assert blocks.high == pytest.approx(whole.high, abs=0.02)


def test_macro_counts_every_asset_the_same() -> None:
    small, large = evaluate(*make_clips(20, shift=3), bootstrap=0), evaluate(*make_clips(200), bootstrap=0)
    package = macro([small, large])
    assert package.auc == pytest.approx(np.mean([small.auc, large.auc]))
    assert package.n_assets == 2
    assert package.averaged_over["auc"] == 2


def test_macro_says_over_how_many_assets_it_averages() -> None:
    scores, is_anomaly, domain = make_clips()
    full = evaluate(scores, is_anomaly, domain, bootstrap=0)
    target_only = evaluate(scores, is_anomaly, ["target"] * scores.size, bootstrap=0)
    package = macro([full, target_only])
    assert package.averaged_over["auc_source"] == 1
    assert package.notes["auc_source"] == "over 1 of 2 assets: the others lack it"
    assert package.official == pytest.approx(full.official)
    assert package.precision is None


def test_macro_of_nothing_is_all_none() -> None:
    package = macro([])
    assert package.n_assets == 0
    assert all(getattr(package, name) is None for name in METRIC_NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.1, math.nan, 0.3]}, r"scores\[1\] is nan"),
        ({"scores": [0.1, 0.2, math.inf]}, r"scores\[2\] is inf"),
        ({"scores": [[0.1, 0.2, 0.3]]}, r"shape \(1, 3\)"),
        ({"scores": ["a", "b", "c"]}, "scores must be numbers"),
        ({"is_anomaly": [True, False]}, r"is_anomaly has shape \(2,\) beside 3 scores"),
        ({"is_anomaly": [True, "False", None]}, r"is_anomaly\[1\] is 'False'"),
        ({"is_anomaly": [True, 2, None]}, r"is_anomaly\[1\] is 2"),
        ({"domain": ["source", "target", "Target"]}, r"domain\[2\] is 'Target'"),
        ({"decisions": [True, None, False]}, r"decisions\[1\] is missing"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "scores": [0.1, 0.2, 0.3],
        "is_anomaly": [True, False, None],
        "domain": ["source", "target", "target"],
        "decisions": [True, False, False],
    }
    evaluate(**good)
    with pytest.raises(InputError, match=message):
        evaluate(**(good | change))


def test_a_max_fpr_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(InputError, match="max_fpr is 0"):
        partial_auc([0.1, 0.2], [False, True], max_fpr=0)


# --- detection by anomaly type ------------------------------------------------------------------------------------


def test_every_type_of_anomaly_has_its_detection_rate_with_an_exact_interval() -> None:
    labels = [True, True, True, True, False, None]
    kinds = ["leak", "bearing", "leak", None, None, "leak"]
    rang = [True, False, False, True, True, True]
    found = evaluate(range(6), labels, ["target"] * 6, decisions=rang, anomaly_types=kinds, bootstrap=0)
    assert list(found.by_anomaly_type) == ["", "bearing", "leak"]
    leak = found.by_anomaly_type["leak"]
    assert (leak.hits, leak.anomalies, leak.rate) == (1, 2, 0.5)
    expected = stats.binomtest(1, 2).proportion_ci(method="exact")
    assert (leak.interval.low, leak.interval.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("given", [{}, {"decisions": [True, False]}, {"anomaly_types": ["leak", None]}])
def test_without_types_or_decisions_there_is_no_detection_by_type(given: dict[str, Any]) -> None:
    found = evaluate([2.0, 1.0], [True, False], ["target"] * 2, bootstrap=0, **given)
    assert found.by_anomaly_type == {}


def test_anomalies_that_no_label_names_are_not_counted_by_type() -> None:
    found = evaluate(
        [2.0, 1.0], [True, False], ["target"] * 2, decisions=[True, False], anomaly_types=[None, None], bootstrap=0
    )
    assert found.by_anomaly_type == {}


def test_types_are_one_a_clip() -> None:
    with pytest.raises(InputError, match="anomaly_types has shape"):
        evaluate([2.0, 1.0], [True, False], ["target"] * 2, decisions=[True, False], anomaly_types=["leak"])


def test_metrics_of_an_older_version_can_be_read() -> None:
    document = json.loads(evaluate(*make_clips(), bootstrap=0).model_dump_json())
    del document["by_anomaly_type"]
    assert AssetMetrics.model_validate(document).by_anomaly_type == {}
