"""What an asset may learn from besides its own normals, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from schemas.references import Asset, Package, Source
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.clip_files import to_flac
from tasks.corrections import Correction, add_correction
from tasks.inventory import next_for_asset, next_for_plant, take_stock
from tasks.ledger import Role, join
from tasks.library import (
    NORMALS,
    OWNER_COLUMNS,
    gather_source,
    library_rows,
    read_left_out,
    source_clips,
    source_version,
)
from tasks.runs import name_run
from tasks.sharing import consent, set_consent, snapshot
from tasks.store import FolderStore
from tests.tasks.library_rig import run_of, segments, send

SENT = ("relative_path", "confirmed_by", "clip_id", "split", "supp_type", "label", "is_anomaly")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def gather(store: FolderStore, customer: str = "acme", section: str = "00", **routing: Any) -> Source:
    asset_id = keys.asset_id("fan", section)
    asset = Asset(
        customer=customer,
        machine_type="fan",
        section_id=section,
        asset_id=asset_id,
        ledger_key=keys.asset(customer, asset_id, "ledger.parquet"),
        ledger_version="0",
        target=3,
        source=0,
        test=0,
    )
    return gather_source.fn(asset, run_of(store, customer, "f" * 16, **routing))


def names(store: FolderStore, source: Source) -> list[str]:
    return store.get_frame(source.key)["recording_id"].tolist()


def correct(store: FolderStore, customer: str, section: str, recording: str, **said: Any) -> None:
    add_correction(
        store, customer, f"fan-{section}", Correction(recording_id=recording, clip_id=f"clip-{recording}", **said)
    )


# --- what is source ---------------------------------------------------------------------------------------------


def test_source_is_the_asset_s_other_domains_and_the_normals_of_other_machines_of_its_type(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1", "t2", "t3"), segments("s1", domain="source"))
    send(
        store,
        "acme",
        "2" * 16,
        segments("o1", "o2", section="01"),
        segments("o3", section="01", domain="source"),
        segments("test", section="01", split="test"),
        segments("noise", section="01", split="supplemental", supp_type="noise"),
        segments("pump", kind="pump"),
    )
    source = gather(store)
    assert names(store, source) == ["o1", "o2", "o3", "s1"]
    assert (source.recordings, source.own, source.customers) == (4, 1, ("acme",))
    assert names(store, gather(store, section="01")) == ["o3", "s1", "t1", "t2", "t3"]


def test_nothing_crosses_to_another_customer_without_consent_and_withdrawing_takes_it_away(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("a1", "a2"))
    send(store, "best-motors", "2" * 16, segments("b1", "b2"))
    assert not consent(store, "best-motors")
    assert names(store, gather(store)) == []
    assert set_consent(store, "best-motors", share_source=True)
    assert names(store, gather(store)) == ["b1", "b2"]
    assert gather(store).customers == ("best-motors",)
    assert names(store, gather(store, "best-motors")) == [], "consent is given, not exchanged"
    assert set_consent(store, "best-motors", share_source=False)
    assert names(store, gather(store)) == []


def test_own_plants_serve_each_other_without_being_asked(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("a1"))
    send(store, "acme", "2" * 16, segments("a2", section="01"))
    set_consent(store, "acme", share_source=False)
    assert names(store, gather(store)) == ["a2"]


def test_what_the_asset_learns_from_or_is_judged_on_never_comes_back_from_another_plant(store: FolderStore) -> None:
    mine = [segments("t1", "t2"), segments("e1", split="test"), segments("n1", split="supplemental", supp_type="noise")]
    send(store, "acme", "1" * 16, *mine)
    send(store, "acme", "2" * 16, segments("t1", "e1", "n1", "new", section="01"))
    assert names(store, gather(store)) == ["new"]


def test_a_source_recording_that_the_asset_is_judged_on_too_is_left_out(store: FolderStore) -> None:
    mine = [segments("t1"), segments("s1", "s2", domain="source"), segments("s1", split="test", domain="source")]
    send(store, "acme", "1" * 16, *mine)
    assert names(store, gather(store)) == ["s2"]


def test_the_asset_s_own_part_of_the_library_is_not_asked_what_its_ledger_says(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1", "t2"))
    key = keys.asset("acme", "fan-00", "ledger.parquet")
    store.put_frame(key, store.get_frame(key).query("recording_id != 't2'"))
    assert names(store, gather(store)) == []


def test_a_recording_counts_once_and_the_nearest_holder_names_its_conditions(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"), segments("x", domain="source", speed_level="own"))
    send(store, "acme", "2" * 16, segments("x", "y", section="01", speed_level="sister"))
    send(store, "acme", "3" * 16, segments("y", section="01", speed_level="sent again"))
    send(store, "aaa", "4" * 16, segments("x", "y", "z", speed_level="other customer"))
    set_consent(store, "aaa", share_source=True)
    source = gather(store)
    rows = store.get_frame(source.key)
    assert list(zip(rows["recording_id"], rows["speed_level"], strict=True)) == [
        ("x", "own"),
        ("y", "sister"),
        ("z", "other customer"),
    ]
    assert (source.recordings, source.own, source.customers) == (3, 1, ("aaa", "acme"))


def test_all_segments_of_a_recording_come_from_one_holder(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    halves = [segments("x", section="01", segment=n, duration_s=5.0) for n in (0, 1)]
    send(store, "acme", "2" * 16, *halves)
    send(store, "acme", "3" * 16, segments("x", section="02"))
    rows = store.get_frame(gather(store).key)
    assert rows[["section_id", "segment"]].to_numpy().tolist() == [["01", 0], ["01", 1]]


@pytest.mark.parametrize("said", [{"action": "retract"}, {"action": "relabel", "label": "anomaly"}])
def test_nobody_learns_from_what_its_owner_took_back(store: FolderStore, said: dict[str, str]) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    send(store, "acme", "2" * 16, segments("good", "bad", section="01"))
    send(store, "acme", "3" * 16, segments("bad", section="02"))
    correct(store, "acme", "01", "bad", **said)
    assert names(store, gather(store)) == ["good"], "the same sound serves from no other plant either"
    assert sorted(library_rows(store)["recording_id"]) == ["good", "t1"]
    correct(store, "acme", "01", "bad", action="relabel", label="normal")
    assert names(store, gather(store)) == ["bad", "good"]


def test_clean_machine_recordings_are_source_only_where_the_settings_say_so(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"), segments("m1", split="supplemental", supp_type="machine"))
    send(store, "acme", "2" * 16, segments("m2", section="01", split="supplemental", supp_type="machine"))
    assert names(store, gather(store)) == []
    assert names(store, gather(store, clean_machine=True)) == ["m1", "m2"]


def test_recordings_of_another_sensor_or_rate_are_no_source(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    send(
        store,
        "acme",
        "2" * 16,
        segments("shaken", section="01", sensor="accelerometer"),
        segments("fast", section="01", sample_rate=32_000),
        segments("alike", section="01"),
    )
    assert names(store, gather(store)) == ["alike"]


def left_out(store: FolderStore, source: Source) -> int:
    return read_left_out(store, source.asset, run_of(store, source.asset.customer, "f" * 16)).synthetic


def test_synthetic_recordings_are_no_source_for_a_real_machine_and_are_counted(store: FolderStore) -> None:
    mine = [segments("t1", "t2"), segments("s1", domain="source"), segments("s2", domain="source", synthetic=True)]
    send(store, "acme", "1" * 16, *mine)
    send(store, "acme", "2" * 16, segments("toy1", "toy2", "t1", section="01", synthetic=True))
    send(store, "acme", "3" * 16, segments("o1", section="02"), segments("toy2", section="03"))
    source = gather(store)
    assert names(store, source) == ["o1", "s1"], "a sound that anyone calls synthetic is synthetic"
    assert (source.recordings, left_out(store, source)) == (2, 3)
    assert gather(store).reused


def test_a_synthetic_machine_learns_from_synthetic_and_real_recordings(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1", "t2", synthetic=True))
    send(store, "acme", "2" * 16, segments("toy", section="01", synthetic=True), segments("real", section="02"))
    source = gather(store)
    assert names(store, source) == ["real", "toy"]
    assert left_out(store, source) == 0


def test_one_real_normal_makes_a_machine_real_as_long_as_it_is_not_taken_back(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1", synthetic=True), segments("t2"))
    send(store, "acme", "2" * 16, segments("toy", section="01", synthetic=True))
    assert names(store, gather(store)) == []
    ledger = keys.asset("acme", "fan-00", "ledger.parquet")
    store.put_frame(ledger, store.get_frame(ledger).assign(role=[Role.TARGET.value, Role.RETRACTED.value]))
    assert names(store, gather(store)) == ["toy"]


def test_gathering_again_reuses_what_was_gathered(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    assert [gather(store).reused for _ in range(2)] == [False, True]
    send(store, "acme", "2" * 16, segments("o1", section="01"))
    assert [gather(store).reused for _ in range(2)] == [False, True]


def test_the_version_follows_recordings_and_conditions_and_not_who_sent_them() -> None:
    rows = segments("a", "b", speed_level="low").assign(**dict.fromkeys(OWNER_COLUMNS, "x"))
    elsewhere = rows["audio"].str.replace("packages/acme/p/", "packages/y/q/")
    assert source_version(rows) == source_version(rows.assign(customer="y", section_id="07", audio=elsewhere)[::-1])
    assert source_version(rows) != source_version(rows.assign(speed_level="high"))
    assert source_version(rows) != source_version(rows[:1])
    assert source_version(rows) != source_version(rows.assign(speed_level=None, load_level="low"))


def test_the_version_follows_what_the_source_sounds_like() -> None:
    rows = segments("a", "b").assign(**dict.fromkeys(OWNER_COLUMNS, "x"))
    resampled = rows["audio"].str.replace("b.flac", "c.flac")
    assert source_version(rows) != source_version(rows.assign(audio=resampled))


def test_source_clips_carry_the_conditions_that_were_written_down(store: FolderStore) -> None:
    codes = np.random.default_rng(0).integers(-1000, 1000, 1600).astype(np.int32)
    store.put("packages/acme/p/audio/o1.flac", to_flac(codes, 16_000))
    send(store, "acme", "1" * 16, segments("t1"))
    send(store, "acme", "2" * 16, segments("o1", section="01", speed_level="low", noise_id="hall"))
    clips = source_clips(store, gather(store).key)
    assert clips.recordings == ["o1"]
    assert clips.clips[0].conditions == {"speed_level": "low", "noise_id": "hall"}
    assert clips.waveform(0).shape == (1600,)


def test_the_library_says_nothing_of_people_and_files(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    assert not set(SENT) & set(store.get_frame(keys.library("fan", "acme", "1" * 16)).columns)


def test_joining_says_what_the_package_brought_and_how_much_of_it_is_new(store: FolderStore) -> None:
    parts = segments("t1", "t2"), segments("s1", domain="source")
    (joined,) = send(store, "acme", "1" * 16, *parts)
    assert (joined.machine_type, joined.recordings, joined.hours, joined.new) == ("fan", 3, 0.0083, 3)
    (again,) = send(store, "acme", "1" * 16, *parts)
    assert (again.recordings, again.new) == (3, 0)


def test_to_shrink_or_to_name_a_condition_is_not_to_grow(store: FolderStore) -> None:
    key = keys.library("fan", "acme", "1" * 16)
    (first,) = send(store, "acme", "1" * 16, segments("t1", "t2"))
    (more,) = send(store, "acme", "1" * 16, segments("t1", "t2", "t3"))
    (less,) = send(store, "acme", "1" * 16, segments("t1", "t2"))
    (named,) = send(store, "acme", "1" * 16, segments("t1", "t2", speed_level="low"))
    assert [first.new, more.new, less.new, named.new] == [2, 1, 0, 0]
    assert store.get_frame(key)["speed_level"].tolist() == ["low", "low"]


# --- when a run is the same run ---------------------------------------------------------------------------------


def test_a_run_is_the_same_until_something_else_gave_more_to_learn_from(store: FolderStore) -> None:
    def state() -> str:
        return snapshot(store, "acme", besides="1" * 16)

    first = state()
    send(store, "acme", "1" * 16, segments("t1", "t2"))
    assert state() == first, "what the package itself brought changes nothing"
    send(store, "stranger", "2" * 16, segments("b1"))
    assert state() == first, "what may not be learnt from changes nothing"
    seen = [first]
    for change in (
        lambda: send(store, "acme", "3" * 16, segments("o1", section="01")),
        lambda: send(store, "acme", "4" * 16, segments("e1", split="test")),
        lambda: correct(store, "acme", "00", "t1", action="retract"),
        lambda: correct(store, "acme", "00", "t1", action="relabel", label="normal"),
        lambda: set_consent(store, "stranger", share_source=True),
        lambda: correct(store, "stranger", "00", "b1", action="retract"),
        lambda: set_consent(store, "stranger", share_source=False),
        lambda: set_consent(store, "stranger", share_source=True),
        lambda: set_consent(store, "stranger", share_source=False),
    ):
        change()
        assert state() not in seen
        seen.append(state())
        assert state() == seen[-1]
    assert not set_consent(store, "stranger", share_source=False)
    assert state() == seen[-1], "saying the same again is no change"


def test_customers_with_hyphens_are_not_mixed_up(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    send(store, "acme-ulsan", "2" * 16, segments("b1"))
    assert names(store, gather(store)) == []
    assert keys.library_parts(keys.library("fan", "acme-ulsan", "2" * 16)) == ("fan", "acme-ulsan", "2" * 16)


def test_a_run_is_named_by_the_library_it_sees(store: FolderStore) -> None:
    package = Package(
        customer="acme", package_id="1" * 16, name="p.zip", raw_key=keys.raw("acme", "1" * 16), files=1, bytes=1
    )
    first = name_run(package, store.url, OnboardSettings())
    assert name_run(package, store.url, OnboardSettings()) == first
    send(store, "acme", "2" * 16, segments("o1", section="01"))
    later = name_run(package, store.url, OnboardSettings())
    assert later.run_id != first.run_id
    assert later.library == snapshot(store, "acme", besides="1" * 16) != first.library


# --- what there is, and what to collect next --------------------------------------------------------------------


def test_the_stock_counts_recordings_hours_and_bytes_by_plant_asset_and_condition(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1", "t2", speed_level="low"), segments("s1", domain="source"))
    send(store, "acme", "2" * 16, segments("t1"), segments("p1", kind="pump"))
    fan, pump = take_stock(store, OnboardSettings()).machine_types
    assert (fan.machine_type, pump.machine_type) == ("fan", "pump")
    assert (fan.recordings, fan.hours, fan.bytes) == (3, 0.0083, 3 * 320_000)
    (asset,) = fan.plants[0].assets
    assert (asset.asset, asset.target, asset.source) == ("fan-00", 2, 1)
    assert asset.conditions == {"speed_level": {"low": 2}}


def test_a_customer_s_view_holds_only_what_it_may_use(store: FolderStore) -> None:
    send(store, "acme", "1" * 16, segments("t1"))
    send(store, "other", "2" * 16, segments("b1", "b2"))
    (fan,) = take_stock(store, OnboardSettings(), customer="acme").machine_types
    assert [(plant.customer, plant.source) for plant in fan.plants] == [("acme", 1)]
    set_consent(store, "other", share_source=True)
    (fan,) = take_stock(store, OnboardSettings(), customer="acme").machine_types
    assert [(plant.customer, plant.shared, plant.source) for plant in fan.plants] == [
        ("acme", False, 3),
        ("other", True, None),
    ]
    lent = fan.plants[1]
    assert lent.next is None
    assert lent.assets[0].next is None


def test_a_plant_without_machines_of_the_type_hears_what_its_first_would_start_with(store: FolderStore) -> None:
    send(store, "other", "2" * 16, segments(*(f"r{i}" for i in range(30))))
    set_consent(store, "other", share_source=True)
    (fan,) = take_stock(store, OnboardSettings(), customer="newcomer").machine_types
    newcomer = next(plant for plant in fan.plants if plant.customer == "newcomer")
    assert newcomer.source == 30
    assert newcomer.next is not None
    assert "starts with engine B" in newcomer.next


def test_what_a_further_machine_starts_with_counts_synthetic_recordings_for_synthetic_plants_alone(
    store: FolderStore,
) -> None:
    def counted(**changes: Any) -> dict[str, int | None]:
        (fan,) = take_stock(store, OnboardSettings(), **changes).machine_types
        return {plant.customer: plant.source for plant in fan.plants}

    send(store, "demo", "1" * 16, segments("toy1", "toy2", synthetic=True))
    set_consent(store, "demo", share_source=True)
    send(store, "acme", "2" * 16, segments("t1"))
    assert counted() == {"acme": 1, "demo": 2}
    assert counted(customer="newcomer") == {"demo": None, "newcomer": 0}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([segments("a")], "2 more normal clips of 10 s (0.64 MB): without 3"),
        ([segments(*"abcd")], "6 more normal clips"),
        ([segments(*"abcdefghij")], "30-120 s of the place with the machine off (3-12 clips of 10 s): 0 s"),
        (
            [
                segments(*"abcdefghij", speed_level="low"),
                segments("n", split="supplemental", supp_type="noise", duration_s=60.0),
            ],
            "1-3 minutes each (6-18 clips of 10 s) and name them in the table: so far speed_level names low 100 s",
        ),
        (
            [
                *(segments(f"{v}1", f"{v}2", f"{v}3", f"{v}4", speed_level=v, duration_s=20.0) for v in "xyz"),
                segments("n", split="supplemental", supp_type="noise", duration_s=60.0),
            ],
            "990 source and 10 target normals and 100 clips of noise or clean machine, about 352 MB",
        ),
    ],
    ids=["judged", "recommended", "noise", "conditions", "benchmark"],
)
def test_an_asset_is_told_the_next_milestone(parts: list[pd.DataFrame], said: str) -> None:
    ledger = join(pd.DataFrame(), pd.concat(parts, ignore_index=True), package_id="1" * 16)
    assert said in next_for_asset(ledger, OnboardSettings())


@pytest.mark.parametrize(
    ("count", "columns", "said"),
    [
        (29, {}, "29 of the 30 source normals that engine B needs are here; 1 more normal clip of"),
        (30, {}, "starts with engine B; engine C needs 170 more normal clips"),
        (200, {"speed_level": 1.0, "load_level": 0.94}, "(1 are; filled: speed_level 100%, load_level 94%)"),
        (200, {"speed_level": 1.0, "load_level": 0.95}, "may start with engine C: 200 source normals and speed_level"),
    ],
)
def test_a_plant_is_told_what_its_source_still_needs(count: int, columns: dict[str, float], said: str) -> None:
    usable = segments(*(f"r{i}" for i in range(count)))
    for column, share in columns.items():
        usable[column] = [("low", "high")[i % 2] if i < share * count else None for i in range(count)]
    assert said in next_for_plant("fan", usable, OnboardSettings())


def test_roles_of_the_library_are_normal() -> None:
    assert {Role.TEST, Role.NOISE, Role.RETRACTED}.isdisjoint(NORMALS)
