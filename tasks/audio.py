"""Decode one recording, believing its header only as far as the bytes bear it out.

WAV (also RF64, RIFX and extensible) and FLAC are read, told apart by content and never by the file's name. The decoder
(libsndfile) knows dozens of formats more, and every one of its parsers is one that a hostile file may aim at: it is
handed only what begins as one of the two. Samples come out as float32 (frames, channels) on a linear full scale.

What a WAV file wraps must be samples too. A codec's frames (ADPCM, GSM, MP3) are refused like any lossy format: they
shape the noise or cut the band. The companding of telephones (µ-law, A-law; ITU-T G.711) is read: it keeps every sample
by itself, the whole band, and steps that grow with the level, noise 38 dB below the sound.
"""

from __future__ import annotations

import io
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import soundfile
from numpy.typing import NDArray

from engines.quality import FULL_SCALE_16_BIT
from engines.recordings import READ_SAMPLES, HeldRecording
from schemas.errors import PackageError
from schemas.problems import Problem
from schemas.reasons import reason
from schemas.rules import report
from schemas.settings import QaLimits

_RIFF = (b"RIFF", b"RIFX", b"RF64")
_FLAC = b"fLaC"
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC"})

_SAMPLES = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
"""Sample formats, as libsndfile names them, in which each sample stands by itself."""

_CODECS = {"MPEG_LAYER_III": "MP3", "GSM610": "GSM 06.10"}
"""Others by the names that people know, where libsndfile's own differs by more than its underscores."""

_OTHER_FORMATS = (
    ("MP3", re.compile(rb"ID3[\x02-\x04]")),
    ("AAC", re.compile(rb"\xff[\xf0\xf1\xf8\xf9](?=.{2,8191}?\xff[\xf0\xf1\xf8\xf9])", re.DOTALL)),
    # A frame of MPEG 1 or 2, layer 1 to 3, and the next one, which begins with the same two bytes.
    ("MP3", re.compile(rb"(\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff])[^\xf0-\xff](?=.{20,8191}?\1)", re.DOTALL)),
    ("OGG", re.compile(rb"OggS\0")),
    ("AIFF", re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL)),
    ("AVI", re.compile(rb"RIFF.{4}AVI ", re.DOTALL)),
    ("CAF", re.compile(rb"caff\0[\1\2]")),
    ("AU", re.compile(rb"\.snd|dns\.")),
    ("W64", re.compile(rb"riff\x2e\x91\xcf\x11")),
    ("BW64", re.compile(rb"BW64.{4}WAVE", re.DOTALL)),
    ("WMA", re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    ("MP4 (M4A, AAC)", re.compile(rb".{4}ftyp", re.DOTALL)),
    ("AMR", re.compile(rb"#!AMR")),
    ("WavPack", re.compile(rb"wvpk")),
    ("APE", re.compile(rb"MAC ")),
    ("Matroska", re.compile(rb"\x1a\x45\xdf\xa3")),
)
"""Recorders' and converters' other formats by how their files begin."""

_REASONS = {
    **dict.fromkeys((19, 32, 33, 34), "sound.channels"),
    **dict.fromkeys((1, 3, 12, 24, *range(61, 77), 79, 155, 165, 166, 167), "sound.header"),
    **dict.fromkeys((4, 18, 77, 78), "sound.codec"),
}
"""By libsndfile's number of an error (its src/common.h) what it means here."""

_COARSE_FULL_SCALE = {
    "PCM_U8": 127 / 128,
    "PCM_S8": 127 / 128,
    "ULAW": 32124 / 32768,
    "ALAW": 32256 / 32768,
}
"""The largest positive sample of converters coarser than 16 bit (ITU-T G.711 for the companded two)."""


HELD_SAMPLES = 1 << 22
"""Frames × channels up to which a recording is held in memory: 16 MiB as float32, four minutes at 16 kHz."""

_HEAD_BYTES = 1 << 14
"""As much of a file tells its format."""

_MOST_CHUNKS = 10_000
"""No recorder writes more parts before the samples; the decoder gives up sooner."""

