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

from engines.excerpts import find_excerpts
from engines.fingerprints import COMPARED_S, SAME_NOISE, Agreement, agree, look_alikes
from engines.outliers import odd_levels, odd_profiles
from engines.timelines import Link, lay_out
from schemas.rules import dbfs
from schemas.settings import QaLimits
from tasks.clips import AssetKey, Clip
from tasks.parallel import ordered_map

LEAST_FOR_CHANNELS = 5
"""Among fewer recordings of several channels nobody can say which way round is the usual one."""

SWAPPED_DB = 3.0
"""How much closer to the usual channels those of a recording must be in another order, dB, and how close at most."""

ReadAgain = Callable[[Clip, float], NDArray[np.float32]]
"""`engines.fingerprints.COMPARED_S` of a good clip in standard form from a time on, s, or what it has of that."""


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
    """Two clips that may be one recording, by their numbers, and how they agree from `start_s` of the first on."""

    first: int
    second: int
    start_s: float
    found: Agreement


@dataclass(frozen=True)
class _Placed:
    """A clip, and where it lies on the timeline of the sound that it was cut out of, s."""

    clip: Clip
    start_s: float
    stop_s: float

    def shares_s(self, other: _Placed) -> float:
        """How much of the same sound both hold, s."""
        return max(0.0, min(self.stop_s, other.stop_s) - max(self.start_s, other.start_s))

    def share(self, other: _Placed) -> float:
        """How much of this clip the other one holds, 0-1."""
        return self.shares_s(other) / (self.stop_s - self.start_s)

    def holds_the_same(self, other: _Placed) -> bool:
        """Whether the two are exact copies, which have their own words."""
        return _content(self.clip) == _content(other.clip)


def compare_sounds(clips: Iterable[Clip], read_again: ReadAgain, qa: QaLimits, *, workers: int | None = None) -> None:
    """Note recordings that came in before: re-encoded, at another gain or rate, or cut otherwise.

    Clips that hold the same sound, directly or through others, are judged together, as exact copies are: of two
    training clips of which one holds nearly all of the other one stays; those that share a part only warn. So do clips
    that agree in what the machine plays and not in their noise. Different standard rates are not compared.
    """
    by_rate: dict[int, dict[str, list[Clip]]] = defaultdict(dict)
    for clip in clips:
        if clip.is_good and clip.measures is not None and clip.sketch is not None:
            by_rate[clip.standard_rate].setdefault(_content(clip), []).append(clip)
    for rate, by_content in by_rate.items():
        _compare_at(rate, list(by_content.values()), read_again, qa, workers)


def _content(clip: Clip) -> str:
    return clip.measures.content_sha256 if clip.measures else ""


def _compare_at(
    rate: int, recordings: Sequence[list[Clip]], read_again: ReadAgain, qa: QaLimits, workers: int | None
) -> None:
    """Compare recordings, each given with its exact copies."""
    own = [copies[0] for copies in recordings]

    def hold(pair: tuple[int, int, float]) -> _Pair:
        first, second, start_s = pair
        whole, other = read_again(own[first], start_s), read_again(own[second], 0.0)
        return _Pair(first, second, start_s, agree(whole, other, rate, least=qa.copy_coherence))

    held = ordered_map(hold, _pairs(own), workers=workers)
    found = [pair for pair in held if pair.found.coherence >= qa.copy_coherence]
    certain = [pair for pair in found if pair.found.noise >= SAME_NOISE]
    links = [Link(pair.first, pair.second, pair.start_s + pair.found.shift_s) for pair in certain]
    places: dict[int, _Placed] = {}
    for timeline in lay_out(links):
        group = []
        for number, start in timeline.items():
            stop = start + _length_s(own[number])
            group += [_Placed(copy, start, stop) for copy in recordings[number]]
            places[number] = _Placed(own[number], start, stop)
        _judge_group(sorted(group, key=lambda each: each.clip.row), qa)
    for pair in certain:
        _note_overlap(places[pair.first], places[pair.second], qa)
    for pair in found:
        if pair.found.noise < SAME_NOISE:
            _ask_about_alike(own[pair.first], own[pair.second], pair.found)


def _pairs(clips: Sequence[Clip]) -> list[tuple[int, int, float]]:
    """Which two clips are worth a look, and from where on in the first one, s."""
    if len(clips) < 2:
        return []
    sketches = [clip.sketch for clip in clips if clip.sketch is not None]
    alike = look_alikes(np.array([sketch.fingerprint for sketch in sketches]))
    pairs = {pair: (*pair, 0.0) for pair in alike}
    for found in find_excerpts([sketch.windows for sketch in sketches]):
        pair = min(found.whole, found.excerpt), max(found.whole, found.excerpt)
        # With some sound before the excerpt, so that it does not lie where the comparison fades in.
        start_s = max(0.0, found.start_s - COMPARED_S / 4)
        pairs.setdefault(pair, (found.whole, found.excerpt, start_s))
    return list(pairs.values())


