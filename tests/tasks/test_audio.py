"""Decoding believes a header only as far as the bytes bear it out."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest
import soundfile

from engines.quality import content_hash, measure
from schemas.errors import PackageError
from schemas.settings import QaLimits
from tasks import audio
from tasks.audio import LongAudio, decode, open_audio

RATE = 16_000
LIMITS = QaLimits()
COARSE = {"PCM_U8": 0.02, "ULAW": 0.02, "ALAW": 0.02}
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
        ("ALAW", "WAV"),
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
    assert audio.samples.shape == (RATE, 1)
    np.testing.assert_allclose(audio.samples[:, 0], SOUND, atol=COARSE.get(subtype, 1e-4))


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
    ("subtype", "container"), [("PCM_16", "WAV"), ("PCM_16", "WAVEX"), ("PCM_16", "RF64"), ("ULAW", "WAV")]
)
def test_a_half_copied_wav_is_not_taken_for_a_short_one(subtype: str, container: str) -> None:
    data = encoded(SOUND, subtype, container)

    assert refusal(data[: len(data) // 2]) == ["clip.undecodable"]


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


PCM = np.rint(20_000 * SOUND).astype("<i2").tobytes()


@pytest.mark.parametrize("promised", [0, 2, len(PCM) // 2])
def test_a_header_that_forgot_to_grow_is_not_believed(promised: int) -> None:
    assert refusal(wav(data=PCM, size=promised)) == ["clip.undecodable"]
    more = f"promises {promised} bytes of samples, {len(PCM) - promised} that it does not name follow"
    with pytest.raises(PackageError, match=more):
        decode(wav(data=PCM, size=promised), LIMITS)


def test_a_second_part_of_samples_is_not_passed_over() -> None:
    behind = chunk(b"LIST", bytes(5001)) + chunk(b"data", PCM)

    assert refusal(wav(data=PCM[:8000]) + behind) == ["clip.undecodable"]


def test_a_short_length_in_the_chunk_of_64_bits_is_not_believed() -> None:
    data = bytearray(encoded(SOUND, container="RF64"))
    at = data.index(b"ds64") + 16
    data[at : at + 8] = struct.pack("<Q", RATE)

    assert data[-2 * RATE - 8 :][:4] == b"data"
    assert refusal(bytes(data)) == ["clip.undecodable"]


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(chunk(b"LIST", np.random.default_rng(0).bytes(100_001)), id="a comment"),
        pytest.param(chunk(b"bext", bytes(602)) + chunk(b"iXML", b"<x/>" * 5000), id="a recorder's chunks"),
        pytest.param(b"TAG" + b"\1" * 125, id="a tag of another kind"),
        pytest.param(np.random.default_rng(0).bytes(4096), id="the rest of a block of the disk"),
        pytest.param(bytes(500_000), id="room that was kept"),
    ],
)
def test_what_a_recorder_writes_behind_the_samples_is_no_lie(behind: bytes) -> None:
    assert len(decode(wav(data=PCM) + behind, LIMITS).samples) == RATE


@pytest.mark.parametrize(
    ("subtype", "found"),
    [("IMA_ADPCM", "IMA ADPCM"), ("MS_ADPCM", "MS ADPCM"), ("GSM610", "GSM 06.10"), ("G721_32", "G721 32")],
)
def test_a_codec_wrapped_in_a_wav_is_refused_as_what_it_is(subtype: str, found: str) -> None:
    with pytest.raises(PackageError, match=f"holds {found} in a WAV file, not WAV or FLAC") as caught:
        decode(encoded(SOUND, subtype), LIMITS)
    assert [problem.rule for problem in caught.value.problems] == ["clip.format"]


def test_an_mp3_wrapped_in_a_wav_is_refused() -> None:
    frames = encoded(SOUND, "MPEG_LAYER_III", "MP3")
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 4000, 1, 0, 12, 1, 0, 144, 1, 0)
    data = b"RIFF" + struct.pack("<I", 50 + len(frames)) + b"WAVE" + chunk(b"fmt ", fmt) + chunk(b"data", frames)

    assert refusal(data) in (["clip.format"], ["clip.undecodable"])


def test_a_half_copied_flac_is_not_taken_for_a_short_one() -> None:
    noise = np.random.default_rng(0).normal(size=4 * RATE) * 0.1
    data = encoded(noise, container="FLAC")

    assert refusal(data[: len(data) // 2]) == ["clip.undecodable"]


def test_only_wav_and_flac_reach_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        container: encoded(SOUND, "PCM_16", container)
        for container in soundfile.available_formats()
        if container not in ("WAV", "WAVEX", "RF64", "FLAC", "RAW", "OGG", "MP3", "SD2", "XI", "WVE")
        and "PCM_16" in soundfile.available_subtypes(container)
    }
    others |= {"OGG": encoded(SOUND, "VORBIS", "OGG"), "MP3": encoded(SOUND, "MPEG_LAYER_III", "MP3")}
    assert len(others) >= 12

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was asked")

    monkeypatch.setattr(soundfile, "SoundFile", refuse)
    for container, data in others.items():
        (rule,) = refusal(data)
        assert rule in ("clip.format", "clip.undecodable"), container


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("MP3", "MPEG_LAYER_III"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("AIFF", "PCM_16"),
        ("CAF", "PCM_16"),
        ("AU", "PCM_16"),
        ("W64", "PCM_16"),
    ],
)
def test_another_format_under_a_wav_name_is_refused_as_what_it_is(container: str, subtype: str) -> None:
    with pytest.raises(PackageError, match=f"holds {container}"):
        decode(encoded(SOUND, subtype, container), LIMITS)


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (b"ID3\x04\0\0\0\0\0\0", "MP3"),
        (b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64", "MP3"),
        (b"\xff\xf1\x50\x80" + bytes(300) + b"\xff\xf1\x50\x80", "AAC"),
        (b"\0\0\0\x20ftypM4A ", "MP4 (M4A, AAC)"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"#!AMR\n", "AMR"),
        (b"BW64\xff\xff\xff\xffWAVEds64", "BW64"),
    ],
)
def test_what_phones_and_recorders_write_is_called_by_its_name(start: bytes, found: str) -> None:
    with pytest.raises(PackageError, match=re.escape(f"holds {found}, not WAV or FLAC")):
        decode(start + bytes(500), LIMITS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is empty"),
        (b"not a sound", "it does not begin as a WAV or FLAC file does"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "it does not begin as a WAV or FLAC file does"),
        (wav(channels=0), "a number of channels that is not possible"),
        (wav(rate=0), "its header lacks a value"),
        (wav(size=2**30), "the header promises 1073741824 bytes of samples, the file holds 3200"),
        (wav(data=b""), "it holds no samples"),
        (wav(bits=0), "written in a way that is not read here"),
    ],
)
def test_a_refusal_says_why_in_our_own_words(data: bytes, why: str) -> None:
    with pytest.raises(PackageError, match=why):
        decode(data, LIMITS)


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


# --- recordings that are too long to be held --------------------------------------------------------------------------


@pytest.fixture
def held_samples(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound that makes a second a long recording."""
    monkeypatch.setattr(audio, "HELD_SAMPLES", RATE - 1)
    return RATE - 1


