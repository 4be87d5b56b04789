"""Machines learn anew from a library that has grown; a champion gives way to its equal, and to nobody worse."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prefect import State, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from typer.testing import CliRunner, Result

import tasks.scoring
from deployments.cli import app
from engines.toy import ToyClip, ToyPlan, render_clip
from flows.onboard import onboard
from flows.retrain import retrain
from schemas.errors import StoreError
from schemas.settings import GrowthPolicy, OnboardSettings, RoutingSettings
from tasks import keys
from tasks.calibrating import Champion
from tasks.challenges import Comparison
from tasks.challenging import (
    CHOSEN_BY_LABELS,
    Entrant,
    Outcome,
    RetrainReport,
    prepare_challenge,
)
from tasks.champions import Change, Onboarding, onboarding_key, promote, read_succession, rollback
from tasks.fleet import AssetCard, card_key, gather_fleet
from tasks.monitoring import load_watch
from tasks.sharing import set_consent
from tasks.store import FolderStore
from tasks.toy import encode_wav, metadata_row

pytestmark = pytest.mark.usefixtures("bare_pages")

Row = dict[str, str]

SETTINGS = OnboardSettings(encoder="logmel", routing=RoutingSettings(min_source=5, forbid=("c",)))
POLICY = GrowthPolicy(recordings=5, share=9.0)
PLANT, LENDER = "plant", "lender"


def clips(section: str, *, domain: str, split: str, label: str = "normal") -> list[ToyClip]:
    """A toy pump's recordings of a kind, ten tests and three normals of its own domain."""
    wanted = (domain, split, label, None)
    plan = ToyPlan(machine_types=("pump",), sections=(section,), scale=0.2)
    return [clip for clip in plan.clips() if (clip.domain, clip.split, clip.label, clip.supp_type) == wanted]


def as_normals(chosen: Iterable[ToyClip], **said: str) -> list[tuple[ToyClip, Row]]:
    told = {"split": "train", "domain": "target", "label": "normal", "is_anomaly": "false", "confirmed_normal": "true"}
    told |= {"confirmed_by": "somebody", "anomaly_type": "", "anomaly_regions": ""}
    return [(clip, metadata_row(clip) | told | said) for clip in chosen]


def write(folder: Path, chosen: Iterable[tuple[ToyClip, Row]]) -> Path:
    rows = list(chosen)
    (folder / "audio").mkdir(parents=True)
    for clip, row in rows:
        (folder / row["relative_path"]).write_bytes(encode_wav(render_clip(clip)))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0][1]))
        writer.writeheader()
        writer.writerows(row for _, row in rows)
    return folder


FAULTS = clips("00", domain="target", split="test", label="anomaly")


def plant() -> list[tuple[ToyClip, Row]]:
    """A pump with seven normals, and six labelled tests of each kind."""
    tests = clips("00", domain="target", split="test")
    own = as_normals([*clips("00", domain="target", split="train"), *tests[:4]])
    return [*own, *((clip, metadata_row(clip)) for clip in [*tests[4:], *FAULTS[:6]])]


def sound_lender() -> list[tuple[ToyClip, Row]]:
    """Another pump that runs well."""
    split = ("train", "test")
    return as_normals(clip for each in split for clip in clips("01", domain="target", split=each))


def careless_lender() -> list[tuple[ToyClip, Row]]:
    """A pump that somebody called normal while it had the very faults of the plant's."""
    return as_normals([*FAULTS[6:], *clips("00", domain="source", split="test", label="anomaly")], section_id="09")


Stores = Callable[[str], FolderStore]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("packages")
    for name, make in (("plant", plant), ("sound", sound_lender), ("careless", careless_lender)):
        write(home / name, make())
    return home


