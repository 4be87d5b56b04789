"""`alp library`: what the library holds, whose it is, and what to collect next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.settings import Environment, OnboardSettings

if TYPE_CHECKING:
    from tasks.inventory import AssetStock, Inventory, PlantStock

library_app = typer.Typer(
    help="What the library holds, by machine type, plant and condition, and what to collect next."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A customer.", show_default=False)]


@library_app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    customer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this customer may use. [default: everything]")
    ] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """What the library holds, by machine type, plant and condition, and what to collect next."""
    if context.invoked_subcommand is not None:
        return
    from deployments.printing import print_json
    from tasks.inventory import take_stock
    from tasks.keys import check_customer
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    inventory = take_stock(shelf, OnboardSettings(), customer=check_customer(customer) if customer else None)
    if as_json:
        print_json(inventory.model_dump(mode="json"))
    else:
        _print_inventory(inventory)


@library_app.command()
def share(name: Name, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Let a customer's normals serve other customers."""
    _set_consent(name, store, share_source=True, as_json=as_json)


@library_app.command()
def withdraw(name: Name, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Keep a customer's normals to its own plants from now on."""
    _set_consent(name, store, share_source=False, as_json=as_json)


def _set_consent(name: str, store: str | None, *, share_source: bool, as_json: bool) -> None:
    from deployments.printing import print_json
    from tasks.sharing import require_customer, set_consent
    from tasks.store import open_store

    opened = open_store(store or Environment().store)
    require_customer(opened, name)
    changed = set_consent(opened, name, share_source=share_source)
    if as_json:
        print_json({"customer": name, "share_source": share_source, "changed": changed})
        return
    if share_source:
        meaning = (
            f"Normals of {name} now serve other customers' machines of the same type as source, from their next fit on."
            " Its tests and noise-only recordings stay its own."
        )
    else:
        meaning = (
            f"Normals of {name} serve its own plants alone. Other customers' models that learnt from them keep what"
            " they learnt until their next fit, which does without; onboard their packages again to refit them now."
        )
    say(meaning if changed else f"Nothing to change. {meaning}")
    _say_what_the_file_says(name, share_source=share_source)


def _say_what_the_file_says(name: str, *, share_source: bool) -> None:
    """Whoever deploys next would undo what was just said, where the customer's file says otherwise."""
    from tasks.customers import customer_path, find_customer

    customer = find_customer(name)
    if customer is not None and customer.share_source not in (None, share_source):
        said = str(customer.share_source).lower()
        say(
            f"{customer_path(name)} still says share_source: {said}; change it, or the next `alp deploy` undoes this",
            "yellow",
        )


def _print_inventory(inventory: Inventory) -> None:
    if not inventory.machine_types:
        whose = f" that {inventory.customer} may use" if inventory.customer else ""
        say(f"The library holds nothing{whose}: onboard a package first")
        return
    for kind in inventory.machine_types:
        say(f"{kind.machine_type}: {_amount(kind.recordings, kind.hours, kind.bytes)}", "bold")
        for plant in kind.plants:
            _print_plant(plant)
    say(f"Sizes: {inventory.bytes_are}", "dim")


def _print_plant(plant: PlantStock) -> None:
    shared = "shared with other customers" if plant.shared else "kept to itself"
    say(f"  {plant.customer} ({shared}): {_amount(plant.recordings, plant.hours, plant.bytes)}")
    if plant.next:
        say(f"    {plant.next}", "dim")
    for asset in plant.assets:
        _print_asset(asset)


def _print_asset(asset: AssetStock) -> None:
    clean = f", {asset.clean_machine} clean-machine" if asset.clean_machine else ""
    say(
        f"    {asset.asset}: {asset.target} target and {asset.source} source normals{clean};"
        f" {_amount(asset.recordings, asset.hours, asset.bytes)}"
    )
    for column, values in asset.conditions.items():
        say(f"      {column}: {', '.join(f'{value} {count}' for value, count in values.items())}")
    if asset.next:
        say(f"      {asset.next}", "dim")


def _amount(recordings: int, hours: float, size: int) -> str:
    from tasks.report.words import duration

    return f"{recordings} recordings, {duration(hours)}, {size / 1e6:.1f} MB"
