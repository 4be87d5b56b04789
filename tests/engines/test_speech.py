"""A voice glides; a machine does not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from engines.speech import speech_ratio

RATE = 16_000
LIMIT = 0.1
VOWELS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240), "e": (530, 1840, 2480)}
"""Formants, Hz (Peterson and Barney, 1952)."""


def voice(seed: int, *, pitch_hz: float = 120.0, seconds: float = 10.0) -> NDArray[np.float32]:
    """Syllables of a source-filter synthesizer (Klatt, 1980) with gliding pitch, pauses between them."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * RATE))
    start = 0.2
    while start < seconds - 0.6:
        length = rng.uniform(0.12, 0.35)
        sound_at = int(start * RATE)
        said = _syllable(rng, pitch_hz * rng.uniform(0.85, 1.2), length)
        sound[sound_at : sound_at + len(said)] = said
        start += length + rng.uniform(0.03, 0.25)
    return (0.1 * sound / np.abs(sound).max()).astype(np.float32)


def _syllable(rng: np.random.Generator, pitch_hz: float, length: float) -> NDArray[np.float64]:
    time = np.arange(int(length * RATE)) / RATE
    glide = pitch_hz * 2 ** (rng.uniform(0.1, 0.35) * rng.choice([-1, 1]) * (time / length - 0.5))
    phase = np.cumsum(glide) / RATE
    source = np.diff(np.floor(phase), prepend=0.0)
    for formant in VOWELS[str(rng.choice(list(VOWELS)))]:
        radius, angle = np.exp(-np.pi * 90 / RATE), 2 * np.pi * formant / RATE
        source = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], source)
    return source * np.hanning(len(source))


def hiss(seed: int, level: float) -> NDArray[np.float32]:
    return (level * np.random.default_rng(seed).normal(size=10 * RATE)).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [100.0, 130.0, 210.0])
def test_a_voice_is_heard_alone_and_over_a_quiet_hall(pitch_hz: float) -> None:
    said = voice(1, pitch_hz=pitch_hz)

    assert speech_ratio(said, RATE, band_hz=8_000) > LIMIT
    assert speech_ratio(said + hiss(2, 0.1 * float(said.std())), RATE, band_hz=8_000) > LIMIT


TIME = np.arange(10 * RATE) / RATE
SWEEP = 2 * np.pi * (100 * TIME + 5 * TIME**2)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(np.sin(2 * np.pi * 120 * TIME), id="a tone"),
        pytest.param(np.sign(np.sin(2 * np.pi * 120 * TIME)), id="a buzz"),
        pytest.param(np.sin(SWEEP) + np.sin(2 * SWEEP), id="a machine that runs up"),
        pytest.param(np.random.default_rng(0).normal(size=len(TIME)), id="noise"),
        pytest.param(np.where(np.arange(len(TIME)) % 3200 < 50, 1.0, 0.0), id="knocks"),
        pytest.param(np.zeros(len(TIME)), id="silence"),
    ],
)
def test_a_machine_does_not_speak(sound: NDArray[np.float64]) -> None:
    assert speech_ratio((0.1 * sound).astype(np.float32), RATE, band_hz=8_000) <= LIMIT


def moves(
    *,
    pitch_hz: tuple[float, float] = (100.0, 200.0),
    length_s: tuple[float, float] = (0.12, 0.35),
    pause_s: float = 0.15,
    waver: float = 0.0,
    floor: float = 0.0,
) -> NDArray[np.float32]:
    """A drive's moves, ten seconds: each glides up from a pitch drawn from a range, for a time drawn from another.

    waver: octaves by which the pitch goes to and fro 8 times a second; floor: what is left of the level at the ends.
    """
    rng = np.random.default_rng(5)
    sound: list[NDArray[np.float64]] = []
    while sum(map(len, sound)) < 10 * RATE:
        time = np.arange(int(rng.uniform(*length_s) * RATE)) / RATE
        glide = 0.3 * (time / time[-1] - 0.5) if not waver else waver * np.sin(2 * np.pi * 8 * time)
        phase = 2 * np.pi * np.cumsum(rng.uniform(*pitch_hz) * 2**glide) / RATE
        tones = sum(np.sin(k * phase) / k for k in range(1, 8))
        sound += [tones * (floor + (1 - floor) * np.hanning(len(time))), np.zeros(int(pause_s * RATE))]
    return (0.1 * np.concatenate(sound)[: 10 * RATE]).astype(np.float32) + hiss(3, 1e-4)


def test_irregular_moves_are_taken_for_a_voice() -> None:
    assert speech_ratio(moves(), RATE, band_hz=8_000) > LIMIT


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(moves(length_s=(0.25, 0.25)), id="each as long as the last"),
        pytest.param(moves(pitch_hz=(140, 140)), id="each at the same pitch"),
        pytest.param(moves(pause_s=0, floor=0.6), id="without pauses"),
        pytest.param(moves(waver=0.05), id="that waver"),
    ],
)
def test_moves_of_a_drive_that_are_unlike_syllables_are_none(sound: NDArray[np.float32]) -> None:
    assert speech_ratio(sound, RATE, band_hz=8_000) == 0


def test_nothing_is_said_of_a_band_too_narrow_to_understand_or_a_clip_too_short() -> None:
    assert speech_ratio(voice(1), RATE, band_hz=500) == 0
    assert speech_ratio(voice(1)[:100], RATE, band_hz=8_000) == 0
