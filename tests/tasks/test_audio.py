"""Decoding believes a header only as far as the bytes bear it out."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from engines.quality import content_hash, measure
from schemas.errors import PackageError
from schemas.settings import QaLimits
from tasks.audio import decode

RATE = 16_000
LIMITS = QaLimits()
COARSE = {"PCM_U8": 0.02, "ULAW": 0.02, "GSM610": 0.3}
SOUND = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)


def encoded(samples: np.ndarray, subtype: str = "PCM_16", container: str = "WAV", **options: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=container, subtype=subtype, **options)
    return stream.getvalue()


def wav(
    *, channels: int = 1, rate: int = RATE, bits: int = 16, data: bytes = bytes(3200), size: int | None = None
) -> bytes:
    """A WAV file whose header says whatever it is told to say."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    size = len(data) if size is None else size
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", size) + data


def refusal(data: bytes, limits: QaLimits = LIMITS) -> list[str]:
    with pytest.raises(PackageError) as caught:
        decode(data, limits, name="audio/a.wav")
    assert all(problem.file == "audio/a.wav" for problem in caught.value.problems)
    return [problem.rule for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("subtype", "container"),
    [
        ("PCM_U8", "WAV"),
        ("PCM_16", "WAV"),
        ("PCM_24", "WAV"),
        ("PCM_32", "WAV"),
        ("FLOAT", "WAV"),
        ("DOUBLE", "WAV"),
        ("ULAW", "WAV"),
        ("GSM610", "WAV"),
        ("PCM_16", "WAVEX"),
        ("PCM_16", "RF64"),
        ("PCM_16", "FLAC"),
        ("PCM_24", "FLAC"),
    ],
)
def test_wav_and_flac_of_every_depth_are_decoded(subtype: str, container: str) -> None:
    audio = decode(encoded(SOUND, subtype, container), LIMITS)

    assert audio.samples.dtype == np.float32
    assert audio.sample_rate == RATE
    assert RATE <= len(audio.samples) < RATE + 400  # some codecs fill up their last block
    np.testing.assert_allclose(audio.samples[:RATE, 0], SOUND, atol=COARSE.get(subtype, 1e-4))


def test_big_endian_wav_is_decoded() -> None:
    data = encoded(SOUND, endian="BIG")

    assert data.startswith(b"RIFX")
    assert decode(data, LIMITS).samples.shape == (RATE, 1)


def test_the_same_sound_in_another_lossless_form_has_the_same_content() -> None:
    pcm = np.round(SOUND * 32767) / 32768
    forms = [("PCM_16", "WAV"), ("PCM_24", "WAV"), ("FLOAT", "WAV"), ("PCM_16", "FLAC")]

    assert len({content_hash(decode(encoded(pcm, *form), LIMITS).samples) for form in forms}) == 1


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"])
def test_full_scale_is_clipping_at_every_depth(subtype: str) -> None:
    square = np.sign(SOUND) + (SOUND == 0)
    audio = decode(encoded(square, subtype), LIMITS)

    assert measure(audio.samples, RATE, full_scale=audio.full_scale).clipping_ratio == 1


def test_nan_in_a_float_file_reaches_the_measures() -> None:
    samples = SOUND.copy()
    samples[5] = np.nan
    audio = decode(encoded(samples, "FLOAT"), LIMITS)

    assert measure(audio.samples, audio.sample_rate).has_nan


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a sound",
        b"RIFF",
        bytes(4096),
        wav()[:30],
        wav(channels=65535),
        wav(channels=0),
        wav(rate=0),
        wav(rate=2**31),
        wav(bits=0),
        wav(size=2**30),
        wav(size=2**32 - 1),
        wav(size=0),
        wav(data=b""),
    ],
)
def test_broken_and_lying_files_cannot_be_decoded(data: bytes) -> None:
    assert refusal(data) == ["clip.undecodable"]


@pytest.mark.parametrize(
    ("subtype", "container"), [("PCM_16", "WAV"), ("PCM_16", "WAVEX"), ("PCM_16", "RF64"), ("IMA_ADPCM", "WAV")]
)
def test_a_half_copied_wav_is_not_taken_for_a_short_one(subtype: str, container: str) -> None:
    data = encoded(SOUND, subtype, container)

    assert refusal(data[: len(data) // 2]) == ["clip.undecodable"]


def test_a_half_copied_flac_is_not_taken_for_a_short_one() -> None:
    noise = np.random.default_rng(0).normal(size=4 * RATE) * 0.1
    data = encoded(noise, container="FLAC")

    assert refusal(data[: len(data) // 2]) == ["clip.undecodable"]


@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("AIFF", "PCM_16")])
def test_another_format_under_a_wav_name_is_refused_as_what_it_is(container: str, subtype: str) -> None:
    with pytest.raises(PackageError, match=f"holds {container}"):
        decode(encoded(SOUND, subtype, container), LIMITS)


def test_everything_wrong_with_a_header_is_named_at_once() -> None:
    data = wav(channels=1000, rate=2**31 - 1, data=bytes(2000 * 1000))

    assert refusal(data) == ["clip.channels", "clip.rate_high"]


def test_length_and_size_are_refused_by_the_header_alone() -> None:
    data = encoded(SOUND)

    assert refusal(data, QaLimits(max_duration_s=0.5)) == ["clip.long"]
    assert refusal(data, QaLimits(max_samples=RATE - 1)) == ["clip.too_large"]


def test_a_flac_that_ends_before_its_promised_length_is_refused() -> None:
    data = bytearray(encoded(SOUND, container="FLAC"))
    data[22:26] = struct.pack(">I", 2 * RATE)

    assert refusal(bytes(data)) == ["clip.undecodable"]


def test_a_decoder_that_stops_early_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: np.zeros((5, 1), dtype=np.float32))

    assert refusal(encoded(SOUND)) == ["clip.undecodable"]


def test_a_flac_that_claims_years_of_sound_allocates_nothing() -> None:
    data = bytearray(encoded(SOUND, container="FLAC"))
    # STREAMINFO: the last 36 bits before the MD5 are the number of samples.
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4

    assert refusal(bytes(data)) == ["clip.too_large", "clip.long"]
