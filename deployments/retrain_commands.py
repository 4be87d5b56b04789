"""`alp retrain`: let every machine of a type learn anew, now, without waiting for growth or for the night."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.errors import EnvironmentFault, InputError
from schemas.settings import Environment

if TYPE_CHECKING:
    from tasks.challenging import RetrainReport
    from tasks.store import ObjectStore

MachineType = Annotated[
    str, typer.Argument(metavar="TYPE", help="A machine type, such as compressor.", show_default=False)
]


def retrain(
    machine_type: MachineType,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Only where the library has grown enough since the last time.")
    ] = False,
    retraining: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How much is enough. [default: $ALP_RETRAINING or ./retraining.yaml, if there]",
            show_default=False,
        ),
    ] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make every machine of a type a challenger, here and now, and promote those that are not worse."""
    from deployments.onboarding import run_flow_here
    from deployments.printing import print_json
    from deployments.retraining import load_retraining
    from flows.retrain import retrain as retrain_flow
    from tasks.store import open_store

    shelf, policy = open_store(store or Environment().store), load_retraining(retraining).growth
    _require_champion(shelf, machine_type)
    state = run_flow_here(retrain_flow, machine_type, shelf.url, policy, only_if_due=if_due)
    # A retraining in which some machines failed has a report all the same.
    report: RetrainReport | Exception = state.result(raise_on_failure=False)
    if isinstance(report, Exception):
        raise report
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print_report(report)
    raise typer.Exit(EnvironmentFault.exit_code if report.failed else 0)


def _require_champion(store: ObjectStore, machine_type: str) -> None:
    """Say whose machines there are, where there is none of that type."""
    from tasks.corrections import near_matches

    crowned = (key.split("/") for key in store.list_keys("assets/") if key.endswith("/champion.json"))
    types = sorted({parts[2].partition("-")[0] for parts in crowned if len(parts) == 4})
    if machine_type not in types:
        known = near_matches(machine_type, types) or ", ".join(types[:10])
        there = f"; did you mean {known}?" if known else ": onboard a package first"
        raise InputError(f"no machine of type {machine_type[:200]!r} has a champion in {store.url}{there}")


def _print_report(report: RetrainReport) -> None:
    if not report.outcomes and not report.failed:
        say(report.growth.sentence)
    for outcome in report.outcomes:
        say(f"{outcome.customer} {outcome.asset}: {outcome.became}. {outcome.why}")
    for machine, why in report.failed.items():
        say(f"{machine}: failed. {why}", "yellow")
