"""`alp alarms`: how alarms reach people, and which there were."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.options import AsJson, StoreUrl, say
from schemas.errors import EnvironmentFault, UsageError
from schemas.settings import Environment, Language

if TYPE_CHECKING:
    from deployments.delivery import Way

alarms_app = typer.Typer(
    help="Which alarms there were, and how they reach people: by a webhook, Slack or e-mail.", no_args_is_help=True
)

Customer = Annotated[str, typer.Option(metavar="NAME", help="Whose machines' alarms.")]
_STDIN = "-"
LANGUAGES: tuple[Language, ...] = ("en", "ko")


@alarms_app.command()
def connect(
    customer: Customer = "local",
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post alarms as JSON; - reads the URL from stdin.")
    ] = None,
    slack: Annotated[
        str | None, typer.Option(metavar="URL", help="A Slack incoming webhook; - reads the URL from stdin.")
    ] = None,
    email: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Who gets mail; repeat for more.", show_default=False)
    ] = None,
    sender: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who sends the mail.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this way. [default: webhook, slack or email]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have the Prefect server tell people of a customer's alarms; the same name again replaces the way."""
    from deployments.delivery import connect as make_way
    from deployments.delivery import email_block, slack_block, webhook_block
    from deployments.prefect_server import require_server

    given = [kind for kind, value in (("webhook", webhook), ("slack", slack), ("email", email)) if value]
    if len(given) != 1:
        raise UsageError("say one way: --webhook URL, --slack URL or --email ADDRESS")
    # Before an address is read.
    require_server("automations live on one that stays")
    if webhook:
        way = make_way(customer, "webhook", webhook_block(_secret(webhook)), name=name)
    elif slack:
        way = make_way(customer, "slack", slack_block(_secret(slack)), name=name)
    else:
        way = make_way(customer, "email", email_block(email or [], sender), name=name)
    _show([way], as_json=as_json, one=True)
    if not as_json:
        say(f"Next: {sys.argv[0]} alarms test --customer {customer}", "dim")


@alarms_app.command(name="list")
def list_(
    customer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose machines' alarms. [default: all customers]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Every way in which alarms reach people; addresses are not shown."""
    from deployments.delivery import ways

    _show(ways(customer), as_json=as_json)


@alarms_app.command()
def disconnect(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the way, as listed.", show_default=False)],
    customer: Customer = "local",
    as_json: AsJson = False,
) -> None:
    """Take a way away, and its address with it."""
    from deployments.delivery import disconnect as take_away

    _show([take_away(customer, name)], as_json=as_json, one=True, removed=True)


@alarms_app.command(name="test")
def try_out(
    customer: Customer = "local",
    wait: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long to wait for the answers.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Send an alarm that says it is a test on every way, and say what became of it."""
    from deployments.delivery import send_test
    from deployments.printing import print_json
    from tasks.keys import check_customer
    from tasks.report.words import Words

    # Who reads it is not known here: both languages.
    sentence = " / ".join(Words(language)("watching.test", customer=customer) for language in LANGUAGES)
    results = send_test(check_customer(customer), sentence, wait_s=wait)
    if as_json:
        print_json({"ways": [_line(each.way) | {"ok": each.ok, "detail": each.detail} for each in results]})
    else:
        for each in results:
            say(
                f"{each.way.name}: {'delivered' if each.ok else 'not delivered'}, {each.detail}",
                None if each.ok else "red",
            )
    if not all(each.ok for each in results):
        raise EnvironmentFault("an alarm would not reach everybody: mend the ways named above, and test again")


@alarms_app.command()
def show(
    asset: Annotated[
        str, typer.Argument(metavar="ASSET", help="Machine type and section, such as fan-00.", show_default=False)
    ],
    customer: Customer = "local",
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """The alarms of an asset, where its alarm stands, and whether it is to be recalibrated."""
    from deployments.printing import print_json
    from tasks.alarms import read_alarms, read_standing, when
    from tasks.assets import find_asset
    from tasks.covering import read_coverage
    from tasks.drifting import read_drift
    from tasks.pacing import read_pace
    from tasks.store import open_store
    from tasks.watch_log import count_recordings

    shelf = open_store(store or Environment().store)
    asset_id = find_asset(shelf, customer, asset)
    standing, drift = read_standing(shelf, customer, asset_id), read_drift(shelf, customer, asset_id)
    coverage, pace = read_coverage(shelf, customer, asset_id), read_pace(shelf, customer, asset_id)
    alarms = list(read_alarms(shelf, customer, asset_id))
    if as_json:
        print_json(
            {
                "customer": customer,
                "asset": asset_id,
                "standing": standing and standing.model_dump(mode="json"),
                "coverage": coverage and coverage.model_dump(mode="json"),
                "drift": drift and drift.model_dump(mode="json"),
                "pace": pace and pace.model_dump(mode="json"),
                "alarms": [alarm.model_dump(mode="json") for alarm in alarms],
            }
        )
        return
    if standing is None:
        say(f"{asset_id} of {customer} was never watched", "dim")
    else:
        counted = count_recordings(shelf, customer, asset_id, standing.model_version)
        seen = f"{counted.judged} judged and {counted.refused} refused by model {standing.model_version}"
        say(f"{asset_id} of {customer}: {standing.state.phase}, {seen}")
    if coverage is not None and not coverage.covered:
        say(coverage.sentence, "bold yellow")
    if drift is not None and drift.mark is not None:
        say(drift.sentence, "yellow")
    if pace is not None and pace.outrun:
        say(pace.sentence, "yellow")
    for alarm in alarms:
        end = f"ended {when(alarm.cleared_at)}" if alarm.cleared_at else "no end yet"
        if alarm.superseded_by:
            end = f"left open by model {alarm.superseded_by}"
        say(f"  {alarm.alarm_id}  {alarm.sentence} ({end})")


def _secret(value: str) -> str:
    """An address as it was given, or the first line of stdin, where no list of processes shows it."""
    return sys.stdin.readline().strip() if value == _STDIN else value


def _line(way: Way) -> dict[str, object]:
    return {"customer": way.customer, "name": way.name, "kind": way.kind, "enabled": way.enabled}


def _show(found: list[Way], *, as_json: bool, one: bool = False, removed: bool = False) -> None:
    from deployments.printing import print_json

    lines = [_line(way) | ({"removed": True} if removed else {}) for way in found]
    if as_json:
        print_json(lines[0] if one else {"ways": lines})
        return
    if not found:
        say("Nobody is told of alarms: make a way with `alp alarms connect`", "dim")
    for way in found:
        did = "is taken away" if removed else "tells of alarms, drift and outages" if way.enabled else "is paused"
        say(f"{way.customer}: {way.name} ({way.kind}) {did}")
