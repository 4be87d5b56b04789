"""`alp fleet`: all machines of a customer on one page, as the store knows them now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.settings import Environment, Language

if TYPE_CHECKING:
    from tasks.fleet import Fleet

CustomerName = Annotated[
    str, typer.Argument(metavar="CUSTOMER", help="Whose machines, such as acme.", show_default=False)
]
InLanguage = Annotated[
    Language | None,
    typer.Option(
        "--lang",
        help="Of the page and of what is printed. [default: the customer's, else the page's]",
        show_default=False,
    ),
]


def fleet(customer: CustomerName, store: StoreUrl = None, language: InLanguage = None, as_json: AsJson = False) -> None:
    """Write the page of all machines of a customer anew, and say how they stand."""
    from deployments.printing import print_json
    from tasks import keys
    from tasks.customers import find_customer
    from tasks.fleet import file_fleet_page, language_of_page
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    known = find_customer(customer)
    spoken = language or (known.language if known is not None else language_of_page(shelf, customer)) or "en"
    found = file_fleet_page(shelf, customer, language=spoken)
    page = shelf.location(keys.fleet(customer))
    if as_json:
        print_json(found.model_dump(mode="json") | {"page": page})
    else:
        _print_fleet(found, page, spoken)


def _print_fleet(found: Fleet, page: str, language: Language) -> None:
    from tasks.report.fleet_view import advise
    from tasks.report.words import Words

    words = Words(language, found.types)
    for machine in found.machines:
        name = words.machine(machine.machine_type, machine.section_id)
        status, advice = words(f"fleet.status.{machine.status}"), advise(machine, words)
        say(f"{name}: {status}. {advice}" if advice else f"{name}: {status}.")
        if machine.coverage is not None and not machine.coverage.covered:
            say(f"  {machine.coverage.sentence}")
    say(page)
