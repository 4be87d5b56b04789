"""`alp store`: make a store ready, try out what it can do, and make links to what lies there."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.settings import Environment

store_app = typer.Typer(
    help="Make an object store ready, try out what it can do, and make links to what lies there.", no_args_is_help=True
)

Url = Annotated[
    str | None,
    typer.Argument(
        metavar="[URL]",
        help="file:///path or s3://bucket?endpoint=http://host:9000. [default: $ALP_STORE or file://./alp-data]",
        show_default=False,
    ),
]
_SIGNS = {"made": "made", "there": "as it was", "cannot": "NOT DONE"}


@store_app.command()
def init(url: Url = None, as_json: AsJson = False) -> None:
    """Make a bucket or a folder ready to be a store, and say what was done; what is there stays as it is."""
    from tasks.store import open_store
    from tasks.store_setup import init_store

    store = open_store(url or Environment().store)
    steps = init_store(store)
    if as_json:
        from deployments.printing import print_json

        print_json({"store": store.url, "steps": [vars(step) for step in steps]})
        return
    for step in steps:
        say(f"{step.what}: {_SIGNS[step.outcome]}; {step.detail}")
    say(f"Next: alp store check '{store.url}'", "dim")


@store_app.command()
def check(url: Url = None, as_json: AsJson = False) -> None:
    """Try out all that ALP asks of a store, on an object that is removed again."""
    from tasks.store import open_store
    from tasks.store_setup import check_store

    store = open_store(url or Environment().store)
    held = []
    for sentence in check_store(store):
        held.append(sentence)
        if not as_json:
            say(sentence)
    if as_json:
        from deployments.printing import print_json

        print_json({"store": store.url, "held": held})


@store_app.command()
def link(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as customers/acme/fleet.html.", show_default=False)],
    store: StoreUrl = None,
    hours: Annotated[float, typer.Option(min=0.01, max=168, metavar="HOURS", help="How long it holds.")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a link that opens an object in a browser, for whoever holds it, until it expires."""
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    # As commands and reports name objects: with the store before the key.
    key = key.removeprefix(shelf.uri(""))
    address = shelf.presigned_url(key, expires_s=int(timedelta(hours=hours).total_seconds()))
    if as_json:
        from deployments.printing import print_json

        print_json({"key": key, "link": address})
    else:
        say(address)
