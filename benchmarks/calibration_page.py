"""calibration.md and calibration.svg: claimed and observed rates with intervals and verdicts.

A *cell* is all calibration sets of one part, engine, method, rule, n and budget. Its interval is a bootstrap over
calibration sets, within each asset: the clips that one set judges share its threshold, and are no independent evidence.
What stands between the two markers of the page is kept when it is written anew.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import kept_notes

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.999
"""Of the one-sided test by which a cell is called broken: there are hundreds of cells."""
RESAMPLES = 10_000
MOST_BATCHES = 1000
"""More calibration sets than this are averaged into so many batches before they are resampled."""
FEWEST_ALARMS = 3.0
"""With fewer alarms to be expected of all calibration sets together, silence proves nothing."""
FEWEST_SETS = 12
"""With fewer calibration sets a bootstrap says nothing."""
SEED = 7

KEYS = ["part", "engine", "method", "rule", "n", "alpha"]
BLOCKS = "leave one out, in a row"
PART_TITLES = {"laws": "Known laws", "toy": "Toy", "compressor": "compressor.zip", "motor": "motor.zip"}
ENGINE_TITLES = {"a": "A", "b": "B", "c": "C", "-": "any law"}

Floats = NDArray[np.float64]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """Means over `sets` calibration sets of the claimed and the observed rate, the latter's 95 % interval, the verdict.

    `broken`: the one-sided lower limit of observed − claimed at `CONFIDENCE` lies above zero. `open`: not broken, but
    twice the claim lies within the interval, or there are too few sets or too few alarms to be expected. `holds`:
    neither.
    """

    claimed: float
    observed: float
    low: float
    high: float
    sets: int
    verdict: str

    @property
    def text(self) -> str:
        """As it stands in a table."""
        said = f"{_rate(self.claimed)}: {_rate(self.observed)} [{_rate(self.low)}, {_rate(self.high)}]"
        return {"broken": f"**{said}**", "open": f"*{said}*"}.get(self.verdict, said)


def make_cell(found: pd.DataFrame, *, claimed: str = "claimed", observed: str = "observed") -> Cell:
    """The cell of calibration sets, a row each with `asset` and `clips` beside the two columns named."""
    by_asset = [asset[[claimed, observed]].to_numpy(dtype=np.float64) for _, asset in found.groupby("asset")]
    resampled = bootstrap_means(by_asset, resamples=RESAMPLES)
    mean = found[[claimed, observed]].to_numpy(dtype=np.float64).mean(axis=0)
    low, high = np.percentile(resampled[:, 1], [2.5, 97.5])
    excess = float(np.quantile(resampled[:, 1] - resampled[:, 0], 1 - CONFIDENCE))
    enough = len(found) >= FEWEST_SETS and mean[0] * float(found["clips"].sum()) >= FEWEST_ALARMS
    if excess > 1e-12 and len(found) >= FEWEST_SETS:
        verdict = "broken"
    else:
        verdict = "holds" if enough and high <= 2 * mean[0] else "open"
    return Cell(float(mean[0]), float(mean[1]), float(low), float(high), len(found), verdict)


def bootstrap_means(groups: Sequence[Floats], *, resamples: int) -> Floats:
    """Means over the rows of all groups, each group resampled within itself: float64 (resamples, columns).

    `groups` are float64 (rows, columns) each. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.
    """
    rng, total = np.random.default_rng(SEED), sum(map(len, groups))
    means = np.zeros((resamples, groups[0].shape[1]))
    for group in groups:
        batches = np.array_split(group, min(len(group), MOST_BATCHES))
        rows = np.stack([batch.mean(axis=0) for batch in batches])
        drawn = rng.integers(len(rows), size=(resamples, len(rows)), dtype=np.int32)
        means += np.stack([column[drawn].mean(axis=1) for column in rows.T], axis=1) * (len(group) / total)
    return means


def make_cells(rows: pd.DataFrame, *, observed: str = "observed") -> dict[Key, Cell]:
    """The cells of thresholds and rules by `KEYS`; consecutive calibration sets overlap, and get no verdict."""
    cells = {}
    for key, found in rows[rows["rule"] != "stream"].groupby(KEYS, sort=False):
        cell = make_cell(found, observed=observed)
        cells[key] = Cell(**{**vars(cell), "verdict": "shown"}) if key[2] == BLOCKS else cell
    return cells


def write_page(folder: Path, rows: pd.DataFrame, run: Mapping[str, Any], absent: Mapping[str, str]) -> None:
    """Write both files into `folder`, keeping the notes that the page before them holds."""
    path, cells = folder / "calibration.md", make_cells(rows)
    kinds = rows.drop_duplicates(KEYS).set_index(KEYS)
    draw_picture(folder / "calibration.svg", cells, kinds)
    parts = [_head(run, rows), "## Verdicts", _sum_up(cells, kinds), _verdict_table(cells, kinds), _PICTURE]
    for part in (part for part in PART_TITLES if part in set(rows["part"])):
        parts += [f"## {PART_TITLES[part]}", *_part(part, rows, cells, kinds)]
    parts += [f"## {PART_TITLES[part]}\n\n{why}" for part, why in absent.items()]
    path.write_text("\n\n".join([*parts, "## Notes", kept_notes(path)]) + "\n", encoding="utf-8")


_PICTURE = """![Observed against claimed rates of false alarms](calibration.svg)

