"""Watch an asset: find new recordings, judge them, raise and clear alarms, and tell people.

A `Watcher` keeps the champion in memory and looks at its source whenever it is asked to. Whatever kills it, the next
one goes on where it stopped (`tasks.watch_log` says why). A file that cannot be judged is named with what to do, filed
as refused, and keeps no other from being judged; it is looked at again when it changes. Whatever else fails is said,
and the watch goes on: with the champion it has, where the next one cannot be loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from schemas.errors import AlpError, EnvironmentFault, InputError
from schemas.problems import Problem
from schemas.rules import report
from tasks.alarms import make_up, write_alarms, write_state
from tasks.background import NOT_COMPARABLE
from tasks.covering import Coverage, judge_coverage, read_coverage
from tasks.drifting import DriftState, judge_windows
from tasks.events import Tell
from tasks.hearing import Heard, goes_on, hash_bytes, hear, refused_unread, too_large
from tasks.monitoring import BATCH, Judgement, Watch, load_watch, read_champion
from tasks.pacing import judge_pace, read_pace
from tasks.parallel import ordered_map
from tasks.plain_text import printable, without_controls
from tasks.raising import Batch
from tasks.recordings import SETTLE_S, UNFINISHED_RULES, Settling, Source
from tasks.store import ObjectStore
from tasks.untold import tell_of_all
from tasks.watch_log import SeenFile, WatchLog, as_frame
from tasks.watch_news import News, Tally, Watched

TELL_AGAIN_S = 30.0
"""Before a server that did not answer is asked again: judging must not wait for it at every look."""


class Watcher:
    """Watches one asset.

    source: where recordings come from. patience: looks at an unfinished file before it is called broken; None where
    there is only one look. settling: what tells that a file is written; else that is made for `patience`. tell: how
    people are told; None: no Prefect server is configured. on_news: called with everything that happens, as it happens.
    """

    def __init__(
        self,
        store: ObjectStore,
        watch: Watch,
        source: Source,
        *,
        patience: int | None,
        tell: Tell | None,
        settle_s: float = SETTLE_S,
        on_news: Callable[[News], None] = lambda news: None,
    ) -> None:
        self.tally = Tally()
        self._store, self._source, self._tell, self._on_news = store, source, tell, on_news
        self._settling = Settling(patience=patience, settle_s=settle_s)
        self._began = None if patience is None else datetime.now(UTC)
        self._unreadable: set[SeenFile] = set()
        self._unjudged: set[SeenFile] = set()
        self._said: set[tuple[str, str]] = set()
        self._repeats, self._why_refused, self._has_judged = 0, "", False
        self._coverage = read_coverage(store, watch.customer, watch.asset_id)
        self._pace = read_pace(store, watch.customer, watch.asset_id)
        self._has_said_pace = False
        self._tell_after = 0.0
        self._use(watch)

    def _use(self, watch: Watch) -> None:
        """Judge by this champion from now on, once what a kill cut off is made up for."""
        self.watch = watch
        self._log = WatchLog(self._store, watch.customer, watch.asset_id, watch.champion.version)
        self._drift: DriftState | None = None
        self._has_to_tell = self._is_behind = self._is_to_pace = True
        self._catch_up()

    @property
    def watched(self) -> Watched:
        """What all looks brought."""
        return Watched.of(self.watch, self.tally)

    def _say(self, news: News) -> None:
        self.tally.changed |= news.is_filed
        self._on_news(news)

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
        EnvironmentFault
            The store cannot be read or written, or the engine not be loaded; whoever looks again goes on where this
            stopped.
        """
        self._catch_up()
        self._follow_champion()
        found = self._find()
        if found:
            self.watch.wake()
        for start in range(0, len(found), BATCH):
            if should_stop():
                break
            self._judge_batch(found[start : start + BATCH])
        self.tally.waiting = [printable(file.name) for file in self._settling.waiting]
        self._judge_drift()
        self._judge_coverage()
        self._judge_pace()
        return len(found)

    def tell_people(self) -> None:
        """Tell of what nobody was told yet; what cannot be told now is tried again half a minute later."""
        if not self._has_to_tell or time.monotonic() < self._tell_after:
            return
        try:
            telling = tell_of_all(self._store, self.watch.customer, self.watch.asset_id, self._tell, self._say_telling)
        except EnvironmentFault as error:
            self._tell_after = time.monotonic() + TELL_AGAIN_S
            self._say(News("not_told", text=str(error)))
            return
        self.tally.told += telling.told
        self._tell_after = time.monotonic() + TELL_AGAIN_S if telling.refused else 0.0
        self._has_to_tell = bool(telling.refused)

    def _say_telling(self, news: News) -> None:
        """Say what became of a message, once where nothing did."""
        if news.kind in ("told", "too_old") or self._is_new(news.kind, news.text):
            self._say(news)

    def _is_new(self, *what: str) -> bool:
        """Whether that was not said yet."""
        key = (what[0], what[1])
        is_new = key not in self._said
        self._said.add(key)
        return is_new

    def _follow_champion(self) -> None:
        """Take the next champion up, or go on with this one and say why, where it cannot be loaded."""
        watch = self.watch
        try:
            if read_champion(self._store, watch.customer, watch.asset_id) == watch.champion:
                return
            successor = load_watch(self._store, watch.customer, watch.asset_id)
        except AlpError as error:
            self._say(News("trouble", text=f"{error}; model {watch.champion.version} judges until then"))
            return
        self._use(successor)
        is_other = successor.champion.version != watch.champion.version
        self._say(News("champion" if is_other else "settings", text=successor.champion.version))

    def _find(self) -> list[SeenFile]:
        try:
            there = self._source.list(self._pass_over)
        except InputError as error:
            self._say(News("away", text=str(error)))
            return []
        new = [file for file in there if file not in self._unjudged and not self._log.knows_file(file)]
        return self._settling.take_settled(new, now=datetime.now(UTC))

    def _pass_over(self, name: str, why: str) -> None:
        """Say once of something in the folder that it is not looked at."""
        shown, text = printable(name), f"{printable(name)}: {why}"
        if self._is_new("passed_over", text):
            self.tally.refused[shown] = text
            self._say(News("passed_over", text=text))

    def _hear(self, file: SeenFile) -> Heard | None:
        """The file as it was heard; None where it is gone. What is known by its bytes is not decoded again."""
        name, settings = printable(file.name), self.watch.settings
        most = settings.archive.max_file_bytes
        if problem := too_large(name, file.bytes, settings):
            return refused_unread(name, problem)
        try:
            data = self._source.read(file, most=most)
        except OSError as error:
            self._name_unreadable(file, refused_unread(name, _cannot_be_read(name, error)))
            return None
        if data is None:
            return None
        if problem := too_large(name, len(data), settings):
            return refused_unread(name, problem)
        sha = hash_bytes(data)
        if self._log.same_as(file_sha=sha, recording_id=None) is not None:
            return Heard(name, sha, None, None, None, ())
        heard = hear(name, data, self.watch.ear)
        before = self._log.judged_as(name)
        grown = before is not None and heard.standard is not None and goes_on(data, *before, self.watch.ear)
        return replace(heard, goes_on=grown)

    def _name_unreadable(self, file: SeenFile, heard: Heard) -> None:
        """Say once that a file cannot be read. It is not filed: rights that are mended leave no trace in the file."""
        if file not in self._unreadable:
            self._unreadable.add(file)
            self.tally.refused[heard.name] = str(heard.refusal)
            self._say(News("refused", heard=heard))

    def _judge_batch(self, files: Sequence[SeenFile]) -> None:
        heard = zip(files, ordered_map(self._hear, files), strict=True)
        now = datetime.now(UTC)
        whole = [
            (file, one)
            for file, one in heard
            if one is not None and not (_seems_unfinished(one) and self._settling.hold(file, now=now))
        ]
        good = {str(one.recording_id): one for _, one in whole if one.standard is not None and not self._is_known(one)}
        judged = {found.recording_id: found for found in self._judge(list(good.values()))}
        failed = good.keys() - judged.keys()
        self._unjudged |= {file for file, one in whole if one.recording_id in failed}
        self._file([(file, one) for file, one in whole if one.recording_id not in failed], judged)

    def _judge(self, heard: Sequence[Heard]) -> list[Judgement]:
        """What the champion says; nothing of a recording at which its engine fails, which keeps no other waiting."""
        try:
            return self.watch.judge(heard)
        except Exception as error:  # whatever an engine may raise at a sound that nobody has heard yet
            if len(heard) > 1:
                return [found for one in heard for found in self._judge([one])]
            self._name_unjudged(heard[0], error)
            return []

    def _name_unjudged(self, heard: Heard, error: Exception) -> None:
        why = without_controls(f"{type(error).__name__}: {error}")
        text = (
            f"{heard.name} could not be judged ({why}): keep the file and tell us; it is tried again at the next start"
        )
        self.tally.refused[heard.name] = text
        self._say(News("trouble", text=text))

    def _is_known(self, heard: Heard) -> bool:
        return self._log.same_as(file_sha=heard.file_sha, recording_id=heard.recording_id) is not None

    def _file(self, whole: Sequence[tuple[SeenFile, Heard]], judged: dict[str, Judgement]) -> None:
        """File a batch: first the pictures of what it raises, then its rows, then what follows from them."""
        store, watch, log = self._store, self.watch, self._log
        with log.locked():
            batch = Batch(store, watch, log)
            for file, heard in whole:
                batch.add(file, heard, judged.get(str(heard.recording_id)), grown=heard.goes_on)
            if batch.rows:
                self._is_behind = self._is_to_pace = True
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
                tally.refused[heard.name] = self._why_refused = str(heard.refusal)
            else:
                tally.judged += 1
                self._note_heard(judgement)
            if row.transition == "raised":
                tally.raised.append(str(row.alarm_id))
                self._has_to_tell = True
            elif row.transition == "cleared":
                tally.cleared.append(str(row.alarm_id))
            place = self._store.location(alarm.picture) if alarm is not None and alarm.picture else ""
            self._say(News("refused" if judgement is None else "judged", row, heard, judgement, alarm, place))
        for name in batch.grown:
            self._say(News("grown", text=_say_grown(name)))
        for file, same in batch.repeated:
            tally.repeated += 1
            self._repeats += same.refused
            became = "refused" if same.refused else "judged"
            text = f"{printable(file.name)} holds what {same.name} holds, which was {became}"
            self._say(News("repeated", text=text))

    def _note_heard(self, judgement: Judgement) -> None:
        """A recording that cannot be compared with the normals covers the machine no more than a refused one."""
        if judgement.decision == NOT_COMPARABLE:
            self._why_refused = f"{judgement.name}: it is recorded unlike the normals ({', '.join(judgement.notes)})."
        else:
            self._has_judged, self._repeats = True, 0

    def _judge_drift(self) -> None:
        before, self._drift = self._drift, judge_windows(self._store, self.watch, self._log, self._drift)
        self.tally.drifted = self._drift is not None and self._drift.mark is not None
        if self._drift is not None and self.tally.drifted and (before is None or before.mark is None):
            self._has_to_tell = True
            self._say(News("drifted", text=self._drift.sentence))

    def _judge_coverage(self) -> None:
        before, log = self._coverage, self._log
        self._coverage = judge_coverage(
            self._store,
            self.watch,
            log,
            before,
            refused=log.refused_in_a_row + self._repeats,
            why=self._why_refused,
            judged=self._has_judged,
            began=self._began,
        )
        self._has_judged = False
        self.tally.uncovered = not self._coverage.covered
        if before is None or before.covered != self._coverage.covered:
            self._say_coverage(self._coverage, before)

    def _say_coverage(self, now: Coverage, before: Coverage | None) -> None:
        if not now.covered:
            self._has_to_tell = True
            self._say(News("uncovered", text=now.sentence))
        elif before is not None:
            self._say(News("covered", text=f"{now.machine} ({now.customer}): covered again"))

    def _judge_pace(self) -> None:
        """Say once, and again only after it was well in between, that recordings come too often."""
        if not self._is_to_pace:
            return
        self._pace = pace = judge_pace(self._store, self.watch, self._log, self._pace)
        self._is_to_pace = False
        was_said, self._has_said_pace = self._has_said_pace, pace is not None and pace.outrun
        self.tally.outrun, self.tally.notes = self._has_said_pace, [pace.sentence] if pace and pace.outrun else []
        if pace is not None and pace.outrun and not was_said:
            self._say(News("outrun", text=pace.sentence))
        elif was_said and pace is not None and not pace.outrun:
            self._say(
                News("in_pace", text=f"{pace.machine} ({pace.customer}): recordings come as often as stated again")
            )


def _say_grown(name: str) -> str:
    return (
        f"{name} goes on where it was judged before, and does not count towards an alarm again: its recorder pauses in"
        " the middle of a file; give a longer --settle"
    )


def _cannot_be_read(name: str, error: OSError) -> Problem:
    return report("clip.undecodable", file=name, why=f"it cannot be read: {error.strerror or error}")


def _seems_unfinished(heard: Heard) -> bool:
    return heard.refusal is not None and heard.refusal.rule in UNFINISHED_RULES
