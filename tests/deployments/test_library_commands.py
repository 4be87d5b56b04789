"""`alp library` and `alp asset` as a person runs them."""

from __future__ import annotations

import csv
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def store(alp: Alp, toy_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which the toy pump was onboarded for the customer acme."""
    url = f"file://{tmp_path_factory.mktemp('library')}/s"
    arguments = ("onboard", str(toy_zip), "--customer", "acme", "--engine", "a", "--encoder", "logmel")
    done = alp(*arguments, "--store", url, "--json")
    assert done.returncode == 0, done.stderr
    return url


def clips(toy_zip: Path, split: str, label: str) -> list[str]:
    with zipfile.ZipFile(toy_zip) as archive:
        rows = csv.DictReader(archive.read("metadata.csv").decode().splitlines())
        return [row["clip_id"] for row in rows if (row["split"], row["label"]) == (split, label)]


def test_an_empty_library_says_what_to_do(alp: Alp, tmp_path: Path) -> None:
    done = alp("library", "--store", f"file://{tmp_path}/none")
    assert (done.returncode, "onboard a package first" in done.stdout) == (0, True)
    assert not (tmp_path / "none").exists()


def test_the_library_is_listed_by_machine_type_plant_and_asset(alp: Alp, store: str) -> None:
    done = alp("library", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    (pump,) = json.loads(done.stdout)["machine_types"]
    (plant,) = pump["plants"]
    (asset,) = plant["assets"]
    assert (pump["machine_type"], plant["customer"], plant["shared"], asset["asset"]) == (
        "pump",
        "acme",
        False,
        "pump-00",
    )
    assert asset["recordings"] == asset["target"] + asset["source"]
    assert asset["bytes"] == 320_000 * asset["recordings"]
    assert sum(asset["conditions"]["speed_level"].values()) == asset["recordings"]
    spoken = alp("library", "--store", store).stdout
    for said in (plant["next"], asset["next"], "pump-00", "16-bit PCM estimate", "kept to itself"):
        assert said in spoken


def test_sharing_and_withdrawing_say_what_they_mean(alp: Alp, store: str) -> None:
    def seen() -> list[str]:
        document = json.loads(alp("library", "--store", store, "--customer", "other", "--json").stdout)
        return [plant["customer"] for kind in document["machine_types"] for plant in kind["plants"]]

    assert seen() == []
    shared = alp("library", "share", "acme", "--store", store)
    assert (shared.returncode, "serve other customers" in shared.stdout) == (0, True)
    assert seen() == ["acme", "other"]
    again = json.loads(alp("library", "share", "acme", "--store", store, "--json").stdout)
    assert again == {"customer": "acme", "share_source": True, "changed": False}
    withdrawn = alp("library", "withdraw", "acme", "--store", store)
    assert (withdrawn.returncode, "until their next fit" in withdrawn.stdout) == (0, True)
    assert seen() == []


def test_a_misspelt_customer_is_not_said_to_have_withdrawn(alp: Alp, store: str) -> None:
    for command in ("share", "withdraw"):
        done = alp("library", command, "acmee", "--store", store)
        assert done.returncode == 3
        assert "did you mean acme?" in done.stderr


def test_an_asset_is_shown_with_its_champion(alp: Alp, store: str) -> None:
    state = json.loads(alp("asset", "show", "pump-00", "--customer", "acme", "--store", store, "--json").stdout)
    assert state["champion"]["engine"] == "a"
    assert (state["recordings"]["target"], state["recordings"]["test"]) == (3, 20)
    assert "engine A (logmel)" in alp("asset", "show", "pump-00", "--customer", "acme", "--store", store).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "pump-0"), 3, "did you mean pump-00"),
        (("retract", "pump-00", "no such clip"), 3, "holds"),
        (("relabel", "pump-00", "x", "teapot"), 2, "teapot"),
    ],
)
def test_names_that_are_not_there_are_answered(
    alp: Alp, store: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = alp("asset", *arguments, "--customer", "acme", "--store", store)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_relabelled_clip_is_judged_anew_at_once(alp: Alp, store: str, toy_zip: Path) -> None:
    options = ("--customer", "acme", "--store", store, "--json")
    clip = clips(toy_zip, "test", "anomaly")[0]
    done = alp("asset", "relabel", "pump-00", clip, "normal", "--reason", "was maintenance", *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["written"], document["correction"]["reason"]) == (True, "was maintenance")
    (asset,) = document["refit"]["assets"]
    assert (asset["n_test"], asset["encoder"]) == (20, "logmel")
    scores = Path(asset["report"]).with_name("scores.csv").read_text(encoding="utf-8").splitlines()
    assert next(row["label"] for row in csv.DictReader(scores) if row["clip_id"] == clip) == "normal"


def test_a_retraction_that_leaves_too_few_normals_is_kept_and_refits_nothing(
    alp: Alp, store: str, toy_zip: Path
) -> None:
    options = ("--customer", "acme", "--store", store)
    state = json.loads(alp("asset", "show", "pump-00", *options, "--json").stdout)
    clip = next(name for name in clips(toy_zip, "train", "normal") if "target" in name)
    written = alp("asset", "retract", "pump-00", clip, "--no-refit", *options)
    assert (written.returncode, "not refitted" in written.stdout) == (0, True)
    refused = alp("asset", "retract", "pump-00", clip, *options)
    assert refused.returncode == 4
    assert "2 normal recordings left and 3 are needed" in refused.stderr
    after = json.loads(alp("asset", "show", "pump-00", *options, "--json").stdout)
    assert after["champion"] == state["champion"]
    assert after["recordings"]["retracted"] == 1
    assert json.loads(alp("asset", "relabel", "pump-00", clip, "normal", *options, "--json").stdout)["refit"]
