"""How alarms reach people: a Prefect automation a customer and way, with the address in a Prefect block.

An automation waits for `alp.alarm`, `alp.drift` and `alp.uncovered` of the customer's assets (`tasks.events`) and
calls a webhook, or sends a notification by Slack or e-mail. Addresses are secrets: they stand in blocks, which the
server encrypts and shows to nobody, and never in what is printed or logged here. Nothing works without a Prefect server
that stays: automations live there.

Prefect 3.8.8 brings no block for plain SMTP. Its Slack block hands every address that is not Slack's to Apprise, whose
`mailto` speaks SMTP, so that is the block a mail server's address is kept in; a test sends such a mail.
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from deployments.prefect_server import all_automations, connect_server
from schemas.errors import EnvironmentFault, InputError, UsageError
from schemas.settings import Environment
from tasks.alarms import ALARM_EVENT
from tasks.covering import UNCOVERED_EVENT
from tasks.drifting import DRIFT_EVENT
from tasks.events import Happening, asset_resource, tell_server
from tasks.keys import check_customer

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation

Kind = Literal["webhook", "slack", "email"]
KINDS: tuple[Kind, ...] = ("webhook", "slack", "email")

WEBHOOK_PAYLOAD = "{{ event.payload | tojson }}"
"""The whole payload as JSON: numbers stay numbers, which they would not field by field in a text of our own."""
_SHOWN = "{{% if event.payload.{0} %}}{1}{{{{ event.payload.{0}{2} }}}}{{% endif %}}"
_SLACK_ESCAPES = " | replace('&', '&amp;') | replace('<', '&lt;') | replace('>', '&gt;')"
"""What a file or a section is called must not call a whole channel: `<!channel>`."""
_NAME = re.compile(r"alp alarms: (?P<customer>[a-z0-9-]+) / (?P<name>[a-z0-9-]+)")
_BLOCK = "alp-alarms-{customer}--{name}"
_ACTION_EVENTS = ("prefect.automation.action.executed", "prefect.automation.action.failed")
_LOOK_S = 0.5


@dataclass(frozen=True)
class Way:
    """One way in which a customer's alarms reach people, without its address."""

    customer: str
    name: str
    kind: Kind
    enabled: bool
    automation_id: str
    block_id: str


@dataclass(frozen=True)
class Delivered:
    """What became of a message on one way."""

    way: Way
    ok: bool
    detail: str


