"""The command line is run as a person runs it: as a process, with a home and a Prefect of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from engines.toy.plan import ToyPlan
from tasks.toy import write_toy_package
from tests.deployments.forks import forks
from tests.deployments.prefect_rig import run_server

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", autouse=True)
def no_server() -> Iterator[None]:
    """No Prefect server is configured but what a test starts, also where flow tests ran before in this process."""
    with temporary_settings(updates={PREFECT_API_URL: None}):
        yield


@pytest.fixture(scope="session")
def alp_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which nothing of this user's Prefect is read or written."""
    home = tmp_path_factory.mktemp("prefect")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ALP_STORE"))}
    return kept | {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }


@pytest.fixture(scope="session")
def fresh_alp(alp_environment: dict[str, str]) -> Alp:
    """Runs `alp` as a newcomer does, who has no Prefect server: it imports all it needs, and starts one for itself."""

    def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deployments.cli", *arguments]
        return subprocess.run(
            command, cwd=cwd, env=alp_environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    return run


@pytest.fixture(scope="session")
def alp(alp_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alp]:
    """Runs `alp` with arguments against a server that runs, and gives what it printed and its exit code."""
    with (
        run_server(tmp_path_factory.mktemp("server")) as url,
        forks(alp_environment | {"PREFECT_API_URL": url}) as alps,
    ):
        yield partial(alps.run, timeout=PATIENCE_S)


@pytest.fixture(scope="session")
def toy_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine with the fewest clips a toy package has."""
    path = tmp_path_factory.mktemp("toy") / "toy.zip"
    write_toy_package(path, ToyPlan(machine_types=("pump",), scale=0.001))
    return path
