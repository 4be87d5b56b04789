"""`alp customer`: customers as code, a YAML file each, which `alp deploy` puts on their schedules."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from deployments.options import AsJson, CustomersFolder, StoreUrl, say, stderr, stdout
from schemas.errors import UsageError
from schemas.settings import EngineChoice, Environment, Language
from tasks.plain_text import without_controls

if TYPE_CHECKING:
    from deployments.customer_removal import Removed
    from schemas.customers import Customer
    from tasks.purging import Traces

_PATIENCE_S = 300.0
"""How long a purge waits for runs under way: an onboarding takes minutes."""

customer_app = typer.Typer(
    help="Customers as code: write, list, show and remove their files, or delete all that is known of one.",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, single hyphens.", show_default=False)
]


@customer_app.command()
def add(
    name: Name,
    machine_type: Annotated[
        list[str] | None,
        typer.Option(
            "--machine-type", "-m", metavar="TYPE", help="A machine type there is, in any spelling; repeat for more."
        ),
    ] = None,
    onboard: Annotated[
        str | None, typer.Option(metavar="CRON", help="When the inbox is looked into. [default: */15 * * * *]")
    ] = None,
    monitor: Annotated[
        str | None, typer.Option(metavar="CRON", help="When new recordings are judged. [default: */5 * * * *]")
    ] = None,
    time_zone: Annotated[str, typer.Option(metavar="ZONE", help="Of these times, such as Asia/Seoul.")] = "UTC",
    engine: Annotated[EngineChoice, typer.Option(help="auto: the engine the data can carry.")] = "auto",
    language: Annotated[Language, typer.Option("--lang", help="Of reports and alarms.")] = "en",
    share_source: Annotated[
        bool | None,
        typer.Option(
            "--share-source/--keep-source",
            help="Whether the normals may serve other customers. [default: as `alp library` says, else no]",
            show_default=False,
        ),
    ] = None,
    contact: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="E-mail address of whom to ask; repeat for more.")
    ] = None,
    folder: CustomersFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a new customer's file; everything else that it may say is edited there."""
    from deployments.printing import print_json
    from schemas.machine_types import fold, load_machine_types, spelling_index
    from tasks.customers import write_customer

    spellings = spelling_index(load_machine_types())
    said = {
        "name": name,
        "machine_types": {spellings.get(fold(kind), kind): None for kind in machine_type or []},
        "schedule": {key: cron for key, cron in (("onboard", onboard), ("monitor", monitor)) if cron is not None},
        "time_zone": time_zone,
        "engine": engine,
        "language": language,
        "share_source": share_source,
        "contacts": [{"name": address, "email": address} for address in contact or []],
    }
    path = write_customer(_customer_of(said), folder)
    if as_json:
        print_json({"customer": name, "file": str(path)})
        return
    say(f"Wrote {path}")
    say(f"Next: {sys.argv[0]} deploy", "dim")


def _customer_of(said: dict[str, Any]) -> Customer:
    """The customer that the options describe, their faults told as those of a file are."""
    from schemas.customers import Customer
    from schemas.yaml_models import fill_model

    options = {"machine_types": "--machine-type", "time_zone": "--time-zone", "contacts": "--contact", "name": "NAME"}

    def place(keys: Any) -> str:
        key = str(keys[-1]) if keys[0] == "schedule" else str(keys[0])
        return options.get(key, f"--{key}")

    return fill_model(Customer, said, keys=tuple(said), place=place, what="key")


@customer_app.command(name="list")
def list_(folder: CustomersFolder = None, as_json: AsJson = False) -> None:
    """Every customer with its schedule and machine types."""
    from deployments.printing import print_json
    from tasks.customers import load_customers

    customers = load_customers(folder)
    if as_json:
        print_json({"customers": [customer.model_dump(mode="json") for customer in customers.values()]})
        return
    if not customers:
        say("There are no customers: write a first one with `alp customer add NAME`", "dim")
    for customer in customers.values():
        when = f"onboard {customer.schedule.onboard or 'by hand'}, monitor {customer.schedule.monitor or 'by hand'}"
        machines = ", ".join(customer.machine_types) or "any machines"
        say(f"{customer.name}: {when} ({customer.time_zone}); {machines}")


