"""quality.md: the figures of a run as tables, what they say of the project's promises, and notes written by hand.

What stands between the two markers is kept when the page is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import KNN, NAMES, is_engine

BEGIN, END = "<!-- by hand: begin -->", "<!-- by hand: end -->"
MARGIN = 0.02
"""AUC that the routed engine may lie below the best single one."""

_TITLES = {
    "a": "A",
    "b": "B",
    "c": "C",
    "routed": "**routed**",
    "ensemble": "**ensemble**",
}

_PROMISES = """## What it says of the promises

*Not worse* and *does not hurt* hold where the interval does not lie wholly below zero: a wide interval holds easily, so
read its lower end too. *Within* holds where the mean does.

"""

Json = Mapping[str, Any]


def write_page(path: Path, summary: Json) -> None:
    """Write the page, keeping the notes that the one before it holds."""
    by_hand = kept_notes(path)
    parts = [_head(summary["run"]), *(_set_part(name, found) for name, found in summary["sets"].items())]
    parts += [_PROMISES + "\n".join(_verdicts(summary)), "## Notes", by_hand]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def kept_notes(path: Path) -> str:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in text and END in text:
        return BEGIN + text.split(BEGIN, 1)[1].split(END, 1)[0] + END
    return f"{BEGIN}\n{END}"


def _head(run: Json) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    encoders = ", ".join(f"{name} ({why})" if why else name for name, why in run["encoders"].items())
    shots = ", ".join(map(str, run["shots"]))
    seeds = ", ".join(map(str, run["toy_seeds"]))
    return f"""# Quality: engines, router and ensemble beside peers

Written by `make bench-quality`; figures with more digits, and AUC by machine type, are in quality.json. Code
`{run["code"]}`, Python {run["python"]}, {packages}; {run["processes"]} jobs side by side on
{run["cores"]} cores, {run["job_seconds"] / 60:.0f} minutes of jobs in all. Encoders: {encoders}. `routed` and
`ensemble` use {run["auto"]} as `--encoder auto` does ({run["auto_alone"]} where engine A is the only one that is able).

**What was run.** Target normals of train and test are one pool. {shots} of them are drawn as support; the rest of the
pool, the source's test normals and all anomalies are tested; redrawn {run["redraws"]} times with fixed seeds, the same
for every method. toy: seeds {seeds}, each machine type an asset; a figure is the macro mean over machine types, ± the
standard deviation over seeds and redraws. The packages of real recordings: ± over redraws. Every setting was chosen
elsewhere (docs/engines.md); nothing here was tuned on these test clips.

