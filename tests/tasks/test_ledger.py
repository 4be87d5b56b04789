"""The ledger is a set of recordings: free of packages, order and repeats."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.ledger import Role, clip_set, join, ledger_version, role_of
from tasks.store import FolderStore


def rows(*recordings: str, split: str = "train", clip_ids: list[str] | None = None) -> pd.DataFrame:
    """Arrived rows of one asset, one segment a recording."""
    return pd.DataFrame(
        {
            "recording_id": list(recordings),
            "clip_id": clip_ids or [f"clip-{name}" for name in recordings],
            "segment": 0,
            "split": split,
            "domain": "target",
            "label": "normal",
            "supp_type": None,
            "role": Role.TARGET if split == "train" else Role.TEST,
        }
    )


EMPTY = pd.DataFrame()


def test_two_half_packages_make_the_whole_one_in_either_order() -> None:
    whole = join(EMPTY, rows("a", "b", "c", "d"), package_id="w" * 16)
    halves = join(join(EMPTY, rows("c", "a"), package_id="1" * 16), rows("d", "b"), package_id="2" * 16)
    turned = join(join(EMPTY, rows("d", "b"), package_id="2" * 16), rows("c", "a"), package_id="1" * 16)
    assert halves["recording_id"].tolist() == whole["recording_id"].tolist() == turned["recording_id"].tolist()
    assert ledger_version(halves) == ledger_version(whole) == ledger_version(turned)


def test_joining_twice_changes_nothing() -> None:
    once = join(EMPTY, rows("a", "b"), package_id="p" * 16)
    pd.testing.assert_frame_equal(join(once, rows("a", "b"), package_id="p" * 16), once)


def test_a_recording_that_another_package_brought_is_entered_once() -> None:
    first = join(EMPTY, rows("a", "b"), package_id="1" * 16)
    both = join(first, rows("b", "c"), package_id="2" * 16)
    assert both["recording_id"].tolist() == ["a", "b", "c"]
    assert both.set_index("recording_id").loc["b", "package"] == "1" * 16


def test_every_test_clip_sent_is_kept_even_if_it_repeats_a_recording() -> None:
    twice = rows("a", "a", split="test", clip_ids=["x", "y"])
    assert sorted(join(EMPTY, twice, package_id="1" * 16)["clip_id"]) == ["x", "y"]


def test_a_clip_id_that_names_another_recording_already_gets_the_package_behind_it() -> None:
    first = join(EMPTY, rows("a", clip_ids=["clip001"]), package_id="1" * 16)
    both = join(first, rows("b", clip_ids=["clip001"]), package_id="2222222233333333")
    assert both["clip_id"].tolist() == ["clip001", "clip001@22222222"]
    again = join(both, rows("b", clip_ids=["clip001"]), package_id="2222222233333333")
    pd.testing.assert_frame_equal(again, both)


def test_a_package_that_brings_nothing_new_changes_nothing() -> None:
    first = join(EMPTY, rows("a", "b"), package_id="1" * 16)
    pd.testing.assert_frame_equal(join(first, rows("b", "a"), package_id="2" * 16), first)


def test_a_corrected_label_replaces_the_older_one() -> None:
    normal = rows("a", split="test")
    first = join(EMPTY, normal, package_id="1" * 16)
    corrected = join(first, normal.assign(label="anomaly"), package_id="2" * 16)
    assert corrected["label"].tolist() == ["anomaly"]


def test_the_version_changes_with_what_a_recording_is() -> None:
    normal = rows("a", split="test")
    anomaly = normal.assign(label="anomaly")
    versions = {ledger_version(join(EMPTY, part, package_id="1" * 16)) for part in (normal, anomaly)}
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("split", "domain", "supp_type", "role"),
    [
        ("train", "target", None, Role.TARGET),
        ("train", "source", None, Role.SOURCE),
        ("test", "source", None, Role.TEST),
        ("supplemental", "target", "noise", Role.NOISE),
        ("supplemental", "source", "machine", Role.MACHINE),
    ],
)
def test_roles(split: str, domain: str, supp_type: str | None, role: Role) -> None:
    assert role_of(split, domain, supp_type) is role


def test_a_package_onboarded_again_does_not_undo_a_label_that_a_later_one_corrected() -> None:
    first = pd.concat([rows("n"), rows("a", split="test")], ignore_index=True)
    later = rows("a", split="test").assign(label="anomaly")
    both = join(join(EMPTY, first, package_id="1" * 16), later, package_id="2" * 16)
    again = join(both, first, package_id="1" * 16)
    pd.testing.assert_frame_equal(again, both)
    assert again.set_index("recording_id").loc["a", "label"] == "anomaly"


def test_the_version_changes_with_the_role_alone() -> None:
    ledger = join(EMPTY, rows("a", "b"), package_id="1" * 16)
    assert ledger_version(ledger) != ledger_version(ledger.assign(role=Role.RETRACTED.value))


def test_clips_carry_the_conditions_that_their_rows_name() -> None:
    conditions = {"speed_level": ["low", None], "noise_id": [None, None], "sample_rate": 16_000, "bandwidth_hz": 8000.0}
    found = rows("a", "b").assign(**conditions, audio="x")
    clips = clip_set(FolderStore(Path("nowhere")), found)
    assert [clip.conditions for clip in clips.clips] == [{"speed_level": "low"}, {}]
