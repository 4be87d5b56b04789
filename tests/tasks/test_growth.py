"""Growth of the library: what counts as such, who asks for a retraining, and what becomes of one that is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tasks.growth
from schemas.errors import EnvironmentFault
from schemas.settings import GrowthPolicy
from tasks import keys
from tasks.corrections import Correction, add_correction
from tasks.events import Happening
from tasks.growth import (
    HOLDS,
    RETRAINING_LABEL,
    Growth,
    ask_for_retraining,
    begin_retraining,
    end_retraining,
    measure_growth,
    read_policy,
    set_policy,
    tell_of_growth,
)
from tasks.growth_state import GrowthState, change_state, forget_customer, growth_naming, read_state
from tasks.purging import erase_own, find_traces, what_is_left
from tasks.s3_store import S3Store
from tasks.sharing import set_consent
from tasks.store import FolderStore, ObjectStore
from tests.tasks.library_rig import run_of, segments, send

FEW = GrowthPolicy(recordings=4, share=0.5)
FIRST, SECOND, THIRD, FOURTH = ("1" * 16, "2" * 16, "3" * 16, "4" * 16)


class Server:
    """Hears what it is told, or is away, or refuses."""

    def __init__(self) -> None:
        self.heard: list[Happening] = []
        self.away = False
        self.refusal: str | None = None
        self.lock = threading.Lock()

    def tell(self, happening: Happening) -> str | None:
        if self.away:
            raise EnvironmentFault("it does not answer")
        with self.lock:
            self.heard.append(happening)
        return self.refusal

    @property
    def said(self) -> list[str]:
        return [happening.labels[RETRAINING_LABEL] for happening in self.heard]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    listening = Server()
    monkeypatch.setattr(tasks.growth, "configured_tell", lambda: listening.tell)
    return listening


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def two_machines(store: ObjectStore) -> None:
    """Two machines of a customer with three normals each, which a retraining has seen."""
    send(store, "acme", FIRST, segments(*names("a", 3)), segments(*names("b", 3), section="01"))
    end_retraining.fn(begin(store), store.url)


def begin(store: ObjectStore, *, only_if_due: bool = True) -> Growth:
    return begin_retraining.fn("fan", store.url, FEW, only_if_due=only_if_due)


def measure(store: ObjectStore) -> Growth:
    return measure_growth("fan", store, FEW)


def onboard(store: ObjectStore, customer: str, package: str, *parts: Any) -> None:
    """File a package's normals and tell of them, as an onboarding does."""
    if read_policy(store) != FEW:
        set_policy(store, FEW)
    tell_of_growth.fn(send(store, customer, package, *parts), run_of(store, customer, package))


def grown(growth: Growth) -> tuple[int, int, bool]:
    return growth.new, growth.before, growth.due


# --- the policy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "before", "due"),
    [(29, 1000, False), (30, 1000, True), (1, 5, True), (1, 6, False), (29, 0, False), (30, 0, True), (0, 0, False)],
)
def test_due_is_what_reaches_the_number_or_the_share_of_what_there_was(new: int, before: int, due: bool) -> None:
    assert GrowthPolicy(recordings=30, share=0.2).is_passed(new=new, before=before) is due


# --- what counts ------------------------------------------------------------------------------------------------


def test_the_first_machine_of_a_type_is_the_baseline_and_asks_for_nothing(store: FolderStore, server: Server) -> None:
    onboard(store, "acme", FIRST, segments(*names("a", 50)))
    assert grown(measure(store)) == (0, 0, False)
    assert server.said == ["not-due"]
    onboard(store, "acme", SECOND, segments(*names("b", 3), section="01"))
    assert grown(measure(store)) == (53, 0, True)
    assert server.said == ["not-due", "due"]


def test_growth_is_counted_from_what_the_last_retraining_began_with(store: FolderStore) -> None:
    two_machines(store)
    assert grown(measure(store)) == (0, 6, False)
    send(store, "acme", SECOND, segments("c1", "c2", section="01"))
    assert grown(measure(store)) == (2, 6, False)
    send(store, "acme", THIRD, segments("c3", domain="source"))
    growth = measure(store)
    assert grown(growth) == (3, 6, True)
    assert growth.sentence == (
        "fan: 3 new normals beside 6 of the last retraining, +50%; a retraining is due (from 4 new ones, or +50%)"
    )


