"""Recordings as bytes: good ones, and WAV files whose headers say whatever they are told to say."""

from __future__ import annotations

import io
import struct
from functools import cache

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
SECONDS = 2

PCM, ADPCM, FLOAT, ALAW, MULAW, MP3, EXTENSIBLE = 1, 2, 3, 6, 7, 0x55, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")


@cache
def running(number: int, *, seconds: float = SECONDS) -> NDArray[np.float32]:
    """A machine that runs: a hum, its harmonics and noise; another one for each number. (frames,), full scale 1."""
    rng = np.random.default_rng(number)
    time_s = np.arange(round(RATE * seconds)) / RATE
    hum = sum(
        0.05 / order * np.sin(2 * np.pi * (118.0 + number) * order * time_s + rng.uniform(0, 2 * np.pi))
        for order in range(1, 6)
    )
    return (hum + 0.03 * rng.standard_normal(len(time_s))).astype(np.float32)


@cache
def recording(number: int, container: str = "WAV", subtype: str = "PCM_16", *, endian: str = "FILE") -> bytes:
    """A good recording in any form that libsndfile writes."""
    return encoded(running(number), container, subtype, endian=endian)


def encoded(
    samples: NDArray[np.float32], container: str = "WAV", subtype: str = "PCM_16", *, endian: str = "FILE"
) -> bytes:
    """Samples (frames,) or (frames, channels) as a file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


def long_recording(number: int, *, samples: int, channels: int = 1, rate: int = RATE) -> bytes:
    """A 16-bit WAV of so many samples over all channels: a minute of noise, again and again from another place."""
    minute = (1500 * np.random.default_rng(number).standard_normal(1 << 20)).astype("<i2")
    turns = [np.roll(minute, 7919 * turn) for turn in range(samples // len(minute) + 1)]
    return wav(np.concatenate(turns)[:samples].tobytes(), channels=channels, rate=rate)


def wav(
    data: bytes | None = None,
    *,
    tag: int = PCM,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    block: int | None = None,
    data_size: int | None = None,
    riff_size: int | None = None,
    fmt_extra: bytes = b"",
    before: bytes = b"",
    order: str = "<",
) -> bytes:
    """A WAV file with that header and those bytes of samples (default: a good 16-bit recording)."""
    body = (running(90) * 32767).astype(f"{order}i2").tobytes() if data is None else data
    block = channels * bits // 8 if block is None else block
    fmt = struct.pack(
        f"{order}HHIIHH", tag, channels, rate & 0xFFFFFFFF, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits
    )
    chunks = chunk(b"fmt ", fmt + fmt_extra, order=order) + before + chunk(b"data", body, size=data_size, order=order)
    said = 4 + len(chunks) if riff_size is None else riff_size
    return (b"RIFX" if order == ">" else b"RIFF") + struct.pack(f"{order}I", said) + b"WAVE" + chunks


def chunk(name: bytes, body: bytes, *, size: int | None = None, order: str = "<") -> bytes:
    """One RIFF chunk, its size a lie where one is given."""
    return name + struct.pack(f"{order}I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def extensible(guid: bytes, *, bits: int = 16, channels: int = 1, data: bytes | None = None) -> bytes:
    """WAVE_FORMAT_EXTENSIBLE with that sub-format."""
    extra = struct.pack("<HHI", 22, bits, 0) + guid
    return wav(data, tag=EXTENSIBLE, fmt_extra=extra, bits=bits, channels=channels)


def floats(samples: NDArray[np.float32]) -> bytes:
    """A 32-bit float WAV of any values, also such that are no numbers."""
    fact = chunk(b"fact", struct.pack("<I", len(samples)))
    return wav(samples.astype("<f4").tobytes(), tag=FLOAT, bits=32, before=fact)


def with_value(value: float) -> bytes:
    """A float recording one of whose samples is `value`."""
    samples = running(91).copy()
    samples[1000] = value
    return floats(samples)


def flac_of_years() -> bytes:
    """A FLAC whose STREAMINFO promises 2^36 - 1 samples."""
    data = bytearray(recording(92, "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)