**How to read it.** Definitions are DCASE 2023's: `auc` and `pauc` (false-positive rate up to .1) over all tested clips;
`auc_target` and `auc_source`: that domain's normals against all anomalies; `official`: the harmonic mean of auc_source,
auc_target and pauc. `fit` is seconds of wall clock, `score` milliseconds a clip, `peak` the highest resident memory of
the process: measured on the set's first asset and first redraw, each method alone in a process, on one thread, with
other jobs beside it (PyOD's `fit` makes engine B's embeddings first, and with them B's own leave-one-out). `routed` is
the engine that the router settled on, its `fit` that of all candidates; `ensemble` is all able engines together.

**Differences** are first − second with a 95 % paired bootstrap interval (1,000 resamples, percentiles). Resampled
jointly for both: assets (toy), redraws within an asset, and clips within class and domain, a clip having one weight in
all redraws. `official` is here the mean over assets of each one's harmonic mean, in the tables above one harmonic mean
over all of them: on toy the two differ. With one asset the interval speaks of other recordings of that machine, not of
other machines. The *best single* engine is the one, with its encoder, of the highest mean AUC in that table: known only
afterwards, so it flatters."""


def _set_part(name: str, found: Json) -> str:
    if "why" in found:
        return f"## {name}\n\n{found['why']}"
    clips = found["clips"]
    assets = f"{found['assets']} assets, each with " if found["assets"] > 1 else ""
    head = (
        f"## {name}\n\n{assets}{clips['source']} source normals to learn from, a pool of {clips['pool']} target "
        f"normals, {clips['anomalies']} anomalies and {clips['source_tests']} source normals to test."
    )
    tables = [_shots_part(shots, part, found["costs"]) for shots, part in found["shots"].items()]
    return "\n\n".join([head, *tables, f"### {name}: differences\n\n" + _difference_table(found["shots"])])


def _shots_part(shots: str, part: Json, costs: Json) -> str:
    lines = [f"| method | {' | '.join(NAMES)} | fit s | score ms | peak MB |", "|---" * (len(NAMES) + 4) + "|"]
    for row, values in part["rows"].items():
        lines.append(_row_line(row, values, _cost_of(row, int(shots), costs)))
    routed = ", ".join(f"{title(row)} {count}" for row, count in part["routed_to"].items())
    floor = f"{costs['floor_mb']:.0f} MB" if costs["floor_mb"] else "unknown"
    return (
        f"### {shots} shots\n\n" + "\n".join(lines) + f"\n\nRouted to: {routed} draws. Memory before a method: {floor}."
    )


def _row_line(row: str, values: Json, cost: Json | None) -> str:
    if "why" in values:
        return f"| {title(row)} | {values['why']} |" + " |" * (len(NAMES) + 2)
    figures = [_plus_minus(values[name]) for name in NAMES]
    peak = f"{cost['peak_mb']:.0f}" if cost and cost["peak_mb"] else ""
    costs = [f"{cost['fit_s']:.2f}", f"{1000 * cost['score_s'] / cost['tests']:.1f}", peak] if cost else ["", "", ""]
    return f"| {title(row)} | " + " | ".join([*figures, *costs]) + " |"


def _cost_of(row: str, shots: int, costs: Json) -> Json | None:
    for rows, measured in costs["rows"].items():
        if row in rows.split(" / "):
            found: Json = next(cost for cost in measured if cost["shots"] == shots)
            return found
    return None


def _plus_minus(value: Json | None) -> str:
    return "–" if value is None else f"{_short(value['mean'])} ± {_short(value['sd'])}"


def _short(value: float, *, sign: bool = False) -> str:
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text.replace("0.", ".", 1).replace("-", "−")


def title(row: str) -> str:
    """What a row is called on the page."""
    engine, _, rest = row.partition("/")
    if is_engine(row) or engine in ("a", "b"):
        return ", ".join(filter(None, [_TITLES[engine], *rest.split("/")]))
    return _TITLES.get(row, row.replace("/", ", "))


def _difference_table(by_shots: Json) -> str:
    lines = ["| difference | shots | auc | auc_target | official |", "|---|---|---|---|---|"]
    order: dict[tuple[str, str, str], list[tuple[str, Json]]] = {}
    for shots, part in by_shots.items():
        for found in part["differences"]:
            order.setdefault((found["kind"], found["first"], found["second"]), []).append((shots, found))
    for (_, first, second), all_shots in order.items():
        for shots, found in all_shots:
            cells = " | ".join(_interval(found[name]) for name in ("auc", "auc_target", "official"))
            lines.append(f"| {title(first)} − {title(second)} | {shots} | {cells} |")
    return "\n".join(lines)


def _interval(found: Json | None) -> str:
    if found is None:
        return "–"
    return f"{_short(found['mean'], sign=True)} [{_short(found['low'], sign=True)}, {_short(found['high'], sign=True)}]"


def _verdicts(summary: Json) -> Iterator[str]:
    """A line for each promise on each set and number of shots: does it hold?"""
    auto = summary["run"]["auto"]
    for name, found in summary["sets"].items():
        for shots, part in found.get("shots", {}).items():
            where = f"{name}, {shots} shots"
            by_pair = {(one["first"], one["second"]): one for one in part["differences"]}
            yield from _judge(where, by_pair, f"b/{auto}", KNN, "auc", "B is not worse than log-mel kNN", _not_worse)
            yield from _judge(
                where, by_pair, f"b/{auto}", f"b/{auto}/no mixup", "auc_target", "mixup does not hurt", _not_worse
            )
            best = part["best_single"]
            claim = f"routed within {_short(MARGIN)} of the best single engine ({title(best)})" if best else ""
            if best and not _is_always(part["routed_to"], best):
                yield from _judge(where, by_pair, "routed", best, "auc", claim, lambda one: one["mean"] >= -MARGIN)
            elif best:
                yield f"- {where}: {claim}: **holds**, it is that engine."
            yield from _judge(where, by_pair, "ensemble", "routed", "auc", "ensemble against routed", None)


def _judge(
    where: str, by_pair: Mapping[tuple[str, str], Json], first: str, second: str, metric: str, claim: str, holds: Any
) -> Iterator[str]:
    found = by_pair.get((first, second))
    if found is None or found[metric] is None:
        return
    verdict = "" if holds is None else (" **holds**," if holds(found[metric]) else " **falls short**,")
    yield f"- {where}: {claim}:{verdict} {metric} {_interval(found[metric])}."


def _not_worse(one: Json) -> bool:
    """The interval does not lie below zero as a whole."""
    return bool(one["high"] >= 0)


def _is_always(routed_to: Mapping[str, int], row: str) -> bool:
    return set(routed_to) == {row}
