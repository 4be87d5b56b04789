"""The whole path on real recordings, at default settings."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from flows.onboard import onboard
from schemas.references import OnboardResult
from schemas.settings import OnboardSettings
from tasks.calibrating import Champion
from tasks.hearing import hear
from tasks.ledger import Role
from tasks.monitoring import judge_files, load_watch
from tasks.runs import Manifest
from tasks.store import FolderStore

Rows = list[dict[str, str]]


def run(source: Path, store: FolderStore) -> OnboardResult:
    manifest = onboard(str(source), "acme", store.url, OnboardSettings())
    assert isinstance(manifest, Manifest)
    return manifest.result


def write_part(whole: Path, part: Path, *, odd: bool) -> Path:
    """Every second row of a package, with its recordings, as a package."""
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as target:
        rows = list(csv.DictReader(io.StringIO(source.read("metadata.csv").decode("utf-8-sig"))))[odd::2]
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        target.writestr("metadata.csv", table.getvalue())
        for row in rows:
            target.writestr(row["relative_path"], source.read(row["relative_path"]))
    return part


def test_motor_is_told_apart_at_default_settings(shared_data: Path, tmp_path: Path) -> None:
    result = run(shared_data / "motor.zip", FolderStore(tmp_path))
    (motor,) = result.assets
    assert (motor.engine, motor.encoder) == ("a", "lite0")
    assert (motor.n_target, motor.n_source, motor.n_test) == (11, 0, 209)
    assert motor.auc is not None
    assert motor.auc >= 0.95
    assert motor.auc_source is None


@pytest.fixture(scope="module")
def compressor(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderStore, OnboardResult]:
    """The compressor's package onboarded once."""
    store = FolderStore(tmp_path_factory.mktemp("compressor"))
    return store, run(shared_data / "compressor.zip", store)


def test_files_of_the_package_get_the_verdicts_that_onboarding_gave_to_the_bit(
    shared_data: Path, compressor: tuple[FolderStore, OnboardResult]
) -> None:
    store, result = compressor
    home = f"runs/acme/{result.run_id}/compressor-00"
    given = {row["clip_id"]: row for row in csv.DictReader(io.StringIO(store.get(f"{home}/scores.csv").decode()))}
    watch = load_watch(store, "acme", "compressor-00")
    with zipfile.ZipFile(shared_data / "compressor.zip") as package:
        rows = list(csv.DictReader(io.StringIO(package.read("metadata.csv").decode("utf-8-sig"))))
        tests = [row for row in rows if row["split"] == "test"][::12]
        files = [(row["clip_id"], package.read(row["relative_path"])) for row in tests]
    assert len(files) > 5
    judged = judge_files(watch, (hear(name, data, watch.ear) for name, data in files))
    for (name, _), (_, found) in zip(files, judged, strict=True):
        assert found is not None
        for column in ("score", "p_value", "severity"):
            assert getattr(found, column) == float(given[name][column])
        for column in ("grade", "state", "decision"):
            assert getattr(found, column) == given[name][column]


def test_compressor_in_two_packages_is_the_asset_that_it_is_in_one(
    shared_data: Path, tmp_path: Path, compressor: tuple[FolderStore, OnboardResult]
) -> None:
    (whole, at_once), parts = compressor, FolderStore(tmp_path / "parts")
    for odd in (False, True):
        half = write_part(shared_data / "compressor.zip", tmp_path / f"half-{odd}.zip", odd=odd)
        in_parts = run(half, parts)
    for store in (whole, parts):
        ledger = store.get_frame("assets/acme/compressor-00/ledger.parquet")
        assert ledger[ledger["role"] == Role.TARGET]["recording_id"].nunique() == 10
    one, other = at_once.assets[0], in_parts.assets[0]
    assert one.model_dump(exclude={"report"}) == other.model_dump(exclude={"report"})
    champions = [s.get_model("assets/acme/compressor-00/champion.json", Champion) for s in (whole, parts)]
    assert champions[0].version == champions[1].version
    assert champions[1].previous is not None


@pytest.mark.parametrize("name", ["compressor", "motor"])
def test_no_real_recording_is_held_back(shared_data: Path, name: str) -> None:
    from tasks.packages import open_package
    from tasks.quality import judge

    with open_package(shared_data / f"{name}.zip") as archive:
        assert judge(archive).quality["verdict"].ne("reject").all()
