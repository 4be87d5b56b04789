"""Odd is what has no neighbours as near as the others have."""

from __future__ import annotations

import numpy as np
import pytest

from engines.outliers import LEAST_CLIPS, NEIGHBOURS, TIMES_USUAL, odd_levels, odd_profiles
from schemas.rules import RULES


def profiles(count: int, *, spread_db: float = 0.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = np.linspace(-20, -50, 24)
    return (shape + spread_db * rng.normal(size=(count, 24))).astype(np.float32)


def test_one_spectrum_unlike_the_others_is_odd_and_only_that() -> None:
    among = profiles(10)
    among[3, 12:] += 25
    found = odd_profiles(among, 6.0)

    assert np.flatnonzero(found).tolist() == [3]
    assert found[3] > 6


def test_a_gain_alone_makes_no_odd_spectrum_and_a_colour_alone_no_odd_level() -> None:
    among = profiles(10)
    among[3] += 20
    levels = np.array([*np.full(9, -30.0), -50.0])

    assert not odd_profiles(among, 6.0).any()
    assert np.flatnonzero(odd_levels(levels, 6.0)).tolist() == [9]


def test_two_states_of_a_machine_are_both_normal() -> None:
    slow, fast = profiles(5, seed=1), profiles(5, seed=2)
    fast[:, :12] += 20
    levels = np.array([-30.0] * 5 + [-18.0] * 5)

    assert not odd_profiles(np.concatenate([slow, fast]), 6.0).any()
    assert not odd_levels(levels, 6.0).any()


def test_where_all_differ_none_is_odd() -> None:
    assert not odd_profiles(profiles(10, spread_db=8), 6.0).any()


def test_among_a_few_nobody_can_say() -> None:
    among = profiles(LEAST_CLIPS - 1)
    among[0, :12] += 30

    assert not odd_profiles(among, 6.0).any()
    assert not odd_levels(np.array([-30.0, -30, -30, -60]), 6.0).any()


def test_bands_that_one_recording_lacks_are_left_out() -> None:
    among = profiles(10)
    among[4, 20:] = np.nan

    assert not odd_profiles(among, 6.0).any()
    assert not odd_profiles(np.full((8, 24), np.nan, dtype=np.float32), 6.0).any()


def test_a_thousand_clips_go_in_chunks() -> None:
    among = profiles(1000)
    among[700, :12] += 30

    assert np.flatnonzero(odd_profiles(among, 6.0)).tolist() == [700]


def test_two_odd_ones_alike_do_not_vouch_for_each_other() -> None:
    among = profiles(10)
    among[[2, 7], 12:] += 25

    assert np.flatnonzero(odd_profiles(among, 6.0)).tolist() == [2, 7]
    assert np.flatnonzero(odd_levels(np.array([*np.full(8, -30.0), -50.0, -50.0]), 6.0)).tolist() == [8, 9]


@pytest.mark.parametrize("rule", ["asset.odd_level", "asset.odd_spectrum"])
def test_the_rule_says_from_how_many_on_and_how_far(rule: str) -> None:
    assert f"from {LEAST_CLIPS} normals on" in RULES[rule].reason
    assert f"the {NEIGHBOURS} nearest" in RULES[rule].what
    assert f"{TIMES_USUAL:g} times what is usual" in RULES[rule].what
