"""What one onboarding leaves to the next: source for other machines, corrections, and when a run is done anew."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks.gate
import tasks.scoring
from flows.onboard import onboard
from schemas.references import OnboardResult, Selection, Verdict
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.assets import relabel_clip, retract_clip, settings_of
from tasks.calibrating import Champion
from tasks.ledger import Role
from tasks.runs import Manifest
from tasks.sharing import set_consent
from tasks.store import FolderStore

Row = dict[str, str]
Edit = Callable[[list[Row]], list[Row]]
Edited = Callable[[str, Edit], Path]

pytestmark = pytest.mark.usefixtures("bare_pages")

SETTINGS = OnboardSettings(engine="a", encoder="logmel")
"""Which engine hears the source is told elsewhere; what is gathered does not depend on it."""


def run(source: Path | str, store: FolderStore, customer: str = "acme") -> OnboardResult:
    manifest = onboard(str(source), customer, store.url, SETTINGS)
    assert isinstance(manifest, Manifest)
    return manifest.result


def selection(store: FolderStore, result: OnboardResult, asset: str = "fan-00") -> Selection:
    return store.get_model(keys.run(result.customer, result.run_id, f"{asset}/selection.json"), Selection)


def champion(store: FolderStore, customer: str = "acme", asset: str = "fan-00") -> Champion:
    return store.get_model(keys.asset(customer, asset, "champion.json"), Champion)


def fans(rows: list[Row], split: str, domain: str, label: str = "normal") -> list[Row]:
    wanted = ("fan", split, domain, label)
    return [r for r in rows if (r["machine_type"], r["split"], r["domain"], r["label"]) == wanted]


def as_training(rows: list[Row]) -> list[Row]:
    return [{**row, "split": "train", "domain": "target", "confirmed_normal": "true"} for row in rows]


def first_plant(rows: list[Row]) -> list[Row]:
    """The fan with eight normals of its own and one of another domain, and its faulty tests."""
    own = [*fans(rows, "train", "target"), *as_training(fans(rows, "test", "target"))]
    return [*own, *fans(rows, "train", "source"), *fans(rows, "test", "target", "anomaly")]


def second_plant(rows: list[Row]) -> list[Row]:
    """Another fan, learnt from what were the first one's tests of its other domain."""
    return [{**row, "section_id": "07"} for row in as_training(fans(rows, "test", "source"))]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_another_customer_s_normals_come_with_consent_and_go_with_it(edited: Edited, store: FolderStore) -> None:
    run(edited("first", first_plant), store, "lender")
    package = edited("second", second_plant)
    alone = run(package, store, "borrower")
    assert selection(store, alone, "fan-07").source.recordings == 0

    set_consent(store, "lender", share_source=True)
    lent = run(package, store, "borrower")
    source = selection(store, lent, "fan-07").source
    assert lent.run_id != alone.run_id
    assert (source.recordings, source.own, source.customers) == (9, 0, ("lender",))
    assert lent.assets[0].n_target == alone.assets[0].n_target == 5

    set_consent(store, "lender", share_source=False)
    withdrawn = run(package, store, "borrower")
    assert withdrawn.run_id not in (alone.run_id, lent.run_id), "the asset is fitted again, not left as it was"
    assert selection(store, withdrawn, "fan-07").source.recordings == 0
    assert (
        champion(store, "borrower", "fan-07").ledger_version == selection(store, alone, "fan-07").asset.ledger_version
    )


