"""`alp monitor`: judge an asset's new recordings, once over the store or as a recorder writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from deployments.options import AsJson, StoreUrl, stderr, stdout
from schemas.settings import Environment
from tasks.plain_text import without_controls

if TYPE_CHECKING:
    from tasks.watch_news import News, Watched

AssetName = Annotated[
    str, typer.Argument(metavar="ASSET", help="Machine type and section, such as fan-00.", show_default=False)
]


def monitor(
    asset: AssetName,
    customer: Annotated[str, typer.Option(metavar="NAME", help="Whose machine it is.")] = "local",
    watch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep watching a folder that a recorder writes to, until stopped."),
    ] = None,
    poll: Annotated[float, typer.Option(min=0.05, metavar="SECONDS", help="Between two looks at the folder.")] = 5.0,
    patience: Annotated[
        int, typer.Option(min=1, help="Looks at a file that seems unfinished, before it is called broken.")
    ] = 12,
    settle: Annotated[
        float,
        typer.Option(min=0.05, metavar="SECONDS", help="How long a file must stand still before it counts as written."),
    ] = 10.0,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Judge an asset's new recordings, raise and clear alarms, and tell people."""
    from deployments.printing import print_json
    from tasks.keys import check_customer
    from tasks.store import open_store

    url = open_store(store or Environment().store).url
    check_customer(customer)
    console = stderr if as_json else stdout
    printer = Printer(console)
    _say_who_is_told(printer, customer, url)
    watched = (
        _pass_over_store(asset, customer, url)
        if watch is None
        else _watch_folder(asset, customer, url, watch, printer, poll_s=poll, patience=patience, settle_s=settle)
    )
    if as_json:
        print_json(watched.model_dump(mode="json"))
    else:
        _print_summary(printer, watched, url)


def _pass_over_store(asset: str, customer: str, url: str) -> Watched:
    """Run the flow once."""
    from deployments.onboarding import run_flow_here
    from flows.monitor import monitor as flow

    found: Watched = run_flow_here(flow, customer, asset, url).result()
    return found


def _watch_folder(
    asset: str,
    customer: str,
    url: str,
    folder: Path,
    printer: Printer,
    *,
    poll_s: float,
    patience: int,
    settle_s: float,
) -> Watched:
    from deployments.score_commands import print_champion
    from deployments.watch_loop import keep_watching
    from tasks.fleet_upkeep import FleetPage
    from tasks.monitoring import load_watch
    from tasks.recordings import RecorderFolder
    from tasks.store import open_store
    from tasks.telling import configured_tell
    from tasks.watching import Watcher

    source = RecorderFolder(folder)
    shelf = open_store(url)
    loaded = load_watch(shelf, customer, asset)
    print_champion(loaded, printer.console)
    page = FleetPage(shelf, customer, otherwise=loaded.settings.language, say=printer.say_once)

    def on_news(news: News) -> None:
        page.note(news)
        printer.print_news(news)

    watcher = Watcher(
        shelf,
        loaded,
        source,
        patience=patience,
        settle_s=settle_s,
        tell=configured_tell(),
        on_news=on_news,
    )
    printer.say(f"Listening to {folder}; stop with Ctrl-C", "dim")
    keep_watching(watcher, poll_s=poll_s, say=printer.say, say_once=printer.say_once, after_look=page.keep_up)
    page.keep_up(at_once=True)
    return watcher.watched


def _say_who_is_told(printer: Printer, customer: str, url: str) -> None:
    """Say plainly where an alarm will be heard, and where not."""
    from schemas.errors import EnvironmentFault
    from tasks.events import server_url

    if server_url() is None:
        printer.say(
            "No Prefect server is configured: nobody is told of alarms besides this terminal and the files in"
            f" {url}/assets/{customer}. Set PREFECT_API_URL, and see `alp alarms connect --help`.",
            "yellow",
        )
        return
    from deployments.delivery import ways

    try:
        told = [way for way in ways(customer) if way.enabled]
    except EnvironmentFault as error:
        printer.say(f"Not known whether anybody is told of alarms: {error}", "yellow")
        return
    if told:
        printer.say(f"Told of alarms: {', '.join(way.name for way in told)}", "dim")
    else:
        printer.say(
            f"The Prefect server knows nobody to tell of {customer}'s alarms: see `alp alarms connect --help`.",
            "yellow",
        )


