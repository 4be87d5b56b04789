"""How every figure of a page is made: by matplotlib, as an SVG data URI.

Figures hold no text of a package and no glyphs: matplotlib writes words as `<text>` that the browser sets in its own
fonts, so a label may be of any script; it stands as `@name` until the figure is done. Colours are variables that
follow the reader's light or dark scheme. Positions are fixed, ids are salted and dates left out: the same numbers give
the same bytes.

Sizes are CSS pixels (figures are drawn at 72 dpi, where a point is a pixel).
"""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SCHEME = {
    "ink": ("#1b2530", "#e4e9ee"),
    "muted": ("#566270", "#9aa6b2"),
    "rule": ("#d5dbe1", "#38424d"),
    "normal": ("#2a6f97", "#6fb1d8"),
    "test-normal": ("#2f7370", "#7cc4c1"),
    "anomaly": ("#b1471d", "#f0936a"),
    "unlabelled": ("#626b76", "#a3abb5"),
    "off": ("#5b6570", "#98a3ae"),
    "alarm": ("#9b2226", "#ff8f8a"),
}
"""Colours of a figure in the light and in the dark scheme, all different so that one stands for one variable."""
INK, MUTED, RULE, ALARM = (SCHEME[name][0] for name in ("ink", "muted", "rule", "alarm"))
_STYLE: dict[Any, object] = {
    "svg.hashsalt": "alp",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.linewidth": 1,
    "path.simplify": True,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_LOCK = threading.Lock()


def head(axes: Axes, token: str, above: float) -> None:
    """The name of the vertical axis, level and so many pixels above it: letters of any script read badly on end."""
    axes.annotate(token, (0, 1), xycoords="axes fraction", xytext=(0, above), textcoords="offset points",
                  color=MUTED, annotation_clip=False)  # fmt: skip


def place(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at left, bottom, width, height in pixels."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


class Picture:
    """What a figure became; called with the labels it gives the data URI."""

    def __init__(self) -> None:
        self.svg = ""

    def __call__(self, labels: Mapping[str, str]) -> str:
        svg = re.sub(r">@(\w+)<", lambda token: f">{html.escape(labels[token[1]], quote=False)}<", self.svg)
        return f"data:image/svg+xml,{quote(svg, safe=_URI_SAFE)}"


_URI_SAFE = "=:/;,()+*!@$&?.-_~'"


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, Picture]]:
    """A figure of so many pixels, and the picture it becomes when the block ends.

    Under a lock, since matplotlib's settings belong to the whole process.
    """
    picture = Picture()
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
    for name, (light, _) in SCHEME.items():
        svg = svg.replace(light, f"var(--{name})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in SCHEME.items()) for i in (0, 1))
    style = (
        f"<style>:root{{{light};color-scheme:light dark}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    return svg.replace(">", f">{style}", 1)
