"""The picture of an alarm, a PNG that any mail program shows: the clip's spectrogram, and where in it the anomaly is.

Both have the axes and the fixed colour scale that the asset's page has (`tasks.report.plots`): times in s, frequencies
in Hz, even in mel. The words are few and plain ASCII, since matplotlib's own font knows no Hangul.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engines.base import AnomalyMap
from tasks.report.plots import LEVEL_RANGE_DB, MAP_RANGE, Level, cell_edges, map_scale, measure_level, to_mel

_DPI = 110
_WIDTH_IN, _ROW_IN = 8.0, 3.0
_MASKED = "#8b939c"


def draw_alarm(
    waveform: NDArray[np.float32],
    *,
    sample_rate: int,
    bandwidth_hz: float,
    anomaly: AnomalyMap | None,
    threshold: float,
    title: str,
) -> bytes:
    """PNG bytes of one clip, float32 (n,): its spectrogram, and below it the anomaly map where there is one.

    threshold: marked on the map's colour bar, in units of the score.
    """
    level = measure_level(waveform, sample_rate, bandwidth_hz)
    rows = 1 if anomaly is None else 2
    figure = Figure(figsize=(_WIDTH_IN, 0.6 + rows * _ROW_IN), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    _draw_level(figure, axes[0], level)
    if anomaly is not None:
        _draw_map(figure, axes[1], anomaly, level, threshold)
    axes[-1].set_xlabel("time, s")
    for each in axes:
        _scale(each, level)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _draw_level(figure: Figure, axes: Axes, level: Level) -> None:
    top_db = float(np.percentile(level.values, 99.8))
    top_mel = float(to_mel(level.bandwidth_hz))
    image = axes.imshow(
        level.values,
        origin="lower",
        aspect="auto",
        interpolation="none",
        extent=(0, level.duration_s, 0, top_mel),
        cmap="cividis",
        vmin=top_db - LEVEL_RANGE_DB,
        vmax=top_db,
    )
    figure.colorbar(image, ax=axes, label="level, dB", pad=0.01)


def _draw_map(figure: Figure, axes: Axes, anomaly: AnomalyMap, level: Level, threshold: float) -> None:
    times = cell_edges(anomaly.times_s, 0.0, level.duration_s)
    mels = cell_edges(np.asarray(to_mel(anomaly.frequencies_hz)), 0.0, float(to_mel(level.bandwidth_hz)))
    axes.set_facecolor(_MASKED)
    cells = np.ma.masked_invalid(anomaly.values)
    image = axes.pcolormesh(times, mels, cells, cmap="inferno", norm=map_scale())
    bar = figure.colorbar(image, ax=axes, label="anomaly", extend="max", pad=0.01)
    if MAP_RANGE[0] <= threshold <= MAP_RANGE[1]:
        bar.ax.axhline(threshold, color="white", linewidth=2)
        bar.ax.annotate("threshold", (0, threshold), xycoords=("axes fraction", "data"), xytext=(-4, 0),
                        textcoords="offset points", ha="right", va="center", fontsize=7)  # fmt: skip


def _scale(axes: Axes, level: Level) -> None:
    axes.set_xlim(0, level.duration_s)
    axes.set_ylim(0, float(to_mel(level.bandwidth_hz)))
    ticks = [tick for tick in _round_frequencies(level.bandwidth_hz) if tick <= level.bandwidth_hz]
    axes.set_yticks(to_mel(np.array(ticks)), [f"{tick:g}" for tick in ticks])
    axes.set_ylabel("frequency, Hz")


def _round_frequencies(bandwidth_hz: float) -> list[float]:
    if bandwidth_hz > 2000:
        return [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000]
    step = next((step for step in (10, 20, 50, 100, 200, 500) if bandwidth_hz / step <= 6), 500)
    return [float(tick) for tick in np.arange(0, bandwidth_hz + 1e-6, step)]
