"""A backup of real onboardings: restored elsewhere, every champion scores exactly as before; a run goes on midway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, get_args

import pytest

from engines.toy.plan import ToyPlan
from flows.monitor import monitor
from flows.onboard import onboard
from schemas.references import Stage
from schemas.settings import OnboardSettings, RoutingSettings
from tasks.backup.making import make_backup
from tasks.backup.restoring import restore_backup
from tasks.champions import find_champion
from tasks.hearing import hear
from tasks.monitoring import judge_files, load_watch
from tasks.runs import Manifest
from tasks.s3_setup import init_bucket
from tasks.s3_store import S3Store
from tasks.sharing import set_consent
from tasks.store import FolderStore, ObjectStore
from tasks.toy import write_toy_package
from tasks.watching import Watcher
from tests.flows.test_onboard import outputs, run
from tests.s3_server import run_server

pytestmark = pytest.mark.usefixtures("bare_pages")

SETTINGS = OnboardSettings(encoder="logmel", routing=RoutingSettings(min_source=3, forbid=("c",)))
"""So little source is enough for engine B."""


def champions(store: ObjectStore) -> list[tuple[str, str]]:
    """Customer and asset of every machine that has one."""
    found = [key.split("/") for key in store.list_keys("assets/") if key.endswith("/champion.json")]
    return [(parts[1], parts[2]) for parts in found]


def all_scores(store: ObjectStore, files: list[Path]) -> dict[str, list[str]]:
    """What every champion says of every recording, to the last digit."""
    said = {}
    for customer, asset in champions(store):
        watch = load_watch(store, customer, asset)
        heard = [hear(path.name, path.read_bytes(), watch.ear) for path in files]
        said[f"{customer} {asset}"] = [found.model_dump_json() for _, found in judge_files(watch, heard) if found]
    return said


def plant(folder: Path, kind: str, seed: int) -> Path:
    write_toy_package(folder, ToyPlan(machine_types=(kind,), scale=0.001, seed=seed))
    return folder


def test_restored_on_an_empty_machine_every_champion_scores_exactly_as_before(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("s3_server")  # for its credentials
    monkeypatch.setattr("tasks.monitor_steps.Watcher", partial(Watcher, settle_s=0.0))
    fans, valves = plant(tmp_path / "fans", "fan", 1), plant(tmp_path / "valves", "valve", 2)
    others = plant(tmp_path / "others", "fan", 3)
    shelf = FolderStore(tmp_path / "nas")
    sounds = sorted((others / "audio").glob("*.wav"))
    with ExitStack() as stack:
        server = stack.enter_context(run_server(tmp_path / "old-machine"))
        store = S3Store.open(server.url("alp-old"))
        init_bucket(store)
        onboard(str(fans), "acme", store.url, SETTINGS)
        onboard(str(valves), "acme", store.url, SETTINGS.model_copy(update={"encoder": "lite0"}))
        set_consent(store, "acme", share_source=True)
        manifest = onboard(str(others), "bolt", store.url, SETTINGS)
        for path in sounds[:4]:
            store.put_file(f"recordings/bolt/fan-00/{path.name}", path)
        assert monitor("bolt", "fan-00", store.url).judged == 4
        before, held = all_scores(store, sounds), outputs(store)
        made = make_backup(store, shelf)
    with run_server(tmp_path / "new-machine") as server:
        fresh = S3Store.open(server.url("plant-b", "alp"))
        init_bucket(fresh)
        restore_backup(shelf, made.backup.name, fresh, folder=None)
        assert len(champions(fresh)) == 3
        crowned = [find_champion(fresh, *each) for each in champions(fresh)]
        assert {each.engine for each in crowned if each is not None} == {"a", "b"}
        assert all_scores(fresh, sounds) == before
        assert outputs(fresh) == held
        folder = FolderStore(tmp_path / "folder")
        restore_backup(shelf, made.backup.name, folder, folder=None)
        assert all_scores(folder, sounds) == before
        # It goes on from there: what was done is known, and what was judged is not judged again.
        again = onboard(str(others), "bolt", fresh.url, SETTINGS)
        assert isinstance(manifest, Manifest)
        assert isinstance(again, Manifest)
        assert (again.result.run_id, again.result.reused) == (manifest.result.run_id, get_args(Stage))
        assert again.run.store == fresh.url
        watched = monitor("bolt", "fan-00", fresh.url)
        assert (watched.judged, watched.repeated) == (0, 4)


MOMENTS = ("quality.json", "engine.json", "champion.json", "manifest.json")
"""Ends of the keys at whose writing a run is backed up."""


class Interrupted(FolderStore):
    """A store in which something happens once a key that ends so is written."""

    moments: ClassVar[dict[str, Callable[[], object]]] = {}

    def _place(self, key: str, write: Callable[[Path], object]) -> None:
        super()._place(key, write)
        for end in [end for end in self.moments if key.endswith(end)]:
            self.moments.pop(end)()


@dataclass(frozen=True)
class Midway:
    """A run that was backed up midway, and what it left in the end."""

    package: Path
    shelf: FolderStore
    names: dict[str, str]
    """Of the backups, by their moments."""
    whole: dict[str, bytes]


@pytest.fixture(scope="module")
def midway(tmp_path_factory: pytest.TempPathFactory) -> Midway:
    folder = tmp_path_factory.mktemp("midway")
    fan = plant(folder / "fan", "fan", 1)
    shelf, store = FolderStore(folder / "nas"), Interrupted(folder / "store")
    names: dict[str, str] = {}

    def back_up(moment: str) -> None:
        names[moment] = make_backup(store, shelf).backup.name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interrupted, "moments", {moment: partial(back_up, moment) for moment in MOMENTS})
        patch.setattr("tasks.store.FolderStore", Interrupted)
        run(fan, store, SETTINGS)
    return Midway(fan, shelf, names, outputs(store))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_was_backed_up_midway_goes_on_in_the_restored_store_and_ends_the_same(
    midway: Midway, tmp_path: Path, moment: str
) -> None:
    store = FolderStore(tmp_path / "store")
    restore_backup(midway.shelf, midway.names[moment], store, folder=None)
    run(midway.package, store, SETTINGS)
    found = outputs(store)
    assert found.keys() == midway.whole.keys()
    assert [key for key in found if found[key] != midway.whole[key]] == []
