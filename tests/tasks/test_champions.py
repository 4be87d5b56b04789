"""Who becomes champion, what is kept of the ones before, and that two who crown at once lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from schemas.errors import ConflictError, InputError, StoreError, UsageError
from schemas.references import Model, Run
from schemas.settings import OnboardSettings
from tasks import champions, keys
from tasks.champions import (
    Champion,
    champion_key,
    crown,
    describe_model,
    find_champion,
    promote,
    read_succession,
    refuse,
    rollback,
    succession_key,
)
from tasks.ledger import describe_asset, join, ledger_version, read_corrected
from tasks.store import FolderStore, ObjectStore

ACME = ("acme", "fan-00")
LEDGER = keys.asset(*ACME, "ledger.parquet")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    found = FolderStore(tmp_path / "store")
    send(found, "t1", "t2", "t3")
    return found


def send(store: ObjectStore, *recordings: str, split: str = "train") -> None:
    """Enter recordings in the ledger."""
    names = {"recording_id": list(recordings), "clip_id": [f"clip-{name}" for name in recordings]}
    role, label = ("target", "normal") if split == "train" else ("test", None)
    said = {"machine_type": "fan", "section_id": "00", "segment": 0, "split": split, "domain": "target"}
    rows = pd.DataFrame(names).assign(**said, label=label, supp_type=None, role=role)
    before = store.get_frame(LEDGER) if store.exists(LEDGER) else pd.DataFrame()
    store.put_frame(LEDGER, join(before, rows, package_id=recordings[0] * 8))


def run_of(store: ObjectStore) -> Run:
    settings = OnboardSettings()
    return Run(run_id="r", customer="acme", package_id="1" * 16, store=store.url, settings=settings, code_version="1")


def model(store: ObjectStore, version: str, *, whole: bool = True) -> Model:
    """A model of the ledger as it is now, with files that are only there."""
    seen = read_corrected(store, *ACME)
    prefix = keys.model(*ACME, version)
    if whole:
        for part in champions._PARTS:
            if part != "settings.json":
                store.put(f"{prefix}/{part}", b'{"engine": "a", "encoder": "logmel"}')
    asset = describe_asset(run_of(store), seen, ledger_key="ledger.parquet")
    return Model(asset=asset, version=version, prefix=prefix, engine="a", encoder="logmel")


def onboarded(store: ObjectStore, version: str) -> None:
    ended = crown(store, model(store, version), run_of(store), by="onboard", reason="the newest")
    assert ended.champion is not None


def retrained(
    store: ObjectStore, version: str, *, instead_of: str | None = None, must: bool = False
) -> Champion | None:
    """Who judges after a retraining found this model not worse."""
    made = model(store, version)
    crown(
        store,
        made,
        run_of(store),
        by="retrain",
        reason="not worse",
        comparison="c.json",
        instead_of=instead_of,
        must=must,
    )
    return find_champion(store, *ACME)


def refused(store: ObjectStore, version: str, comparison: str = "c.json") -> None:
    refuse(store, model(store, version), run_of(store), reason="less", comparison=comparison)


def judging(store: ObjectStore) -> tuple[str, str | None]:
    found = find_champion(store, *ACME)
    assert found is not None
    return found.version, found.previous


def told(store: ObjectStore) -> list[tuple[str, str, bool, str | None]]:
    return [(each.by, each.version, each.crowned, each.previous) for each in read_succession(store, *ACME).changes]


# --- the history --------------------------------------------------------------------------------------------------


def test_every_change_of_champion_is_kept_with_its_reason(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v1")
    refused(store, "v2")
    retrained(store, "v3", instead_of="v1")
    assert told(store) == [
        ("onboard", "v1", True, None),
        ("retrain", "v2", False, "v1"),
        ("retrain", "v3", True, "v1"),
    ]
    assert [each.reason for each in read_succession(store, *ACME).changes] == ["the newest", "less", "not worse"]
    assert judging(store) == ("v3", "v1")


def test_a_coronation_that_was_cut_off_between_its_two_writes_is_one_line_once_it_is_done(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    onboarded(store, "v1")
    replace = FolderStore.replace

    def killed(self: FolderStore, key: str, data: bytes, *, expected: str | None) -> str:
        if key == champion_key(*ACME):
            raise KeyboardInterrupt
        return replace(self, key, data, expected=expected)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            onboarded(store, "v2")
    assert judging(store) == ("v1", None)
    onboarded(store, "v2")
    assert judging(store) == ("v2", "v1")
    assert told(store) == [("onboard", "v1", True, None), ("onboard", "v2", True, "v1")]


def test_what_an_older_version_crowned_is_where_the_history_begins(store: FolderStore) -> None:
    old = Champion(version="v0", engine="b", encoder="logmel", ledger_version="l", previous="gone")
    store.put_model(champion_key(*ACME), old)
    assert told(store) == [("onboard", "v0", True, "gone")]
    onboarded(store, "v1")
    assert told(store) == [("onboard", "v0", True, "gone"), ("onboard", "v1", True, "v0")]


def test_the_same_refusal_twice_is_one_line(store: FolderStore) -> None:
    onboarded(store, "v1")
    refused(store, "v2")
    refused(store, "v2")
    refused(store, "v2", comparison="another.json")
    assert len(told(store)) == 3


def test_settings_lie_beside_a_refused_model_too_so_that_it_can_be_promoted(store: FolderStore) -> None:
    onboarded(store, "v1")
    refused(store, "v2")
    assert store.exists(f"{keys.model(*ACME, 'v2')}/settings.json")
    promote(store, *ACME, "v2", reason="we know better")
    assert judging(store) == ("v2", "v1")


# --- what holds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rollback", "refusal"])
def test_what_was_taken_back_or_refused_is_not_crowned_again_by_itself(store: FolderStore, how: str) -> None:
    onboarded(store, "v1")
    if how == "rollback":
        onboarded(store, "v2")
        rollback(store, *ACME, reason="it rang all night")
    else:
        refused(store, "v2")
    ended = crown(store, model(store, "v2"), run_of(store), by="onboard", reason="the newest")
    assert ended.held is not None
    assert ended.held.by == ("rollback" if how == "rollback" else "retrain")
    assert judging(store)[0] == "v1"
    promote(store, *ACME, "v2", reason="it was the microphone")
    assert read_succession(store, *ACME).held_by("v2") is None
    onboarded(store, "v1")
    onboarded(store, "v2")
    assert judging(store) == ("v2", "v1"), "nothing holds it any more"


def test_what_learnt_from_more_is_another_model_and_follows(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v2")
    rollback(store, *ACME, reason="no")
    send(store, "t4")
    onboarded(store, "v3")
    assert judging(store) == ("v3", "v1")


def test_a_test_clip_more_does_not_bring_back_what_was_taken_back(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v2")
    rollback(store, *ACME, reason="no")
    send(store, "e1", split="test")
    onboarded(store, "v2")
    assert judging(store)[0] == "v1"


def test_a_machine_without_a_champion_takes_what_was_held(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v2")
    rollback(store, *ACME, reason="no")
    store.delete(champion_key(*ACME))
    onboarded(store, "v2")
    assert judging(store) == ("v2", None)


def test_a_champion_that_cannot_stay_gives_way_to_what_was_held(store: FolderStore) -> None:
    onboarded(store, "v1")
    refused(store, "v2")
    retrained(store, "v2")
    assert judging(store)[0] == "v1"
    retrained(store, "v2", must=True)
    assert judging(store) == ("v2", "v1")


def test_a_challenger_is_not_crowned_over_a_champion_that_it_never_met(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v2")
    ended = crown(store, model(store, "v3"), run_of(store), by="retrain", reason="r", instead_of="v1")
    assert "v1 of fan-00 is champion no longer" in ended.overtaken
    assert judging(store) == ("v2", "v1")


def test_a_model_of_an_older_ledger_is_not_crowned(store: FolderStore) -> None:
    onboarded(store, "v1")
    made = model(store, "v2")
    send(store, "t4")
    ended = crown(store, made, run_of(store), by="retrain", reason="r")
    assert "the ledger of fan-00 has changed" in ended.overtaken
    assert judging(store)[0] == "v1"
    assert not store.exists(f"{made.prefix}/settings.json")


# --- by hand ------------------------------------------------------------------------------------------------------


def test_rolling_back_twice_goes_two_champions_back(store: FolderStore) -> None:
    for version in ("v1", "v2", "v3"):
        onboarded(store, version)
    rollback(store, *ACME, reason="r")
    assert judging(store) == ("v2", "v1")
    rollback(store, *ACME, reason="r")
    assert judging(store) == ("v1", None)
    with pytest.raises(InputError, match="v1 of fan-00 has none before it; `alp champion list fan-00"):
        rollback(store, *ACME, reason="r")


def test_a_rollback_to_what_is_not_whole_is_refused_and_changes_nothing(store: FolderStore) -> None:
    onboarded(store, "v1")
    onboarded(store, "v2")
    store.delete(f"{keys.model(*ACME, 'v1')}/threshold.json")
    before = told(store)
    with pytest.raises(StoreError, match=r"model v1 of fan-00 cannot judge: .*/v1 holds no threshold\.json; choose"):
        rollback(store, *ACME, reason="r")
    assert (judging(store), told(store)) == (("v2", "v1"), before)


def test_without_a_champion_there_is_nothing_to_take_back(store: FolderStore) -> None:
    with pytest.raises(InputError, match="has no champion yet"):
        rollback(store, *ACME, reason="r")
    assert not store.exists(succession_key(*ACME))


def test_a_model_is_named_by_the_beginning_of_its_version(store: FolderStore) -> None:
    for version in ("ab12", "ab34", "cd56"):
        onboarded(store, version)
    promote(store, *ACME, "ab1", reason="r")
    assert judging(store) == ("ab12", "cd56")
    promote(store, *ACME, "ab12", reason="again")
    assert len(told(store)) == 4, "it is champion already"
    with pytest.raises(InputError, match="2 models, ab12, ab34; give more of it"):
        promote(store, *ACME, "ab", reason="r")
    with pytest.raises(InputError, match="no model whose version begins with 'ff'; its models are ab12, ab34, cd56"):
        promote(store, *ACME, "ff", reason="r")
    with pytest.raises(UsageError, match="is no model"):
        promote(store, *ACME, "../ab12", reason="r")


def test_of_a_model_older_than_the_history_its_run_tells_what_it_learnt_from(store: FolderStore) -> None:
    onboarded(store, "v1")
    store.put_frame(keys.run("acme", "r", "fan-00/ledger.parquet"), read_corrected(store, *ACME))
    store.delete(succession_key(*ACME))
    store.delete(champion_key(*ACME))
    found = describe_model(store, *ACME, "v1")
    assert (found.engine, found.encoder) == ("a", "logmel")
    assert found.ledger_version == ledger_version(read_corrected(store, *ACME))


# --- at once ------------------------------------------------------------------------------------------------------


def at_once(*calls: Callable[[], object]) -> list[BaseException]:
    faults: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def go(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=go, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def no_champion_is_lost(store: ObjectStore) -> None:
    """Eight runs crown at once: each becomes champion after the one before it, and the last one judges."""
    versions = [f"v{number}" for number in range(8)]
    made = [model(store, version) for version in versions]
    faults = at_once(
        *(lambda one=one: crown(store, one, run_of(store), by="onboard", reason="r") for one in made)  # type: ignore[misc]
    )
    assert faults == []
    lines = told(store)
    assert sorted(version for _, version, _, _ in lines) == versions
    assert [previous for _, _, _, previous in lines] == [None, *(version for _, version, _, _ in lines[:-1])]
    assert judging(store) == (lines[-1][1], lines[-2][1])


def test_of_runs_that_crown_at_once_none_is_lost(store: FolderStore) -> None:
    no_champion_is_lost(store)


def test_of_runs_that_crown_at_once_in_a_bucket_none_is_lost(s3_url: str) -> None:
    from tasks.s3_store import S3Store

    bucket = S3Store.open(s3_url)
    send(bucket, "t1", "t2", "t3")
    no_champion_is_lost(bucket)


@contextmanager
def _nothing(self: FolderStore, key: str) -> Iterator[None]:
    yield


def test_none_is_lost_where_a_lock_did_not_hold(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was outlived: what is written is written over what was read, or not at all."""
    monkeypatch.setattr(FolderStore, "lock", _nothing)
    no_champion_is_lost(store)


def test_who_is_overtaken_between_the_two_writes_decides_again_and_leaves_one_line(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    onboarded(store, "v1")
    mine = model(store, "mine")
    real, crossed = FolderStore.replace, list[str]()

    def replace(self: FolderStore, key: str, data: bytes, *, expected: str | None) -> str:
        if key == champion_key(*ACME) and not crossed:
            crossed.append(key)
            other = Champion(version="other", engine="a", encoder="logmel", ledger_version="l", previous="v1")
            self.put_model(key, other)
        return real(self, key, data, expected=expected)

    monkeypatch.setattr(FolderStore, "replace", replace)
    crown(store, mine, run_of(store), by="onboard", reason="r")
    assert judging(store) == ("mine", "other")
    assert told(store) == [("onboard", "v1", True, None), ("onboard", "mine", True, "other")]


def test_who_is_overtaken_every_time_says_so(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    onboarded(store, "v1")

    def replace(self: FolderStore, key: str, data: bytes, *, expected: str | None) -> str:
        raise ConflictError("somebody else was first")

    monkeypatch.setattr(FolderStore, "replace", replace)
    with pytest.raises(ConflictError, match="was changed by others 20 times"):
        crown(store, model(store, "v2"), run_of(store), by="onboard", reason="r")
