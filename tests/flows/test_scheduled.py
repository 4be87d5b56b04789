"""The two flows that run by themselves for a customer: one bad package, or machine, keeps no other from its turn."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import State, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

from flows.onboard import onboard
from flows.scheduled import monitor_machines, onboard_inbox
from schemas.errors import StoreError
from schemas.machine_types import MachineType
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.inbox import InboxReport
from tasks.intake import receive_package
from tasks.rounds import RoundReport, expire_recordings
from tasks.runs import REJECTED
from tasks.s3_store import S3Store
from tasks.store import FolderStore, ObjectStore

Row = dict[str, str]
Edit = Callable[[list[Row]], list[Row]]
Edited = Callable[[str, Edit], Path]


pytestmark = pytest.mark.usefixtures("bare_pages")


def look(store: ObjectStore, settings: OnboardSettings) -> State[InboxReport]:
    return onboard_inbox("acme", "inbox/acme", store.url, settings, settle_s=0, return_state=True)


def drop(store: FolderStore, folder: Path, name: str) -> None:
    inbox = store.root / "inbox" / "acme"
    inbox.mkdir(parents=True, exist_ok=True)
    shutil.make_archive(str(inbox / name), "zip", folder)


def became(state: State[InboxReport]) -> dict[str, str]:
    return {line.name: line.became for line in state.result(raise_on_failure=False).lines}


def only_training(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "train"]


def only_fan(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["machine_type"] == "fan" and row["split"] == "train"]


@pytest.fixture(scope="module")
def swept(
    edit_into: Callable[[Path, Edit], Path], tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings
) -> tuple[FolderStore, State[InboxReport]]:
    """A first look into an inbox of a good package, what is none, and one that the gate refuses."""
    store = FolderStore(tmp_path_factory.mktemp("store"))
    drop(store, edit_into(tmp_path_factory.mktemp("good") / "package", only_training), "b-good")
    (store.root / "inbox" / "acme" / "a-broken.zip").write_bytes(b"no zip")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "metadata.csv").write_text("relative_path,machine_type\naudio/1.wav,fan\n", encoding="utf-8")
    drop(store, empty, "c-refused")
    return store, look(store, settings)


def test_a_bad_package_stops_no_other_and_every_one_is_told_of(swept: tuple[FolderStore, State[InboxReport]]) -> None:
    store, state = swept
    assert became(state) == {"a-broken.zip": "refused", "b-good.zip": "onboarded", "c-refused.zip": "refused"}
    assert state.is_failed()
    assert state.name == REJECTED
    assert state.message is not None
    assert "1 onboarded, 2 not" in state.message
    assert "a-broken.zip refused:" in state.message
    assert "Send a zip or a folder" in state.message, "the message is the remedy"
    assert {key.split("/")[2] for key in store.list_keys("assets/acme/")} == {"fan-00", "valve-00"}


def test_each_package_has_a_run_of_its_own_below(swept: tuple[FolderStore, State[InboxReport]]) -> None:
    whole = swept[1].state_details.flow_run_id
    assert whole is not None
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(whole).name == "onboard-acme-inbox"
        below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[whole]))
        runs = client.read_flow_runs(flow_run_filter=below)
    report = swept[1].result(raise_on_failure=False)
    assert len(runs) == 3
    assert {run.name for run in runs} == {f"onboard-acme-{line.package[:8]}" for line in report.lines}


def test_the_next_look_finds_nothing_to_do(
    swept: tuple[FolderStore, State[InboxReport]], settings: OnboardSettings
) -> None:
    again = look(swept[0], settings)
    assert again.is_completed()
    found = again.result().look
    assert (became(again), found.known, list(found.refused)) == ({}, 1, ["a-broken.zip", "c-refused.zip"])
    why = found.refused["a-broken.zip"]
    assert f"a-broken.zip was refused before: {why}" in str(again.message), (
        "who looks at the newest run alone learns it"
    )


def test_what_was_onboarded_by_hand_is_known(
    edited: Edited, settings: OnboardSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, package = FolderStore(tmp_path / "store"), edited("fan", only_fan)
    onboard(str(package), "acme", store.url, settings)
    drop(store, package, "same")
    monkeypatch.setattr(receive_package, "fn", lambda *_: pytest.fail("onboarded again"))
    found = look(store, settings)
    assert (became(found), found.result().look.known) == ({}, 1)


def test_a_machine_type_of_the_customer_s_own_is_onboarded_and_heard_at_its_rate(
    edited: Edited, settings: OnboardSettings, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    package = edited("mixer", lambda rows: [{**row, "machine_type": "믹서"} for row in only_fan(rows)])
    drop(store, package, "first")
    refused = look(store, settings)
    assert became(refused) == {"first.zip": "refused"}

    mixer = MachineType(id="mixer", en="mixer", ko="믹서", sample_rate=8000)
    own = settings.model_copy(update={"machine_types": (mixer,), "language": "ko"})
    taken = look(store, own)
    assert became(taken) == {"first.zip": "onboarded"}, "once the type is known, the package is taken up again"
    ledger = store.get_frame(keys.asset("acme", "mixer-00", "ledger.parquet"))
    assert set(ledger["sample_rate"]) == {8000}
    pages = [store.get(key).decode() for key in store.list_keys("runs/acme/") if key.endswith("mixer-00/report.html")]
    assert any("믹서" in page for page in pages)

    recording = next((package / "audio").iterdir())
    store.put_file("recordings/acme/mixer-00/new.wav", recording)
    settle(store)
    watched = monitor_machines("acme", store.url, return_state=True)
    assert watched.is_completed()
    assert watched.result().watched[0].judged == 1


def settle(store: FolderStore, *, days: float = 0.01) -> None:
    """Make what was recorded old enough to be judged."""
    then = time.time() - days * 86_400
    for path in (store.root / "recordings").rglob("*.wav"):
        os.utime(path, (then, then))


def test_a_machine_that_fails_keeps_no_other_from_its_turn(
    swept: tuple[FolderStore, State[InboxReport]], toy_folder: Path
) -> None:
    store = swept[0]
    assert monitor_machines("acme", store.url, return_state=True).result().watched == (), "nothing was ever recorded"
    sounds = sorted((toy_folder / "audio").iterdir())
    for asset in ("fan-00", "valve-00", "fan00"):
        sound = next(path for path in sounds if path.name.startswith(asset[:3]))
        store.put_file(f"recordings/acme/{asset}/1.wav", sound)
    settle(store, days=3)
    champion = keys.asset("acme", "fan-00", "champion.json")
    sound_one = store.get(champion)
    store.put(champion, b"{}")
    broken = monitor_machines("acme", store.url, 2, return_state=True)
    store.put(champion, sound_one)

    report: RoundReport = broken.result(raise_on_failure=False)
    assert broken.is_failed()
    assert broken.message is not None
    assert "fan-00: " in broken.message
    assert "recordings/acme/fan00: there is no such machine" in broken.message, "told though something else is wrong"
    assert [watched.asset for watched in report.watched] == ["valve-00"]
    assert report.watched[0].judged == 1
    assert (
        "there is no such machine; call the folder after one of them: fan-00, valve-00"
        in report.beat.not_heard["fan00"]
    )
    left = list(store.list_keys("recordings/acme/"))
    assert left == ["recordings/acme/fan-00/1.wav", "recordings/acme/fan00/1.wav"], "judged and old: deleted"

    mended = monitor_machines("acme", store.url, return_state=True)
    assert mended.is_completed()
    assert {watched.asset: watched.judged for watched in mended.result().watched} == {"fan-00": 1, "valve-00": 0}
    assert "recordings/acme/fan-00/1.wav" in store.list_keys("recordings/acme/"), "kept unless retention is given"


def test_a_round_ends_with_all_it_did_though_old_recordings_cannot_be_deleted(
    swept: tuple[FolderStore, State[InboxReport]],
    toy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FolderStore(Path(shutil.copytree(swept[0].root, tmp_path / "store")))
    store.erase("recordings/")
    for asset in ("fan-00", "valve-00"):
        sound = next(path for path in sorted((toy_folder / "audio").iterdir()) if path.name.startswith(asset[:3]))
        store.put_file(f"recordings/acme/{asset}/old.wav", sound)
    settle(store, days=3)
    delete = FolderStore.delete

    def read_only(self: FolderStore, key: str) -> None:
        if key.startswith("recordings/acme/fan-00/"):
            raise StoreError(f"{key} cannot be deleted")
        delete(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "delete", read_only)
        ended = monitor_machines("acme", store.url, 2, return_state=True)
    report: RoundReport = ended.result(raise_on_failure=False)
    assert (ended.is_failed(), report.failed, list(report.not_tidied)) == (True, {}, ["fan-00"])
    assert "fan-00, old recordings stay: recordings/acme/fan-00/old.wav cannot be deleted" in str(ended.message)
    assert [watched.asset for watched in report.watched] == ["fan-00", "valve-00"]
    assert not store.exists("recordings/acme/valve-00/old.wav")

    store.delete(keys.asset("acme", "fan-00", "champion.json"))
    assert expire_recordings.fn("acme", "fan-00", store.url, 2) == 0, "which a purge took away meanwhile"


def send(store: S3Store, name: str, path: Path) -> None:
    """As a plant or a recorder does, which knows nothing of us."""
    store.bucket.sdk.fput_object(store.address.bucket, store.address.key(name), str(path))


def test_in_a_bucket_the_same_packages_are_onboarded_and_their_machine_is_listened_to(
    edited: Edited, settings: OnboardSettings, s3_url: str, tmp_path: Path
) -> None:
    store, package = S3Store.open(s3_url), edited("fan", only_fan)
    good = shutil.make_archive(str(tmp_path / "good"), "zip", package)
    (tmp_path / "half.zip").write_bytes(Path(good).read_bytes()[:5000])
    for name, path in (("팬 1.zip", good), ("same.zip", good), ("half.zip", tmp_path / "half.zip")):
        send(store, f"inbox/acme/{name}", Path(path))
    first = look(store, settings)
    assert sorted(became(first).values()) == ["onboarded", "refused"], "the same content under two names is one package"
    assert first.name == REJECTED
    send(store, "inbox/acme/half.zip", Path(good))
    again = look(store, settings)
    assert (again.is_completed(), again.result().look.known) == (True, 3), "now it is whole, and known by its content"

    send(store, "recordings/acme/fan-00/1.wav", next((package / "audio").iterdir()))
    watched = monitor_machines("acme", store.url, return_state=True)
    assert watched.is_completed()
    assert watched.result().watched[0].judged + watched.result().watched[0].waiting == 1
