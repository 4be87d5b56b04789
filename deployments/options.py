"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tasks.plain_text import without_controls

stdout = Console()
stderr = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line as it stands: nothing in it is markup, and what a terminal would act on is shown instead."""
    stdout.print(escape(without_controls(text)), style=style, highlight=False, soft_wrap=True)


StoreUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Object store. [default: $ALP_STORE or file://./alp-data]", show_default=False),
]
CustomersFolder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="Of the customers' files. [default: $ALP_CUSTOMERS or ./customers]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
