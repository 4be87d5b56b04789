"""Recordings: headers that lie, values that are no sound, and other things under a recording's name.

Each stands in a package of four good normals, so that the package is accepted and only this clip is held back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from schemas.settings import QaLimits
from tests.hostile import sounds, tables, zips
from tests.hostile.case import ACCEPTED, Case, Make, entries, later, zipped
from tests.hostile.sounds import chunk, recording, running, wav

PATH = "audio/hostile.wav"
LIMITS = QaLimits()


def cases() -> Iterator[Case]:
    """Every case of a recording."""
    for what, data in _undecodable().items():
        yield Case(f"a recording with {what}", _listed(data), ACCEPTED, ("clip.undecodable",))
    for what, data in _other_formats().items():
        yield Case(f"{what} under the name of a WAV", _listed(data), ACCEPTED, ("clip.format",))
    for what, (data, *rules) in _beyond_limits().items():
        yield Case(f"a recording {what}", _listed(data), ACCEPTED, tuple(rules))
    for what, data in _readable().items():
        yield Case(f"a recording in {what}", _listed(data), ACCEPTED)
    for what, listed in _long().items():
        yield Case(what, later(partial(_all_listed, *listed)), ACCEPTED)
    for what, (data, note) in _worth_a_word().items():
        yield Case(f"a recording {what}", _listed(data), ACCEPTED, notes=(note,))


def _listed(data: bytes) -> Make:
    return zipped(entries(zips.Entry(PATH, data), rows=[tables.row(PATH)]))


def _all_listed(*recordings: Callable[[], bytes]) -> Make:
    paths = [f"audio/long_{number}.wav" for number in range(len(recordings))]
    files = [zips.Entry(path, make(), method=zips.STORED) for path, make in zip(paths, recordings, strict=True)]
    return zipped(entries(*files, rows=map(tables.row, paths)))


def _undecodable() -> dict[str, bytes]:
    good = wav()
    return {
        "no bytes": b"",
        "the letters RIFF only": b"RIFF",
        "a header and nothing else": wav(b""),
        "half a header": good[:30],
        "noise for a header": b"RIFF" + os.urandom(40) + good[44:],
        "noise for content": os.urandom(50_000),
        "65,535 channels": wav(channels=65535),
        "no channels": wav(channels=0),
        "a rate of 0 Hz": wav(rate=0),
        "a rate of 2^31 Hz": wav(rate=2**31),
        "a rate of 2^32 - 1 Hz": wav(rate=2**32 - 1),
        "samples of 0 bits": wav(bits=0),
        "samples of 65,535 bits": wav(bits=65535),
        "samples beyond the file's end": wav(data_size=2**30),
        "a size of all ones": wav(data_size=2**32 - 1),
        "a size of nothing": wav(data_size=0),
        "half of its samples": good[: len(good) // 2],
        "a chunk that leads past the end": wav(before=chunk(b"LIST", b"", size=2**31)),
        "a million empty chunks": wav(before=chunk(b"junk", b"") * 1_000_000),
        "no format chunk": good[:12] + good[36:],
        "a format chunk of 64 KiB that is not there": good[:16] + struct.pack("<I", 0xFFFF) + good[20:],
        "an unknown sub-format": sounds.extensible(os.urandom(16)),
        "an unknown format tag": wav(tag=0x7FFF),
        "half of a FLAC": recording(93, "FLAC")[:9000],
        "a FLAC's name and nothing else": b"fLaC" + bytes(100),
        "MP3 frames in a WAV's header": wav(os.urandom(9000), tag=sounds.MP3, bits=0, block=1),
        "the table of another package": tables.table(tables.normals()),
        "a program": b"MZ" + bytes(5000),
        "a pickle": b"\x80\x04cposix\nsystem\n(S'touch escaped'\ntR.",
    }


def _other_formats() -> dict[str, bytes]:
    forms = {
        "an MP3": ("MP3", "MPEG_LAYER_III"),
        "an Ogg Vorbis": ("OGG", "VORBIS"),
        "an AIFF": ("AIFF", "PCM_16"),
        "a CAF": ("CAF", "PCM_16"),
        "a Sun AU": ("AU", "PCM_16"),
        "a Wave64": ("W64", "PCM_16"),
        "IMA ADPCM in a WAV": ("WAV", "IMA_ADPCM"),
    }
    return {what: recording(94, *form) for what, form in forms.items()}


def _beyond_limits() -> dict[str, tuple[bytes, *tuple[str, ...]]]:
    clip = running(95)
    stuck = np.full(len(clip), 0.25, dtype=np.float32)
    square = np.sign(np.sin(np.arange(len(clip)) / 20) + 1e-9).astype(np.float32)
    interrupted = np.where(np.arange(len(clip)) < len(clip) // 20, clip, 0).astype(np.float32)
    return {
        "of 1,000 channels": (wav(bytes(2000 * 1000), channels=1000), "clip.channels"),
        "at 1 MHz": (wav(rate=1_000_000), "clip.rate_high"),
        "at 1 Hz that lasts nine hours": (wav(rate=1), "clip.long"),
        "at 100 Hz": (wav(rate=100), "clip.rate_low"),
        "of one sample": (wav(b"\0\1"), "clip.dead", "clip.short"),
        "of years by a FLAC's header": (sounds.flac_of_years(), "clip.long", "clip.too_large"),
        "with a value that is no number": (sounds.with_value(np.nan), "clip.nan"),
        "with one value of 1e38": (sounds.with_value(1e38), "clip.nan"),
        "a million times over full scale": (sounds.floats(running(98) * np.float32(1e6)), "clip.over_scale_lost"),
        "with an infinite value": (sounds.with_value(-np.inf), "clip.nan"),
        "of nothing but NaN": (sounds.floats(np.full(32_000, np.nan, dtype=np.float32)), "clip.nan"),
        "of zeros": (wav(bytes(64_000)), "clip.dead"),
        "stuck at one value": (sounds.encoded(stuck), "clip.dead"),
        "below every converter": (sounds.floats(np.full(32_000, 1e-40, dtype=np.float32)), "clip.dead"),
        "that is all clipped": (sounds.encoded(square), "clip.clipped_lost"),
        "that is nearly all silence": (sounds.encoded(interrupted), "clip.silent"),
    }


def _long() -> dict[str, list[Callable[[], bytes]]]:
    """Good recordings of thirty million samples each: half an hour at 16 kHz."""
    hours = [partial(sounds.long_recording, number, samples=30_000_000) for number in range(3)]
    return {
        "a recording of half an hour": hours[:1],
        "three recordings of half an hour": hours,
        "a recording of minutes in two channels at 96 kHz": [partial(hours[0], channels=2, rate=96_000)],
    }


def _readable() -> dict[str, bytes]:
    stereo = np.stack([running(96), running(97)], axis=1)
    return {
        "8 bits": recording(96, "WAV", "PCM_U8"),
        "24 bits": recording(96, "WAV", "PCM_24"),
        "32 bits": recording(96, "WAV", "PCM_32"),
        "32-bit floats": recording(96, "WAV", "FLOAT"),
        "64-bit floats": recording(96, "WAV", "DOUBLE"),
        "mu-law": recording(96, "WAV", "ULAW"),
        "A-law": recording(96, "WAV", "ALAW"),
        "big-endian order": recording(96, endian="BIG"),
        "the extensible format": sounds.extensible(sounds.PCM_GUID),
        "RF64": recording(96, "RF64"),
        "FLAC": recording(96, "FLAC"),
        "two channels": sounds.encoded(stereo),
        "a WAV with a long comment": wav(before=chunk(b"LIST", os.urandom(100_001))),
        "a WAV whose outer size is wrong": wav(riff_size=99),
        "a WAV with bytes behind its samples": wav() + os.urandom(999),
    }


def _worth_a_word() -> dict[str, tuple[bytes, str]]:
    return {
        "half again over full scale": (sounds.floats(running(98) * np.float32(6)), "clip.over_scale"),
        "off centre": (sounds.encoded(running(99) + np.float32(0.3)), "clip.dc_offset"),
        "too quiet": (sounds.floats(running(100) * np.float32(0.005)), "clip.quiet"),
    }