@pytest.mark.parametrize(("subtype", "container"), [("PCM_16", "WAV"), ("FLOAT", "RF64"), ("PCM_24", "FLAC")])
def test_a_long_recording_is_decoded_block_by_block_as_often_as_it_is_asked_for(
    held_samples: int, subtype: str, container: str
) -> None:
    data = encoded(np.stack([SOUND, -SOUND], axis=1), subtype, container)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")

    found = open_audio(io.BytesIO(data), LIMITS)

    assert isinstance(found, LongAudio)
    assert (found.frames, found.channels, found.sample_rate) == (RATE, 2, RATE)
    for _ in range(2):
        blocks = list(found.blocks(700))
        assert {len(block) for block in blocks[:-1]} == {700}
        assert np.array_equal(np.concatenate(blocks), whole)
    assert np.array_equal(decode(data, LIMITS).samples, whole)


def test_a_recording_at_the_bound_is_held(held_samples: int) -> None:
    assert not isinstance(open_audio(io.BytesIO(encoded(SOUND[:held_samples])), LIMITS), LongAudio)


def test_a_long_recording_that_breaks_off_is_refused_where_it_does(held_samples: int) -> None:
    data = encoded(np.random.default_rng(0).normal(0, 0.1, RATE), "PCM_16", "FLAC")
    found = open_audio(io.BytesIO(data[: len(data) // 2]), LIMITS, name="audio/a.wav")
    with pytest.raises(PackageError) as caught:
        list(found.blocks(100))
    assert [(problem.rule, problem.file) for problem in caught.value.problems] == [("clip.undecodable", "audio/a.wav")]