def test_known_recordings_in_another_package_are_no_growth(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("a", 3)), segments(*names("b", 3), section="01"))
    assert grown(measure(store)) == (0, 6, False)


def test_what_nobody_learns_from_is_no_growth(store: FolderStore) -> None:
    two_machines(store)
    send(
        store,
        "acme",
        SECOND,
        segments(*names("test", 9), split="test"),
        segments(*names("noise", 9), split="supplemental", supp_type="noise"),
        segments(*names("clean", 9), split="supplemental", supp_type="machine"),
        segments(*names("other", 9), kind="pump"),
    )
    assert grown(measure(store)) == (0, 6, False)


def test_a_recording_that_was_taken_back_no_longer_counts(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments("c1", "c2", "c3", section="01"))
    assert measure(store).due
    for recording in ("c1", "a0"):
        section = "01" if recording == "c1" else "00"
        said = Correction(recording_id=recording, clip_id=f"clip-{recording}", action="retract")
        add_correction(store, "acme", f"fan-{section}", said)
    assert grown(measure(store)) == (2, 5, False)


def test_another_customer_s_normals_count_from_the_day_of_its_consent(store: FolderStore) -> None:
    send(store, "acme", FIRST, segments(*names("a", 3)))
    send(store, "lender", SECOND, segments(*names("b", 5)))
    assert grown(measure(store)) == (0, 0, False)
    set_consent(store, "lender", share_source=True)
    assert grown(measure(store)) == (5, 0, True)
    end_retraining.fn(begin(store), store.url)
    assert grown(measure(store)) == (0, 5, False)
    set_consent(store, "lender", share_source=False)
    assert grown(measure(store)) == (0, 0, False)


@pytest.mark.parametrize("unlike", [{"sensor": "accelerometer"}, {"sample_rate": 8000}])
def test_what_no_other_machine_can_be_compared_with_is_no_growth(store: FolderStore, unlike: dict[str, Any]) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 9), section="02", **unlike))
    assert grown(measure(store)) == (0, 6, False)
    send(store, "acme", THIRD, segments(*names("d", 3), section="03", **unlike))
    assert grown(measure(store)) == (12, 6, True)


def test_synthetic_recordings_count_for_synthetic_machines_alone_and_apart_from_real_ones(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("toy", 9), section="02", synthetic=True))
    assert grown(measure(store)) == (0, 6, False)
    send(store, "acme", THIRD, segments("toyer1", "toyer2", "toyer3", section="03", synthetic=True))
    growth = measure(store)
    assert (growth.synthetic, *grown(growth)) == (True, 12, 0, True)
    assert "synthetic" in growth.sentence
    end_retraining.fn(begin(store), store.url)
    send(store, "acme", FOURTH, segments("c1", "c2", section="01"), segments("toyer4", section="03", synthetic=True))
    growth = measure(store)
    assert (growth.synthetic, *grown(growth)) == (False, 2, 6, False), "three in all, but of no kind enough"


# --- beginning and ending ---------------------------------------------------------------------------------------


def test_a_retraining_that_is_not_due_does_not_begin_unless_it_is_to(store: FolderStore) -> None:
    two_machines(store)
    assert begin(store).token is None
    assert begin(store, only_if_due=False).token is not None


