"""The charts of an asset's scores: histogram, timeline and ROC curve.

What lies far beyond the threshold is piled up at the end of the axis, so that the part that decides stays readable. A
kind of recording has a colour and a sign of its own. Scores are the engine's own; sizes are CSS pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.report.figures import ALARM, MUTED, RULE, SCHEME, head, new_figure, place

KINDS = ("normal", "test-normal", "anomaly", "unlabelled", "off")
SIGNS = {"normal": "o", "test-normal": "s", "anomaly": "^", "unlabelled": "D", "off": "v"}
"""The marker of each kind of recording, as matplotlib names it."""

BEYOND = 3.0
"""Where the axis ends: so many times as far above the threshold as the lowest score lies below it."""
BINS = 48
BEYOND_WIDTH = 90
"""Room of the words at the end of the histogram's axis, pixels."""
MARK_WIDTH = 46
"""Room of one mark below the timeline, pixels."""
_ROW, _STRIP, _GAP, _SIDE, _TOP, _BOTTOM = 46, 20, 6, 8, 24, 44


@dataclass(frozen=True)
class ScoreGroup:
    """The scores of one kind of recording: `kind` names colour and sign, float64 (n,)."""

    kind: str
    label: str
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """The places of a group's recordings in the order of all, from 1, float64 (n,)."""

    group: ScoreGroup
    places: NDArray[np.float64]


@dataclass(frozen=True)
class Mark:
    """A place in the order at which something begins, such as a day."""

    place: float
    label: str


def axis_of(groups: Sequence[ScoreGroup], threshold: float) -> tuple[float, float, bool]:
    """First and last score of the axis, and whether scores lie beyond it."""
    values = np.concatenate([group.scores for group in groups] + [np.array([threshold])])
    low, high = float(values.min()), float(values.max())
    usual = max(threshold - low, float(np.percentile(values, 75)) - low, 1e-6)
    last = threshold + BEYOND * usual
    return (low, high, False) if high <= last else (low, last, True)


def draw_scores(groups: Sequence[ScoreGroup], *, threshold: float, width: int, labels: Mapping[str, str]) -> str:
    """A histogram a group, one under the other on one axis, each below its name; the threshold through all bars.

    labels: score, threshold, beyond (said where scores lie beyond the axis).
    """
    height = _TOP + _BOTTOM + len(groups) * (_STRIP + _ROW + _GAP)
    low, high, more = axis_of(groups, threshold)
    margin = max(0.04 * (high - low), 1e-6)
    bins = np.linspace(low - margin, high + (0 if more else margin), BINS + 1)
    step = bins[1] - bins[0]
    end = bins[-1] + (3 * step if more else 0)
    tokens = {f"group{i}": group.label for i, group in enumerate(groups)}
    with new_figure(width, height) as (figure, uri):
        for i, group in enumerate(groups):
            bottom = height - _TOP - (i + 1) * (_STRIP + _ROW + _GAP) + _GAP
            axes = place(figure, (_SIDE, bottom, width - 2 * _SIDE, _ROW))
            _draw_row(axes, group, bins, token=f"@group{i}")
            axes.axvspan(threshold, end, color=ALARM, alpha=0.07, linewidth=0)
            axes.axvline(threshold, color=ALARM, linewidth=1.6, linestyle=(0, (5, 3)))
            axes.set_xlim(bins[0], end)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6 if width > 500 else 4, steps=[1, 2, 5, 10]))
            axes.tick_params(labelbottom=i == len(groups) - 1, bottom=i == len(groups) - 1)
        last = figure.axes[-1]
        last.set_xlabel("@score")
        if more:
            room = BEYOND_WIDTH * (end - bins[0]) / (width - 2 * _SIDE)
            last.set_xticks([tick for tick in last.get_xticks() if bins[0] <= tick < end - room])
            last.annotate("@beyond", (1, 0), xycoords="axes fraction", xytext=(0, -16), textcoords="offset points",
                          ha="right", color=MUTED, annotation_clip=False)  # fmt: skip
        _name_threshold(figure.axes[0], threshold, middle=(bins[0] + end) / 2)
    return uri({**labels, **tokens})


def _name_threshold(axes: Axes, threshold: float, *, middle: float) -> None:
    """Above the name of the first row, so that the line crosses no words."""
    axes.annotate("@threshold", (threshold, 1), xycoords=axes.get_xaxis_transform(), fontweight="bold",
                  xytext=(0, _STRIP + 6), textcoords="offset points", annotation_clip=False,
                  ha="left" if threshold < middle else "right", color=ALARM)  # fmt: skip


