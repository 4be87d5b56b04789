"""`alp deploy`: register every customer's flows with Prefect, on their schedules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.options import AsJson, CustomersFolder, StoreUrl, say
from schemas.settings import Environment

if TYPE_CHECKING:
    from deployments.deploying import Change, Plan

_SIGNS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}


def deploy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")] = False,
    pool: Annotated[str, typer.Option(metavar="NAME", help="Work pool whose workers run the flows.")] = "alp",
    folder: CustomersFolder = None,
    retraining: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="When machine types learn anew. [default: $ALP_RETRAINING or ./retraining.yaml, if there]",
            show_default=False,
        ),
    ] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Register every customer's flows with the Prefect server, and a retraining for every machine type.

    What no file names any more is taken away.
    """
    from deployments.deploying import deploy as carry_out
    from deployments.printing import print_json
    from deployments.retraining import load_retraining
    from tasks.customers import load_customers

    def show(plan: Plan) -> None:
        if not as_json:
            _print_plan(plan, pool)

    url = store or Environment().store
    customers, when = load_customers(folder), load_retraining(retraining)
    plan = carry_out(customers, url, retraining=when, pool=pool, dry_run=dry_run, show=show)
    if as_json:
        print_json(_document(plan, applied=not dry_run))
    elif dry_run:
        say("Nothing was changed: this was a dry run", "dim")
    elif plan.changes:
        say(f"Done. {_who_runs_them(plan, pool)}", "dim")


def _who_runs_them(plan: Plan, pool: str) -> str:
    if not plan.workers:
        return f"No worker is there to run them: prefect worker start --pool {pool}"
    name, heard = min(plan.workers.items(), key=lambda worker: worker[1])
    more = f" and {len(plan.workers) - 1} more" if len(plan.workers) > 1 else ""
    return f"Worker {name}{more} will run them; it was heard of {max(0, heard.total_seconds()):.0f} s ago"


def _print_plan(plan: Plan, pool: str) -> None:
    if plan.pool is not None:
        say(f"+ work pool {pool}: processes of whichever machine a worker runs on", "green")
    for change in plan.changes:
        _print_change(change)
    if not plan.changes:
        say("Nothing to change.")
    say(f"{plan.as_wanted} deployments and automations are as the files say", "dim")


def _print_change(change: Change) -> None:
    sign, style = _SIGNS[change.action]
    say(f"{sign} {change.name}" + (" (stays paused)" if change.paused else ""), style)
    for name, (before, after) in change.fields.items():
        shown = _shown(after) if change.action == "add" else f"{_shown(before)} → {_shown(after)}"
        say(f"    {name}: {shown}")


def _shown(value: Any) -> str:
    return "–" if value is None else " / ".join(str(value).splitlines())


def _document(plan: Plan, *, applied: bool) -> dict[str, Any]:
    changes = [change.document() for change in plan.changes]
    return {"applied": applied, "changes": changes, "as_wanted": plan.as_wanted}
