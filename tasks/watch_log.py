"""What was judged while an asset was watched, and where its alarm stands: a kill loses and repeats nothing.

**The invariant.** A batch of rows, filed as one object, is the record; everything else follows from it. The last row of
a batch carries the alarm's state after it, and a row that raises an alarm carries the whole alarm. So:

- a recording is judged exactly if a row holds it, known by its sound and its file; what has no row is judged again;
- the state is that of the last row, so no clip enters a window twice, and none is left out;
- `alarms/<id>.json`, `alarms/state.json` and the message to people are derived: `tasks.alarms` writes them after the
  rows, and makes up for what a kill cut off before anything else is judged. An alarm's id is a hash of the recording
  and the model that raised it, so that what is derived again is the same again. Its picture needs the sound, which a
  recorder may delete, and is therefore written before the rows: without a row it is a file that nobody names;
- rows are filed under one lock an asset, on what lies in the store then: of two who watch, the second finds the rows of
  the first and leaves those recordings out.

Rows lie in parts, `monitor/<model version>/<number>.parquet`, numbered through all versions in the order they were
begun; the last part is written anew with each batch until it is full. A champion's *reign* is its parts since another
one's: a new reign starts a part and a window of its own, also where that champion judged before, and takes over when
the last alarm was raised and whether it ended: a change of models does not ring twice for one fault, and an alarm that
it left open is open until the new model has heard its low clips. What any champion has judged is not judged again.

Units: times are UTC, those of a recording the time its file was written; severities 0-100.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from engines.alarm import AlarmState
from schemas.errors import StoreError
from tasks import keys
from tasks.plain_text import printable
from tasks.store import ObjectStore, frame_bytes

PART_ROWS = 2000
"""Rows of a part: at a clip a minute a day and a half, written anew in some 20 ms."""

PACED = 20_000
"""The last recordings of which it is kept when they were made, to tell how often they come."""

_ALSO_SEEN = "also_seen.parquet"

_DTYPES = {
    **dict.fromkeys(("recording_id", "file_sha", "name"), "string"),
    "bytes": "int64",
    **dict.fromkeys(("modified", "time"), "datetime64[us, UTC]"),
    "duration_s": "float64",
    **dict.fromkeys(("model_version", "engine"), "string"),
    **dict.fromkeys(("score", "p_value", "severity"), "float64"),
    **dict.fromkeys(("grade", "state", "decision"), "string"),
    "exceeded": "boolean",
    **dict.fromkeys(("notes", "alarm_id", "transition", "alarm", "alarm_state"), "string"),
}


class Row(BaseModel):
    """One recording judged, or refused by the quality gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str | None = Field(description="By its sound; None where it cannot be decoded.")
    file_sha: str = Field(description="By its bytes; empty where they were not read.")
    name: str = Field(description="What the recorder called it.")
    bytes: int
    modified: datetime = Field(description="When the file was written.")
    time: datetime = Field(description="When it was recorded, as far as is known: when the file was written.")
    duration_s: float | None
    model_version: str
    engine: str
    score: float | None = Field(description="None where the quality gate refused it, as all that follows from it.")
    p_value: float | None
    severity: float | None
    grade: str | None
    state: str | None
    decision: Literal["alarm", "normal", "off", "not comparable", "refused"]
    exceeded: bool | None
    notes: str = Field(description="Rules of the quality gate that it breaks, parted by commas.")
    alarm_id: str | None = Field(default=None, description="The alarm that is on at this clip, or ends on it.")
    transition: Literal["raised", "cleared"] | None = None
    alarm: str | None = Field(default=None, description="JSON of the alarm that this clip raises.")
    alarm_state: str | None = Field(default=None, description="JSON of the state after it; of a batch's last row.")


class SeenFile(NamedTuple):
    """A file as it lay there when it was read."""

    name: str
    bytes: int
    modified: datetime


class Known(NamedTuple):
    """What was read before: its name then, and whether the quality gate refused it."""

    name: str
    refused: bool


class Made(NamedTuple):
    """When a recording was made, as far as is known, and how long it is, in s."""

    time: datetime
    duration_s: float


