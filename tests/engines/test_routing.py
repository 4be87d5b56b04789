"""The router says why, also when it says no."""

from __future__ import annotations

import pytest

from engines.routing import AssetData, choose_engine, judge_criteria
from schemas.errors import RejectedError


def test_three_normals_carry_engine_a() -> None:
    engine, reason = choose_engine(judge_criteria(AssetData(target_normals=3, source_normals=0)))
    assert engine == "a"
    assert "3 normal recordings" in reason


def test_two_normals_carry_nothing_and_the_error_says_what_is_missing() -> None:
    criteria = judge_criteria(AssetData(target_normals=2, source_normals=500))
    with pytest.raises(RejectedError, match="2 normal recordings of this machine, 3 needed"):
        choose_engine(criteria)
    with pytest.raises(RejectedError, match="2 normal recordings"):
        choose_engine(criteria, wanted="a")
