"""Which clips a toy package holds: counts, conditions and faults, decided before any sound is made.

Counts per section follow DCASE 2025 task 2 (990 source and 10 target normals to train on, 100 supplemental clips,
50 normal and 50 anomalous tests per domain) times `scale`, with floors that keep a small package usable.

The two domains share no background noise, no microphone position, and only part of their speeds and loads; source
is recorded at 10-30 dB SNR, target at 0-20 dB. Every clip is decided by its own name alone: asking for other
machine types, sections or another scale never changes a clip that both packages hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

from engines.toy.anomalies import ANOMALY_TYPES, Fault, plan_fault
from engines.toy.draws import Draws
from engines.toy.machines import BODIES, LOADS, MACHINE_TYPES, SPEEDS, Operation, installation_of
from engines.toy.microphone import MIC_POSITIONS
from schemas.errors import UsageError

# Part of every stream's key: raise it, with a line in the changelog, when any sound is meant to change.
SOUNDS_VERSION = 1

T = TypeVar("T")

Domain = Literal["source", "target"]
Split = Literal["train", "test", "supplemental"]
Label = Literal["normal", "anomaly"]
SuppType = Literal["noise", "machine"]

MAX_SCALE = 10.0
# Lower case only: two clips whose names differ in case alone cannot lie in one folder everywhere.
_SECTION_PATTERN = re.compile(r"[a-z0-9-]{1,32}")
_SEVERITY_STEPS = 5


@dataclass(frozen=True)
class DomainConditions:
    """What a domain's recordings vary over; SNR in dB."""

    noise_ids: tuple[str, ...]
    mic_position_ids: tuple[str, ...]
    speed_levels: tuple[str, ...]
    load_levels: tuple[str, ...]
    snr_db: tuple[float, float]


CONDITIONS: dict[Domain, DomainConditions] = {
    "source": DomainConditions(
        noise_ids=("white", "pink", "hum"),
        mic_position_ids=("p1", "p2", "p3"),
        speed_levels=("slow", "medium", "fast"),
        load_levels=("light", "medium"),
        snr_db=(10.0, 30.0),
    ),
    "target": DomainConditions(
        noise_ids=("brown", "impulse", "babble"),
        mic_position_ids=("p4", "p5"),
        speed_levels=("fast", "top"),
        load_levels=("medium", "heavy"),
        snr_db=(0.0, 20.0),
    ),
}


@dataclass(frozen=True)
class Role:
    """Clips of one purpose in every section: how many at scale 1, at least how many, and from which day on.

    Roles that share a count take turns: of n clips, `turn` gets every `turns`-th.
    """

    domain: Domain
    split: Split
    label: Label
    full_count: int
    least: int
    first_day: int
    supp_type: SuppType | None = None
    turn: int = 0
    turns: int = 1

    @property
    def name(self) -> str:
        """Unique among the roles: domain, split, and what is heard."""
        return f"{self.domain}_{self.split}_{self.supp_type or self.label}"

    def count(self, scale: float) -> int:
        """Clips of this role in one section; halves are rounded up."""
        together = max(int(self.full_count * scale + 0.5), self.least)
        return (together + self.turns - 1 - self.turn) // self.turns


ROLES = (
    Role("source", "train", "normal", 990, least=1, first_day=0),
    Role("target", "train", "normal", 10, least=3, first_day=90),
    Role("target", "supplemental", "normal", 100, 2, first_day=88, supp_type="noise", turn=0, turns=4),
    Role("target", "supplemental", "normal", 100, 2, first_day=89, supp_type="machine", turn=1, turns=4),
    Role("source", "supplemental", "normal", 100, 2, first_day=80, supp_type="noise", turn=2, turns=4),
    Role("source", "supplemental", "normal", 100, 2, first_day=81, supp_type="machine", turn=3, turns=4),
    Role("source", "test", "normal", 50, least=5, first_day=100),
    Role("target", "test", "normal", 50, least=5, first_day=100),
    Role("source", "test", "anomaly", 50, least=5, first_day=107),
    Role("target", "test", "anomaly", 50, least=5, first_day=107),
)

_FIRST_RECORDING = datetime(2025, 1, 6, 8, 0, tzinfo=UTC)
_BETWEEN_RECORDINGS = timedelta(minutes=10)


