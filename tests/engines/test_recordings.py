"""A recording that is read block by block is measured and standardized as one that is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import quality, recordings
from engines.quality import measure, measure_recording
from engines.recordings import HeldRecording, RunningVariance, resample, split
from engines.spectra import mean_spectrum, spectrum
from engines.speech import speech_ratio, speech_ratio_of_pieces
from engines.standardize import head, standardize, standardize_long, to_mono
from tests.engines.test_speech import voice

RATE = 16_000
BLOCK = 5_000


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (recordings, quality):
        monkeypatch.setattr(module, "READ_SAMPLES", BLOCK)


def sound(*, seconds: float = 3.0, channels: int = 1, rate: int = RATE) -> NDArray[np.float32]:
    """Clipped noise with a hole in it and a little off centre."""
    rng = np.random.default_rng(0)
    samples = np.clip(rng.normal(0.02, 0.3, size=(int(seconds * rate), channels)), -0.5, 0.6)
    samples[7_000:12_000] = 0
    return samples.astype(np.float32)


def pieces(waveform: NDArray[np.float32], *sizes: int) -> Iterator[NDArray[np.float32]]:
    return iter(np.split(waveform, np.cumsum(sizes)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bad", [None, np.nan])
def test_no_measure_depends_on_the_blocks(channels: int, bad: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = sound(channels=channels)
    if bad is not None:
        samples[20_001] = bad
    in_blocks = asdict(measure_recording(HeldRecording(samples, RATE)))
    monkeypatch.setattr(quality, "READ_SAMPLES", samples.size)

    whole = asdict(measure(samples, RATE))

    # A flat top that the edge of a block cuts is taken for two.
    assert in_blocks.pop("flat_top_ratio") == pytest.approx(whole.pop("flat_top_ratio"), abs=0.001)
    assert whole["silence_ratio"] > 0.05
    assert in_blocks.keys() == whole.keys()
    for name, value in whole.items():
        assert in_blocks[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name


def test_splitting_keeps_every_sample_and_its_place() -> None:
    waveform = np.arange(1_000, dtype=np.float32)
    found = list(split(pieces(waveform, 10, 300, 0, 7), [100, 250, 400, 400, 50]))
    assert [len(piece) for piece in found] == [100, 250, 400, 250]
    assert np.array_equal(np.concatenate(found), waveform)


@pytest.mark.parametrize(("rate", "target"), [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (16_000, 16_000)])
def test_resampling_piece_by_piece_is_resampling(rate: int, target: int) -> None:
    waveform = sound()[:, 0]
    (whole,) = resample([waveform], rate, target)
    found = np.concatenate(list(resample(pieces(waveform, 1, 10_000, 333), rate, target)))
    assert np.array_equal(found, whole)
    assert len(whole) == round(len(waveform) * target / rate)


def test_the_running_variance_is_the_variance() -> None:
    waveform = sound()[:, 0]
    running = RunningVariance()
    for piece in pieces(waveform, 100, 7_000, 1):
        running.add(piece)
    assert running.count == len(waveform)
    assert running.variance == pytest.approx(waveform.var(dtype=np.float64), rel=1e-12)


def test_a_long_recording_has_the_spectrum_of_its_whole() -> None:
    waveform = sound(seconds=40)[:, 0]
    whole, found = spectrum(waveform, RATE), mean_spectrum(pieces(waveform, 100_000, 3), RATE)
    assert np.array_equal(found.power, whole.power)
    assert np.array_equal(found.first, whole.first)
    assert found.resolution_hz == whole.resolution_hz


@pytest.mark.parametrize("sensor", ["microphone", "accelerometer"])
@pytest.mark.parametrize("rate", [48_000, RATE, 8_000])
def test_a_long_recording_is_standardized_as_a_held_one(sensor: str, rate: int) -> None:
    samples = sound(channels=2, rate=rate)
    held = standardize(samples, rate, target_rate=RATE, sensor=sensor)
    long = standardize_long(HeldRecording(samples, rate), target_rate=RATE, sensor=sensor)
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(long.pieces())), held.codes)
    assert (long.samples, long.sample_rate, long.bandwidth_hz) == (held.samples, RATE, held.bandwidth_hz)
    assert long.lost_energy == pytest.approx(held.lost_energy, rel=1e-9)
    assert (long.lost_energy > 0.1) == (rate > RATE)
    assert np.array_equal(head(long.pieces(), RATE // 2), held.waveform[: RATE // 2])
    assert np.array_equal(head(held.pieces(), 99 * RATE), held.waveform)


def test_the_mean_of_channels_is_their_mean() -> None:
    samples = sound(channels=4)
    assert to_mono(samples, "microphone") == pytest.approx(samples.mean(axis=1), abs=1e-7)


def test_a_voice_in_a_long_recording_is_heard_in_pieces() -> None:
    said = np.concatenate([voice(1, seconds=30), voice(2, seconds=30)])
    whole = speech_ratio(said, RATE, band_hz=8_000)
    in_pieces = speech_ratio_of_pieces(lambda: pieces(said, 77_777, 500_000), RATE, band_hz=8_000)
    assert whole == in_pieces > 0.1
