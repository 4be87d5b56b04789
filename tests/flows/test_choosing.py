"""Which engine an asset gets, from a package to the page, and why."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from engines.toy.plan import ToyPlan
from flows.onboard import onboard
from schemas.errors import RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import OnboardResult, Selection
from schemas.settings import OnboardSettings
from tasks.runs import Manifest
from tasks.store import FolderStore
from tasks.toy import write_toy_package

pytestmark = pytest.mark.usefixtures("bare_pages")

Row = dict[str, str]


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy fan with 208 source recordings whose conditions are written down."""
    folder = tmp_path_factory.mktemp("fan") / "package"
    write_toy_package(folder, ToyPlan(machine_types=("fan",), scale=0.21))
    return folder


@pytest.fixture
def edited_fan(fan: Path, tmp_path: Path) -> Callable[[Callable[[list[Row]], list[Row]]], Path]:
    """The fan's package with another table over the same recordings."""

    def make(edit: Callable[[list[Row]], list[Row]]) -> Path:
        with (fan / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = edit(list(csv.DictReader(file)))
        folder = tmp_path / "package"
        (folder / "audio").mkdir(parents=True)
        for row in rows:
            shutil.copyfile(fan / row["relative_path"], folder / row["relative_path"])
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


def run(source: Path, store: FolderStore, *, dry_run: bool = False, **settings: object) -> OnboardResult:
    asked = OnboardSettings(encoder="logmel", **settings)  # type: ignore[arg-type]
    manifest = onboard(str(source), "acme", store.url, asked, dry_run=dry_run)
    assert isinstance(manifest, Manifest)
    return manifest.result


def selection_of(store: FolderStore, result: OnboardResult) -> Selection:
    return store.get_model(f"runs/acme/{result.run_id}/fan-00/selection.json", Selection)


@pytest.fixture(scope="module")
def routed(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderStore, OnboardResult]:
    """The fan onboarded: A, B and C fitted, and C on trial."""
    store = FolderStore(tmp_path_factory.mktemp("routed"))
    return store, run(fan, store)


def with_noise_for_tests(package: Path, folder: Path) -> Path:
    """The package with every test recording replaced by noise of its length."""
    shutil.copytree(package, folder)
    rng = np.random.default_rng(0)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        tests = [folder / row["relative_path"] for row in csv.DictReader(file) if row["split"] == "test"]
    for path in tests:
        heard = sf.info(path)
        sf.write(path, rng.normal(0, 0.1, heard.frames), heard.samplerate, subtype="PCM_16")
    return folder


def learnt(store: FolderStore, result: OnboardResult) -> dict[str, bytes]:
    """All that is filed of models but what became of tests, and the selection, without the names of run and ledger."""
    models = store.list_keys("assets/acme/fan-00/models/")
    of_tests = ("/scores.parquet", "/card.json")
    found = {key: store.get(key).replace(result.run_id.encode(), b"") for key in models if not key.endswith(of_tests)}
    selection, asset = f"runs/acme/{result.run_id}/fan-00/selection.json", selection_of(store, result).asset
    filed = store.get(selection)
    for name in (result.run_id, asset.ledger_version):
        filed = filed.replace(name.encode(), b"")
    return {**found, "selection.json": filed}


def scored(store: FolderStore) -> list[bytes]:
    return [store.get(key) for key in store.list_keys("assets/acme/fan-00/models/") if key.endswith("/scores.parquet")]


def test_true_conditions_and_200_source_recordings_lead_to_c_on_trial(
    routed: tuple[FolderStore, OnboardResult], fan: Path
) -> None:
    store, result = routed
    selection = selection_of(store, result)
    assert selection.candidates == ("c", "b", "a")
    trial = next(c for c in selection.criteria if c.name == "false_alarms")
    assert result.assets[0].engine == selection.engine == ("c" if trial.met else "b")
    assert {c.engine for c in selection.criteria} == {"a", "b", "c"}
    assert selection.source.recordings == result.assets[0].n_source == 208
    page = store.get(f"runs/acme/{result.run_id}/fan-00/report.html").decode()
    assert f"encoder {result.assets[0].encoder}" in page
    again = run(fan, store)
    assert "select" in again.reused
    assert again.assets == result.assets


def test_nothing_of_a_test_clip_reaches_the_choice_or_any_engine_on_trial(
    routed: tuple[FolderStore, OnboardResult], fan: Path, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    result = run(with_noise_for_tests(fan, tmp_path / "package"), store)
    expected = learnt(*routed)
    assert sum(key.endswith("/engine.json") for key in expected) == 3
    assert learnt(store, result) == expected
    assert scored(store) != scored(routed[0])


def test_a_run_cut_off_after_the_trial_finds_its_choice_settled(
    routed: tuple[FolderStore, OnboardResult], fan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    shutil.copytree(routed[0].root, store.root)
    home = f"runs/acme/{routed[1].run_id}"
    store.delete(f"{home}/manifest.json")
    written: list[str] = []
    put = FolderStore.put
    monkeypatch.setattr(FolderStore, "put", lambda self, key, data: (written.append(key), put(self, key, data))[1])
    again = run(fan, store)
    assert f"{home}/manifest.json" in written
    assert f"{home}/fan-00/selection.json" not in written
    assert {"select", "score"} <= set(again.reused)


def test_emptied_conditions_lead_to_b(edited_fan: Callable[..., Path], tmp_path: Path) -> None:
    package = edited_fan(lambda rows: [{**row, **dict.fromkeys(CONDITION_COLUMNS, "")} for row in rows])
    result = run(package, FolderStore(tmp_path / "store"), dry_run=True)
    assert result.assets[0].engine == "b"


def test_shuffled_conditions_lead_to_b(edited_fan: Callable[..., Path], tmp_path: Path) -> None:
    def shuffle(rows: list[Row]) -> list[Row]:
        rng = np.random.default_rng(5)
        for column in CONDITION_COLUMNS:
            values = rng.permutation([row[column] for row in rows])
            rows = [{**row, column: str(value)} for row, value in zip(rows, values, strict=True)]
        return rows

    result = run(edited_fan(shuffle), FolderStore(tmp_path / "store"), dry_run=True)
    assert result.assets[0].engine == "b"


def without_source(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not (row["split"] == "train" and row["domain"] == "source")]


def test_without_source_a_judges_and_says_why(edited_fan: Callable[..., Path], tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    result = run(edited_fan(without_source), store)
    selection = selection_of(store, result)
    assert result.assets[0].engine == selection.engine == "a"
    assert any("B: no: 0" in criterion.sentence for criterion in selection.criteria)


def test_an_engine_that_lacks_its_source_is_refused_by_its_criterion(
    edited_fan: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(RejectedError, match="B: no"):
        run(edited_fan(without_source), FolderStore(tmp_path / "store"), engine="b", dry_run=True)


def test_an_ensemble_is_fitted_filed_and_scores_and_nothing_of_a_test_clip_reaches_it(
    edited_fan: Callable[..., Path], tmp_path: Path
) -> None:
    store, other = FolderStore(tmp_path / "store"), FolderStore(tmp_path / "other")
    package = edited_fan(
        lambda rows: [row for row in rows if row["split"] != "train" or int(row["clip_id"][-4:]) <= 40]
    )
    result = run(package, store, engine="ensemble")
    assert result.assets[0].engine == "ensemble"
    assert selection_of(store, result).members == ("a", "b")
    models = list(store.list_keys("assets/acme/fan-00/models/"))
    assert any(key.endswith("/a/engine.json") for key in models)
    assert any(key.endswith("/b/engine.json") for key in models)
    assert result.assets[0].auc is not None

    noisy = run(with_noise_for_tests(package, tmp_path / "noisy"), other, engine="ensemble")
    assert learnt(other, noisy) == learnt(store, result)
    assert scored(other) != scored(store)