Each point is a cell, with its 95 % interval; on the line a rate is what was claimed, above it more. Cells without an
alarm stand at the lower edge; open ones are left out."""


def _head(run: Mapping[str, Any], rows: pd.DataFrame) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "torch"))
    return f"""# Calibration: are false alarms as rare as was claimed?

Written by `make bench-calibration` in {run["seconds"] / 60:.0f} minutes, {run["workers"]} jobs side by side on
{run["cores"]} cores; Python {platform.python_version()}, {versions}.

**What was run.** Calibration sets of n target normals are drawn at random, again and again; each sets its threshold and
its alarm rule by the product's own code, and the rate of alarms is read off other normals of the same machine. *Leave
one out*: an engine is fitted to the n, and its own leave-one-out scores set the threshold (groups are left out together
above 32 normals for A, 64 for B and C, 10 for the ensemble). *Split*: the engine is fitted to 10 normals, and n others
set the threshold. toy: {rows.loc[rows["part"] == "toy", "asset"].nunique()} machines, the first 2 s of up to 600
target normals each, and 60 of the source. The packages: all their target normals; of test clips only *normal* is used,
and only to read rates off. Every engine hears through the encoder logmel, which is not what `--encoder auto` takes for
engine A.

**How to read it.** A rate is false alarms a clip. A cell says *claimed: observed [95 % interval]*; **bold** is broken,
*italic* is open. Claimed is what the product writes into threshold.json or alarm_rule.json, the mean over calibration
sets: where n carries the budget it is the largest multiple of 1/(n + 1) within it, and elsewhere (m) that of the
modelled gamma tail. *broken*: observed lies above claimed by a one-sided test at {100 * CONFIDENCE:g} % for each cell.
*open*: not broken, but twice the claim lies within the interval, or fewer than {FEWEST_ALARMS:g} alarms were to be
expected, or there are fewer than {FEWEST_SETS} calibration sets. The interval is a bootstrap over calibration sets, not
clips ({RESAMPLES:,} resamples, percentiles). Clips are drawn without replacement, so a claim of an average over
calibration sets is tested exactly, for these recordings; the intervals say nothing of other machines."""


def _rate(value: float) -> str:
    if value == 0:
        return "0"
    if value >= 0.9995:
        return f"{value:.3g}"
    text = f"{value:.3f}" if value >= 0.01 else f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"
    return text.replace("0.", ".", 1).replace("e-0", "e-")


def _budget(alpha: float) -> str:
    return f"{alpha:g}"[1:] if alpha >= 0.01 else f"1/{1 / alpha:,.0f}"


def _title(engine: Any) -> str:
    return ENGINE_TITLES.get(engine, str(engine))


def _kind(key: Key, kinds: pd.DataFrame) -> str:
    found = kinds.loc[key]
    return "modelled" if found["kind"] == "gamma_tail" else "certified" if found["certified"] else "uncertified"


def _sum_up(cells: Mapping[Key, Cell], kinds: pd.DataFrame) -> str:
    """What came of the certified claims, in a sentence."""
    certified = [cell.verdict for key, cell in cells.items() if _kind(key, kinds) == "certified"]
    broken = certified.count("broken")
    tested = f"{len(certified) - certified.count('open')} of {len(certified)} certified cells show enough to judge;"
    said = f"**{broken} broken**" if broken else "none is broken"
    return f"{tested} {said}. All of them assume exchangeable recordings, and are\ndrawn so here."


def _verdict_table(cells: Mapping[Key, Cell], kinds: pd.DataFrame) -> str:
    lines = _table("claim", "rule", "method", "part", "cells", "holds", "open", "broken", "most observed / claimed")
    groups: dict[Key, list[Cell]] = {}
    for key, cell in cells.items():
        part, _, method, rule = key[:4]
        if cell.verdict != "shown":
            said = (_kind(key, kinds), rule.replace("_", " "), method, PART_TITLES[part])
            groups.setdefault(said, []).append(cell)
    for said, found in sorted(groups.items()):
        count = {name: sum(cell.verdict == name for cell in found) for name in ("holds", "open", "broken")}
        sure = [cell.observed / cell.claimed for cell in found if cell.verdict != "open"]
        broken = f"**{count['broken']}**" if count["broken"] else "0"
        most = f"{max(sure):.2f}" if sure else "–"
        lines.append(_line(*said, len(found), count["holds"], count["open"], broken, most))
    return "\n".join(lines)


def _table(*titles: str) -> list[str]:
    return [_line(*titles), "|" + "---|" * len(titles)]


def _line(*values: object) -> str:
    return "| " + " | ".join(map(str, values)) + " |"


def _part(part: str, rows: pd.DataFrame, cells: Mapping[Key, Cell], kinds: pd.DataFrame) -> Iterator[str]:
    own = rows[rows["part"] == part]
    here = {key: cell for key, cell in cells.items() if key[0] == part}
    yield "### One clip above the threshold\n\n" + _rate_table({k: c for k, c in here.items() if k[3] == "clip"}, kinds)
    rules = {key: cell for key, cell in here.items() if key[3] == "m_of_n"}
    if rules:
        yield _RULES + _rate_table(rules, kinds, titles=True)
    if "in_order" in own and len(ordered := own[own["in_order"].notna()]):
        yield _ORDER + _rate_table(make_cells(ordered, observed="in_order"), kinds, titles=True, in_order=True)
    yield _BOUND + _bound_table(own)
    if len(streams := own[own["rule"] == "stream"]):
        yield _STREAM + _stream_table(streams)


_RULES = """### m of n clips

