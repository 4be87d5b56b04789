"""One pass over one recording: its bytes are read once, decoded once, measured, and brought into standard form.

What is wrong with a signal becomes problems of its clip. Of a recording that passes, a `Sketch` is kept to hold it
against the others; its standard form goes to whoever wants to keep it. Nothing else of the samples outlives the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.fingerprints import fingerprint
from engines.quality import SignalMeasures, measure
from engines.sound_typing import SoundTyping
from engines.spectra import find_hum, held_band_hz, profile_db, spectrum
from engines.speech import speech_ratio
from engines.standardize import Sensor, Standardized, standardize, to_mono
from schemas.errors import PackageError
from schemas.rules import dbfs
from schemas.settings import OnboardSettings, QaLimits
from tasks.audio import DecodedAudio, decode
from tasks.clips import Clip, Sketch, SoundMeasures


class Files(Protocol):
    """Recordings by name, such as a `tasks.packages.PackageArchive`."""

    def read(self, name: str) -> bytes:
        """The content of one file; raises PackageError where it must not be read."""


Keep = Callable[[str, Standardized], None]
"""Takes a recording's path in the package and its standard form; called from several threads."""


def check_signal(
    clip: Clip,
    archive: Files,
    settings: OnboardSettings,
    keep: Keep | None = None,
    *,
    sound_typing: SoundTyping | None = None,
) -> None:
    """Judge one clip by its own signal, and hand the standard form of a good one to `keep`."""
    try:
        data = archive.read(clip.path)
    except PackageError:
        return  # the archive's own problems name it
    try:
        audio = decode(data, settings.qa, name=clip.path)
    except PackageError as error:
        place = {"row": clip.row, "clip_id": clip.clip_id}
        clip.problems += [problem.model_copy(update=place) for problem in error.problems]
        return
    clip.measures = measure(audio.samples, audio.sample_rate, full_scale=audio.full_scale)
    for rule, facts in _signal_faults(clip.measures, clip, settings.qa):
        clip.add(rule, limits=settings.qa, **facts)
    if not clip.is_good:
        return
    standard = _hear(clip, audio)
    for rule, facts in _sound_faults(clip, settings):
        clip.add(rule, limits=settings.qa, **facts)
    if sound_typing is not None:
        _type_sound(clip, standard, sound_typing)
    if keep is not None:
        keep(clip.path, standard)


def _type_sound(clip: Clip, standard: Standardized, sound_typing: SoundTyping) -> None:
    """The one place of the gate that asks whether a recording sounds like the machine it is said to be."""
    machine_type = clip.asset[0]
    heard = sound_typing.other_type(standard.waveform, standard.sample_rate, machine_type)
    if heard is not None:
        clip.add("clip.other_sound", value=machine_type, heard=heard, machine_type=machine_type)


def to_standard(audio: DecodedAudio, *, sensor: Sensor, rate: int) -> Standardized:
    """The standard form of a decoded recording at `rate` Hz, the band that it really holds told in it."""
    mono = to_mono(audio.samples, sensor)
    held_hz = held_band_hz(spectrum(mono, audio.sample_rate))
    return standardize(mono, audio.sample_rate, target_rate=rate, held_hz=held_hz)


def sensor_of(value: object) -> Sensor:
    """The sensor that a cell of the table names; an empty one is a microphone."""
    return "accelerometer" if value == "accelerometer" else "microphone"


def standard_form(clip: Clip, archive: Files, settings: OnboardSettings) -> Standardized:
    """The standard form of a clip that was found good, from its file."""
    audio = decode(archive.read(clip.path), settings.qa, name=clip.path)
    return to_standard(audio, sensor=clip.sensor, rate=clip.standard_rate)


def _hear(clip: Clip, audio: DecodedAudio) -> Standardized:
    """Fill in what the spectrum and the standard form say of a clip."""
    nyquist = min(audio.sample_rate, clip.standard_rate) / 2
    mono = to_mono(audio.samples, clip.sensor)
    heard = spectrum(mono, audio.sample_rate)
    band_hz = held_band_hz(heard)
    standard = standardize(mono, audio.sample_rate, target_rate=clip.standard_rate, held_hz=band_hz)
    waveform, hum = standard.waveform, find_hum(heard)
    clip.sound = SoundMeasures(
        band_hz=band_hz,
        lost_energy=heard.share_above(nyquist) if audio.sample_rate > clip.standard_rate else 0.0,
        hum_ratio=hum.share,
        mains_hz=hum.mains_hz,
        speech_ratio=speech_ratio(waveform, standard.sample_rate, band_hz=standard.bandwidth_hz)
        if clip.sensor == "microphone"
        else 0.0,
    )
    up_to_hz = min(nyquist, band_hz)
    clip.sketch = Sketch(
        fingerprint=fingerprint(heard),
        profile_db=profile_db(heard, up_to_hz=up_to_hz),
        channels_db=_channel_profiles(audio, up_to_hz),
    )
    return standard


def _channel_profiles(audio: DecodedAudio, up_to_hz: float) -> tuple[NDArray[np.float32], ...]:
    channels = audio.samples.T if audio.samples.shape[1] > 1 else ()
    spectra = [spectrum(np.ascontiguousarray(channel), audio.sample_rate) for channel in channels]
    return tuple(profile_db(each, up_to_hz=up_to_hz) for each in spectra)


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
    if found.ac_rms < qa.reject_rms:
        yield "clip.dead", _levels(found.ac_rms, qa.reject_rms)
        return
    if found.ac_rms < qa.warn_rms:
        yield "clip.quiet", _levels(found.ac_rms, qa.warn_rms)
    yield from _clipping_faults(found, qa)
    yield from _still_faults(found, qa)
    yield from _channel_faults(found, clip, qa)
    if found.peak > 1:
        yield "clip.over_scale", {"measured": found.peak}
    if found.bits_used < qa.warn_bits:
        yield "clip.few_bits", {"measured": found.bits_used}
    offset = abs(found.dc_offset) / max(1.0, found.peak)
    if offset > qa.warn_dc_offset:
        yield "clip.dc_offset", {"measured": offset}


def _clipping_faults(found: SignalMeasures, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    if found.clipping_ratio > qa.reject_clipping_ratio:
        yield "clip.clipped_lost", {"measured": found.clipping_ratio}
    elif found.flat_top_ratio > qa.reject_clipping_ratio:
        yield "clip.flat_tops_lost", {"measured": found.flat_top_ratio}
    elif found.clipping_ratio > qa.warn_clipping_ratio:
        yield "clip.clipped", {"measured": found.clipping_ratio}
    elif found.flat_top_ratio > qa.warn_clipping_ratio:
        yield "clip.flat_tops", {"measured": found.flat_top_ratio, "peak_db": dbfs(found.peak)}


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
    elif clip.sensor == "microphone" and found.mono_ratio * found.channels < qa.warn_mono_ratio:
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
