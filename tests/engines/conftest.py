"""A small machine to listen to, and the encoders to listen with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import ClipSet
from engines.encoders.base import Encoder
from engines.encoders.lite0 import Lite0Encoder
from engines.encoders.logmel import LogMelEncoder
from tasks.weights import lite0_weights

RATE = 16_000


class Machine:
    """Hum, broadband noise and a load that swings; no two recordings alike."""

    sample_rate = RATE

    def recording(
        self, seed: int, seconds: float = 1.2, *, speed: float = 1.0, load: float = 0.0
    ) -> NDArray[np.float32]:
        """A normal recording, float32 (samples,): of a faster machine, or with more noise under load."""
        rng = np.random.default_rng(seed)
        t = np.arange(round(seconds * RATE)) / RATE
        swing = 1.0 + 0.2 * np.sin(2 * np.pi * 3.0 * t + rng.uniform(0, 2 * np.pi))
        hum = [np.sin(2 * np.pi * speed * f * t + rng.uniform(0, 2 * np.pi)) / f for f in (100.0, 200.0, 400.0)]
        noise = (0.02 + 0.02 * load) * rng.standard_normal(t.size)
        return (swing * (5.0 * np.sum(hum, axis=0) + noise)).astype(np.float32)

    def whistling(
        self,
        waveform: NDArray[np.float32],
        *,
        start_s: float = 0.0,
        stop_s: float = 60.0,
        frequency_hz: float = 3000.0,
    ) -> NDArray[np.float32]:
        """The recording with a tone in it that no normal has."""
        t = np.arange(waveform.size) / RATE
        heard = (t >= start_s) & (t < stop_s)
        return (waveform + 0.05 * heard * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)

    def normals(self, count: int) -> ClipSet:
        """Recordings to learn from, r0, r1, …"""
        return ClipSet.from_arrays(
            [self.recording(seed) for seed in range(count)], recording_ids=[f"r{i}" for i in range(count)]
        )

    def tests(self, count: int) -> list[NDArray[np.float32]]:
        """Recordings of which every second one whistles."""
        plain = [self.recording(100 + seed) for seed in range(count)]
        return [self.whistling(one) if i % 2 else one for i, one in enumerate(plain)]


@pytest.fixture(scope="session")
def machine() -> Machine:
    return Machine()


@pytest.fixture(scope="session")
def lite0_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lite0_weights(tmp_path_factory.mktemp("weights"))


ENCODERS: dict[str, Callable[[pytest.FixtureRequest], Encoder]] = {
    "logmel": lambda _: LogMelEncoder(),
    "lite0": lambda request: Lite0Encoder(request.getfixturevalue("lite0_folder")),
}


@pytest.fixture(scope="session", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Every encoder in turn."""
    return ENCODERS[request.param](request)
