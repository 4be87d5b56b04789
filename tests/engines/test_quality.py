"""What the signal measures say of sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.quality import DIGITAL_SILENCE, FULL_SCALE_16_BIT, content_hash, energy_above, measure

RATE = 16_000


def sine(amplitude: float = 0.5, *, seconds: float = 1.0, channels: int = 1) -> NDArray[np.float32]:
    """A 100 Hz sine, (frames, channels)."""
    time = np.arange(int(seconds * RATE)) / RATE
    return np.repeat((amplitude * np.sin(2 * np.pi * 100 * time))[:, None], channels, axis=1).astype(np.float32)


def test_a_sine_has_the_level_length_and_peak_of_a_sine() -> None:
    found = measure(sine(0.5, seconds=2.0, channels=2), RATE)

    assert found.duration_s == 2.0
    assert (found.channels, found.sample_rate) == (2, RATE)
    assert found.rms == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    assert found.ac_rms == pytest.approx(found.rms, rel=1e-6)
    assert found.peak == pytest.approx(0.5, rel=1e-6)
    assert found.clipping_ratio == found.silence_ratio == 0
    assert found.dc_offset == pytest.approx(0, abs=1e-6)
    assert not found.has_nan


def test_clipping_counts_samples_at_full_scale_on_both_sides() -> None:
    samples = sine(0.5)
    samples[:100] = FULL_SCALE_16_BIT
    samples[100:160] = -1.0
    samples[200:300] = 32766 / 32768

    assert measure(samples, RATE).clipping_ratio == 160 / RATE


def test_float_samples_beyond_full_scale_clip_at_their_own_peak() -> None:
    free = sine(9.0)
    clipped = np.clip(sine(20.0), -9.0, 9.0)

    assert measure(free, RATE).clipping_ratio < 0.02
    assert measure(clipped, RATE).clipping_ratio > 0.5
    assert measure(free, RATE).peak == pytest.approx(9.0)


def test_a_coarser_converter_clips_at_its_own_full_scale() -> None:
    samples = np.full((100, 1), 127 / 128, dtype=np.float32)

    assert measure(samples, RATE).clipping_ratio == 0
    assert measure(samples, RATE, full_scale=127 / 128).clipping_ratio == 1


def test_silence_is_a_share_of_whole_frames_and_zero_crossings_are_none() -> None:
    samples = sine(0.5, seconds=1.0)
    samples[: RATE // 4] = 0
    dithered = samples.copy()
    dithered[: RATE // 4 : 2] = DIGITAL_SILENCE

    assert measure(samples, RATE).silence_ratio == pytest.approx(0.25, abs=0.03)
    assert measure(dithered, RATE).silence_ratio == measure(samples, RATE).silence_ratio
    assert measure(sine(0.5), RATE).silence_ratio == 0


def test_one_live_channel_is_not_silence() -> None:
    samples = sine(0.5, channels=2)
    samples[:, 0] = 0

    assert measure(samples, RATE).silence_ratio == 0


def test_a_stuck_sensor_has_level_but_nothing_about_its_mean() -> None:
    found = measure(np.full((RATE, 1), -0.3, dtype=np.float32), RATE)

    assert found.rms == pytest.approx(0.3, rel=1e-6)
    assert found.ac_rms == pytest.approx(0, abs=1e-6)
    assert found.dc_offset == pytest.approx(-0.3, rel=1e-6)


def test_the_offset_is_that_of_the_worst_channel() -> None:
    samples = sine(0.1, channels=3)
    samples[:, 1] -= 0.2

    assert measure(samples, RATE).dc_offset == pytest.approx(-0.2, rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_and_spoil_no_other_measure(bad: float) -> None:
    samples = sine(0.5)
    samples[7] = bad
    found = measure(samples, RATE)

    assert found.has_nan
    assert found.rms == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert found.peak == pytest.approx(0.5, rel=1e-3)


def test_infinities_that_cancel_are_found() -> None:
    samples = sine(0.5)
    samples[3], samples[4] = np.inf, -np.inf

    assert measure(samples, RATE).has_nan


def test_the_content_hash_ignores_rate_and_memory_layout_but_no_sample() -> None:
    samples = sine(0.5, channels=2)
    other = samples.copy()
    other[5, 1] += 1e-4

    assert measure(samples, 16_000).content_sha256 == measure(samples, 48_000).content_sha256
    assert content_hash(np.asfortranarray(samples)) == content_hash(samples)
    assert content_hash(-samples * 0) == content_hash(samples * 0)
    assert content_hash(other) != content_hash(samples)
    assert content_hash(samples.reshape(-1, 1)) != content_hash(samples)


@pytest.mark.parametrize("shape", [(0, 1), (5, 0), (5,), (1, 5, 1)])
def test_arrays_that_are_no_recording_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames, channels"):
        measure(np.zeros(shape, dtype=np.float32), RATE)


def test_a_clip_shorter_than_a_frame_is_measured() -> None:
    assert measure(np.zeros((3, 1), dtype=np.float32), RATE).silence_ratio == 1


def tone(frequency_hz: float, amplitude: float, *, rate: int = 48_000, seconds: float = 2.5) -> NDArray[np.float32]:
    """A sine, (frames, 1)."""
    time = np.arange(int(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time))[:, None].astype(np.float32)


def test_energy_above_a_frequency_is_the_share_of_the_tones_above_it() -> None:
    samples = tone(1_000, 0.3) + tone(12_000, 0.1)

    assert energy_above(samples, 48_000, 8_000) == pytest.approx(0.1, rel=1e-3)
    assert energy_above(samples, 48_000, 500) == pytest.approx(1.0, rel=1e-3)
    assert energy_above(samples, 48_000, 16_000) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_051])
def test_white_noise_has_its_energy_in_proportion_to_the_band(rate: int) -> None:
    samples = np.random.default_rng(0).normal(size=(3 * rate, 2)).astype(np.float32)

    assert energy_above(samples, rate, 8_000) == pytest.approx(1 - 16_000 / rate, abs=0.01)


def test_energy_above_leaves_the_offset_out_and_weighs_blocks_by_their_energy() -> None:
    loud_low, faint_high = tone(1_000, 0.9, seconds=1), tone(12_000, 0.1, seconds=1)
    samples = np.concatenate([loud_low, faint_high])

    assert energy_above(samples + np.float32(0.5), 48_000, 8_000) == pytest.approx(0.01 / 0.82, rel=1e-3)


def test_energy_above_counts_every_channel() -> None:
    samples = np.concatenate([tone(1_000, 0.1), tone(12_000, 0.1)], axis=1)

    assert energy_above(samples, 48_000, 8_000) == pytest.approx(0.5, rel=1e-3)


def test_the_nyquist_frequency_itself_is_not_counted_twice() -> None:
    alternating = np.where(np.arange(48_000) % 2, -0.1, 0.1)[:, None].astype(np.float32)
    samples = alternating + tone(1_000, 0.1 * np.sqrt(2), seconds=1)

    assert energy_above(samples, 48_000, 8_000) == pytest.approx(0.5, rel=1e-3)


def test_a_constant_has_no_energy_above_anything() -> None:
    assert energy_above(np.full((48_000, 1), 0.5, dtype=np.float32), 48_000, 8_000) == 0
    assert energy_above(np.full((1, 1), 0.5, dtype=np.float32), 48_000, 8_000) == 0
