"""A recording unlike those that an alarm was calibrated on is known as such."""

from __future__ import annotations

import numpy as np
import pytest

from engines.base import ClipSet
from engines.comparability import Recorded
from schemas.errors import InputError

RATE = 16_000


def hum(seed: int, *, gain: float = 1.0, seconds: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (gain * 0.05 * noise).astype(np.float32)


def clips(*sounds: np.ndarray, band: float = 8000.0, one_recording: bool = False) -> ClipSet:
    ids = ["r"] * len(sounds) if one_recording else None
    return ClipSet.from_arrays(sounds, bandwidth_hz=band, recording_ids=ids)


def normals() -> Recorded:
    return Recorded.measure(clips(*(hum(i) for i in range(4))))


def test_a_recording_like_the_normals_differs_in_nothing() -> None:
    assert normals().differences(clips(hum(9), hum(10, gain=0.6))) == [(), ()]


@pytest.mark.parametrize("gain_db", [-40, -12, 12])
def test_a_recorder_at_another_level_is_known(gain_db: float) -> None:
    assert normals().differences(clips(hum(9, gain=10 ** (gain_db / 20)))) == [("level",)]


def test_normals_that_differ_in_level_allow_as_much_again() -> None:
    wide = Recorded.measure(clips(hum(0), hum(1, gain=10.0)))
    assert wide.differences(clips(hum(9, gain=0.15), hum(9, gain=60.0), hum(9, gain=0.05))) == [(), (), ("level",)]


@pytest.mark.parametrize(("band", "differs"), [(8000.0, False), (7300.0, False), (4000.0, True)])
def test_a_recorder_that_holds_less_of_the_band_is_known(band: float, differs: bool) -> None:
    assert normals().differences(clips(hum(9), band=band)) == [("band",) if differs else ()]


def test_a_recorder_that_holds_more_of_the_band_is_known() -> None:
    narrow = Recorded.measure(clips(hum(0), hum(1), band=4000.0))
    assert narrow.differences(clips(hum(9), band=8000.0)) == [("band",)]


def test_a_recording_of_more_pieces_than_any_normal_is_known() -> None:
    assert normals().differences(clips(hum(8), hum(9), one_recording=True)) == [("longer",)]
    long = Recorded.measure(clips(hum(0), hum(1), one_recording=True), clips(hum(2)))
    assert (long.pieces, long.longest_s) == (2, 2.0)
    assert long.differences(clips(hum(8), hum(9), one_recording=True)) == [()]


def test_a_constant_is_silence_and_no_normal_is_refused() -> None:
    assert normals().differences(clips(np.full(RATE, 0.5, dtype=np.float32))) == [("level",)]
    with pytest.raises(InputError, match="no normal recording"):
        Recorded.measure()