class Judged(NamedTuple):
    """The recording that a file of some name held when it was last judged."""

    recording_id: str
    duration_s: float


class WatchLog:
    """The rows of an asset in a champion's reign, and what any champion has judged.

    `state` and `alarm_id` are those after the last row; `presumed` the scores, oldest first, of the clips that this
    champion found normal, while no alarm was on and in no alarm's window. `refused_in_a_row` counts the last rows
    without a good recording, by whichever champion, and `last_good` is when the last good one was recorded. `made` are
    the last `PACED` recordings that entered an alarm rule's window, by whichever champion, as they were filed.
    """

    def __init__(self, store: ObjectStore, customer: str, asset_id: str, version: str) -> None:
        self._store, self._customer, self._asset_id = store, customer, asset_id
        self.version = version
        self._load()

    def _load(self) -> None:
        self.state, self.alarm_id = AlarmState(), None
        self.refused_in_a_row = 0
        self.last_good: datetime | None = None
        self.made: deque[Made] = deque(maxlen=PACED)
        self._presumed: dict[str, float] = {}
        self._files: set[SeenFile] = set()
        self._hashes: dict[str, Known] = {}
        self._recordings: dict[str, Known] = {}
        self._names: dict[str, Judged] = {}
        self._last_part = self._find_last_part()
        parts = part_keys(self._store, self._customer, self._asset_id)
        others = [_number_of(key) for key in parts if _version_of(key) != self.version]
        self._first = max(others, default=0) + 1
        self.reign = f"{self.version}-{self._first}"
        for key in parts:
            self._take_in(_read(self._store, key), reigns=self._is_of_reign(key))
        also = self._key(_ALSO_SEEN)
        self._also_seen = self._store.get_frame(also) if self._store.exists(also) else None
        if self._also_seen is not None:
            self._files.update(_seen_files(self._also_seen))

    def _key(self, name: str) -> str:
        return keys.monitor(self._customer, self._asset_id, name)

    @property
    def has_reigned(self) -> bool:
        """Whether the last row is of this reign; else another champion filed it, or there is none."""
        return self._last_part is not None and self._is_of_reign(self._last_part[0])

    def _is_of_reign(self, key: str) -> bool:
        return _version_of(key) == self.version and _number_of(key) >= self._first

    def _find_last_part(self) -> tuple[str, str] | None:
        """Its key and the version of it that lies there."""
        parts = part_keys(self._store, self._customer, self._asset_id)
        return (parts[-1], self._store.stat(parts[-1]).etag) if parts else None

    def _take_in(self, rows: pd.DataFrame, *, reigns: bool) -> None:
        if rows.empty:
            return
        self._files.update(_seen_files(rows))
        self._hashes |= _known_by(rows, "file_sha")
        self._recordings |= _known_by(rows, "recording_id")
        self._count_refused(rows)
        entered = rows[rows["exceeded"].notna()]
        self.made.extend(map(Made, entered["time"].dt.to_pydatetime(), entered["duration_s"].tolist()))
        last = rows.iloc[-1]
        state = AlarmState.model_validate_json(last["alarm_state"])
        if not reigns:
            self.state, self.alarm_id, self._presumed = succeed(state), None, {}
            return
        presumed = rows[(rows["decision"] == "normal") & rows["exceeded"].notna() & rows["alarm_id"].isna()]
        self._presumed |= dict(zip(presumed["recording_id"], presumed["score"], strict=True))
        for alarm in rows["alarm"].dropna():
            for clip in json.loads(alarm)["clips"]:
                self._presumed.pop(clip, None)
        self.state = state
        self.alarm_id = last["alarm_id"] if state.phase == "alarm" else None

    def _count_refused(self, rows: pd.DataFrame) -> None:
        good = rows[~rows["decision"].isin(["refused", "not comparable"])]
        if good.empty:
            self.refused_in_a_row += len(rows)
            return
        self.refused_in_a_row = len(rows) - 1 - int(good.index[-1] - rows.index[0])
        self.last_good = good["time"].iloc[-1].to_pydatetime()
        heard = zip(good["name"], good["recording_id"], good["duration_s"].fillna(0.0), strict=True)
        self._names |= {name: Judged(recording_id, duration) for name, recording_id, duration in heard}

    @property
    def presumed(self) -> list[float]:
        """Scores, oldest first, of what this champion found normal in its reign."""
        return list(self._presumed.values())

    def knows_file(self, file: SeenFile) -> bool:
        """Whether that very file was read before, by name, size and time; nothing has to be read to ask."""
        return SeenFile(printable(file.name), file.bytes, file.modified) in self._files

    def same_as(self, *, file_sha: str, recording_id: str | None) -> Known | None:
        """What the same file, or the same sound in another file, was before."""
        by_sound = self._recordings.get(recording_id) if recording_id else None
        return by_sound or self._hashes.get(file_sha)

    def judged_as(self, name: str) -> Judged | None:
        """The recording that a file of this printable name held when it was last judged."""
        return self._names.get(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from filing rows of the asset, after taking in what they have filed meanwhile."""
        with self._store.lock(self._key("rows")):
            if self._find_last_part() != self._last_part:
                self._load()
            yield

    def file_rows(self, rows: Sequence[Row]) -> None:
        """File a batch, whole or not at all; call it inside `locked`. The last row carries the state.

        Raises
        ------
        ConflictError
            Somebody else has filed rows since: the lock was lost.
        """
        assert rows[-1].alarm_state is not None
        fresh = as_frame(rows)
        number, before = 1, None
        if self._last_part is not None:
            last = self._last_part[0]
            number, before = _number_of(last), _read(self._store, last) if self._is_of_reign(last) else None
            if before is None or len(before) >= PART_ROWS:
                number, before = number + 1, None
        if before is not None:
            fresh = pd.concat([before, fresh], ignore_index=True)
            fresh.loc[fresh.index[:-1], "alarm_state"] = pd.NA
        key = self._key(f"{self.version}/{number:06d}.parquet")
        expected = None if before is None or self._last_part is None else self._last_part[1]
        self._last_part = (key, self._store.replace(key, frame_bytes(fresh), expected=expected))
        self._take_in(as_frame(rows), reigns=True)

    def note_files(self, files: Iterable[SeenFile]) -> None:
        """Remember files that hold what was judged before, so that they are not read again; a kill costs a reading."""
        known = [(printable(file.name), file.bytes, file.modified) for file in files]
        fresh = pd.DataFrame(known, columns=list(SeenFile._fields))
        if fresh.empty:
            return
        key = self._key(_ALSO_SEEN)
        with self._store.lock(key):
            before = self._store.get_frame(key) if self._store.exists(key) else None
            together = fresh if before is None else pd.concat([before, fresh], ignore_index=True)
            self._store.put_frame(key, together.drop_duplicates().reset_index(drop=True))
        self._files.update(_seen_files(fresh))

    def last_rows(self) -> pd.DataFrame:
        """The last part, by whichever champion: where a kill can have cut off what follows from rows."""
        return as_frame([]) if self._last_part is None else _read(self._store, self._last_part[0])


def part_keys(store: ObjectStore, customer: str, asset_id: str, version: str = "") -> list[str]:
    """Keys of all parts, or those of one champion, in the order they were begun."""
    prefix = keys.monitor(customer, asset_id, f"{version}/" if version else "")
    found = [key for key in store.list_keys(prefix) if not key.endswith(_ALSO_SEEN) and key.endswith(".parquet")]
    return sorted(found, key=_number_of)


def read_rows(store: ObjectStore, customer: str, asset_id: str, version: str | None = None) -> pd.DataFrame:
    """Every row of an asset, or those of one champion, in the order they were filed; columns as in `Row`."""
    parts = [_read(store, key) for key in part_keys(store, customer, asset_id, version or "")]
    return pd.concat(parts, ignore_index=True) if parts else as_frame([])


def _version_of(key: str) -> str:
    return key.split("/")[-2]


def _number_of(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".parquet"))


def read_state(store: ObjectStore, customer: str, asset_id: str, version: str) -> AlarmState:
    """Where the alarm of an asset stands for a champion, by the last part alone; what `WatchLog.state` is."""
    parts = part_keys(store, customer, asset_id)
    if not parts:
        return AlarmState()
    state = AlarmState.model_validate_json(_read(store, parts[-1])["alarm_state"].iloc[-1])
    return state if _version_of(parts[-1]) == version else succeed(state)


class Counted(NamedTuple):
    """How many recordings were judged, how many refused, and when the newest that was judged was recorded."""

    judged: int
    refused: int
    last: datetime | None


def count_recordings(store: ObjectStore, customer: str, asset_id: str, version: str) -> Counted:
    """What one champion has judged, over all its parts.

    Raises
    ------
    StoreError
        A part is damaged.
    """
    parts = part_keys(store, customer, asset_id, version)
    counted = [_count_closed(store, key) for key in parts[:-1]] + [_count(store, key) for key in parts[-1:]]
    last = max((each.last for each in counted if each.last is not None), default=None)
    return Counted(sum(each.judged for each in counted), sum(each.refused for each in counted), last)


def _count(store: ObjectStore, key: str) -> Counted:
    data = store.get(key)
    try:
        rows = pd.read_parquet(io.BytesIO(data), columns=["decision", "time"])
    except (OSError, ValueError) as error:
        raise StoreError(f"{key} is damaged ({error}); put it back from a backup") from error
    judged = rows[rows["decision"] != "refused"]
    last = None if judged.empty else judged["time"].max().to_pydatetime()
    return Counted(len(judged), len(rows) - len(judged), last)


@lru_cache(maxsize=10_000)
def _count_closed(store: ObjectStore, key: str) -> Counted:
    """The same of a part that another one follows: it does not change, and a year of rows has a hundred."""
    return _count(store, key)


def succeed(state: AlarmState) -> AlarmState:
    """Where a champion begins that takes over from another: with an empty window, and what is left of hold-off.

    Clips judged by another model say nothing to this one's rule, but the fault that rang may still be there.
    """
    return AlarmState(
        phase="armed" if state.phase == "armed" else "hold_off",
        since=state.since,
        raised_at=state.raised_at,
        held_s=state.held_s,
        cleared_at=state.cleared_at,
        last_time=state.last_time,
        raised=state.raised,
    )


def is_left_open(state: AlarmState, *, rearm_clips: int) -> bool:
    """Whether the last alarm was on when this model took over, and so many low clips have not come since."""
    return _is_inherited(state) and state.quiet_clips < rearm_clips


def is_loud(state: AlarmState) -> bool:
    """Whether the newest clip of the window exceeds."""
    return bool(state.recent) and state.recent[-1].exceeded


def hear_out(state: AlarmState, *, rearm_clips: int, time: datetime) -> AlarmState:
    """The state in which an alarm that another model left open is over, where this one has heard its low clips."""
    is_over = _is_inherited(state) and state.quiet_clips >= rearm_clips
    return state.model_copy(update={"cleared_at": time}) if is_over else state


def _is_inherited(state: AlarmState) -> bool:
    """Whether the last alarm was another model's and has no end; what is raised here is on, or was cleared."""
    return state.phase != "alarm" and state.raised_at is not None and state.cleared_at is None


def as_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table, columns as in `Row`."""
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in _DTYPES}
    return pd.DataFrame({name: pd.Series(values, dtype=_DTYPES[name]) for name, values in columns.items()})


def _read(store: ObjectStore, key: str) -> pd.DataFrame:
    return store.get_frame(key).astype(_DTYPES)


def _seen_files(rows: pd.DataFrame) -> Iterator[SeenFile]:
    times = rows["modified"].dt.to_pydatetime()
    return map(SeenFile, rows["name"], rows["bytes"].tolist(), times)


def _known_by(rows: pd.DataFrame, column: str) -> dict[str, Known]:
    known = rows[rows[column].notna() & (rows[column] != "")]
    return dict(zip(known[column], map(Known, known["name"], known["decision"] == "refused"), strict=True))
