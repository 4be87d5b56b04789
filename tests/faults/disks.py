"""Disks that are full, and disks that give back other bits than they were given."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@contextmanager
def small_disk(folder: Path, *, kib: int) -> Iterator[Path]:
    """A disk of so many KiB at `folder`.

    Raises
    ------
    PermissionError
        None may be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)], capture_output=True)
    if done.returncode != 0:
        raise PermissionError(f"no disk can be mounted here: {done.stderr.decode(errors='replace').strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def enlarge(folder: Path, *, kib: int) -> None:
    """Make room on a disk that `small_disk` mounted."""
    command = ["mount", "-o", f"remount,size={kib}k", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class FullFrom:
    """From the nth write on the store's disk is full, as the process that calls this sees it."""

    nth: int

    def __call__(self) -> None:
        from tasks.folder_store import FolderStore

        place, left = FolderStore._place, [self.nth]

        def place_if_there_is_room(self: FolderStore, key: str, write: Callable[[Path], object]) -> None:
            left[0] -= 1
            place(self, key, write if left[0] > 0 else _no_room)

        FolderStore._place = place_if_there_is_room  # type: ignore[method-assign]


def _no_room(path: Path) -> None:
    # A part of it is written, as of a disk that fills up.
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def flip_bit(path: Path, *, at: float) -> None:
    """Flip one bit of a file, so far from its beginning (0 to 1), as a disk does: nothing else of it changes."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[min(int(at * len(data)), len(data) - 1)] ^= 0x10
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
