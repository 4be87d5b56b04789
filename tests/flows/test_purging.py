"""A customer is purged: all of it goes, and with it what other customers' machines learnt from it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import Flow, State, get_client
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

import deployments.customer_removal as customer_removal
from deployments.customer_removal import Removed, _names, purge
from deployments.deploying import deploy
from flows.onboard import onboard
from flows.retrain import retrain
from flows.scheduled import onboard_inbox
from flows.score import score
from schemas.customers import Customer
from schemas.errors import EnvironmentFault, InputError, UsageError
from schemas.settings import OnboardSettings, RoutingSettings
from tasks import keys
from tasks.champions import Champion, Onboarding
from tasks.lineage import Lineage, lineage_key
from tasks.purging import Traces
from tasks.runs import Manifest
from tasks.sharing import consent, set_consent
from tasks.store import FolderStore

Row = dict[str, str]
Edit = Callable[[list[Row]], list[Row]]
EditInto = Callable[[Path, Edit], Path]

pytestmark = pytest.mark.usefixtures("bare_pages")

SETTINGS = OnboardSettings(encoder="logmel", routing=RoutingSettings(min_source=3, forbid=("c",)))
LENDER, BORROWER = "lender-kr", "borrower"


def normals(rows: list[Row], split: str, domain: str) -> list[Row]:
    wanted = ("fan", split, domain, "normal")
    return [r for r in rows if (r["machine_type"], r["split"], r["domain"], r["label"]) == wanted]


def as_training(rows: list[Row], section: str) -> list[Row]:
    said = {"split": "train", "domain": "target", "confirmed_normal": "true", "section_id": section}
    return [{**row, **said} for row in rows]


def lent(rows: list[Row]) -> list[Row]:
    return as_training([*normals(rows, "train", "target"), *normals(rows, "test", "target")], "00")


def borrowing(rows: list[Row]) -> list[Row]:
    return as_training(normals(rows, "test", "source"), "07")


def champion(store: FolderStore, customer: str, asset: str) -> Champion:
    return store.get_model(keys.asset(customer, asset, "champion.json"), Champion)


@pytest.fixture(scope="module")
def first_store(edit_into: EditInto, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """A store in which the borrower's fan learnt from the lender's by engine B, after it had learnt alone by A."""
    home = tmp_path_factory.mktemp("plants")
    store = FolderStore(home / "store")
    lender, borrower = edit_into(home / "lent", lent), edit_into(home / "borrowing", borrowing)
    shutil.make_archive(str(home / "dropped"), "zip", lender)
    store.put_file(f"inbox/{LENDER}/first.zip", home / "dropped.zip")
    for package, customer in ((borrower, BORROWER), (lender, LENDER)):
        assert isinstance(onboard(str(package), customer, store.url, SETTINGS), Manifest)
    assert champion(store, BORROWER, "fan-07").engine == "a"
    set_consent(store, LENDER, share_source=True)
    onboard(str(borrower), BORROWER, store.url, SETTINGS)
    assert champion(store, BORROWER, "fan-07").engine == "b"
    return store


@pytest.fixture
def two_plants(first_store: FolderStore, tmp_path: Path) -> FolderStore:
    """A copy of that store for each test."""
    shutil.copytree(first_store.root, tmp_path / "store")
    return FolderStore(tmp_path / "store")


def whatever_names(store: FolderStore, name: str) -> list[str]:
    """Keys of objects that say a name, in their key, their bytes or a table's cell."""
    found = []
    for key in store.list_keys():
        texts = [key.encode(), store.get(key)]
        if key.endswith(".parquet"):
            texts.append(store.get_frame(key).to_csv().encode())
        if any(name.encode() in text for text in texts):
            found.append(key)
    return found


def test_a_purge_leaves_nothing_and_the_borrower_learns_again_without(two_plants: FolderStore) -> None:
    learnt = champion(two_plants, BORROWER, "fan-07").version
    prefix = keys.model(BORROWER, "fan-07", learnt)
    assert two_plants.get_model(lineage_key(prefix), Lineage).customers == (LENDER,)
    assert len(whatever_names(two_plants, LENDER)) > 30
    with get_client(sync_client=True) as client:
        for parameters in ({"settings": {}, "asset": {"customer": LENDER}}, {"customer": BORROWER}):
            client.create_flow_run(onboard, parameters=parameters, state=Completed())

    removed = purge(LENDER, two_plants, inbox=None)

    assert isinstance(removed, Removed)
    assert whatever_names(two_plants, LENDER) == []
    assert removed.models == [prefix]
    assert removed.objects[f"inbox/{LENDER}/"] == 1
    assert removed.objects.keys() >= {f"{top}/{LENDER}/" for top in ("raw", "packages", "assets", "runs", "customers")}
    assert len(removed.library) == 1
    assert (removed.refitted, removed.without_champion) == ([f"{BORROWER} fan-07"], {})
    now = champion(two_plants, BORROWER, "fan-07")
    assert (now.engine, now.previous) == ("a", None)
    assert two_plants.exists(f"{keys.model(BORROWER, 'fan-07', now.version)}/engine.json")

    assert removed.flow_runs > 0
    with get_client(sync_client=True) as client:
        assert not [run for run in client.read_flow_runs(limit=200) if _names(run.parameters, LENDER)]
        assert [run for run in client.read_flow_runs(limit=200) if _names(run.parameters, BORROWER)]
    with pytest.raises(InputError, match="holds nothing of customer"):
        purge(LENDER, two_plants, inbox=None)