def _draw_row(axes: Axes, group: ScoreGroup, bins: NDArray[np.float64], *, token: str) -> None:
    colour, step = SCHEME[group.kind][0], bins[1] - bins[0]
    counts, _ = np.histogram(group.scores, bins)
    beyond = int((group.scores > bins[-1]).sum())
    axes.stairs(counts, bins, fill=True, color=colour, linewidth=0)
    axes.bar(bins[-1] + 2 * step, beyond, width=1.6 * step, color=colour, linewidth=0)
    axes.set_ylim(0, max(counts.max(initial=1), beyond) * 1.08)
    axes.set_yticks([])
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.annotate(token, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points",
                  ha="left", va="bottom", color=colour, fontweight="bold", annotation_clip=False)  # fmt: skip


def draw_timeline(
    moments: Sequence[Moments], *, threshold: float, marks: Sequence[Mark], width: int, labels: Mapping[str, str]
) -> str:
    """Scores in an order; what lies beyond the axis stands in a band at its top.

    An order, not a clock: recordings of three days a year apart would be three heaps. marks: what is written below the
    axis, as far as there is room; without any, the places are. labels: score, time, beyond.
    """
    low, high, more = axis_of([each.group for each in moments], threshold)
    margin = max(0.06 * (high - low), 1e-6)
    height, left = 250, 42
    with new_figure(width, height) as (figure, uri):
        axes = place(figure, (left, 44, width - left - 12, height - 44 - 30))
        axes.set_ylim(low - margin, high + (2.2 * margin if more else margin))
        axes.axhspan(threshold, axes.get_ylim()[1], color=ALARM, alpha=0.07, linewidth=0)
        axes.axhline(threshold, color=ALARM, linewidth=1.6, linestyle=(0, (5, 3)))
        if more:
            axes.axhline(high, color=RULE, linewidth=1)
        for each in moments:
            colour = SCHEME[each.group.kind][0]
            shown = np.where(each.group.scores > high, high + 1.1 * margin, each.group.scores)
            axes.scatter(each.places, shown, s=26, marker=SIGNS[each.group.kind], color=colour, alpha=0.8, linewidths=0,
                         clip_on=False, zorder=3)  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        if more:
            axes.set_yticks([tick for tick in axes.get_yticks() if low - margin <= tick <= high - margin])
            axes.annotate("@beyond", (1, 1), xycoords="axes fraction", xytext=(0, 8), textcoords="offset points",
                          ha="right", color=MUTED, annotation_clip=False)  # fmt: skip
        count = sum(len(each.places) for each in moments)
        axes.set_xlim(0, count + 1)
        _mark_places(axes, marks, room=MARK_WIDTH * (count + 1) / (width - left - 12))
        axes.set_xlabel("@time")
        head(axes, "@score", 8)
        axes.spines[["top", "right"]].set_visible(False)
    return uri(labels)


def _mark_places(axes: Axes, marks: Sequence[Mark], *, room: float) -> None:
    """Lines where something begins, and labels from the left as far as each has so many places of room."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    if not marks:
        return
    shown: list[Mark] = []
    for mark in marks:
        if not shown or mark.place - shown[-1].place >= room:
            shown.append(mark)
    for mark in marks:
        axes.axvline(mark.place - 0.5, color=RULE, linewidth=1, zorder=0)
    axes.set_xticks([mark.place - 0.5 for mark in shown], [mark.label for mark in shown], ha="left")


def draw_roc(
    false_alarm_rate: NDArray[np.float64],
    hit_rate: NDArray[np.float64],
    *,
    operating_point: tuple[float, float],
    labels: Mapping[str, str],
) -> str:
    """ROC curve with the threshold's point on it; labels: false_alarms, hits."""
    with new_figure(320, 320) as (figure, uri):
        axes = place(figure, (50, 46, 236, 236))
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1.2)
        axes.plot(false_alarm_rate, hit_rate, color=SCHEME["normal"][0], linewidth=2.2, clip_on=False, zorder=3)
        axes.plot(*operating_point, marker="o", markersize=9, color=ALARM, clip_on=False, zorder=4)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="@false_alarms")
        head(axes, "@hits", 12)
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.spines[["top", "right"]].set_visible(False)
    return uri(labels)
