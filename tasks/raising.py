"""Run a batch of judged recordings through the alarm rule, and make what is filed of each.

The sound and the picture of an alarm are stored here, before the rows are: `tasks.watch_log` says why.
"""

from __future__ import annotations

from datetime import UTC, datetime

from engines.alarm import AlarmState, Transition, advance
from engines.base import AnomalyMap
from engines.standardize import cut_segments, to_waveform
from schemas.settings import AlarmPolicy
from tasks import keys
from tasks.alarms import Alarm, alarm_id, when
from tasks.clip_files import to_flac
from tasks.hearing import Heard
from tasks.logbook import note
from tasks.monitoring import Judgement, Watch
from tasks.plain_text import printable
from tasks.report.words import Words, probability
from tasks.store import ObjectStore
from tasks.watch_log import Known, Row, SeenFile, WatchLog, hear_out


class Batch:
    """Recordings on their way into the log, in their order; `state` goes on from the log's.

    Call everything inside the log's lock. `filed` tells what became of each new file, `repeated` which files hold what
    was read before, and `grown` the names of those that go on where they were judged before: a recorder that pauses
    for longer than a file has to stand still. Such a file is judged, and does not enter the rule's window again.
    """

    def __init__(self, store: ObjectStore, watch: Watch, log: WatchLog) -> None:
        self._store, self._watch, self._log = store, watch, log
        self._say = Words(watch.settings.language, watch.settings.known_machine_types)
        self._state, self._alarm_id = log.state, log.alarm_id
        self._names: dict[str, Known] = {}
        self._now = datetime.now(UTC)
        self.filed: list[tuple[Heard, Judgement | None, Row, Alarm | None]] = []
        self.repeated: list[tuple[SeenFile, Known]] = []
        self.grown: list[str] = []

    @property
    def rows(self) -> list[Row]:
        """What is to be filed, the state in the last."""
        rows = [row for _, _, row, _ in self.filed]
        last = [row.model_copy(update={"alarm_state": self._state.model_dump_json()}) for row in rows[-1:]]
        return [*rows[:-1], *last]

    def add(self, file: SeenFile, heard: Heard, judgement: Judgement | None, *, grown: bool = False) -> None:
        """Take one file in; `judgement` None: it was refused, or is known."""
        name = heard.recording_id or heard.file_sha
        same = self._log.same_as(file_sha=heard.file_sha, recording_id=heard.recording_id) or self._names.get(name)
        if same is not None:
            self.repeated.append((file, same))
            return
        if name:
            self._names[name] = Known(heard.name, judgement is None)
        if judgement is not None and grown:
            judgement = judgement.model_copy(update={"exceeded": None})
            self.grown.append(heard.name)
        time, policy = self._time_of(file), self._watch.settings.alarm
        self._state, transition = advance(
            take_step_back(self._state, policy, time),
            self._watch.rule,
            policy,
            exceeded=judgement.exceeded if judgement else None,
            time=time,
            clip_id=name or f"{heard.name}@{file.modified.isoformat()}",
        )
        self._state = hear_out(self._state, rearm_clips=policy.rearm_clips, time=time)
        alarm = None
        if transition is not None and transition.kind == "raised" and judgement is not None:
            alarm = self._make_alarm(file, heard, judgement, transition)
            self._alarm_id = alarm.alarm_id
        self.filed.append((heard, judgement, self._row(file, heard, judgement, transition, alarm), alarm))
        if transition is not None and transition.kind == "cleared":
            self._alarm_id = None

    def _time_of(self, file: SeenFile) -> datetime:
        """When it was recorded, as far as is known: a recorder whose clock is ahead has not recorded the future."""
        return min(file.modified, self._now)

    def _row(
        self,
        file: SeenFile,
        heard: Heard,
        judgement: Judgement | None,
        transition: Transition | None,
        alarm: Alarm | None,
    ) -> Row:
        found = (
            judgement.model_dump(include={"score", "p_value", "severity", "grade", "state", "exceeded"})
            if judgement
            else {}
        )
        nothing = dict.fromkeys(("score", "p_value", "severity", "grade", "state", "exceeded"))
        return Row(
            recording_id=heard.recording_id,
            file_sha=heard.file_sha,
            name=printable(file.name),
            bytes=file.bytes,
            modified=file.modified,
            time=self._time_of(file),
            duration_s=heard.duration_s,
            model_version=self._watch.champion.version,
            engine=self._watch.champion.engine,
            decision=judgement.decision if judgement else "refused",
            notes=",".join(heard.notes),
            alarm_id=self._alarm_id,
            transition=transition.kind if transition else None,
            alarm=alarm.model_dump_json() if alarm else None,
            **(nothing | found),
        )

    def _make_alarm(self, file: SeenFile, heard: Heard, judgement: Judgement, transition: Transition) -> Alarm:
        watch, say, time = self._watch, self._say, self._time_of(file)
        # Clips below the threshold of one clip can ring together; that is no normal sound.
        how_grave = "WARNING" if judgement.grade == "NORMAL" else judgement.grade
        name = alarm_id(watch.champion.version, judgement.recording_id, time)
        picture, sound = self._store_evidence(name, heard, f"{how_grave}  clip severity {judgement.severity:.0f}")
        rule = say(
            "watching.rule",
            m=watch.rule.m,
            window=watch.rule.window,
            threshold=f"{watch.rule.clip_threshold:.4g}",
            rate=f"{watch.rule.alarms_per_day:.2g}",
            how=say("watching.certified" if watch.rule.certified else "watching.modelled"),
        )
        machine = watch.machine_in(say)
        page = watch.page_key if watch.page_key and self._store.exists(watch.page_key) else None
        sentence = say(
            "watching.alarm",
            machine=machine,
            customer=watch.customer,
            when=when(time),
            grade=say(f"grade.{how_grave}"),
            severity=f"{judgement.severity:.0f}",
            p=probability(judgement.p_value),
            clip=heard.name,
            rule=rule,
        )
        return Alarm(
            alarm_id=name,
            customer=watch.customer,
            asset=watch.asset_id,
            machine=machine,
            language=watch.settings.language,
            time=time,
            judged_at=self._now,
            clip=heard.name,
            recording_id=judgement.recording_id,
            clips=transition.clips,
            score=judgement.score,
            threshold=watch.rule.clip_threshold,
            severity=judgement.severity,
            grade=judgement.grade,
            alarm_grade=how_grave,
            p_value=judgement.p_value,
            rule=rule,
            certified=watch.rule.certified,
            engine=watch.champion.engine,
            model_version=watch.champion.version,
            picture=picture,
            sound=sound,
            page=page,
            sentence=sentence,
        )

    def _store_evidence(self, name: str, heard: Heard, how_severe: str) -> tuple[str | None, str]:
        """Keys of the picture, None where none can be drawn, and of the sound of the clip that scores highest."""
        watch, standard = self._watch, heard.standard
        assert standard is not None
        number, anomaly = self._map_of(name, heard)
        cuts = cut_segments(len(standard.codes), standard.sample_rate, segment_s=watch.settings.standardize.segment_s)
        codes = standard.codes[slice(*cuts[number])]
        sound, picture = (keys.alarm(watch.customer, watch.asset_id, f"{name}.{end}") for end in ("flac", "png"))
        self._store.put(sound, to_flac(codes, standard.sample_rate))
        try:
            # Most looks raise no alarm, and what draws one takes a second to load.
            from tasks.alarm_picture import draw_alarm

            drawn = draw_alarm(
                to_waveform(codes),
                sample_rate=standard.sample_rate,
                bandwidth_hz=standard.bandwidth_hz,
                anomaly=anomaly,
                threshold=watch.rule.clip_threshold,
                title=f"{watch.asset_id}  {name}  {how_severe}",
            )
        except Exception as error:  # whatever a drawing library may raise, it must not keep an alarm from ringing
            note(f"The picture of alarm {name} could not be drawn ({type(error).__name__}: {error})")
            return None, sound
        self._store.put(picture, drawn)
        return picture, sound

    def _map_of(self, name: str, heard: Heard) -> tuple[int, AnomalyMap | None]:
        """The clip that scores highest and its anomaly map; the first clip and none where the engine fails at it."""
        try:
            return self._watch.map_of(heard)
        except Exception as error:  # it must not keep an alarm from ringing either
            note(f"Alarm {name} has no anomaly map ({type(error).__name__}: {error})")
            return 0, None


def take_step_back(state: AlarmState, policy: AlarmPolicy, time: datetime) -> AlarmState:
    """The state before a clip of an earlier time than the last one's, hold-off counted anew from the alarm's own time.

    One file with a time ahead of the others must not end hold-off. A clip from before the alarm tells nothing of it: a
    clock that was set back must not hold alarms off for years.
    """
    if state.last_time is None or state.raised_at is None or not state.raised_at <= time < state.last_time:
        return state
    held_s = min(state.held_s, (time - state.raised_at).total_seconds())
    is_held = state.phase == "armed" and held_s < policy.hold_off_s
    return state.model_copy(update={"held_s": held_s, "phase": "hold_off" if is_held else state.phase})
