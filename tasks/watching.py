"""Watch an asset: find new recordings, judge them, raise and clear alarms, and tell people.

A `Watcher` keeps the champion in memory and looks at its source whenever it is asked to. Whatever kills it, the next
one goes on where it stopped (`tasks.watch_log` says why). A file that cannot be judged is named with what to do, filed
as refused, and keeps no other from being judged; it is looked at again when it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import EnvironmentFault, InputError
from schemas.problems import Problem
from schemas.rules import report
from tasks.alarms import Alarm, describe_happening, make_up, untold_alarms, write_alarms, write_state
from tasks.drifting import DriftState, judge_windows, untold_drift
from tasks.events import Tell
from tasks.hearing import Heard, hear, refused_unread, too_large
from tasks.monitoring import BATCH, Judgement, Watch, load_watch, read_champion
from tasks.parallel import ordered_map
from tasks.raising import Batch
from tasks.recordings import UNFINISHED_RULES, Settling, Source
from tasks.store import ObjectStore
from tasks.telling import tell_once
from tasks.watch_log import Row, SeenFile, WatchLog, as_frame, printable

TELL_AGAIN_S = 30.0
"""Before a server that did not answer is asked again: judging must not wait for it at every look."""

NewsKind = Literal["champion", "away", "judged", "refused", "repeated", "drifted", "told", "not_told", "nobody_told"]


@dataclass(frozen=True, eq=False)
class News:
    """Something that a look brought, for whoever looks on; `text` says why, where there is a why."""

    kind: NewsKind
    row: Row | None = None
    heard: Heard | None = None
    judgement: Judgement | None = None
    alarm: Alarm | None = None
    text: str = ""


@dataclass
class Tally:
    """What looks brought in all; `refused` says why, by name, and `waiting` counts files not finished at the last."""

    judged: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    raised: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    told: int = 0
    waiting: int = 0
    drifted: bool = False


class Watcher:
    """Watches one asset.

    source: where recordings come from. patience: looks at an unfinished file before it is called broken; None where
    there is only one look. tell: how people are told; None: no Prefect server is configured. on_news: called with
    everything that happens, as it happens.
    """

    def __init__(
        self,
        store: ObjectStore,
        watch: Watch,
        source: Source,
        *,
        patience: int | None,
        tell: Tell | None,
        on_news: Callable[[News], None] = lambda news: None,
    ) -> None:
        self.tally = Tally()
        self._store, self._source, self._tell, self._on_news = store, source, tell, on_news
        self._settling = Settling(patience=patience)
        self._unreadable: set[SeenFile] = set()
        self._tell_after = 0.0
        self._use(watch)

    def _use(self, watch: Watch) -> None:
        """Judge by this champion from now on, once what a kill cut off is made up for."""
        self.watch = watch
        self._log = WatchLog(self._store, watch.customer, watch.asset_id, watch.champion.version)
        self._drift: DriftState | None = None
        self._has_to_tell = self._is_behind = True
        self._catch_up()

    def _catch_up(self) -> None:
        """Write what follows from the last rows, where whoever filed them did not come to it."""
        if self._is_behind:
            with self._log.locked():
                make_up(self._store, self.watch.customer, self.watch.asset_id, self._log)
            self._is_behind = False

    def look(self, *, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Judge what is new; the number of files that were read.

        Raises
        ------
        StoreError
            The store cannot be read or written; whoever looks again goes on where this stopped.
        """
        self._catch_up()
        self._follow_champion()
        found = self._find()
        for start in range(0, len(found), BATCH):
            if should_stop():
                break
            self._judge_batch(found[start : start + BATCH])
        self.tally.waiting = self._settling.waiting
        self._judge_drift()
        return len(found)

    def tell_people(self) -> None:
        """Tell of what nobody was told yet; what cannot be told now is tried again half a minute later."""
        if not self._has_to_tell or time.monotonic() < self._tell_after:
            return
        try:
            self.tally.told += tell_of_all(
                self._store, self.watch.customer, self.watch.asset_id, self._tell, self._on_news
            )
        except EnvironmentFault as error:
            self._tell_after = time.monotonic() + TELL_AGAIN_S
            self._on_news(News("not_told", text=str(error)))
        else:
            self._has_to_tell = False

    def _follow_champion(self) -> None:
        watch = self.watch
        if read_champion(self._store, watch.customer, watch.asset_id).version != watch.champion.version:
            self._use(load_watch(self._store, watch.customer, watch.asset_id))
            self._on_news(News("champion", text=self.watch.champion.version))

    def _find(self) -> list[SeenFile]:
        try:
            there = self._source.list()
        except InputError as error:
            self._on_news(News("away", text=str(error)))
            return []
        new = [file for file in there if not self._log.knows_file(file)]
        return self._settling.take_settled(new, now=datetime.now(UTC))

    def _hear(self, file: SeenFile) -> Heard | None:
        """The file as it was heard; None where it is gone."""
        name, settings = printable(file.name), self.watch.settings
        if problem := too_large(name, file.bytes, settings):
            return refused_unread(name, problem)
        try:
            data = self._source.read(file)
        except OSError as error:
            self._name_unreadable(file, refused_unread(name, _cannot_be_read(name, error)))
            return None
        return None if data is None else hear(name, data, self.watch.ear)

    def _name_unreadable(self, file: SeenFile, heard: Heard) -> None:
        """Say once that a file cannot be read. It is not filed: rights that are mended leave no trace in the file."""
        if file not in self._unreadable:
            self._unreadable.add(file)
            self.tally.refused[heard.name] = str(heard.refusal)
            self._on_news(News("refused", heard=heard))

    def _judge_batch(self, files: Sequence[SeenFile]) -> None:
        heard = zip(files, ordered_map(self._hear, files), strict=True)
        now = datetime.now(UTC)
        whole = [
            (file, one)
            for file, one in heard
            if one is not None and not (_seems_unfinished(one) and self._settling.hold(file, now=now))
        ]
        good = {str(one.recording_id): one for _, one in whole if one.standard is not None and not self._is_known(one)}
        judged = {found.recording_id: found for found in self.watch.judge(list(good.values()))}
        self._file(whole, judged)

    def _is_known(self, heard: Heard) -> bool:
        return self._log.same_as(file_sha=heard.file_sha, recording_id=heard.recording_id) is not None

    def _file(self, whole: Sequence[tuple[SeenFile, Heard]], judged: dict[str, Judgement]) -> None:
        """File a batch: first the pictures of what it raises, then its rows, then what follows from them."""
        store, watch, log = self._store, self.watch, self._log
        with log.locked():
            batch = Batch(store, watch, log)
            for file, heard in whole:
                batch.add(file, heard, judged.get(str(heard.recording_id)))
            if batch.rows:
                self._is_behind = True
                log.file_rows(batch.rows)
                rows = as_frame(batch.rows)
                write_alarms(store, watch.customer, watch.asset_id, rows)
                write_state(store, watch.customer, watch.asset_id, log, rows.iloc[-1])
                self._is_behind = False
        log.note_files(file for file, _ in batch.repeated)
        self._publish(batch)

    def _publish(self, batch: Batch) -> None:
        """Count what a batch brought, and say it."""
        tally = self.tally
        for heard, judgement, row, alarm in batch.filed:
            if judgement is None:
                tally.refused[heard.name] = str(heard.refusal)
            else:
                tally.judged += 1
            if row.transition == "raised":
                tally.raised.append(str(row.alarm_id))
                self._has_to_tell = True
            elif row.transition == "cleared":
                tally.cleared.append(str(row.alarm_id))
            self._on_news(News("refused" if judgement is None else "judged", row, heard, judgement, alarm))
        for file, same in batch.repeated:
            tally.repeated += 1
            self._on_news(News("repeated", text=f"{printable(file.name)} holds what {same} holds, which was judged"))

    def _judge_drift(self) -> None:
        before, self._drift = self._drift, judge_windows(self._store, self.watch, self._log, self._drift)
        self.tally.drifted = self._drift is not None and self._drift.mark is not None
        if self._drift is not None and self.tally.drifted and (before is None or before.mark is None):
            self._has_to_tell = True
            self._on_news(News("drifted", text=self._drift.sentence))


