"""The pictures of a clip: its spectrogram, and the map of where in it the engine hears something unusual.

Frequencies Hz, spaced as the ear hears them (mel); times s; sizes CSS pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from engines.base import AnomalyMap
from tasks.report.figures import ALARM, head, new_figure, place

MAP_RANGE = (0.0, 1.0)
"""Colour range of every anomaly map on every page. Patch anomaly is 1 − cosine: normal cells lie at 0.01-0.3, those of
anomalies reach 0.8 with encoder logmel. Above the range a cell has the last colour."""
MAP_TICKS = (0.0, 0.05, 0.2, 0.5, 1.0)
LEVEL_RANGE_DB = 60.0
"""Levels shown below the loudest of a clip."""

MAX_COLUMNS, SPECTROGRAM_ROWS = 320, 144
MAP_ROWS, MAP_COLUMNS = 128, 256
_MASKED = "#8b939c"

_CLIP_SIZE = (480, 252)
_CLIP_AXES = (42, 40, 358, 176)
"""Left, bottom, width and height of the picture in a clip's figure; spectrogram and map line up."""
_BAR_AXES = (424, 40, 12, 176)


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
    with new_figure(*_CLIP_SIZE) as (figure, uri):
        axes = _clip_axes(figure, level.duration_s, level.bandwidth_hz)
        top_db = float(np.percentile(level.values, 99.8))
        limits = (top_db - LEVEL_RANGE_DB, top_db)
        _show(axes, level.values, level, cmap="cividis", limits=limits)
        for start, stop in regions:
            axes.plot([start, stop], [1.03, 1.03], transform=axes.get_xaxis_transform(), clip_on=False,
                      color=ALARM, linewidth=4, solid_capstyle="butt")  # fmt: skip
        bar = _colour_bar(figure, cmap="cividis", limits=limits)
        bar.set_yticks(np.arange(np.ceil(limits[0] / 20) * 20, limits[1], 20))
        head(bar, "@level", 14)
    return uri(labels)


def draw_map(found: AnomalyMap, level: Level, *, threshold: float, labels: Mapping[str, str]) -> str:
    """The anomaly map on the fixed colour range; cells above the threshold outlined, padding grey."""
    with new_figure(*_CLIP_SIZE) as (figure, uri):
        axes = _clip_axes(figure, level.duration_s, level.bandwidth_hz)
        time_edges = cell_edges(found.times_s, 0.0, level.duration_s)
        mel_edges = cell_edges(to_mel(found.frequencies_hz), 0.0, float(to_mel(level.bandwidth_hz)))
        cells = _resample(found.values, time_edges, mel_edges, level)
        axes.set_facecolor(_MASKED)
        _show(axes, to_colour(cells), level, cmap="inferno", limits=(0.0, 1.0))
        outline = _outline(found.values > threshold, time_edges, mel_edges)
        axes.add_collection(LineCollection(outline, colors="#ffffff", linewidths=1.4), autolim=False)
        bar = _colour_bar(figure, cmap="inferno", limits=(0.0, 1.0))
        ticks = [f"{tick:g}" for tick in MAP_TICKS]
        bar.set_yticks(to_colour(np.array(MAP_TICKS)), [*ticks[:-1], f"≥{ticks[-1]}"])
        head(bar, "@anomaly", 14)
        _mark_threshold(bar, threshold)
    return uri(labels)


def _clip_axes(figure: Figure, duration_s: float, bandwidth_hz: float) -> Axes:
    axes = place(figure, _CLIP_AXES)
    top = float(to_mel(bandwidth_hz))
    axes.set(xlim=(0, duration_s), ylim=(0, top), xlabel="@time")
    head(axes, "@frequency", 14)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    ticks = _frequency_ticks(bandwidth_hz)
    axes.set_yticks(to_mel(np.array(ticks)), [f"{tick:.0f}" if tick < 1000 else f"{tick / 1000:g}k" for tick in ticks])
    axes.spines[:].set_visible(False)
    return axes


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


def map_scale() -> PowerNorm:
    """The scale of the map's colours, by the square root: thresholds lie low, and anomalies reach far above them."""
    return PowerNorm(0.5, *MAP_RANGE, clip=True)


def to_colour(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where on the colour bar, 0-1, cells of these values lie; NaN stays."""
    return np.asarray(map_scale()(np.asarray(values, dtype=np.float64)), dtype=np.float64)


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
    bar = place(figure, _BAR_AXES)
    gradient = np.linspace(*limits, 128)[:, None]
    bar.imshow(gradient, origin="lower", aspect="auto", interpolation="none", extent=(0, 1, *limits), cmap=cmap)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.spines[:].set_visible(False)
    return bar


def _mark_threshold(bar: Axes, threshold: float) -> None:
    """A pointer and a line at the threshold; a pointer upwards where it lies beyond the range."""
    beyond, height = threshold > MAP_RANGE[1], float(to_colour(np.array(threshold)))
    place, marker = ((0.5, 1.035), "^") if beyond else ((-0.55, height), ">")
    if not beyond:
        bar.axhline(height, color="#ffffff", linewidth=1.6)
    bar.plot(*place, marker=marker, markersize=8, color=ALARM, clip_on=False,
             transform=bar.get_yaxis_transform())  # fmt: skip
