"""An onboarded asset is judged by its champion: as onboarding judged it, file by file, and pass by pass."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
from pathlib import Path

import pytest

import tasks.fleet_upkeep
from flows.monitor import monitor
from flows.onboard import onboard
from schemas.errors import InputError, StoreError
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.calibrating import Champion
from tasks.fleet import file_fleet_page
from tasks.hearing import find_files, hear
from tasks.monitoring import BATCH, Watch, judge_files, load_watch
from tasks.runs import Manifest
from tasks.store import FolderStore
from tasks.watch_log import read_rows

Given = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def onboarded(
    toy_folder: Path, tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings
) -> tuple[FolderStore, Given]:
    """The toy package onboarded, and the fan's scores.csv by file name."""
    store = FolderStore(tmp_path_factory.mktemp("store"))
    manifest = onboard(str(toy_folder), "acme", store.url, settings)
    assert isinstance(manifest, Manifest)
    table = store.get(f"runs/acme/{manifest.run.run_id}/fan-00/scores.csv").decode()
    return store, {f"{row['clip_id']}.wav": row for row in csv.DictReader(io.StringIO(table))}


@pytest.fixture(scope="module")
def watch(onboarded: tuple[FolderStore, Given]) -> Watch:
    return load_watch(onboarded[0], "acme", "fan-00")


def verdicts(watch: Watch, files: list[Path]) -> dict[str, tuple[object, ...]]:
    found = judge_files(watch, (hear(path.name, path.read_bytes(), watch.ear) for path in files))
    return {
        heard.name: (said.score, said.p_value, said.severity, said.grade, said.state, said.decision)
        for heard, said in found
        if said is not None
    }


def fan_files(toy_folder: Path) -> list[Path]:
    return [path for path in find_files([toy_folder / "audio"]) if path.name.startswith("fan_00")]


def test_test_clips_get_the_verdicts_that_onboarding_gave_to_the_bit(
    onboarded: tuple[FolderStore, Given], watch: Watch, toy_folder: Path
) -> None:
    given = onboarded[1]
    tests = [path for path in fan_files(toy_folder) if path.name in given]
    assert len(tests) == len(given) > BATCH, "more than one batch"
    for name, said in verdicts(watch, tests).items():
        row = given[name]
        assert said[:3] == tuple(float(row[column]) for column in ("score", "p_value", "severity"))
        assert said[3:] == (row["grade"], row["state"], row["decision"])


def test_a_verdict_does_not_depend_on_what_it_is_given_with(watch: Watch, toy_folder: Path) -> None:
    files = fan_files(toy_folder)
    together = verdicts(watch, files)
    random.Random(0).shuffle(files)
    assert verdicts(watch, files) == together
    alone = {name: said for path in files[:5] for name, said in verdicts(watch, [path]).items()}
    assert alone == {path.name: together[path.name] for path in files[:5]}


def record(store: FolderStore, path: Path, number: int) -> None:
    """A file as a recorder drops it in the store, so many seconds after others."""
    key = keys.recordings("acme", "fan-00", f"2026-03/{path.name}")
    store.put(key, path.read_bytes())
    os.utime(store.location(key), (1.6e9 + number, 1.6e9 + number))


def test_passes_judge_each_recording_of_the_store_once(
    onboarded: tuple[FolderStore, Given], toy_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(onboarded[0].root, tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    for number, path in enumerate(fan_files(toy_folder)[:4]):
        record(store, path, number)
    first = monitor("acme", "fan-00", store.url)
    assert (first.judged, first.refused, first.waiting) == (4, {}, 0)
    assert monitor("acme", "fan-00", store.url).judged == 0
    rows = read_rows(store, "acme", "fan-00")
    assert rows["name"].tolist() == [f"2026-03/{path.name}" for path in fan_files(toy_folder)[:4]]
    assert set(rows["model_version"]) == {first.model_version}


def test_a_pass_that_brings_anything_writes_the_fleet_page_in_its_language(
    onboarded: tuple[FolderStore, Given], toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(onboarded[0].root, tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    file_fleet_page(store, "acme", language="ko")
    page = keys.fleet("acme")
    record(store, fan_files(toy_folder)[0], 0)
    assert monitor("acme", "fan-00", store.url).changed
    html = store.get(page).decode()
    assert '<html lang="ko">' in html
    assert "판정 1개" in html
    store.delete(page)
    assert not monitor("acme", "fan-00", store.url).changed
    assert not store.exists(page), "nothing new, nothing to write"
    record(store, fan_files(toy_folder)[1], 1)
    monkeypatch.setattr(tasks.fleet_upkeep, "refresh_fleet_page", lambda *_, **__: 1 / 0)
    assert monitor("acme", "fan-00", store.url).judged == 1, "a page that fails keeps nothing from being judged"


def test_the_settings_of_the_onboarding_serve_and_its_page_is_known(watch: Watch, settings: OnboardSettings) -> None:
    assert watch.settings == settings
    assert str(watch.page_key).endswith("/fan-00/report.html")


def test_the_settings_are_those_of_the_run_that_crowned_the_champion_before_its_manifest_is_there(
    onboarded: tuple[FolderStore, Given], settings: OnboardSettings, tmp_path: Path
) -> None:
    shutil.copytree(onboarded[0].root, tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    for key in list(store.list_keys("runs/acme/")):
        store.delete(key)
    assert settings != OnboardSettings()
    assert load_watch(store, "acme", "fan-00").settings == settings


@pytest.mark.parametrize("part", ["settings.json", "alarm_rule.json"])
@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_a_model_of_another_version_is_refused_with_what_to_do(
    onboarded: tuple[FolderStore, Given], tmp_path: Path, part: str, content: bytes | None
) -> None:
    shutil.copytree(onboarded[0].root, tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    champion = store.get_model(keys.asset("acme", "fan-00", "champion.json"), Champion)
    key = f"{keys.model('acme', 'fan-00', champion.version)}/{part}"
    store.delete(key)
    if content is not None:
        store.put(key, content)
    with pytest.raises(StoreError, match=rf"{part}.*onboard"):
        load_watch(store, "acme", "fan-00")


def test_an_asset_that_nobody_judges_yet_is_named_with_what_to_do(
    onboarded: tuple[FolderStore, Given], tmp_path: Path
) -> None:
    shutil.copytree(onboarded[0].root, tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    with pytest.raises(InputError, match="fan-00"):
        load_watch(store, "acme", "fan-01")
    store.delete(keys.asset("acme", "fan-00", "champion.json"))
    with pytest.raises(InputError, match="no champion"):
        load_watch(store, "acme", "fan-00")