@customer_app.command()
def show(name: Name, folder: CustomersFolder = None, as_json: AsJson = False) -> None:
    """A customer as its file makes it, with every default, and whether the file is sound."""
    import yaml

    from deployments.printing import print_json
    from tasks.customers import customer_path, require_customer_file

    customer = require_customer_file(name, folder)
    document = customer.model_dump(mode="json") | {"inbox": customer.inbox_folder}
    if as_json:
        print_json(document)
        return
    say(f"# {customer_path(name, folder)}", "dim")
    for line in yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=120).splitlines():
        say(line)


@customer_app.command()
def remove(
    name: Name,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete all that is known of the customer as well, for good.")
    ] = False,
    no_refit: Annotated[
        bool, typer.Option("--no-refit", help="Leave other customers' machines that learnt from it without a model.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a purge.")] = False,
    folder: CustomersFolder = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take away a customer's deployments and its file; with --purge everything that is known of it."""
    from deployments import customer_removal
    from deployments.printing import print_json

    if not purge:
        removed: Removed | None = customer_removal.remove(
            name, folder=folder, say=_say_meanwhile, patience_s=_PATIENCE_S
        )
    else:
        removed = _purge(name, store, folder=folder, refit=not no_refit, yes=yes, as_json=as_json)
    if removed is None:
        say("Nothing was deleted", "dim")
        raise typer.Exit(UsageError.exit_code)
    if as_json:
        print_json(asdict(removed))
    else:
        _print_removed(removed, purged=purge)


def _purge(
    name: str, store: str | None, *, folder: Path | None, refit: bool, yes: bool, as_json: bool
) -> Removed | None:
    from deployments import customer_removal
    from tasks.store import open_store

    if not yes and (as_json or not sys.stdin.isatty()):
        raise UsageError("a purge asks first, and nobody can answer here: say --yes to delete without being asked")
    inbox = _inbox_of(name, folder)

    def confirm(traces: Traces) -> bool:
        console = stderr if as_json else stdout
        for line in _spell_traces(traces):
            console.print(escape(without_controls(line)), highlight=False, soft_wrap=True)
        return yes or typer.confirm(f"Delete all this of {name}, for good?")

    shelf = open_store(store or Environment().store)
    return customer_removal.purge(
        name, shelf, inbox=inbox, folder=folder, refit=refit, confirm=confirm, say=_say_meanwhile,
        patience_s=_PATIENCE_S,
    )  # fmt: skip


def _say_meanwhile(line: str) -> None:
    stderr.print(escape(without_controls(line)), style="dim", highlight=False, soft_wrap=True)


def _inbox_of(name: str, folder: Path | None) -> str | None:
    """Where the customer's file says its inbox is; None without a file."""
    from tasks.customers import find_customer

    customer = find_customer(name, folder)
    return None if customer is None else customer.inbox_folder


def _spell_traces(traces: Traces) -> list[str]:
    """What there is of a customer, before anything is deleted."""
    models = [model.prefix for model in traces.models]
    return [
        *(f"{prefix}: {count} objects" for prefix, count in traces.own.items()),
        *traces.library,
        *(f"{prefix}: learnt from {traces.customer}" for prefix in models),
        *(f"{run.prefix}: names recordings of {traces.customer} as source" for run in traces.runs),
    ]


def _print_removed(removed: Removed, *, purged: bool) -> None:
    if not removed.server:
        say("No Prefect server is configured: deployments that stand on one stay there until `alp deploy`", "yellow")
    for name in removed.deployments:
        say(f"deleted deployment {name}")
    for prefix, count in removed.objects.items():
        say(f"deleted {count} objects below {prefix}")
    for key in removed.library:
        say(f"deleted {key}")
    for prefix in removed.models:
        say(f"deleted {prefix}, which had learnt from {removed.customer}")
    for prefix in removed.runs_without_source:
        say(f"deleted what {prefix} says of its source")
    for way in removed.ways:
        say(f"deleted way {way} of alarms, and its address")
    if removed.flow_runs:
        say(
            f"deleted {removed.flow_runs} flow runs with their artifacts: those of {removed.customer}, retrainings that"
            " it had asked for, and stages of others' runs that name it as source"
        )
    if removed.flow_runs_kept:
        say(f"{removed.flow_runs_kept} retrainings to come stay, without the name of {removed.customer}")
    for machine in removed.refitted:
        say(f"{machine} learnt again without {removed.customer}")
    for machine, what in removed.without_champion.items():
        say(f"{machine} has no model now: {what}", "bold yellow")
    if removed.file:
        say(f"deleted {removed.file}")
    if not purged:
        say(
            f"What {removed.customer} sent, and what was made of it, stays in the store; --purge deletes that as well",
            "dim",
        )
