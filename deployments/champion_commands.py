"""`alp champion`: who judges a machine, who did before and why; crown a model, or take the champion back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.errors import InputError, StoreError
from schemas.settings import Environment

if TYPE_CHECKING:
    from tasks.champions import Champion, Coronation, Succession
    from tasks.store import ObjectStore

champion_app = typer.Typer(help="See which models judged a machine, crown one, or take one back.", no_args_is_help=True)

AssetName = Annotated[
    str, typer.Argument(metavar="ASSET", help="Machine type and section, such as fan-00.", show_default=False)
]
AnyAsset = Annotated[
    str | None,
    typer.Argument(metavar="[ASSET]", help="Machine type and section; every machine if left out.", show_default=False),
]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="A model of the asset, or how its version begins.", show_default=False)
]
Customer = Annotated[str, typer.Option(metavar="NAME", help="Whose machine it is.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept in the history.", show_default=False)]


@champion_app.command("list")
def list_models(
    asset: AnyAsset = None, customer: Customer = "local", store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Who judges each machine; of one machine every model that was champion or was refused, in order, and why."""
    from tasks.champions import find_champion, missing_parts, read_succession

    if asset is None:
        _list_champions(customer, store, as_json=as_json)
        return
    shelf, name = _find(store, customer, asset)
    champion, history = find_champion(shelf, customer, name), read_succession(shelf, customer, name)
    versions = dict.fromkeys(change.version for change in history.changes)
    whole = {version: not missing_parts(shelf, customer, name, version) for version in versions}
    if as_json:
        _print_json(
            {
                "customer": customer,
                "asset": name,
                "champion": None if champion is None else champion.version,
                "changes": [
                    change.model_dump(mode="json") | {"whole": whole[change.version]} for change in history.changes
                ],
            }
        )
        return
    _print_history(name, customer, champion, history, whole)


def _list_champions(customer: str, store: str | None, *, as_json: bool) -> None:
    """Print each machine of a customer with its champion."""
    from tasks import keys
    from tasks.champions import find_champion
    from tasks.ledger import asset_ids
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    champions = {name: find_champion(shelf, customer, name) for name in asset_ids(shelf, keys.check_customer(customer))}
    if as_json:
        said = {name: None if who is None else who.model_dump(mode="json") for name, who in champions.items()}
        _print_json({"customer": customer, "champions": said})
        return
    if not champions:
        others = sorted({key.split("/")[1] for key in shelf.list_keys("assets/")})
        whose = f"; machines there are of {', '.join(others[:10])}: name one with --customer" if others else ""
        raise InputError(f"{customer} has no machine yet in {shelf.url}{whose or ': onboard a package of it'}")
    for name, who in champions.items():
        say(f"{name}: {'no champion yet' if who is None else _describe(who)}")


@champion_app.command()
def show(asset: AssetName, customer: Customer = "local", store: StoreUrl = None, as_json: AsJson = False) -> None:
    """The champion, the model before it, and what each was found to be when the last two were compared."""
    from tasks.challenges import last_comparison
    from tasks.champions import find_champion, read_succession

    shelf, name = _find(store, customer, asset)
    champion, history = find_champion(shelf, customer, name), read_succession(shelf, customer, name)
    if champion is None:
        raise InputError(f"{name} of {customer} has no champion yet; onboard a package of it, with three normals")
    comparison = last_comparison(shelf, history)
    if as_json:
        _print_json(
            {
                "customer": customer,
                "asset": name,
                "champion": champion.model_dump(mode="json"),
                "comparison": None if comparison is None else comparison.model_dump(mode="json"),
            }
        )
        return
    say(f"{name} of {customer}: {_describe(champion)}", "bold")
    if (crowned := history.last_of(champion.version)) is not None:
        say(f"  {crowned.sentence}")
    say(f"  before it: {champion.previous or 'none'}")
    if comparison is not None:
        verdict = "not worse" if comparison.not_worse else "worse"
        challenger, met = comparison.challenger.version, comparison.champion.version
        say(f"  last comparison: challenger {challenger} was {verdict} than {met}")
        for sentence in [*([comparison.must] if comparison.must else []), *(c.sentence for c in comparison.criteria)]:
            say(f"    {sentence}")


@champion_app.command()
def promote(
    asset: AssetName,
    version: Version,
    customer: Customer = "local",
    reason: Reason = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a model of the asset its champion, one that was refused or taken back too; the one there is stays known."""
    from tasks import champions

    shelf, name = _find(store, customer, asset)
    why = reason or "an operator crowned it"
    ended = champions.promote(shelf, customer, name, version, reason=why)
    _conclude(shelf, customer, name, ended, as_json=as_json)


@champion_app.command()
def rollback(
    asset: AssetName,
    customer: Customer = "local",
    reason: Reason = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take the champion back, so that the model before it judges again; no run crowns that very model by itself."""
    from tasks import champions

    shelf, name = _find(store, customer, asset)
    ended = champions.rollback(shelf, customer, name, reason=reason or "an operator took it back")
    _conclude(shelf, customer, name, ended, as_json=as_json)


def _find(store: str | None, customer: str, asset: str) -> tuple[ObjectStore, str]:
    from tasks.assets import find_asset
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    return shelf, find_asset(shelf, customer, asset)


def _conclude(store: ObjectStore, customer: str, asset: str, ended: Coronation, *, as_json: bool) -> None:
    """Bring the page of all machines up to date, and say who judges now."""
    from tasks.fleet import refresh_fleet_page

    before, champion = ended.before, ended.champion
    if champion is None:
        raise StoreError(f"{asset} of {customer} has no champion though one was crowned; start the command again")
    changed = before is None or before.version != champion.version
    if changed:
        refresh_fleet_page(store, customer, otherwise="en")
    if as_json:
        both = {"champion": champion, "before": before}
        said = {name: None if who is None else who.model_dump(mode="json") for name, who in both.items()}
        _print_json({"customer": customer, "asset": asset, "changed": changed, **said})
        return
    if not changed:
        say(f"{asset} of {customer} is judged by {_describe(champion)} already")
        return
    say(f"{asset} of {customer} is judged by {_describe(champion)} from now on", "bold")
    if before is not None:
        say(f"  until now: {_describe(before)}")
    say("  a monitor that runs takes it up at its next look, and its alarm starts anew", "dim")


def _print_history(
    asset: str, customer: str, champion: Champion | None, history: Succession, whole: dict[str, bool]
) -> None:
    now = "no champion yet" if champion is None else _describe(champion)
    say(f"{asset} of {customer}: {now}", "bold")
    crowned = None if champion is None else history.last_of(champion.version)
    for change in history.changes:
        mark = "*" if change is crowned else " "
        gone = "" if whole[change.version] else " (its files are gone)"
        did = {"onboard": "onboarded", "retrain": "retrained", "promote": "promoted", "rollback": "back by rollback"}
        not_crowned = "deleted" if change.by == "purge" else "refused"
        became = did[change.by] if change.crowned else not_crowned
        say(f"{mark} {change.at:%Y-%m-%d %H:%M} {change.version} {became}{gone}: {change.reason}")
    for version in (each for each in whole if history.held_by(each) is not None):
        say(f"  {version} is held: `alp champion promote {asset} {version} --customer {customer}` crowns it", "dim")


def _describe(champion: Champion) -> str:
    from tasks.engine_names import engine_phrase

    return f"{engine_phrase(champion.engine)} ({champion.encoder}), model {champion.version}"


def _print_json(document: dict[str, Any]) -> None:
    from deployments.printing import print_json

    print_json(document)
