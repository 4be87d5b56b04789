"""The clips of a page: pictures, sound, and what is to be said of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.base import AnomalyMap
from tasks.report import plots, sound, words
from tasks.report.words import Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage, ShownClip


@dataclass(frozen=True)
class Stretch:
    """A part of a clip: where it begins and how long it is, % of the clip, and the same in words."""

    start: float
    length: float
    words: str


@dataclass(frozen=True)
class ClipCard:
    """A clip as the page shows it; data URIs of figures and sound. `number` is unique on the page."""

    number: int
    clip: ShownClip
    outcome: str
    tone: str
    duration_s: float
    found: Sequence[str]
    members: Sequence[tuple[str, str]]
    """Of an ensemble, each engine and its p-value."""
    heard: Sequence[Stretch]
    """Stretches above the threshold, by the map."""
    labelled: Sequence[Stretch]
    spectrogram: str
    spectrogram_alt: str
    map: str | None
    map_alt: str
    audio: str


@dataclass(frozen=True)
class ClipGroup:
    """Clips under one heading."""

    anchor: str
    title: str
    lead: str
    cards: Sequence[ClipCard]

    @property
    def with_maps(self) -> bool:
        """Whether a card needs the room of two pictures."""
        return any(card.map for card in self.cards)


def describe_clips(page: AssetPage, say: Words) -> dict[str, Any]:
    """The clips to hear, in groups: the most unusual, faults that were missed, typical normals."""
    clips = [*page.worst, *page.missed, *page.typical]
    gain = sound.common_gain(clip.waveform for clip in clips)
    cards = [_clip_card(number, clip, page, say, gain=gain) for number, clip in enumerate(clips, start=1)]
    first, second = len(page.worst), len(page.worst) + len(page.missed)
    gain_db = 20 * math.log10(gain)
    groups = [
        ClipGroup("worst", say("clips.title.test" if len(page.scores) else "clips.title.normal"), "", cards[:first]),
        ClipGroup("missed", say("clips.title.missed"), say("clips.lead.missed"), cards[first:second]),
        ClipGroup("typical", say("clips.title.typical"), say("clips.lead.typical"), cards[second:]),
    ]
    return {
        "lead": say("clips.lead" if any(card.map for card in cards) else "clips.lead.no_map"),
        "no_map_ensemble": page.selection.engine == "ensemble" and not any(card.map for card in cards),
        "gain": say("clips.gain" if gain_db >= 0 else "clips.gain.down", gain=f"{abs(gain_db):.0f} dB"),
        "groups": [group for group in groups if group.cards],
    }


def _clip_card(number: int, clip: ShownClip, page: AssetPage, say: Words, *, gain: float) -> ClipCard:
    level = plots.measure_level(clip.waveform, clip.sample_rate, clip.bandwidth_hz)
    threshold = page.rule.clip_threshold
    labels = {name: say(f"figure.{name}") for name in ("time", "frequency", "level", "anomaly")}
    found, drawn, map_alt, heard = [], None, "", []
    if clip.map is not None:
        drawn = plots.draw_map(clip.map, level, threshold=threshold, labels=labels)
        peak, time_s, frequency_hz = find_peak(clip.map)
        where = {"time": f"{time_s:.1f}", "frequency": words.hertz(frequency_hz)}
        measured = {"peak": words.number(peak, 2), "threshold": words.number(threshold)}
        map_alt = say("clip.map.alt", clip=clip.clip_id, **measured, **where)
        found.append(say("clip.peak", **where))
        heard = find_stretches(clip.map, threshold, level.duration_s)
        found += _stretches_above(heard, level.duration_s, say)
    if clip.regions:
        found.append(say("clip.regions", stretches=_name_stretches(clip.regions, say)))
    outcome, tone = _outcome(clip)
    return ClipCard(
        number=number,
        clip=clip,
        outcome=say(f"clip.{outcome}" if page.rule.window == 1 else f"clip.window.{outcome}"),
        tone=tone,
        duration_s=level.duration_s,
        found=found,
        members=[(name.upper(), words.probability(p_value)) for name, p_value in clip.members.items()],
        heard=[_stretch(each, level.duration_s, say) for each in heard],
        labelled=[_stretch(each, level.duration_s, say) for each in clip.regions],
        spectrogram=plots.draw_spectrogram(level, regions=clip.regions, labels=labels),
        spectrogram_alt=say(
            "clip.spectrogram.alt",
            clip=clip.clip_id,
            duration=f"{level.duration_s:.1f}",
            bandwidth=words.hertz(clip.bandwidth_hz),
        ),
        map=drawn,
        map_alt=map_alt,
        audio=sound.flac_uri(clip.waveform, clip.sample_rate, gain=gain),
    )


def _outcome(clip: ShownClip) -> tuple[str, str]:
    """The key of what the alarm did on this clip, and its tone."""
    if clip.learnt:
        return "learnt", "plain"
    if clip.grade == "OFF":
        return ("off_fault", "bad") if clip.label == "anomaly" else ("off", "plain")
    if clip.grade == "UNKNOWN" and not clip.alarm:
        return ("unheard_fault", "bad") if clip.label == "anomaly" else ("unheard", "caution")
    if clip.label == "anomaly":
        return ("hit", "good") if clip.alarm else ("miss", "bad")
    if clip.label == "normal":
        return ("false", "bad") if clip.alarm else ("quiet", "good")
    return ("alarm", "caution") if clip.alarm else ("no_alarm", "plain")


def find_peak(found: AnomalyMap) -> tuple[float, float, float]:
    """The highest cell of a map: its value, time s and frequency Hz."""
    row, column = np.unravel_index(int(np.nanargmax(found.values)), found.values.shape)
    return float(found.values[row, column]), float(found.times_s[column]), float(found.frequencies_hz[row])


def find_stretches(found: AnomalyMap, threshold: float, duration_s: float) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) whose highest cell lies above the threshold, at the map's resolution in time."""
    heard = np.asarray(~np.isnan(found.values).all(axis=0))
    above = np.zeros(len(heard), dtype=bool)
    above[heard] = np.nanmax(found.values[:, heard], axis=0) > threshold
    edges = plots.cell_edges(found.times_s, 0.0, duration_s)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]])))
    return [(float(edges[start]), float(edges[stop])) for start, stop in borders.reshape(-1, 2)]


def _stretches_above(stretches: Sequence[tuple[float, float]], duration_s: float, say: Words) -> list[str]:
    if not stretches:
        return []
    if stretches[0][0] <= 0 and stretches[0][1] >= duration_s:
        return [say("clip.throughout")]
    return [say("clip.stretches", stretches=_name_stretches(stretches, say))]


def _name_stretches(stretches: Sequence[tuple[float, float]], say: Words) -> str:
    return ", ".join(_name_stretch(stretch, say) for stretch in stretches)


def _name_stretch(stretch: tuple[float, float], say: Words) -> str:
    return say("clip.stretch", start=f"{stretch[0]:.1f}", stop=f"{stretch[1]:.1f}")


def _stretch(stretch: tuple[float, float], duration_s: float, say: Words) -> Stretch:
    start, stop = (min(max(edge, 0.0), duration_s) for edge in stretch)
    return Stretch(
        round(100 * start / duration_s, 2), round(100 * (stop - start) / duration_s, 2), _name_stretch(stretch, say)
    )
