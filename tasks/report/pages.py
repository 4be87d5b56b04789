"""The pages of a run, one a package and one an asset, and the page of all machines of a customer.

A page is a frozen dataclass of what it shows, rendered by Jinja2 into one HTML file that fetches nothing. The same
page gives the same bytes. Text of a package is escaped wherever it stands; figures hold none of it.

Units: scores are the engine's own, levels linear full scale, times s, frequencies Hz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jinja2 import Environment
from numpy.typing import NDArray

from engines.alarm import AlarmRule
from engines.base import AnomalyMap
from engines.calibration import Threshold
from engines.grading import Grade
from engines.metrics import AssetMetrics
from schemas.machine_types import MachineTypes
from schemas.problems import Problem, Severity
from schemas.references import AssetIntake, AssetResult, Package, QualityReport, Selection, Statement
from schemas.settings import AlarmPolicy, Kpi, Language
from tasks.html import html_environment
from tasks.report import asset_view, fleet_view, package_view, words
from tasks.report.conclusion import Conclusion
from tasks.report.words import Words

if TYPE_CHECKING:
    from tasks.fleet import Fleet


@dataclass(frozen=True, eq=False)
class ShownClip:
    """A clip to hear and see.

    `waveform` float32 (n,), linear full scale; `regions` the stretches (start_s, end_s) that its label calls
    anomalous; `map` None from an engine that has none; `members` of an ensemble the p-value of each engine; `severity`
    and `grade` as in `scores.csv`, None where they were not given; `learnt` a test that is a copy of what was learnt.
    """

    clip_id: str
    label: str | None
    score: float
    p_value: float
    alarm: bool
    waveform: NDArray[np.float32]
    sample_rate: int
    bandwidth_hz: float
    map: AnomalyMap | None
    regions: Sequence[tuple[float, float]] = ()
    severity: float | None = None
    grade: Grade | None = None
    members: Mapping[str, float] = field(default_factory=dict)
    learnt: bool = False


@dataclass(frozen=True)
class Fault:
    """A rule that recordings of an asset broke: how many of them, and the problems that tell of it."""

    rule: str
    severity: Severity
    recordings: int
    problems: Sequence[Problem]


@dataclass(frozen=True, eq=False)
class AssetPage:
    """What the page of one asset shows.

    `normal_scores` float64 (n,), each normal scored by a model without it, and their `normal_ids`; `scores` the rows of
    `scores.csv`; `rule` and `policy` what makes an alarm of high clips; `worst` the highest-scoring test clips, or the
    least typical normals where there are no test clips; `missed` the faults least like faults; `typical` the normals
    most like the others; `context` one row a clip, by `clip_id`, of what was written down of its recording
    (recorded_at, the condition columns, anomaly_type); `intake` and `faults` what this package brought for this asset
    and what was wrong with it; `caveats` those of the model; `noise_recordings` of the place without the machine, and
    `indistinct` why they do not tell whether it is off; `least_normals` an engine must learn from at least;
    `longest_s` of the normals, which the stated rate of false alarms stands on; `types` the machine types the customer
    knows, None: the built-in ones.
    """

    language: Language
    package_name: str
    customer: str
    run_id: str
    synthetic: bool
    selection: Selection
    threshold: Threshold
    rule: AlarmRule
    policy: AlarmPolicy
    metrics: AssetMetrics
    normal_scores: NDArray[np.float64]
    normal_ids: Sequence[str]
    scores: pd.DataFrame
    kpi: Kpi
    worst: Sequence[ShownClip]
    versions: dict[str, str]
    context: pd.DataFrame
    missed: Sequence[ShownClip] = ()
    typical: Sequence[ShownClip] = ()
    intake: AssetIntake | None = None
    faults: Sequence[Fault] = ()
    noise_recordings: int = 0
    indistinct: str | None = None
    least_normals: int = 3
    longest_s: float | None = None
    caveats: Sequence[str] = ()
    types: MachineTypes | None = None
    package_link: str = "../report.html"
    fleet_link: str | None = None


@dataclass(frozen=True, eq=False)
class PackagePage:
    """What the page of a package shows, accepted or not.

    `quality_table` has one row a recording; `concluded` what the page of each of `assets` concludes, None where it says
    nothing.
    """

    language: Language
    package: Package
    quality: QualityReport
    run_id: str
    assets: Sequence[AssetResult]
    versions: dict[str, str]
    quality_table: pd.DataFrame
    statements: Sequence[Statement] = ()
    types: MachineTypes | None = None
    concluded: Sequence[Conclusion | None] = ()
    prefect_run_id: str | None = None


def render_asset_page(page: AssetPage) -> str:
    """The page of one asset as HTML."""
    say = Words(page.language, page.types)
    return _render("asset.html.j2", page=page, say=say, language=page.language, **asset_view.describe(page, say))


def render_package_page(page: PackagePage) -> str:
    """The page of a package as HTML."""
    say = Words(page.language, page.types)
    return _render("package.html.j2", page=page, say=say, language=page.language, **package_view.describe(page, say))


def render_fleet_page(fleet: Fleet, *, language: Language) -> str:
    """The page of all machines of a customer as HTML."""
    say = Words(language, fleet.types)
    return _render("fleet.html.j2", fleet=fleet, say=say, language=language, **fleet_view.describe(fleet, say))


def _render(template: str, **facts: object) -> str:
    return str(_environment().get_template(template).render(facts))


@cache
def _environment() -> Environment:
    environment = html_environment("tasks.report")
    environment.filters |= {
        "number": words.number,
        "rate": words.rate,
        "probability": words.probability,
        "size": words.size,
        "missing": lambda value: value is None or bool(pd.isna(value)),
    }
    return environment
