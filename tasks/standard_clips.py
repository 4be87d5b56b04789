"""Recordings in standard form, cut into segments and stored, on the one pass that judges them.

The gate decodes every recording anyway, so its standard form is stored then and there, before the verdict on the whole
package. Clip objects are named by what they hold; until a package's `quality.json` is written they count for nothing,
and those that the verdict leaves unused are taken away again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

import pandas as pd

from engines.standardize import Standardized, cut_segments
from schemas.references import Package
from schemas.settings import StandardizeSettings
from tasks import keys
from tasks.clip_files import to_flac
from tasks.store import ObjectStore

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
        self._new: set[str] = set()
        self._lock = threading.Lock()

    def add(self, path: str, standard: Standardized) -> None:
        """Cut the recording of the file `path` into segments and store each."""
        cuts = cut_segments(len(standard.codes), standard.sample_rate, segment_s=self._segment_s)
        segments = [self._store_segment(path, standard, number, cut) for number, cut in enumerate(cuts)]
        with self._lock:
            self._segments[path] = segments

    def of(self, path: str) -> list[Segment]:
        """The segments of one recording, in order; none where it was not added."""
        return self._segments.get(path, [])

    def table(self, paths: Collection[str]) -> pd.DataFrame:
        """The segments of the recordings `paths`, in that order."""
        return pd.DataFrame([segment for path in paths for segment in self.of(path)], columns=list(COLUMNS))

    def keep_only(self, paths: Collection[str]) -> None:
        """Take away every object that was new here and that none of the recordings `paths` needs."""
        needed = {str(segment["audio"]) for path in paths for segment in self.of(path)}
        for key in sorted(self._new - needed):
            self._store.delete(key)
        self._new &= needed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.keep_only(())

    def _store_segment(self, path: str, standard: Standardized, number: int, cut: tuple[int, int]) -> Segment:
        start, stop = cut
        codes, rate = standard.codes[start:stop], standard.sample_rate
        name = hashlib.sha256(codes.tobytes() + str(rate).encode()).hexdigest()[:12]
        key = keys.clip_audio(self._package.customer, self._package.package_id, name)
        if not self._store.exists(key):
            self._store.put(key, to_flac(codes, rate))
            with self._lock:
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


def stored_segments(store: ObjectStore, package: Package, table: pd.DataFrame) -> Mapping[str, list[Segment]]:
    """The segments of every recording of `table` whose objects are all there, by path."""
    there = set(store.list_keys(keys.package(package.customer, package.package_id, "audio/")))
    by_path: dict[str, list[Segment]] = {}
    for segment in table.to_dict("records"):
        by_path.setdefault(str(segment["relative_path"]), []).append({str(k): v for k, v in segment.items()})
    return {path: own for path, own in by_path.items() if all(segment["audio"] in there for segment in own)}
