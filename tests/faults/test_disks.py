"""Full disks and disks that lie: a run says so and files nothing half; once they are mended, the next one ends well."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.store import FolderStore
from tests.faults.disks import FullFrom, enlarge, flip_bit, small_disk
from tests.faults.outputs import differing, half_runs, outputs
from tests.faults.rig import FAILED, Hands, Job

pytestmark = pytest.mark.faults

ROOM_KIB = 65_536


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for little more than nothing."""
    try:
        with small_disk(tmp_path / "disk", kib=64) as folder:
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_disk_that_fills_up_in_a_run_ends_it_with_the_remedy_and_room_mends_it(
    disk: Path, package: Path, undisturbed: dict[str, bytes], workers: Hands
) -> None:
    store = FolderStore(disk / "store")
    whole = sum(map(len, undisturbed.values())) // 1024
    for share in (0.02, 0.5, 0.85):
        enlarge(disk, kib=max(64, int(share * whole)))
        assert workers.run(Job(store.url, str(package))) == FAILED
        assert "No space left on device; check the disk" in workers.said()
    enlarge(disk, kib=ROOM_KIB)
    workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()


def test_whichever_write_meets_a_full_disk_the_next_run_goes_on(
    package: Path, undisturbed: dict[str, bytes], workers: Hands, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    for nth in (1, 6, 12, 18):
        assert workers.run(Job(store.url, str(package), faults=(FullFrom(nth),))) == FAILED
        assert "No space left on device" in workers.said()
    assert [path for path in store.root.rglob(".writing-*") if not path.name.startswith(".writing-lock-")] == []
    workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}


def test_a_machine_without_room_for_scratch_is_at_fault_and_not_the_package(
    disk: Path, package: Path, undisturbed: dict[str, bytes], workers: Hands, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    assert workers.run(Job(store.url, str(package), environment={"TMPDIR": str(disk)})) == FAILED
    assert "lacks space on its disk" in workers.said()
    workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}


MANIFEST = "runs/*/*/manifest.json"
LIES = {
    "raw": ("raw/*/*.zip", ("runs/**/*.*", "packages/**/*.*")),
    "clips": ("packages/*/*/audio/*.flac", (MANIFEST, "assets/*/*/models/**/*.*")),
    "ledger": ("assets/*/*/ledger.parquet", (MANIFEST,)),
    "model": ("assets/*/*/models/*/*.safetensors", (MANIFEST, "assets/*/*/models/*/scores.parquet")),
    "scores": ("assets/*/*/models/*/scores.parquet", (MANIFEST,)),
    "champion": ("assets/*/*/champion.json", (MANIFEST,)),
}
"""Which objects lie, and which are made anew, of what those say."""


@pytest.mark.parametrize("what", LIES)
def test_a_bit_that_flipped_on_the_disk_is_found_and_never_heeded(
    what: str, calm_store: FolderStore, package: Path, undisturbed: dict[str, bytes], workers: Hands, tmp_path: Path
) -> None:
    pattern, forgotten = LIES[what]
    store = FolderStore(tmp_path / "store")
    shutil.copytree(calm_store.root, store.root)
    for path in [path for each in forgotten for path in store.root.glob(each)]:
        path.unlink()
    sound = {path: path.read_bytes() for path in store.root.glob(pattern)}
    for path in sound:
        flip_bit(path, at=0.6)
    assert workers.run(Job(store.url, str(package))) == FAILED, "it was read, and nobody noticed"
    assert re.search(rf"({'|'.join(re.escape(str(path)) for path in sound)}) is damaged", workers.said())
    for path, data in sound.items():
        path.write_bytes(data)
    workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()
