"""Alarms reach people, through a Prefect server as a plant runs one, and receivers on this machine."""

from __future__ import annotations

import json
import socketserver
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jinja2.sandbox import SandboxedEnvironment
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

import tasks.monitor_steps
from deployments.delivery import _action, connect, disconnect, email_block, send_test, slack_block, ways, webhook_block
from flows.monitor import monitor
from schemas.errors import EnvironmentFault, InputError, UsageError
from tasks.alarms import describe_happening, read_alarms
from tasks.events import Happening, tell_server
from tasks.store import FolderStore
from tests.deployments.prefect_rig import await_true, prefect_server
from tests.ports import free_port
from tests.tasks.watching_rig import ASSET, CUSTOMER, LOUD, make_watch, sound, write

SECRET = "T0ken-that-nobody-may-see"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prefect server of its own; the automations of this module live on it."""
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


class Receiver:
    """What a webhook got."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.content_types: list[str | None] = []
        self.status = 200
        self.url = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    got = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.posts.append(json.loads(body))
            got.content_types.append(self.headers["Content-Type"])
            self.send_response(got.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        got.url = f"http://127.0.0.1:{http.server_port}/{SECRET}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield got
        http.shutdown()


@contextmanager
def connected(customer: str, url: str) -> Iterator[None]:
    way = connect(customer, "webhook", webhook_block(url))
    try:
        yield
    finally:
        disconnect(customer, way.name)


def stored_automation(name: str) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/automations/filter", json={}).json()
    return next(each for each in found if each["name"] == name)


def blocks_of(customer: str) -> list[str]:
    """Names of the types of every block in which an address of a customer's ways is kept."""
    with get_client(sync_client=True) as client:
        blocks = client.request("POST", "/block_documents/filter", json={}).json()
    return [each["block_type_name"] for each in blocks if str(each["name"]).startswith(f"alp-alarms-{customer}--")]


def events_of(happening: Happening) -> int:
    wanted = {"filter": {"id": {"id": [str(happening.event_id)]}}}
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/events/filter", json=wanted).json()["total"])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """A store whose champion hears loudness."""
    shelf = FolderStore(tmp_path / "store")
    watch = make_watch(shelf)
    monkeypatch.setattr(tasks.monitor_steps, "find_watch", lambda *_: watch)
    return shelf


def test_one_fault_is_one_post_and_a_second_pass_none(
    server: str, receiver: Receiver, store: FolderStore, tmp_path: Path
) -> None:
    folder = tmp_path / "recorder"
    for minute in range(6):
        write(folder, f"{minute}.wav", sound(minute, LOUD if minute in (3, 4) else 0.02), minute=minute)
    with connected(CUSTOMER, receiver.url):
        first = monitor(CUSTOMER, ASSET, store.url, str(folder))
        assert (first.judged, len(first.raised), first.told) == (6, 1, 1)
        await_true(lambda: bool(receiver.posts), seconds=60, what="the webhook to be called")
        second = monitor(CUSTOMER, ASSET, store.url, str(folder))
        assert (second.judged, second.told) == (0, 0)
        (alarm,) = read_alarms(store, CUSTOMER, ASSET)
        happening = describe_happening(alarm, link=str, now=alarm.judged_at)
        await_true(lambda: events_of(happening) == 1, seconds=60, what="the event to be filed")
        tell_server(happening)  # as a process does that was killed before it noted what it told
        time.sleep(3)
        assert events_of(happening) == 1
    (post,) = receiver.posts
    assert receiver.content_types == ["application/json"]
    assert post["machine"] == "fan 00"
    assert post["time"] == "2026-03-02T10:03:00Z"
    assert post["grade"] == "CRITICAL"
    assert post["alarm_id"] == alarm.alarm_id
    assert post["p_value"] == pytest.approx(1 / 13)
    assert post["severity"] > 75
    assert post["model_version"] == "v1"
    assert post["picture_link"] == f"{store.url}/{alarm.picture}"
    assert store.get(post["picture"]).startswith(b"\x89PNG")
    assert "1" in post["rule"]
    assert "3.wav" in post["sentence"]


def test_the_automation_is_stored_as_it_was_made(server: str, receiver: Receiver) -> None:
    with connected("stored", receiver.url):
        stored = stored_automation("alp alarms: stored / webhook")
    trigger = stored["trigger"]
    assert set(trigger["expect"]) == {"alp.alarm", "alp.drift", "alp.uncovered"}
    assert trigger["match"] == {"prefect.resource.id": "alp.asset.stored.*"}
    assert (trigger["posture"], trigger["threshold"], trigger["within"]) == ("Reactive", 1, 0)
    (action,) = stored["actions"]
    assert (action["type"], action["payload"]) == ("call-webhook", "{{ event.payload | tojson }}")
    assert SECRET not in json.dumps(stored)


def test_connecting_again_replaces_and_disconnecting_leaves_nothing(server: str, receiver: Receiver) -> None:
    connect("again", "webhook", webhook_block("http://127.0.0.1:9/old"))
    connect("again", "webhook", webhook_block(receiver.url))
    assert [way.name for way in ways("again")] == ["webhook"]
    (result,) = send_test("again", "only a test", wait_s=60)
    assert (result.ok, result.detail) == (True, "status 200")
    assert [post["sentence"] for post in receiver.posts] == ["only a test"]
    disconnect("again", "webhook")
    assert ways("again") == []
    assert blocks_of("again") == []
    with pytest.raises(InputError, match="webhook"):
        disconnect("again", "webhook")


def test_a_way_of_another_kind_under_the_same_name_leaves_no_address_behind(server: str, receiver: Receiver) -> None:
    slack = slack_block("https://hooks.slack.com/services/T0000/B0000/XXXX")
    connect("kinds", "webhook", webhook_block(receiver.url), name="shift")
    connect("kinds", "slack", slack, name="shift")
    assert [(way.name, way.kind) for way in ways("kinds")] == [("shift", "slack")]
    assert blocks_of("kinds") == ["Slack Webhook"]
    connect("kinds", "webhook", webhook_block(receiver.url), name="shift")
    assert blocks_of("kinds") == ["Webhook"]
    disconnect("kinds", "shift")
    assert blocks_of("kinds") == []


def test_what_a_file_is_called_calls_no_channel_in_slack_and_stays_plain_in_mail() -> None:
    payload = {
        "sentence": "alarm of <!channel> & co",
        "picture_link": None,
        "page_link": "https://x/y",
        "subject": "a<b",
    }
    said = {}
    for kind in ("slack", "email"):
        action = _action(kind, uuid.uuid4())
        templates = (action.subject, action.body)
        said[kind] = [SandboxedEnvironment().from_string(each).render(event={"payload": payload}) for each in templates]
    assert said["slack"] == ["a&lt;b", "alarm of &lt;!channel&gt; &amp; co\nhttps://x/y"]
    assert said["email"] == ["a<b", "alarm of <!channel> & co\nhttps://x/y"]


def test_a_customer_is_not_told_of_another_s_alarms(server: str, receiver: Receiver) -> None:
    with connected("acme-ulsan", receiver.url), connected("acme", f"{receiver.url}/acme"):
        send_test("acme", "for acme alone", wait_s=60)
    assert [post["customer"] for post in receiver.posts] == ["acme"]


def test_a_test_says_where_an_alarm_would_not_arrive(server: str, receiver: Receiver) -> None:
    receiver.status = 500
    with connected("broken", receiver.url):
        (result,) = send_test("broken", "a test", wait_s=60)
    assert (result.ok, result.detail) == (False, "status 500")
    with connected("nobody", f"http://127.0.0.1:{free_port()}/{SECRET}"):
        (result,) = send_test("nobody", "a test", wait_s=60)
    assert not result.ok
    assert SECRET not in result.detail
    with pytest.raises(InputError, match="alp alarms connect"):
        send_test("unconnected", "a test", wait_s=1)


class Mailbox(socketserver.StreamRequestHandler):
    """Speaks enough SMTP to take a mail."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self._say("220 here")
        lines: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode(errors="replace").rstrip("\r\n")
            if lines is not None:
                if line == ".":
                    self.mails.append("\n".join(lines))
                    lines = None
                    self._say("250 taken")
                else:
                    lines.append(line)
            elif line.upper().startswith("DATA"):
                lines = []
                self._say("354 go on")
            elif line.upper().startswith("QUIT"):
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def test_a_mail_reaches_a_plant_s_own_mail_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Mailbox.mails.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as smtp:
        threading.Thread(target=smtp.serve_forever, daemon=True).start()
        monkeypatch.setenv("ALP_SMTP", f"smtp://127.0.0.1:{smtp.server_address[1]}")
        connect("mailed", "email", email_block(["shift@plant.example"], "alp@plant.example"))
        try:
            (result,) = send_test("mailed", "a test by mail", wait_s=60)
        finally:
            disconnect("mailed", "email")
            smtp.shutdown()
    assert result.ok, result.detail
    (mail,) = Mailbox.mails
    assert "shift@plant.example" in mail
    assert "a test by mail" in mail


def test_without_a_server_nothing_can_be_connected() -> None:
    with temporary_settings(updates={PREFECT_API_URL: None}), pytest.raises(EnvironmentFault, match="PREFECT_API_URL"):
        ways("acme")


@pytest.mark.parametrize(
    "address", ["hooks.slack.com/services/x", "ftp://x", "https://evil.example/services/x", "http://["]
)
def test_an_address_that_is_none_is_refused_without_being_repeated(address: str) -> None:
    with pytest.raises(UsageError) as refused:
        slack_block(address)
    assert address not in str(refused.value)


def test_mail_needs_somebody_to_send_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALP_SMTP", raising=False)
    monkeypatch.delenv("ALP_SENDGRID_KEY", raising=False)
    with pytest.raises(UsageError, match="ALP_SMTP"):
        email_block(["a@b.example"], None)
    with pytest.raises(UsageError, match="no e-mail address"):
        email_block(["nobody"], None)