def test_without_a_refit_a_machine_is_left_silent_and_told_how_to_mend_that(two_plants: FolderStore) -> None:
    removed = purge(LENDER, two_plants, inbox=None, refit=False)
    assert removed is not None
    (command,) = removed.without_champion.values()
    assert command.startswith(f"alp onboard raw/{BORROWER}/")
    assert not two_plants.exists(keys.asset(BORROWER, "fan-07", "champion.json"))
    assert whatever_names(two_plants, LENDER) == []

    onboard(command.split()[2], BORROWER, two_plants.url, SETTINGS)
    assert champion(two_plants, BORROWER, "fan-07").engine == "a"


def test_a_model_of_an_older_version_counts_as_fitted_on_all_its_asset_drew_on(two_plants: FolderStore) -> None:
    learnt = champion(two_plants, BORROWER, "fan-07")
    assert learnt.previous is not None
    for version in (learnt.version, learnt.previous):
        two_plants.delete(lineage_key(keys.model(BORROWER, "fan-07", version)))
    removed = purge(LENDER, two_plants, inbox=None, refit=False)
    assert removed is not None
    assert removed.models == [keys.model(BORROWER, "fan-07", learnt.version)], "engine A never looks at a source"


def test_asked_and_told_no_it_deletes_nothing(two_plants: FolderStore) -> None:
    asked: list[Traces] = []

    def refuse(traces: Traces) -> bool:
        asked.append(traces)
        return False

    before = list(two_plants.list_keys())
    assert purge(LENDER, two_plants, inbox=None, confirm=refuse) is None
    assert list(two_plants.list_keys()) == before
    assert {model.customer for model in asked[0].models} == {BORROWER}


@pytest.mark.parametrize("state", [Running(), Pending(), Cancelling()])
@pytest.mark.parametrize(
    ("flow", "parameters"), [(onboard, {"customer": LENDER}), (retrain, {"machine_type": "fan", "customer": BORROWER})]
)
def test_a_customer_is_not_purged_while_a_run_may_write_again_what_is_deleted(
    two_plants: FolderStore, flow: Flow[..., object], parameters: dict[str, str], state: State
) -> None:
    with under_way(flow, parameters, state), pytest.raises(EnvironmentFault, match="is under way"):
        purge(LENDER, two_plants, inbox=None)
    assert two_plants.exists(keys.consent(LENDER))


def test_a_run_that_was_started_while_somebody_thought_about_the_answer_stops_a_purge(two_plants: FolderStore) -> None:
    with ExitStack() as stack:

        def think(traces: Traces) -> bool:
            stack.enter_context(under_way(onboard, {"customer": LENDER}, Running()))
            return True

        with pytest.raises(EnvironmentFault, match="is under way"):
            purge(LENDER, two_plants, inbox=None, confirm=think)
    assert two_plants.exists(keys.consent(LENDER))


def pauses(monkeypatch: pytest.MonkeyPatch, pause: Callable[..., None]) -> None:
    """Do something in place of each pause of a purge, and of nobody else's in this process."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: pause(seconds))
    monkeypatch.setattr(customer_removal, "time", clock)


def test_a_purge_waits_for_a_run_that_is_about_to_end(two_plants: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        stack.enter_context(under_way(onboard, {"customer": LENDER}, Running()))
        # Nobody waits in vain: the run ends at the first look that finds it.
        pauses(monkeypatch, lambda _: stack.close())
        removed = purge(LENDER, two_plants, inbox=None, refit=False, patience_s=600)
    assert removed is not None
    assert not two_plants.exists(keys.consent(LENDER))


def test_others_who_may_be_learning_from_it_are_waited_for_and_their_models_found(
    two_plants: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An onboarding that found the lender's normals before consent was withdrawn, and crowns its model after."""
    late = keys.model(BORROWER, "fan-07", "0123456789abcdef")
    said: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(under_way(onboard, {"customer": BORROWER, "source": "x.zip"}, Running()))

        def end(_: float) -> None:
            assert not consent(two_plants, LENDER), "who begins now finds nothing"
            assert list(two_plants.list_keys(f"raw/{LENDER}/")), "who began before finds all"
            two_plants.put_model(lineage_key(late), Lineage(customers=(LENDER,)))
            stack.close()
            stack.enter_context(under_way(onboard, {"customer": BORROWER, "source": "later.zip"}, Running()))

        pauses(monkeypatch, end)
        removed = purge(LENDER, two_plants, inbox=None, refit=False, patience_s=600, say=said.append)
    assert removed is not None
    assert late in removed.models
    assert f"may be learning from what {LENDER} lends" in said[0]


