"""What the spectrum says of sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import soxr
from numpy.typing import NDArray

from engines.spectra import THIRD_OCTAVES_HZ, find_hum, held_band_hz, profile_db, spectrum


def tone(frequency_hz: float, amplitude: float, *, rate: int = 48_000, seconds: float = 2.5) -> NDArray[np.float32]:
    time = np.arange(int(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def noise(seed: int, *, rate: int, seconds: float = 3.0, level: float = 0.1) -> NDArray[np.float32]:
    return (level * np.random.default_rng(seed).normal(size=int(seconds * rate))).astype(np.float32)


def pcm(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """As a 16-bit file holds it."""
    return (np.rint(waveform * 32767) / 32768).astype(np.float32)


# --- power --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [2.5, 40.0])
def test_the_power_of_a_tone_is_that_of_a_tone_whatever_the_length(seconds: float) -> None:
    found = spectrum(tone(1_000, 0.5, rate=8_000, seconds=seconds), 8_000)

    assert found.total == pytest.approx(0.125, rel=0.02)
    assert found.between(np.array([990]), np.array([1_010])) == pytest.approx(found.total, rel=1e-3)


def test_energy_above_a_frequency_is_the_share_of_the_tones_above_it() -> None:
    found = spectrum(tone(1_000, 0.3) + tone(12_000, 0.1), 48_000)

    assert found.share_above(8_000) == pytest.approx(0.1, rel=1e-3)
    assert found.share_above(500) == pytest.approx(1.0, rel=1e-3)
    assert found.share_above(16_000) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_051])
def test_white_noise_has_its_energy_in_proportion_to_the_band(rate: int) -> None:
    assert spectrum(noise(0, rate=rate), rate).share_above(8_000) == pytest.approx(1 - 16_000 / rate, abs=0.01)


def test_an_offset_has_no_part_in_the_spectrum() -> None:
    sound = tone(1_000, 0.3) + tone(12_000, 0.1)

    assert spectrum(sound + np.float32(0.6), 48_000).share_above(8_000) == pytest.approx(0.1, rel=1e-3)


def test_the_nyquist_frequency_itself_is_not_counted_twice() -> None:
    alternating = np.where(np.arange(48_000) % 2, -0.1, 0.1).astype(np.float32)
    found = spectrum(alternating + tone(1_000, 0.1 * np.sqrt(2), seconds=1), 48_000)

    assert found.share_above(8_000) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("samples", [1, 7, 48_000])
def test_a_constant_has_no_energy_above_anything_and_no_hum(samples: int) -> None:
    found = spectrum(np.full(samples, 0.5, dtype=np.float32), 48_000)

    assert found.share_above(8_000) == 0
    assert find_hum(found).share == 0
    assert held_band_hz(found) == 24_000


# --- the band that is really there --------------------------------------------------------------------------------


def test_a_file_of_44_khz_that_holds_4_khz_of_sound_is_seen_through() -> None:
    narrow = noise(1, rate=8_000)
    wide = pcm(soxr.resample(narrow, 8_000, 44_100, quality="HQ"))

    assert held_band_hz(spectrum(wide, 44_100)) == pytest.approx(4_000, rel=0.1)


def test_white_and_fading_noise_hold_their_whole_band() -> None:
    fading = scipy.signal.lfilter(*scipy.signal.butter(2, 1_000, fs=44_100), noise(2, rate=44_100))

    assert held_band_hz(spectrum(noise(2, rate=44_100), 44_100)) == 22_050
    assert held_band_hz(spectrum(pcm(fading), 44_100)) == 22_050


@pytest.mark.parametrize("spacing_hz", [440, 100])
def test_tones_alone_are_no_wall(spacing_hz: float) -> None:
    tones = (tone(spacing_hz * k, 0.02) for k in range(1, int(9_000 / spacing_hz)))
    sound = sum(tones, np.zeros(120_000, dtype=np.float32))

    assert held_band_hz(spectrum(pcm(sound), 48_000)) == 24_000


@pytest.mark.parametrize(("step_db", "held_hz"), [(25, 24_000), (35, 8_000)])
def test_a_step_is_a_wall_from_thirty_decibels_on(step_db: float, held_hz: float) -> None:
    below = soxr.resample(noise(1, rate=16_000), 16_000, 48_000)
    above = noise(2, rate=48_000, level=0.1 * float(np.sqrt(3)) * 10 ** (-step_db / 20))

    assert held_band_hz(spectrum(below + above, 48_000)) == pytest.approx(held_hz, rel=0.07)


# --- hum ----------------------------------------------------------------------------------------------------------


def comb(
    mains_hz: float, *, harmonics: tuple[int, ...] = (1, 2, 3, 5, 7), powers: tuple[float, ...] | None = None
) -> NDArray[np.float32]:
    """Harmonics of amplitudes that fall by their number, or of the powers given."""
    amplitudes = [0.1 / k for k in harmonics] if powers is None else np.sqrt(2 * np.array(powers))
    tones = (tone(mains_hz * k, each, rate=16_000, seconds=5) for k, each in zip(harmonics, amplitudes, strict=True))
    return sum(tones, np.zeros(80_000, dtype=np.float32))


FAINT = noise(5, rate=16_000, seconds=5, level=1e-4)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_hum_is_found_with_its_frequency_and_share(mains_hz: float) -> None:
    sound = comb(mains_hz) + noise(3, rate=16_000, seconds=5, level=0.05)
    hum = find_hum(spectrum(sound, 16_000))

    assert hum.mains_hz == mains_hz
    assert hum.share == pytest.approx(comb(mains_hz).var() / sound.var(), abs=0.03)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(comb(48.6), id="a motor that slips"),
        pytest.param(comb(49.7), id="a motor that hardly slips"),
        pytest.param(comb(60.35, harmonics=(1, 2, 3)), id="a drive that runs a little faster"),
        pytest.param(comb(50.0, harmonics=(1, 3)) + FAINT, id="two harmonics"),
        pytest.param(comb(50.0, harmonics=(1, 3, 5), powers=(1e-2, 1e-2, 1e-5)) + FAINT, id="and a trace of a third"),
        pytest.param(
            comb(50.0, harmonics=(1, 2, 3, 4, 5, 6), powers=(5e-4, 1e-2, 5e-4, 1e-2, 5e-4, 1e-2)) + FAINT,
            id="a motor's magnets and a trace of the odd ones",
        ),
        pytest.param(comb(50.0, harmonics=(2, 4, 6, 8)), id="a motor's magnets"),
        pytest.param(tone(100, 0.3, rate=16_000, seconds=5), id="a single tone"),
        pytest.param(noise(4, rate=16_000, seconds=5), id="noise"),
    ],
)
def test_what_is_no_comb_of_the_mains_is_no_hum(sound: NDArray[np.float32]) -> None:
    assert find_hum(spectrum(sound, 16_000)).share < 0.1


@pytest.mark.parametrize("drift_hz", [-0.2, -0.07, 0.04, 0.1, 0.2])
@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_hum_is_found_wherever_a_grid_may_drift(mains_hz: float, drift_hz: float) -> None:
    sound = comb(mains_hz + drift_hz, harmonics=(1, 3, 5, 7, 9, 11)) + FAINT
    hum = find_hum(spectrum(sound, 16_000))

    assert (hum.mains_hz, hum.share) == (mains_hz, pytest.approx(1, abs=0.01))


def test_harmonics_that_hardly_stand_out_are_no_hum() -> None:
    faint = comb(50.0, harmonics=(1, 2, 3, 5, 7), powers=(4e-6,) * 5)  # a window of noise holds a quarter of each

    assert find_hum(spectrum(faint + noise(3, rate=16_000, seconds=5), 16_000)).share == 0
    assert find_hum(spectrum(5 * faint + noise(3, rate=16_000, seconds=5), 16_000)).share > 0


# --- the shape ----------------------------------------------------------------------------------------------------


def test_a_profile_has_a_tone_in_its_band_and_nothing_above_the_limit() -> None:
    levels = profile_db(spectrum(tone(1_000, 0.5, rate=16_000), 16_000), up_to_hz=4_000)

    assert THIRD_OCTAVES_HZ[np.nanargmax(levels)] == pytest.approx(1_008, rel=0.01)
    assert np.nanmax(levels) == pytest.approx(10 * np.log10(0.125), abs=0.1)
    assert np.array_equal(np.isnan(levels), THIRD_OCTAVES_HZ * 2 ** (1 / 6) > 4_000)
    assert np.nanmin(levels) == pytest.approx(np.nanmax(levels) - 60, abs=1e-3)
