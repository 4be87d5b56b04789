"""A recording can be taken back or called by its true name, whatever package it came in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from schemas.errors import InputError, StoreError, UsageError
from schemas.references import Package
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.assets import describe_state, find_asset, relabel_clip, retract_clip, settings_of
from tasks.champions import Champion, Onboarding
from tasks.corrections import Correction, near_matches, read_corrections, standing
from tasks.intake import receive_package
from tasks.ledger import (
    Role,
    correct,
    join,
    known_normals,
    known_not_normal,
    ledger_version,
    read_corrected,
    role_of,
)
from tasks.store import FolderStore

P1, P2 = "1" * 16, "2" * 16


def clip(
    recording: str, clip_id: str, *, split: str = "train", supp_type: str | None = None, label: str | None = "normal"
) -> dict[str, object]:
    return {
        "recording_id": recording,
        "clip_id": clip_id,
        "segment": 0,
        "split": split,
        "domain": "target",
        "supp_type": supp_type,
        "label": label,
        "is_anomaly": label == "anomaly",
        "confirmed_normal": split == "train",
        "anomaly_type": "imbalance" if label == "anomaly" else None,
        "anomaly_regions": "[[1, 2]]" if label == "anomaly" else None,
        "role": str(role_of(split, "target", supp_type)),
        "machine_type": "fan",
        "section_id": "00",
        "duration_s": 10.0,
    }


SENT = pd.DataFrame(
    [
        *(clip(f"r{i}", f"march_{i}") for i in range(5)),
        clip("e1", "test_good", split="test"),
        clip("e2", "test_bad", split="test", label="anomaly"),
        clip("n1", "hall", split="supplemental", supp_type="noise"),
    ]
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    store.put_frame(keys.asset("acme", "fan-00", "ledger.parquet"), join(pd.DataFrame(), SENT, package_id=P1))
    return store


def role(store: FolderStore, recording: str) -> str:
    return str(read_corrected(store, "acme", "fan-00").set_index("recording_id").loc[recording, "role"])


def test_a_retracted_clip_keeps_its_row_and_is_neither_learnt_from_nor_judged(store: FolderStore) -> None:
    for name, recording in (("march_1", "r1"), ("test_bad", "e2"), ("hall", "n1")):
        done = retract_clip(store, "acme", "fan-00", name, reason="door open")
        assert (done.written, done.package) == (True, P1)
        assert role(store, recording) == Role.RETRACTED
    assert len(read_corrected(store, "acme", "fan-00")) == len(SENT)
    assert done.normals == 4
    assert known_normals(store, "acme", besides=P2) == {("fan", "00"): frozenset({"r0", "r2", "r3", "r4"})}
    assert known_not_normal(store, "acme") == {("fan", "00"): frozenset({"r1", "e2", "n1"})}


def test_nothing_is_kept_from_learning_but_what_is_retracted_or_an_anomaly(store: FolderStore) -> None:
    assert known_not_normal(store, "acme") == {}
    relabel_clip(store, "acme", "fan-00", "march_2", "anomaly")
    retract_clip(store, "acme", "fan-00", "march_3")
    assert known_not_normal(store, "acme") == {("fan", "00"): frozenset({"r2", "r3"})}
    relabel_clip(store, "acme", "fan-00", "march_2", "normal")
    relabel_clip(store, "acme", "fan-00", "march_3", "normal")
    assert known_not_normal(store, "acme") == {}


def test_a_test_clip_changes_its_label_and_all_that_says_the_same(store: FolderStore) -> None:
    relabel_clip(store, "acme", "fan-00", "test_good", "anomaly")
    relabel_clip(store, "acme", "fan-00", "test_bad", "normal")
    ledger = read_corrected(store, "acme", "fan-00").set_index("recording_id")
    assert ledger.loc["e1", ["label", "is_anomaly", "role"]].tolist() == ["anomaly", True, Role.TEST]
    assert ledger.loc["e2", ["label", "is_anomaly", "role"]].tolist() == ["normal", False, Role.TEST]
    assert ledger.loc["e2", ["anomaly_type", "anomaly_regions"]].isna().all()


def test_a_training_clip_that_is_an_anomaly_becomes_a_labelled_test(store: FolderStore) -> None:
    done = relabel_clip(store, "acme", "fan-00", "march_2", "anomaly")
    row = read_corrected(store, "acme", "fan-00").set_index("recording_id").loc["r2"]
    assert (row["split"], row["role"], row["label"], row["is_anomaly"]) == ("test", Role.TEST, "anomaly", True)
    assert not row["confirmed_normal"]
    assert done.normals == 4


def test_a_training_clip_whose_sound_is_a_test_already_is_judged_once() -> None:
    both = join(pd.DataFrame(), pd.DataFrame([clip("r", "learnt"), clip("r", "judged", split="test")]), package_id=P1)
    said = standing([Correction(recording_id="r", clip_id="learnt", action="relabel", label="anomaly")])
    corrected = correct(both, said).set_index("clip_id")
    assert corrected.loc["learnt", "role"] == Role.RETRACTED
    assert corrected.loc["judged", ["role", "label"]].tolist() == [Role.TEST, "anomaly"]


def test_the_latest_correction_of_a_recording_stands_and_normal_restores_it(store: FolderStore) -> None:
    before = read_corrected(store, "acme", "fan-00")
    retract_clip(store, "acme", "fan-00", "march_0")
    relabel_clip(store, "acme", "fan-00", "march_0", "anomaly")
    assert role(store, "r0") == Role.TEST
    relabel_clip(store, "acme", "fan-00", "march_0", "normal")
    pd.testing.assert_frame_equal(read_corrected(store, "acme", "fan-00"), before)
    assert [said.action for said in read_corrections(store, "acme", "fan-00")] == ["retract", "relabel", "relabel"]


def test_saying_what_the_ledger_says_already_writes_nothing(store: FolderStore) -> None:
    assert not relabel_clip(store, "acme", "fan-00", "march_0", "normal").written
    assert retract_clip(store, "acme", "fan-00", "march_0").written
    assert not retract_clip(store, "acme", "fan-00", "march_0").written
    assert len(read_corrections(store, "acme", "fan-00")) == 1


def test_a_correction_outlives_packages_sent_again_and_holds_for_the_sound_under_any_name(store: FolderStore) -> None:
    retract_clip(store, "acme", "fan-00", "march_3")
    key = keys.asset("acme", "fan-00", "ledger.parquet")
    store.put_frame(key, join(store.get_frame(key), SENT, package_id=P1))
    renamed = pd.DataFrame([clip("r3", "april_3"), clip("r3", "april_test", split="test")])
    store.put_frame(key, join(store.get_frame(key), renamed, package_id=P2))
    ledger = read_corrected(store, "acme", "fan-00")
    assert set(ledger.loc[ledger["recording_id"] == "r3", "role"]) == {Role.RETRACTED}
    assert retract_clip(store, "acme", "fan-00", "march_3").clips == ("april_test", "march_3")


def test_the_ledger_s_version_changes_with_every_correction(store: FolderStore) -> None:
    versions = [ledger_version(read_corrected(store, "acme", "fan-00"))]
    retract_clip(store, "acme", "fan-00", "march_0")
    versions.append(ledger_version(read_corrected(store, "acme", "fan-00")))
    relabel_clip(store, "acme", "fan-00", "march_0", "anomaly")
    versions.append(ledger_version(read_corrected(store, "acme", "fan-00")))
    assert len(set(versions)) == 3
    relabel_clip(store, "acme", "fan-00", "march_0", "normal")
    assert ledger_version(read_corrected(store, "acme", "fan-00")) == versions[0]


def test_an_unknown_clip_is_answered_with_names_that_are_spelt_alike(store: FolderStore) -> None:
    with pytest.raises(InputError, match=r"'marhc_1' .* fan-00, which holds 8 clips; did you mean march_1"):
        retract_clip(store, "acme", "fan-00", "marhc_1")
    with pytest.raises(InputError, match=r"holds 8 clips$"):
        retract_clip(store, "acme", "fan-00", "zzz")
    assert not store.exists(keys.corrections("acme", "fan-00"))


def test_a_clip_can_be_named_by_its_recording(store: FolderStore) -> None:
    assert retract_clip(store, "acme", "fan-00", "r4").correction.clip_id == "march_4"


def test_noise_can_be_retracted_but_is_no_anomaly(store: FolderStore) -> None:
    with pytest.raises(UsageError, match="noise-only"):
        relabel_clip(store, "acme", "fan-00", "hall", "anomaly")


def test_an_unknown_asset_is_answered_with_those_there_are(store: FolderStore) -> None:
    assert find_asset(store, "acme", "fan-00") == "fan-00"
    with pytest.raises(InputError, match="did you mean fan-00"):
        find_asset(store, "acme", "fan-0")
    with pytest.raises(InputError, match="has no assets"):
        find_asset(store, "nobody", "fan-00")
    with pytest.raises(UsageError, match="customer"):
        find_asset(store, "../acme", "fan-00")


@pytest.mark.parametrize(
    "name", ["compressor-1호기", "압축기-1호기", "압축기 1호기", "Air-Compressor 1호기", "compressor/1호기"]
)
def test_an_asset_is_found_by_its_machine_type_and_section(store: FolderStore, name: str) -> None:
    known = keys.asset_id("compressor", "1호기")
    store.put_frame(f"assets/acme/{known}/ledger.parquet", SENT.assign(machine_type="compressor", section_id="1호기"))
    assert find_asset(store, "acme", name) == known


def test_near_matches_are_few_and_need_no_exact_case() -> None:
    known = [f"Clip_{i:03}" for i in range(50)]
    assert near_matches("clip_007", known).split(", ")[0] == "Clip_007"
    assert len(near_matches("clip", known).split(", ")) <= 5
    assert near_matches("", known) == ""


def test_an_asset_shows_its_recordings_packages_and_corrections(store: FolderStore) -> None:
    retract_clip(store, "acme", "fan-00", "march_0", reason="door open")
    state = describe_state(store, "acme", "fan-00")
    assert state.recordings == {"noise": 1, "retracted": 1, "target": 4, "test": 2}
    assert [(part.package, part.recordings) for part in state.packages] == [(P1, 8)]
    assert [(said.clip_id, said.reason) for said in state.corrections] == [("march_0", "door open")]
    assert state.champion is None


def test_a_package_is_onboarded_again_as_the_run_that_made_the_champion_was(store: FolderStore) -> None:
    def file_run(run_id: str, package: str, seed: int, threshold: bytes) -> None:
        manifest = {
            "package": {"package_id": package},
            "result": {"verdict": "accepted"},
            "run": {"settings": OnboardSettings(seed=seed).model_dump(mode="json")},
        }
        store.put(keys.run("acme", run_id, "manifest.json"), json.dumps(manifest).encode())
        store.put(keys.run("acme", run_id, "fan-00/threshold.json"), threshold)

    file_run("a" * 16, P1, 1, b"champion's")
    file_run("b" * 16, P1, 2, b"another")
    file_run("c" * 16, P2, 3, b"champion's")
    assert settings_of(store, "acme", "fan-00", P1).seed == 2
    champion = Champion(version="v", engine="a", encoder="logmel", ledger_version="0", previous=None)
    store.put_model(keys.asset("acme", "fan-00", "champion.json"), champion)
    store.put(f"{keys.model('acme', 'fan-00', 'v')}/threshold.json", b"champion's")
    assert settings_of(store, "acme", "fan-00", P1).seed == 1


def test_settings_that_no_run_of_the_package_tells_are_the_champion_s_another_run_s_or_the_file_s(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALP_CUSTOMERS", str(tmp_path / "customers"))

    def seed() -> int:
        return settings_of(store, "acme", "fan-00", P1).seed

    with pytest.raises(StoreError, match=f"nothing says by which settings package {P1} of acme was onboarded"):
        seed()
    (tmp_path / "customers").mkdir()
    (tmp_path / "customers" / "acme.yaml").write_text("name: acme\nseed: 7\n", encoding="utf-8")
    assert seed() == 7
    manifest = {"package": {"package_id": P2}, "result": {"verdict": "accepted"}}
    for run_id, said in (("b" * 16, {"seed": 8}), ("c" * 16, {"of another version": 1})):
        document = json.dumps({**manifest, "run": {"settings": said}})
        store.put(keys.run("acme", run_id, "manifest.json"), document.encode())
    assert seed() == 8
    champion = Champion(version="v", engine="a", encoder="logmel", ledger_version="0", previous=None)
    store.put_model(keys.asset("acme", "fan-00", "champion.json"), champion)
    heard_by = Onboarding(run_id="d" * 16, settings=OnboardSettings(seed=9))
    store.put_model(f"{keys.model('acme', 'fan-00', 'v')}/settings.json", heard_by)
    assert seed() == 9


# --- what a package is called that is onboarded again -------------------------------------------------------------


@pytest.fixture
def kept(store: FolderStore, tmp_path: Path) -> Callable[[], Package]:
    """Receives a package of the customer anew from where the store keeps it, as a refit does."""
    with zipfile.ZipFile(tmp_path / "march.zip", "w") as archive:
        archive.writestr("metadata.csv", "x")
    first = receive_package.fn(str(tmp_path / "march.zip"), "acme", store.url, OnboardSettings())
    assert first.name == "march.zip"
    return lambda: receive_package.fn(first.raw_key, "acme", store.url, OnboardSettings())


def test_a_package_received_from_the_store_has_the_name_that_its_runs_know(
    store: FolderStore, kept: Callable[[], Package]
) -> None:
    package = kept()

    def finish(run_id: str, package_id: str, name: str) -> None:
        manifest = {"package": {"package_id": package_id, "name": name}}
        store.put(keys.run("acme", run_id, "manifest.json"), json.dumps(manifest).encode())

    finish("a" * 16, P2, "another.zip")
    finish("b" * 16, package.package_id, f"{package.package_id}.zip")
    finish("c" * 16, package.package_id, "march.zip")
    assert kept().name == "march.zip"
    assert kept().package_id == package.package_id


def test_a_refit_of_a_package_whose_name_nobody_knows_says_that_it_is_one(
    store: FolderStore, kept: Callable[[], Package]
) -> None:
    package = kept()
    assert package.name == f"{package.package_id}.zip", "nothing was corrected: no refit"
    retract_clip(store, "acme", "fan-00", "march_1")
    assert kept().name == f"{package.short_id} (refit after corrections)"
