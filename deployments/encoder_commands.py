"""`alp encoder`: which encoders there are, and the weights of those that need some.

Only `fetch` writes anything, and only `fetch --from hub` uses the network, where `ALP_ALLOW_DOWNLOAD` allows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.errors import AlpError, UsageError

if TYPE_CHECKING:
    from engines.encoders.base import Encoder

encoder_app = typer.Typer(
    name="encoder", help="List encoders, fetch their weights, check that they work.", no_args_is_help=True
)
stdout = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]

COST_S: Final = {"ast": 2.6, "lite0": 0.02, "logmel": 0.003}
"""Seconds that encoding a clip of 10 s took on one thread; that of `ast` in bfloat16 (4.9 in float32)."""
CHECKED_S: Final = 1.0


@encoder_app.command("list")
def list_encoders(as_json: AsJson = False) -> None:
    """List the encoders, whether their weights are here, what they cost, and which one `auto` takes."""
    from deployments.printing import print_json

    rows = _describe_all()
    if as_json:
        print_json({"encoders": rows})
    else:
        _print_rows(rows)


@encoder_app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An encoder: ast.", show_default=False)],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="SOURCE", help="A folder, a prefix of the object store, or hub.", show_default=False
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other weights that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lay an encoder's weights out on this machine, checked; runs never fetch any."""
    from deployments.printing import print_json
    from tasks.weights import fetch_ast, weights_status

    if name != "ast":
        raise UsageError(f"encoder {name!r} has no weights to fetch; only ast has")
    folder = fetch_ast(source, overwrite=overwrite)
    sha256 = weights_status(name).sha256
    if as_json:
        print_json({"name": name, "folder": str(folder), "sha256": sha256, "published": _is_published(sha256)})
    else:
        _say(f"The weights of {name} lie in {folder}")
        _say(f"sha256 {sha256}: {'as published' if _is_published(sha256) else 'not the published checkpoint'}")


@encoder_app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ast, lite0 or logmel.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Verify an encoder's weights and encode a second of a toy sound."""
    from deployments.printing import print_json
    from tasks.engines import load_encoder

    encoder = load_encoder(name)
    layers, seconds = _encode_toy(encoder)
    document = {
        "name": name,
        "weights": encoder.identity.weights,
        "precision": encoder.identity.precision,
        "layers": layers,
        "encode_s": round(seconds, 4),
    }
    if as_json:
        print_json(document)
    else:
        _print_check(document)


def _describe_all() -> list[dict[str, Any]]:
    from tasks.engines import ENCODERS, ENCODERS_BEST_FIRST
    from tasks.weights import weights_status

    states = {name: weights_status(name) for name in ENCODERS}
    # As `choose_encoder` does, without loading any.
    alone = next(name for name in ENCODERS_BEST_FIRST if states[name].here)
    taken = {"a": alone, "b": "logmel", "ensemble": "logmel"}
    return [
        {
            "name": name,
            "here": state.here,
            "place": state.place,
            "source": state.source,
            "sha256": state.sha256,
            "seconds_per_clip": COST_S[name],
            "auto_for": [engine for engine, taker in taken.items() if taker == name],
        }
        for name, state in states.items()
    ]


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from tasks.engine_names import engine_name

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("encoder", "weights", "a clip of 10 s", "chosen by auto for"):
        table.add_column(heading)
    for row in rows:
        here = "[green]here[/]" if row["here"] else "[yellow]absent[/]"
        engines = ", ".join(map(engine_name, row["auto_for"]))
        table.add_row(row["name"], here, f"{row['seconds_per_clip']:g} s", engines or "only when asked for")
    stdout.print(table)
    for row in rows:
        where = f" in {row['place']}" if row["here"] and row["place"] else ""
        _say(f"  {row['name']}: {row['source'] or 'nothing fetched yet'}{where}")
    _say("Engine C hears by a network of its own; where it is on trial, the engines beside it hear as B does.")
    _say("ast is never chosen by auto: its quality on machine sounds was not measured here.")


def _is_published(sha256: str | None) -> bool:
    from tasks.weights import AST_SHA256

    return sha256 == AST_SHA256


def _encode_toy(encoder: Encoder) -> tuple[list[dict[str, Any]], float]:
    """Shape of each layer of one second of a toy sound, standardized by itself; and the seconds it took."""
    import time

    import numpy as np

    from engines.features import BandMoments, BandStatistics
    from engines.toy.plan import ToyPlan
    from engines.toy.render import render_clip
    from engines.toy.waves import SAMPLE_RATE

    samples = render_clip(ToyPlan(machine_types=("fan",), scale=0.001).clips()[0])[: round(CHECKED_S * SAMPLE_RATE)]
    waveform = samples.astype(np.float32) / np.float32(2**15)
    heard = encoder.spectrogram(waveform, sample_rate=SAMPLE_RATE, bandwidth_hz=SAMPLE_RATE / 2)
    statistics = BandStatistics.of([BandMoments.of(heard)], std_floor_db=1.0)
    image = statistics.standardize(heard)
    encoder.encode_one(image)  # the first call sets up what later ones reuse
    start = time.perf_counter()
    layers = encoder.encode_one(image)
    seconds = time.perf_counter() - start
    if not all(np.isfinite(layer.patches).all() for layer in layers):
        raise AlpError(f"encoder {encoder.name} made patches that are not finite numbers of a toy sound")
    shapes = [{"frequency": layer.grid[0], "time": layer.grid[1], "dim": layer.patches.shape[2]} for layer in layers]
    return shapes, seconds


def _print_check(document: dict[str, Any]) -> None:
    _say(f"{document['name']}: weights {document['weights']}, {document['precision']}")
    for i, layer in enumerate(document["layers"], start=1):
        _say(
            f"  layer {i}: {layer['frequency']} × {layer['time']} patches, frequency × time, of {layer['dim']} numbers"
        )
    _say(f"{CHECKED_S:g} s of sound encoded in {document['encode_s']:g} s")


def _say(text: str) -> None:
    stdout.print(escape(text), highlight=False, soft_wrap=True)
