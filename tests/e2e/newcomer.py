"""Somebody at a terminal who follows the guide: types `alp`, reads what it says, and looks at the Prefect server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tasks.store import ObjectStore, open_store

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

_COMMAND_S = 600.0
_ANSWER_S = 180.0
"""As `alp` has it: longer than the server's SQLite waits for a lock."""
_LOOK_AGAIN_S = 2.0
_TAIL_LINES = 40
_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

Run = dict[str, Any]


class Newcomer:
    """Works in an empty folder, with nothing of this machine's own Prefect, ALP or S3 in the environment."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self._began = time.monotonic()
        strange = ("PREFECT_", "ALP_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        self._environment = kept | {
            "PREFECT_HOME": str(folder / ".prefect"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "160",
            "NO_COLOR": "1",
        }

    # --- the terminal -------------------------------------------------------------------------------------------------

    def say(self, sentence: str) -> None:
        """Tell whoever watches how far it is."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {sentence}", flush=True)

    def try_alp(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a command, whatever comes of it."""
        self.say(f"$ alp {shlex.join(words)}")
        command = [str(Path(sys.executable).with_name("alp")), *words]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=_COMMAND_S
        )

    def alp(self, *words: str) -> str:
        """Type a command that is to succeed; what it prints."""
        done = self.try_alp(*words)
        assert done.returncode == 0, (
            f"alp {shlex.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def ask(self, *words: str) -> Any:
        """What a command answers with `--json`."""
        return json.loads(self.alp(*words, "--json"))

    # --- the platform -------------------------------------------------------------------------------------------------

    @cached_property
    def exports(self) -> Mapping[str, str]:
        """What `alp status --env` prints for other programs, once the platform is up."""
        lines = [shlex.split(line) for line in self.alp("status", "--env").splitlines()]
        return dict(line[1].split("=", 1) for line in lines)

    @cached_property
    def store(self) -> ObjectStore:
        """The platform's store, opened as another program would."""
        for name, value in self.exports.items():
            if name.startswith("AWS_"):
                self._patch.setenv(name, value)
        return open_store(self.exports["ALP_STORE"])

    def call(self, method: str, path: str, **body: Any) -> Any:
        """What the Prefect server's API answers."""
        url, login = self.exports["PREFECT_API_URL"], self.exports["PREFECT_API_AUTH_STRING"]
        name, _, password = login.partition(":")
        answer = httpx.request(
            method, f"{url}{path}", json=body or None, auth=(name, password), timeout=_ANSWER_S, trust_env=False
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def runs(self, name: str) -> list[Run]:
        """Flow runs whose name matches the pattern, whole, in the order in which they were to start."""
        found: list[Run] = []
        while page := self.call(
            "POST", "/flow_runs/filter", sort="EXPECTED_START_TIME_ASC", limit=200, offset=len(found)
        ):
            found += page
        return [run for run in found if re.fullmatch(name, run["name"])]

    def completed(self, name: str, *, count: int = 1) -> list[Run] | None:
        """The runs of that name once so many are completed; a run of it that fails ends the waiting."""
        runs = self.runs(name)
        if bad := [run for run in runs if run["state_type"] in {"FAILED", "CRASHED"}]:
            raise AssertionError(f"{bad[0]['name']} {bad[0]['state_name']}: {bad[0]['state']['message']}")
        good = [run for run in runs if run["state_type"] == "COMPLETED"]
        return good if len(good) >= count else None

    def wait_for(self, what: str, find: Callable[[], T | None], *, seconds: float) -> T:
        """What `find` gives, once it gives anything."""
        self.say(f"waiting for {what}")
        deadline = time.monotonic() + seconds
        while (found := find()) is None:
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}, in vain\n{self.describe()}"
            time.sleep(_LOOK_AGAIN_S)
        return found

    # --- when it fails ------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What there is to see of the platform: its last runs, and the ends of its logs."""
        return "\n".join([*self._last_runs(), *self._tails()])

    def _last_runs(self) -> list[str]:
        try:
            runs = [run for run in self.runs(".*") if run["state_type"] != "SCHEDULED"]
        except (httpx.HTTPError, AssertionError) as error:
            return [f"the Prefect server cannot be asked: {error}"]
        return [
            f"{run['expected_start_time'][11:19]} {run['name']}: {run['state_name']} {run['state']['message'] or ''}"
            for run in runs[-_TAIL_LINES:]
        ]

    def _tails(self) -> list[str]:
        lines = []
        for log in sorted((self.folder / "alp-platform" / "logs").glob("*.log")):
            lines += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]]
        return lines

    def keep_logs(self, folder: Path) -> None:
        """Leave the platform's logs where whoever looks for the cause finds them."""
        logs = self.folder / "alp-platform" / "logs"
        if logs.is_dir():
            shutil.copytree(logs, folder, dirs_exist_ok=True)


def is_over(run: Run) -> bool:
    """Whether a run has come to any end."""
    return run["state_type"] in _ENDED


def lateness_s(run: Run) -> float:
    """Seconds from when a run was to start until it did."""
    return (moment(run["start_time"]) - moment(run["expected_start_time"])).total_seconds()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