@pytest.mark.parametrize("flow", [onboard, onboard_inbox])
def test_who_looks_into_an_inbox_learns_by_runs_below_and_is_not_waited_for(
    two_plants: FolderStore, flow: Flow[..., object]
) -> None:
    more = {"inbox": f"inbox/{BORROWER}"} if flow is onboard_inbox else {}
    with under_way(flow, {"customer": BORROWER, **more}, Running()):
        if flow is onboard:
            with pytest.raises(EnvironmentFault, match="may be learning from what lender-kr lends"):
                purge(LENDER, two_plants, inbox=None, refit=False)
        else:
            assert purge(LENDER, two_plants, inbox=None, refit=False) is not None


def test_who_never_lent_is_purged_whoever_else_is_onboarded(two_plants: FolderStore) -> None:
    two_plants.delete(keys.consent(LENDER))
    with under_way(onboard, {"customer": BORROWER}, Running()):
        assert purge(LENDER, two_plants, inbox=None, refit=False) is not None


def test_a_retraining_under_way_is_found_behind_any_number_that_are_to_come(
    two_plants: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_removal, "_PAGE", 2)
    with ExitStack() as stack:
        stack.enter_context(under_way(retrain, {"machine_type": "fan"}, Running()))
        for _ in range(5):
            soon = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
            stack.enter_context(under_way(retrain, {"machine_type": "fan"}, soon))
        with pytest.raises(EnvironmentFault, match="is under way"):
            purge(LENDER, two_plants, inbox=None)


def test_stages_of_others_that_name_it_go_and_a_retraining_to_come_goes_on_without_its_name(
    two_plants: FolderStore,
) -> None:
    stage = {"selection": {"asset": {"customer": BORROWER}, "source": {"customers": [BORROWER, LENDER]}}}
    asked = {"machine_type": "fan", "customer": LENDER, "recordings": 7, "only_if_due": True}
    soon = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    with get_client(sync_client=True) as client:
        drawn = client.create_flow_run(score, parameters=stage, state=Completed())
        old = client.create_flow_run(retrain, parameters=asked, state=Completed())
        to_come = client.create_flow_run(retrain, parameters=asked, state=soon, tags=["machine:fan"])
    removed = purge(LENDER, two_plants, inbox=None, refit=False)
    assert removed is not None
    with get_client(sync_client=True) as client:
        left = {run.id: run for run in client.read_flow_runs(limit=200)}
        client.delete_flow_run(to_come.id)
    assert not left.keys() & {drawn.id, old.id}
    kept = left[to_come.id]
    assert (removed.flow_runs_kept, kept.state_type, kept.tags) == (1, "SCHEDULED", ["machine:fan"])
    assert kept.parameters == {"machine_type": "fan", "only_if_due": True}


def test_a_purge_that_was_cut_off_is_not_undone_by_deploying_and_goes_on(
    two_plants: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "customers"
    folder.mkdir()
    path = folder / f"{LENDER}.yaml"
    path.write_text(f"name: {LENDER}\ninbox: inbox/elsewhere\n", encoding="utf-8")
    two_plants.put("inbox/elsewhere/2.zip", b"sent")
    with monkeypatch.context() as patch:
        patch.setattr(customer_removal, "erase_own", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            purge(LENDER, two_plants, inbox="inbox/elsewhere", folder=folder, refit=False)
    assert not path.exists(), "`alp deploy` registers whom a file describes"
    again = {LENDER: Customer(name=LENDER)}
    with pytest.raises(UsageError, match=f"`alp customer remove {LENDER} --purge` goes on with it"):
        deploy(again, two_plants.url, dry_run=True)

    assert purge(LENDER, two_plants, inbox=None, folder=folder, refit=False) is not None
    assert not two_plants.exists("inbox/elsewhere/2.zip"), "which its file alone knew of"
    assert whatever_names(two_plants, LENDER) == []
    deploy(again, two_plants.url, dry_run=True)


def test_a_machine_is_onboarded_again_by_its_customer_s_settings_and_never_by_the_defaults(
    two_plants: FolderStore, tmp_path: Path
) -> None:
    """No finished run tells how the borrower was onboarded: the model's own settings do."""
    for key in list(two_plants.list_keys(f"runs/{BORROWER}/")):
        if key.endswith("/manifest.json"):
            two_plants.delete(key)
    removed = purge(LENDER, two_plants, inbox=None)
    assert removed is not None
    assert removed.refitted == [f"{BORROWER} fan-07"]
    settings = f"{keys.model(BORROWER, 'fan-07', champion(two_plants, BORROWER, 'fan-07').version)}/settings.json"
    assert two_plants.get_model(settings, Onboarding).settings == SETTINGS


@contextmanager
def under_way(flow: Flow[..., object], parameters: dict[str, str], state: State) -> Iterator[None]:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow, parameters=parameters, state=state)
        try:
            yield
        finally:
            client.delete_flow_run(run.id)
