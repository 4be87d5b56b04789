"""A challenger may follow a champion if it is not worse: what decides, and what is left open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.metrics import roc_auc
from engines.succession import (
    AUC_MARGIN,
    LEAST_LABELLED,
    PairedAuc,
    Record,
    compare_auc,
    compare_records,
    explain,
    is_not_worse,
)
from schemas.errors import InputError
from schemas.references import Criterion

LABELS = np.repeat([False, True], 20)
NORMALS = np.linspace(0.1, 0.3, 12)


def record(
    scores: np.ndarray | None = None, normals: np.ndarray = NORMALS, *, limit: float = 0.5, rate: float = 1.0
) -> Record:
    """A model that tells the labelled clips apart, unless other scores are given."""
    values = LABELS * 1.0 + np.tile(np.linspace(0, 0.1, 20), 2) if scores is None else scores
    return Record("b", normals, values, values > limit, rate)


def judge(champion: Record, challenger: Record, labels: np.ndarray = LABELS) -> dict[str, Criterion]:
    return {each.name: each for each in compare_records(champion, challenger, labels, budget=1.0)}


def swapped(pairs: int) -> np.ndarray:
    """The scores of `record`, but that so many faults score below every normal."""
    scores = record().test_scores.copy()
    scores[20 : 20 + pairs] = -1.0
    return scores


# --- the whole ----------------------------------------------------------------------------------------------------


@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    normals=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30),
    data=st.data(),
)
def test_a_challenger_that_is_the_champion_is_never_refused(
    scores: list[float], normals: list[float], data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.sampled_from([True, False, None]), min_size=len(scores), max_size=len(scores)))
    found = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    same = Record("a", np.array(normals), np.array(scores), np.array(found, dtype=bool), 1.0)
    assert is_not_worse(compare_records(same, same, labels, budget=1.0))


@given(st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12), st.integers(0, 2**32 - 1))
def test_the_order_of_the_recordings_does_not_matter(normals: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (record(rng.normal(size=40), np.array(normals) + rng.normal(size=12)) for _ in range(2))
    clips, own = rng.permutation(40), rng.permutation(12)

    def mixed(each: Record) -> Record:
        return Record("b", each.normal_scores[own], each.test_scores[clips], each.found[clips], 1.0)

    straight = compare_records(one, other, LABELS, budget=1.0)
    again = compare_records(mixed(one), mixed(other), LABELS[clips], budget=1.0)
    assert [(each.name, each.met) for each in again] == [(each.name, each.met) for each in straight]


def test_the_reason_is_what_speaks_against_it_or_else_all_that_was_asked() -> None:
    better, worse = judge(record(), record()), judge(record(), record(swapped(8)))
    assert explain(list(better.values())).count("B: yes") == 4
    assert explain(list(worse.values())) == "; ".join([worse["auc"].sentence, worse["found"].sentence])


def test_scores_of_one_unit_are_as_good_as_of_another() -> None:
    scaled = replace(record(), test_scores=1e3 * record().test_scores - 7, normal_scores=1e-3 * NORMALS)
    assert is_not_worse(compare_records(record(), scaled, LABELS, budget=1.0))


# --- false alarms -------------------------------------------------------------------------------------------------


def test_a_challenger_that_rings_where_the_champion_does_not_is_refused() -> None:
    loud = record(normals=np.append(NORMALS[:-1], 9.0))
    assert not judge(record(), loud)["false_alarms"].met
    assert judge(loud, record())["false_alarms"].met
    assert judge(loud, loud)["false_alarms"].met
    assert (
        judge(record(), loud)["false_alarms"].sentence == "B: no: rings on 1 of 12 normals held out, the champion on 0"
    )


def test_normals_that_all_score_alike_ring_on_nothing() -> None:
    flat = record(normals=np.full(12, 0.2))
    assert (judge(flat, flat)["false_alarms"].value, judge(record(), flat)["false_alarms"].met) == (0, True)


def test_too_few_common_normals_are_no_ground_to_follow_on() -> None:
    few = record(normals=NORMALS[:2])
    found = judge(few, few)["false_alarms"]
    assert (found.met, found.decisive, found.value, found.limit) == (False, True, 2, 3)


def test_a_rule_that_states_more_false_alarms_must_keep_the_budget() -> None:
    assert judge(record(rate=0.1), record(rate=1.0))["stated_rate"].met, "within the budget of one a day"
    assert not judge(record(rate=0.1), record(rate=1.2))["stated_rate"].met
    assert judge(record(rate=1.3), record(rate=1.2))["stated_rate"].met, "no more than the champion's"


# --- ranking ------------------------------------------------------------------------------------------------------


def test_delong_s_areas_are_the_aucs_and_the_error_is_that_of_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([False, True], [70, 40])
    shared = rng.normal(size=110)
    first, second = (shared + rng.normal(size=110) + shift * labels for shift in (1.5, 1.2))
    pair = compare_auc(first, second, labels)
    assert pair.first == pytest.approx(roc_auc(first, labels))
    assert pair.second == pytest.approx(roc_auc(second, labels))
    drawn = []
    for _ in range(800):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == kind), (labels == kind).sum()) for kind in (0, 1)])
        both = compare_auc(first[rows], second[rows], labels[rows])
        drawn.append(both.difference)
    assert pair.standard_error == pytest.approx(np.std(drawn), rel=0.12)


def test_delong_by_hand() -> None:
    """Two faults, two normals: the first model ranks three of four pairs rightly, with one tie the second 3.5."""
    labels = np.array([True, True, False, False])
    pair = compare_auc([3.0, 1.0, 2.0, 0.0], [3.0, 2.0, 2.0, 0.0], labels)
    assert (pair.first, pair.second) == (0.75, 0.875)
    # V10 of the faults (1, .5) and (1, .75), V01 of the normals (.5, 1) and (.75, 1): variance of the differences / 2.
    assert pair.standard_error == pytest.approx(np.sqrt(2 * np.var([0.0, 0.25], ddof=1) / 2))


@pytest.mark.parametrize(("scores", "area"), [([0.0] * 4, 0.5), ([1.0, 1.0, 0.0, 0.0], 1.0)])
def test_scores_that_are_all_alike_or_part_completely_have_no_error(scores: list[float], area: float) -> None:
    pair = compare_auc(scores, scores, [True, True, False, False])
    assert (pair.first, pair.standard_error, pair.p_worse) == (area, 0.0, 1.0)


def test_a_ranking_that_is_wrong_on_every_clip_is_certainly_worse() -> None:
    assert PairedAuc(1.0, 0.0, 0.0).p_worse == 0.0
    found = judge(record(), record(-record().test_scores))["auc"]
    assert (found.met, found.value) == (False, -1.0)


def test_a_lower_auc_within_the_margin_may_follow_unless_it_is_significant() -> None:
    """One fault of 500 that is lost is chance; the same loss on one of twenty normals, clip by clip, is not."""
    labels = np.repeat([False, True], 500)
    champion = np.concatenate([np.linspace(0, 0.5, 500), np.linspace(0.6, 1, 500)])
    lost = champion.copy()
    lost[500] = -1.0
    found = judge(record(champion), record(lost), labels)["auc"]
    assert (found.met, found.value) == (True, pytest.approx(-1 / 500))
    lost[500:509] = -1.0
    found = judge(record(champion), record(lost), labels)["auc"]
    assert (found.value, found.limit) == (pytest.approx(-9 / 500), -AUC_MARGIN)
    assert not found.met, "within the margin, but more than chance"


def test_a_loss_beyond_the_margin_is_refused_though_few_clips_cannot_prove_it() -> None:
    labels = np.repeat([False, True], LEAST_LABELLED)
    champion = np.concatenate([np.arange(5.0), 10 + np.arange(5.0)])
    one_lost = champion.copy()
    one_lost[5] = 3.5
    found = judge(record(champion), record(one_lost), labels)["auc"]
    assert not found.met
    assert "0.040 less, p 0.24" in found.sentence


@pytest.mark.parametrize("kind", [False, True])
def test_few_labelled_clips_of_a_kind_decide_nothing(kind: bool) -> None:
    few = np.array([None] * 40, dtype=object)
    few[np.flatnonzero(~LABELS if kind else LABELS)] = not kind
    few[np.flatnonzero(kind == LABELS)[: LEAST_LABELLED - 1]] = kind
    criteria = judge(record(), record(-record().test_scores), few)
    assert (criteria["auc"].decisive, criteria["auc"].met, criteria["auc"].value) == (False, False, 4)
    assert criteria["auc"].sentence.startswith("B: note: ")


def test_unlabelled_clips_are_no_evidence() -> None:
    none = np.full(40, None)
    assert is_not_worse(compare_records(record(), record(-record().test_scores), none, budget=1.0))
    nan = np.full(40, np.nan)
    assert is_not_worse(compare_records(record(), record(-record().test_scores), nan, budget=1.0))


# --- faults found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "met"), [(0, True), (2, True), (3, False)])
def test_a_tenth_of_the_faults_may_be_missed(missed: int, met: bool) -> None:
    found = record().found.copy()
    found[20 : 20 + missed] = False
    assert judge(record(), replace(record(), found=found))["found"].met is met


def test_more_faults_lost_than_chance_explains_are_refused_though_they_are_few() -> None:
    labels = np.ones(200, dtype=bool)
    all_found = Record("b", NORMALS, np.ones(200), np.ones(200, dtype=bool), 1.0)
    lost = replace(all_found, found=np.arange(200) >= 5)
    assert not judge(all_found, lost, labels)["found"].met
    exchanged = replace(all_found, found=np.arange(200) % 10 != 0)
    mirrored = replace(all_found, found=np.arange(200) % 10 != 1)
    assert judge(exchanged, mirrored, labels)["found"].met


def test_an_alarm_that_hears_nothing_never_follows_one_that_hears_something() -> None:
    labels = np.repeat([False, True], [20, 5])
    values = np.arange(25.0)
    one = Record("b", NORMALS, values, values == 24, 1.0)
    assert not judge(one, replace(one, found=values > 99), labels)["found"].met
    deaf = replace(one, found=values > 99)
    assert judge(deaf, deaf, labels)["found"].met


# --- what cannot be compared --------------------------------------------------------------------------------------


def test_models_that_were_asked_about_different_recordings_are_not_compared() -> None:
    with pytest.raises(InputError, match="12 and 11 normal scores"):
        judge(record(), record(normals=NORMALS[:-1]))
    with pytest.raises(InputError, match="of 40 labels"):
        judge(record(), Record("b", NORMALS, np.ones(39), np.ones(39, dtype=bool), 1.0))
    with pytest.raises(InputError, match="not finite"):
        judge(record(), record(np.full(40, np.nan)))
    with pytest.raises(InputError, match="labelled normals and labelled anomalies"):
        compare_auc([1.0, 2.0], [1.0, 2.0], [True, True])
