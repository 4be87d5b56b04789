"""A Prefect server for the session, and small toy packages to onboard."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_LEVEL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from engines.toy.plan import ToyPlan
from schemas.settings import OnboardSettings
from tasks.toy import write_toy_package
from tests.bare_pages import make_pages_bare
from tests.deployments.prefect_rig import forget_servers

Row = dict[str, str]
Edit = Callable[[list[Row]], list[Row]]


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """One server of its own for all flow tests."""
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_LEVEL: "ERROR"}
    with prefect_test_harness(server_startup_timeout=120), temporary_settings(updates=quick):
        forget_servers()
        yield


@pytest.fixture(scope="session")
def settings() -> OnboardSettings:
    """The encoder without weights: what flows do does not depend on what the engine hears."""
    return OnboardSettings(encoder="logmel")


@pytest.fixture(scope="module")
def bare_pages() -> Iterator[None]:
    """Pages hold neither pictures of clips nor Data Docs, until the module ends."""
    with pytest.MonkeyPatch.context() as patch:
        make_pages_bare(patch)
        yield


@pytest.fixture
def bare_pages_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, until the test ends."""
    make_pages_bare(monkeypatch)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines with the fewest clips a toy package has."""
    folder = tmp_path_factory.mktemp("toy") / "package"
    write_toy_package(folder, ToyPlan(machine_types=("fan", "valve"), scale=0.001))
    return folder


@pytest.fixture(scope="session")
def edit_into(toy_folder: Path) -> Callable[[Path, Edit], Path]:
    """Writes a package of the toy's recordings whose table was edited; recordings no row names are left out."""

    def write(folder: Path, edit: Edit) -> Path:
        (folder / "audio").mkdir(parents=True)
        with (toy_folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = edit(list(csv.DictReader(file)))
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        for row in rows:
            source = toy_folder / row["relative_path"]
            if source.is_file():
                shutil.copyfile(source, folder / row["relative_path"])
        return folder

    return write


@pytest.fixture
def edited(edit_into: Callable[[Path, Edit], Path], tmp_path: Path) -> Callable[[str, Edit], Path]:
    """Makes such a package in the test's own folder."""
    return lambda name, edit: edit_into(tmp_path / name, edit)
