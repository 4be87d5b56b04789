"""`alp`: ALP by hand.

With `--json`, stdout holds exactly one JSON document and everything else goes to stderr. Exit codes: 0 done, 1 a
fault of ours, 2 usage, 3 bad input, 4 rejected by the quality gate, 5 environment. Heavy libraries are imported
inside the commands, so that `alp --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deployments import form_commands
from deployments.alarm_commands import alarms_app
from deployments.asset_commands import asset_app
from deployments.backup_commands import backup_app
from deployments.champion_commands import champion_app
from deployments.customer_commands import customer_app
from deployments.deploy_commands import deploy
from deployments.encoder_commands import encoder_app
from deployments.fleet_commands import fleet
from deployments.inbox_commands import send
from deployments.library_commands import library_app
from deployments.logs import set_up_logs, tell, tell_error
from deployments.monitor_commands import monitor
from deployments.platform_commands import down, status, up
from deployments.retrain_commands import retrain
from deployments.score_commands import score
from deployments.store_commands import store_app
from schemas.errors import AlpError, InputError, RejectedError, UsageError
from schemas.references import Verdict
from schemas.settings import EncoderChoice, EngineChoice, Environment, Language, OnboardSettings

if TYPE_CHECKING:
    from engines.toy.plan import ToyPlan
    from schemas.customers import Customer

app = typer.Typer(
    name="alp",
    help="From a plant's zip of recordings to a calibrated alarm.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(name="form")(form_commands.form)
app.command(name="pack")(form_commands.pack)
app.command(name="score")(score)
app.command(name="monitor")(monitor)
app.command(name="fleet")(fleet)
app.command(name="retrain")(retrain)
app.command(name="deploy")(deploy)
app.command(name="up")(up)
app.command(name="down")(down)
app.command(name="status")(status)
customer_app.command(name="send")(send)
app.add_typer(customer_app, name="customer")
app.add_typer(library_app, name="library")
app.add_typer(asset_app, name="asset")
app.add_typer(champion_app, name="champion")
app.add_typer(encoder_app, name="encoder")
app.add_typer(alarms_app, name="alarms")
app.add_typer(store_app, name="store")
app.add_typer(backup_app, name="backup")
stdout = Console()
stderr = Console(stderr=True)

PackagePath = Annotated[
    Path, typer.Argument(metavar="PACKAGE", help="A zip or a folder with metadata.csv and audio/.", show_default=False)
]
StoreUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Object store. [default: $ALP_STORE or file://./alp-data]", show_default=False),
]
InLanguage = Annotated[Language, typer.Option("--lang", help="Of the report and of what is printed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]

ASK_NO_PLATFORM = {"form", "pack", "toy", "check", "up", "down", "status"}
"""Commands that use neither a store nor a Prefect server, or look after the platform themselves."""
DEMO_CUSTOMER = "demo"
DEMO_MACHINES = ("fan", "bearing")


def main() -> None:
    """Run the command line; errors that ALP raises on purpose become a sentence and an exit code."""
    try:
        _quiet_prefect()
        app()
    except AlpError as error:
        from deployments.printing import error_document, print_error, print_json
        from tasks.report.words import Words

        say = Words(_language_asked_for(sys.argv))
        document = error_document(error, say)
        if "--json" in sys.argv:
            print_json(document)
        if not tell_error(stderr, document["error"], environment=os.environ):
            print_error(stderr, error, say)
        sys.exit(error.exit_code)


@app.callback()
def find_platform(context: typer.Context) -> None:
    """Use the local platform where there is one, and say so. Before anything imports Prefect."""
    if context.invoked_subcommand in ASK_NO_PLATFORM or "--help" in sys.argv:
        return
    from deployments.platform_environment import adopt_platform

    adopted = adopt_platform(os.environ)
    if adopted is not None:
        level, style = ("WARNING", "yellow") if adopted.is_warning else ("INFO", "dim")
        tell(stderr, adopted.sentence, environment=os.environ, level=level, style=style)


def _language_asked_for(arguments: list[str]) -> Language:
    """The language of `--lang`, read off the words themselves: what failed may be the command that would know."""
    return "ko" if "--lang=ko" in arguments or ("--lang", "ko") in pairwise(arguments) else "en"


def _quiet_prefect() -> None:
    """Prefect writes what `deployments.logs` says, and sends nothing out. The environment may say otherwise."""
    set_up_logs(os.environ)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Prefect's 20 s are too few for its own server on a machine that does something else beside.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    # Longer than the 60 s that its SQLite waits for a lock: a request repeated after it was carried out loses its
    # result.
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "180")


def _exit_code(verdict: Verdict, *, bad_input: bool) -> int:
    if verdict is not Verdict.REJECTED:
        return 0
    return InputError.exit_code if bad_input else RejectedError.exit_code


@app.command()
def toy(
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="Where to write: a folder, or a name ending .zip.", show_default=False),
    ],
    machine_type: Annotated[
        list[str] | None,
        typer.Option("--machine-type", "-m", help="A machine type; repeat for more. [default: all eight]"),
    ] = None,
    sections: Annotated[int, typer.Option(min=1, help="Machines of each type.")] = 1,
    scale: Annotated[float, typer.Option(help="Share of DCASE 2025's clip counts.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies at TARGET.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a synthetic customer package, marked as such."""
    from deployments.printing import print_json, shown
    from engines.toy.plan import ToyPlan, section_ids

    types = {"machine_types": tuple(machine_type)} if machine_type else {}
    plan = ToyPlan(sections=section_ids(sections), scale=scale, seed=seed, **types)
    clips = _write_toy(target, plan, overwrite=overwrite)
    if as_json:
        print_json({"target": str(target), "clips": clips, "machine_types": list(plan.machine_types), "seed": seed})
    else:
        stdout.print(f"Wrote {clips} synthetic clips to {shown(str(target))}", highlight=False, soft_wrap=True)
        stdout.print(f"Next: {shown(sys.argv[0])} onboard {shown(str(target))}", style="dim", soft_wrap=True)


