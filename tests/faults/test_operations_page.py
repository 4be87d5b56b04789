"""Every command of docs/operations.md, typed in its order on a platform, from the installation to the last purge.

Blocks marked `bash` are typed as they stand, each with `bash -e`, in an empty folder; only the place of backups is
another one. Between the sections happens what they are about: a package that fails, a machine that is lost.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from deployments.platform_home import PlatformHome
from deployments.platform_processes import marked, stop
from engines.toy.plan import ToyPlan
from tasks.toy import write_toy_package

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PLACE = "file:///srv/backup/alp"
SECTIONS = {
    title: re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


class Operator:
    """Works in a folder, with nothing of this machine's own in the environment."""

    def __init__(self, folder: Path, backups: Path) -> None:
        folder.mkdir()
        self.folder, self.backups = folder, backups

    @cached_property
    def environment(self) -> dict[str, str]:
        strange = ("PREFECT_", "ALP_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        programs = self.folder.parent / "bin"
        if not programs.is_dir():
            programs.mkdir()
            (programs / "alp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deployments.cli "$@"\n')
            (programs / "prefect").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m prefect "$@"\n')
            (programs / "python").symlink_to(sys.executable)
            for name in ("alp", "prefect"):
                (programs / name).chmod(0o755)
        return kept | {
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.folder / ".own-prefect"),
            "ALP_BACKUP": self.backups.as_uri(),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def types(self, block: str, **variables: str) -> str:
        """Run lines of shell that are to succeed; what they print."""
        script = block.replace(PLACE, self.backups.as_uri())
        print(f"$ {script}", flush=True)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment | variables, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def section(self, title: str, **variables: str) -> list[str]:
        return [self.types(block, **variables) for block in SECTIONS[title]]

    def asks(self, words: str) -> Any:
        return json.loads(self.types(f"alp {words} --json"))

    def scores(self, *files: Path) -> dict[str, Any]:
        found: dict[str, Any] = self.asks(f"score pump-00 --customer acme {' '.join(map(str, files))}")
        return found

    def runs(self, which: str) -> list[dict[str, Any]]:
        """Flow runs that the server knows, the newest first."""
        words = f"prefect flow-run ls {which} --output json"
        found: list[dict[str, Any]] = json.loads(self.types(f'eval "$(alp status --env)"\n{words}'))
        return found

    @property
    def home(self) -> PlatformHome:
        return PlatformHome(self.folder / "alp-platform")

    def loses_the_machine(self) -> None:
        if self.home.exists:
            stop([process for process, _ in marked(self.home.read().mark)], patience_s=0)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Plant:
    """A package of one machine, some of its sounds, and the name of a normal that it can do without."""

    folder: Path
    heard: list[Path]
    clip: str


def write_plant(folder: Path) -> Plant:
    """A package of a machine with eight normals of its own."""
    write_toy_package(folder, ToyPlan(machine_types=("pump",), scale=0.005))
    table = folder / "metadata.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    learnt = [row for row in rows if row["split"] == "train"]
    for row in learnt:
        row["domain"] = "target"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Plant(folder, sorted((folder / "audio").glob("*.wav"))[:4], learnt[-1]["clip_id"])


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[Callable[[str], Operator]]:
    """Somebody with an empty folder; whatever happens, nothing runs afterwards."""
    hired: list[Operator] = []

    def hire(name: str) -> Operator:
        hired.append(Operator(tmp_path / name, tmp_path / "nas"))
        return hired[-1]

    yield hire
    for each in hired:
        each.loses_the_machine()


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return write_plant(tmp_path / "plant")


@pytest.fixture
def operator(hire: Callable[[str], Operator], plant: Plant) -> Operator:
    """Who has done what the first two sections say."""
    operator = hire("first")
    operator.section("Install")
    shutil.make_archive(str(operator.folder / "plant"), "zip", plant.folder)
    operator.section("Add a customer")
    return operator


def test_a_machine_that_is_lost_is_restored_as_it_was_and_its_keys_are_changed(
    operator: Operator, hire: Callable[[str], Operator], plant: Plant
) -> None:
    operator.types("alp alarms connect --customer acme --webhook http://127.0.0.1:9/alarms")
    operator.section("Back up")
    scores, champion = operator.scores(*plant.heard), operator.asks("champion show pump-00 --customer acme")
    operator.loses_the_machine()

    operator = hire("second")
    restored, history = operator.section("Restore")
    assert "customers/acme.yaml" in restored
    assert "webhook" in history, "how alarms reach people came back with Prefect's database"
    assert any(run["name"].startswith("onboard-acme-") for run in operator.runs("--limit 200")), "and so did the past"
    assert operator.scores(*plant.heard) == scores
    assert operator.asks("champion show pump-00 --customer acme") == champion

    before = operator.home.credentials()
    operator.section("Rotate keys")
    assert operator.home.credentials() != before
    assert operator.scores(*plant.heard) == scores


def test_it_is_upgraded_looked_after_and_emptied(operator: Operator, plant: Plant) -> None:
    scores, champion = operator.scores(*plant.heard), operator.asks("champion show pump-00 --customer acme")
    operator.section("Upgrade")
    assert operator.scores(*plant.heard) == scores

    (operator.folder / "broken.zip").write_bytes(b"PK no zip")
    operator.types("! alp onboard broken.zip --customer acme")
    (failed,) = operator.runs("--state-type FAILED --limit 1")
    (told,) = operator.section("Read a failed run", run=failed["id"])
    assert "".join(failed["state"]["message"].split())[:60] in "".join(told.split())

    operator.section("When the alarm rings too often", clip=plant.clip)
    changes = operator.asks("champion list pump-00 --customer acme")["changes"]
    assert [each["by"] for each in changes] == ["onboard", "onboard", "rollback"]
    assert changes[-1]["version"] == champion["champion"]["version"]

    operator.section("Remove a customer")
    assert list((operator.folder / "customers").iterdir()) == []
    assert len(operator.asks("backup list")["backups"]) == 1


def test_every_section_with_commands_is_typed_here() -> None:
    typed = set(re.findall(r'\.section\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert typed == {title for title, blocks in SECTIONS.items() if blocks}