def test_a_retraining_that_was_cut_off_is_due_again(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    begin(store)
    assert grown(measure(store)) == (4, 6, True)
    again = begin(store)
    assert again.token is not None
    end_retraining.fn(again, store.url)
    assert not measure(store).due


def test_what_comes_while_a_retraining_runs_counts_for_the_next(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    running = begin(store)
    send(store, "acme", THIRD, segments(*names("d", 4), section="01"))
    end_retraining.fn(running, store.url)
    assert grown(measure(store)) == (4, 10, True)


def test_of_two_that_run_at_once_the_one_that_began_last_counts(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    first, second = begin(store), begin(store)
    end_retraining.fn(first, store.url)
    assert measure(store).due
    end_retraining.fn(second, store.url)
    assert not measure(store).due


def test_a_damaged_state_counts_as_none(store: FolderStore) -> None:
    two_machines(store)
    store.put(keys.growth("fan"), b"{")
    assert grown(measure(store)) == (6, 0, True)
    end_retraining.fn(begin(store), store.url)
    assert grown(measure(store)) == (0, 6, False)


# --- asking and telling -----------------------------------------------------------------------------------------


def test_what_is_told_says_who_brought_how_much_and_what_it_comes_to(store: FolderStore, server: Server) -> None:
    two_machines(store)
    onboard(store, "acme", SECOND, segments("c1", "c2", "c3", section="01"))
    (happening,) = server.heard
    assert (happening.event, happening.resource) == ("alp.source.grown", "alp.library.fan")
    assert happening.labels == {"alp.retraining": "due"}
    assert happening.payload == {
        "machine_type": "fan",
        "customer": "acme",
        "package": SECOND,
        "recordings": 3,
        "hours": 0.0083,
        "new_since_training": 3,
        "trained_on": 6,
        "retraining": "due",
    }


def test_it_is_told_once_the_rows_can_be_read(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []

    def tell(happening: Happening) -> None:
        there.append(store.exists(keys.library("fan", "acme", FIRST)))

    monkeypatch.setattr(tasks.growth, "configured_tell", lambda: tell)
    onboard(store, "acme", FIRST, segments("a"))
    assert there == [True]


def test_a_package_that_brings_nothing_new_is_not_told(store: FolderStore, server: Server) -> None:
    for _ in range(2):
        onboard(store, "acme", FIRST, segments("a"))
    assert server.said == ["not-due"]


def test_a_burst_asks_once_until_the_retraining_begins(store: FolderStore, server: Server) -> None:
    two_machines(store)
    for number, package in enumerate((SECOND, THIRD, FOURTH)):
        onboard(store, "acme", package, segments(*names(f"c{number}", 4), section="01"))
    assert server.said == ["due", "asked", "asked"]
    running = begin(store)
    onboard(store, "acme", "5" * 16, segments("few", section="01"))
    assert server.said[3:] == ["not-due"], "what the one under way began with counts as learnt from"
    onboard(store, "acme", "6" * 16, segments(*names("many", 9), section="01"))
    assert server.said[4:] == ["due"]
    end_retraining.fn(running, store.url)
    assert begin(store).token is not None


def at_once(count: int, work: Callable[[int], None]) -> None:
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))


@pytest.fixture(params=["file", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "file":
        yield FolderStore(tmp_path / "store")
    else:
        yield S3Store.open(request.getfixturevalue("s3_url"))


def test_of_onboardings_at_once_one_asks(any_store: ObjectStore, server: Server) -> None:
    two_machines(any_store)
    set_policy(any_store, FEW)

    def work(number: int) -> None:
        onboard(any_store, f"plant{number}", f"{number:016d}", *plant(number))

    def plant(number: int) -> list[Any]:
        return [segments(*names(f"p{number}-{section}-", 2), section=section) for section in ("00", "01")]

    at_once(6, work)
    assert sorted(server.said)[-1] == "due"
    assert server.said.count("due") == 1
    assert grown(measure(any_store)) == (24, 6, True)


def test_of_a_burst_in_which_none_is_enough_alone_the_last_one_asks(store: FolderStore, server: Server) -> None:
    two_machines(store)
    set_policy(store, FEW)
    at_once(4, lambda number: onboard(store, f"plant{number}", f"{number:016d}", segments(f"x{number}")))
    assert set(server.said) == {"not-due"}, "machines alone at their plants teach nobody"
    at_once(
        4, lambda number: onboard(store, f"plant{number}", f"{number + 4:016d}", segments(f"y{number}", section="01"))
    )
    assert server.said.count("due") == 1


def test_the_sweep_starts_what_was_asked_for_in_vain(store: FolderStore, server: Server) -> None:
    two_machines(store)
    onboard(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    assert server.said == ["due"]
    assert begin(store).token is not None


@pytest.mark.parametrize("fault", ["away", "refusing"])
def test_a_server_that_cannot_be_told_stops_no_onboarding_and_the_next_one_asks(
    store: FolderStore, server: Server, fault: str
) -> None:
    two_machines(store)
    server.away, server.refusal = fault == "away", "status 422" if fault == "refusing" else None
    onboard(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    server.away, server.refusal, server.heard = False, None, []
    onboard(store, "acme", THIRD, segments("one", section="01"))
    assert server.said == ["due"]


def test_a_run_that_was_cut_off_before_it_told_tells_when_it_goes_on(store: FolderStore, server: Server) -> None:
    two_machines(store)
    parts = segments(*names("c", 4), section="01")
    send(store, "acme", SECOND, parts)
    onboard(store, "acme", SECOND, parts)
    assert server.said == ["due"]
    onboard(store, "acme", SECOND, parts)
    assert server.said == ["due", "due"]
    assert len({happening.event_id for happening in server.heard}) == 1, "which the server hears once"


def test_an_ask_that_came_to_nothing_does_not_hold_for_ever(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    assert ask(store, SECOND) == "due"
    assert ask(store, THIRD) == "asked"
    age(store)
    assert ask(store, THIRD) == "due"


def test_a_retraining_that_was_cut_off_does_not_count_as_under_way_for_ever(store: FolderStore) -> None:
    two_machines(store)
    send(store, "acme", SECOND, segments(*names("c", 4), section="01"))
    begin(store)
    assert ask(store, THIRD) == "not-due"
    age(store)
    assert ask(store, THIRD) == "due"


def ask(store: ObjectStore, package: str) -> str:
    return ask_for_retraining("fan", store, FEW, customer="acme", package=package).says


def age(store: ObjectStore) -> None:
    """Let what was asked and begun be longer ago than it holds."""
    past = datetime.now(UTC) - HOLDS - timedelta(minutes=1)

    def back(state: GrowthState) -> tuple[GrowthState, None]:
        begun = state.begun and state.begun.model_copy(update={"at": past})
        asked = state.asked and state.asked.model_copy(update={"at": past})
        return state.model_copy(update={"begun": begun, "asked": asked}), None

    change_state(store, "fan", back)


def test_without_a_server_nothing_is_measured(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.growth, "configured_tell", lambda: None)
    monkeypatch.setattr(tasks.growth, "useful_normals", lambda *_: pytest.fail("the library was read"))
    joined = send(store, "acme", FIRST, segments(*names("a", 50)), segments(*names("b", 3), section="01"))
    tell_of_growth.fn(joined, run_of(store, "acme", FIRST))
    assert not store.exists(keys.growth("fan"))


# --- a customer that goes ---------------------------------------------------------------------------------------


def test_a_purge_drops_a_customer_s_share_of_what_was_learnt_from(any_store: ObjectStore) -> None:
    store = any_store
    send(store, "acme", FIRST, segments(*names("a", 3)), segments(*names("b", 3), section="01"))
    send(store, "gone", SECOND, segments(*names("c", 3)), segments(*names("d", 3), section="01"))
    end_retraining.fn(begin(store), store.url)
    send(store, "gone", THIRD, segments(*names("e", 4)))
    ask_for_retraining("fan", store, FEW, customer="gone", package=THIRD)
    begin(store)
    assert growth_naming(store, "gone") == [keys.growth("fan")]
    erase_own(store, find_traces(store, "gone"))
    assert list(what_is_left(store, "gone")) == []
    state, _ = read_state(store, "fan")
    assert set(state.trained) == {keys.library("fan", "acme", FIRST)}
    assert "gone" not in store.get(keys.growth("fan")).decode()
    assert grown(measure(store)) == (0, 6, False)


def test_after_the_last_customer_nothing_is_left_of_the_state(store: FolderStore) -> None:
    two_machines(store)
    assert forget_customer(store, "acme") == [keys.growth("fan")]
    assert not list(store.list_keys("retraining/"))


# --- the policy in the store ------------------------------------------------------------------------------------


def test_the_policy_is_by_default_until_it_was_written_down(store: FolderStore) -> None:
    assert read_policy(store) == GrowthPolicy()
    set_policy(store, FEW)
    assert read_policy(store) == FEW
