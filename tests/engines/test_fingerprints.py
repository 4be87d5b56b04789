"""The same recording in another form is found; another recording of the same machine is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from numpy.typing import NDArray

from engines.fingerprints import DIMENSIONS, LOOKS, agree, fingerprint, look_alikes
from engines.spectra import spectrum

RATE = 16_000


def machine(seed: int, *, seconds: float = 4.0) -> NDArray[np.float32]:
    """A machine of steady tones and coloured noise; only the noise differs from recording to recording."""
    time = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    hiss = scipy.signal.lfilter([1], [1, -0.8], rng.normal(size=len(time)))
    tones = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in (97, 194, 388, 1210))
    return (0.03 * hiss + 0.05 * tones).astype(np.float32)


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
    assert later.overlap == earlier.overlap == pytest.approx(0.75)


def test_the_shared_part_of_long_recordings_is_of_their_whole_length() -> None:
    long = machine(5, seconds=50)

    assert agree(long, long[10 * RATE :], RATE).overlap == pytest.approx(0.8)


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