def connect(customer: str, kind: Kind, block: Block, *, name: str | None = None) -> Way:
    """Keep the address in a block and make the automation, replacing the way of that name.

    Raises
    ------
    UsageError
        A name that no block may have.
    EnvironmentFault
        No Prefect server is configured, or it does not answer.
    """
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    check_customer(customer)
    name = check_customer(name or kind)
    with _server() as client:
        block_id = block.save(_BLOCK.format(customer=customer, name=name), overwrite=True)
        automation = AutomationCore(
            name=f"alp alarms: {customer} / {name}",
            description=f"Tells people of {customer}'s alarms, drifts and outages; made by `alp alarms connect`.",
            tags=["alp", f"alp-{kind}"],
            trigger=EventTrigger(
                expect={ALARM_EVENT, DRIFT_EVENT, UNCOVERED_EVENT},
                match={"prefect.resource.id": asset_resource(customer, "*")},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[_action(kind, block_id)],
        )
        made = client.create_automation(automation)
        for other in _find(client, customer, name):
            if other.id != made:
                client.delete_automation(other.id)
        # A block of another type has the same name and is another one, with the address of before in it.
        _delete_blocks(client, customer, name, besides=str(block_id))
        return _way(_stored(client, made))


def ways(customer: str | None = None) -> list[Way]:
    """Every way, or a customer's, by name."""
    with _server() as client:
        return sorted(map(_way, _find(client, customer, None)), key=lambda way: (way.customer, way.name))


def disconnect(customer: str, name: str) -> Way:
    """Take a way away, and its address with it.

    Raises
    ------
    InputError
        The customer has no such way.
    """
    with _server() as client:
        found = _find(client, customer, name)
        if not found:
            others = ", ".join(way.name for way in map(_way, _find(client, customer, None))) or "none"
            raise InputError(f"customer {customer} has no way {name[:200]!r} for alarms; it has: {others}")
        way = _way(found[0])
        for automation in found:
            client.delete_automation(automation.id)
        _delete_blocks(client, customer, name)
        return way


def send_test(customer: str, sentence: str, *, wait_s: float) -> list[Delivered]:
    """Emit an alarm that says it is a test, and say what became of it on every way within so many seconds.

    Raises
    ------
    InputError
        The customer has no way.
    """
    connected = ways(customer)
    if not connected:
        raise InputError(f"nobody is told of {customer}'s alarms: make a way with `alp alarms connect`")
    now = datetime.now(UTC)
    happening = Happening(
        event=ALARM_EVENT,
        key=f"test {now.isoformat()}",
        resource=asset_resource(customer, "test"),
        resource_name=f"Test of {customer}'s alarms",
        payload={
            "event": ALARM_EVENT,
            "test": True,
            "customer": customer,
            "asset": "test",
            "machine": "test",
            "time": now.isoformat(),
            "grade": "TEST",
            "subject": f"TEST ({customer})",
            "sentence": sentence,
        },
    )
    if (refusal := tell_server(happening)) is not None:
        raise EnvironmentFault(refusal)
    with _server() as client:
        return _await_actions(client, connected, str(happening.event_id), wait_s)


def webhook_block(url: str) -> Block:
    """A block that posts JSON to an address."""
    from prefect.blocks.webhook import Webhook

    _require_http(url, "webhook")
    return Webhook(url=url, method="POST", headers={"Content-Type": "application/json"})


def slack_block(url: str) -> Block:
    """A block that writes to a Slack channel by its incoming webhook."""
    from prefect.blocks.notifications import SlackWebhook

    _require_http(url, "Slack webhook")
    if not re.fullmatch(r"hooks\.slack(-gov)?\.com", urlsplit(url).hostname or ""):
        raise UsageError("the address is not of a Slack incoming webhook, https://hooks.slack.com/services/…")
    return SlackWebhook(url=url)


def email_block(recipients: list[str], sender: str | None) -> Block:
    """A block that sends mail, by the server of `ALP_SMTP` or the SendGrid account of `ALP_SENDGRID_KEY`.

    Raises
    ------
    UsageError
        Neither is set, or an address is none.
    """
    from prefect.blocks.notifications import SendgridEmail, SlackWebhook

    environment = Environment()
    for address in (*recipients, *([sender] if sender else [])):
        if not re.fullmatch(r"[^@\s,]+@[^@\s,]+", address):
            raise UsageError(f"{address!r} is no e-mail address")
    if environment.smtp is not None:
        return SlackWebhook(url=_mail_url(environment.smtp.get_secret_value(), recipients, sender))
    if environment.sendgrid_key is not None:
        if sender is None:
            raise UsageError("SendGrid wants to know who sends: give --sender")
        return SendgridEmail(api_key=environment.sendgrid_key, sender_email=sender, to_emails=recipients)
    raise UsageError(
        "who sends the mail? Set ALP_SMTP to smtp://user:password@host:587 (smtps:// for TLS from the start), or"
        " ALP_SENDGRID_KEY, for this one command"
    )


def _mail_url(smtp: str, recipients: list[str], sender: str | None) -> str:
    """Apprise's URL of a mail server: STARTTLS wherever a password is sent, unless TLS stands from the start."""
    try:
        parts = urlsplit(smtp)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise UsageError("ALP_SMTP is no address of a mail server; write smtp://user:password@host:587")
    mode = "ssl" if parts.scheme == "smtps" else "starttls" if parts.password else "insecure"
    scheme = "mailto" if mode == "insecure" else "mailtos"
    user = f"{parts.username}:{parts.password}@" if parts.username and parts.password else ""
    sent_by = sender or f"alp@{parts.hostname}"
    options = urlencode({"from": sent_by, "to": ",".join(recipients), "mode": mode, "format": "text"}, quote_via=quote)
    return f"{scheme}://{user}{parts.hostname}{f':{port}' if port else ''}/?{options}"


def _require_http(url: str, what: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # The address itself may hold a token and is not repeated.
        raise UsageError(f"the {what}'s address is none: it begins with https:// or http://")


def _action(kind: Kind, block_id: Any) -> Any:
    from prefect.events.actions import CallWebhook, SendNotification

    if kind == "webhook":
        return CallWebhook(block_document_id=block_id, payload=WEBHOOK_PAYLOAD)
    escapes = _SLACK_ESCAPES if kind == "slack" else ""
    subject = _SHOWN.format("subject", "", escapes)
    body = "".join(
        _SHOWN.format(field, before, escapes)
        for field, before in (("sentence", ""), ("picture_link", "\n"), ("page_link", "\n"))
    )
    return SendNotification(block_document_id=block_id, subject=subject, body=body)


def _server() -> AbstractContextManager[SyncPrefectClient]:
    """A client of the configured server.

    Raises
    ------
    EnvironmentFault
        None is configured, it does not answer, or it refuses.
    """
    return connect_server("automations live on one that stays")


def _delete_blocks(client: SyncPrefectClient, customer: str, name: str, *, besides: str = "") -> None:
    """Delete every block in which an address of that way was kept, whatever its type."""
    wanted = {"block_documents": {"name": {"any_": [_BLOCK.format(customer=customer, name=name)]}}, "limit": 200}
    answer = client.request("POST", "/block_documents/filter", json=wanted)
    answer.raise_for_status()
    for found in answer.json():
        if found["id"] != besides:
            client.delete_block_document(found["id"])


def _find(client: SyncPrefectClient, customer: str | None, name: str | None) -> list[Automation]:
    """Automations of ours."""
    found = all_automations(client)
    return [each for each in found if (match := _NAME.fullmatch(each.name)) and _fits(match, customer, name)]


def _fits(match: re.Match[str], customer: str | None, name: str | None) -> bool:
    return customer in (None, match["customer"]) and name in (None, match["name"])


def _stored(client: SyncPrefectClient, automation_id: Any) -> Automation:
    stored = client.read_automation(automation_id)
    assert stored is not None
    return stored


def _way(automation: Automation) -> Way:
    match = _NAME.fullmatch(automation.name)
    assert match is not None
    kind = next((kind for kind in KINDS if f"alp-{kind}" in automation.tags), "webhook")
    block_id = str(getattr(automation.actions[0], "block_document_id", ""))
    return Way(match["customer"], match["name"], kind, automation.enabled, str(automation.id), block_id)


def _await_actions(client: SyncPrefectClient, connected: list[Way], event_id: str, wait_s: float) -> list[Delivered]:
    """What the server says became of the message on each way."""
    deadline = time.monotonic() + wait_s
    results: dict[str, Delivered] = {}
    expected = [way for way in connected if way.enabled]
    while len(results) < len(expected) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        answer = client.request(
            "POST", "/events/filter", json={"filter": {"event": {"name": list(_ACTION_EVENTS)}}, "limit": 50}
        )
        answer.raise_for_status()
        for event in answer.json()["events"]:
            for way in expected:
                if _tells_of(event, way, event_id):
                    results[way.automation_id] = _result(way, event)
    silent = {way.automation_id: Delivered(way, False, f"nothing was heard of it in {wait_s:g} s") for way in connected}
    paused = {way.automation_id: Delivered(way, False, "it is paused") for way in connected if not way.enabled}
    return list((silent | paused | results).values())


def _tells_of(event: dict[str, Any], way: Way, event_id: str) -> bool:
    related = [event["resource"], *event["related"]]
    about = {resource.get("prefect.resource.id") for resource in related}
    return f"prefect.automation.{way.automation_id}" in about and event_id in repr(event)


def _result(way: Way, event: dict[str, Any]) -> Delivered:
    payload = event["payload"]
    status = payload.get("status_code")
    ok = event["event"] == _ACTION_EVENTS[0] and (status is None or int(status) < 400)
    # A library's own words may hold the address.
    reason = re.sub(r"\w+://\S+", "…", str(payload.get("reason") or "sent"))
    said = f"status {status}" if status is not None else reason
    return Delivered(way, ok, said)
