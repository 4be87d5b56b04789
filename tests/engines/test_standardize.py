"""The standard form: one channel, one rate, a fixed gain, pieces of at most one segment."""

from __future__ import annotations

import numpy as np
import pytest

from engines.standardize import GRID, cut_segments, standardize, to_mono, to_waveform


def sine(frequency: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def test_resampling_keeps_level_and_length() -> None:
    standard = standardize(sine(440, 48_000), 48_000, target_rate=16_000)
    assert len(standard.codes) == 16_000
    assert standard.waveform[2000:-2000].std() == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_the_band_is_what_the_recording_holds_not_what_the_rate_could() -> None:
    assert standardize(sine(100, 1_000), 1_000, target_rate=16_000).bandwidth_hz == 500
    assert standardize(sine(100, 48_000), 48_000, target_rate=16_000).bandwidth_hz == 8_000


def test_energy_above_the_new_nyquist_is_told() -> None:
    mixed = sine(1_000, 48_000) + sine(12_000, 48_000)
    assert standardize(mixed, 48_000, target_rate=16_000).lost_energy == pytest.approx(0.5, abs=0.01)
    assert standardize(sine(1_000, 48_000), 48_000, target_rate=16_000).lost_energy == pytest.approx(0, abs=0.01)


def test_an_overshoot_of_a_clipped_recording_is_not_clipped_again() -> None:
    square = np.sign(sine(300, 48_000, level=1.0)).astype(np.float32)
    standard = standardize(square, 48_000, target_rate=16_000)
    assert 1.05 < np.abs(standard.waveform).max() < 2


def test_samples_lie_on_the_grid_that_the_store_holds() -> None:
    standard = standardize(sine(440, 44_100), 44_100, target_rate=16_000)
    assert np.array_equal(standard.waveform.astype(np.float64) * GRID, standard.codes)
    assert to_waveform(standard.codes).dtype == np.float32


def test_microphones_are_averaged_and_of_an_accelerometer_the_first_axis_is_taken() -> None:
    channels = np.stack([np.full(10, 0.2), np.full(10, 0.4)], axis=1).astype(np.float32)
    assert to_mono(channels, "microphone") == pytest.approx(np.full(10, 0.3))
    assert to_mono(channels, "accelerometer") == pytest.approx(np.full(10, 0.2))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (50, [(0, 50)]),
        (100, [(0, 100)]),
        (250, [(0, 100), (100, 200), (200, 250)]),
        (205, [(0, 100), (100, 205)]),
    ],
)
def test_cuts_lose_nothing_and_leave_no_crumb(samples: int, expected: list[tuple[int, int]]) -> None:
    assert cut_segments(samples, 10, segment_s=10.0, min_s=1.0) == expected
