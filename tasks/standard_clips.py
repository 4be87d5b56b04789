"""Recordings in standard form, cut into segments and stored, on the one pass that judges them.

The gate decodes every recording anyway, so its standard form is stored then and there, before the verdict on the whole
package. Clip objects are named by what they hold; until a package's `quality.json` is written they count for nothing,
and those that the verdict leaves unused are taken away again, with what a killed run left. Two runs may work on one
package: objects are taken away under the package's lock alone, none that is filed, and what one run takes away though
the other one counted on it is made anew when that one files the package.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from engines.recordings import split
from engines.standardize import StandardForm, cut_segments
from schemas.references import Package
from schemas.settings import StandardizeSettings
from tasks import keys
from tasks.clip_files import to_flac
from tasks.ledger import asset_ids
from tasks.store import ObjectStore, OverlayStore

Segment = dict[str, object]
"""relative_path, segment, start_s, stop_s, duration_s, sample_rate, bandwidth_hz, lost_energy, audio (store key)."""

COLUMNS = (
    *("relative_path", "segment", "start_s", "stop_s", "duration_s"),
    *("sample_rate", "bandwidth_hz", "lost_energy", "audio"),
)


class StandardClips:
    """The standard clips of one package, as they are made; a context that leaves nothing behind where it fails.

    Adding recordings from several threads is safe.
    """

    def __init__(self, store: ObjectStore, package: Package, settings: StandardizeSettings) -> None:
        self._store = store
        self._package = package
        self._segment_s = settings.segment_s
        self._segments: dict[str, list[Segment]] = {}
        # One listing: to ask for each would be a request for each where the store is remote.
        self._there = stored_keys(store, package)
        self._new: set[str] = set()
        self._lock = threading.Lock()

    def add(self, path: str, standard: StandardForm) -> None:
        """Cut the recording of the file `path` into segments and store each."""
        cuts = cut_segments(standard.samples, standard.sample_rate, segment_s=self._segment_s)
        codes = split(standard.pieces(), [stop - start for start, stop in cuts])
        segments = [
            self._store_segment(path, standard, number, cut, own)
            for number, (cut, own) in enumerate(zip(cuts, codes, strict=True))
        ]
        with self._lock:
            self._segments[path] = segments

    def adopt(self, path: str, segments: list[Segment]) -> None:
        """Take over the segments of a recording that somebody else has stored."""
        with self._lock:
            self._segments[path] = segments

    def of(self, path: str) -> list[Segment]:
        """The segments of one recording, in order; none where it was not added."""
        return self._segments.get(path, [])

    def table(self, paths: Collection[str]) -> pd.DataFrame:
        """The segments of the recordings `paths`, in that order."""
        return pd.DataFrame([segment for path in paths for segment in self.of(path)], columns=list(COLUMNS))

    def keep_only(self, paths: Collection[str]) -> None:
        """Take away every object of the package but those that the recordings `paths` need and those that are filed."""
        needed = {str(segment["audio"]) for path in paths for segment in self.of(path)}
        with package_lock(self._store, self._package):
            remove_unneeded(self._store, self._package, needed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with package_lock(self._store, self._package):
                remove_unneeded(self._store, self._package, (), among=self._new)

    def _store_segment(
        self, path: str, standard: StandardForm, number: int, cut: tuple[int, int], codes: NDArray[np.int32]
    ) -> Segment:
        start, stop = cut
        rate = standard.sample_rate
        digest = hashlib.sha256(np.ascontiguousarray(codes).data)
        digest.update(str(rate).encode())
        name = digest.hexdigest()[:12]
        key = keys.clip_audio(self._package.customer, self._package.package_id, name)
        if key not in self._there:
            self._store.put(key, to_flac(codes, rate))
            with self._lock:
                self._there.add(key)
                self._new.add(key)
        return {
            "relative_path": path,
            "segment": number,
            "start_s": start / rate,
            "stop_s": stop / rate,
            "duration_s": len(codes) / rate,
            "sample_rate": rate,
            "bandwidth_hz": standard.bandwidth_hz,
            "lost_energy": standard.lost_energy,
            "audio": key,
        }


def package_lock(store: ObjectStore, package: Package) -> AbstractContextManager[None]:
    """Held by whoever files the package or takes away objects of it."""
    return store.lock(keys.package(package.customer, package.package_id, "quality.json"))


def stored_keys(store: ObjectStore, package: Package) -> set[str]:
    """The clip objects of a package that are there."""
    return set(store.list_keys(keys.package(package.customer, package.package_id, "audio/")))


def remove_unneeded(
    store: ObjectStore, package: Package, needed: Collection[str], *, among: Collection[str] | None = None
) -> None:
    """Take away the package's clip objects (default: all) that neither `needed` names nor anything filed.

    To be called under the package's lock. Of a dry run nothing is taken away: its sheet goes as a whole.
    """
    if isinstance(store, OverlayStore):
        return
    unneeded = (stored_keys(store, package) if among is None else set(among)).difference(needed)
    for key in sorted(unneeded - _filed_keys(store, package) if unneeded else ()):
        store.delete(key)


def _filed_keys(store: ObjectStore, package: Package) -> set[str]:
    """The clip objects that the package's table names, or a ledger or the library from an earlier filing of it."""
    home = keys.package(package.customer, package.package_id, "metadata.parquet")
    if not store.exists(home):
        return set()
    ledgers = [keys.asset(package.customer, name, "ledger.parquet") for name in asset_ids(store, package.customer)]
    lent = [key for key in store.list_keys("library/") if _is_of(package, key)]
    return {str(key) for table in (home, *ledgers, *lent) for key in store.get_frame(table)["audio"]}


def _is_of(package: Package, library_key: str) -> bool:
    return keys.library_parts(library_key)[1:] == (package.customer, package.package_id)


def stored_segments(store: ObjectStore, package: Package, table: pd.DataFrame) -> Mapping[str, list[Segment]]:
    """The segments of every recording of `table` whose objects are all there, by path."""
    there = stored_keys(store, package)
    by_path: dict[str, list[Segment]] = {}
    for segment in table.to_dict("records"):
        by_path.setdefault(str(segment["relative_path"]), []).append({str(k): v for k, v in segment.items()})
    return {path: own for path, own in by_path.items() if all(segment["audio"] in there for segment in own)}
