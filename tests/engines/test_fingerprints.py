"""The same recording in another form is found; another recording of the same machine is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from engines.fingerprints import (
    DIMENSIONS,
    GROUP_BINS,
    LOOKS,
    SAME_NOISE,
    agree,
    fingerprint,
    look_alikes,
    noise_coherence,
)
from engines.spectra import spectrum
from tests.engines.steady_machine import RATE, machine


def printed(waveform: NDArray[np.float32], rate: int = RATE) -> NDArray[np.int8]:
    return fingerprint(spectrum(waveform, rate))


SOUND = machine(0)


def through(container: str, subtype: str) -> NDArray[np.float32]:
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, RATE, format=container, subtype=subtype)
    return soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32")[0]


FORMS = {
    "a tenth of the level": np.rint(SOUND * 3276.8).astype(np.float32) / 32768,
    "polarity reversed": -SOUND,
    "cut at the start": SOUND[RATE // 2 :],
    "cut on both sides": SOUND[RATE // 5 : -RATE // 5],
    "through 8 kHz": soxr.resample(soxr.resample(SOUND, 2, 1), 1, 2),
    "mu-law": through("WAV", "ULAW"),
    "8 bits": through("WAV", "PCM_U8"),
    "ADPCM": through("WAV", "IMA_ADPCM"),
    "MP3": through("MP3", "MPEG_LAYER_III"),
    "Vorbis": through("OGG", "VORBIS"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_recording_is_found_in_every_form(form: NDArray[np.float32]) -> None:
    prints = np.array([printed(machine(1)), printed(SOUND), printed(form)])

    assert look_alikes(prints) == [(1, 2)]
    assert agree(SOUND, form, RATE).coherence > 0.45


def test_files_of_one_recording_at_several_rates_are_alike() -> None:
    whole = soxr.resample(SOUND, RATE, 48_000)

    assert look_alikes(np.array([printed(SOUND), printed(whole, 48_000), printed(SOUND[::2], 8_000)]))[0] == (0, 1)


def test_other_recordings_of_a_machine_are_not_alike() -> None:
    recordings = [machine(seed) for seed in range(20)]

    assert look_alikes(np.array([printed(each) for each in recordings])) == []
    assert max(agree(recordings[0], other, RATE).coherence for other in recordings[1:]) < 0.1


def test_the_shift_and_the_shared_part_are_told() -> None:
    later = agree(SOUND, SOUND[RATE:], RATE)
    earlier = agree(SOUND[RATE:], SOUND, RATE)

    assert (later.shift_s, earlier.shift_s) == (1.0, -1.0)
    assert min(later.coherence, earlier.coherence) > 0.99


@pytest.mark.parametrize(
    ("one", "other", "shift_s"), [((0, 10), (5, 15), 5.0), ((6, 16), (0, 10), -6.0), ((0, 30), (12, 22), 12.0)]
)
def test_two_halves_and_an_excerpt_agree_in_what_they_share(
    one: tuple[int, int], other: tuple[int, int], shift_s: float
) -> None:
    whole = machine(5, seconds=30)
    found = agree(*(whole[start * RATE : stop * RATE] for start, stop in (one, other)), RATE)

    assert found.shift_s == shift_s
    assert min(found.coherence, found.noise) > 0.95


def test_what_lies_60_db_below_the_loudest_is_no_evidence() -> None:
    """A resampler's noise, say, that both went through."""
    bins = np.fft.rfft(np.random.default_rng(3).normal(size=(3, 4 * RATE)))
    low, high = bins.copy(), bins.copy()
    low[:, 8000:] = 0
    high[:, :8000] = 0
    one, other = (np.fft.irfft(low[i] + 10 ** (-68 / 20) * high[2]).astype(np.float32) for i in (0, 1))

    assert agree(one, other, RATE).coherence < 0.1