Clips in random order. The rule is the one that the product chooses for the budget and n.

"""
_ORDER = """### m of n clips in the order of recording

The same calibration sets and rules on the held-out clips one after the other, as they were recorded: nothing is claimed
of these where clips resemble their neighbours. Toy clips do not.

"""
_BOUND = """### The bound at 95 % confidence

Share of calibration sets whose rate exceeds their own 95 % bound, which split alone claims. Of a finite number of
held-out clips a share other than .05 is to be expected (*claimed* here, exact for exchangeable scores).

"""
_STREAM = """### Clips that depend on their neighbours

Default budget and cadence, one day of Gaussian scores with correlation ρ from clip to clip. In false alarms a day:
*claimed* for independent clips; *rings*: clips on which the rule rings; *alarms*: what hold-off and re-arming leave;
*bound*: claimed whatever the dependence; *in a row*: alarms where the normals, too, are consecutive clips.

"""


def _rate_table(cells: Mapping[Key, Cell], kinds: pd.DataFrame, *, titles: bool = False, in_order: bool = False) -> str:
    alphas = sorted({key[5] for key in cells}, reverse=True)
    lines = _table("engine", "method", "n", "sets", *(f"α {_budget(alpha)}" for alpha in alphas), "verdict")
    # What is the same for every law stands before what is not.
    rows = sorted(dict.fromkeys((key[1], key[2], key[4]) for key in cells), key=lambda row: row[0] != "-")
    for engine, method, n in rows:
        found = {key[5]: (key, cell) for key, cell in cells.items() if (key[1], key[2], key[4]) == (engine, method, n)}
        texts = []
        for alpha in alphas:
            key, cell = found.get(alpha, ((), None))
            mark = "" if cell is None else "m " if _kind(key, kinds) == "modelled" else ""
            rule = f"{kinds.loc[key]['title']}; " if titles and cell is not None else ""
            texts.append(f"{mark}{rule}{cell.text}" if cell is not None else "")
        sets = max(cell.sets for _, cell in found.values())
        said = _verdict(found, kinds)
        lines.append(
            _line(_title(engine), method, n, f"{sets:,}", *texts, said.partition(" ")[2] if in_order else said)
        )
    return "\n".join(lines)


def _verdict(found: Mapping[float, tuple[Key, Cell]], kinds: pd.DataFrame) -> str:
    """Certified, uncertified and modelled cells of a row, each by its worst."""
    said = []
    for kind in ("certified", "uncertified", "modelled"):
        own = {alpha: cell for alpha, (key, cell) in found.items() if _kind(key, kinds) == kind}
        broken = [_budget(alpha) for alpha, cell in own.items() if cell.verdict == "broken"]
        verdicts = {cell.verdict for cell in own.values()}
        if broken:
            said.append(f"{kind} **broken** at {', '.join(broken)}")
        elif verdicts - {"shown"}:
            said.append(f"{kind} {'holds' if 'holds' in verdicts else 'open'}")
    return "; ".join(said)


def _bound_table(rows: pd.DataFrame) -> str:
    bounded = rows[rows["above"].notna()]
    alphas = sorted(bounded["alpha"].unique(), reverse=True)
    lines = _table("engine", "rule", "n", *(f"α {_budget(alpha)}" for alpha in alphas), "verdict")
    for (engine, rule, n), found in bounded.groupby(["engine", "rule", "n"], sort=False):
        cells = {
            alpha: make_cell(one, claimed="above_expected", observed="above")
            for alpha in alphas
            if len(one := found[found["alpha"] == alpha])
        }
        broken = [_budget(alpha) for alpha, cell in cells.items() if cell.verdict == "broken"]
        verdict = f"**broken** at {', '.join(broken)}" if broken else "holds"
        texts = [cells[alpha].text if alpha in cells else "" for alpha in alphas]
        lines.append(_line(_title(engine), str(rule).replace("_", " "), n, *texts, verdict))
    return "\n".join(lines)


def _stream_table(rows: pd.DataFrame) -> str:
    lines = _table("n", "rule", "ρ", "claimed: rings", "claimed: alarms", "bound: alarms", "bound: alarms, in a row")
    for (n, title, correlation), found in rows.groupby(["n", "title", "correlation"], sort=False):
        pairs = [
            ("claimed", "observed"),
            ("claimed", "alarms"),
            ("dependent", "alarms"),
            ("dependent", "alarms_in_a_row"),
        ]
        texts = [make_cell(found, claimed=claimed, observed=observed).text for claimed, observed in pairs]
        lines.append(_line(n, title, correlation, *texts))
    return "\n".join(lines)


_PANELS = (
    ("one clip: split, certified", lambda kind, method, rule: rule == "clip" and kind == "certified"),
    ("one clip: leave one out, not certified", lambda kind, method, rule: rule == "clip" and kind == "uncertified"),
    ("one clip: gamma tail, modelled", lambda kind, method, rule: rule == "clip" and kind == "modelled"),
    ("m of n: split (filled) and leave one out", lambda kind, method, rule: rule == "m_of_n"),
)
_COLOURS = {"a": "#0072b2", "b": "#d55e00", "c": "#009e73", "ensemble": "#cc79a7"}
_MARKERS = {"laws": "x", "toy": "o", "compressor": "s", "motor": "^"}
_DODGE = {"a": 0.955, "b": 0.985, "c": 1.015, "ensemble": 1.045}
"""Factors by which engines stand beside each other."""
_FLOOR = 1e-4


def draw_picture(path: Path, cells: Mapping[Key, Cell], kinds: pd.DataFrame) -> None:
    """Observed against claimed rates, a panel a kind of claim."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "calibration", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 9), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, (title, belongs) in zip(grid.flat, _PANELS, strict=True):
            axes.plot([_FLOOR, 1], [_FLOOR, 1], color="0.6", linewidth=1, zorder=1)
            axes.set(xscale="log", yscale="log", xlim=(2e-4, 0.4), ylim=(_FLOOR, 1), title=title)
            series: dict[tuple[str, str, bool], list[Cell]] = {}
            for key, cell in cells.items():
                part, engine, method, rule = key[:4]
                if cell.verdict not in ("open", "shown") and belongs(_kind(key, kinds), method, rule):
                    series.setdefault((part, engine, method == "split"), []).append(cell)
            for (part, engine, is_split), found in series.items():
                _draw_series(axes, found, engine, _MARKERS[part], filled=is_split)
        for axes in grid[1]:
            axes.set_xlabel("claimed false alarms a clip")
        for axes in grid[:, 0]:
            axes.set_ylabel("observed false alarms a clip")
        _add_legend(figure)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_series(axes: Any, cells: Sequence[Cell], engine: str, marker: str, *, filled: bool) -> None:
    colour, claimed = _COLOURS.get(engine, "0.35"), np.array([cell.claimed for cell in cells]) * _DODGE.get(engine, 1.0)
    low, observed, high = (
        np.maximum([getattr(cell, name) for cell in cells], _FLOOR) for name in ("low", "observed", "high")
    )
    gaps = np.full_like(low, np.nan)
    intervals = np.stack([low, high, gaps], axis=1).ravel()
    axes.plot(np.repeat(claimed, 3), intervals, color=colour, linewidth=0.7, alpha=0.5)
    face = colour if filled or marker == "x" else "white"
    axes.plot(claimed, observed, marker, color=colour, markerfacecolor=face, markersize=4.5, linestyle="", zorder=3)


def _add_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    engines = [
        Line2D([], [], color=_COLOURS[name], label=name if len(name) > 1 else f"engine {_title(name)}")
        for name in _COLOURS
    ]
    parts = [
        Line2D([], [], color="0.35", marker=marker, linestyle="", label=PART_TITLES[part])
        for part, marker in _MARKERS.items()
    ]
    figure.legend(handles=[*engines, *parts], loc="outside lower center", ncols=4, frameon=False)
