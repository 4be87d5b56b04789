"""What every engine does before it learns: look at the normals, hear a clip, decide who is left out together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from engines.base import Clip, ClipSet
from engines.encoders.base import Encoder
from engines.features import Spectrogram
from schemas.errors import InputError

MIN_RECORDINGS = 3
"""Fewest normal recordings of the target that an engine is fitted to by itself."""


def require_normals(target: ClipSet, *, engine: str, least: int = MIN_RECORDINGS) -> None:
    """Refuse too few normals, or two clips of one name.

    Raises
    ------
    InputError
        With the number found and needed, or the name that stands twice.
    """
    count = len(target.recordings)
    if count < least:
        raise InputError(f"{count} normal recordings of the target; engine {engine.upper()} needs {least}: record more")
    if len({clip.clip_id for clip in target.clips}) < len(target):
        raise InputError("two normals of the target have the same clip_id; name each clip once")


def by_clip_id(clips: ClipSet) -> ClipSet:
    """The same clips in the order of their ids, so that what is learnt does not hang on the order they came in."""
    return clips.subset(sorted(range(len(clips)), key=lambda i: clips.clips[i].clip_id))


def folds(recordings: Sequence[str], max_refits: int) -> list[set[str]]:
    """Groups of recordings to leave out together: one each, or `max_refits` interleaved groups of them, sorted."""
    names = sorted(recordings)
    count = min(len(names), max_refits)
    return [set(names[start::count]) for start in range(count)]


def name_method(folds: Sequence[set[str]]) -> str:
    """`leave_one_out` where every fold is one recording, else `32_fold`."""
    return "leave_one_out" if all(len(fold) == 1 for fold in folds) else f"{len(folds)}_fold"


def shared_band(target: ClipSet, indices: Sequence[int], source: ClipSet) -> float:
    """The band in Hz that the targets at `indices` hold, as far as at least one source clip holds it too.

    Beyond it there is nothing to standardize a target by.
    """
    held_by_target = min(target.clips[i].bandwidth_hz for i in indices)
    return min(held_by_target, max(clip.bandwidth_hz for clip in source.clips))


def hear(encoder: Encoder, clip: Clip, waveform: NDArray[np.float32], bandwidth_hz: float) -> Spectrogram:
    """What the encoder hears of a clip up to `bandwidth_hz`.

    Raises
    ------
    InputError
        The clip cannot be heard; it is named.
    """
    held_hz = min(clip.bandwidth_hz, bandwidth_hz)
    with naming(clip):
        return encoder.spectrogram(waveform, sample_rate=clip.sample_rate, bandwidth_hz=bandwidth_hz, held_hz=held_hz)


@contextmanager
def naming(clip: Clip) -> Iterator[None]:
    """What is refused inside is refused by the clip's name.

    Raises
    ------
    InputError
        As it was raised inside, the clip named before it.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"clip {clip.clip_id!r}: {error}") from error


def require_rate(clips: ClipSet, sample_rate: int) -> None:
    """Refuse clips of another sample rate than the model's.

    Raises
    ------
    InputError
        It names the first clip and both rates.
    """
    for clip in clips.clips[:1]:
        if clip.sample_rate != sample_rate:
            raise InputError(
                f"clip {clip.clip_id!r} is sampled at {clip.sample_rate} Hz, the model at {sample_rate} Hz; "
                "standardize it first"
            )