class Printer:
    """What happens while a folder is watched, a line each; the same trouble is told once in a row."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._trouble = ""

    def say(self, text: str, style: str | None = None) -> None:
        """A line for a person, and one only, whatever is in it."""
        self.console.print(escape(without_controls(text)), style=style, highlight=False, soft_wrap=True)

    def print_news(self, news: News) -> None:
        """Whatever a look brought."""
        match news.kind:
            case "judged":
                self._print_judged(news)
            case "refused" if news.heard is not None:
                self.say(f"refused  {news.heard.refusal}", "red")
            case "passed_over":
                self.say(f"refused  {news.text}", "red")
            case "repeated":
                self.say(f"known    {news.text}", "dim")
            case "champion":
                self.say(f"Model {news.text} is champion now, and the alarm starts anew", "bold")
            case "settings":
                self.say(f"Model {news.text} was onboarded anew; its settings of now are in force", "bold")
            case "drifted" | "uncovered" | "outrun":
                self.say(news.text, "bold yellow")
            case "covered" | "in_pace":
                self.say(news.text, "green")
            case "told":
                self._trouble = ""
                self.say(f"told     {news.text}", "dim")
            case "nobody_told":
                self.say(f"Nobody was told of {news.text}: no Prefect server is configured", "yellow")
            case "too_old":
                self.say(f"Nobody was told of {news.text} in time, and nobody will be: it is too old", "yellow")
            case "grown":
                self.say(news.text, "yellow")
            case "not_told" | "away" | "trouble":
                self.say_once(news.text)

    def say_once(self, trouble: str) -> None:
        """A trouble that lasts, unless it was what was said last."""
        if trouble != self._trouble:
            self._trouble = trouble
            self.say(trouble, "yellow")

    def _print_judged(self, news: News) -> None:
        from deployments.score_commands import judgement_line

        if news.judgement is None or news.row is None:
            return
        self.console.print(judgement_line(news.judgement), highlight=False, soft_wrap=True)
        if news.alarm is not None:
            self.say(f"ALARM    {news.alarm.sentence}", "bold red")
            self.say(f"         {news.text or 'no picture'}", "dim")
        elif news.row.transition == "cleared":
            self.say(f"Alarm {news.row.alarm_id} has ended", "green")


def _print_summary(printer: Printer, watched: Watched, url: str) -> None:
    from tasks.alarms import read_alarm
    from tasks.covering import read_coverage
    from tasks.store import open_store

    store = open_store(url)
    for why in watched.refused.values():
        printer.say(f"refused  {why}", "red")
    for name in watched.raised:
        printer.say(f"ALARM    {read_alarm(store, watched.customer, watched.asset, name).sentence}", "bold red")
    printer.say(
        f"{watched.asset} of {watched.customer}, model {watched.model_version}: {watched.judged} judged,"
        f" {len(watched.refused)} refused, {watched.repeated} known already, {watched.waiting} not finished;"
        f" {len(watched.raised)} alarms raised, {len(watched.cleared)} ended"
    )
    if watched.unfinished:
        printer.say(watched.say_unfinished(), "yellow")
    coverage = read_coverage(store, watched.customer, watched.asset)
    if watched.uncovered and coverage is not None:
        printer.say(coverage.sentence, "bold yellow")
    for text in watched.notes:
        printer.say(text, "bold yellow")
    if watched.drifted:
        printer.say(f"{watched.asset} has drifted: record new normals and onboard them", "yellow")
