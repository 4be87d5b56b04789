"""`alp champion` as a person runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from schemas.errors import InputError, StoreError
from tasks import keys
from tasks.champions import Champion, champion_key, find_champion
from tasks.store import FolderStore

Alp = Callable[..., "subprocess.CompletedProcess[str]"]
PUMP = ("acme", "pump-00")
FIRST, SECOND = "0" * 16, "1" * 16


@pytest.fixture(scope="module")
def store(alp: Alp, toy_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """A store in which the toy pump was onboarded, with a champion and one before it, the same but for their names."""
    found = FolderStore(tmp_path_factory.mktemp("champions") / "s")
    arguments = ("onboard", str(toy_zip), "--customer", "acme", "--engine", "a", "--encoder", "logmel")
    done = alp(*arguments, "--store", found.url, "--json")
    assert done.returncode == 0, done.stderr
    made = find_champion(found, *PUMP)
    assert made is not None
    for version in (FIRST, SECOND):
        shutil.copytree(found.root / keys.model(*PUMP, made.version), found.root / keys.model(*PUMP, version))
    found.delete(keys.asset(*PUMP, "succession.json"))
    found.put_model(champion_key(*PUMP), Champion(**made.model_dump() | {"version": SECOND, "previous": FIRST}))
    return found


def said(store: FolderStore, *arguments: str) -> str:
    """What a command prints; what it raises is raised."""
    done = CliRunner().invoke(app, ["champion", *arguments, "--customer", "acme", "--store", store.url])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def document(store: FolderStore, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(store, *arguments, "--json"))
    return found


def test_a_champion_is_taken_back_and_promoted_again_and_the_history_says_so(store: FolderStore) -> None:
    listed = document(store, "list", "pump-00")
    assert listed["champion"] == SECOND
    assert [(change["version"], change["whole"]) for change in listed["changes"]] == [(SECOND, True)]

    back = document(store, "rollback", "pump-00", "--reason", "it rang all night")
    assert (back["changed"], back["champion"]["version"], back["before"]["version"]) == (True, FIRST, SECOND)
    assert FIRST in store.get(keys.asset(*PUMP, "champion.json")).decode()
    spoken = said(store, "list", "펌프 00")
    (mark,) = [line for line in spoken.splitlines() if line.startswith("* ")]
    assert f"{FIRST} back by rollback: it rang all night" in mark
    assert f"{SECOND} is held: `alp champion promote pump-00 {SECOND} --customer acme` crowns it" in spoken
    assert f"{SECOND} was taken back on" in said(store, "show", "pump-00")

    with pytest.raises(InputError, match="has none before it"):
        said(store, "rollback", "pump-00")
    with pytest.raises(InputError, match="no model whose version begins with 'zz'; its models are"):
        said(store, "promote", "pump-00", "zz")

    promoted = said(store, "promote", "pump-00", SECOND[:8])
    assert f"engine A (logmel), model {SECOND} from now on" in promoted
    assert document(store, "promote", "pump-00", SECOND)["changed"] is False
    shown = document(store, "show", "pump-00")
    assert (shown["champion"]["previous"], shown["comparison"]) == (FIRST, None)


def test_every_machine_of_a_customer_is_listed_with_who_judges_it(store: FolderStore) -> None:
    judge = find_champion(store, *PUMP)
    assert judge is not None
    assert document(store, "list") == {"customer": "acme", "champions": {"pump-00": judge.model_dump(mode="json")}}
    assert said(store, "list") == f"pump-00: engine A (logmel), model {judge.version}\n"


def test_what_cannot_judge_is_refused_and_the_champion_stays(store: FolderStore, tmp_path: Path) -> None:
    copy = FolderStore(Path(shutil.copytree(store.root, tmp_path / "s")))
    copy.delete(keys.asset(*PUMP, "succession.json"))
    was = Champion(version=SECOND, engine="a", encoder="logmel", ledger_version="l", previous=FIRST)
    copy.put_model(champion_key(*PUMP), was)
    copy.delete(f"{keys.model(*PUMP, FIRST)}/threshold.json")
    with pytest.raises(StoreError, match=r"holds no threshold\.json"):
        said(copy, "rollback", "pump-00")
    with pytest.raises(StoreError, match=r"holds no threshold\.json"):
        said(copy, "promote", "pump-00", FIRST)
    assert find_champion(copy, *PUMP) == was


def test_a_machine_that_nobody_knows_ends_with_the_code_of_bad_input(alp: Alp, store: FolderStore) -> None:
    done = alp("champion", "show", "pump-01", "--customer", "acme", "--store", store.url)
    assert (done.returncode, "did you mean pump-00" in done.stderr) == (3, True)
