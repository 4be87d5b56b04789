"""The whole path: what it files, what it reuses, what it refuses, and how it goes on after a kill."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

import tasks.calibrating
import tasks.publishing
import tasks.quality
import tasks.reporting
import tasks.scoring
import tasks.signals
import tasks.standard_clips
import tasks.standardizing
from flows.onboard import onboard
from schemas.errors import InputError, StoreError, UsageError
from schemas.references import OnboardResult, Verdict
from schemas.settings import OnboardSettings
from tasks.calibrating import SCORE_COLUMNS, Champion
from tasks.runs import Manifest
from tasks.store import FolderStore
from tests.bare_pages import make_pages_bare

Edit = Callable[[list[dict[str, str]]], list[dict[str, str]]]
Edited = Callable[[str, Edit], Path]
DIFFERS_BY_RUN = ("prefect_run_id",)


def run(source: Path, store: FolderStore, settings: OnboardSettings, *, dry_run: bool = False) -> OnboardResult:
    state = onboard(str(source), "acme", store.url, settings, dry_run=dry_run, return_state=True)
    manifest = state.result(raise_on_failure=state.name != "Rejected")
    assert isinstance(manifest, Manifest)
    return manifest.result


def outputs(store: FolderStore) -> dict[str, bytes]:
    """Every object of the store, without what differs from run to run."""
    found = {key: store.get(key) for key in store.list_keys()}
    for key, data in found.items():
        if key.endswith("manifest.json"):
            document = {name: value for name, value in json.loads(data).items() if name not in DIFFERS_BY_RUN}
            document["result"]["reused"] = []
            document["run"]["store"] = ""
            found[key] = json.dumps(document).encode()
        elif key.endswith("succession.json"):
            found[key] = json.dumps([change | {"at": ""} for change in json.loads(data)["changes"]]).encode()
    return found


@pytest.fixture(scope="module")
def whole(
    toy_folder: Path, tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings
) -> tuple[FolderStore, OnboardResult]:
    """The toy package onboarded once, undisturbed."""
    store = FolderStore(tmp_path_factory.mktemp("whole"))
    return store, run(toy_folder, store, settings)


@pytest.fixture(scope="module")
def whole_and_bare(
    toy_folder: Path, tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings
) -> dict[str, bytes]:
    """What the same leaves where pages are bare."""
    store = FolderStore(tmp_path_factory.mktemp("bare"))
    with pytest.MonkeyPatch.context() as patch:
        make_pages_bare(patch)
        run(toy_folder, store, settings)
    return outputs(store)


def one_machine(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row["machine_type"] == "fan"]


def target_normals(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The fan's three own training normals."""
    return [row for row in one_machine(rows) if row["split"] == "train" and row["domain"] == "target"]