@pytest.fixture(scope="module")
def alone(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """The plant's pump, which had nobody to learn from."""
    store = FolderStore(tmp_path_factory.mktemp("alone") / "store")
    onboard(str(packages / "plant"), PLANT, store.url, SETTINGS)
    assert champion(store).engine == "a"
    return store


def lent(store: FolderStore, package: Path, to: Path) -> FolderStore:
    """A copy of the store, in which a lender's recordings serve all customers."""
    shutil.copytree(store.root, to)
    copy = FolderStore(to)
    onboard(str(package), LENDER, copy.url, SETTINGS)
    set_consent(copy, LENDER, share_source=True)
    return copy


def run(store: FolderStore, *, only_if_due: bool = False) -> State[RetrainReport]:
    return retrain("pump", store.url, POLICY, only_if_due=only_if_due, return_state=True)


def outcome(state: State[RetrainReport], customer: str = PLANT) -> Outcome:
    return next(each for each in state.result(raise_on_failure=False).outcomes if each.customer == customer)


def champion(store: FolderStore, customer: str = PLANT, asset: str = "pump-00") -> Champion:
    return store.get_model(keys.asset(customer, asset, "champion.json"), Champion)


def history(store: FolderStore) -> list[Change]:
    return list(read_succession(store, PLANT, "pump-00").changes)


def comparison(store: FolderStore, found: Outcome) -> Comparison:
    assert found.comparison is not None
    return store.get_model(found.comparison, Comparison)


@pytest.fixture(scope="module")
def promoted(
    alone: FolderStore, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FolderStore, State[RetrainReport]]:
    """A lender's sound pump has come, and the library's growth made a retraining due."""
    store = lent(alone, packages / "sound", tmp_path_factory.mktemp("promoted") / "store")
    return store, run(store, only_if_due=True)


@pytest.fixture(scope="module")
def refused(
    alone: FolderStore, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FolderStore, State[RetrainReport]]:
    """What a lender called normal sounds as the plant's pump does when it is faulty."""
    store = lent(alone, packages / "careless", tmp_path_factory.mktemp("refused") / "store")
    return store, run(store, only_if_due=True)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[FolderStore], FolderStore]:
    """A copy of a store, for a test to change."""
    return lambda store: FolderStore(Path(shutil.copytree(store.root, tmp_path / "store")))


# --- promoted -----------------------------------------------------------------------------------------------------


def test_a_machine_that_may_learn_from_another_now_is_judged_by_b(
    promoted: tuple[FolderStore, State[RetrainReport]], alone: FolderStore
) -> None:
    store, state = promoted
    before, now = champion(alone), champion(store)
    assert state.is_completed()
    assert (before.engine, now.engine, now.previous) == ("a", "b", before.version)
    found = comparison(store, outcome(state))
    assert (found.champion.version, found.challenger.version) == (before.version, now.version)
    assert {each.name: each.met for each in found.criteria if each.decisive} == dict.fromkeys(
        ("false_alarms", "stated_rate", "auc", "found"), True
    )
    first, second = history(store)
    assert (first.by, first.version) == ("onboard", before.version)
    assert (second.by, second.crowned, second.version) == ("retrain", True, now.version)
    assert second.comparison == outcome(state).comparison


def test_a_promoted_champion_has_all_that_whoever_follows_it_needs(
    promoted: tuple[FolderStore, State[RetrainReport]],
) -> None:
    store, _ = promoted
    watch = load_watch(store, PLANT, "pump-00")
    assert watch.champion == champion(store)
    page = store.get(watch.page_key).decode()
    assert CHOSEN_BY_LABELS in page
    links = [watch.page_key.rsplit("/", 2)[0] + "/report.html", keys.fleet(PLANT)]
    assert all(store.exists(link) for link in links)
    card = store.get_model(card_key(PLANT, "pump-00", watch.champion.version), AssetCard)
    assert (card.engine, card.report) == ("b", watch.page_key)
    (machine,) = gather_fleet(store, PLANT).machines
    assert machine.status == "rehearsal", "a toy, and not 'changed' or 'unset'"
    assert card.report in store.get(keys.fleet(PLANT)).decode()


