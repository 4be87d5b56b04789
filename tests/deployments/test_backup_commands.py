"""`alp backup`: what an operator types, what it says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import deployments.cli
from schemas.errors import UsageError
from tasks.store import FolderStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """A store with a champion, a customer's file beside it, and a place for backups."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALP_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("ALP_BACKUP", (tmp_path / "nas").as_uri())
    monkeypatch.setenv("ALP_LINK_BASE", "https://files.plant.example/alp")
    monkeypatch.setenv("ALP_SMTP", "smtp://alp:hush-hush@mail.plant.example")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    store = FolderStore(tmp_path / "store")
    store.put("assets/acme/fan-00/champion.json", b"v1")
    (tmp_path / "customers").mkdir()
    (tmp_path / "customers" / "acme.yaml").write_text("name: acme\n")
    (tmp_path / "retraining.yaml").write_text("rest_minutes: 1\n")
    return store


def alp(*arguments: str) -> Result:
    return CliRunner().invoke(deployments.cli.app, ["backup", *arguments], catch_exceptions=False)


def said(*arguments: str) -> dict[str, Any]:
    done = alp(*arguments, "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_store_goes_there_and_back_with_what_lies_beside_it(store: FolderStore, tmp_path: Path) -> None:
    made = said("make")
    assert (made["objects"], made["files"]) == (1, ["customers/acme.yaml", "retraining.yaml"])
    assert [each["name"] for each in said("list")["backups"]] == [made["name"]]
    assert said("check")["damaged"] == []
    new = tmp_path / "new"
    restored = said("restore", "--store", (tmp_path / "new-store").as_uri(), "--files", str(new))
    assert restored["written"] == 1
    assert (new / "customers" / "acme.yaml").read_text() == "name: acme\n"
    assert FolderStore(tmp_path / "new-store").get("assets/acme/fan-00/champion.json") == b"v1"


def test_settings_are_kept_for_whoever_restores_and_secrets_are_not(store: FolderStore, tmp_path: Path) -> None:
    settings = said("make")["settings"]
    assert settings["ALP_LINK_BASE"] == "https://files.plant.example/alp"
    assert "ALP_SMTP" not in settings
    assert not any(b"hush-hush" in path.read_bytes() for path in (tmp_path / "nas").rglob("*") if path.is_file())


def test_what_is_said_is_for_people(store: FolderStore, tmp_path: Path) -> None:
    assert "1 objects (2 bytes) and 2 files" in alp("make").stdout
    assert "is whole: 3 objects were read" in alp("check").stdout
    listed = alp("list").stdout
    assert f"of {store.url}" in listed
    done = alp("restore", "--store", (tmp_path / "new-store").as_uri(), "--files", str(tmp_path / "new"))
    assert "alp deploy" in done.stdout
    assert "It was made with ALP_LINK_BASE=https://files.plant.example/alp" in done.stdout
    assert "Forgot none" in alp("forget", "--keep", "1").stdout


def test_one_that_cannot_be_read_is_listed_as_such_beside_the_others(store: FolderStore, tmp_path: Path) -> None:
    first, second = said("make")["name"], said("make")["name"]
    (tmp_path / "nas" / "backups" / first / "backup.json").write_text("{}")
    listed = said("list")
    assert [each["name"] for each in listed["backups"]] == [second]
    assert listed["unreadable"] == [first]
    assert "take another backup" in alp("list").stdout
    assert said("restore", "--files", str(tmp_path / "new"), "--store", (tmp_path / "other").as_uri())["written"] == 1


def test_a_damaged_backup_ends_with_exit_code_5_and_is_mended(store: FolderStore, tmp_path: Path) -> None:
    said("make")
    (path,) = [
        path for path in (tmp_path / "nas" / "objects").rglob("*") if path.is_file() and path.stat().st_size == 2
    ]
    path.write_bytes(b"v2")
    damaged = alp("check")
    assert damaged.exit_code == 5
    assert "assets/acme/fan-00/champion.json" in damaged.stdout
    assert alp("check", "--discard-damaged").exit_code == 5
    assert said("make")["written"] == 1
    assert alp("check").exit_code == 0


def test_recordings_are_left_out_on_demand(store: FolderStore) -> None:
    store.put("recordings/acme/fan-00/a.wav", b"RIFF")
    made = said("make", "--without-recordings")
    assert (made["objects"], made["without"]) == (1, ["recordings/"])


def test_another_file_goes_along(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "prefect.dump").write_bytes(b"PGDMP")
    assert said("make", "--also", "prefect.dump")["files"][-1] == "prefect.dump"


def test_without_a_place_it_is_asked_for(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALP_BACKUP")
    with pytest.raises(UsageError, match="set ALP_BACKUP"):
        alp("make")


def test_a_name_that_is_none_is_refused(store: FolderStore) -> None:
    said("make")
    with pytest.raises(UsageError, match="no backup's name"):
        alp("check", "--name", "../../etc")
