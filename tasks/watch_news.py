"""What watching an asset brings: news as it happens, for whoever looks on, and in the end what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.settings import Language
from tasks.alarms import Alarm
from tasks.hearing import Heard
from tasks.monitoring import Judgement, Watch
from tasks.watch_log import Row

NewsKind = Literal[
    "champion",
    "settings",
    "away",
    "trouble",
    "judged",
    "refused",
    "passed_over",
    "repeated",
    "grown",
    "drifted",
    "uncovered",
    "covered",
    "outrun",
    "in_pace",
    "told",
    "not_told",
    "nobody_told",
    "too_old",
]


_FILED = frozenset({"champion", "settings", "drifted", "uncovered", "covered", "outrun", "in_pace"})
_URGENT = frozenset({"uncovered", "covered"})
_NAMED = 5


@dataclass(frozen=True, eq=False)
class News:
    """Something that a look brought, for whoever looks on; `text` says why, where there is a why."""

    kind: NewsKind
    row: Row | None = None
    heard: Heard | None = None
    judgement: Judgement | None = None
    alarm: Alarm | None = None
    text: str = ""

    @property
    def is_filed(self) -> bool:
        """Whether the store knows since more of the machine, so that a page of it is out of date."""
        return self.row is not None or self.kind in _FILED

    @property
    def is_urgent(self) -> bool:
        """Whether somebody who looks at a page should find it there at once."""
        return self.kind in _URGENT or (self.row is not None and self.row.transition is not None)


@dataclass
class Tally:
    """What looks brought in all; `refused` says why, by name, and `waiting` names files not finished at the last.

    `notes` are what an operator should know of how the machine is recorded, and `changed` whether anything was filed.
    """

    judged: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    raised: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    told: int = 0
    waiting: list[str] = field(default_factory=list)
    drifted: bool = False
    uncovered: bool = False
    outrun: bool = False
    notes: list[str] = field(default_factory=list)
    changed: bool = False


class Watched(BaseModel):
    """What one pass over an asset's recordings brought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    language: Language = Field(description="Of what is said of the asset: that in which it was onboarded.")
    model_version: str
    judged: int = Field(description="Recordings judged for the first time.")
    refused: dict[str, str] = Field(description="Files that are not good enough to be judged, and why, by name.")
    repeated: int = Field(description="Files that hold what was judged before.")
    waiting: int = Field(description="Files that are still being written, as far as can be told.")
    unfinished: tuple[str, ...] = Field(description="Names of these; the next pass looks at them again.")
    raised: tuple[str, ...] = Field(description="Ids of the alarms that were raised.")
    cleared: tuple[str, ...] = Field(description="Ids of the alarms that ended.")
    told: int = Field(description="Alarms, drifts and outages that the Prefect server was told.")
    drifted: bool = Field(description="Whether the champion is to be recalibrated.")
    uncovered: bool = Field(description="Whether no good recordings come, so that a fault would not be heard.")
    outrun: bool = Field(description="Whether recordings come more often than the stated false-alarm rate counts with.")
    notes: tuple[str, ...] = Field(description="What to do about how the machine is recorded; no alarm.")
    changed: bool = Field(description="Whether more is known of the machine than before.")

    @classmethod
    def of(cls, watch: Watch, tally: Tally) -> Watched:
        """What was counted while the asset was watched."""
        return cls(
            customer=watch.customer,
            asset=watch.asset_id,
            language=watch.settings.language,
            model_version=watch.champion.version,
            judged=tally.judged,
            refused=tally.refused,
            repeated=tally.repeated,
            waiting=len(tally.waiting),
            unfinished=tuple(tally.waiting),
            raised=tuple(tally.raised),
            cleared=tuple(tally.cleared),
            told=tally.told,
            drifted=tally.drifted,
            uncovered=tally.uncovered,
            outrun=tally.outrun,
            notes=tuple(tally.notes),
            changed=tally.changed,
        )

    def say_unfinished(self) -> str:
        """Which files were left for later, the first few by name."""
        more = len(self.unfinished) - _NAMED
        names = ", ".join(self.unfinished[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"Not finished, as far as can be told, and looked at again at the next pass: {names}"