def as_training(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The fan's five own test normals, as training rows."""
    tests = [row for row in one_machine(rows) if row["split"] == "test" and row["domain"] == "target"]
    return [{**row, "split": "train", "confirmed_normal": "true"} for row in tests if row["label"] == "normal"]


def test_every_output_is_filed_where_the_design_says(whole: tuple[FolderStore, OnboardResult]) -> None:
    store, result = whole
    home = f"runs/acme/{result.run_id}"
    for name in ("manifest.json", "report.html", "metrics.json"):
        assert store.exists(f"{home}/{name}")
    for asset in ("fan-00", "valve-00"):
        tables = ("scores.csv", "selection.json", "threshold.json", "alarm_rule.json")
        for name in (*tables, "report.html", "verdict.json"):
            assert store.exists(f"{home}/{asset}/{name}")
        champion = store.get_model(f"assets/acme/{asset}/champion.json", Champion)
        beside = ("calibration.parquet", "calibration.json", "alarm_rule.json", "background.json")
        for name in ("engine.json", "threshold.json", *beside):
            assert store.exists(f"assets/acme/{asset}/models/{champion.version}/{name}")
    package = f"packages/acme/{result.package}"
    for name in ("metadata.parquet", "quality.parquet", "quality.json"):
        assert store.exists(f"{package}/{name}")
    assert store.exists(f"raw/acme/{result.package}.zip")
    assert store.exists(f"library/fan/acme-{result.package}.parquet")


def test_the_result_counts_recordings_and_measures_where_labels_are(whole: tuple[FolderStore, OnboardResult]) -> None:
    _, result = whole
    assert result.verdict is Verdict.ACCEPTED
    assert result.reused == ()
    for asset in result.assets:
        assert (asset.engine, asset.encoder) == ("a", "logmel")
        assert (asset.n_target, asset.n_test) == (3, 20)
        assert asset.auc is not None
        assert 0 <= asset.auc <= 1
        assert asset.certified is False
        assert asset.rule is not None


def test_scores_csv_holds_every_test_clip_with_the_columns_of_the_design(
    whole: tuple[FolderStore, OnboardResult],
) -> None:
    store, result = whole
    table = pd.read_csv(
        io.BytesIO(store.get(f"runs/acme/{result.run_id}/fan-00/scores.csv")), dtype={"section_id": str}
    )
    assert tuple(table.columns) == SCORE_COLUMNS
    assert len(table) == 20
    assert set(table["split"]) == {"test"}
    assert set(table["decision"]) <= {"alarm", "normal"}
    assert set(table["state"]) <= {"on", "off"}
    assert set(table["grade"]) <= {"NORMAL", "WARNING", "CRITICAL"}
    assert ((table["severity"] > 50) == (table["decision"] == "alarm")).all()
    assert ((table["score"] > table["threshold"]) == (table["decision"] == "alarm")).all()
    assert table["p_value"].between(1 / 4, 1).all()


def test_the_manifest_names_what_was_handed_over(whole: tuple[FolderStore, OnboardResult]) -> None:
    store, result = whole
    manifest = store.get_model(f"runs/acme/{result.run_id}/manifest.json", Manifest)
    assert manifest.result == result
    assert manifest.prefect_run_id
    assert f"runs/acme/{result.run_id}/report.html" in manifest.objects


def test_of_two_workers_that_finish_one_run_at_once_none_names_the_manifest_of_the_other(
    whole: tuple[FolderStore, OnboardResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(shutil.copytree(whole[0].root, tmp_path / "store"))
    key = f"runs/acme/{whole[1].run_id}/manifest.json"
    other = store.get_model(key, Manifest)
    run = other.run.model_copy(update={"store": store.url})
    monkeypatch.setattr(tasks.publishing, "_prefect_run_id", lambda: None)
    # The other one puts it back as soon as it is taken away.
    monkeypatch.setattr(FolderStore, "delete", lambda *_: None)
    tasks.publishing.finish_run.fn(other.package, other.quality, [], [], run)
    assert store.get_model(key, Manifest).objects == other.objects


def test_a_second_run_does_no_work_and_gives_the_same(
    whole: tuple[FolderStore, OnboardResult],
    toy_folder: Path,
    settings: OnboardSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, first = whole
    before = outputs(store)
    for module, name in (
        (tasks.signals, "open_audio"),
        (tasks.standardizing, "opened"),
        (tasks.scoring, "new_engine"),
        (tasks.scoring, "load_engine"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("work was done again"))
    second = run(toy_folder, store, settings)
    assert second.reused == ("ingest", "qa", "standardize", "select", "score", "calibrate", "report")
    assert second.model_copy(update={"reused": ()}) == first
    assert outputs(store) == before


@pytest.mark.usefixtures("bare_pages_here")
@pytest.mark.parametrize(
    ("module", "name", "calls_before_the_kill"),
    [
        (tasks.standard_clips, "to_flac", 10),
        (tasks.standardizing, "_describe_segment", 10),
        (tasks.standardizing, "_join_asset", 1),
        (tasks.scoring, "_file_model", 1),
        (tasks.scoring, "recording_scores", 1),
    ],
    ids=["judge", "file", "ledgers", "fit", "score"],
)
def test_a_run_cut_off_goes_on_and_ends_the_same(
    whole_and_bare: dict[str, bytes],
    toy_folder: Path,
    tmp_path: Path,
    settings: OnboardSettings,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    calls_before_the_kill: int,
) -> None:
    store = FolderStore(tmp_path / "store")
    real, calls = getattr(module, name), iter(range(1000))

    def cut_off(*args: object, **kwargs: object) -> object:
        if next(calls) >= calls_before_the_kill:
            raise StoreError("the plug was pulled")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, cut_off)
        with pytest.raises(StoreError, match="plug"):
            run(toy_folder, store, settings)
    assert not [key for key in store.list_keys() if key.endswith("manifest.json")]
    run(toy_folder, store, settings)
    assert outputs(store) == whole_and_bare


def test_other_settings_use_the_filed_clips_again(
    whole: tuple[FolderStore, OnboardResult], toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, first = whole
    for module, name in ((tasks.signals, "open_audio"), (tasks.standardizing, "opened")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("decoded again"))
    other = run(toy_folder, store, OnboardSettings(encoder="logmel", seed=1))
    assert other.run_id != first.run_id
    assert set(other.reused) == {"ingest", "qa", "standardize"}


@pytest.mark.usefixtures("bare_pages_here")
def test_two_half_packages_make_the_asset_that_the_whole_one_makes(
    whole: tuple[FolderStore, OnboardResult], edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")

    def half(odd: int) -> Edit:
        # The toy has three target normals, so the other half trains on what were target test normals.
        def choose(rows: list[dict[str, str]]) -> list[dict[str, str]]:
            tests = [row for row in one_machine(rows) if row["split"] == "test" and row["label"] == "anomaly"]
            normals = as_training(rows) if odd else target_normals(rows)
            return [*normals, *tests[odd::2]]

        return choose

    def both(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [*half(0)(rows), *half(1)(rows)]

    first = run(edited("first", half(0)), store, settings)
    second = run(edited("second", half(1)), store, settings)
    at_once = FolderStore(tmp_path / "at-once")
    together = run(edited("both", both), at_once, settings)
    assert second.assets[0].n_target == together.assets[0].n_target == first.assets[0].n_target + 5
    fields = {"auc", "threshold", "n_test", "alarms_per_day"}
    assert second.assets[0].model_dump(include=fields) == together.assets[0].model_dump(include=fields)
    champion = store.get_model("assets/acme/fan-00/champion.json", Champion)
    assert champion.version == at_once.get_model("assets/acme/fan-00/champion.json", Champion).version
    assert champion.previous is not None
    assert store.exists(f"assets/acme/fan-00/models/{champion.previous}/engine.json")


@pytest.mark.usefixtures("bare_pages_here")
def test_nothing_of_a_test_clip_reaches_the_model_or_its_threshold(
    whole: tuple[FolderStore, OnboardResult], edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    folder = edited("noisy", lambda rows: rows)
    noise = np.random.default_rng(0)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        tests = [row["relative_path"] for row in csv.DictReader(file) if row["split"] == "test"]
    for path in tests:
        sf.write(folder / path, noise.normal(0, 0.1, 160_000), 16_000, subtype="PCM_16")
    store = FolderStore(tmp_path / "store")
    run(folder, store, settings)
    models = {key: whole[0].get(key) for key in whole[0].list_keys("assets/acme/") if "/models/" in key}
    concluded = ("scores.parquet", "card.json", "settings.json")
    learnt = {key: data for key, data in models.items() if not key.endswith(concluded)}
    seed_zero = {key: data for key, data in learnt.items() if store.exists(key)}
    names = {"engine.json", "memory.safetensors", "caveats.json", "calibration.json", "calibration.parquet"}
    names |= {"threshold.json", "alarm_rule.json", "background.json"}
    for machine in ("fan", "valve"):
        assert names <= {key.rsplit("/", 1)[-1] for key in seed_zero if f"/{machine}-00/" in key}
    assert {key: store.get(key) for key in seed_zero} == seed_zero


def test_a_package_with_too_few_normals_is_rejected_and_leaves_only_its_upload_and_its_run(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")
    package = edited("few", lambda rows: target_normals(rows)[:2])
    state = onboard(str(package), "acme", store.url, settings, return_state=True)
    assert state.name == "Rejected"
    assert state.is_failed()
    assert "record" in state.message.lower()
    result = state.result(raise_on_failure=False).result
    assert result.verdict is Verdict.REJECTED
    assert result.assets == ()
    assert {key.split("/")[0] for key in store.list_keys()} == {"raw", "runs"}
    assert store.exists(f"runs/acme/{result.run_id}/report.html")


@pytest.mark.usefixtures("bare_pages_here")
def test_a_rejected_package_is_judged_again_once_the_asset_has_more_normals(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")
    few = edited("few", lambda rows: target_normals(rows)[:2])
    assert run(few, store, settings).verdict is Verdict.REJECTED
    run(edited("more", as_training), store, settings)
    later = run(few, store, settings)
    assert later.verdict is Verdict.ACCEPTED
    assert later.assets[0].n_target == 7


@pytest.mark.usefixtures("bare_pages_here")
def test_one_asset_short_of_normals_does_not_hold_up_the_other(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    def short_valve(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        valve = [row for row in rows if row["machine_type"] == "valve" and row["domain"] == "target"]
        return [*one_machine(rows), *[row for row in valve if row["split"] == "train"][:2]]

    store = FolderStore(tmp_path / "store")
    result = run(edited("short", short_valve), store, settings)
    assert result.verdict is Verdict.ACCEPTED_WITH_QUARANTINE
    assert [asset.machine_type for asset in result.assets] == ["fan"]
    assert len(result.quarantined) == 2
    assert not list(store.list_keys("assets/acme/valve-00/"))


def test_a_broken_contract_is_filed_as_bad_input_with_its_page(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")
    broken = edited("broken", lambda rows: [{**rows[0], "machine_type": "teapot"}, *rows[1:]])
    state = onboard(str(broken), "acme", store.url, settings, return_state=True)
    assert state.name == "Rejected"
    assert "teapot" in state.message
    result = state.result(raise_on_failure=False).result
    manifest = store.get_model(f"runs/acme/{result.run_id}/manifest.json", Manifest)
    assert manifest.quality.bad_input
    assert {key.split("/")[0] for key in store.list_keys()} == {"raw", "runs"}
    assert run(broken, FolderStore(tmp_path / "dry"), settings, dry_run=True).verdict is Verdict.REJECTED


def test_a_dry_run_says_which_engine_and_files_nothing(
    toy_folder: Path, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")
    result = run(toy_folder, store, settings, dry_run=True)
    assert [(asset.engine, asset.n_target) for asset in result.assets] == [("a", 3), ("a", 3)]
    assert result.assets[0].threshold is None
    assert list(store.list_keys()) == []


def test_a_dry_run_after_a_real_one_still_only_plans(
    whole: tuple[FolderStore, OnboardResult], toy_folder: Path, settings: OnboardSettings
) -> None:
    store, _ = whole
    before = outputs(store)
    plan = run(toy_folder, store, settings, dry_run=True)
    assert plan.reused == ()
    assert plan.assets[0].auc is None
    assert outputs(store) == before


@pytest.mark.usefixtures("bare_pages_here")
def test_a_run_whose_outputs_were_deleted_is_done_again(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    store = FolderStore(tmp_path / "store")
    package = edited("fan-only", one_machine)
    first = run(package, store, settings)
    before = outputs(store)
    for key in [f"runs/acme/{first.run_id}/fan-00/scores.csv", "assets/acme/fan-00/champion.json"]:
        store.delete(key)
    assert "report" not in run(package, store, settings).reused
    assert outputs(store) == before, "and the machine's history says once that it was crowned"


@pytest.mark.usefixtures("bare_pages_here")
def test_an_asset_that_was_refused_is_filed_once_another_package_brought_what_was_missing(
    edited: Edited, tmp_path: Path, settings: OnboardSettings
) -> None:
    def valves(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row for row in rows if row["machine_type"] == "valve" and row["domain"] == "target"]

    def short_valve(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [*target_normals(rows), *[row for row in valves(rows) if row["split"] == "train"][:2]]

    def more_valves(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        tests = [row for row in valves(rows) if row["split"] == "test" and row["label"] == "normal"]
        return [{**row, "split": "train", "confirmed_normal": "true"} for row in tests]

    store = FolderStore(tmp_path / "store")
    short = edited("short", short_valve)
    assert [asset.machine_type for asset in run(short, store, settings).assets] == ["fan"]
    run(edited("more", more_valves), store, settings)
    again = run(short, store, settings)
    assert {asset.machine_type: asset.n_target for asset in again.assets} == {"fan": 3, "valve": 7}


@pytest.mark.usefixtures("bare_pages_here")
def test_known_recordings_sent_again_change_nothing(edited: Edited, tmp_path: Path, settings: OnboardSettings) -> None:
    store = FolderStore(tmp_path / "store")
    first = run(edited("first", target_normals), store, settings)
    again = run(
        edited("again", lambda rows: [{**r, "confirmed_by": "Lee"} for r in target_normals(rows)]), store, settings
    )
    assert again.package != first.package
    assert again.assets[0].n_target == 3
    assert again.assets[0].threshold == first.assets[0].threshold


def test_a_store_inside_the_package_is_refused(edited: Edited, settings: OnboardSettings) -> None:
    package = edited("fan-only", one_machine)
    with pytest.raises(UsageError, match="inside the package"):
        onboard(str(package), "acme", f"file://{package}/alp-data", settings)


@pytest.mark.usefixtures("bare_pages_here")
def test_a_key_of_the_store_is_a_source_too(edited: Edited, tmp_path: Path, settings: OnboardSettings) -> None:
    from tasks.packages import open_package

    store = FolderStore(tmp_path / "store")
    with open_package(edited("fan-only", one_machine)) as archive:
        archive.write_zip(tmp_path / "fan.zip")
    store.put_file("inbox/acme/fan.zip", tmp_path / "fan.zip")
    state = onboard("inbox/acme/fan.zip", "acme", store.url, settings, return_state=True)
    assert state.result().result.assets[0].machine_type == "fan"


def test_a_source_that_is_nowhere_is_bad_input(tmp_path: Path, settings: OnboardSettings) -> None:
    with pytest.raises(InputError, match="no such file"):
        onboard(str(tmp_path / "none.zip"), "acme", f"file://{tmp_path}/store", settings)
