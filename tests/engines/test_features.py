"""Log-mel spectrograms hear the band that is there, and their statistics can leave a clip out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.features import BandMoments, BandStatistics, FrameGrid, Spectrogram, _mel_filters, log_mel
from schemas.engine_settings import LogMelSettings
from schemas.errors import InputError, UsageError

RATE = 16_000
SETTINGS = LogMelSettings()


def tone(frequency_hz: float, seconds: float = 2.0) -> NDArray[np.float32]:
    """A full-scale sine."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * frequency_hz * t).astype(np.float32)


def noise(seed: int, seconds: float = 2.0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def hear(waveform: NDArray[np.float32], bandwidth_hz: float = 8000.0, held_hz: float | None = None) -> Spectrogram:
    return log_mel(waveform, SETTINGS, sample_rate=RATE, bandwidth_hz=bandwidth_hz, held_hz=held_hz)


@pytest.mark.parametrize("bandwidth_hz", [125, 500, 1000, 2000, 4000, 8000])
def test_no_mel_band_is_interpolated_from_its_neighbours(bandwidth_hz: float) -> None:
    grid = FrameGrid.of(SETTINGS, sample_rate=RATE, bandwidth_hz=bandwidth_hz)
    filters = _mel_filters(RATE, grid.window, grid.n_mels, bandwidth_hz)
    assert np.linalg.matrix_rank(filters) == grid.n_mels
    assert grid.n_mels >= 30


@pytest.mark.parametrize(("bandwidth_hz", "frequency_hz"), [(8000, 440), (8000, 6000), (500, 60), (500, 320)])
def test_a_tone_is_loudest_in_its_own_band(bandwidth_hz: float, frequency_hz: float) -> None:
    heard = hear(tone(frequency_hz), bandwidth_hz)
    loudest = heard.values.mean(axis=1).argmax()
    assert loudest == np.abs(heard.frequencies_hz - frequency_hz).argmin()


def test_tones_20_hz_apart_are_told_apart_in_a_narrow_band_only() -> None:
    def dip_between(bandwidth_hz: float) -> float:
        heard = hear(tone(200) + tone(220), bandwidth_hz)
        levels = np.interp([200, 210, 220], heard.frequencies_hz, heard.values.max(axis=1))
        return float(min(levels[0], levels[2]) - levels[1])

    assert dip_between(500) > dip_between(8000) + 1.0


def test_a_full_scale_sine_reads_about_0_db_before_its_band_is_averaged() -> None:
    assert -12.0 < hear(tone(1000)).values.max() < 0.5


def test_gain_moves_every_cell_by_its_decibels() -> None:
    quiet, loud = hear(noise(0)), hear(noise(0) * np.float32(10.0))
    np.testing.assert_allclose(loud.values - quiet.values, 20.0, atol=1e-3)


def test_silence_reads_as_the_floor() -> None:
    assert (hear(np.zeros(RATE, dtype=np.float32)).values == SETTINGS.floor_db).all()


def test_frames_lie_wholly_inside_the_clip() -> None:
    heard = hear(noise(0, seconds=1.0))
    half_window = SETTINGS.window_s / 2
    assert heard.times_s[0] >= half_window
    assert heard.times_s[-1] <= 1.0 - half_window
    assert heard.hop_s == pytest.approx(SETTINGS.hop_s)
    assert heard.values.shape == (len(heard.frequencies_hz), len(heard.times_s))
    assert heard.values.dtype == np.float32


def test_what_comes_later_never_changes_a_frame() -> None:
    clip = noise(0)
    short, long = hear(clip), hear(np.concatenate([clip, np.zeros(RATE, dtype=np.float32)]))
    np.testing.assert_array_equal(long.values[:, : short.values.shape[1]], short.values)


def test_a_clip_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(InputError, match="shorter than one window"):
        hear(noise(0, seconds=0.02))


@pytest.mark.parametrize("bandwidth_hz", [0, -1, 8001, float("nan")])
def test_a_band_beyond_half_the_sample_rate_is_refused(bandwidth_hz: float) -> None:
    with pytest.raises(InputError, match="bandwidth_hz"):
        hear(noise(0), bandwidth_hz)


def test_normals_are_standardized_to_mean_0_and_deviation_1() -> None:
    heard = [hear(noise(seed)) for seed in range(3)]
    statistics = BandStatistics.of(map(BandMoments.of, heard), std_floor_db=0.1)
    values = np.concatenate([statistics.standardize(one).values for one in heard], axis=1)
    np.testing.assert_allclose(values.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=1), 1.0, atol=1e-4)


def test_bands_that_never_vary_are_standardized_by_the_floor() -> None:
    heard = hear(np.zeros(RATE, dtype=np.float32))
    statistics = BandStatistics.of([BandMoments.of(heard)], std_floor_db=1.0)
    assert (statistics.std == 1.0).all()
    assert np.isfinite(statistics.standardize(hear(noise(0))).values).all()


def test_bands_above_what_a_clip_holds_are_masked_and_read_as_the_normals_mean() -> None:
    statistics = BandStatistics.of([BandMoments.of(hear(noise(0)))], std_floor_db=0.1)
    narrow = hear(noise(1), held_hz=2000.0)
    np.testing.assert_array_equal(narrow.band_mask, narrow.frequencies_hz <= 2000.0)
    values = statistics.standardize(narrow).values
    assert (values[~narrow.band_mask] == 0).all()
    assert (values[narrow.band_mask] != 0).any()


def test_band_statistics_are_of_the_clips_that_hold_each_band() -> None:
    wide, narrow = hear(noise(0)), hear(noise(1) + tone(6000), held_hz=2000.0)
    held = narrow.band_mask
    both = BandStatistics.of(map(BandMoments.of, (wide, narrow)), std_floor_db=0.1)
    alone = BandStatistics.of([BandMoments.of(wide)], std_floor_db=0.1)
    np.testing.assert_array_equal(both.mean[~held], alone.mean[~held])
    np.testing.assert_array_equal(both.std[~held], alone.std[~held])
    frames = np.concatenate([wide.values, narrow.values], axis=1)[held]
    np.testing.assert_allclose(both.mean[held], frames.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(both.std[held], frames.std(axis=1), rtol=1e-4)


def test_bands_that_no_clip_holds_have_no_statistics() -> None:
    with pytest.raises(UsageError, match="held by none of 1 clips"):
        BandStatistics.of([BandMoments.of(hear(noise(0), held_hz=2000.0))], std_floor_db=0.1)


def test_pieces_are_equal_within_a_frame_and_hold_every_frame_once() -> None:
    heard = hear(noise(0, seconds=5.0))
    pieces = heard.pieces(2.0)
    lengths = [len(piece.times_s) for piece in pieces]
    assert len(pieces) == 3
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) * heard.hop_s <= 2.0
    np.testing.assert_array_equal(np.concatenate([piece.times_s for piece in pieces]), heard.times_s)
    np.testing.assert_array_equal(np.concatenate([piece.values for piece in pieces], axis=1), heard.values)


def test_a_short_clip_is_one_piece() -> None:
    assert len(hear(noise(0)).pieces(10.0)) == 1
