"""One pass over one recording: its bytes are read once, decoded once, measured, and brought into standard form.

A recording that is too long to be held lies in a temporary file meanwhile and is decoded block by block, once for
each thing that is asked of it.

What is wrong with a signal becomes problems of its clip. Of a recording that passes, a `Sketch` is kept to hold it
against the others; its standard form goes to whoever wants to keep it. Nothing else of the samples outlives the call.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from engines.excerpts import SEARCHED_S, window_prints
from engines.fingerprints import COMPARED_S, fingerprint
from engines.quality import SignalMeasures, measure_recording
from engines.sound_typing import SoundTyping
from engines.spectra import find_hum, held_band_hz, mean_spectrum, profile_db
from engines.speech import speech_ratio_of_pieces
from engines.standardize import (
    Sensor,
    StandardForm,
    head,
    mono_pieces,
    standard_pieces,
    standardize,
    standardize_long,
    to_waveform,
)
from schemas.errors import PackageError
from schemas.rules import dbfs
from schemas.settings import OnboardSettings, QaLimits
from tasks.audio import Audio, DecodedAudio, LongAudio, open_audio
from tasks.clips import Clip, Sketch, SoundMeasures
from tasks.packages import PackageArchive
from tasks.parallel import give_back_freed_memory

Keep = Callable[[str, StandardForm], None]
"""Takes a recording's path in the package and its standard form; called from several threads."""

HELD_BYTES = 8 << 20
"""Larger files are unpacked into a temporary one instead of memory."""

_ONE_LONG = threading.Lock()
"""What the spectrum of a long recording takes grows with its sample rate: it is not multiplied by the threads."""

LISTENED_S = 60.0
"""As much of a recording is given to a judge of its sound."""


@contextmanager
def opened(path: str, archive: PackageArchive, qa: QaLimits) -> Iterator[Audio]:
    """A recording of a package, for as long as the context lasts; a long one waits until no other is open.

    Raises PackageError where the archive cannot give the file, or where it cannot or must not be decoded.
    """
    with tempfile.SpooledTemporaryFile(HELD_BYTES) as content:
        archive.copy(path, content)
        content.seek(0)
        with opened_file(content, qa, name=path) as audio:
            yield audio


@contextmanager
def opened_file(content: IO[bytes], qa: QaLimits, *, name: str) -> Iterator[Audio]:
    """A recording from its file, for as long as the context lasts; a long one waits until no other is open.

    Raises PackageError where it cannot or must not be decoded.
    """
    audio = open_audio(content, qa, name=name)
    with _alone() if isinstance(audio, LongAudio) else nullcontext():
        yield audio


@contextmanager
def _alone() -> Iterator[None]:
    """While no other long recording is open; nothing that earlier ones or this one took is kept by the threads."""
    with _ONE_LONG:
        give_back_freed_memory()
        try:
            yield
        finally:
            give_back_freed_memory()


def check_signal(
    clip: Clip,
    archive: PackageArchive,
    settings: OnboardSettings,
    keep: Keep | None = None,
    *,
    sound_typing: SoundTyping | None = None,
) -> None:
    """Judge one clip of a package by its own signal, and hand the standard form of a good one to `keep`."""
    try:
        with opened(clip.path, archive, settings.qa) as audio:
            judge_signal(clip, audio, settings, keep, sound_typing=sound_typing)
    except PackageError as error:
        if clip.path in archive.refused:
            return  # the archive's own problems name it
        place = {"row": clip.row, "clip_id": clip.clip_id}
        clip.problems += [problem.model_copy(update=place) for problem in error.problems]


def judge_signal(
    clip: Clip,
    audio: Audio,
    settings: OnboardSettings,
    keep: Keep | None = None,
    *,
    sound_typing: SoundTyping | None = None,
) -> None:
    """Judge a recording that is open, and hand its standard form to `keep` where it is good.

    Raises PackageError where it cannot be decoded to its end.
    """
    clip.measures = measure_recording(audio, sensor=clip.sensor, full_scale=audio.full_scale)
    for rule, facts in _signal_faults(clip.measures, clip, settings.qa):
        clip.add(rule, limits=settings.qa, **facts)
    if clip.is_good:
        _judge_sound(clip, audio, settings, keep, sound_typing)


def _judge_sound(
    clip: Clip, audio: Audio, settings: OnboardSettings, keep: Keep | None, sound_typing: SoundTyping | None
) -> None:
    """Judge a clip whose waveform is good by how it sounds, and hand on its standard form."""
    standard = _hear(clip, audio)
    for rule, facts in _sound_faults(clip, settings):
        clip.add(rule, limits=settings.qa, **facts)
    if sound_typing is not None:
        _type_sound(clip, standard, sound_typing)
    if keep is not None:
        keep(clip.path, standard)