def _cannot_be_read(name: str, error: OSError) -> Problem:
    return report("clip.undecodable", file=name, why=f"it cannot be read: {error.strerror}")


def _seems_unfinished(heard: Heard) -> bool:
    return heard.refusal is not None and heard.refusal.rule in UNFINISHED_RULES


def tell_of_all(
    store: ObjectStore,
    customer: str,
    asset_id: str,
    tell: Tell | None,
    on_news: Callable[[News], None] = lambda news: None,
) -> int:
    """Tell of every alarm and drift of which nobody was told yet; the number of those that the server was told.

    Raises
    ------
    EnvironmentFault
        The server cannot be told now.
    """
    told = 0
    for alarm in untold_alarms(store, customer, asset_id):
        reached = tell_once(store, customer, asset_id, alarm.alarm_id, describe_happening(alarm), tell)
        told += reached
        on_news(News("told" if reached else "nobody_told", alarm=alarm))
    if (drift := untold_drift(store, customer, asset_id)) is not None:
        told += tell_once(store, customer, asset_id, drift.key, drift, tell)
    return told


class Watched(BaseModel):
    """What one pass over an asset's recordings brought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    model_version: str
    judged: int = Field(description="Recordings judged for the first time.")
    refused: dict[str, str] = Field(description="Files that are not good enough to be judged, and why, by name.")
    repeated: int = Field(description="Files that hold what was judged before.")
    waiting: int = Field(description="Files that are still being written, as far as can be told.")
    raised: tuple[str, ...] = Field(description="Ids of the alarms that were raised.")
    cleared: tuple[str, ...] = Field(description="Ids of the alarms that ended.")
    told: int = Field(description="Alarms and drifts that the Prefect server was told.")
    drifted: bool = Field(description="Whether the champion is to be recalibrated.")

    @classmethod
    def of(cls, watcher: Watcher) -> Watched:
        """What a watcher's looks brought in all."""
        watch, tally = watcher.watch, watcher.tally
        return cls(
            customer=watch.customer,
            asset=watch.asset_id,
            model_version=watch.champion.version,
            judged=tally.judged,
            refused=tally.refused,
            repeated=tally.repeated,
            waiting=tally.waiting,
            raised=tuple(tally.raised),
            cleared=tuple(tally.cleared),
            told=tally.told,
            drifted=tally.drifted,
        )