def drive(seed: int, *, kind: str, seconds: float = 10.0) -> NDArray[np.float32]:
    """A machine that repeats what a trigger starts, over noise 20 dB below that is of each recording alone."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    speed = {
        "ramp": 10 + 5 * np.clip(time, 0, 8),
        "run-up": 20 + 40 * (1 - np.exp(-time / 3)),
        "servo": 5 + 40 * np.abs(np.sin(2 * np.pi * time / 4)),
    }[kind]
    phase = 2 * np.pi * np.cumsum(speed) / RATE
    sound = sum(np.sin(k * phase + k * k) / k**0.5 for k in range(1, 120))
    return (0.1 * (sound / sound.std() + 0.1 * rng.normal(size=len(time)))).astype(np.float32)


@pytest.mark.parametrize("kind", ["ramp", "run-up", "servo"])
def test_what_a_machine_repeats_agrees_but_not_in_its_noise(kind: str) -> None:
    found, copy = agree(drive(0, kind=kind), drive(1, kind=kind), RATE), drive(0, kind=kind)

    assert found.coherence > 0.5
    assert found.noise < SAME_NOISE / 2
    assert agree(copy, 0.3 * copy, RATE).noise > 0.99


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_recording_keeps_its_noise(form: NDArray[np.float32]) -> None:
    assert agree(SOUND, form, RATE).noise > SAME_NOISE + 0.1


def test_where_they_agree_too_little_the_noise_is_not_looked_at() -> None:
    assert agree(SOUND, machine(1), RATE, least=0.4).noise == 0


def test_a_second_is_too_little_to_tell_noises_apart_but_not_to_tell_them_alike() -> None:
    short, other = (machine(seed, seconds=1.0) for seed in (0, 1))

    assert noise_coherence(short, other, RATE) < SAME_NOISE
    assert noise_coherence(short, short, RATE) > 0.99
    assert noise_coherence(short[: RATE // 4], short[: RATE // 4], RATE) == 0


def test_pure_tones_cannot_be_told_apart_and_are_not_called_copies() -> None:
    time = np.arange(4 * RATE) / RATE
    tones = [(0.3 * np.sin(2 * np.pi * 200 * time + phase)).astype(np.float32) for phase in (0, 1)]

    assert look_alikes(np.array([printed(each) for each in tones])) == []
    assert agree(*tones, RATE).coherence == 0


@pytest.mark.parametrize("sound", [np.zeros(RATE), np.full(RATE, 0.2), np.zeros(1)], ids=["zeros", "constant", "one"])
def test_silence_is_like_nothing(sound: NDArray[np.float64]) -> None:
    prints = np.array([printed(sound.astype(np.float32))] * 3)

    assert not prints.any()
    assert look_alikes(prints) == []
    assert agree(sound.astype(np.float32), sound.astype(np.float32), RATE).coherence == 0


def test_a_thousand_copies_make_a_few_pairs_each_and_chunks_change_nothing() -> None:
    rng = np.random.default_rng(0)
    prints = np.concatenate(
        [np.repeat(rng.integers(-60, 60, (1, DIMENSIONS)), 60, axis=0), rng.integers(-60, 60, (30, DIMENSIONS))]
    ).astype(np.int8)
    pairs = look_alikes(prints)

    assert len(pairs) == LOOKS * 58 + 1
    assert {j for _, j in pairs} == set(range(1, 60))
    assert all(i < j for i, j in pairs)
    assert {j for _, j in look_alikes(prints, chunk=17)} == {j for _, j in pairs}


def test_a_recording_is_held_against_the_two_that_are_likest() -> None:
    prints = np.repeat(np.random.default_rng(0).integers(-60, 60, (1, DIMENSIONS)), 4, axis=0).astype(np.int8)
    prints[0, : DIMENSIONS // 4] = 0

    assert look_alikes(prints) == [(0, 1), (1, 2), (0, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize(("groups", "pairs"), [(7, []), (8, [(0, 1)])])
def test_recordings_that_share_few_groups_with_sound_cannot_be_compared(
    groups: int, pairs: list[tuple[int, int]]
) -> None:
    prints = np.random.default_rng(0).integers(1, 60, (1, DIMENSIONS)).astype(np.int8)
    prints[:, groups * GROUP_BINS :] = 0

    assert look_alikes(np.repeat(prints, 2, axis=0)) == pairs
