"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

stdout = Console()
stderr = Console(stderr=True)

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
