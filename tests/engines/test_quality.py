"""What the signal measures say of sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.quality import DIGITAL_SILENCE, FULL_SCALE_16_BIT, SignalMeasures, content_hash, measure

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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1e10])
@pytest.mark.filterwarnings("error::RuntimeWarning")
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


# --- clipped before the file ----------------------------------------------------------------------------------------


def noise(seed: int = 0, *, level: float = 0.1, frames: int = RATE, channels: int = 1) -> NDArray[np.float32]:
    """White noise on the 16-bit grid, (frames, channels)."""
    rng = np.random.default_rng(seed)
    return (np.rint(32768 * level * rng.normal(size=(frames, channels))) / 32768).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("gain", [1.0, 0.25, 0.01])
def test_flat_tops_are_found_at_any_level(gain: float) -> None:
    clipped = np.clip(noise(level=0.5, frames=RATE // 4).repeat(4, axis=0), -0.4, 0.6)
    beyond = np.mean((clipped == np.float32(-0.4)) | (clipped == np.float32(0.6)))
    found = measure(np.rint(gain * clipped * 32768).astype(np.float32) / 32768, RATE)

    assert found.clipping_ratio == 0
    assert found.flat_top_ratio == pytest.approx(beyond, rel=0.05)


def test_a_clipped_sine_has_flat_tops_and_a_whole_one_has_none() -> None:
    assert measure(np.clip(sine(0.5), -0.35, 0.35), RATE).flat_top_ratio == pytest.approx(0.5, abs=0.02)
    assert measure(sine(0.5), RATE).flat_top_ratio == 0


@pytest.mark.parametrize("frequency_hz", [1, 10, 50, 400])
def test_smooth_tops_are_not_flat_however_long_they_last(frequency_hz: float) -> None:
    time = np.arange(4 * RATE) / RATE
    slow = np.rint(16000 * np.sin(2 * np.pi * frequency_hz * time))[:, None].astype(np.float32) / 32768

    assert measure(slow, RATE).flat_top_ratio == 0


@pytest.mark.parametrize("strays", [1, 5])
def test_stray_samples_hide_no_flat_tops(strays: int) -> None:
    samples = np.clip(noise(level=0.5, frames=10 * RATE), -0.15, 0.15)
    alone = measure(samples, RATE)
    at = 1000 + 20_000 * np.arange(strays)
    samples[at], samples[at + 5000] = 0.3, -0.9
    found = measure(samples, RATE)

    assert found.flat_top_ratio == pytest.approx(alone.flat_top_ratio, abs=1e-3)
    assert found.flat_top_ratio > 0.2
    assert found.flat_top_level == pytest.approx(0.15)


def test_a_loud_moment_above_even_tops_is_no_flat_top() -> None:
    samples = sine(0.1, seconds=10)
    samples[RATE : RATE + 800] *= 9

    assert measure(samples, RATE).flat_top_ratio == 0


def test_tops_that_only_a_part_of_the_recording_has_are_found_beside_silence() -> None:
    samples = np.zeros((10 * RATE, 1), dtype=np.float32)
    samples[:RATE] = np.clip(noise(level=0.5), -0.15, 0.15)

    assert measure(samples, RATE).flat_top_ratio == pytest.approx(measure(samples[:RATE], RATE).flat_top_ratio / 10)


def test_noise_and_faint_sounds_have_no_flat_tops() -> None:
    assert measure(noise(), RATE).flat_top_ratio == 0
    assert measure(noise(level=3e-4), RATE).flat_top_ratio == 0


# --- bits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "gain"), [(8, 1.0), (8, 1.37), (10, 1.0), (6, 0.5)])
def test_the_bits_of_a_coarse_converter_show_through_a_finer_format_and_a_gain(bits: int, gain: float) -> None:
    step = 2.0 ** (1 - bits)
    coarse = np.rint(noise(level=0.15, frames=10 * RATE) / step) * step
    found = measure(np.rint(gain * coarse * 32768).astype(np.float32) / 32768, RATE)

    assert found.bits_used == pytest.approx(bits - np.log2(gain), abs=0.1)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(noise(frames=10 * RATE), id="16 bits"),
        pytest.param(noise(level=1e-3), id="16 bits, faint"),
        pytest.param(noise(level=0.2, frames=1000), id="too short to visit its values"),
        pytest.param(np.rint(noise(frames=800) * 512) / 512, id="coarse, and too short to tell"),
        pytest.param(sine(0.5), id="a perfect tone"),
        pytest.param(np.random.default_rng(0).normal(size=(RATE, 1)).astype(np.float32) * 0.1, id="float"),
        pytest.param(np.zeros((RATE, 1), dtype=np.float32), id="zeros"),
    ],
)
def test_what_is_not_coarse_has_sixteen_bits(samples: NDArray[np.float32]) -> None:
    assert measure(samples, RATE).bits_used == 16


# --- drop-outs that are no zeros ------------------------------------------------------------------------------------


def test_a_held_value_is_stuck_and_not_silence() -> None:
    samples = noise()
    samples[: RATE // 4] = 0.03
    found = measure(samples, RATE)

    assert (found.stuck_ratio, found.silence_ratio, found.gap_ratio) == (0.24, 0, 0)


def test_a_muted_stretch_that_still_moves_is_a_gap() -> None:
    samples = noise()
    samples[: RATE // 4] *= 1e-2 / 3
    found = measure(samples, RATE)

    assert (found.stuck_ratio, found.silence_ratio) == (0, 0)
    assert found.gap_ratio == pytest.approx(0.25, abs=0.03)


def test_a_fainter_stretch_within_forty_decibels_is_no_gap() -> None:
    samples = noise()
    samples[: RATE // 4] *= 0.02

    assert measure(samples, RATE).gap_ratio == 0


def test_steady_sounds_have_no_gaps() -> None:
    assert measure(noise(), RATE).gap_ratio == measure(sine(0.5), RATE).gap_ratio == 0


# --- channels -------------------------------------------------------------------------------------------------------


def test_a_dead_channel_is_named_by_its_number_and_an_offset_does_not_revive_it() -> None:
    samples = noise(channels=3)
    samples[:, 1] = 0.2

    assert measure(samples, RATE).dead_channels == (2,)
    assert measure(noise(channels=3), RATE).dead_channels == ()
    assert measure(np.zeros((RATE, 2), dtype=np.float32), RATE).dead_channels == ()


def test_the_mean_of_channels_keeps_what_they_share() -> None:
    one = noise(1)[:, 0]

    def ratio(*channels: NDArray[np.float32]) -> float:
        return measure(np.stack(channels, axis=1), RATE).mono_ratio

    assert ratio(one, one) == pytest.approx(1, rel=1e-5)
    assert ratio(one, noise(2)[:, 0]) == pytest.approx(0.5, abs=0.02)
    assert ratio(one, -one) == pytest.approx(0, abs=1e-9)
    assert ratio(one) == 1


@pytest.mark.parametrize(("below_db", "dead"), [(50, ()), (70, (2,))])
def test_a_channel_is_dead_from_sixty_decibels_below_the_loudest_on(below_db: float, dead: tuple[int, ...]) -> None:
    quiet = noise(2, level=0.3)[:, 0] * np.float32(10 ** (-below_db / 20))

    assert measure(np.stack([noise(1, level=0.3)[:, 0], quiet], axis=1), RATE).dead_channels == dead


def test_levels_are_those_of_all_channels_and_what_is_heard_has_its_own() -> None:
    samples = np.stack([sine(0.4)[:, 0], sine(0.2)[:, 0] + np.float32(0.1)], axis=1)
    microphone, accelerometer = measure(samples, RATE), measure(samples, RATE, sensor="accelerometer")

    assert microphone.ac_rms == accelerometer.ac_rms == pytest.approx(np.sqrt((0.08 + 0.02) / 2), rel=1e-4)
    assert microphone.heard_rms == pytest.approx(0.3 / np.sqrt(2), rel=1e-4)
    assert accelerometer.heard_rms == pytest.approx(0.4 / np.sqrt(2), rel=1e-4)
    assert measure(sine(0.2) + np.float32(0.1), RATE).heard_rms == pytest.approx(0.2 / np.sqrt(2), rel=1e-4)


def test_of_microphones_in_opposite_phase_nothing_is_heard() -> None:
    found = measure(np.concatenate([noise(), -noise()], axis=1), RATE)

    assert found.heard_rms < 1e-8 < 0.09 < found.ac_rms


# --- what is listened to ----------------------------------------------------------------------------------------------

CLIPPED = np.clip(noise(1, level=0.3, frames=10 * RATE) * 3, -1, 1)
FLATTENED = np.clip(noise(1, level=0.3, frames=10 * RATE), -0.2, 0.2)
COARSE = np.rint(noise(1, frames=10 * RATE) * 128) / 128
SILENT, STUCK, GAPPED, OFF_CENTRE = (noise(1, frames=10 * RATE) for _ in range(4))
SILENT[: 8 * RATE], STUCK[: 8 * RATE], OFF_CENTRE[:] = 0, 0.1, OFF_CENTRE + 0.2
GAPPED[: 3 * RATE] *= 1e-3


def judged_by(found: SignalMeasures) -> tuple[float, ...]:
    """What is told of the worst channel."""
    return (
        *(found.clipping_ratio, found.flat_top_ratio, found.bits_used),
        *(found.silence_ratio, found.stuck_ratio, found.gap_ratio),
    )


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(CLIPPED, id="clipped"),
        pytest.param(FLATTENED, id="cut flat"),
        pytest.param(COARSE, id="coarse"),
        pytest.param(SILENT, id="silent"),
        pytest.param(STUCK, id="stuck"),
        pytest.param(GAPPED, id="with gaps"),
        pytest.param(OFF_CENTRE, id="off centre"),
    ],
)
def test_a_channel_that_is_heard_is_judged_as_if_it_were_alone_and_one_that_is_not_says_nothing(
    bad: NDArray[np.float32],
) -> None:
    good = noise(2, level=0.05, frames=10 * RATE)
    alone, unspoilt = measure(bad, RATE), measure(good, RATE)
    first, second = np.concatenate([bad, good], axis=1), np.concatenate([good, bad], axis=1)

    for found in (measure(first, RATE), measure(second, RATE), measure(first, RATE, sensor="accelerometer")):
        assert judged_by(found) == judged_by(alone)
        assert found.dc_offset == pytest.approx(alone.dc_offset, abs=1e-3)
    unheard = measure(second, RATE, sensor="accelerometer")
    assert judged_by(unheard) == judged_by(unspoilt)
    assert unheard.dc_offset == pytest.approx(unspoilt.dc_offset, abs=1e-3)


def test_each_channel_of_a_float_file_has_a_full_scale_of_its_own() -> None:
    both = np.concatenate([1.2 * CLIPPED, noise(2, level=0.4, frames=10 * RATE) * 1.8], axis=1)

    assert measure(both, RATE).clipping_ratio == measure(CLIPPED, RATE).clipping_ratio > 0.1


def test_beyond_the_range_counts_what_is_heard_and_cannot_be_held() -> None:
    counts = noise(frames=RATE) * 32768
    both = np.concatenate([counts, np.zeros_like(counts)], axis=1)

    assert measure(noise(), RATE).over_range_ratio == 0
    assert measure(sine(1.9), RATE).over_range_ratio == 0
    assert measure(sine(3.0), RATE).over_range_ratio == pytest.approx(1 - 2 / np.pi * np.arcsin(2 / 3), abs=0.01)
    assert measure(counts, RATE).over_range_ratio > 0.99
    assert measure(both, RATE, sensor="accelerometer").over_range_ratio > 0.99
    assert measure(both[:, ::-1], RATE, sensor="accelerometer").over_range_ratio == 0
    assert measure(np.concatenate([counts, -counts], axis=1), RATE).over_range_ratio == 0
