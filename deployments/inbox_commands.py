"""`alp customer send`: drop a package, or new recordings, where a customer's flows look for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.options import AsJson, CustomersFolder, StoreUrl, say
from schemas.errors import InputError, StoreError, UsageError
from schemas.settings import Environment

if TYPE_CHECKING:
    from schemas.customers import Customer
    from tasks.store import ObjectStore

_SOUNDS = (".wav", ".flac")


def send(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The customer.", show_default=False)],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Zips, or with --asset recordings.", show_default=False),
    ],
    asset: Annotated[
        str | None,
        typer.Option(
            metavar="ASSET",
            help="Send recordings of this machine to be judged, such as fan-00. [default: send packages]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what lies there under the same name.")
    ] = False,
    folder: CustomersFolder = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Drop packages into a customer's inbox, as a plant would, or recordings where its monitor looks for them."""
    from deployments.printing import print_json
    from tasks.customers import require_customer_file
    from tasks.store import open_store

    customer = require_customer_file(name, folder)
    shelf = open_store(store or Environment().store)
    prefix = customer.inbox_folder if asset is None else _recordings_folder(shelf, name, asset)
    # All are looked at before the first is sent.
    sent = {_key(prefix, path, (".zip",) if asset is None else _SOUNDS): path for path in files}
    if len(sent) < len(files):
        raise UsageError("two of the files have the same name; send them one after the other, renamed")
    if not overwrite and (there := [key for key in sent if shelf.exists(key)]):
        raise UsageError(f"{there[0]} lies in the store already; rename the file, or say --overwrite to replace it")
    for key, path in sent.items():
        shelf.put_file(key, path)
    if as_json:
        print_json({"customer": name, "sent": list(sent)})
        return
    for key in sent:
        say(f"Sent {key}")
    say(_next_look(customer, asset), "dim")


def _recordings_folder(store: ObjectStore, customer: str, asset: str) -> str:
    """Of a machine that is known: what lies below another name nobody ever hears."""
    from tasks import keys
    from tasks.assets import find_asset

    return keys.recordings(customer, find_asset(store, customer, asset)).rstrip("/")


def _key(prefix: str, path: Path, endings: tuple[str, ...]) -> str:
    """Where a file goes, by its own name."""
    from tasks.store import check_key

    if path.is_dir():
        raise InputError(f"{path} is a folder: make a zip of it, for a package with `alp pack`")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: only {' and '.join(endings)} are sent there")
    try:
        return check_key(f"{prefix}/{path.name}")
    except StoreError as error:
        raise InputError(f"{path}: its name cannot stand in the store ({error}); rename it") from error


def _next_look(customer: Customer, asset: str | None) -> str:
    cron = customer.schedule.onboard if asset is None else customer.schedule.monitor
    flow = f"{'onboard' if asset is None else 'monitor'}/{customer.name}"
    if cron is None:
        return f"It is looked at when {flow} is started by hand"
    return f"{flow} looks there at {cron} {customer.time_zone}, once `alp deploy` has put it on its schedule"