_STRAY_BYTES = 4096
_STRAY_SHARE = 0.01
"""So many bytes that no header accounts for may follow the samples, or such a share of them: a tag, or the rest of a
block of the disk. More are samples that the header forgot."""


@dataclass(frozen=True, eq=False)
class Audio(ABC):
    """One recording that can be decoded, an `engines.recordings.Recording`."""

    frames: int
    """Samples of one channel."""
    channels: int
    sample_rate: int
    """Hz."""
    format: str
    """Container, as libsndfile names it: WAV, WAVEX, RF64 or FLAC."""
    subtype: str
    """Sample format, as libsndfile names it: PCM_16, FLOAT, …"""

    @property
    def full_scale(self) -> float:
        """Magnitude from which a sample of this format counts as clipped."""
        return _COARSE_FULL_SCALE.get(self.subtype, FULL_SCALE_16_BIT)

    @abstractmethod
    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """All samples, float32 (size, channels), as `engines.recordings.Recording.blocks` gives them.

        Samples are on a linear full scale; float files may hold more than ±1, NaN or infinity. Raises PackageError
        where the file cannot be decoded to the end that its header promises.
        """


@dataclass(frozen=True, eq=False)
class DecodedAudio(Audio):
    """One recording in memory: samples (frames, channels)."""

    samples: NDArray[np.float32]

    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Views of the samples."""
        return HeldRecording(self.samples, self.sample_rate).blocks(size)


@dataclass(frozen=True, eq=False)
class LongAudio(Audio):
    """One recording that is too long to be held: it is decoded anew each time that it is gone through.

    Two passes at a time would disturb each other.
    """

    content: IO[bytes]
    """The file, open as long as this is used."""
    name: str

    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Decoded block by block."""
        found, size = 0, size or READ_SAMPLES // self.channels
        try:
            self.content.seek(0)
            with soundfile.SoundFile(self.content) as sound:
                while found < self.frames and len(block := sound.read(size, dtype="float32", always_2d=True)):
                    found += len(block)
                    yield block
        except soundfile.SoundFileError as error:
            raise _undecodable(self.name, _reason(error)) from error
        if found < self.frames:
            raise _undecodable(self.name, reason("sound.frames", promised=self.frames, found=found))


def decode(data: bytes, limits: QaLimits, *, name: str = "") -> DecodedAudio:
    """The samples of a WAV or FLAC file given as bytes.

    `name` and errors as in `open_audio`.
    """
    audio = open_audio(io.BytesIO(data), limits, name=name)
    if isinstance(audio, DecodedAudio):
        return audio
    samples = np.concatenate(list(audio.blocks()))
    return DecodedAudio(audio.frames, audio.channels, audio.sample_rate, audio.format, audio.subtype, samples)


