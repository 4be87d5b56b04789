"""`alp score`, `alp monitor` and `alp alarms` as a person runs them, on a toy machine that was onboarded."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deployments.monitor_commands import Printer
from tasks import keys
from tasks.store import FolderStore
from tasks.watch_log import read_rows
from tasks.watch_news import News

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def onboarded(alp: Alp, toy_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store in which the toy pump has a champion. Onboarding takes seconds, so it is done once."""
    home = tmp_path_factory.mktemp("store")
    arguments = ("--customer", "acme", "--encoder", "logmel", "--store", home.as_uri(), "--json")
    done = alp("onboard", str(toy_zip), *arguments)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def store(onboarded: Path, tmp_path: Path) -> Path:
    """The same for one test alone."""
    return Path(shutil.copytree(onboarded, tmp_path / "store"))


@pytest.fixture(scope="module")
def sounds(toy_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's recordings as files."""
    folder = tmp_path_factory.mktemp("sounds")
    with zipfile.ZipFile(toy_zip) as package:
        for name in package.namelist():
            if name.endswith(".wav"):
                (folder / Path(name).name).write_bytes(package.read(name))
    return folder


def given_scores(store: Path) -> dict[str, dict[str, str]]:
    (table,) = store.glob("runs/acme/*/pump-00/scores.csv")
    return {row["clip_id"]: row for row in csv.DictReader(io.StringIO(table.read_text()))}


def options(store: Path) -> tuple[str, ...]:
    return ("--customer", "acme", "--store", store.as_uri())


def test_score_gives_what_onboarding_gave_and_a_bad_file_stops_no_other(
    alp: Alp, onboarded: Path, sounds: Path, tmp_path: Path
) -> None:
    given = given_scores(onboarded)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    files = [str(sounds / f"{name}.wav") for name in given]
    before = sorted(FolderStore(onboarded).list_keys())
    done = alp("score", "pump-00", str(broken), *files, *options(onboarded), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["clips"]) == len(given)
    for clip in document["clips"]:
        row = given[Path(clip["name"]).stem]
        assert (clip["score"], clip["p_value"], clip["severity"]) == tuple(
            float(row[column]) for column in ("score", "p_value", "severity")
        )
        assert (clip["grade"], clip["state"], clip["decision"]) == (row["grade"], row["state"], row["decision"])
    (refused,) = document["refused"]
    assert refused["name"] == str(broken)
    assert all(problem["message"] and problem["remedy"] for problem in refused["problems"])
    assert sorted(FolderStore(onboarded).list_keys()) == before, "nothing was filed"


def test_score_prints_a_line_a_clip(alp: Alp, onboarded: Path, sounds: Path) -> None:
    done = alp("score", "pump-00", str(sounds), *options(onboarded))
    assert done.returncode == 0, done.stderr
    for path in sounds.iterdir():
        assert path.name in done.stdout
    assert "severity" in done.stdout


@pytest.mark.parametrize(
    ("asset", "clip", "code"),
    [("pump-00", "none.wav", 3), ("pump-99", "bad.wav", 3), ("pump-00", "bad.wav", 4), ("pump-00", "empty", 2)],
)
def test_exit_codes_of_what_cannot_be_scored(
    alp: Alp, onboarded: Path, tmp_path: Path, asset: str, clip: str, code: int
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "empty").mkdir()
    done = alp("score", asset, str(tmp_path / clip), *options(onboarded))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


class Watching:
    """`alp monitor --watch` as a process."""

    def __init__(self, environment: dict[str, str], store: Path, folder: Path, *more: str) -> None:
        command = [sys.executable, "-m", "deployments.cli", "monitor", "pump-00", "--watch", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--poll", "0.1", "--settle", "0.2", "--patience", "30", *options(store), *more],
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.store = FolderStore(store)

    def await_rows(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(read_rows(self.store, "acme", "pump-00")) < count:
            assert self.process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, f"waited 120 s for {count} rows"
            time.sleep(0.1)

    def stop(self, by: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(by)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def watching(alp_environment: dict[str, str], store: Path) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(folder: Path, *more: str) -> Watching:
        started.append(Watching(alp_environment, store, folder, *more))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()


def test_watching_survives_half_written_files_renames_kills_and_is_stopped_by_a_signal(
    watching: Callable[..., Watching], sounds: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recorder"
    folder.mkdir()
    first, second, third, fourth = [path.read_bytes() for path in sorted(sounds.iterdir())[:4]]
    running = watching(folder)
    (folder / "a.wav.part").write_bytes(first)
    (folder / "a.wav.part").rename(folder / "a.wav")
    running.await_rows(1)
    (folder / "b.wav").write_bytes(second[: len(second) // 2])
    time.sleep(0.6)
    (folder / "b.wav").write_bytes(second)
    running.await_rows(2)
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()
    (folder / "c.wav").write_bytes(third)
    (folder / "a.wav").rename(folder / "renamed.wav")
    again = watching(folder)
    again.await_rows(3)
    (folder / "below").mkdir()
    (folder / "below" / "d.wav").write_bytes(fourth)
    again.await_rows(4)
    code, said = again.stop(signal.SIGINT)
    assert code == 0, said
    assert "Stopped" in said
    assert "No Prefect server is configured: nobody is told" in said
    rows = read_rows(again.store, "acme", "pump-00")
    assert rows["name"].tolist() == ["a.wav", "b.wav", "c.wav", "below/d.wav"]
    assert rows["recording_id"].is_unique
    assert "4 judged" in again.store.get(keys.fleet("acme")).decode(), "the page of all machines follows"


def test_watching_with_json_prints_one_document_when_it_is_stopped(
    watching: Callable[..., Watching], sounds: Path, tmp_path: Path, alp_environment: dict[str, str], store: Path
) -> None:
    folder = tmp_path / "recorder"
    shutil.copytree(sounds, folder)
    command = [sys.executable, "-m", "deployments.cli", "monitor", "pump-00", "--watch", str(folder)]
    command += ["--poll", "0.1", "--settle", "0.2"]
    with subprocess.Popen(
        [*command, *options(store), "--json"],
        env=alp_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while len(read_rows(FolderStore(store), "acme", "pump-00")) < len(list(sounds.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    document = json.loads(said)
    assert (document["judged"], document["refused"]) == (len(list(sounds.iterdir())), {})


def test_what_a_file_is_called_writes_no_line_of_its_own() -> None:
    console = Console(file=io.StringIO(), width=500)
    text = "a\x1b]0;owned\x07\nALARM    all is lost holds what b holds, which was judged"
    Printer(console).print_news(News("repeated", text=text))
    (line,) = console.file.getvalue().splitlines()
    assert line.isprintable()
    assert line.startswith("known")


def test_score_shows_a_name_that_would_write_a_line_of_its_own(
    alp: Alp, onboarded: Path, sounds: Path, tmp_path: Path
) -> None:
    shutil.copy(next(sounds.iterdir()), tmp_path / "a\x1b[31m\nCRITICAL b.wav")
    done = alp("score", "pump-00", str(tmp_path), *options(onboarded))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("CRITICAL b")]


def test_what_cannot_be_watched_is_refused(alp: Alp, onboarded: Path, tmp_path: Path) -> None:
    assert alp("monitor", "pump-00", "--watch", str(tmp_path / "none"), *options(onboarded)).returncode == 3
    assert alp("monitor", "pump-99", "--watch", str(tmp_path), *options(onboarded)).returncode == 3


def test_alarms_of_a_machine_that_was_never_watched(alp: Alp, onboarded: Path) -> None:
    done = alp("alarms", "show", "pump-00", *options(onboarded), "--json")
    assert json.loads(done.stdout) == {
        "customer": "acme",
        "asset": "pump-00",
        "standing": None,
        "coverage": None,
        "drift": None,
        "pace": None,
        "alarms": [],
    }


@pytest.mark.parametrize(
    "command",
    [("list",), ("connect", "--webhook", "http://127.0.0.1:9/x")],
)
def test_without_a_server_nobody_can_be_told_and_it_says_so(fresh_alp: Alp, command: tuple[str, ...]) -> None:
    done = fresh_alp("alarms", *command)
    assert done.returncode == 5
    assert "PREFECT_API_URL" in done.stderr
    assert "127.0.0.1:9" not in done.stderr
