"""A machine to watch in tests: loudness is its anomaly, so that a clip is a fault because it was made loud."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from engines.alarm import choose_alarm_rule
from engines.base import ClipSet, Engine, Progress
from engines.calibration import calibrate
from engines.comparability import Recorded
from schemas.settings import AlarmPolicy, OnboardSettings
from tasks import keys
from tasks.calibrating import Champion
from tasks.hearing import Ear
from tasks.monitoring import Watch
from tasks.store import ObjectStore

CUSTOMER, ASSET = "acme", "fan-00"
QUIET, LOUD = 0.02, 0.5
AT_ONCE_S = 1e-6
"""For `Watcher.settle_s`, where a test does not ask how long a file must stand still."""
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


class Loudness(Engine):
    """Scores a clip by its level."""

    name = "loudness"
    normal_scores_method = "leave_one_out"

    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        return self

    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
        return np.array([float(np.sqrt(np.mean(np.square(wave.astype(np.float64))))) for _, wave in clips])

    def normal_scores(self) -> NDArray[np.float64]:
        return np.random.default_rng(0).normal(QUIET / np.sqrt(2), 1e-3, 12)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def make_watch(store: ObjectStore, policy: AlarmPolicy | None = None, *, version: str = "v1") -> Watch:
    """A champion of the store by which `Loudness` judges; by default one loud clip rings."""
    policy = policy or AlarmPolicy(rule="clip", hold_off_s=600, rearm_clips=2, drift_window=10)
    champion = Champion(version=version, engine="a", encoder="none", ledger_version="1", previous=None)
    store.put_model(keys.asset(CUSTOMER, ASSET, "champion.json"), champion)
    engine = Loudness()
    normals = engine.normal_scores()
    threshold = calibrate(normals, policy, method="leave_one_out")
    return Watch(
        customer=CUSTOMER,
        asset_id=ASSET,
        ear=Ear("fan", "00", "microphone", 16_000, OnboardSettings(alarm=policy)),
        champion=champion,
        open_engine=lambda: engine,
        normal_scores=normals,
        threshold=threshold,
        rule=choose_alarm_rule(normals, policy, threshold, method="leave_one_out"),
        background=None,
        recorded=Recorded(pieces=1, longest_s=10.0, band_hz=(1.0, 8000.0), level_db=(-100.0, 0.0)),
        page_key=None,
    )


def sound(number: int, level: float = QUIET) -> bytes:
    """A WAV of 1.2 s, another one for each number."""
    rng = np.random.default_rng(number)
    time = np.arange(int(1.2 * 16_000)) / 16_000
    wave = np.sin(2 * np.pi * 440 * time + rng.uniform(0, 6)) + 0.01 * rng.standard_normal(len(time))
    buffer = io.BytesIO()
    sf.write(buffer, level * wave, 16_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write(folder: Path, name: str, data: bytes, *, minute: float = 0.0) -> Path:
    """A file as a recorder leaves it, so many minutes after `START`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    stamp = (START + timedelta(minutes=minute)).timestamp()
    os.utime(path, (stamp, stamp))
    return path


def with_policy(watch: Watch, **changes: object) -> Watch:
    """The same watch under another alarm policy, its rule left as it is."""
    settings = watch.settings.model_copy(update={"alarm": watch.settings.alarm.model_copy(update=changes)})
    return replace(watch, ear=replace(watch.ear, settings=settings))
