"""The contract every engine keeps, after PyOD's conventions: higher = more anomalous, everywhere.

A *recording* is what a plant sent as one file; a *clip* is a standardized piece of it (at most one segment
long). Several clips of one recording share its `recording_id`. Waveforms are float32 (samples,), mono, linear
full scale; `bandwidth_hz` is the band the recording really holds, which may lie below half the sample rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError

Progress = Callable[[int], None]
"""Called with the number of clips done since the last call."""


@dataclass(frozen=True)
class Clip:
    """Who a waveform is, without the samples.

    `conditions` are the operating conditions it was recorded under, by column of the strict table (`speed_level`,
    …); a condition that was not written down is absent.
    """

    clip_id: str
    recording_id: str
    sample_rate: int
    bandwidth_hz: float
    conditions: Mapping[str, str] = field(default_factory=dict)


class ClipSet:
    """An ordered set of clips whose samples are loaded one at a time, so that a set may exceed memory.

    `load(i)` gives the samples of clip `i`, float (samples,). Every access checks them: an empty clip, a second
    axis, or NaN/Inf is an `InputError` that names the clip.
    """

    def __init__(self, clips: Sequence[Clip], load: Callable[[int], NDArray[np.floating]]) -> None:
        self.clips = tuple(clips)
        self._load = load
        rates = {clip.sample_rate for clip in self.clips}
        if len(rates) > 1:
            raise InputError(f"clips of one set have different sample rates {sorted(rates)}; standardize them first")

    @classmethod
    def from_arrays(
        cls,
        waveforms: Sequence[NDArray[np.floating]],
        *,
        sample_rate: int = 16_000,
        bandwidth_hz: float | None = None,
        recording_ids: Sequence[str] | None = None,
        conditions: Sequence[Mapping[str, str]] | None = None,
    ) -> Self:
        """A set over arrays in memory; each waveform its own recording unless `recording_ids` says otherwise."""
        names = list(recording_ids) if recording_ids is not None else [f"{i}" for i in range(len(waveforms))]
        band = bandwidth_hz if bandwidth_hz is not None else sample_rate / 2
        known = conditions if conditions is not None else [{}] * len(names)
        clips = [Clip(f"{name}#{i}", name, sample_rate, band, known[i]) for i, name in enumerate(names)]
        return cls(clips, lambda i: waveforms[i])

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
        return ((clip, self.waveform(i)) for i, clip in enumerate(self.clips))

    def waveform(self, index: int) -> NDArray[np.float32]:
        """Samples of one clip, float32 (samples,).

        Raises
        ------
        InputError
            The clip is empty, not mono, or holds NaN or Inf.
        """
        samples = np.asarray(self._load(index), dtype=np.float32)
        name = self.clips[index].clip_id
        if samples.ndim != 1:
            raise InputError(f"clip {name!r} has shape {samples.shape}; engines take mono clips (samples,)")
        if samples.size == 0:
            raise InputError(f"clip {name!r} is empty; leave it out or record it again")
        if not np.isfinite(samples).all():
            raise InputError(f"clip {name!r} holds NaN or Inf; leave it out or record it again")
        return samples

    def subset(self, indices: Sequence[int]) -> ClipSet:
        """The clips at `indices`, in that order."""
        chosen = list(indices)
        return ClipSet([self.clips[i] for i in chosen], lambda i: self._load(chosen[i]))

    @property
    def recordings(self) -> list[str]:
        """Recording ids, each once, in the order they first appear."""
        return list(dict.fromkeys(clip.recording_id for clip in self.clips))

    def indices_of(self, recording_id: str) -> list[int]:
        """Where the clips of one recording are."""
        return [i for i, clip in enumerate(self.clips) if clip.recording_id == recording_id]


@dataclass(frozen=True, eq=False)
class AnomalyMap:
    """Where in a clip it is anomalous.

    `values` float32 (frequency, time), NaN where the patch covers padding only; `frequencies_hz` float64
    (frequency,) and `times_s` float64 (time,) are the centres of the cells.
    """

    values: NDArray[np.float32]
    frequencies_hz: NDArray[np.float64]
    times_s: NDArray[np.float64]


class Engine(ABC):
    """A detector of anomalous sound learnt from normal sound alone.

    Attributes
    ----------
    normal_scores_method
        `leave_one_out`, or such as `32_fold` where recordings were left out in so many groups; empty before `fit`.
    """

    name: ClassVar[str]
    normal_scores_method: str = ""

    @abstractmethod
    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        """Learn from the asset's own normals (`target`) and, where the engine can, from others' (`source`).

        Raises
        ------
        InputError
            `target` is empty, has fewer recordings than the engine needs, or holds a broken clip.
        """

    @abstractmethod
    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
        """Anomaly score of each clip, float64 (n,); higher = more anomalous."""

    def anomaly_map(self, clips: ClipSet, index: int) -> AnomalyMap | None:
        """Where clip `index` is anomalous; None from an engine that has no map."""
        return None

    @abstractmethod
    def normal_scores(self) -> NDArray[np.float64]:
        """Leave-one-recording-out scores of the target normals, float64 (n_recordings,).

        Everything learnt from the normals, standardization statistics included, is refitted without the
        recording left out, so that these scores are to new normals what test scores are.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the fitted engine as `engine.json` and `*.safetensors`."""


def recording_scores(clips: ClipSet, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score of each recording, float64 (n_recordings,): the highest of its clips, in `clips.recordings` order.

    The maximum, since one anomalous segment makes a recording anomalous; normals and tests pass through the
    same function, so conformal p-values stay valid for recordings of like length.
    """
    best: dict[str, float] = {}
    for clip, score in zip(clips.clips, scores, strict=True):
        best[clip.recording_id] = max(score, best.get(clip.recording_id, -np.inf))
    return np.array([best[name] for name in clips.recordings], dtype=np.float64)