@dataclass(frozen=True)
class ToyClip:
    """One clip, described so fully that it can be rendered alone.

    The conditions describe the scene; where only a part of it is heard (`supp_type`), the rest still sets the
    levels: a noise-only clip is the scene with the machine off, a machine clip the scene in a silent hall.
    `number` counts from 1 within the clip's role.
    """

    seed: int
    machine_type: str
    section_id: str
    domain: Domain
    split: Split
    label: Label
    supp_type: SuppType | None
    number: int
    recorded_at: datetime
    speed_level: str
    load_level: str
    mic_position_id: str
    noise_id: str
    snr_db: float
    fault: Fault | None

    @property
    def clip_id(self) -> str:
        """Unique in the package."""
        what = self.supp_type or self.label
        return f"{self.machine_type}_{self.section_id}_{self.domain}_{self.split}_{what}_{self.number:04d}"

    @property
    def relative_path(self) -> str:
        """Where the clip lies inside the package, POSIX."""
        return f"audio/{self.clip_id}.wav"

    @property
    def individual(self) -> str:
        """Name of the machine's own streams, the same for all clips of the section."""
        return f"{SOUNDS_VERSION}/{self.seed}/{self.machine_type}/{self.section_id}"

    @property
    def operation(self) -> Operation:
        """How the machine runs."""
        return Operation(SPEEDS[self.speed_level], LOADS[self.load_level])

    @property
    def operating_mode(self) -> str:
        """Whether this type of machine runs on or comes and goes."""
        return BODIES[self.machine_type].operating_mode

    @property
    def installation(self) -> str:
        """How the individual is mounted."""
        return installation_of(self.machine_type, self.individual)

    @property
    def mic_direction(self) -> str:
        """Side of the machine on which the microphone hangs."""
        return MIC_POSITIONS[self.mic_position_id].direction

    def draws(self, purpose: str) -> Draws:
        """This clip's own stream for that purpose."""
        return Draws(purpose, self.individual, self.clip_id)

    def without_fault(self) -> ToyClip:
        """The normal twin: the same scene to the last sample, with nothing wrong in it."""
        return replace(self, fault=None)


@dataclass(frozen=True)
class ToyPlan:
    """What a toy package holds. Raises UsageError for machine types, sections or a scale that make no sense."""

    machine_types: tuple[str, ...] = MACHINE_TYPES
    sections: tuple[str, ...] = ("00",)
    scale: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        _require_choices("machine type", self.machine_types)
        _require_choices("section", self.sections)
        for machine_type in self.machine_types:
            if machine_type not in MACHINE_TYPES:
                known = ", ".join(MACHINE_TYPES)
                raise UsageError(f"machine type {machine_type!r} has no toy sound; choose from: {known}")
        for section in self.sections:
            if not _SECTION_PATTERN.fullmatch(section):
                raise UsageError(f"section {section!r} must be 1 to 32 of a-z, 0-9 and dashes, such as '00'")
        if not 0.0 < self.scale <= MAX_SCALE:
            raise UsageError(f"scale {self.scale!r} must be above 0 and at most {MAX_SCALE:g}; 1 is DCASE's size")

    def clips(self) -> list[ToyClip]:
        """Every clip of the package, ordered by machine type, section, role and number."""
        return [
            clip
            for machine_type in self.machine_types
            for section in self.sections
            for role in ROLES
            for clip in _plan_role(self.seed, machine_type, section, role, role.count(self.scale))
        ]


def section_ids(count: int) -> tuple[str, ...]:
    """Names for that many sections: "00", "01", … Raises UsageError unless count is 1 to 100."""
    if not 1 <= count <= 100:
        raise UsageError(f"{count} sections asked for; a toy package holds 1 to 100 of each machine type")
    return tuple(f"{number:02d}" for number in range(count))


def _plan_role(seed: int, machine_type: str, section: str, role: Role, count: int) -> Iterator[ToyClip]:
    conditions = CONDITIONS[role.domain]
    key = f"{SOUNDS_VERSION}/{seed}/{machine_type}/{section}/{role.name}"
    for index in range(count):
        draws = Draws("conditions", key, index)
        low_db, high_db = conditions.snr_db
        yield ToyClip(
            seed=seed,
            machine_type=machine_type,
            section_id=section,
            domain=role.domain,
            split=role.split,
            label=role.label,
            supp_type=role.supp_type,
            number=index + 1,
            recorded_at=_FIRST_RECORDING + timedelta(days=role.first_day) + index * _BETWEEN_RECORDINGS,
            speed_level=_in_turn(conditions.speed_levels, f"{key}/speed", index),
            load_level=_in_turn(conditions.load_levels, f"{key}/load", index),
            mic_position_id=_in_turn(conditions.mic_position_ids, f"{key}/mic", index),
            noise_id=_in_turn(conditions.noise_ids, f"{key}/noise", index),
            snr_db=round(draws.uniform(low_db, high_db), 1),
            fault=_plan_fault(key, index, draws) if role.label == "anomaly" else None,
        )


def _plan_fault(key: str, index: int, draws: Draws) -> Fault:
    anomaly_type = _in_turn(ANOMALY_TYPES, f"{key}/anomaly", index)
    step = _in_turn(range(_SEVERITY_STEPS), f"{key}/severity", index)
    return plan_fault(anomaly_type, (step + draws.uniform(0.0, 1.0)) / _SEVERITY_STEPS, draws)


def _in_turn(choices: Sequence[T], key: str, index: int) -> T:
    """Every choice once in each run of len(choices) clips, in an order drawn anew for each run.

    So the few target normals cover the conditions they can, and clip `index` is the same at every scale.
    """
    run, place = divmod(index, len(choices))
    return Draws("turns", key, run).shuffle(choices)[place]


def _require_choices(what: str, names: tuple[str, ...]) -> None:
    if not names:
        raise UsageError(f"a toy package needs at least one {what}")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{what} {name!r} is asked for twice; name each once")