def _write_toy(target: Path, plan: ToyPlan, *, overwrite: bool) -> int:
    """Write a toy package with a progress bar; the number of clips."""
    from deployments.progress_bars import progress_bars
    from tasks.progress import track
    from tasks.toy import write_toy_package

    clips = len(plan.clips())
    with progress_bars(stderr), track("Rendering sounds", total=clips) as advance:
        write_toy_package(target, plan, progress=advance, overwrite=overwrite)
    return clips


@app.command()
def check(
    package: PackagePath,
    customer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="By whose file to judge: its machine types and limits. [default: none]",
            show_default=False,
        ),
    ] = None,
    language: InLanguage = "en",
    as_json: AsJson = False,
) -> None:
    """Judge a package, table and sound, in one pass; nothing is filed."""
    from deployments.printing import check_document, print_check, print_json
    from deployments.progress_bars import progress_bars
    from tasks.packages import open_package
    from tasks.progress import track
    from tasks.quality import judge, recordings_in
    from tasks.report.words import Words

    settings = OnboardSettings() if customer is None else _settings_in_file(customer)
    say = Words(language, settings.known_machine_types)
    with (
        open_package(package, settings.archive) as archive,
        progress_bars(stderr, language),
        track("Judging recordings", total=recordings_in(archive)) as advance,
    ):
        judgement = judge(archive, settings, progress=advance)
        report = judgement.report(archive.package_id, quality_key="", metadata_key=None)
    if as_json:
        print_json(check_document(package, report, judgement.quality, say))
    else:
        print_check(stdout, package.resolve().name, report, say)
    raise typer.Exit(_exit_code(report.verdict, bad_input=report.bad_input))