def _length_s(clip: Clip) -> float:
    return clip.sketch.samples / clip.standard_rate if clip.sketch else 0.0


def _judge_group(group: Sequence[_Placed], qa: QaLimits) -> None:
    """Judge the good clips of one sound, in the order of the table, as `_judge_copies` does exact copies."""
    anomalies = [each for each in group if (each.clip.split, each.clip.label) == ("test", "anomaly")]
    normals = [each for each in group if (each.clip.split, each.clip.label) == ("test", "normal")]
    training = [each for each in group if each.clip.split == "train"]
    for each in training:
        _add_near("clip.near_contradiction", each, anomalies, qa)
    kept = _keep_once([each for each in training if each.clip.is_good], qa)
    for one, others in ((anomalies, normals), (normals, anomalies)):
        for each in one:
            _add_near("clip.near_two_labels", each, others, qa)
    before: list[_Placed] = []
    for each in (each for each in group if each.clip.split == "test"):
        if not {"clip.leak", "clip.copy"}.intersection(each.clip.reasons):
            _add_near("clip.near_leak", each, kept, qa) or _add_near("clip.near_copy", each, before, qa)
        before.append(each)
    before = kept + before
    for each in (each for each in group if each.clip.split == "supplemental"):
        if "clip.copy" not in each.clip.reasons:
            _add_near("clip.near_copy", each, before, qa)
        before.append(each)


def _keep_once(training: Sequence[_Placed], qa: QaLimits) -> list[_Placed]:
    """Of training clips that hold nearly all of each other one stays: the first, unless a later one holds much more."""
    kept: list[_Placed] = []
    for each in training:
        if not any(each.share(other) >= qa.copy_overlap for other in kept):
            kept = [other for other in kept if other.share(each) < qa.copy_overlap] + [each]
    for each in training:
        if each not in kept:
            _add_near("clip.near_copy_train", each, kept, qa)
    return kept


def _is_near(one: _Placed, other: _Placed, qa: QaLimits) -> bool:
    """Whether one of two clips holds nearly all of the other one, in another form."""
    return max(one.share(other), other.share(one)) >= qa.copy_overlap and not one.holds_the_same(other)


def _add_near(rule: str, each: _Placed, others: Iterable[_Placed], qa: QaLimits) -> bool:
    """Note what a clip is to the first of the others that is nearly it, and say whether there is one."""
    for other in others:
        if _is_near(each, other, qa):
            shift = abs(each.start_s - other.start_s)
            each.clip.add(rule, measured=each.share(other), other=other.clip.clip_id, shift=shift)
            return True
    return False


def _note_overlap(one: _Placed, other: _Placed, qa: QaLimits) -> None:
    """Note that two clips share a part; nothing is said of a clip that is quarantined."""
    if one.clip.is_good and other.clip.is_good and not _is_near(one, other, qa) and one.shares_s(other) > 0:
        kept, again = _in_order(one.clip, other.clip)
        part, whole = (one, other) if again is one.clip else (other, one)
        again.add("clip.overlap", measured=part.share(whole), other=kept.clip_id)


def _ask_about_alike(one: Clip, other: Clip, found: Agreement) -> None:
    """Ask, once a clip, whether two clips that agree in all but their noise are one recording."""
    kept, again = _in_order(one, other)
    if one.is_good and other.is_good and "clip.alike" not in again.reasons:
        again.add("clip.alike", measured=found.coherence, other=kept.clip_id)


def _in_order(one: Clip, other: Clip) -> tuple[Clip, Clip]:
    """A training clip first, then in the table's order: what is learnt stays."""
    kept, again = sorted((one, other), key=lambda clip: (clip.split != "train", clip.row))
    return kept, again


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
    """Name the clips of one asset whose channels are the usual ones in another order."""
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
    for clip, own in zip(clips, levels if levels.shape[2] else (), strict=False):
        order, gain, left = _best_order(own, usual)
        if left < SWAPPED_DB < gain:
            clip.add("asset.swapped_channels", measured=gain, order=", ".join(str(number + 1) for number in order))


def _best_order(own: NDArray[np.float32], usual: NDArray[np.float32]) -> tuple[list[int], float, float]:
    """The order of a recording's channels (channels, bands) that is nearest to the usual one.

    With how much nearer than as recorded, dB, and how far that still is, both over the channels that change places.
    """
    from scipy.optimize import linear_sum_assignment

    squares = ((own[None, :] - usual[:, None]) ** 2).mean(axis=2)
    order = np.asarray(linear_sum_assignment(squares)[1])
    moved = np.flatnonzero(order != np.arange(len(order)))
    if not len(moved):
        return list(order), 0.0, 0.0
    straight, ordered = (float(np.sqrt(squares[moved, at].mean())) for at in (moved, order[moved]))
    return list(order), straight - ordered, ordered


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
