"""`alp form` and `alp pack`: what a plant gets, and a package of what it has already."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from deployments.options import AsJson, stderr, stdout
from schemas.errors import UsageError
from schemas.settings import Language

_SHOWN = 5


def form(
    machine_types: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MACHINE_TYPE]...",
            help="Whose pages to write. [default: those of the customer's file, else all]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A name ending .xlsx or .html.")] = Path(
        "form.xlsx"
    ),
    language: Annotated[
        Language | None,
        typer.Option("--lang", help="Of the form. [default: as the customer's file says, else en]", show_default=False),
    ] = None,
    customer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A known customer: with its machine types.", show_default=False),
    ] = None,
    types: Annotated[
        list[Path] | None,
        typer.Option("--types", metavar="FILE", help="YAML with machine types of your own; repeat for more."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the form for a plant: what to record, a table to fill in, and a checklist."""
    from deployments.printing import print_json
    from schemas.machine_types import load_machine_types, with_own_types
    from tasks.customers import require_customer_file
    from tasks.forms.form_file import write_form
    from tasks.report.words import Words

    known = load_machine_types(*(types or []))
    asked: list[str] = machine_types or []
    if customer is not None:
        described = require_customer_file(customer)
        known = with_own_types((*known.values(), *described.settings().machine_types))
        asked, language = asked or list(described.machine_types), language or described.language
    language = language or "en"
    written = write_form(out, asked, language=language, types=known, overwrite=overwrite)
    if as_json:
        print_json({"form": str(out), "machine_types": list(written.machine_types), "language": language})
        return
    names = ", ".join(map(written.name, written.machine_types))
    _say(Words(language)("terminal.form", names=names, path=str(out)))


def pack(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Recordings of one machine.", show_default=False)],
    machine_type: Annotated[str, typer.Option("--machine-type", "-m", help="What it is: fan, pump, …")],
    section: Annotated[str, typer.Option("--section", "-s", help="Which machine of that type.")],
    assume_normal: Annotated[
        bool, typer.Option("--assume-normal", help="Somebody who knows the machine says that all of them are normal.")
    ] = False,
    confirmed_by: Annotated[str | None, typer.Option(metavar="NAME", help="Who says so.")] = None,
    recorded_at: Annotated[str | None, typer.Option(metavar="TIME", help="When, such as 2026-03-02.")] = None,
    sensor: Annotated[
        Literal["microphone", "accelerometer"] | None, typer.Option(help="[default: microphone]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="[default: FOLDER.zip]", show_default=False),
    ] = None,
    language: Annotated[Language, typer.Option("--lang", help="Of what is printed.")] = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a package of a bare folder of normal recordings."""
    from deployments.printing import print_json
    from deployments.progress_bars import progress_bars
    from tasks.packing import Labels, pack_folder
    from tasks.report.words import Words

    if not assume_normal:
        raise UsageError(
            "everything in a package is learnt as normal: have somebody who knows the machine confirm it, and say"
            " --assume-normal"
        )
    source = folder.resolve()
    labels = Labels(machine_type, section, confirmed_by=confirmed_by, recorded_at=recorded_at, sensor=sensor)
    target = source.with_name(f"{source.name}.zip") if out is None else out
    with progress_bars(stderr, language):
        packed = pack_folder(source, target, labels, overwrite=overwrite)
    if as_json:
        left_out = list(packed.left_out)
        print_json({"package": str(packed.path), "recordings": packed.recordings, "left_out": left_out})
        return
    say = Words(language)
    _say(say("terminal.packed", n=packed.recordings, path=str(packed.path)))
    if packed.left_out:
        more = ", …" if len(packed.left_out) > _SHOWN else ""
        _say(say("terminal.left_out", names=f"{', '.join(packed.left_out[:_SHOWN])}{more}"), style="dim")
    in_korean = " --lang ko" if language == "ko" else ""
    _say(say("terminal.next", command=f"{sys.argv[0]} check {packed.path}{in_korean}"), style="dim")


def _say(text: str, *, style: str | None = None) -> None:
    from deployments.printing import shown

    stdout.print(shown(text), style=style, highlight=False, soft_wrap=True)
