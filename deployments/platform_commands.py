"""`alp up`, `alp down`, `alp status`: an S3 server, a Prefect server and a worker on this machine."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from deployments.options import AsJson, say, stderr, stdout
from schemas.errors import EnvironmentFault, StoreError, UsageError

if TYPE_CHECKING:
    from deployments.platform_home import PlatformHome
    from deployments.platform_running import Health
    from deployments.platform_services import Platform

HomeFolder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="Of the platform. [default: $ALP_PLATFORM or ./alp-platform]",
        show_default=False,
    ),
]

_STYLES = {"running": "green", "at fault": "bold red", "stopped": "bold red"}
_STORE_READY_S = 60.0


def up(
    home: HomeFolder = None,
    ui_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1024, max=65535, help="Of the Prefect UI. [default: as before, else a free one]"
        ),
    ] = None,
    s3_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1024, max=65535, help="Of the S3 server. [default: as before, else a free one]"
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            metavar="RUNS",
            min=1,
            help="How many runs are under way at most. [default: as before, else one a core, 4 to 16]",
        ),
    ] = None,
    new_keys: Annotated[
        bool,
        typer.Option(
            "--new-keys", help="Stop what runs, and start it with new S3 keys and another login; old ones open nothing."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the local platform, an S3 server, a Prefect server and a worker, or what does not run of it."""
    from deployments.platform_home import Wishes
    from deployments.platform_running import bring_up, look, renew_keys

    place = _home(home)
    with place.locked():
        if new_keys and place.exists:
            runs = renew_keys(place).runs
            _say_aside("New keys and another login are made; old ones open nothing any more")
            if runs:
                _say_aside(f"{_were(runs)} under way; what was not finished is taken up again")
        platform, started = bring_up(place, Wishes(s3_port, ui_port, at_once), say=_say_aside)
        _use(platform)
        if started:
            _prepare_store(platform)
    if as_json:
        deployed = _register(platform) if "prefect" in started else []
        _print_json(_document(platform, look(platform)) | {"started": list(started), "deployed": deployed})
        return
    say("All of it runs already." if not started else f"Started: {', '.join(started)}.")
    _print_health(look(platform))
    deployed = _register(platform) if "prefect" in started else []
    if deployed:
        say(f"Registered: {', '.join(deployed)}")
    _print_ways(platform)


def down(home: HomeFolder = None, as_json: AsJson = False) -> None:
    """Stop all that `alp up` started; data, ports and credentials stay."""
    from deployments.platform_running import open_platform, take_down

    place = _home(home)
    open_platform(place)
    with place.locked():
        ended = take_down(open_platform(place))
    if as_json:
        _print_json({"stopped": list(ended.services), "runs": ended.runs})
        return
    say(f"Stopped: {', '.join(ended.services)}." if ended.services else "Nothing was running.")
    if ended.runs:
        say(f"{_were(ended.runs)} under way; what was not finished is taken up again after the next `alp up`", "yellow")
    say(f"Everything is kept in {place.folder}; `alp up` goes on with it", "dim")


