"""Decode the bytes of one recording, believing its header only as far as the bytes bear it out.

WAV (also RF64, RIFX and extensible) and FLAC are read, told apart by content and never by the file's name.
Samples come out as float32 (frames, channels) on a linear full scale.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from engines.quality import FULL_SCALE_16_BIT
from schemas.errors import PackageError
from schemas.problems import Problem
from schemas.rules import report
from schemas.settings import QaLimits

_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC"})

_COARSE_FULL_SCALE = {
    "PCM_U8": 127 / 128,
    "PCM_S8": 127 / 128,
    "ULAW": 32124 / 32768,
    "ALAW": 32256 / 32768,
}
"""The largest positive sample of converters coarser than 16 bit (ITU-T G.711 for the companded two)."""


@dataclass(frozen=True)
class DecodedAudio:
    """One recording in memory."""

    samples: NDArray[np.float32]
    """(frames, channels), linear full scale; float files may hold more than ±1, NaN or infinity."""
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


def decode(data: bytes, limits: QaLimits, *, name: str = "") -> DecodedAudio:
    """The samples of a WAV or FLAC file given as bytes.

    Channels, rate and length of the header are held against `limits` and against the bytes that are there before
    any sample is allocated. `name` is only for messages.

    Raises PackageError, with every problem of the header, for what cannot or must not be decoded.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            problems = _header_problems(sound, data, limits, name)
            if problems:
                raise PackageError(" ".join(map(str, problems)), problems)
            promised = sound.frames
            samples = sound.read(frames=promised, dtype="float32", always_2d=True)
            decoded = DecodedAudio(samples, sound.samplerate, sound.format, sound.subtype)
    except soundfile.SoundFileError as error:
        raise _undecodable(name, _reason(data, error)) from error
    if len(samples) < promised:
        raise _undecodable(name, f"the header promises {promised} frames, {len(samples)} can be decoded")
    return decoded


def _header_problems(sound: soundfile.SoundFile, data: bytes, limits: QaLimits, name: str) -> list[Problem]:
    if sound.format not in _FORMATS:
        return [report("clip.format", file=name, found=sound.format)]
    lie = _length_lie(data)
    if lie:
        return [report("clip.undecodable", file=name, why=lie)]
    if sound.frames <= 0:
        return [report("clip.undecodable", file=name, why="it holds no samples")]
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


def _length_lie(data: bytes) -> str | None:
    """What is wrong with the length of a WAV file's samples, where its header promises more than the file holds.

    libsndfile reads such a file without a word, so that a half-copied recording would pass as a short one.
    """
    if data[:4] not in (b"RIFF", b"RIFX", b"RF64") or data[8:12] != b"WAVE":
        return None
    order = ">" if data[:4] == b"RIFX" else "<"
    long_size = None
    position = 12
    while position + 8 <= len(data):
        chunk, size = struct.unpack_from(f"{order}4sI", data, position)
        position += 8
        if chunk == b"ds64" and position + 16 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, position + 8)
        if chunk == b"data":
            # EBU Tech 3306: a size of all ones stands for the 64-bit one in the ds64 chunk.
            promised = long_size if size == 0xFFFFFFFF and long_size is not None else size
            here = len(data) - position
            return (
                f"the header promises {promised} bytes of samples, the file holds {here}" if promised > here else None
            )
        position += size + size % 2
    return "the header leads past the end of the file"


def _reason(data: bytes, error: soundfile.SoundFileError) -> str:
    if not data:
        return "the file is empty"
    return str(getattr(error, "error_string", error)).rstrip(". ")


def _undecodable(name: str, why: str) -> PackageError:
    problem = report("clip.undecodable", file=name, why=why)
    return PackageError(str(problem), [problem])
