"""Pages to render: figures drawn at random, but whole, as a run hands them over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytest

from engines.base import AnomalyMap
from engines.calibration import calibrate, conformal_p_values
from engines.metrics import evaluate
from engines.routing import AssetData, choose_engine, judge_criteria
from schemas.references import Asset, AssetIntake, AssetResult, Package, QualityReport, Selection, Source, Verdict
from schemas.settings import AlarmPolicy, Kpi, RoutingSettings
from tasks.report.pages import AssetPage, PackagePage, WorstClip


class MakeAssetPage(Protocol):
    def __call__(self, *, labelled: bool = True, **changes: Any) -> AssetPage: ...


class MakePackagePage(Protocol):
    def __call__(self, *, report: dict[str, Any] | None = None, **changes: Any) -> PackagePage: ...


@pytest.fixture(scope="session")
def make_clip() -> Any:
    """A clip of noise with a map of 8 × 12 cells, which a test may change field by field."""
    return _clip


@pytest.fixture(scope="session")
def make_asset_page() -> MakeAssetPage:
    """An asset of 12 normals with 8 normal and 8 faulty tests, half of each from the source."""
    return _asset_page


@pytest.fixture(scope="session")
def make_package_page() -> MakePackagePage:
    """An accepted package of one asset; `report` changes fields of its quality report."""
    return _package_page


def _clip(number: int = 0, **changes: Any) -> WorstClip:
    rng = np.random.default_rng(number)
    clip = WorstClip(
        clip_id=f"clip_{number}",
        label="anomaly",
        score=0.5,
        p_value=1 / 13,
        alarm=True,
        waveform=(0.1 * rng.standard_normal(32_000)).astype(np.float32),
        sample_rate=16_000,
        bandwidth_hz=8000.0,
        map=AnomalyMap(
            values=rng.uniform(0.05, 0.5, (8, 12)).astype(np.float32),
            frequencies_hz=np.linspace(500.0, 7500.0, 8),
            times_s=(np.arange(12) + 0.5) / 6,
        ),
    )
    return replace(clip, **changes)


def _asset_page(*, labelled: bool = True, **changes: Any) -> AssetPage:
    rng = np.random.default_rng(7)
    normals = rng.normal(0.25, 0.01, 12)
    policy = AlarmPolicy()
    threshold = changes.pop("threshold", None) or calibrate(normals, policy, method="leave_one_out")
    anomaly = np.arange(16) < 8
    values = np.where(anomaly, rng.normal(0.5, 0.05, 16), rng.normal(0.25, 0.01, 16))
    scores = pd.DataFrame(
        {
            "clip_id": [f"clip_{i}" for i in range(16)],
            "machine_type": "fan",
            "section_id": "00",
            "split": "test",
            "domain": np.where(np.arange(16) % 2, "source", "target"),
            "label": np.where(anomaly, "anomaly", "normal") if labelled else None,
            "score": values,
            "p_value": conformal_p_values(values, normals),
            "threshold": threshold.value,
            "decision": np.where(values > threshold.value, "alarm", "normal"),
            "state": "not assessed",
            "engine": "a",
            "model_version": "0123",
        }
    )
    scores = changes.pop("scores", scores)
    labels = scores["label"].map({"anomaly": 1.0, "normal": 0.0}).to_numpy(dtype=np.float64)
    metrics = evaluate(
        scores["score"], labels, scores["domain"].tolist(), decisions=(scores["decision"] == "alarm").to_numpy()
    )
    page = AssetPage(
        language="en",
        package_name="march.zip",
        customer="acme-ulsan",
        run_id="0123456789abcdef",
        synthetic=False,
        selection=_selection(len(normals), len(scores)),
        threshold=threshold,
        metrics=metrics,
        normal_scores=normals,
        normal_ids=[f"normal_{i}" for i in range(len(normals))],
        scores=scores,
        kpi=Kpi(),
        worst=[_clip(i) for i in range(2)],
        versions={"numpy": "2.4.6"},
    )
    return replace(page, **changes)


def _selection(normals: int, tests: int) -> Selection:
    criteria = judge_criteria(AssetData(target_normals=normals, source_normals=0), RoutingSettings())
    choice = choose_engine(criteria)
    asset = Asset(
        customer="acme-ulsan",
        machine_type="fan",
        section_id="00",
        asset_id="fan-00",
        ledger_key="assets/acme-ulsan/fan-00/ledger.parquet",
        ledger_version="0123",
        target=normals,
        source=0,
        test=tests,
    )
    source = Source(asset=asset, key="source.parquet", version="0123", recordings=0, own=0, customers=())
    return Selection(
        asset=asset,
        source=source,
        engine=choice.engine,
        encoder="lite0",
        reason=choice.reason,
        criteria=tuple(criteria),
        candidates=choice.candidates,
    )


def _package_page(*, report: dict[str, Any] | None = None, **changes: Any) -> PackagePage:
    intake = AssetIntake(
        machine_type="fan",
        section_id="00",
        target=12,
        source=0,
        test=16,
        supplemental=0,
        quarantined=0,
        known_target=0,
        normals=12,
        accepted=True,
    )
    quality: dict[str, Any] = {
        "package_id": "fedcba9876543210",
        "verdict": Verdict.ACCEPTED,
        "bad_input": False,
        "clips": 28,
        "ok": 28,
        "warned": 0,
        "quarantined": 0,
        "synthetic": False,
        "assets": (intake,),
        "problems": (),
        "metadata_key": None,
        "quality_key": "runs/acme-ulsan/0123456789abcdef/quality.parquet",
    }
    result = AssetResult(
        machine_type="fan",
        section_id="00",
        engine="a",
        encoder="lite0",
        n_target=12,
        n_source=0,
        n_test=16,
        auc=0.98,
        pauc=0.95,
        auc_source=0.97,
        auc_target=0.99,
        threshold=0.31,
        certified=False,
        alarms_per_day=1.0,
        report="runs/acme-ulsan/0123456789abcdef/fan-00/report.html",
    )
    page = PackagePage(
        language="en",
        package=Package(
            customer="acme-ulsan",
            package_id="fedcba9876543210",
            name="march.zip",
            raw_key="raw/acme-ulsan/fedcba9876543210.zip",
            files=29,
            bytes=9_000_000,
        ),
        quality=QualityReport(**(quality | (report or {}))),
        run_id="0123456789abcdef",
        assets=[result],
        versions={"numpy": "2.4.6"},
        quality_table=_quality_table(),
    )
    return replace(page, **changes)


def _quality_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clip_id": ["clip_0", "clip_1", None],
            "relative_path": ["audio/clip_0.wav", "audio/clip_1.wav", "audio/broken.wav"],
            "verdict": pd.Series(["ok", "warn", "reject"], dtype="string"),
            "duration_s": pd.Series([10.0, 10.0, None], dtype="Float64"),
            "sample_rate": pd.Series([16_000, 48_000, None], dtype="Int64"),
            "rms": pd.Series([0.1, 0.0, None], dtype="Float64"),
            "clipping_ratio": pd.Series([0.0, 0.0123, None], dtype="Float64"),
        }
    )
