"""Judge new recordings of an asset by its champion: the model loaded once, however many recordings come, or none.

`Watch` is all that judging needs: the champion's engine, its normal scores, threshold, alarm rule and background, and
the settings it was onboarded by. A recording gets the score that onboarding would give it as a test clip, to the bit:
it is heard by the same code (`tasks.hearing`), and engines score clip by clip, so it does not matter what it is scored
together with.

Units: scores are the engine's own, severities 0-100, times s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.alarm import AlarmRule
from engines.base import AnomalyMap, recording_scores
from engines.calibration import Threshold, conformal_p_values
from engines.grading import Decision, Grade, State, judge_clip, severity
from schemas.errors import InputError, StoreError
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.assets import find_asset
from tasks.background import Standing, read_background, stand
from tasks.calibrating import Champion, Onboarding, onboarding_key
from tasks.engines import load_engine
from tasks.hearing import Ear, Heard, clips_of
from tasks.ledger import read_corrected
from tasks.normals import read_normal_scores
from tasks.plain_text import without_controls
from tasks.store import ObjectStore

if TYPE_CHECKING:
    from engines.base import Engine
    from engines.comparability import Recorded
    from engines.machine_state import Background, Indistinct
    from tasks.report.words import Words

BATCH = 16
"""Recordings heard and scored at a time."""


class Judgement(BaseModel):
    """What the champion says of one recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The file, as whoever recorded it calls it.")
    recording_id: str = Field(description="By its sound, whatever the file is called.")
    duration_s: float
    score: float
    p_value: float
    severity: float = Field(description="0-100; the threshold is 50.")
    grade: Grade
    state: State = Field(description="Of the machine; `not comparable`: of the recorder.")
    decision: Decision = Field(description="Of this clip alone.")
    exceeded: bool | None = Field(
        description="Whether the alarm rule counts it as high; None where it cannot say: the machine is off, or the"
        " recorder unlike the normals'."
    )
    notes: tuple[str, ...] = Field(
        description="Rules of the quality gate that it breaks and is judged in spite of, and in what it differs from"
        " the normals as a recording."
    )


@dataclass(frozen=True, eq=False)
class Watch:
    """An asset's champion with all that judging by it needs; `normal_scores` float64 (n,)."""

    customer: str
    asset_id: str
    ear: Ear
    champion: Champion
    open_engine: Callable[[], Engine]
    """Loads the engine; called once, by whoever asks for `engine` first."""
    normal_scores: NDArray[np.float64]
    threshold: Threshold
    rule: AlarmRule
    background: Background | Indistinct | None
    recorded: Recorded
    page_key: str | None
    """Of the champion's own page, which its run writes last of all."""

    @cached_property
    def engine(self) -> Engine:
        """The champion's engine, loaded when it is asked for: a pass over a machine of which nothing is new asks not.

        Raises
        ------
        StoreError
            The model is not there, or damaged.
        WeightsError
            Its encoder's weights are not on this machine.
        """
        return self.open_engine()

    def wake(self) -> Watch:
        """Load the engine now, so that what is wrong with it is found before a recording is judged."""
        _ = self.engine
        return self

    @property
    def settings(self) -> OnboardSettings:
        """By which the asset was onboarded."""
        return self.ear.settings

    @property
    def machine(self) -> str:
        """As people call it: `compressor 00`."""
        return without_controls(f"{self.ear.machine_type} {self.ear.section_id}")

    def machine_in(self, say: Words) -> str:
        """The same in a reader's language: `압축기 00`."""
        return without_controls(say.machine(self.ear.machine_type, self.ear.section_id))

    def judge(self, heard: Sequence[Heard]) -> list[Judgement]:
        """Score recordings that are good, each of them once in `heard`, and say what that means."""
        if not heard:
            return []
        clips = clips_of(heard, self.ear)
        scores = recording_scores(clips, self.engine.decision_function(clips))
        standing = stand(self.background, self.recorded, clips)
        p_values = conformal_p_values(scores, self.normal_scores)
        severities = severity(scores, self.normal_scores, self.threshold)
        return [
            self._judgement(*facts)
            for facts in zip(heard, scores.tolist(), p_values.tolist(), severities.tolist(), standing, strict=True)
        ]

    def _judgement(self, heard: Heard, score: float, p_value: float, how_severe: float, stands: Standing) -> Judgement:
        verdict = judge_clip(
            score,
            how_severe,
            state=stands.state,
            threshold=self.threshold.value,
            clip_threshold=self.rule.clip_threshold,
        )
        return Judgement(
            name=heard.name,
            recording_id=str(heard.recording_id),
            duration_s=float(heard.duration_s or 0.0),
            score=score,
            p_value=p_value,
            severity=how_severe,
            grade=verdict.grade,
            state=stands.state,
            decision=verdict.decision,
            exceeded=verdict.exceeded,
            notes=(*heard.notes, *stands.differences),
        )

    def map_of(self, heard: Heard) -> tuple[int, AnomalyMap | None]:
        """The clip of a recording that scores highest, and where it is anomalous; no map from an engine without."""
        clips = clips_of([heard], self.ear)
        highest = int(np.argmax(self.engine.decision_function(clips))) if len(clips) > 1 else 0
        return highest, self.engine.anomaly_map(clips, highest)


