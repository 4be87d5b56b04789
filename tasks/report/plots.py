"""The figures of a page, drawn by matplotlib as SVG data URIs.

Figures hold no text of a package and no glyphs: matplotlib writes words as `<text>` that the browser sets in its own
fonts, so a label may be of any script. Colours are variables that follow the reader's light or dark scheme. Positions
are fixed, ids are salted and dates left out: the same numbers give the same bytes.

Sizes are CSS pixels (figures are drawn at 72 dpi, where a point is a pixel); frequencies Hz, times s.
"""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from engines.base import AnomalyMap

MAP_RANGE = (0.0, 0.6)
"""Colour range of every anomaly map on every page. Patch anomaly is 1 − cosine: clips of normals score 0.03-0.29 on
toy, compressor and motor sounds with either encoder, anomalies up to 0.63, and 99.9 % of all cells lie below 0.59.
Above the range a cell has the last colour."""
LEVEL_RANGE_DB = 60.0
"""Levels shown below the loudest of a clip."""

MAX_COLUMNS, SPECTROGRAM_ROWS = 320, 144
MAP_ROWS, MAP_COLUMNS = 128, 256

_SCHEME = {
    "ink": ("#1b2530", "#e4e9ee"),
    "muted": ("#566270", "#9aa6b2"),
    "rule": ("#d5dbe1", "#38424d"),
    "normal": ("#2a6f97", "#6fb1d8"),
    "test-normal": ("#2f7370", "#7cc4c1"),
    "anomaly": ("#b1471d", "#f0936a"),
    "unlabelled": ("#626b76", "#a3abb5"),
    "alarm": ("#9b2226", "#ff8f8a"),
}
"""Colours of a figure in the light and in the dark scheme, all different so that one stands for one variable."""
_INK, _MUTED, _RULE, _ALARM = (_SCHEME[name][0] for name in ("ink", "muted", "rule", "alarm"))
_MASKED = "#8b939c"
_STYLE: dict[Any, object] = {
    "svg.hashsalt": "alp",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.facecolor": "none",
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.linewidth": 1,
    "path.simplify": True,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_LOCK = threading.Lock()

_CLIP_SIZE = (480, 252)
_CLIP_AXES = (42, 40, 358, 176)
"""Left, bottom, width and height of the picture in a clip's figure; spectrogram and map line up."""
_BAR_AXES = (424, 40, 12, 176)


@dataclass(frozen=True)
class ScoreGroup:
    """The scores of one kind of recording: `kind` names the colour, float64 (n,)."""

    kind: str
    label: str
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """A spectrogram with rows even in mel up to the band's end: levels dB, float64 (rows, columns)."""

    values: NDArray[np.float64]
    duration_s: float
    bandwidth_hz: float


def to_mel(frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """O'Shaughnessy's mel scale."""
    return 2595.0 * np.log10(1.0 + np.asarray(frequency_hz) / 700.0)


def from_mel(mel: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The frequency of a mel, Hz."""
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


def measure_level(waveform: NDArray[np.float32], sample_rate: int, bandwidth_hz: float) -> Level:
    """Spectrogram of one clip, float32 (n,), up to `bandwidth_hz`.

    The window is 64 ms, longer where the band is narrow, so that 128 bins of the transform lie in it, at most 256 ms.
    """
    window_s = min(max(0.064, 128 / bandwidth_hz), 0.256)
    window = min(round(window_s * sample_rate), max(2, len(waveform)))
    hop = max(window // 4, -(-len(waveform) // MAX_COLUMNS))
    transform = ShortTimeFFT(hann(window, sym=False), hop, sample_rate, scale_to="magnitude")
    first, last = transform.lower_border_end[1], transform.upper_border_begin(len(waveform))[1]
    inside = (first, last) if last > first else (0, 1)
    power = transform.spectrogram(waveform.astype(np.float64), p0=inside[0], p1=inside[1])
    wanted = from_mel(np.linspace(0, to_mel(bandwidth_hz), SPECTROGRAM_ROWS))
    decibel = 10 * np.log10(np.maximum(power, 1e-14))
    values = np.stack([np.interp(wanted, transform.f, column) for column in decibel.T], axis=1)
    return Level(values, len(waveform) / sample_rate, bandwidth_hz)


def draw_spectrogram(level: Level, *, regions: Sequence[tuple[float, float]], labels: Mapping[str, str]) -> str:
    """Levels over time and frequency down from the clip's loudest, labelled stretches barred above.

    labels: time, frequency, level.
    """
    with _figure(*_CLIP_SIZE) as (figure, uri):
        axes = _clip_axes(figure, level.duration_s, level.bandwidth_hz)
        top_db = float(np.percentile(level.values, 99.8))
        limits = (top_db - LEVEL_RANGE_DB, top_db)
        _show(axes, level.values, level, cmap="cividis", limits=limits)
        for start, stop in regions:
            axes.plot([start, stop], [1.03, 1.03], transform=axes.get_xaxis_transform(), clip_on=False,
                      color=_ALARM, linewidth=4, solid_capstyle="butt")  # fmt: skip
        bar = _colour_bar(figure, cmap="cividis", limits=limits)
        bar.set_yticks(np.arange(np.ceil(limits[0] / 20) * 20, limits[1], 20))
        _head(bar, "@level", 14)
    return uri(labels)


def draw_map(found: AnomalyMap, level: Level, *, threshold: float, labels: Mapping[str, str]) -> str:
    """The anomaly map on the fixed colour range; cells above the threshold outlined, padding grey."""
    with _figure(*_CLIP_SIZE) as (figure, uri):
        axes = _clip_axes(figure, level.duration_s, level.bandwidth_hz)
        time_edges = cell_edges(found.times_s, 0.0, level.duration_s)
        mel_edges = cell_edges(to_mel(found.frequencies_hz), 0.0, float(to_mel(level.bandwidth_hz)))
        cells = _resample(found.values, time_edges, mel_edges, level)
        axes.set_facecolor(_MASKED)
        _show(axes, cells, level, cmap="inferno", limits=MAP_RANGE)
        outline = _outline(found.values > threshold, time_edges, mel_edges)
        axes.add_collection(LineCollection(outline, colors="#ffffff", linewidths=1.4), autolim=False)
        bar = _colour_bar(figure, cmap="inferno", limits=MAP_RANGE)
        ticks = np.arange(MAP_RANGE[0], MAP_RANGE[1] + 0.01, 0.2)
        bar.set_yticks(ticks, [f"{tick:.1f}" for tick in ticks[:-1]] + [f"≥{ticks[-1]:.1f}"])
        _head(bar, "@anomaly", 14)
        _mark_threshold(bar, threshold)
    return uri(labels)


def draw_scores(groups: Sequence[ScoreGroup], *, threshold: float, width: int, labels: Mapping[str, str]) -> str:
    """A histogram a group, one under the other on one axis, and the threshold through all; labels: score, threshold."""
    row, gap, side, top, bottom = 62, 12, 8, 26, 44
    height = top + bottom + len(groups) * (row + gap)
    values = np.concatenate([group.scores for group in groups] + [np.array([threshold])])
    low, high = float(values.min()), float(values.max())
    margin = max(0.04 * (high - low), 1e-6)
    bins = np.linspace(low - margin, high + margin, 49)
    tokens = {f"group{i}": group.label for i, group in enumerate(groups)}
    with _figure(width, height) as (figure, uri):
        for i, group in enumerate(groups):
            axes = _place(figure, (side, height - top - (i + 1) * (row + gap) + gap, width - 2 * side, row))
            _draw_row(axes, group, bins, token=f"@group{i}")
            axes.axvspan(threshold, bins[-1], color=_ALARM, alpha=0.07, linewidth=0)
            axes.axvline(threshold, color=_ALARM, linewidth=1.6, linestyle=(0, (5, 3)))
            axes.set_xlim(bins[0], bins[-1])
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            axes.tick_params(labelbottom=i == len(groups) - 1, bottom=i == len(groups) - 1)
        figure.axes[-1].set_xlabel("@score")
        first = figure.axes[0]
        side_of_line = "left" if threshold < (bins[0] + bins[-1]) / 2 else "right"
        first.annotate("@threshold", (threshold, 1), xycoords=first.get_xaxis_transform(), fontweight="bold",
                       xytext=(0, 8), textcoords="offset points", ha=side_of_line, color=_ALARM)  # fmt: skip
    return uri({**labels, **tokens})


def draw_roc(
    false_alarm_rate: NDArray[np.float64],
    hit_rate: NDArray[np.float64],
    *,
    operating_point: tuple[float, float],
    labels: Mapping[str, str],
) -> str:
    """ROC curve with the threshold's point on it; labels: false_alarms, hits, threshold."""
    with _figure(320, 320) as (figure, uri):
        axes = _place(figure, (50, 46, 236, 236))
        axes.plot([0, 1], [0, 1], color=_RULE, linewidth=1.2)
        axes.plot(false_alarm_rate, hit_rate, color=_SCHEME["normal"][0], linewidth=2.2, clip_on=False, zorder=3)
        axes.plot(*operating_point, marker="o", markersize=9, color=_ALARM, clip_on=False, zorder=4)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="@false_alarms")
        _head(axes, "@hits", 12)
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.spines[["top", "right"]].set_visible(False)
    return uri(labels)


def _draw_row(axes: Axes, group: ScoreGroup, bins: NDArray[np.float64], *, token: str) -> None:
    colour = _SCHEME[group.kind][0]
    counts, _ = np.histogram(group.scores, bins)
    axes.stairs(counts, bins, fill=True, color=colour, linewidth=0)
    axes.set_ylim(0, counts.max(initial=1) * 1.45)
    axes.set_yticks([])
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.text(0, 1, token, transform=axes.transAxes, ha="left", va="top", color=colour, fontweight="bold")


def _clip_axes(figure: Figure, duration_s: float, bandwidth_hz: float) -> Axes:
    axes = _place(figure, _CLIP_AXES)
    top = float(to_mel(bandwidth_hz))
    axes.set(xlim=(0, duration_s), ylim=(0, top), xlabel="@time")
    _head(axes, "@frequency", 14)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    ticks = _frequency_ticks(bandwidth_hz)
    axes.set_yticks(to_mel(np.array(ticks)), [f"{tick:.0f}" if tick < 1000 else f"{tick / 1000:g}k" for tick in ticks])
    axes.spines[:].set_visible(False)
    return axes


def _head(axes: Axes, token: str, above: float) -> None:
    """The name of the vertical axis, level and so many pixels above it: letters of any script read badly on end."""
    axes.annotate(token, (0, 1), xycoords="axes fraction", xytext=(0, above), textcoords="offset points",
                  color=_MUTED, annotation_clip=False)  # fmt: skip


def _frequency_ticks(bandwidth_hz: float) -> list[float]:
    """Round frequencies from 0 to the band's end, about evenly spread in mel."""
    if bandwidth_hz > 2000:
        ticks = [0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0, 32000.0]
        return [tick for tick in ticks if tick <= bandwidth_hz]
    step = next((s for s in (10, 20, 50, 100, 200, 500) if bandwidth_hz / s <= 6), 500)
    return [float(tick) for tick in np.arange(0, bandwidth_hz + 1e-6, step)]


def _show(axes: Axes, values: NDArray[np.floating], level: Level, *, cmap: str, limits: tuple[float, float]) -> None:
    """Values (mel rows, columns) as they are, one colour a cell: the browser scales, nothing is blurred."""
    axes.imshow(
        np.ma.masked_invalid(values),
        origin="lower",
        aspect="auto",
        interpolation="none",
        extent=(0, level.duration_s, 0, float(to_mel(level.bandwidth_hz))),
        cmap=mpl.colormaps[cmap].with_extremes(bad=_MASKED),
        vmin=limits[0],
        vmax=limits[1],
    )


def cell_edges(centres: NDArray[np.float64], first: float, last: float) -> NDArray[np.float64]:
    """Borders of cells, (n + 1,): half-way between their centres (n,), the outer ones at `first` and `last`."""
    return np.concatenate([[first], (centres[1:] + centres[:-1]) / 2, [last]])


def _resample(
    values: NDArray[np.float32], time_edges: NDArray[np.float64], mel_edges: NDArray[np.float64], level: Level
) -> NDArray[np.float32]:
    """The cell under each point of an even grid; the outer cells reach to the picture's edge."""
    times = (np.arange(MAP_COLUMNS) + 0.5) / MAP_COLUMNS * level.duration_s
    mels = (np.arange(MAP_ROWS) + 0.5) / MAP_ROWS * float(to_mel(level.bandwidth_hz))
    rows = np.searchsorted(mel_edges[1:-1], mels)
    columns = np.searchsorted(time_edges[1:-1], times)
    return values[rows][:, columns]


def _outline(
    above: NDArray[np.bool_], time_edges: NDArray[np.float64], mel_edges: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Borders between cells above and not above, as segments ((t, mel), (t, mel))."""
    segments = []
    for row, column in zip(*np.nonzero(above[:, 1:] != above[:, :-1]), strict=True):
        t = time_edges[column + 1]
        segments.append(np.array([(t, mel_edges[row]), (t, mel_edges[row + 1])]))
    for row, column in zip(*np.nonzero(above[1:] != above[:-1]), strict=True):
        mel = mel_edges[row + 1]
        segments.append(np.array([(time_edges[column], mel), (time_edges[column + 1], mel)]))
    return segments


def _colour_bar(figure: Figure, *, cmap: str, limits: tuple[float, float]) -> Axes:
    bar = _place(figure, _BAR_AXES)
    gradient = np.linspace(*limits, 128)[:, None]
    bar.imshow(gradient, origin="lower", aspect="auto", interpolation="none", extent=(0, 1, *limits), cmap=cmap)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.spines[:].set_visible(False)
    return bar


def _mark_threshold(bar: Axes, threshold: float) -> None:
    """A pointer and a line at the threshold; a pointer upwards where it lies beyond the range."""
    beyond = threshold > MAP_RANGE[1]
    place, marker = ((0.5, MAP_RANGE[1] * 1.035), "^") if beyond else ((-0.55, threshold), ">")
    if not beyond:
        bar.axhline(threshold, color="#ffffff", linewidth=1.6)
    bar.plot(*place, marker=marker, markersize=8, color=_ALARM, clip_on=False,
             transform=bar.get_yaxis_transform())  # fmt: skip


def _place(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at left, bottom, width, height in pixels."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


class _Picture:
    """What a figure became; called with the labels it gives the data URI."""

    def __init__(self) -> None:
        self.svg = ""

    def __call__(self, labels: Mapping[str, str]) -> str:
        svg = re.sub(r">@(\w+)<", lambda token: f">{html.escape(labels[token[1]], quote=False)}<", self.svg)
        return f"data:image/svg+xml,{quote(svg, safe=_URI_SAFE)}"


_URI_SAFE = "=:/;,()+*!@$&?.-_~'"


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, _Picture]]:
    """A figure of so many pixels, and the picture it becomes when the block ends.

    Under a lock, since matplotlib's settings belong to the whole process.
    """
    picture = _Picture()
    with _LOCK, mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
        FigureCanvasSVG(figure)
        yield figure, picture
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    picture.svg = _themed(buffer.getvalue())


def _themed(svg: str) -> str:
    """The SVG alone, with the scheme's colours as variables and the reader's fonts."""
    svg = svg[svg.index("<svg") :].strip()
    for name, (light, _) in _SCHEME.items():
        svg = svg.replace(light, f"var(--{name})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in _SCHEME.items()) for i in (0, 1))
    style = (
        f"<style>:root{{{light};color-scheme:light dark}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    return svg.replace(">", f">{style}", 1)
