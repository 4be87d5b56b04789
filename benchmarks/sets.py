"""The recordings that quality is measured on, and how support and tests are drawn from them.

A set is one asset: source normals to learn from (there may be none), a *pool* of target normals, and the clips that
are always tested: every anomaly and the source's test normals. A draw takes `shots` normals of the pool for support;
the rest of the pool is tested with the others. The draws are permutations by fixed seeds, so all methods see the same,
and the three shots of one draw are a part of its five.

Waveforms are float32 (samples,), linear full scale, made by the steps a plant's package goes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.base import Clip, ClipSet
from engines.toy import MACHINE_TYPES, SAMPLE_RATE, render_clip
from engines.toy.plan import ToyClip, ToyPlan
from schemas.errors import UsageError
from schemas.metadata import CONDITION_COLUMNS
from schemas.settings import OnboardSettings

SHOTS = (3, 5, 10)
REDRAWS = 5
DRAW_SEED = 2023
"""Of the draws; the redraw's number is added."""

TOY_COUNTS = {
    ("source", "train", "normal"): 220,
    ("target", "train", "normal"): 10,
    ("source", "test", "normal"): 20,
    ("target", "test", "normal"): 20,
    ("source", "test", "anomaly"): 20,
    ("target", "test", "anomaly"): 20,
}
"""Toy clips taken of each role; clip n of a role is the same at every scale."""

_FULL_SCALE_16_BIT = 32_768


@dataclass(frozen=True)
class Labelled:
    """One clip and what is known of it: `domain` source or target, `role` source, pool or test."""

    clip: Clip
    domain: str
    role: str
    is_anomaly: bool


@dataclass(frozen=True, eq=False)
class BenchSet:
    """One asset's recordings; `samples` are float32 (samples,) each."""

    name: str
    machine: str
    seed: int
    clips: tuple[Labelled, ...]
    samples: Sequence[NDArray[np.float32]] = field(repr=False)

    @property
    def title(self) -> str:
        """Unique among the sets; good for a file's name."""
        return f"{self.name}-{self.machine}-{self.seed}"

    def indices(self, role: str) -> list[int]:
        """Where the clips of a role are."""
        return [i for i, clip in enumerate(self.clips) if clip.role == role]

    def clip_set(self, indices: Sequence[int]) -> ClipSet:
        """The clips at `indices`, as engines take them."""
        chosen = list(indices)
        return ClipSet([self.clips[i].clip for i in chosen], lambda i: self.samples[chosen[i]])

    @property
    def source(self) -> ClipSet | None:
        """What there is to learn from besides the target; None where there is nothing."""
        indices = self.indices("source")
        return self.clip_set(indices) if indices else None


@dataclass(frozen=True)
class Draw:
    """Which clips are learnt from and which are tested, as indices into a set's clips."""

    shots: int
    redraw: int
    support: tuple[int, ...]
    tests: tuple[int, ...]


def draws(bench: BenchSet, *, shots: Sequence[int] = SHOTS, redraws: int = REDRAWS) -> Iterator[Draw]:
    """Every draw of a set.

    Raises
    ------
    UsageError
        The pool holds no more normals than one of `shots`, so that none would be left to test.
    """
    pool, fixed = bench.indices("pool"), bench.indices("test")
    if max(shots) >= len(pool):
        raise UsageError(f"{bench.title}: a pool of {len(pool)} normals leaves none to test at {max(shots)} shots")
    for redraw in range(redraws):
        order = np.random.default_rng([DRAW_SEED, redraw]).permutation(pool).tolist()
        for count in shots:
            yield Draw(count, redraw, tuple(order[:count]), tuple(sorted(order[count:]) + fixed))


def toy_set(machine: str, seed: int, *, counts: dict[tuple[str, str, str], int] | None = None) -> BenchSet:
    """Toy clips of one machine type, rendered now (10 s of one core for 310 clips)."""
    wanted = counts or TOY_COUNTS
    plan = ToyPlan(machine_types=(machine,), scale=1.0, seed=seed)
    taken = [
        clip
        for clip in plan.clips()
        if clip.supp_type is None and clip.number <= wanted[clip.domain, clip.split, clip.label]
    ]
    return BenchSet(
        "toy", machine, seed, tuple(map(_describe_toy, taken)), [_to_float(render_clip(clip)) for clip in taken]
    )


def _describe_toy(clip: ToyClip) -> Labelled:
    conditions = {column: str(value) for column in CONDITION_COLUMNS if (value := getattr(clip, column)) is not None}
    is_anomaly = clip.label == "anomaly"
    return Labelled(
        Clip(clip.clip_id, clip.clip_id, SAMPLE_RATE, SAMPLE_RATE / 2, conditions),
        clip.domain,
        _role(clip.domain, clip.split, is_anomaly),
        is_anomaly,
    )


def _role(domain: str, split: str, is_anomaly: bool) -> str:
    if domain == "target" and not is_anomaly:
        return "pool"
    return "source" if split == "train" else "test"


def package_set(path: Path) -> BenchSet:
    """The labelled clips of a package with one asset, judged, decoded and standardized as an onboarding does it.

    Raises
    ------
    UsageError
        The package holds several assets, or recordings of more than one segment.
    PackageError
        It cannot be read.
    """
    from tasks.packages import open_package
    from tasks.quality import judge

    with open_package(path) as archive:
        rows = judge(archive).accepted_clips
        rows = rows[(rows["split"] != "supplemental") & rows["label"].notna()]
        assets = sorted(set(zip(rows["machine_type"], rows["section_id"], strict=True)))
        if len(assets) != 1:
            raise UsageError(f"{path.name} holds labelled clips of {len(assets)} assets; the benchmark takes one")
        standard = [_standardize(archive.read(row["relative_path"]), row) for row in rows.to_dict("records")]
    clips, samples = zip(*standard, strict=True)
    return BenchSet(path.stem, assets[0][0], 0, clips, samples)


def _standardize(data: bytes, row: dict[str, object]) -> tuple[Labelled, NDArray[np.float32]]:
    from engines.standardize import cut_segments
    from tasks.audio import decode
    from tasks.signals import sensor_of, to_standard

    settings, name = OnboardSettings(), str(row["relative_path"])
    decoded = decode(data, settings.qa, name=name)
    whole = to_standard(decoded, sensor=sensor_of(row["sensor"]), rate=settings.standardize.sample_rate)
    if len(cut_segments(len(whole.codes), whole.sample_rate, segment_s=settings.standardize.segment_s)) > 1:
        raise UsageError(f"{name} is longer than a segment; the benchmark takes clips of one segment")
    conditions = {column: str(row[column]) for column in CONDITION_COLUMNS if isinstance(row[column], str)}
    domain, is_anomaly = str(row["domain"]), row["label"] == "anomaly"
    clip = Clip(str(row["clip_id"]), str(row["clip_id"]), whole.sample_rate, whole.bandwidth_hz, conditions)
    return Labelled(clip, domain, _role(domain, str(row["split"]), is_anomaly), is_anomaly), whole.waveform


def _to_float(codes: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.asarray(codes / np.float32(_FULL_SCALE_16_BIT), dtype=np.float32)


def check_machines(names: Sequence[str]) -> tuple[str, ...]:
    """The toy machine types by these names, in their own order; all of them where none is named."""
    unknown = sorted(set(names) - set(MACHINE_TYPES))
    if unknown:
        raise UsageError(f"there are no toy sounds of {', '.join(unknown)}; choose from {', '.join(MACHINE_TYPES)}")
    return tuple(machine for machine in MACHINE_TYPES if machine in names or not names)
