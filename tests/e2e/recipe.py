"""Two plants with compressors, as toy packages small enough to be onboarded within seconds: the cast of `make e2e`.

    haneul  compressor-01  30 normals at every speed but the highest: enough for others to learn from, once it shares
                           them
    mirae   compressor-01  of the same make as haneul's, always at top speed. Its labelled faults are a slipping belt:
                           it runs slow. That is how haneul's runs every other day, so whoever takes haneul's normals
                           for normal does not hear it: a challenger of engine B is to be refused
            compressor-02  six normals at three of the speeds and loads that its labelled normals have, and faults that
                           add a sound or take one away: a challenger of engine B loses nothing
            compressor-03  arrives once haneul shares, without labelled tests

All sounds are the toy's (`engines.toy`), the same bytes each time; individuals are named by section, so that machines
of one section are of one make. The outcomes are no matter of luck. AUC of engines A and B with encoder logmel, and with
lite0: compressor-01 1.00 and .16, .97 and .25; compressor-02 .95 and 1.00, 1.00 and 1.00. With three other seeds A is
ahead of B by .25 at least on the first, and never by more than .02 on the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engines.toy import ANOMALY_TYPES, ToyClip, ToyPlan, render_clip
from engines.toy.anomalies import plan_fault
from engines.toy.draws import Draws
from engines.toy.plan import Label, Split
from tasks.toy import encode_wav, write_toy_package

HANEUL, MIRAE = "haneul", "mirae"
MACHINE_TYPE = "compressor"
SHARED, ADDED = 30, 6
"""Normals of haneul's first and second package; engine B needs thirty."""
NORMALS, LATE_NORMALS = 6, 5
"""Of a machine of mirae's."""
LABELLED = 8
"""Labelled tests of a kind; five decide."""
DEAF, KEEN, LATE = "compressor-01", "compressor-02", "compressor-03"
"""mirae's machines: whose challenger would not hear its faults, whose challenger hears them all, and the late one."""

_SEED = 7
_START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_SLOW = (("slow", "light"), ("slow", "medium"))
_TOP, _TOP_AT_EASE = (("top", "heavy"),), (("top", "medium"), ("top", "light"))
_EVERY = tuple((speed, load) for speed in ("slow", "medium", "fast") for load in ("light", "medium"))
_SOME = (("fast", "medium"), ("fast", "light"), ("medium", "medium"))
_MICROPHONES = ("p1", "p2")
_NOISES = ("white", "pink")
_HALL_DB, _LOUD_HALL_DB = (18.0, 28.0), (15.0, 18.0)
"""How far the machine is above the hall."""


@dataclass(frozen=True)
class Cast(ToyPlan):
    """A toy package of clips that were chosen one by one."""

    chosen: tuple[ToyClip, ...] = field(default=())

    def clips(self) -> list[ToyClip]:
        """Those."""
        return list(self.chosen)


def write_package(path: Path, clips: Sequence[ToyClip]) -> None:
    """A zip of the clips with their table, or a folder where the name does not end in .zip."""
    sections = tuple(sorted({clip.section_id for clip in clips}))
    write_toy_package(path, Cast(machine_types=(MACHINE_TYPE,), sections=sections, chosen=tuple(clips)))


def first_of_haneul() -> list[ToyClip]:
    """Normals of every speed and load of one machine."""
    return _clips("01", "train", SHARED, _EVERY)


def more_of_haneul() -> list[ToyClip]:
    """Later normals of the same machine."""
    return _clips("01", "train", ADDED, _EVERY, first=SHARED + 1)


def first_of_mirae() -> list[ToyClip]:
    """Two machines with few normals and labelled tests."""
    return [
        *_clips("01", "train", NORMALS, _TOP),
        *_clips("01", "test", LABELLED, _TOP_AT_EASE, snr_db=_LOUD_HALL_DB),
        *_clips("01", "test", LABELLED, _SLOW, label="anomaly"),
        *_clips("02", "train", NORMALS, _SOME),
        *_clips("02", "test", LABELLED, _EVERY),
        *_clips("02", "test", LABELLED, _EVERY, label="anomaly", severity=(0.85, 1.0)),
    ]


def late_of_mirae() -> list[ToyClip]:
    """A third machine, with hardly any normals."""
    return _clips("03", "train", LATE_NORMALS, _EVERY)


def recordings_of(section: str, *, normal: int, faulty: int) -> list[ToyClip]:
    """What a recorder heard later: normal sound, then plain faults to the end."""
    return [
        *_clips(section, "test", normal, _SOME, first=101),
        *_clips(section, "test", faulty, _SOME, first=101, label="anomaly", severity=(0.85, 1.0)),
    ]


def sounds(clips: Iterable[ToyClip]) -> dict[str, bytes]:
    """WAV files by name, in the order in which they were recorded."""
    return {f"{number:03}.wav": encode_wav(render_clip(clip)) for number, clip in enumerate(clips, start=1)}


def _clips(
    section: str,
    split: Split,
    count: int,
    operations: Sequence[tuple[str, str]],
    *,
    label: Label = "normal",
    severity: tuple[float, float] | None = None,
    snr_db: tuple[float, float] = _HALL_DB,
    first: int = 1,
) -> list[ToyClip]:
    """So many clips of a machine, taking its operations (speed, load) in turn, and the microphones and noises.

    An anomaly without a severity is one by how the machine runs alone: nothing is added to its sound.
    """
    found = []
    for number in range(first, first + count):
        index, draws = number - first, Draws("e2e", _SEED, section, split, label, number)
        speed, load = operations[index % len(operations)]
        kind = ANOMALY_TYPES[index % len(ANOMALY_TYPES)]
        found.append(
            ToyClip(
                seed=_SEED,
                machine_type=MACHINE_TYPE,
                section_id=section,
                domain="target",
                split=split,
                label=label,
                supp_type=None,
                number=number,
                recorded_at=_START + number * timedelta(minutes=10),
                speed_level=speed,
                load_level=load,
                mic_position_id=_MICROPHONES[index % len(_MICROPHONES)],
                noise_id=_NOISES[index // len(_MICROPHONES) % len(_NOISES)],
                snr_db=round(draws.uniform(*snr_db), 1),
                fault=plan_fault(kind, draws.uniform(*severity), draws) if severity else None,
            )
        )
    return found
