"""What a purge finds and erases, in a folder and in a bucket with versions, also where it is cut off and repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import keys
from tasks.champions import _PARTS, Champion, read_succession
from tasks.lineage import Lineage, lineage_key
from tasks.purging import (
    Traces,
    erase_learnt,
    erase_own,
    erase_sources,
    find_traces,
    stop_lending,
    what_is_left,
)
from tasks.s3_store import S3Store
from tasks.sharing import consent, set_consent
from tasks.store import FolderStore, ObjectStore

LENDER, BORROWER, BYSTANDER = "lender", "borrower", "lender-2"
RECORDING = "5f1d2c3b4a596877"
"""Id of a recording that the lender sent."""

OWN = (
    f"raw/{LENDER}/aa.zip",
    f"packages/{LENDER}/aa/quality.json",
    f"assets/{LENDER}/fan-00/ledger.parquet",
    f"runs/{LENDER}/r1/manifest.json",
    f"recordings/{LENDER}/fan-00/기록.wav",
    f"customers/{LENDER}/consent.json",
    f"inbox/{LENDER}/펌프 1호기.zip",
)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store in which the borrower's fan learnt from the lender's, twice, and a bystander's from nobody."""
    found = (
        FolderStore(tmp_path / "store")
        if request.param == "folder"
        else S3Store.open(request.getfixturevalue("s3_url"))
    )
    for key in (*OWN, *(key.replace(f"/{LENDER}/", f"/{BYSTANDER}/") for key in OWN)):
        for _ in range(2):
            found.put(key, f"{LENDER if f'/{LENDER}/' in key else 'other'} {RECORDING}".encode())
    for customer in (LENDER, BYSTANDER):
        found.put(keys.library("fan", customer, "aa"), customer.encode())
    learn(found, BORROWER, "fan-00", "m2", run="r2", source=(BORROWER, LENDER))
    learn(found, BORROWER, "fan-00", "m3", run="r3", source=(LENDER,))
    learn(found, BORROWER, "fan-01", "m4", run="r3", source=(BORROWER,))
    return found


def learn(store: ObjectStore, customer: str, asset: str, version: str, *, run: str, source: tuple[str, ...]) -> None:
    """A model that becomes champion, and what its run says of its source."""
    prefix = keys.model(customer, asset, version)
    store.put(f"{prefix}/engine.json", b'{"engine": "b"}')
    store.put(f"{prefix}/bank.safetensors", RECORDING.encode() if LENDER in source else b"own")
    store.put_model(lineage_key(prefix), Lineage(customers=source))
    selection = {"source": {"customers": source}, "recordings": [RECORDING] if LENDER in source else []}
    store.put(keys.run(customer, run, f"{asset}/selection.json"), json.dumps(selection).encode())
    key = keys.asset(customer, asset, "champion.json")
    before = store.find_model(key, Champion)
    store.put_model(
        key, Champion(version=version, engine="b", encoder="x", ledger_version="1", previous=before and before.version)
    )
    store.put_frame(keys.asset(customer, asset, "ledger.parquet"), pd.DataFrame({"package": ["bb"]}))


def everything(store: ObjectStore) -> Iterator[tuple[str, bytes]]:
    """Every key with its bytes; of a bucket every version, one that was deleted too."""
    if not isinstance(store, S3Store):
        yield from ((key, store.get(key)) for key in store.list_keys())
        return
    for each in store.bucket.list_versions(""):
        name = str(each.object_name)
        version = each.version_id
        data = b"" if each.is_delete_marker else read_version(store, name, version)
        yield name.removeprefix(store.address.prefix), data


def read_version(store: S3Store, name: str, version: str | None) -> bytes:
    answer = store.bucket.sdk.get_object(store.address.bucket, name, version_id=version)
    try:
        return bytes(answer.read())
    finally:
        answer.close()


def whatever_names_the_lender(store: ObjectStore) -> list[str]:
    """Keys whose name or content says the lender's name, or a recording of its."""
    found = []
    for key, data in everything(store):
        said = f"{key} {data.decode(errors='replace')}".replace(BYSTANDER, "bystander")
        if LENDER in said or (RECORDING in said and "bystander" not in said):
            found.append(key)
    return found


def purge(store: ObjectStore) -> Traces:
    """As `alp customer remove --purge` does it, without learning again."""
    traces = find_traces(store, LENDER)
    erase_own(store, traces)
    erase_learnt(store, traces)
    erase_sources(store, traces)
    return traces


def test_nothing_is_left_in_any_version_and_others_keep_theirs(store: ObjectStore) -> None:
    assert len(whatever_names_the_lender(store)) > len(OWN)
    others = {key: store.get(key) for key in store.list_keys() if f"/{BYSTANDER}" in key or "fan-01" in key}
    traces = purge(store)
    assert whatever_names_the_lender(store) == []
    assert what_is_left(store, LENDER) == []
    assert find_traces(store, LENDER).is_empty
    assert {key: store.get(key) for key in others} == others
    assert len(others) > len(OWN)
    assert sum(traces.own.values()) == len(OWN)
    assert [(deaf.customer, deaf.asset, deaf.package) for deaf in traces.deaf] == [(BORROWER, "fan-00", "bb")]
    assert not store.exists(keys.asset(BORROWER, "fan-00", "champion.json"))


