"""Hear one recorded file as onboarding hears a file of a package: the same checks, the same standard form.

What is held against other recordings of a package (copies, odd levels) has no place here: a file is judged alone.
Nothing of a file's name or header is believed beyond what `tasks.audio` bears out.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from engines.base import Clip as EngineClip
from engines.base import ClipSet
from engines.quality import RECORDING_ID_DIGITS, content_hash
from engines.standardize import Sensor, StandardForm, Standardized, cut_segments, to_waveform
from schemas.errors import InputError, PackageError, UsageError
from schemas.problems import Problem, Severity
from schemas.rules import report
from schemas.settings import OnboardSettings
from tasks.audio import decode
from tasks.clips import Clip
from tasks.packing import SOUNDS
from tasks.signals import judge_signal, opened_file, sensor_of

_READ_BYTES = 2**20
_NO_ROW = 0
"""A clip of the gate stands in a row of a table; a file heard alone does not, and its problems name none."""


@dataclass(frozen=True)
class Ear:
    """How an asset is listened to: its machine type, sensor, rate in Hz, and the settings it was onboarded by."""

    machine_type: str
    section_id: str
    sensor: Sensor
    sample_rate: int
    settings: OnboardSettings

    @classmethod
    def of_ledger(cls, ledger: pd.DataFrame, settings: OnboardSettings) -> Ear:
        """The ear of an asset, by what its ledger says of the normals it learns from; their most frequent sensor."""
        machine_type = str(ledger["machine_type"].iloc[0])
        normals = ledger[ledger["role"] == "target"]
        said = (normals if len(normals) else ledger)["sensor"].map(sensor_of)
        return cls(
            machine_type=machine_type,
            section_id=str(ledger["section_id"].iloc[0]),
            sensor=sensor_of(said.mode().iloc[0]),
            sample_rate=settings.sample_rate_of(machine_type),
            settings=settings,
        )


@dataclass(frozen=True, eq=False)
class Heard:
    """One file and what was found in it; without `standard` it is not good enough to be judged."""

    name: str
    file_sha: str
    """First digits of the hash of its bytes."""
    recording_id: str | None
    """First digits of the hash of its samples; None where it cannot be decoded."""
    duration_s: float | None
    standard: Standardized | None
    problems: tuple[Problem, ...]
    goes_on: bool = False
    """Whether its beginning was judged before, when the file was shorter."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Rules that it breaks, each once."""
        return tuple(dict.fromkeys(problem.rule for problem in self.problems))

    @property
    def refusal(self) -> Problem | None:
        """Why it is not judged, in the gravest of its problems."""
        return next((problem for problem in self.problems if problem.severity is not Severity.WARN), None)


def hash_bytes(data: bytes) -> str:
    """Sixteen hex digits by which a file is known, whatever it is called."""
    return hashlib.sha256(data).hexdigest()[:RECORDING_ID_DIGITS]


def hear(name: str, data: bytes, ear: Ear) -> Heard:
    """Judge the signal of one file, given as bytes, and bring it into standard form where it is good.

    Raises nothing for what a file may hold: its faults are in `problems`. However long it is, its standard form is
    held in memory, which `ArchiveLimits.max_file_bytes` bounds.
    """
    kept: list[Standardized] = []
    clip = Clip(
        row=_NO_ROW,
        clip_id=name,
        path=name,
        asset=(ear.machine_type, ear.section_id),
        split="test",
        domain="target",
        label="",
        sensor=ear.sensor,
        standard_rate=ear.sample_rate,
        file_is_there=True,
    )
    try:
        with opened_file(io.BytesIO(data), ear.settings.qa, name=name) as audio:
            judge_signal(clip, audio, ear.settings, lambda _, standard: kept.append(_held(standard)))
    except PackageError as error:
        clip.problems += error.problems
    measures = clip.measures
    return Heard(
        name=name,
        file_sha=hash_bytes(data),
        recording_id=measures.recording_id if measures else None,
        duration_s=measures.duration_s if measures else None,
        standard=kept[0] if kept and clip.is_good else None,
        problems=tuple(problem.model_copy(update={"row": None, "clip_id": None}) for problem in clip.problems),
    )


def _held(standard: StandardForm) -> Standardized:
    if isinstance(standard, Standardized):
        return standard
    codes = np.concatenate(list(standard.pieces()))
    return Standardized(codes, standard.sample_rate, standard.bandwidth_hz, standard.lost_energy)


def goes_on(data: bytes, recording_id: str, duration_s: float, ear: Ear) -> bool:
    """Whether a file holds, to its beginning, the recording of that id and length in s, and then more."""
    try:
        audio = decode(data, ear.settings.qa, name="")
    except PackageError:
        return False
    frames = round(duration_s * audio.sample_rate)
    if not 0 < frames < len(audio.samples):
        return False
    return content_hash(audio.samples[:frames])[:RECORDING_ID_DIGITS] == recording_id


def read_regular(path: Path, *, most: int, follow: bool = False) -> tuple[bytes, os.stat_result]:
    """The first `most` + 1 bytes of a plain file, and what the system says of it once they were read.

    A pipe, a device or a socket is opened without waiting for anybody at its other end, and not read.

    Raises
    ------
    OSError
        It is not there, may not be read, or is no plain file; a link is none unless `follow`.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with io.FileIO(os.open(path, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is no plain file")
        parts, left = [], most + 1
        while left > 0 and (part := file.read(min(left, _READ_BYTES))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), os.fstat(file.fileno())


def too_large(name: str, size: int, settings: OnboardSettings) -> Problem | None:
    """Why a file of so many bytes is not even read, or None."""
    limits = settings.archive
    return report("archive.file_bytes", file=name, limits=limits) if size > limits.max_file_bytes else None


def refused_unread(name: str, problem: Problem) -> Heard:
    """A file that was not read, and why."""
    return Heard(name, "", None, None, None, (problem,))


def clips_of(heard: Sequence[Heard], ear: Ear) -> ClipSet:
    """The clips of good recordings, cut and named as those of a ledger are, so that an engine tells no difference."""
    clips: list[EngineClip] = []
    cuts: list[tuple[Standardized, slice]] = []
    for each in heard:
        standard = each.standard
        assert standard is not None
        segments = cut_segments(len(standard.codes), standard.sample_rate, segment_s=ear.settings.standardize.segment_s)
        for number, (start, stop) in enumerate(segments):
            name = f"{each.recording_id}#{number}"
            clips.append(EngineClip(name, str(each.recording_id), standard.sample_rate, standard.bandwidth_hz))
            cuts.append((standard, slice(start, stop)))
    return ClipSet(clips, lambda i: to_waveform(cuts[i][0].codes[cuts[i][1]]))


def is_sound_name(name: str) -> bool:
    """Whether a file of that name is looked at: WAV or FLAC, and not hidden."""
    return not any(part.startswith(".") for part in name.split("/")) and name.lower().endswith(SOUNDS)


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The sounds among files and folders, in the order given, those of a folder by name; each once.

    Links in folders are not followed, and hidden files are not looked at; a file that is named is taken as it is.

    Raises
    ------
    InputError
        A path is not there, or there is no sound in any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if is_sound_name(each.relative_to(path).as_posix()))
            found |= dict.fromkeys(each for each in inside if each.is_file() and not each.is_symlink())
        elif path.is_file():
            found[path] = None
        else:
            raise InputError(f"{path}: there is no such file or folder. Check the path.")
    if not found:
        raise UsageError("there is no WAV or FLAC file in what was named; name files, or a folder that holds some")
    return list(found)
