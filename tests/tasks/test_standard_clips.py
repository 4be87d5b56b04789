"""Standard clips are stored while a package is judged; nothing is left of what the verdict does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.standardize import standardize
from schemas.references import Package
from schemas.settings import StandardizeSettings
from tasks.clip_files import from_flac
from tasks.standard_clips import StandardClips, stored_segments
from tasks.store import FolderStore, open_store, overlay_url

RATE = 16_000
PACKAGE = Package(customer="acme", package_id="0" * 16, name="p.zip", raw_key="raw/acme/p.zip", files=1, bytes=1)


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE))).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


HOME = f"packages/acme/{'0' * 16}/metadata.parquet"


def stored(store: FolderStore) -> list[str]:
    return [key for key in store.list_keys() if key.endswith(".flac")]


def clips_of(store: FolderStore) -> StandardClips:
    return StandardClips(store, PACKAGE, StandardizeSettings())


def test_a_long_recording_is_stored_in_segments_that_give_it_back(store: FolderStore) -> None:
    standard = standardize(sound(0, 25.0), RATE, target_rate=RATE)
    clips = clips_of(store)
    clips.add("audio/long.wav", standard)
    table = clips.table(["audio/long.wav"])

    assert table["segment"].tolist() == [0, 1, 2]
    assert table["start_s"].tolist() == [0, 10, 20]
    assert table["stop_s"].tolist() == [10, 20, 25]
    joined = np.concatenate([from_flac(store.get(key), key=key) for key in table["audio"]])
    assert np.array_equal(joined, standard.waveform)


def test_what_the_verdict_does_not_need_is_taken_away(store: FolderStore) -> None:
    clips = clips_of(store)
    for name, seed in (("a", 0), ("b", 1), ("copy of a", 0)):
        clips.add(name, standardize(sound(seed), RATE, target_rate=RATE))
    clips.keep_only(["a"])

    assert list(store.list_keys()) == clips.table(["a"])["audio"].tolist()


def test_what_another_run_filed_meanwhile_is_never_taken_away(store: FolderStore) -> None:
    def fail() -> None:
        with clips_of(store) as interrupted:
            interrupted.add("a", standardize(sound(0), RATE, target_rate=RATE))
            interrupted.add("b", standardize(sound(1), RATE, target_rate=RATE))
            other = clips_of(store)
            other.add("a", standardize(sound(0), RATE, target_rate=RATE))
            store.put_frame(HOME, other.table(["a"]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    clips_of(store).keep_only([])

    assert stored(store) == store.get_frame(HOME)["audio"].tolist()


@pytest.mark.parametrize("table", ["assets/acme/fan-00/ledger.parquet", f"library/fan/acme-{'0' * 16}.parquet"])
def test_what_a_ledger_or_the_library_has_from_an_earlier_filing_is_kept(store: FolderStore, table: str) -> None:
    clips = clips_of(store)
    for name, seed in (("a", 0), ("b", 1), ("left over", 2)):
        clips.add(name, standardize(sound(seed), RATE, target_rate=RATE))
    store.put_frame(HOME, clips.table(["a"]))
    store.put_frame(table, clips.table(["b"]))
    clips.keep_only([])

    assert stored(store) == sorted(clips.table(["a", "b"])["audio"])


def test_what_a_killed_run_left_is_taken_away_by_the_next_pass(store: FolderStore) -> None:
    clips_of(store).add("killed", standardize(sound(0), RATE, target_rate=RATE))
    again = clips_of(store)
    again.add("a", standardize(sound(1), RATE, target_rate=RATE))
    again.keep_only(["a"])

    assert stored(store) == again.table(["a"])["audio"].tolist()


def test_a_dry_run_takes_nothing_away(store: FolderStore, tmp_path: Path) -> None:
    clips_of(store).add("left over", standardize(sound(0), RATE, target_rate=RATE))
    before = stored(store)
    StandardClips(open_store(overlay_url(store.url, tmp_path / "sheet")), PACKAGE, StandardizeSettings()).keep_only([])

    assert stored(store) == before != []


def test_a_pass_that_fails_leaves_nothing(store: FolderStore) -> None:
    def fail() -> None:
        with clips_of(store) as clips:
            clips.add("a", standardize(sound(0), RATE, target_rate=RATE))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(store.list_keys()) == []


def test_a_recording_that_lost_a_segment_counts_as_not_stored(store: FolderStore) -> None:
    clips = clips_of(store)
    clips.add("long", standardize(sound(0, 15.0), RATE, target_rate=RATE))
    clips.add("short", standardize(sound(1), RATE, target_rate=RATE))
    table = clips.table(["long", "short"])
    store.delete(table["audio"].iloc[1])

    assert list(stored_segments(store, PACKAGE, table)) == ["short"]
