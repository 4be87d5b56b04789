"""P-values of several engines, combined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from engines.encoders.logmel import LogMelEncoder
from engines.ensemble import Ensemble, combine, log_p_values
from engines.patch_memory import PatchMemory
from schemas.errors import InputError, UsageError


def test_the_p_value_is_that_of_student_s_prediction() -> None:
    normals = np.array([1.0, 2.0, 3.0, 4.0])
    expected = stats.t.sf((6.0 - 2.5) / (normals.std(ddof=1) * np.sqrt(1.25)), df=3)
    assert log_p_values(np.array([6.0]), normals)[0] == pytest.approx(np.log10(expected))


def test_one_engine_s_order_of_clips_is_kept() -> None:
    rng = np.random.default_rng(0)
    scores, normals = rng.normal(size=(50, 1)), rng.normal(size=(10, 1))
    assert (np.argsort(combine(scores, normals)) == np.argsort(scores[:, 0])).all()


def test_the_unit_of_an_engine_s_scores_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    scores, normals = rng.normal(size=(50, 2)), rng.normal(size=(10, 2))
    unit, shift = np.array([1000.0, 1e-3]), np.array([5.0, -7.0])
    np.testing.assert_allclose(combine(scores * unit + shift, normals * unit + shift), combine(scores, normals))


@pytest.mark.parametrize(
    ("engines", "majority"), [(2, 0), (3, 1), (4, 1)], ids=["both of two", "two of three", "three of four"]
)
def test_a_rule_says_which_engine_s_p_value_counts(engines: int, majority: int) -> None:
    normals = np.random.default_rng(2).normal(size=(10, engines))
    clip = np.arange(1.0, engines + 1)[None, ::-1]
    apart = np.sort(-log_p_values(clip, normals)[0])
    assert combine(clip, normals)[0] == apart[majority]
    assert combine(clip, normals, rule="any")[0] == apart[-1]
    assert combine(clip, normals, rule="all")[0] == apart[0]
    assert combine(clip, normals, rule="fisher")[0] == pytest.approx(apart.mean())


def test_by_majority_it_rings_exactly_when_more_than_half_of_the_engines_do() -> None:
    rng = np.random.default_rng(4)
    scores, normals = 2 * rng.normal(size=(500, 3)), rng.normal(size=(10, 3))
    ringing = (-log_p_values(scores, normals) > 1.5).sum(axis=1)
    assert ((combine(scores, normals) > 1.5) == (ringing >= 2)).all()


def test_each_engine_s_normal_scores_may_stand_in_an_order_of_their_own() -> None:
    rng = np.random.default_rng(5)
    scores, normals = rng.normal(size=(50, 3)), rng.normal(size=(10, 3))
    shuffled = rng.permuted(normals, axis=0)
    np.testing.assert_allclose(combine(scores, shuffled), combine(scores, normals), rtol=1e-12)


def test_equal_normal_scores_still_give_finite_scores() -> None:
    found = combine(np.array([[1.0, 2.0], [5.0, 5.0]]), np.full((4, 2), 1.0))
    assert np.isfinite(found).all()
    assert found[1] > found[0]


def test_p_values_are_uniform_where_normal_scores_are_gaussian() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(4000, 6))
    p = [10 ** log_p_values(row[:1], row[1:])[0] for row in draws]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_single_normal_score_has_no_spread() -> None:
    with pytest.raises(InputError, match="needs two"):
        log_p_values(np.array([1.0]), np.array([1.0]))


def test_an_ensemble_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="two or more"):
        Ensemble(("a",), lambda name, least: pytest.fail(name))


def test_an_ensemble_that_names_an_engine_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="names engine B twice"):
        Ensemble(("b", "a", "b"), lambda name, least: pytest.fail(name))


def test_a_card_that_names_an_engine_twice_is_refused_by_name(machine: Any, tmp_path: Path) -> None:
    def make(name: str, least: int) -> PatchMemory:
        return PatchMemory(LogMelEncoder(), workers=1, least=least)

    Ensemble(("a", "b"), make).fit(machine.normals(3)).save(tmp_path)
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"members": ["b", "b"]}))
    with pytest.raises(InputError, match=r"engine\.json.*field 'members': engine B is named twice; refit the asset$"):
        Ensemble.load(tmp_path, lambda folder: PatchMemory.load(folder, LogMelEncoder()), make)
