"""The process at the door, one for all cases."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import case

ROOT = Path(__file__).resolve().parents[2]
MOST_RESTING_MEBIBYTES = 250
"""A process that holds more of its own between two uploads is replaced; with all its libraries it holds about 230."""
PATIENCE_S = 240
"""A process that has said nothing for so long hangs; how long an upload may take is for the tests to say."""


@dataclass(frozen=True)
class Taken:
    """What came of one upload."""

    source: Path
    sandbox: Path
    check: dict[str, Any]
    onboard: dict[str, Any]
    touched: list[str]

    @property
    def store(self) -> Path:
        return self.sandbox / "store"


TakeIn = Callable[[case.Make], Taken]


class Door:
    """`tests.hostile.door` as a process; started again after one that hung, died or held too much.

    Each process takes one plain upload in before it is asked: libraries that are loaded late leave their caches then,
    and they count for no case.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._starts = 0
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, source: Path, sandbox: Path) -> dict[str, Any]:
        """How the upload ended."""
        if self._process is None:
            self._start()
        told = self._answer(source, sandbox)
        if told.pop("resting_mebibytes") > MOST_RESTING_MEBIBYTES:
            # What one upload leaves behind in the heap counts for none of the next ones.
            self.close()
        return told

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answer(self, source: Path, sandbox: Path) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps({"source": str(source), "sandbox": str(sandbox)}) + "\n")
        process.stdin.flush()
        try:
            answer = self._answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            self.close()
            pytest.fail(f"nothing came back within {PATIENCE_S} s")
        if not answer:
            self.close()
            pytest.fail("the process died")
        return dict(json.loads(answer))

    def _start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ALP_"))}
        mine = {
            "HOME": str(self._home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.door"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._home, env=kept | mine,
        )  # fmt: skip
        self._answers = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True).start()
        self._starts += 1
        sandbox = _sandbox(self._home / f"start-{self._starts}")
        self._answer(case.zipped(case.entries())(sandbox / "upload"), sandbox)

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One process for all uploads, as long as it keeps well."""
    door = Door(tmp_path_factory.mktemp("door"))
    yield door
    door.close()


@pytest.fixture
def take_in(door: Door, tmp_path: Path) -> TakeIn:
    """Makes an upload and brings it to the door."""

    def take_in(make: case.Make) -> Taken:
        sandbox = _sandbox(tmp_path)
        source = make(sandbox / "upload")
        return Taken(source, sandbox, **door.ask(source, sandbox))

    return take_in


def _sandbox(folder: Path) -> Path:
    """`here`, the working folder, lies so deep that what climbs out of it still lands where the tests look."""
    sandbox = folder / "sandbox"
    for name in ("upload", "here", "scratch"):
        (sandbox / name).mkdir(parents=True)
    return sandbox
