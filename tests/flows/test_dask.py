"""Workers of a Dask cluster that stands elsewhere: all they have is the code, the store and its credentials."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from prefect import flow, task

import tasks.gate
import tasks.quality
import tasks.scoring
from engines.patch_memory import PatchMemory
from flows.onboard import onboard
from schemas.errors import EnvironmentFault
from schemas.settings import OnboardSettings
from tasks import spreading, task_runner
from tasks.spreading import spread
from tasks.store import FolderStore, open_store
from tasks.task_runner import ChosenRunner
from tests.flows.test_onboard import outputs

pytest.importorskip("prefect_dask", reason="the extra dask is not installed")

ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """A scheduler and two workers, each a process of its own with a home of its own."""

    def __init__(self, home: Path) -> None:
        self._home, self._file = home, home / "scheduler.json"
        scheduler = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self._file)]
        self._log = (home / "log.txt").open("ab")
        self._scheduler = self._start("distributed.cli.dask_scheduler", *scheduler)
        self._until(self._file.is_file)
        self.workers = [self._start_worker() for _ in range(2)]

    @property
    def address(self) -> str:
        import json

        return str(json.loads(self._file.read_text())["address"])

    def _start_worker(self) -> subprocess.Popen[bytes]:
        options = ["--scheduler-file", str(self._file), "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        return self._start("distributed.cli.dask_worker", *options, "--local-directory", str(self._home))

    def _start(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        keys = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "OPENBLAS_"))}
        environment = kept | keys | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
        command = [sys.executable, "-m", module, *options]
        return subprocess.Popen(command, cwd=self._home, env=environment, stdout=self._log, stderr=self._log)

    def _until(self, is_so: object) -> None:
        deadline = time.monotonic() + 60
        while not is_so():  # type: ignore[operator]
            assert time.monotonic() < deadline, (self._home / "log.txt").read_text()
            time.sleep(0.1)

    def close(self) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def cluster(tmp_path: Path, s3_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Chosen as where steps are done."""
    (tmp_path / "elsewhere").mkdir()
    found = Cluster(tmp_path / "elsewhere")
    monkeypatch.setenv("ALP_RUNNER", "dask")
    monkeypatch.setenv("ALP_DASK_SCHEDULER", found.address)
    monkeypatch.setattr(tasks.gate, "LEAST_PORTION", 10)
    monkeypatch.setattr(tasks.scoring, "LEAST_BATCH", 5)
    yield found
    found.close()


def test_workers_elsewhere_need_nothing_but_the_store(
    toy_folder: Path,
    tmp_path: Path,
    s3_url: str,
    settings: OnboardSettings,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("ALP_RUNNER", "threads")
        patch.setenv("ALP_WORKERS", "1")
        onboard(str(toy_folder), "acme", FolderStore(tmp_path / "alone").url, settings)
    # Nothing of this reaches a worker, which imports the modules anew.
    for home, name in ((tasks.quality, "check_signal"), (PatchMemory, "fit"), (tasks.scoring, "load_engine")):
        monkeypatch.setattr(home, name, lambda *_, **__: pytest.fail("done in the flow's own process"))
    onboard(str(toy_folder), "acme", s3_url, settings)
    found, expected = outputs(open_store(s3_url)), outputs(FolderStore(tmp_path / "alone"))
    assert found.keys() == expected.keys()
    assert [key for key in found if found[key] != expected[key]] == []


@task(name="Take a while")
def take_a_while(number: int) -> int:
    time.sleep(4)
    return number


@flow(task_runner=ChosenRunner)
def take_turns() -> list[int]:
    return spread(take_a_while, range(4))


def test_what_a_lost_worker_had_begun_is_done_by_another(cluster: Cluster) -> None:
    threading.Timer(6, cluster.workers[0].kill).start()
    assert take_turns() == [0, 1, 2, 3]
    assert cluster.workers[0].wait(30) != 0


def test_a_scheduler_that_went_away_is_told_with_the_remedy_and_given_up() -> None:
    """Dask itself takes half a minute to tell."""
    from distributed.client import FutureCancelledError

    class Lost:
        def result(self) -> None:
            raise FutureCancelledError("take-a-while", "scheduler-connection-lost")

    runner = Mock(ChosenRunner)
    with pytest.raises(EnvironmentFault, match="the Dask scheduler went away"):
        spreading._result(Lost(), runner)  # type: ignore[arg-type]
    runner.start_anew.assert_called_once_with()


def test_a_worker_of_another_version_refuses_the_step(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runner, "code_version", lambda: "9.9.9+of-the-flow")
    with pytest.raises(
        EnvironmentFault, match=r"the flow that sent the step 9\.9\.9\+of-the-flow: install one version"
    ):
        take_turns()