def open_audio(content: IO[bytes], limits: QaLimits, *, name: str = "") -> Audio:
    """A WAV or FLAC file that can be read and sought in: decoded, or to be decoded block by block where it is long.

    Channels, rate and length of the header are held against `limits` and against the bytes that are there before
    any sample is allocated. `name` is only for messages.

    Raises PackageError, with every problem of the header, for what cannot or must not be decoded.
    """
    start = content.read(_HEAD_BYTES)
    if (objection := _other_content(start, name)) is not None:
        raise PackageError(str(objection), [objection])
    lie = _length_lie(content)
    content.seek(0)
    try:
        with soundfile.SoundFile(content) as sound:
            problems = _header_problems(sound, lie, limits, name)
            if problems:
                raise PackageError(" ".join(map(str, problems)), problems)
            form = (sound.frames, sound.channels, sound.samplerate, sound.format, sound.subtype)
            if sound.frames * sound.channels > HELD_SAMPLES:
                return LongAudio(*form, content, name)
            samples = sound.read(frames=sound.frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise _undecodable(name, _reason(error)) from error
    audio = DecodedAudio(*form, samples)
    if len(samples) < audio.frames:
        raise _undecodable(name, reason("sound.frames", promised=audio.frames, found=len(samples)))
    return audio


def _other_content(start: bytes, name: str) -> Problem | None:
    """What a file is that does not begin as WAV or FLAC; None where it does."""
    if start.startswith(_FLAC) or (start.startswith(_RIFF) and (len(start) < 12 or start[8:12] == b"WAVE")):
        return None
    for found, beginning in _OTHER_FORMATS:
        if beginning.match(start):
            return report("clip.format", file=name, found=found)
    return report("clip.undecodable", file=name, why=reason("sound.unknown" if start else "sound.empty"))


def _header_problems(sound: soundfile.SoundFile, lie: str | None, limits: QaLimits, name: str) -> list[Problem]:
    if sound.format not in _FORMATS:
        return [report("clip.format", file=name, found=sound.format)]
    if sound.subtype not in _SAMPLES:
        codec = _CODECS.get(sound.subtype, sound.subtype.replace("_", " "))
        return [report("clip.format", file=name, found=f"{codec} in a WAV file")]
    if lie:
        return [report("clip.undecodable", file=name, why=lie)]
    if sound.frames <= 0:
        return [report("clip.undecodable", file=name, why=reason("sound.no_samples"))]
    size = sound.frames * sound.channels
    duration = sound.frames / sound.samplerate
    checks = (
        ("clip.channels", sound.channels, sound.channels > limits.max_channels),
        ("clip.rate_high", sound.samplerate, sound.samplerate > limits.max_sample_rate),
        ("clip.too_large", size, size > limits.max_samples),
        ("clip.long", duration, duration > limits.max_duration_s),
    )
    return [
        report(rule, file=name, limits=limits, value=value, measured=value) for rule, value, broken in checks if broken
    ]


def _length_lie(content: IO[bytes]) -> str | None:
    """What is wrong with the length of a WAV file's samples, where its header promises more than is there, or less.

    libsndfile reads such files without a word, so that a half-copied recording, or one whose recorder was switched off
    before it had mended the header, would pass as a short one.
    """
    length = content.seek(0, io.SEEK_END)
    content.seek(0)
    start = content.read(12)
    if start.startswith(_FLAC):
        return None
    order = ">" if start[:4] == b"RIFX" else "<"
    long_size = None
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > length:
            return reason("sound.chunks")
        content.seek(position)
        header = content.read(24)
        chunk, size = struct.unpack_from(f"{order}4sI", header)
        position += 8
        if chunk == b"ds64" and len(header) == 24:
            (long_size,) = struct.unpack_from("<Q", header, 16)
        if chunk == b"data":
            # EBU Tech 3306: a size of all ones stands for the 64-bit one in the ds64 chunk.
            promised = long_size if size == 0xFFFFFFFF and long_size is not None else size
            here = length - position
            if promised > here:
                return reason("sound.bytes", promised=promised, found=here)
            return _samples_behind(content, position + promised + promised % 2, length, promised, order)
        position += size + size % 2
    return reason("sound.header")


def _samples_behind(content: IO[bytes], position: int, length: int, promised: int, order: str) -> str | None:
    """What is wrong where more than stray bytes follow the samples and are neither chunks of other kinds nor zeros."""
    for _ in range(_MOST_CHUNKS):
        content.seek(position)
        header = content.read(8)
        if len(header) < 8:
            return None
        chunk, size = struct.unpack(f"{order}4sI", header)
        if not (chunk.isascii() and chunk.decode().isprintable()) or position + 8 + size > length:
            break
        position += 8 + size + size % 2
    content.seek(position)
    if length - position <= max(_STRAY_BYTES, _STRAY_SHARE * promised) or not any(content.read(_HEAD_BYTES)):
        return None
    return reason("sound.more_bytes", promised=promised, more=length - position)


def _reason(error: soundfile.SoundFileError) -> str:
    code = getattr(error, "code", 0)
    return reason(_REASONS.get(code, "sound.decoder"), **({} if code in _REASONS else {"code": code}))


def _undecodable(name: str, why: str) -> PackageError:
    problem = report("clip.undecodable", file=name, why=why)
    return PackageError(str(problem), [problem])
