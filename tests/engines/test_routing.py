"""The router says why, also when it says no."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.conditions import ConditionEvidence
from engines.routing import (
    AssetData,
    Choice,
    FalseAlarms,
    choose_engine,
    count_false_alarms,
    explain_settled,
    judge_criteria,
    qualifying,
    settle,
)
from schemas.errors import InputError, RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Criterion
from schemas.settings import RoutingSettings

LIMITS = RoutingSettings()


def true_column(column: str, **changes: Any) -> ConditionEvidence:
    found = {"filled": 1.0, "classes": 3, "chance": 1 / 3, "accuracy": 0.9, "p_value": 0.00998, "shuffled": 0.45}
    return ConditionEvidence(column, **(found | changes))


def false_column(column: str) -> ConditionEvidence:
    return true_column(column, accuracy=0.37, p_value=1.0)


def empty_column(column: str) -> ConditionEvidence:
    return ConditionEvidence(column, filled=0.0, classes=0, chance=1.0)


def columns(kind: Any, *others: ConditionEvidence) -> tuple[ConditionEvidence, ...]:
    """All seven columns of a kind, but for those given."""
    given = {each.column: each for each in others}
    return tuple(given.get(name) or kind(name) for name in CONDITION_COLUMNS)


def data(target: int = 10, source: int = 200, **changes: Any) -> AssetData:
    return AssetData(target, source, **({"conditions": columns(true_column)} | changes))


def choose(asset: AssetData, wanted: Any = "auto", **limits: Any) -> Choice:
    return choose_engine(judge_criteria(asset, LIMITS.model_copy(update=limits)), wanted=wanted)


def row(criteria: list[Criterion], name: str, engine: str = "c") -> Criterion:
    (found,) = [each for each in criteria if (each.engine, each.name) == (engine, name)]
    return found


# --- criteria -----------------------------------------------------------------------------------------------------


def test_every_engine_is_judged_also_where_none_is_able() -> None:
    criteria = judge_criteria(data(target=1, source=0, conditions=columns(empty_column)), LIMITS)
    assert list(dict.fromkeys(each.engine for each in criteria)) == ["a", "b", "c"]
    assert not any(each.met for each in criteria)
    assert {each.name for each in criteria if not each.decisive} == set(CONDITION_COLUMNS)


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (true_column("speed_level", filled=0.62), "C: no: speed_level is 62 % filled, 95 % needed"),
        (true_column("speed_level", filled=0.9499), "C: no: speed_level is 94.9 % filled, 95 % needed"),
        (empty_column("load_level"), "C: no: load_level is 0 % filled, 95 % needed"),
        (false_column("speed_level"), "C: no: speed_level cannot be told from the sound: are the labels right?"),
        (
            ConditionEvidence("noise_id", 1.0, 1, 1.0),
            "C: no: only 1 value of noise_id has 5 normals or more, 2 needed",
        ),
        (ConditionEvidence("noise_id", 1.0, 0, 1.0), "C: no: no value of noise_id has 5 normals or more, 2 needed"),
        (
            true_column("noise_id", accuracy=None, p_value=None),
            "C: no: noise_id is put to the test from 200 source normals on",
        ),
        (
            true_column("noise_id"),
            "C: yes: noise_id is told from the sound in 90 % of normals held out, in 33.3 % by chance",
        ),
    ],
)
def test_a_column_says_what_is_wrong_with_it(evidence: ConditionEvidence, sentence: str) -> None:
    found = row(judge_criteria(data(conditions=(evidence,)), LIMITS), evidence.column)
    assert found.sentence == sentence
    assert found.met == sentence.startswith("C: yes")
    assert not found.decisive


def test_without_source_no_column_is_blamed() -> None:
    found = row(judge_criteria(data(source=0, conditions=columns(empty_column)), LIMITS), "speed_level")
    assert found.sentence == "C: no: speed_level cannot be judged without source normals"


@pytest.mark.parametrize(
    ("changes", "qualifies"),
    [
        ({}, True),
        ({"filled": 0.95}, True),
        ({"filled": 0.949}, False),
        ({"classes": 1}, False),
        ({"p_value": 0.01}, True),
        ({"p_value": 0.011}, False),
        ({"accuracy": 0.3}, False),
        ({"accuracy": None, "p_value": None}, False),
    ],
)
def test_a_column_qualifies_by_all_three_tests(changes: dict[str, Any], qualifies: bool) -> None:
    asset = data(conditions=(true_column("speed_level", **changes), true_column("noise_id")))
    assert qualifying(asset, LIMITS) == (("speed_level", "noise_id") if qualifies else ("noise_id",))
    assert row(judge_criteria(asset, LIMITS), "condition_columns").met == qualifies


def test_conditions_new_to_the_source_only_warn() -> None:
    asset = data(unseen={"noise_id": ("babble", "brown"), "speed_level": ()})
    criteria = judge_criteria(asset, LIMITS)
    found = row(criteria, "unseen_conditions")
    assert found.sentence == "C: warning: the source never heard noise_id babble, brown"
    assert not found.decisive
    assert choose_engine(criteria).engine == "c"
    many = judge_criteria(data(unseen={"noise_id": tuple("abcdefg")}), LIMITS)
    assert row(many, "unseen_conditions").sentence.endswith("noise_id a, b, c, d, e, …")


# --- the choice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asset", "engine", "why"),
    [
        (data(), "c", "engine C is the highest that the data carry"),
        (data(target=3, source=200), "c", "engine C"),
        (data(source=199), "b", "C: no: 199 source normals of this machine type, 200 needed"),
        (data(source=30), "b", "C: no: 30 source normals"),
        (data(source=29), "a", "B: no: 29 source normals of this machine type, 30 needed"),
        (data(conditions=columns(empty_column)), "b", "C: no: speed_level is 0 % filled, 95 % needed"),
        (data(conditions=columns(false_column)), "b", "C: no: speed_level cannot be told from the sound"),
        (
            data(conditions=columns(false_column, true_column("noise_id"))),
            "b",
            "C: no: 1 of 7 condition columns qualify, 2 needed (noise_id)",
        ),
        (data(conditions=columns(false_column, true_column("noise_id"), true_column("load_level"))), "c", "engine C"),
        (data(source=0, conditions=columns(empty_column)), "a", "C: no: 0 source normals"),
    ],
)
def test_the_best_engine_that_the_data_carry_is_taken_and_says_why_none_better(
    asset: AssetData, engine: str, why: str
) -> None:
    choice = choose(asset)
    assert choice.engine == engine
    assert choice.reason.startswith(f"engine {engine.upper()} is the highest that the data carry")
    assert why in choice.reason


def test_engine_c_has_to_prove_itself_against_all_others_that_are_able() -> None:
    assert choose(data()).candidates == ("c", "b", "a")
    assert choose(data(), min_source=500).candidates == ("c", "a")
    assert choose(data(source=50)).candidates == ("b",)
    assert choose(data(source=0)).candidates == ("a",)


def test_too_few_normals_carry_nothing_and_the_error_says_what_is_missing() -> None:
    with pytest.raises(RejectedError, match="A: no: 2 normal recordings of this machine, 3 needed"):
        choose(data(target=2, source=500))
    with pytest.raises(RejectedError, match="2 normal recordings of this machine, 3 needed"):
        choose(data(target=2), wanted="b")


def test_a_customers_own_least_number_of_normals_holds_for_every_engine() -> None:
    criteria = judge_criteria(data(target=5), LIMITS, min_target=6)
    assert [each.met for each in criteria if each.name == "target_normals"] == [False] * 3


@pytest.mark.parametrize("wanted", ["a", "b", "c"])
def test_an_engine_that_is_asked_for_is_taken_without_a_trial(wanted: Any) -> None:
    assert choose(data(), wanted=wanted) == Choice(wanted, f"engine {wanted.upper()} was asked for", (wanted,))


def test_an_engine_that_is_asked_for_in_vain_says_all_that_is_missing() -> None:
    with pytest.raises(RejectedError) as refused:
        choose(data(source=50, conditions=columns(empty_column)), wanted="c")
    assert str(refused.value) == (
        "C: no: 50 source normals of this machine type, 200 needed; C: no: 0 of 7 condition columns qualify, 2 needed"
    )


def test_a_forbidden_engine_is_left_out_and_says_so() -> None:
    choice = choose(data(), forbid=("c",))
    assert choice.engine == "b"
    assert choice.reason.endswith("C: no: forbidden by the settings")
    assert choose(data(), forbid=("b",)).candidates == ("c", "a")
    assert choose(data(), wanted="ensemble", forbid=("b",)).members == ("a", "c")
    with pytest.raises(RejectedError, match="B: no: forbidden by the settings"):
        choose(data(), wanted="b", forbid=("b",))
    with pytest.raises(RejectedError, match=r"A: no: forbidden.*B: no: forbidden.*C: no: forbidden"):
        choose(data(), forbid=("a", "b", "c"))


def test_an_ensemble_is_made_of_all_able_engines() -> None:
    choice = choose(data(), wanted="ensemble")
    assert choice == Choice("ensemble", "an ensemble of A, B and C was asked for", ("ensemble",), ("a", "b", "c"))
    smaller = choose(data(source=50), wanted="ensemble")
    assert smaller.members == ("a", "b")
    assert smaller.reason == (
        "an ensemble of A and B was asked for; C: no: 50 source normals of this machine type, 200 needed"
    )


def test_an_ensemble_of_less_than_two_is_refused() -> None:
    with pytest.raises(RejectedError, match=r"only A is able: ask for auto; C: no: .*; B: no: 5 source normals"):
        choose(data(source=5), wanted="ensemble")
    with pytest.raises(RejectedError, match="none is able; C: no: 1 normal"):
        choose(data(target=1), wanted="ensemble")


# --- the trial of C -----------------------------------------------------------------------------------------------

RINGS_TWICE, RINGS_ONCE, SILENT = FalseAlarms(10, 2), FalseAlarms(10, 1), FalseAlarms(10, 0)


@pytest.mark.parametrize(
    ("trials", "engine", "sentence"),
    [
        (
            {"c": SILENT, "b": RINGS_ONCE, "a": SILENT},
            "c",
            "C: yes: rings on 0 of 10 normals held out, B on 1 and A on 0",
        ),
        (
            {"c": RINGS_ONCE, "b": RINGS_ONCE, "a": RINGS_TWICE},
            "c",
            "C: yes: rings on 1 of 10 normals held out, B on 1 and A on 2",
        ),
        (
            {"c": RINGS_ONCE, "b": RINGS_TWICE, "a": SILENT},
            "b",
            "C: no: rings on 1 of 10 normals held out, B on 2 and A on 0",
        ),
    ],
)
def test_engine_c_keeps_the_asset_if_it_rings_no_more_often_than_each_other(
    trials: dict[str, FalseAlarms], engine: str, sentence: str
) -> None:
    choice = choose(data())
    kept, (trial,) = settle(choice, trials)
    assert kept == engine
    assert trial.sentence == sentence
    assert trial.met == (engine == "c")
    assert trial.decisive
    assert explain_settled(choice, kept, [trial]) == (
        f"engine {engine.upper()} is the highest that the data carry; {sentence}"
    )


def test_shares_are_compared_where_engines_held_out_different_numbers() -> None:
    choice = choose(data(), forbid=("a",))
    assert settle(choice, {"c": FalseAlarms(10, 1), "b": FalseAlarms(20, 2)})[0] == "c"
    assert settle(choice, {"c": FalseAlarms(10, 1), "b": FalseAlarms(30, 2)})[0] == "b"


def test_a_choice_without_rivals_stands_without_a_trial() -> None:
    choice = choose(data(source=50))
    assert settle(choice, {}) == ("b", [])
    assert explain_settled(choice, "b", []) == choice.reason


def test_scores_that_lie_together_never_ring_and_one_far_out_does() -> None:
    together = np.random.default_rng(0).normal(5.0, 0.1, 10)
    assert count_false_alarms(together) == FalseAlarms(held_out=10, rang=0)
    assert count_false_alarms([*together, 9.0]) == FalseAlarms(held_out=11, rang=1)
    assert count_false_alarms([*together, 1.0]).rang == 0


def test_engines_of_heavy_tails_ring_more_often_whatever_their_units() -> None:
    rng = np.random.default_rng(1)
    even, heavy = rng.normal(size=(300, 20)), rng.standard_t(2, size=(300, 20))
    rings = [sum(count_false_alarms(scores).rang for scores in each) for each in (even, heavy)]
    assert rings[1] > 1.5 * rings[0]
    scaled = sum(count_false_alarms(1e6 * scores - 40).rang for scores in heavy)
    assert scaled == rings[1]


def test_normally_distributed_scores_ring_as_often_as_stated() -> None:
    rng = np.random.default_rng(2)
    for count in (4, 12):
        rang = sum(count_false_alarms(rng.normal(size=count), level=0.05).rang for _ in range(12_000 // count))
        assert rang / 12_000 == pytest.approx(0.05, abs=0.008)


@pytest.mark.parametrize("count", [5, 60])
def test_an_engine_as_good_as_the_others_seldom_loses_by_chance_however_many_normals(count: int) -> None:
    rng, choice = np.random.default_rng(3), choose(data())
    kept = [
        settle(choice, {engine: count_false_alarms(rng.normal(size=count)) for engine in "cba"})[0] == "c"
        for _ in range(100)
    ]
    assert np.mean(kept) > 0.8


def test_ties_and_equal_scores_do_not_ring() -> None:
    assert count_false_alarms(np.full(8, 0.3)).rang == 0
    assert count_false_alarms(0.3 + 1e-15 * np.arange(8)).rang == 0
    assert count_false_alarms([0.3] * 7 + [0.31]).rang == 1
    assert count_false_alarms([0.0, 0.0, 0.0]).rang == 0


@pytest.mark.parametrize("scores", [[0.1, 0.2], [0.1, 0.2, float("nan")], [[0.1, 0.2, 0.3]]])
def test_scores_that_cannot_be_tried_are_refused(scores: Any) -> None:
    with pytest.raises(InputError, match="normal score"):
        count_false_alarms(scores)