def status(
    home: HomeFolder = None,
    env: Annotated[
        bool,
        typer.Option(
            "--env", help='Print, credentials included, what other programs need: eval "$(alp status --env)".'
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what runs of the local platform, since when and where; exit code 5 where something does not."""
    from deployments.platform_running import look, open_platform

    if env and as_json:
        raise UsageError("--env prints lines for a shell and --json a document; choose one")
    platform = open_platform(_home(home))
    if env:
        for name, value in platform.environment().items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        return
    health = look(platform)
    if as_json:
        _print_json(_document(platform, health))
    else:
        _print_health(health)
        _print_runs(platform)
        _print_addresses(platform)
    if any(each.state != "running" for each in health):
        if not as_json:
            say(
                "Start what does not run with `alp up`; the logs lie in " + str(platform.home.folder / "logs"), "yellow"
            )
        raise typer.Exit(EnvironmentFault.exit_code)


def _print_json(document: dict[str, Any]) -> None:
    """As `deployments.printing` does, which takes seconds to import."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _home(folder: Path | None) -> PlatformHome:
    from deployments.platform_home import PlatformHome

    home = PlatformHome.find(folder)
    if home is None:
        raise UsageError("ALP_PLATFORM is set to nothing, which means none; unset it, or name a folder with --home")
    return home


def _use(platform: Platform) -> None:
    """Whatever the terminal says, this command is about the platform. Before anything imports Prefect."""
    from deployments.platform_environment import overruled
    from deployments.platform_services import spare_loopback

    if names := overruled(platform, os.environ):
        stderr.print(
            f"{', '.join(names)} set in this terminal counts more than the platform: other commands go there until it"
            " is unset",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    for name in [name for name in os.environ if name.startswith(("AWS_", "PREFECT_API_"))]:
        if name != "PREFECT_API_REQUEST_TIMEOUT":
            del os.environ[name]
    os.environ.update(platform.environment())
    spare_loopback(os.environ)


def _prepare_store(platform: Platform) -> None:
    """Make the bucket, and wait until it takes objects: a server answers before its volumes are known to it."""
    from tasks.store import open_store
    from tasks.store_setup import check_store, init_store

    store = open_store(platform.record.store)
    deadline = time.monotonic() + _STORE_READY_S
    while True:
        try:
            init_store(store)
            for _ in check_store(store):
                pass
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def _register(platform: Platform) -> list[str]:
    """Register what `alp deploy` would, and the deployments that belong to no customer; names of what changed."""
    from deployments.by_hand import register_by_hand
    from deployments.deploying import deploy
    from deployments.registering import POOL
    from tasks.customers import customers_folder, load_customers

    names = register_by_hand(platform.record.store, POOL)
    # Without the folder nobody knows who the customers are; to deploy none of them would take all away.
    if customers_folder().is_dir():
        plan = deploy(load_customers(), platform.record.store, pool=POOL, dry_run=False)
        names += [f"{change.name} ({change.action})" for change in plan.changes]
    return names


def _document(platform: Platform, health: Sequence[Health]) -> dict[str, Any]:
    from deployments.platform_running import runs_under_way

    record = platform.record
    return {
        "home": str(platform.home.folder),
        "services": [each.document() for each in health],
        "runs": runs_under_way(platform),
        "ui": record.ui,
        "api": record.api,
        "s3": record.s3_endpoint,
        "store": record.store,
        "credentials": str(platform.home.credentials_file),
    }


def _print_health(health: Sequence[Health]) -> None:
    for each in health:
        since = "" if each.since is None else f" since {_clock(each.since)} (pid {each.pid})"
        wrong = "" if each.detail is None else f": {each.detail}"
        state = f"[{_STYLES[each.state]}]{each.state}[/]"
        stdout.print(
            f"  {each.title:<15}{state}{escape(since + wrong)}  {escape(each.address)}", highlight=False, soft_wrap=True
        )


def _clock(moment: datetime) -> str:
    here = moment.astimezone()
    return here.strftime("%H:%M" if here.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def _print_runs(platform: Platform) -> None:
    from deployments.platform_running import runs_under_way

    say(f"  runs under way: {runs_under_way(platform)}")


def _were(runs: int) -> str:
    return "1 run was" if runs == 1 else f"{runs} runs were"


def _print_addresses(platform: Platform) -> None:
    record = platform.record
    say(f"  UI     {record.ui}")
    say(f"         it asks for a login once: prefect_login in {platform.home.credentials_file}")
    say(f"  store  {record.store}")


def _print_ways(platform: Platform) -> None:
    _print_addresses(platform)
    say('Commands in this folder use it by themselves; for other programs: eval "$(alp status --env)"', "dim")
    say("How to go on:")
    for line in (
        "alp customer add acme --machine-type pump    write a customer's file",
        "alp deploy                                   put it on its schedule",
        "alp customer send acme plant.zip             drop a package into its inbox",
        "alp store link runs/…/report.html            a link that opens a report in a browser",
        "alp status                                   what runs; alp down stops it all",
    ):
        say(f"  {line}", "dim")


def _say_aside(text: str) -> None:
    stderr.print(escape(text), style="dim", highlight=False, soft_wrap=True)
