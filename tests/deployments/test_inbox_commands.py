"""`alp customer send` and `alp fleet`, as a person types them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.cli import app
from schemas.errors import InputError
from tasks import keys
from tasks.store import FolderStore

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def onboarded(alp: Alp, tmp_path_factory: pytest.TempPathFactory, toy_zip: Path) -> Path:
    """A folder with customer hanbit's Korean file, and a store with its pump."""
    home = tmp_path_factory.mktemp("plant")
    words = ("onboard", str(toy_zip), "--customer", "hanbit", "--engine", "a", "--encoder", "logmel", "--lang", "ko")
    done = alp(*words, "--store", store_of(home).url)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert typed("customer", "add", "hanbit", "--machine-type", "pump", "--lang", "ko").exit_code == 0
    return home


@pytest.fixture
def plant(onboarded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(onboarded)
    monkeypatch.setenv("ALP_STORE", store_of(onboarded).url)
    return onboarded


def store_of(home: Path) -> FolderStore:
    return FolderStore(home / "store")


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_recordings_go_to_a_machine_that_is_known_and_to_no_other(plant: Path) -> None:
    (plant / "today.wav").write_bytes(b"RIFF")
    assert typed("customer", "send", "hanbit", "--asset", "pump-00", "today.wav").exit_code == 0
    refused = typed("customer", "send", "hanbit", "--asset", "pump-0", "today.wav")
    assert isinstance(refused.exception, InputError)
    assert "did you mean pump-00?" in str(refused.exception)
    assert list(store_of(plant).list_keys("recordings/")) == ["recordings/hanbit/pump-00/today.wav"]


def test_a_folder_is_told_from_a_file_that_is_not_there(plant: Path) -> None:
    (plant / "big").mkdir(exist_ok=True)
    assert "big is a folder" in str(typed("customer", "send", "hanbit", "big").exception)
    assert "there is no such file" in str(typed("customer", "send", "hanbit", "none.zip").exception)


def test_the_page_of_all_machines_speaks_the_customer_s_language_unless_told_otherwise(plant: Path) -> None:
    def language() -> bytes:
        return store_of(plant).get(keys.fleet("hanbit"))[:200]

    said = typed("fleet", "hanbit")
    assert (said.exit_code, b'lang="ko"' in language()) == (0, True)
    assert typed("fleet", "hanbit", "--lang", "en").exit_code == 0
    assert b'lang="en"' in language()
    assert typed("fleet", "hanbit").exit_code == 0
    assert b'lang="ko"' in language(), "the file says Korean"


def test_without_a_file_the_page_keeps_its_language(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALP_CUSTOMERS", str(plant / "nowhere"))
    for language in ("ko", "en"):
        assert typed("fleet", "hanbit", "--lang", language).exit_code == 0
        assert typed("fleet", "hanbit").exit_code == 0
        assert f'lang="{language}"'.encode() in store_of(plant).get(keys.fleet("hanbit"))[:200]


def test_who_has_no_machine_is_told_whose_machines_there_are(plant: Path) -> None:
    assert "machines there are of hanbit" in str(typed("champion", "list").exception)
