"""Pages to render: figures drawn at random, but whole, as a run hands them over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytest

from engines.alarm import choose_alarm_rule
from engines.base import AnomalyMap
from engines.calibration import calibrate, conformal_p_values
from engines.grading import grade, severity
from engines.routing import AssetData, choose_engine, judge_criteria
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import (
    Asset,
    AssetIntake,
    AssetResult,
    Model,
    Package,
    QualityReport,
    Selection,
    Source,
    Verdict,
)
from schemas.settings import AlarmPolicy, Kpi, RoutingSettings
from tasks import keys
from tasks.calibrating import Champion, measure
from tasks.fleet import file_card
from tasks.ledger import Role, ledger_version
from tasks.report.pages import AssetPage, PackagePage, ShownClip
from tasks.store import FolderStore


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


def _clip(number: int = 0, **changes: Any) -> ShownClip:
    rng = np.random.default_rng(number)
    clip = ShownClip(
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


THRESHOLD_NORMALS = np.linspace(0.2, 0.3, 12)
"""Scores of the normals that a threshold handed in by a test was calibrated on."""


def _asset_page(*, labelled: bool = True, **changes: Any) -> AssetPage:
    rng = np.random.default_rng(7)
    normals, policy = rng.normal(0.25, 0.01, 12), changes.pop("policy", AlarmPolicy(rule="clip"))
    threshold = changes.pop("threshold", None)
    if threshold is None:
        threshold = calibrate(normals, policy, method="leave_one_out")
    else:
        normals = THRESHOLD_NORMALS
        policy = AlarmPolicy(false_alarms_per_day=1440 * threshold.alpha, rule="clip")
    rule = choose_alarm_rule(normals, policy, threshold, method=threshold.method)
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
    severities = severity(values, normals, threshold)
    scores["severity"] = severities
    scores["grade"] = [grade(how, alarm=bool(v > threshold.value)) for how, v in zip(severities, values, strict=True)]
    scores = changes.pop("scores", scores)
    metrics = measure(scores, rule, seed=0)
    page = AssetPage(
        language="en",
        package_name="march.zip",
        customer="acme-ulsan",
        run_id="0123456789abcdef",
        synthetic=False,
        selection=_selection(len(normals), len(scores)),
        threshold=threshold,
        rule=rule,
        policy=policy,
        metrics=metrics,
        normal_scores=normals,
        normal_ids=[f"normal_{i}" for i in range(len(normals))],
        scores=scores,
        kpi=Kpi(),
        worst=[_clip(i) for i in range(2)],
        versions={"numpy": "2.4.6"},
        context=_context(scores["clip_id"].tolist(), len(normals)),
        typical=[_clip(9, clip_id="normal_0", label="normal", alarm=False)],
    )
    return replace(page, **changes)


def _context(tests: list[str], normals: int) -> pd.DataFrame:
    """Two speeds, two kinds of faults, one recording an hour."""
    names = [*(f"normal_{i}" for i in range(normals)), *tests]
    table = pd.DataFrame({"clip_id": names, **dict.fromkeys(CONDITION_COLUMNS)})
    hours = pd.Timestamp("2026-03-02 09:00") + pd.to_timedelta(np.arange(len(names)), unit="h")
    table["recorded_at"] = hours.strftime("%Y-%m-%dT%H:%M")
    table["speed_level"] = np.where(np.arange(len(names)) % 3, "low", "high")
    table["anomaly_type"] = [None] * normals + ["leak" if i % 2 else "knock" for i in range(len(tests))]
    return table


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


class Onboarding:
    """Files what an onboarding leaves of an asset: ledger, champion, page and card."""

    @staticmethod
    def ledger_of(section: str, normals: int = 12) -> pd.DataFrame:
        names = [f"{section}-{i}" for i in range(normals)]
        return pd.DataFrame(
            {
                "recording_id": names,
                "clip_id": names,
                "machine_type": "fan",
                "section_id": section,
                "segment": 0,
                "split": "train",
                "domain": "target",
                "label": "normal",
                "supp_type": None,
                "role": Role.TARGET,
                "duration_s": 10.0,
                "package": "p" * 16,
            }
        )

    def __call__(self, store: FolderStore, page: AssetPage, section: str = "00") -> None:
        customer = page.customer
        ledger, asset_id = self.ledger_of(section), f"fan-{section}"
        store.put_frame(keys.asset(customer, asset_id, "ledger.parquet"), ledger)
        champion = Champion(
            version="v1", engine="a", encoder="lite0", ledger_version=ledger_version(ledger), previous=None
        )
        store.put_model(keys.asset(customer, asset_id, "champion.json"), champion)
        asset = page.selection.asset.model_copy(update={"section_id": section, "asset_id": asset_id})
        model = Model(
            asset=asset, version="v1", prefix=keys.model(customer, asset_id, "v1"), engine="a", encoder="lite0"
        )
        report = keys.run(customer, page.run_id, f"{asset_id}/report.html")
        store.put(report, b"the page")
        file_card(store, page, model, report=report)


@pytest.fixture(scope="session")
def onboard() -> Onboarding:
    """Files an asset page's machine in a store, as if it had been onboarded there."""
    return Onboarding()