def _type_sound(clip: Clip, standard: StandardForm, sound_typing: SoundTyping) -> None:
    """The one place of the gate that asks whether a recording sounds like the machine it is said to be."""
    machine_type = clip.asset[0]
    heard = sound_typing.other_type(
        head(standard.pieces(), round(LISTENED_S * standard.sample_rate)), standard.sample_rate, machine_type
    )
    if heard is not None:
        clip.add("clip.other_sound", value=machine_type, heard=heard, machine_type=machine_type)


def to_standard(audio: Audio, *, sensor: Sensor, rate: int) -> StandardForm:
    """The standard form of a recording at `rate` Hz, the band that it really holds told in it."""
    held_hz = held_band_hz(mean_spectrum(mono_pieces(audio, sensor), audio.sample_rate))
    return _standardized(audio, sensor=sensor, rate=rate, held_hz=held_hz)


def _standardized(audio: Audio, *, sensor: Sensor, rate: int, held_hz: float | None = None) -> StandardForm:
    if isinstance(audio, DecodedAudio):
        return standardize(audio.samples, audio.sample_rate, target_rate=rate, sensor=sensor, held_hz=held_hz)
    return standardize_long(audio, target_rate=rate, sensor=sensor, held_hz=held_hz)


def sensor_of(value: object) -> Sensor:
    """The sensor that a cell of the table names; an empty one is a microphone."""
    return "accelerometer" if value == "accelerometer" else "microphone"


def some_seconds(clip: Clip, start_s: float, archive: PackageArchive, settings: OnboardSettings) -> NDArray[np.float32]:
    """As much of a clip that was found good, from `start_s` on, as is held against another one; from its file."""
    with opened(clip.path, archive, settings.qa) as audio:
        pieces = standard_pieces(audio, sensor=clip.sensor, target_rate=clip.standard_rate)
        start = round(start_s * clip.standard_rate)
        return head(pieces, start + round(COMPARED_S * clip.standard_rate))[start:]


def _hear(clip: Clip, audio: Audio) -> StandardForm:
    """Fill in what the spectrum and the standard form say of a clip."""
    nyquist = min(audio.sample_rate, clip.standard_rate) / 2
    heard = mean_spectrum(mono_pieces(audio, clip.sensor), audio.sample_rate)
    band_hz = held_band_hz(heard)
    standard = _standardized(audio, sensor=clip.sensor, rate=clip.standard_rate, held_hz=band_hz)
    hum = find_hum(heard)
    clip.sound = SoundMeasures(
        band_hz=band_hz,
        lost_energy=heard.share_above(nyquist) if audio.sample_rate > clip.standard_rate else 0.0,
        hum_ratio=hum.share,
        mains_hz=hum.mains_hz,
        speech_ratio=_speech(standard) if clip.sensor == "microphone" else 0.0,
    )
    up_to_hz = min(nyquist, band_hz)
    clip.sketch = Sketch(
        fingerprint=fingerprint(heard),
        windows=window_prints(head(standard.pieces(), round(SEARCHED_S * standard.sample_rate)), standard.sample_rate),
        profile_db=profile_db(heard, up_to_hz=up_to_hz),
        channels_db=_channel_profiles(audio, up_to_hz),
        samples=standard.samples,
    )
    return standard


def _speech(standard: StandardForm) -> float:
    return speech_ratio_of_pieces(
        lambda: map(to_waveform, standard.pieces()), standard.sample_rate, band_hz=standard.bandwidth_hz
    )


def _channel_profiles(audio: Audio, up_to_hz: float) -> tuple[NDArray[np.float32], ...]:
    return tuple(
        profile_db(mean_spectrum(_channel(audio, number), audio.sample_rate), up_to_hz=up_to_hz)
        for number in range(audio.channels if audio.channels > 1 else 0)
    )


def _channel(audio: Audio, number: int) -> Iterator[NDArray[np.float32]]:
    return (np.ascontiguousarray(block[:, number]) for block in audio.blocks())


