"""Clips against each other: copies, near copies, other rates, swapped channels, and normals unlike the others.

All work on what is kept of each recording, a kilobyte; only a pair of recordings that look like one is read again.
Clips are given in the order of the table; quarantined ones take no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.fingerprints import Agreement, agree, look_alikes
from engines.outliers import odd_levels, odd_profiles
from schemas.rules import dbfs
from schemas.settings import QaLimits
from tasks.clips import AssetKey, Clip
from tasks.parallel import ordered_map

LEAST_FOR_CHANNELS = 5
"""Among fewer recordings of several channels nobody can say which way round is the usual one."""

SWAPPED_DB = 3.0
"""How much closer to the usual channels the exchanged ones of a recording must be, dB, and how close at most."""

ReadAgain = Callable[[Clip], NDArray[np.float32]]
"""The waveform of a good clip in standard form."""


def compare_recordings(clips: Iterable[Clip]) -> None:
    """Note exact copies. Of training copies one stays; test copies only warn."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.is_good and clip.measures is not None:
            groups[clip.measures.content_sha256].append(clip)
    for same in groups.values():
        if len(same) > 1:
            _judge_copies(same)


def _judge_copies(same: list[Clip]) -> None:
    """Judge the clips of one recording, given in the order of the table."""
    training = [clip for clip in same if clip.split == "train"]
    tests = [clip for clip in same if clip.split == "test"]
    anomalies = [clip for clip in tests if clip.label == "anomaly"]
    normals = [clip for clip in tests if clip.label == "normal"]
    for clip in training if anomalies else []:
        clip.add("clip.contradiction", other=anomalies[0].clip_id)
    for clip in training[1:] if not anomalies else []:
        clip.add("clip.copy_train", other=training[0].clip_id)
    if anomalies and normals:
        for clip in tests:
            if clip.label:
                clip.add("clip.two_labels", other=(normals if clip.label == "anomaly" else anomalies)[0].clip_id)
    if training and not anomalies:
        for clip in tests:
            clip.add("clip.leak", other=training[0].clip_id)
    else:
        for clip in tests[1:]:
            clip.add("clip.copy", other=tests[0].clip_id)
    first = next(iter(training or tests or same))
    for clip in same:
        if clip.split == "supplemental" and clip is not first:
            clip.add("clip.copy", other=first.clip_id)


def compare_with_known(clips: Iterable[Clip], known: Mapping[AssetKey, frozenset[str]]) -> None:
    """Note good test clips that an earlier package taught their asset as normal."""
    for clip in clips:
        if clip.split != "test" or not clip.is_good or clip.measures is None:
            continue
        if clip.measures.recording_id in known.get(clip.asset, frozenset()):
            clip.add("clip.known_normal", hint=" as an anomaly" if clip.label == "anomaly" else "")


# --- the same recording in another form ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Two clips that may be one recording, and how they agree."""

    first: Clip
    second: Clip
    found: Agreement


def compare_sounds(clips: Iterable[Clip], read_again: ReadAgain, qa: QaLimits, *, workers: int | None = None) -> None:
    """Note recordings that came in before: re-encoded, at another gain or rate, or cut otherwise.

    A training clip that holds nearly all of another one is quarantined, as an exact copy is; one that shares a part
    only warns. Recordings at different standard rates are not compared.
    """
    by_rate: dict[int, dict[str, Clip]] = defaultdict(dict)
    for clip in clips:
        if clip.is_good and clip.measures is not None and clip.sketch is not None:
            # An exact copy has its own words already.
            by_rate[clip.standard_rate].setdefault(clip.measures.content_sha256, clip)
    for rate, different in by_rate.items():
        own = list(different.values())
        for pair in ordered_map(lambda both, rate=rate: _hold(*both, read_again, rate), _pairs(own), workers=workers):
            if pair.found.coherence >= qa.copy_coherence:
                _judge_pair(pair, qa)


