"""Headless Chromium for tests, driven by its DevTools protocol: pages that draw themselves are waited for."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine is to be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_START_S = 60.0


def find_chromium() -> str | None:
    """The browser's program."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Tab:
    """A tab of the browser; `faults` are the errors that its pages did not catch, and what they asked for in vain."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; what it answers."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._hear(message)

    def _hear(self, event: dict[str, Any]) -> None:
        facts = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.faults.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif event.get("method") == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.faults.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")

    def resize(self, width: int, height: int) -> None:
        """Show pages as in a window of so many pixels; one as narrow as a phone's, as on a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression makes on the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, *words: str, seconds: float = 90.0) -> str:
        """Wait until all of these can be read on the page; its text."""
        return self.wait_until(lambda text: all(word in text for word in words), f"{words}", seconds=seconds)

    def wait_until(self, is_there: Callable[[str], bool], what: str, *, seconds: float = 90.0) -> str:
        deadline = time.monotonic() + seconds
        while not is_there(text := self.text()):
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}; the page says: {text[:2000]}"
            time.sleep(0.1)
        return text

    def click(self, text: str) -> None:
        """Click the innermost element that holds just this text."""
        found = self.evaluate(
            "(() => { const all = [...document.querySelectorAll('a, button, li, label')].reverse();"
            f" const one = all.find(each => each.innerText.trim() === {json.dumps(text)});"
            " if (one) one.click(); return Boolean(one); })()"
        )
        assert found, f"nothing to click says {text!r}"

    def picture(self, path: Path) -> None:
        """File what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, with its profile in `folder`."""
    binary = find_chromium()
    assert binary is not None
    command = [binary, *_FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with connect(_address(folder, process), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.kill()
        process.wait()


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the tab listens, once the browser has written its port down."""
    deadline, port = time.monotonic() + _START_S, folder / "DevToolsActivePort"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            number = port.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/json/list", timeout=5) as answer:
                tabs = [each for each in json.load(answer) if each["type"] == "page"]
            return str(tabs[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError, ValueError):
            time.sleep(0.1)
    raise RuntimeError(f"Chromium did not start: {(folder / 'browser.log').read_text(errors='replace')[-2000:]}")