def _signal_faults(found: SignalMeasures, clip: Clip, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rules that a waveform breaks, with the facts for their words; of two limits only the graver."""
    if found.has_nan:
        # The other measures would describe the numbers that are left.
        yield "clip.nan", {}
        return
    if found.duration_s < qa.min_duration_s:
        yield "clip.short", {"measured": found.duration_s}
    if found.sample_rate < qa.min_sample_rate:
        yield "clip.rate_low", {"measured": found.sample_rate}
    if found.heard_rms < qa.reject_rms:
        yield _silence_fault(found, clip, qa)
        return
    if found.heard_rms < qa.warn_rms and not _cancels(found, clip, qa):
        yield "clip.quiet", _levels(found.heard_rms, qa.warn_rms)
    yield from _clipping_faults(found, qa)
    yield from _still_faults(found, qa)
    yield from _channel_faults(found, clip, qa)
    if found.over_range_ratio > qa.reject_over_range_ratio:
        yield "clip.over_scale_lost", {"measured": found.over_range_ratio, "peak": found.peak}
    elif found.peak > 1:
        yield "clip.over_scale", {"measured": found.peak}
    if found.bits_used < qa.warn_bits:
        yield "clip.few_bits", {"measured": found.bits_used}
    offset = abs(found.dc_offset) / max(1.0, found.peak)
    if offset > qa.warn_dc_offset:
        yield "clip.dc_offset", {"measured": offset}


def _silence_fault(found: SignalMeasures, clip: Clip, qa: QaLimits) -> tuple[str, dict[str, Any]]:
    """Why nothing is heard: nothing was recorded, or it was in another axis, or the channels cancel."""
    if found.ac_rms >= qa.reject_rms and clip.sensor == "accelerometer":
        return "clip.dead_axis", {"channels": found.channels}
    if found.ac_rms >= qa.reject_rms and _cancels(found, clip, qa):
        return "clip.cancelling_lost", _levels(found.heard_rms, qa.reject_rms)
    return "clip.dead", _levels(found.heard_rms, qa.reject_rms)


def _cancels(found: SignalMeasures, clip: Clip, qa: QaLimits) -> bool:
    return clip.sensor == "microphone" and found.mono_ratio * found.channels < qa.warn_mono_ratio


def _clipping_faults(found: SignalMeasures, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    if found.clipping_ratio > qa.reject_clipping_ratio:
        yield "clip.clipped_lost", {"measured": found.clipping_ratio}
    elif found.flat_top_ratio > qa.reject_clipping_ratio:
        yield "clip.flat_tops_lost", {"measured": found.flat_top_ratio}
    elif found.clipping_ratio > qa.warn_clipping_ratio:
        yield "clip.clipped", {"measured": found.clipping_ratio}
    elif found.flat_top_ratio > qa.warn_clipping_ratio:
        yield "clip.flat_tops", {"measured": found.flat_top_ratio, "level_db": dbfs(found.flat_top_level)}


def _still_faults(found: SignalMeasures, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    if found.silence_ratio > qa.reject_silence_ratio:
        yield "clip.silent", {"measured": found.silence_ratio}
    elif found.silence_ratio > qa.warn_silence_ratio:
        yield "clip.dropouts", {"measured": found.silence_ratio}
    if found.stuck_ratio > qa.reject_silence_ratio:
        yield "clip.stuck_lost", {"measured": found.stuck_ratio}
    elif found.stuck_ratio > qa.warn_stuck_ratio:
        yield "clip.stuck", {"measured": found.stuck_ratio}
    if found.gap_ratio > qa.warn_gap_ratio:
        yield "clip.gaps", {"measured": found.gap_ratio}


def _channel_faults(found: SignalMeasures, clip: Clip, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    if clip.sensor == "accelerometer" and 1 in found.dead_channels:
        yield "clip.dead_axis", {"channels": found.channels}
    elif found.dead_channels:
        dead = ", ".join(map(str, found.dead_channels))
        yield "clip.dead_channel", {"value": dead, "dead": dead, "channels": found.channels}
    elif _cancels(found, clip, qa):
        yield "clip.cancelling", {"measured": found.mono_ratio * found.channels}


def _sound_faults(clip: Clip, settings: OnboardSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rules that the spectrum of a good clip breaks."""
    found, measures, qa = clip.sound, clip.measures, settings.qa
    assert found is not None
    assert measures is not None
    could_hold = min(measures.sample_rate, clip.standard_rate) / 2
    if found.band_hz < qa.warn_band_ratio * could_hold:
        yield "clip.narrow_band", {"measured": found.band_hz, "rate": measures.sample_rate, "nyquist": could_hold}
    if found.lost_energy > settings.standardize.warn_lost_energy:
        allowed = settings.standardize.warn_lost_energy
        yield "clip.lost_energy", {"measured": found.lost_energy, "nyquist": could_hold, "allowed": allowed}
    if found.hum_ratio > qa.warn_hum_ratio:
        yield "clip.hum", {"measured": found.hum_ratio, "mains": found.mains_hz}
    if found.speech_ratio > qa.warn_speech_ratio:
        yield "clip.speech", {"measured": found.speech_ratio}


def _levels(measured: float, limit: float) -> dict[str, Any]:
    return {"measured_db": dbfs(measured), "limit_db": dbfs(limit)}