def _pairs(clips: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
    prints = np.array([clip.sketch.fingerprint for clip in clips if clip.sketch is not None])
    return [(clips[i], clips[j]) for i, j in look_alikes(prints)] if len(clips) > 1 else []


def _hold(first: Clip, second: Clip, read_again: ReadAgain, rate: int) -> _Pair:
    return _Pair(first, second, agree(read_again(first), read_again(second), rate))


def _judge_pair(pair: _Pair, qa: QaLimits) -> None:
    """Judge two clips of one recording; nothing is said of a clip that is quarantined already."""
    if not (pair.first.is_good and pair.second.is_good):
        return
    # A training clip first, then in the table's order: what is learnt stays.
    kept, again = sorted((pair.first, pair.second), key=lambda clip: clip.split != "train")
    shift, share = abs(pair.found.shift_s), pair.found.overlap
    if share < qa.copy_overlap:
        again.add("clip.overlap", measured=share, other=kept.clip_id)
    elif kept.split == "train" and again.split == "train":
        again.add("clip.near_copy_train", measured=share, other=kept.clip_id, shift=shift)
    elif kept.split == "train" and again.label == "anomaly":
        kept.add("clip.near_contradiction", measured=share, other=again.clip_id)
    elif kept.split == "train" and again.split == "test":
        again.add("clip.near_leak", measured=share, other=kept.clip_id, shift=shift)
    else:
        again.add("clip.near_copy", measured=share, other=kept.clip_id, shift=shift)


# --- clips of one asset -------------------------------------------------------------------------------------------


def compare_within_assets(clips: Iterable[Clip], qa: QaLimits) -> None:
    """Note good clips unlike the rest of their asset; supplemental ones are not judged by it."""
    groups: dict[AssetKey, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.is_good and clip.measures is not None and clip.split != "supplemental":
            groups[clip.asset].append(clip)
    for own in groups.values():
        _judge_rates(own)
        _judge_channels(own)
        for domain in ("target", "source"):
            _ask_about_odd_ones([clip for clip in own if (clip.split, clip.domain) == ("train", domain)], qa)


def _judge_rates(clips: list[Clip]) -> None:
    """Name the clips of one asset that hold another band than most. Rates above the standard one are alike."""
    rated = [(clip, clip.measures.sample_rate) for clip in clips if clip.measures is not None]
    kept = [min(rate, clip.standard_rate) for clip, rate in rated]
    counts = Counter(kept)
    usual = max(counts, key=lambda rate: (counts[rate], rate))
    other = Counter(rate for (_, rate), own in zip(rated, kept, strict=True) if own == usual).most_common(1)[0][0]
    for (clip, rate), own in zip(rated, kept, strict=True):
        if own != usual:
            clip.add("asset.mixed_rates", measured=rate, other=other, standard=clip.standard_rate)


def _judge_channels(clips: list[Clip]) -> None:
    """Name the clips of one asset whose channels are the usual ones in reverse order."""
    by_count: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.sketch is not None and len(clip.sketch.channels_db) > 1:
            by_count[len(clip.sketch.channels_db)].append(clip)
    for own in by_count.values():
        if len(own) >= LEAST_FOR_CHANNELS:
            _name_swapped(own)


def _name_swapped(clips: list[Clip]) -> None:
    levels = np.array([clip.sketch.channels_db for clip in clips if clip.sketch is not None])
    levels = levels[:, :, ~np.isnan(levels).any(axis=(0, 1))]
    usual = np.median(levels, axis=0)
    straight = np.sqrt(((levels - usual) ** 2).mean(axis=(1, 2)))
    crossed = np.sqrt(((levels[:, ::-1] - usual) ** 2).mean(axis=(1, 2)))
    for clip, one, other in zip(clips, straight, crossed, strict=True):
        if other < SWAPPED_DB and one > other + SWAPPED_DB:
            clip.add("asset.swapped_channels", measured=float(one - other))


def _ask_about_odd_ones(clips: list[Clip], qa: QaLimits) -> None:
    """Ask about training normals whose level or spectrum has no neighbours as near as the others' have."""
    heard = [clip for clip in clips if clip.sketch is not None and clip.measures is not None]
    if not heard:
        return
    levels = np.array([dbfs(clip.measures.ac_rms) for clip in heard if clip.measures is not None])
    profiles = np.array([clip.sketch.profile_db for clip in heard if clip.sketch is not None])
    far = zip(
        heard, odd_levels(levels, qa.warn_odd_level_db), odd_profiles(profiles, qa.warn_odd_spectrum_db), strict=True
    )
    for clip, level, shape in far:
        if level:
            clip.add("asset.odd_level", limits=qa, measured=float(level))
        if shape:
            clip.add("asset.odd_spectrum", limits=qa, measured=float(shape))
