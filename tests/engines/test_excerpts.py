"""A recording that begins within another one is found there; other recordings of the machine are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.excerpts import (
    DIMENSIONS,
    GROUP_BINS,
    HOP_S,
    SEARCHED_S,
    WINDOW_S,
    Excerpt,
    find_excerpts,
    window_prints,
)
from schemas.rules import RULES
from tests.engines.steady_machine import RATE, machine


def cut(sound: NDArray[np.float32], start_s: float, seconds: float = 10.0) -> NDArray[np.float32]:
    return sound[round(start_s * RATE) : round((start_s + seconds) * RATE)]


def found(*sounds: NDArray[np.float32], **options: int) -> list[Excerpt]:
    return find_excerpts([window_prints(sound, RATE) for sound in sounds], **options)


LONG = machine(0, seconds=40)


@pytest.mark.parametrize("start_s", [6.0, 6.5, 7.0, 13.3, 29.0])
def test_an_excerpt_is_found_where_it_was_cut_out(start_s: float) -> None:
    (place,) = found(machine(1, seconds=10), LONG, -0.3 * cut(LONG, start_s), machine(2, seconds=10))

    assert (place.whole, place.excerpt) == (1, 2)
    assert abs(place.start_s - start_s) <= HOP_S / 2


@pytest.mark.parametrize("step_s", [2.5, 5.0])
def test_windows_that_overlap_are_found_each_in_the_one_before(step_s: float) -> None:
    places = found(*(cut(LONG, step_s * i) for i in range(5)))

    assert {(place.whole, place.excerpt) for place in places} >= {(i, i + 1) for i in range(4)}
    assert all(place.whole < place.excerpt for place in places)


def test_other_recordings_of_a_machine_are_found_nowhere() -> None:
    assert found(*(machine(seed, seconds=10) for seed in range(30))) == []


def test_an_excerpt_of_several_is_looked_for_in_the_likest_of_each() -> None:
    noisy = [LONG + 0.02 * machine(9, seconds=40) * level for level in (0, 1, 30)]
    places = found(*noisy, cut(LONG, 8.0))

    assert [place.whole for place in places if place.excerpt == 3] == [0, 1]


def test_chunks_change_nothing() -> None:
    sounds = [LONG, *(cut(LONG, 7.0 * i) for i in range(4)), machine(3, seconds=10)]

    assert set(found(*sounds, chunk=3)) == set(found(*sounds))


@pytest.mark.parametrize("seconds", [0.001, 3.9])
def test_what_is_shorter_than_a_window_takes_no_part(seconds: float) -> None:
    short = cut(LONG, 0, seconds)

    assert window_prints(short, RATE).shape == (0, DIMENSIONS)
    assert found(short, LONG, short) == []
    assert find_excerpts([window_prints(short, RATE)]) == []


def test_silence_and_what_shares_few_groups_with_sound_are_like_nothing() -> None:
    prints = window_prints(LONG, RATE)
    prints[:, 7 * GROUP_BINS :] = 0

    assert found(np.zeros(10 * RATE, dtype=np.float32), np.full(10 * RATE, 0.2, dtype=np.float32)) == []
    assert find_excerpts([prints, prints]) == []


def test_of_a_very_long_recording_the_first_minutes_are_searched() -> None:
    rate = 1000
    sound = np.random.default_rng(0).normal(size=int(1.2 * SEARCHED_S) * rate).astype(np.float32)

    assert len(window_prints(sound, rate)) == SEARCHED_S / HOP_S - 1
    assert f"{WINDOW_S:g} s and more are sought in the first {SEARCHED_S:g} s" in RULES["clip.overlap"].reason
