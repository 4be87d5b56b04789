"""A package's recordings heard in portions, on several processes or machines, and put together again.

A worker reads the raw package from the store, hears every clip of its portion as the gate does (`tasks.quality.hear`),
stores the standard clips, and writes down the rest as `runs/…/heard/<first>-<last>.parquet`: what was measured, what is
wrong, the sketches that recordings are compared by, and which segments lie where. Whoever judges the package takes that
over and removes it, so that a run's folder holds the same whether its recordings were heard in portions or in one pass.
What a run that was cut off had heard is not heard again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task

from engines.quality import SignalMeasures
from schemas.errors import StoreError
from schemas.problems import Problem
from schemas.references import Package, Run
from tasks import keys
from tasks.clips import Clip, Sketch, SoundMeasures
from tasks.logbook import note
from tasks.packages import PackageArchive, open_package
from tasks.progress import track
from tasks.quality import hear, list_clips
from tasks.spreading import Portion
from tasks.standard_clips import Segment, StandardClips
from tasks.store import ObjectStore, open_store


@task(name="Hear recordings", task_run_name="Hear recordings of {package.name} from {portion.start} on")
def hear_portion(portion: Portion, package: Package, run: Run) -> None:
    """Hear some of a package's recordings, by their place among those that have a file, unless that was done before."""
    store, key = open_store(run.store), _heard_key(portion, run)
    if store.exists(key):
        return
    with (
        store.local_file(package.raw_key) as path,
        open_package(path, run.settings.archive) as archive,
        StandardClips(store, package, run.settings.standardize) as kept,
        track("Judging recordings", total=len(portion)) as advance,
    ):
        listed = list_clips(archive, run.settings)
        clips = listed.readable[portion.start : portion.stop]
        hear(archive, listed, run.settings, clips, progress=advance, keep=kept.add)
        store.put_frame(key, _write_down(clips, archive, kept))
    note(f"{len(clips)} recordings heard")


@dataclass(frozen=True)
class HeardPortions:
    """What was heard of a package's recordings, to be called with its clips that have a file."""

    frames: tuple[pd.DataFrame, ...]
    archive: PackageArchive
    kept: StandardClips

    def __call__(self, clips: list[Clip]) -> None:
        """Fill in what was found of each clip, and tell the archive and the standard clips what concerns them."""
        found = pd.concat(self.frames, ignore_index=True)
        for clip, said in zip(clips, found.to_dict("records"), strict=True):
            # Nothing is read back as NaN.
            row = {str(name): value if isinstance(value, str | bytes) else None for name, value in said.items()}
            _take_over(clip, row)
            if row["failure"] is not None:
                self.archive.note_failure(clip.path, Problem.model_validate_json(row["failure"]))
            if row["segments"] is not None:
                self.kept.adopt(clip.path, json.loads(row["segments"]))


def read_heard(store: ObjectStore, portions: Iterable[Portion], run: Run) -> tuple[pd.DataFrame, ...]:
    """What was written down of each portion, in order; nothing where some is damaged, or was taken away by another
    worker on the same run, who judged first."""
    try:
        return tuple(store.get_frame(_heard_key(portion, run)) for portion in portions)
    except StoreError as error:
        note(f"All recordings are heard again: {error}", level=logging.WARNING)
        return ()


def remove_heard(store: ObjectStore, run: Run) -> None:
    """Remove what was written down in portions; the judgement says it all."""
    for key in list(store.list_keys(_heard_prefix(run))):
        store.delete(key)


def _heard_prefix(run: Run) -> str:
    return keys.run(run.customer, run.run_id, "heard/")


def _heard_key(portion: Portion, run: Run) -> str:
    return f"{_heard_prefix(run)}{portion.start}-{portion.stop}.parquet"


# --- a clip as a row ----------------------------------------------------------------------------------------------

_COLUMNS = ("measures", "sound", "problems", "failure", "segments", "samples")
_ARRAYS = {"fingerprint": np.int8, "windows": np.int8, "profile_db": np.float32, "channels_db": np.float32}


def _write_down(clips: Iterable[Clip], archive: PackageArchive, kept: StandardClips) -> pd.DataFrame:
    rows = [_row(clip, archive.failure(clip.path), kept.of(clip.path)) for clip in clips]
    return pd.DataFrame(rows, columns=[*_COLUMNS, *_ARRAYS, *(f"{name}_shape" for name in _ARRAYS)])


def _row(clip: Clip, failure: Problem | None, segments: list[Segment]) -> dict[str, object]:
    sketch = clip.sketch
    return {
        "measures": None if clip.measures is None else _to_json(asdict(clip.measures)),
        "sound": None if clip.sound is None else _to_json(asdict(clip.sound)),
        "problems": _to_json([problem.model_dump(mode="json") for problem in clip.problems]),
        "failure": None if failure is None else failure.model_dump_json(),
        "segments": _to_json(segments) if segments else None,
        "samples": None if sketch is None else str(sketch.samples),
        **({} if sketch is None else _arrays_of(sketch)),
    }


def _arrays_of(sketch: Sketch) -> dict[str, object]:
    """The arrays as bytes beside their shapes; those of the channels, which are of one length, as one."""
    channels = np.array(sketch.channels_db, dtype=np.float32)
    arrays = {name: channels if name == "channels_db" else getattr(sketch, name) for name in _ARRAYS}
    values = {name: np.ascontiguousarray(array, dtype=_ARRAYS[name]).tobytes() for name, array in arrays.items()}
    return {**values, **{f"{name}_shape": json.dumps(array.shape) for name, array in arrays.items()}}


def _take_over(clip: Clip, row: Mapping[str, Any]) -> None:
    if row["measures"] is not None:
        said = json.loads(row["measures"])
        clip.measures = SignalMeasures(**said | {"dead_channels": tuple(said["dead_channels"])})
    if row["sound"] is not None:
        clip.sound = SoundMeasures(**json.loads(row["sound"]))
    if row["samples"] is not None:
        arrays = {name: _array(row, name) for name in _ARRAYS}
        clip.sketch = Sketch(**arrays | {"channels_db": tuple(arrays["channels_db"]), "samples": int(row["samples"])})
    clip.problems += [Problem.model_validate(problem) for problem in json.loads(row["problems"])]


def _array(row: Mapping[str, Any], name: str) -> NDArray[Any]:
    shape = tuple(json.loads(row[f"{name}_shape"]))
    return np.frombuffer(row[name], dtype=_ARRAYS[name]).reshape(shape).copy()


def _to_json(value: object) -> str:
    """JSON that gives every number back as it was, numpy's too."""
    return json.dumps(value, default=lambda number: number.item())