@app.command()
def onboard(
    context: typer.Context,
    package: PackagePath,
    customer: Annotated[
        str, typer.Option(metavar="NAME", help="Whose machines these are: lower-case letters, digits, hyphens.")
    ] = "local",
    engine: Annotated[EngineChoice, typer.Option(help="auto: the engine the data can carry.")] = "auto",
    encoder: Annotated[EncoderChoice, typer.Option(help="auto: the best whose weights are here.")] = "auto",
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="The customer's settings, YAML; options given here count more. [default: the customer's own file]",
            show_default=False,
        ),
    ] = None,
    store: StoreUrl = None,
    language: InLanguage = "en",
    share_source: Annotated[
        bool | None,
        typer.Option(
            "--share-source/--keep-source",
            help="Whether the customer's normals may serve other customers. [default: as its file says, or as before]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after choosing engines, and file nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a package into scores, calibrated thresholds and a report."""
    from tasks.customers import find_customer

    asked = {"engine": engine, "encoder": encoder, "language": language}
    known = find_customer(customer)
    settings = _settings_of(context, settings_file, asked, known)
    if share_source is None and known is not None and not dry_run:
        share_source = known.share_source
    if share_source is not None:
        _say_consent(customer, store, share_source, dry_run=dry_run)
    raise typer.Exit(_onboard(str(package), customer, store, settings, dry_run=dry_run, as_json=as_json))


def _settings_of(
    context: typer.Context, path: Path | None, options: dict[str, str], customer: Customer | None
) -> OnboardSettings:
    """Those of the settings file, else of the customer's own, and over them every option that was really written.

    Machine types are the customer's own either way: a settings file says nothing of them.
    """
    if path is None and customer is None:
        return OnboardSettings.model_validate(options)
    settings = customer.settings() if customer is not None else OnboardSettings()
    if path is not None:
        from schemas.settings_file import read_settings

        settings = read_settings(path).model_copy(update={"machine_types": settings.machine_types})
    written = {name: value for name, value in options.items() if _was_written(context, name)}
    return settings.model_copy(update=written)


def _settings_in_file(customer: str) -> OnboardSettings:
    """The settings of a customer that there must be a file of."""
    from tasks.customers import require_customer_file

    return require_customer_file(customer).settings()


def _was_written(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _say_consent(customer: str, store: str | None, share: bool, *, dry_run: bool) -> None:
    from tasks.sharing import set_consent
    from tasks.store import open_store

    if dry_run:
        raise UsageError("--dry-run files nothing, consent neither; leave --share-source or --keep-source out")
    set_consent(open_store(store or Environment().store), customer, share_source=share)


def _onboard(
    source: str, customer: str, store: str | None, settings: OnboardSettings, *, dry_run: bool, as_json: bool
) -> int:
    """Run the flow with progress bars and print how it ended; the exit code."""
    from deployments.onboarding import run_onboarding
    from deployments.printing import print_json, print_outcome
    from deployments.progress_bars import progress_bars
    from tasks.report.words import Words

    with progress_bars(stderr, settings.language):
        outcome = run_onboarding(source, customer, store or Environment().store, settings, dry_run=dry_run)
    if as_json:
        print_json(outcome.document())
    else:
        print_outcome(stdout, outcome, Words(settings.language, settings.known_machine_types))
    return _exit_code(outcome.result.verdict, bad_input=outcome.bad_input)


@app.command()
def demo(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Make a toy package of two machines, onboard it, and name what was written."""
    from engines.toy.plan import ToyPlan
    from tasks.store import open_store

    url = store or Environment().store
    source = f"inbox/{DEMO_CUSTOMER}/toy.zip"
    if not open_store(url).exists(source):
        _drop_in_inbox(url, source, ToyPlan(machine_types=DEMO_MACHINES))
    raise typer.Exit(_onboard(source, DEMO_CUSTOMER, url, OnboardSettings(), dry_run=False, as_json=as_json))


def _drop_in_inbox(url: str, key: str, plan: ToyPlan) -> None:
    """Send a toy package the way a plant would."""
    import tempfile

    from tasks.store import open_store

    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        package = Path(folder) / "toy.zip"
        _write_toy(package, plan, overwrite=False)
        open_store(url).put_file(key, package)


if __name__ == "__main__":
    main()