def test_a_champion_that_learnt_from_nobody_else_stays_and_forgets_the_one_before(store: ObjectStore) -> None:
    learn(store, BORROWER, "fan-00", "m5", run="r5", source=())
    traces = purge(store)
    champion = store.get_model(keys.asset(BORROWER, "fan-00", "champion.json"), Champion)
    assert (champion.version, champion.previous) == ("m5", None)
    assert traces.deaf == ()
    assert whatever_names_the_lender(store) == []


def test_a_purge_that_is_cut_off_anywhere_goes_on_and_finds_every_deaf_machine(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of its deletions in turn; the one who repeats it learns what has to learn again."""
    for name in ("erase", "delete"):
        monkeypatch.setattr(type(store), name, fragile(getattr(type(store), name)))
    cuts, deaf = 0, set()
    while True:
        Fuse.left = cuts
        try:
            deaf |= {each.asset for each in purge(store).deaf}
            break
        except KeyboardInterrupt:
            deaf = set()
        cuts += 1
    assert cuts > len(OWN)
    Fuse.left = 1000
    assert whatever_names_the_lender(store) == []
    assert what_is_left(store, LENDER) == []
    assert deaf == {"fan-00"}


class Fuse:
    """After so many deletions the process is killed."""

    left = 1000


def fragile(act: Callable[..., Any]) -> Callable[..., Any]:
    def cut(self: ObjectStore, key: str) -> Any:
        if Fuse.left == 0:
            raise KeyboardInterrupt
        Fuse.left -= 1
        return act(self, key)

    return cut


def test_an_inbox_elsewhere_is_erased_first_of_all(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("inbox/drop/1.zip", b"sent")
    inboxes = ["inbox/drop", f"inbox/{LENDER}"]
    erased: list[str] = []
    erase = type(store).erase
    monkeypatch.setattr(type(store), "erase", lambda self, key: erased.append(key) or erase(self, key))
    erase_own(store, find_traces(store, LENDER, inboxes=inboxes), inboxes=inboxes)
    assert erased.index("inbox/drop/") < erased.index(f"customers/{LENDER}/"), "which says that there is one"
    assert not store.exists("inbox/drop/1.zip")


def test_a_model_that_is_made_meanwhile_is_told_of(store: ObjectStore) -> None:
    purge(store)
    learn(store, BORROWER, "fan-00", "m6", run="r6", source=(LENDER,))
    assert what_is_left(store, LENDER) == [keys.model(BORROWER, "fan-00", "m6"), f"runs/{BORROWER}/r6/fan-00"]


def test_a_machine_that_never_had_a_champion_does_not_learn_again(store: ObjectStore) -> None:
    """Its first onboarding has gathered a source, or crowned nothing."""
    drawn = json.dumps({"source": {"customers": [LENDER]}}).encode()
    store.put(keys.run(BORROWER, "r9", "fan-09/selection.json"), drawn)
    store.put_frame(keys.asset(BORROWER, "fan-09", "ledger.parquet"), pd.DataFrame({"package": ["cc"]}))
    assert "fan-09" not in {each.asset for each in purge(store).deaf}


def test_the_history_says_that_a_champion_was_deleted_and_nobody_s_name(store: ObjectStore) -> None:
    purge(store)
    deposed = read_succession(store, BORROWER, "fan-00")
    last = deposed.changes[-1]
    assert (last.by, last.version, last.crowned) == ("purge", "m3", False)
    assert "learnt from recordings whose owner had them deleted" in last.sentence
    assert deposed.held_by("m3") is None, "made again from what others lend, it may be crowned"
    assert read_succession(store, BORROWER, "fan-01").changes[-1].version == "m4", "which nothing happened to"


def test_a_champion_that_stays_follows_the_last_whole_model_that_did_not_learn_from_it(store: ObjectStore) -> None:
    for version, source in (("own", ()), ("m5", (LENDER,)), ("m6", ())):
        learn(store, BORROWER, "fan-07", version, run=f"r-{version}", source=source)
    for part in _PARTS:
        store.put(f"{keys.model(BORROWER, 'fan-07', 'own')}/{part}", b"{}")
    changes = [crowned("own", None), crowned("m5", "own"), crowned("m6", "m5")]
    key = keys.asset(BORROWER, "fan-07", "succession.json")
    store.put(key, json.dumps({"changes": changes}).encode())
    purge(store)
    champion = store.get_model(keys.asset(BORROWER, "fan-07", "champion.json"), Champion)
    assert (champion.version, champion.previous) == ("m6", "own")
    history = read_succession(store, BORROWER, "fan-07")
    assert [(each.by, each.version) for each in history.changes[3:]] == [("purge", "m5")]
    assert history.before("m6") == "own", "where a rollback after next leads to"


def crowned(version: str, previous: str | None) -> dict[str, object]:
    said = {"version": version, "engine": "b", "encoder": "x", "ledger_version": "1", "previous": previous}
    return {"at": "2026-01-01T00:00:00Z", "by": "onboard", "crowned": True, "reason": "the newest fit", **said}


def test_who_looks_for_a_source_finds_none_of_who_goes_also_where_its_consent_is_damaged(store: ObjectStore) -> None:
    assert stop_lending(store, LENDER), "the fixture's consent is damaged"
    assert not consent(store, LENDER)
    set_consent(store, LENDER, share_source=True)
    assert stop_lending(store, LENDER)
    assert not consent(store, LENDER)
    assert not stop_lending(store, BORROWER), "who never lent anything"