def test_once_the_library_has_grown_a_package_is_judged_anew_but_not_learnt_anew(
    edited: Edited, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = edited("first", first_plant)
    first = run(package, store)
    run(edited("second", second_plant), store)
    monkeypatch.setattr(tasks.scoring, "new_engine", lambda *_, **__: pytest.fail("fitted again"))
    later = run(package, store)
    assert later.run_id != first.run_id
    assert set(later.reused) >= {"ingest", "qa", "standardize", "score"}
    assert selection(store, later).source.recordings == selection(store, first).source.recordings + 5
    assert run(package, store).run_id == later.run_id


def test_a_retracted_clip_is_forgotten_and_remembered_again(edited: Edited, store: FolderStore) -> None:
    package = edited("first", first_plant)
    first, crowned = run(package, store), champion(store)
    with (package / "metadata.csv").open(encoding="utf-8", newline="") as file:
        clip = next(row["clip_id"] for row in csv.DictReader(file) if row["split"] == "train")
    done = retract_clip(store, "acme", "fan-00", clip)
    assert settings_of(store, "acme", "fan-00", done.package) == SETTINGS

    again = run(keys.raw("acme", done.package), store)
    assert again.run_id != first.run_id
    assert (again.assets[0].n_target, again.assets[0].n_test) == (7, first.assets[0].n_test)
    assert champion(store).version != crowned.version
    assert champion(store).previous == crowned.version
    ledger = store.get_frame(selection(store, again).asset.ledger_key)
    assert ledger.loc[ledger["clip_id"] == clip, "role"].tolist() == [Role.RETRACTED]
    assert run(package, store).run_id == again.run_id, "sending it again does not bring the clip back"

    relabel_clip(store, "acme", "fan-00", clip, "normal")
    restored = run(keys.raw("acme", done.package), store)
    assert restored.assets[0].n_target == 8
    assert champion(store).version == crowned.version


def test_a_normal_that_was_an_anomaly_is_judged_as_one(edited: Edited, store: FolderStore) -> None:
    first = run(edited("first", first_plant), store)
    ledger = store.get_frame(selection(store, first).asset.ledger_key)
    clip = ledger.loc[ledger["role"] == Role.TARGET, "clip_id"].iloc[0]
    done = relabel_clip(store, "acme", "fan-00", clip, "anomaly")
    again = run(keys.raw("acme", done.package), store)
    assert (again.assets[0].n_target, again.assets[0].n_test) == (7, first.assets[0].n_test + 1)
    scores = store.get(keys.run("acme", again.run_id, "fan-00/scores.csv")).decode().splitlines()
    (line,) = [row for row in csv.DictReader(scores) if row["clip_id"] == clip]
    assert (line["split"], line["label"]) == ("test", "anomaly")


def test_what_a_sister_plant_took_back_is_no_source_any_more(edited: Edited, store: FolderStore) -> None:
    run(edited("first", first_plant), store)
    package = edited("second", second_plant)
    before = selection(store, run(package, store), "fan-07").source
    clip = store.get_frame(keys.asset("acme", "fan-00", "ledger.parquet")).query("role == 'target'")["clip_id"].iloc[0]
    retract_clip(store, "acme", "fan-00", clip)
    after = selection(store, run(package, store), "fan-07").source
    assert after.recordings == before.recordings - 1
    assert after.version != before.version


def first_normal(store: FolderStore, asset: str = "fan-00") -> str:
    ledger = store.get_frame(keys.asset("acme", asset, "ledger.parquet"))
    return str(ledger.loc[ledger["role"] == Role.TARGET, "clip_id"].iloc[0])


def few_of_each(rows: list[Row]) -> list[Row]:
    """The three normals that each machine of the toy has, with two tests."""
    chosen = [row for row in rows if row["split"] == "train" and row["domain"] == "target"]
    return [*chosen, *fans(rows, "test", "target")[:2]]


def test_an_asset_that_corrections_left_short_is_refused_by_the_gate_and_the_others_go_on(
    edited: Edited, store: FolderStore
) -> None:
    package = edited("few", few_of_each)
    first, crowned = run(package, store), champion(store)
    assert [asset.machine_type for asset in first.assets] == ["fan", "valve"]
    clip = first_normal(store)
    retract_clip(store, "acme", "fan-00", clip)

    short = run(package, store)
    assert short.verdict is Verdict.ACCEPTED_WITH_QUARANTINE
    assert [asset.machine_type for asset in short.assets] == ["valve"]
    assert len(short.quarantined) == 5
    quality = store.get_model(keys.run("acme", short.run_id, "manifest.json"), Manifest).quality
    (problem,) = [found for found in quality.problems if found.rule == "asset.normals"]
    assert "fan 00 has 2 good normal recordings of its own; it needs at least 3" in problem.message
    assert problem.message in store.get(keys.run("acme", short.run_id, "report.html")).decode()
    assert champion(store) == crowned
    ledger = store.get_frame(keys.asset("acme", "fan-00", "ledger.parquet"))
    assert len(ledger) == 5, "what was filed of it stays"
    assert run(package, store).run_id == short.run_id

    relabel_clip(store, "acme", "fan-00", clip, "normal")
    restored = run(package, store)
    assert {asset.machine_type: asset.n_target for asset in restored.assets} == {"fan": 3, "valve": 3}
    assert champion(store).version == crowned.version


def test_an_asset_that_leant_on_another_package_s_normals_is_refused_once_these_were_taken_back(
    edited: Edited, store: FolderStore
) -> None:
    run(edited("first", lambda rows: fans(rows, "train", "target")), store)
    lean = edited("lean", lambda rows: fans(rows, "test", "target"))
    assert run(lean, store).assets[0].n_target == 3
    retract_clip(store, "acme", "fan-00", first_normal(store))
    manifest = onboard(str(lean), "acme", store.url, SETTINGS, return_state=True)
    assert (manifest.name, "has 2 good normal recordings" in manifest.message) == ("Rejected", True)


def test_a_correction_that_leaves_enough_is_counted_without_hearing_the_package_again(
    edited: Edited, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = edited("first", first_plant)
    run(package, store)
    retract_clip(store, "acme", "fan-00", first_normal(store))
    monkeypatch.setattr(tasks.gate, "judge", lambda *_, **__: pytest.fail("heard again"))
    again = run(package, store)
    (intake,) = store.get_model(keys.run("acme", again.run_id, "manifest.json"), Manifest).quality.assets
    assert intake.target == intake.normals == again.assets[0].n_target == 7


def test_the_pages_of_a_refit_call_the_package_by_its_name(edited: Edited, store: FolderStore) -> None:
    run(edited("march", first_plant), store)
    done = retract_clip(store, "acme", "fan-00", first_normal(store))
    again = run(keys.raw("acme", done.package), store)
    for page in ("report.html", "fan-00/report.html"):
        html = store.get(keys.run("acme", again.run_id, page)).decode()
        assert "march" in html
        assert f"{done.package}.zip" not in html


def test_a_real_machine_does_not_learn_from_toys_and_its_criteria_say_so(edited: Edited, store: FolderStore) -> None:
    toys = selection(store, run(edited("toys", first_plant), store))
    assert toys.source.recordings == 1
    assert "synthetic_source" not in {criterion.name for criterion in toys.criteria}
    real = edited("real", lambda rows: [{**row, "synthetic": "false"} for row in second_plant(rows)])
    chosen = selection(store, run(real, store), "fan-07")
    assert chosen.source.recordings == 0
    (told,) = [criterion for criterion in chosen.criteria if criterion.name == "synthetic_source"]
    assert (told.engine, told.value, told.decisive) == ("b", 9, False)
