"""`alp asset`: look at one machine, take a recording of it back or say what it really was, and refit."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deployments.options import AsJson, StoreUrl, say, stdout
from schemas.errors import InputError, RejectedError
from schemas.references import Verdict
from schemas.settings import Environment

if TYPE_CHECKING:
    from deployments.onboarding import Outcome
    from tasks.assets import AssetState, Corrected
    from tasks.store import ObjectStore

asset_app = typer.Typer(help="Look at one machine, correct its recordings, and refit.", no_args_is_help=True)
stderr = Console(stderr=True)

AssetName = Annotated[
    str, typer.Argument(metavar="ASSET", help="Machine type and section, such as fan-00.", show_default=False)
]
ClipName = Annotated[
    str, typer.Argument(metavar="CLIP", help="A clip id of the asset, as in scores.csv.", show_default=False)
]
Customer = Annotated[str, typer.Option(metavar="NAME", help="Whose machine it is.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the correction.", show_default=False)]
NoRefit = Annotated[bool, typer.Option("--no-refit", help="Only write the correction; the next fit heeds it.")]


class LabelChoice(StrEnum):
    """What a recording can be relabelled as."""

    NORMAL = "normal"
    ANOMALY = "anomaly"


@asset_app.command()
def show(asset: AssetName, customer: Customer = "local", store: StoreUrl = None, as_json: AsJson = False) -> None:
    """The asset's champion, its recordings by role, its packages and its corrections."""
    from deployments.printing import print_json
    from tasks.assets import describe_state, find_asset
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    state = describe_state(shelf, customer, find_asset(shelf, customer, asset))
    if as_json:
        print_json(state.model_dump(mode="json"))
    else:
        _print_state(state)


@asset_app.command()
def retract(
    asset: AssetName,
    clip: ClipName,
    customer: Customer = "local",
    reason: Reason = None,
    no_refit: NoRefit = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take a recording back, so that it is neither learnt from nor judged, and refit."""
    from tasks.assets import find_asset, retract_clip
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    corrected = retract_clip(shelf, customer, find_asset(shelf, customer, asset), clip, reason=reason)
    raise typer.Exit(_conclude(shelf, customer, asset, corrected, refit=not no_refit, as_json=as_json))


@asset_app.command()
def relabel(
    asset: AssetName,
    clip: ClipName,
    label: Annotated[LabelChoice, typer.Argument(help="What the recording really is.", show_default=False)],
    customer: Customer = "local",
    reason: Reason = None,
    no_refit: NoRefit = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recording really is, and refit; normal also takes an earlier correction back."""
    from tasks.assets import find_asset, relabel_clip
    from tasks.store import open_store

    shelf = open_store(store or Environment().store)
    corrected = relabel_clip(shelf, customer, find_asset(shelf, customer, asset), clip, label.value, reason=reason)
    raise typer.Exit(_conclude(shelf, customer, asset, corrected, refit=not no_refit, as_json=as_json))


def _conclude(
    store: ObjectStore, customer: str, asset: str, corrected: Corrected, *, refit: bool, as_json: bool
) -> int:
    """Refit where that is wanted and say what was done; the exit code."""
    from deployments.printing import print_json, print_outcome
    from tasks.report.words import Words

    outcome = _refit(store, customer, asset, corrected) if refit else None
    if as_json:
        document = corrected.model_dump(mode="json") | {"refit": outcome.document() if outcome else None}
        print_json(document)
        return _exit_code(outcome)
    say(_what_was_done(corrected))
    if outcome is not None:
        print_outcome(stdout, outcome, Words("en"))
    else:
        say(f"{asset} was not refitted: its next onboarding heeds the correction", "dim")
    return _exit_code(outcome)


def _refit(store: ObjectStore, customer: str, asset: str, corrected: Corrected) -> Outcome:
    """Onboard the package that holds the clip again, with the settings it was onboarded by."""
    from deployments.onboarding import run_onboarding
    from deployments.progress_bars import progress_bars
    from tasks.assets import settings_of
    from tasks.keys import raw

    settings = settings_of(store, customer, asset, corrected.package)
    if corrected.normals < settings.qa.min_normals:
        raise RejectedError(
            f"the correction is kept, but {asset} has {corrected.normals} normal recordings left and"
            f" {settings.qa.min_normals} are needed: it was not refitted, and its champion is the one from before;"
            " onboard more normals of it"
        )
    with progress_bars(stderr):
        return run_onboarding(raw(customer, corrected.package), customer, store.url, settings, dry_run=False)


def _exit_code(outcome: Outcome | None) -> int:
    if outcome is None or outcome.result.verdict is not Verdict.REJECTED:
        return 0
    return InputError.exit_code if outcome.bad_input else RejectedError.exit_code


def _what_was_done(corrected: Corrected) -> str:
    said = corrected.correction
    did = "retracted" if said.action == "retract" else f"relabelled {said.label}"
    if not corrected.written:
        return f"{said.clip_id} was {did} already, or always was so"
    others = [name for name in corrected.clips if name != said.clip_id]
    along = f", and with it {', '.join(others)}, the very same sound" if others else ""
    return f"{said.clip_id} is {did}{along}"


def _print_state(state: AssetState) -> None:
    from tasks.engine_names import engine_phrase
    from tasks.report.words import duration

    say(f"{state.asset} of {state.customer}: {state.machine_type} {state.section_id}, {duration(state.hours)}", "bold")
    champion = state.champion
    if champion is None:
        say("  no champion yet")
    else:
        before = f", before it {champion.previous}" if champion.previous else ""
        say(f"  champion: {engine_phrase(champion.engine)} ({champion.encoder}), model {champion.version}{before}")
        if champion.ledger_version != state.ledger_version:
            say("  the ledger has changed since the champion was fitted", "yellow")
    say("  recordings: " + ", ".join(f"{count} {role}" for role, count in state.recordings.items()))
    for part in state.packages:
        say(f"  package {part.package}: {part.recordings} recordings")
    for said in state.corrections:
        did = "retracted" if said.action == "retract" else f"relabelled {said.label}"
        why = f": {said.reason}" if said.reason else ""
        say(f"  {said.clip_id} {did}{why}")
