"""Toy packages: the sounds of `engines.toy` as a plant would send them, `audio/*.wav` and `metadata.csv`.

A package is a folder, or a zip where the name ends in `.zip`. The same plan gives the same bytes: WAV entries are
16-bit PCM, zip entries are stored (noise hardly compresses) with one fixed time, and nothing names the machine or
the day it was made on. It is written beside its place and moved there when complete, so it is never half there.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import uuid
import wave
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.toy import SAMPLE_RATE, ToyClip, ToyPlan, render_clip
from schemas.errors import EnvironmentFault, UsageError
from schemas.metadata import FILE, METADATA_COLUMNS, QA_COLUMNS
from tasks.parallel import keep_freed_memory

_CONFIRMED_BY = "alp toy"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

AddEntry = Callable[[str, bytes], None]


@dataclass(frozen=True)
class ToySummary:
    """What was written: clips in all, and how many of each purpose over all machines."""

    path: Path
    machine_types: tuple[str, ...]
    sections: tuple[str, ...]
    n_clips: int
    n_source: int
    n_target: int
    n_test: int
    n_supplemental: int


def write_toy_package(
    target: Path,
    plan: ToyPlan,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ToySummary:
    """Render the plan into `target`, a zip where its name ends in `.zip` and else a folder.

    `progress` is called with 1 after every clip. With `overwrite`, an earlier toy package gives way; anything else
    that lies there is left alone.

    Raises UsageError where something lies at `target` that may not be replaced, and EnvironmentFault where it
    cannot be written.
    """
    _require_free(target, overwrite=overwrite)
    clips = plan.clips()
    keep_freed_memory()
    with _new_package(target) as add:
        add(FILE, encode_metadata(clips))
        for clip in clips:
            add(clip.relative_path, encode_wav(render_clip(clip)))
            if progress is not None:
                progress(1)
    return _summarize(target, plan, clips)


def encode_wav(samples: NDArray[np.int16]) -> bytes:
    """A mono 16-bit PCM WAV file of int16 (n,) at the toy rate."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def encode_metadata(clips: Sequence[ToyClip]) -> bytes:
    """The package's `metadata.csv`, UTF-8, a row a clip; the quality check adds its columns later."""
    text = io.StringIO()
    columns = [column for column in METADATA_COLUMNS if column not in QA_COLUMNS]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(metadata_row(clip) for clip in clips)
    return text.getvalue().encode()


def metadata_row(clip: ToyClip) -> dict[str, str]:
    """The clip's cells by column; a cell is empty where the contract has nothing to say."""
    has_machine, has_noise = clip.supp_type != "noise", clip.supp_type != "machine"
    confirmed = clip.split != "test"
    fault = clip.fault
    return {
        "relative_path": clip.relative_path,
        "machine_type": clip.machine_type,
        "section_id": clip.section_id,
        "confirmed_normal": "true" if confirmed else "",
        "confirmed_by": _CONFIRMED_BY if confirmed else "",
        "recorded_at": clip.recorded_at.isoformat(),
        "clip_id": clip.clip_id,
        "split": clip.split,
        "domain": clip.domain,
        "label": clip.label,
        "is_anomaly": "true" if clip.label == "anomaly" else "false",
        "sensor": "microphone",
        "speed_level": clip.speed_level if has_machine else "",
        "load_level": clip.load_level if has_machine else "",
        "mic_position_id": clip.mic_position_id,
        "mic_direction": clip.mic_direction,
        "noise_id": clip.noise_id if has_noise else "",
        "operating_mode": clip.operating_mode if has_machine else "",
        "installation": clip.installation,
        "snr_db": f"{clip.snr_db:.1f}" if has_machine and has_noise else "",
        "supp_type": clip.supp_type or "",
        "anomaly_type": fault.anomaly_type if fault else "",
        "anomaly_regions": json.dumps(fault.regions_s) if fault else "",
        "synthetic": "true",
    }


@contextmanager
def _new_package(target: Path) -> Iterator[AddEntry]:
    """Yield the function that adds an entry; move the whole to `target` at the end, or leave no trace."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _is_zip_name(target):
            with zipfile.ZipFile(partial, "x") as archive:
                yield lambda name, content: _add_to_zip(archive, name, content)
        else:
            (partial / "audio").mkdir(parents=True)
            yield lambda name, content: _add_to_folder(partial, name, content)
        _move_into_place(partial, target)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the toy package {target}: {error}; choose a place with room and write access"
        ) from error
    finally:
        _remove(partial)


def _add_to_zip(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
    # Told outright, since Python's defaults differ between operating systems.
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content, compress_type=zipfile.ZIP_STORED)


def _add_to_folder(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _move_into_place(partial: Path, target: Path) -> None:
    if not target.is_dir():
        partial.replace(target)
        return
    # A folder with files in it cannot be replaced in one step: the old one steps aside first.
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    target.rename(aside)
    try:
        partial.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def _require_free(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise UsageError(f"{target} exists already; choose another name, or overwrite it (--overwrite)")
    if target.is_dir() == _is_zip_name(target) or not _is_toy_package(target):
        raise UsageError(f"{target} is no toy package and is not overwritten; choose another name")


def _is_toy_package(path: Path) -> bool:
    """Whether all that lies there is a package whose every row is marked synthetic."""
    try:
        if path.is_dir():
            if any(entry.name not in (FILE, "audio") for entry in path.iterdir()):
                return False
            text = (path / FILE).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(FILE).decode()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    rows = list(csv.DictReader(io.StringIO(text)))
    return bool(rows) and all(row.get("synthetic") == "true" for row in rows)


def _is_zip_name(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _summarize(path: Path, plan: ToyPlan, clips: Sequence[ToyClip]) -> ToySummary:
    by_split = Counter(clip.split for clip in clips)
    train_by_domain = Counter(clip.domain for clip in clips if clip.split == "train")
    return ToySummary(
        path=path,
        machine_types=plan.machine_types,
        sections=plan.sections,
        n_clips=len(clips),
        n_source=train_by_domain["source"],
        n_target=train_by_domain["target"],
        n_test=by_split["test"],
        n_supplemental=by_split["supplemental"],
    )
