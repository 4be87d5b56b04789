"""`alp encoder`: what a person is told of encoders, and how weights get onto a machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deployments.encoder_commands import encoder_app
from schemas.errors import UsageError, WeightsError
from tasks.engines import load_encoder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Audio Spectrogram Transformer of the published geometry."""
    from transformers import ASTConfig, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("checkpoint")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 12}
    ASTForAudioClassification(ASTConfig(**sizes, num_labels=2)).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty cache and store, and no encoder that another test has loaded."""
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALP_STORE", (tmp_path / "store").as_uri())
    monkeypatch.delenv("ALP_ALLOW_DOWNLOAD", raising=False)
    load_encoder.cache_clear()
    yield tmp_path / "cache"
    load_encoder.cache_clear()


def alp_encoder(*arguments: str) -> Result:
    return CliRunner().invoke(encoder_app, list(arguments), catch_exceptions=False)


def said(*arguments: str) -> Any:
    """The one JSON document on stdout."""
    done = alp_encoder(*arguments, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)


AUTO = {"ast": [], "lite0": ["a"], "logmel": ["b", "ensemble"]}


def test_the_list_says_what_is_here_and_what_auto_takes(checkpoint: Path, cache: Path) -> None:
    before = said("list")
    assert {row["name"]: row["auto_for"] for row in before["encoders"]} == AUTO
    assert {row["name"]: row["here"] for row in before["encoders"]} == {"ast": False, "lite0": True, "logmel": True}
    said("fetch", "ast", "--from", str(checkpoint))
    after = said("list")
    (ast,) = (row for row in after["encoders"] if row["name"] == "ast")
    assert (ast["here"], ast["place"], ast["source"]) == (True, str(cache / "ast"), str(checkpoint))
    assert {row["name"]: row["auto_for"] for row in after["encoders"]} == AUTO


def test_without_lite0_auto_takes_logmel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.weights.LITE0_PACKAGE", "no_such_package_of_weights")
    (logmel,) = (row for row in said("list")["encoders"] if row["name"] == "logmel")
    assert logmel["auto_for"] == ["a", "b", "ensemble"]


def test_the_list_for_a_person_says_why_ast_waits_to_be_asked() -> None:
    shown = alp_encoder("list").stdout
    assert re.search(r"ast +absent .*only when asked for", shown)
    assert re.search(r"lite0 +here .* A *\n", shown)
    assert "not measured" in shown


def test_listing_loads_and_writes_nothing(cache: Path) -> None:
    said("list")
    assert not cache.exists()
    assert load_encoder.cache_info().currsize == 0


def test_fetching_says_where_the_weights_lie_and_whether_they_are_the_published(checkpoint: Path, cache: Path) -> None:
    document = said("fetch", "ast", "--from", str(checkpoint))
    assert document["folder"] == str(cache / "ast")
    assert not document["published"]
    assert "not the published checkpoint" in alp_encoder("fetch", "ast", "--from", str(checkpoint)).stdout


@pytest.mark.parametrize("name", ["lite0", "logmel", "beats"])
def test_only_ast_has_weights_to_fetch(checkpoint: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}.*only ast"):
        alp_encoder("fetch", name, "--from", str(checkpoint))


def test_the_hub_needs_leave() -> None:
    with pytest.raises(UsageError, match="ALP_ALLOW_DOWNLOAD"):
        alp_encoder("fetch", "ast", "--from", "hub")


def test_checking_encodes_a_second_with_the_weights_that_were_fetched(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match="alp encoder fetch ast"):
        alp_encoder("check", "ast")
    sha256 = said("fetch", "ast", "--from", str(checkpoint))["sha256"]
    document = said("check", "ast")
    assert document["weights"] == sha256
    assert document["precision"] in {"float32", "bfloat16"}
    assert document["layers"] == [{"frequency": 12, "time": 10, "dim": 8}] * 11
    assert document["encode_s"] > 0


@pytest.mark.parametrize(("name", "dims"), [("logmel", {191, 49}), ("lite0", {40, 112})])
def test_encoders_that_are_always_here_pass_their_check(name: str, dims: set[int]) -> None:
    document = said("check", name)
    assert document["precision"] == "float32"
    assert {layer["dim"] for layer in document["layers"]} == dims
    assert len(document["layers"]) == 2


def test_checking_for_a_person_shows_every_layer() -> None:
    shown = alp_encoder("check", "logmel").stdout
    assert len(re.findall(r"layer \d: \d+ × \d+ patches", shown)) == 2


def test_checking_finds_weights_that_changed(checkpoint: Path, cache: Path) -> None:
    said("fetch", "ast", "--from", str(checkpoint))
    shutil.copyfile(checkpoint / "config.json", cache / "ast" / "model.safetensors")
    with pytest.raises(WeightsError, match="sha256"):
        alp_encoder("check", "ast")


def test_an_encoder_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"'beats'.*ast, lite0, logmel"):
        alp_encoder("check", "beats")