def read_champion(store: ObjectStore, customer: str, asset_id: str) -> Champion:
    """Who judges the asset now.

    Raises
    ------
    InputError
        Nobody does yet.
    """
    key = keys.asset(customer, asset_id, "champion.json")
    if not store.exists(key):
        raise InputError(f"{asset_id} of {customer} has no champion yet; onboard a package of it, with three normals")
    return store.get_model(key, Champion)


def load_watch(store: ObjectStore, customer: str, name: str) -> Watch:
    """Load the champion of the asset `name`, such as `compressor-00`, to judge by it; raises as `find_watch`, and as
    the engine does.
    """
    return find_watch(store, customer, name).wake()


def find_watch(store: ObjectStore, customer: str, name: str) -> Watch:
    """The champion of the asset `name`, such as `compressor-00`, with its engine left in the store until it is needed.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    InputError
        There is no such asset, or it has no champion.
    StoreError
        The champion's model was made by a version that left no alarm rule, or not by which settings it was made.
    """
    asset_id = find_asset(store, customer, name)
    champion = read_champion(store, customer, asset_id)
    prefix = keys.model(customer, asset_id, champion.version)
    for part in ("engine.json", "threshold.json", "alarm_rule.json", "settings.json"):
        if not store.exists(f"{prefix}/{part}"):
            raise StoreError(f"{prefix} holds no {part}; onboard a package of {asset_id} again, which writes it")
    onboarding, normals = store.get_model(onboarding_key(prefix), Onboarding), read_normal_scores(store, prefix)

    def open_engine() -> Engine:
        with store.local_folder(prefix) as folder:
            return load_engine(folder, champion.encoder)

    return Watch(
        customer=customer,
        asset_id=asset_id,
        ear=Ear.of_ledger(read_corrected(store, customer, asset_id), onboarding.settings),
        champion=champion,
        open_engine=open_engine,
        normal_scores=normals.scores,
        threshold=store.get_model(f"{prefix}/threshold.json", Threshold),
        rule=store.get_model(f"{prefix}/alarm_rule.json", AlarmRule),
        background=read_background(store, prefix),
        recorded=normals.recorded,
        page_key=keys.run(customer, onboarding.run_id, f"{asset_id}/report.html"),
    )


def judge_files(watch: Watch, heard: Iterable[Heard]) -> Iterator[tuple[Heard, Judgement | None]]:
    """Judge files as they are heard, some at a time, in their order; None of one that is not good enough.

    A recording that comes twice, under two names, gets the same judgement twice.
    """
    for batch in _batches(heard):
        good = {str(each.recording_id): each for each in batch if each.standard is not None}
        judged = {found.recording_id: found for found in watch.judge(list(good.values()))}
        for each in batch:
            found = None if each.standard is None else judged[str(each.recording_id)]
            yield each, found and found.model_copy(update={"name": each.name})


def _batches(heard: Iterable[Heard]) -> Iterator[list[Heard]]:
    iterator = iter(heard)
    while batch := list(islice(iterator, BATCH)):
        yield batch