def test_by_hand_it_is_a_command_that_says_what_became_of_each_machine(
    promoted: tuple[FolderStore, State[RetrainReport]], copy: Callable[[FolderStore], FolderStore]
) -> None:
    store = copy(promoted[0])

    def alp(*words: str) -> Result:
        return CliRunner().invoke(app, ["retrain", *words, "--store", store.url])

    done = alp("pump")
    assert (done.exit_code, f"{PLANT} pump-00: as it was" in done.stdout) == (0, True)
    rest = alp("pump", "--if-due", "--json")
    assert json.loads(rest.stdout)["outcomes"] == []
    assert "did you mean pump?" in str(alp("pumpe").exception)


def test_the_runs_read_as_sentences_and_each_machine_has_its_own(
    promoted: tuple[FolderStore, State[RetrainReport]],
) -> None:
    whole = promoted[1].state_details.flow_run_id
    assert whole is not None
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(whole).name == "retrain-pump"
        below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[whole]))
        names = {run.name for run in client.read_flow_runs(flow_run_filter=below)}
    assert names == {"challenge-lender-pump-01", "challenge-plant-pump-00"}
    assert promoted[1].message == "1 promoted, 0 refused, 1 as they were"


def test_nobody_learns_twice_and_what_was_learnt_from_is_not_due_again(
    promoted: tuple[FolderStore, State[RetrainReport]],
    copy: Callable[[FolderStore], FolderStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = copy(promoted[0])
    monkeypatch.setattr(tasks.scoring, "new_engine", lambda *_, **__: pytest.fail("fitted again"))
    rest = run(store, only_if_due=True)
    assert (rest.name, rest.result().outcomes) == ("NotDue", ())
    assert "a retraining is not due" in str(rest.message)
    before, runs = history(store), list(store.list_keys("runs/"))
    again = run(store)
    assert {each.became for each in again.result().outcomes} == {"as it was"}
    assert list(store.list_keys("runs/")) == runs, "half a run is left"
    assert (champion(store), history(store)) == (champion(promoted[0]), before)


def test_an_operator_s_rollback_holds_until_an_operator_promotes(
    promoted: tuple[FolderStore, State[RetrainReport]], packages: Path, copy: Callable[[FolderStore], FolderStore]
) -> None:
    store = copy(promoted[0])
    taken_back = champion(store).version
    rollback(store, PLANT, "pump-00", reason="it rang all night")
    former = champion(store)
    assert (former.engine, former.previous) == ("a", None)

    held = outcome(run(store))
    assert held.became == "held"
    assert "it rang all night; `alp champion promote pump-00" in held.why
    onboard(str(packages / "plant"), PLANT, store.url, SETTINGS)
    assert champion(store) == former, "nor does onboarding the package again crown it"

    promote(store, PLANT, "pump-00", taken_back[:6], reason="the microphone was loose")
    assert (champion(store).version, champion(store).previous) == (taken_back, former.version)
    assert outcome(run(store)).became == "as it was"


def test_a_champion_gives_way_once_its_lender_takes_back_consent(
    promoted: tuple[FolderStore, State[RetrainReport]],
    alone: FolderStore,
    copy: Callable[[FolderStore], FolderStore],
) -> None:
    store = copy(promoted[0])
    set_consent(store, LENDER, share_source=False)
    found = outcome(run(store))
    assert (found.became, champion(store).version) == ("promoted", champion(alone).version)
    must = comparison(store, found).must
    assert must is not None
    assert LENDER not in must, "what is filed here outlives who left"


# --- refused ------------------------------------------------------------------------------------------------------


def test_a_challenger_that_hears_faults_as_normal_is_refused_which_is_no_failure(
    refused: tuple[FolderStore, State[RetrainReport]], alone: FolderStore
) -> None:
    store, state = refused
    assert state.is_completed()
    found = outcome(state)
    assert (found.became, champion(store)) == ("refused", champion(alone))
    verdict = comparison(store, found)
    assert verdict.challenger.engine == "b"
    assert next(each.name for each in verdict.criteria if each.decisive and not each.met) in ("auc", "found")
    assert "less" in found.why
    assert [(change.by, change.crowned) for change in history(store)] == [("onboard", True), ("retrain", False)]
    page = store.get(keys.run(PLANT, found.comparison.split("/")[2], "pump-00/report.html")).decode()  # type: ignore[union-attr]
    assert CHOSEN_BY_LABELS not in page


def test_a_refusal_stands_until_something_new_comes_and_onboarding_does_not_pass_it_by(
    refused: tuple[FolderStore, State[RetrainReport]],
    alone: FolderStore,
    packages: Path,
    copy: Callable[[FolderStore], FolderStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = copy(refused[0])
    monkeypatch.setattr(tasks.scoring, "new_engine", lambda *_, **__: pytest.fail("fitted again"))
    again = outcome(run(store))
    assert (again.became, again.comparison) == ("refused", outcome(refused[1]).comparison)
    onboard(str(packages / "plant"), PLANT, store.url, SETTINGS)
    assert champion(store) == champion(alone)
    assert len(history(store)) == 2

    challenger = comparison(store, again).challenger.version
    promote(store, PLANT, "pump-00", challenger, reason="we know better")
    assert load_watch(store, PLANT, "pump-00").champion.version == challenger


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_machine_that_cannot_be_challenged_stops_no_other_and_is_named_with_the_remedy(
    promoted: tuple[FolderStore, State[RetrainReport]],
    alone: FolderStore,
    packages: Path,
    tmp_path: Path,
) -> None:
    store = lent(alone, packages / "sound", tmp_path / "store")
    settings = f"{keys.model(LENDER, 'pump-01', champion(store, LENDER, 'pump-01').version)}/settings.json"
    store.delete(settings)
    state = run(store)
    assert state.is_failed()
    assert outcome(state).became == "promoted"
    assert champion(store) == champion(promoted[0])
    assert state.message is not None
    assert "1 promoted, 0 refused, 0 as they were, 1 failed. lender pump-01: " in state.message
    assert "onboard a package of the machine again" in state.message


def test_a_machine_whose_onboarding_is_under_way_is_put_off_and_stays_due(
    alone: FolderStore, packages: Path, tmp_path: Path
) -> None:
    """Its champion is crowned, and the manifest of the run that crowned it not written yet."""
    store = lent(alone, packages / "sound", tmp_path / "store")
    beside = onboarding_key(keys.model(PLANT, "pump-00", champion(store).version))
    manifest = keys.run(PLANT, store.get_model(beside, Onboarding).run_id, "manifest.json")
    written = store.get(manifest)
    store.delete(manifest)
    state = run(store, only_if_due=True)
    found = outcome(state)
    assert (state.is_completed(), found.became, found.put_off) == (True, "overtaken", True)
    assert "its onboarding" in found.why
    assert f"put off until their onboarding has ended: {PLANT} pump-00" in str(state.message)
    assert champion(store) == champion(alone)

    long_ago = time.time() - 2 * 3600
    for path in (store.root / beside, *(store.root / manifest).parent.rglob("*")):
        os.utime(path, (long_ago, long_ago))
    with pytest.raises(StoreError, match="its run was cut off, or it is of an older version; onboard a package"):
        prepare_challenge.fn(Entrant(customer=PLANT, asset="pump-00"), store.url)

    store.put(manifest, written)
    assert outcome(run(store, only_if_due=True)).became == "promoted", "what it has not learnt from is new still"


def test_a_run_that_was_killed_before_it_crowned_goes_on_where_it_stopped(
    promoted: tuple[FolderStore, State[RetrainReport]],
    alone: FolderStore,
    copy: Callable[[FolderStore], FolderStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = copy(promoted[0])
    for name in ("champion.json", "succession.json"):
        store.delete(keys.asset(PLANT, "pump-00", name))
    store.put_model(keys.asset(PLANT, "pump-00", "champion.json"), champion(alone))
    monkeypatch.setattr(tasks.scoring, "new_engine", lambda *_, **__: pytest.fail("fitted again"))
    assert outcome(run(store)).became == "promoted"
    assert champion(store) == champion(promoted[0])


def test_a_type_that_nobody_has_is_retrained_at_once(tmp_path: Path) -> None:
    state = retrain("fan", FolderStore(tmp_path).url, POLICY, only_if_due=False, return_state=True)
    assert state.is_completed()
    assert state.result().outcomes == ()
