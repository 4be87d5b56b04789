"""The pages of a run: one a package, one an asset.

A page is a frozen dataclass of what it shows, rendered by Jinja2 into one HTML file that fetches nothing. The same
page gives the same bytes. Text of a package is escaped wherever it stands; figures hold none of it.

Units: scores are the engine's own, levels linear full scale, times s, frequencies Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from jinja2 import Environment
from numpy.typing import NDArray

from engines.base import AnomalyMap
from engines.calibration import Threshold
from engines.metrics import AssetMetrics
from schemas.references import AssetResult, Package, QualityReport, Selection, Statement
from schemas.settings import Kpi, Language
from tasks.html import html_environment
from tasks.report import asset_view, package_view, words
from tasks.report.words import Words


@dataclass(frozen=True, eq=False)
class WorstClip:
    """A clip to hear and see.

    `waveform` float32 (n,), linear full scale; `regions` the stretches (start_s, end_s) that its label calls
    anomalous; `map` None from an engine that has none.
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


@dataclass(frozen=True, eq=False)
class AssetPage:
    """What the page of one asset shows.

    `normal_scores` float64 (n,), each normal scored by a model without it, and their `normal_ids`; `scores` the rows of
    `scores.csv`; `worst` the highest-scoring test clips, or the least typical normals where there are no test clips;
    `caveats` those of the model.
    """

    language: Language
    package_name: str
    customer: str
    run_id: str
    synthetic: bool
    selection: Selection
    threshold: Threshold
    metrics: AssetMetrics
    normal_scores: NDArray[np.float64]
    normal_ids: Sequence[str]
    scores: pd.DataFrame
    kpi: Kpi
    worst: Sequence[WorstClip]
    versions: dict[str, str]
    caveats: Sequence[str] = ()
    package_link: str = "../report.html"


@dataclass(frozen=True, eq=False)
class PackagePage:
    """What the page of a package shows, accepted or not; `quality_table` has one row a recording."""

    language: Language
    package: Package
    quality: QualityReport
    run_id: str
    assets: Sequence[AssetResult]
    versions: dict[str, str]
    quality_table: pd.DataFrame
    statements: Sequence[Statement] = ()
    prefect_run_id: str | None = None


def render_asset_page(page: AssetPage) -> str:
    """The page of one asset as HTML."""
    say = Words(page.language)
    return _render("asset.html.j2", page=page, say=say, language=page.language, **asset_view.describe(page, say))


def render_package_page(page: PackagePage) -> str:
    """The page of a package as HTML."""
    say = Words(page.language)
    return _render("package.html.j2", page=page, say=say, language=page.language, **package_view.describe(page, say))


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
