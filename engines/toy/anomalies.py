"""Faults and where they are heard.

    impulse_burst   one or two bursts of 50-300 ms: something hits or grinds for a moment
    band_tone       a whistle in a narrow band for 0.5-2 s
    bearing_rattle  impacts that excite a resonance, for 1-4 s
    dropout         the machine loses its drive for 0.4-2.5 s while the background goes on

A fault's regions are (start, end) in samples of the recording, end excluded, and exact: outside of them the
recording with the fault equals the one without it. What the machine emits is therefore shorter than its region by
the microphone filter's tail.

Severity runs from 0 (barely there) to 1 (plain) and sets the level against the machine's own, never against an
engine's score: in loud background a mild fault may well be beyond any detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.toy.draws import Draws, FloatArray
from engines.toy.microphone import hear
from engines.toy.waves import N_SAMPLES, SAMPLE_RATE, from_db, jittered, ring, rms, strike

# No fault begins or ends closer than this to the clip's edges, or to another one, s.
_MARGIN_S = 0.3

# RMS of the emitted fault against the machine's, dB, at severity 0 and 1.
_LEVELS_DB = {"impulse_burst": (-6.0, 12.0), "band_tone": (-16.0, 4.0), "bearing_rattle": (-10.0, 8.0)}
_DROPOUT_DB = (-4.0, -36.0)

# Shortest and longest region of a type, s.
_DURATIONS_S = {
    "impulse_burst": (0.05, 0.3),
    "band_tone": (0.5, 2.0),
    "bearing_rattle": (1.0, 4.0),
    "dropout": (0.4, 2.5),
}
ANOMALY_TYPES = tuple(_DURATIONS_S)


@dataclass(frozen=True)
class Fault:
    """What is wrong in a clip: `regions` are (start, end) in samples, end excluded, in order of time."""

    anomaly_type: str
    severity: float
    regions: tuple[tuple[int, int], ...]

    @property
    def regions_s(self) -> list[list[float]]:
        """The regions as [[start, end], …] in s, exact: times SAMPLE_RATE they round to the samples."""
        return [[start / SAMPLE_RATE, end / SAMPLE_RATE] for start, end in self.regions]


def plan_fault(anomaly_type: str, severity: float, draws: Draws) -> Fault:
    """Decide where the fault is heard. Raises KeyError for an unknown type."""
    shortest, longest = (round(seconds * SAMPLE_RATE) for seconds in _DURATIONS_S[anomaly_type])
    times = draws.integer(1, 2) if anomaly_type == "impulse_burst" else 1
    margin = round(_MARGIN_S * SAMPLE_RATE)
    # Each time in its own equal part of the clip, so that two never touch.
    part = N_SAMPLES // times
    regions = []
    for begin in range(0, part * times, part):
        length = draws.integer(shortest, longest)
        start = draws.integer(begin + margin, begin + part - margin - length)
        regions.append((start, start + length))
    return Fault(anomaly_type, severity, tuple(regions))


def make_fault(fault: Fault, *, machine: FloatArray, level: float, taps: FloatArray, draws: Draws) -> FloatArray:
    """What the fault adds to the recording, float64 (N_SAMPLES,), zero outside of its regions.

    `machine` is the healthy machine as recorded, `level` its RMS at 1 m, and `taps` the filter from the machine
    to the microphone. Raises KeyError for an unknown type.
    """
    added = np.zeros(N_SAMPLES)
    for start, end in fault.regions:
        if fault.anomaly_type == "dropout":
            added[start:end] = _lose_drive(machine[start:end], fault.severity)
        else:
            emitted = _EMITTERS[fault.anomaly_type](end - start - (len(taps) - 1), draws)
            weakest, strongest = _LEVELS_DB[fault.anomaly_type]
            gain = level * from_db(weakest + fault.severity * (strongest - weakest)) / rms(emitted)
            added[start:end] = hear(gain * emitted, taps)
    return added


def _emit_burst(n: int, draws: Draws) -> FloatArray:
    decay = draws.uniform(0.25, 1.0) * n
    noise = draws.noise(n)
    # Between a dull thud and a sharp crack: the share of the differenced noise.
    sharpness = draws.uniform(0.0, 1.0)
    colour = sharpness * np.diff(noise, prepend=noise[:1]) + (1.0 - sharpness) * noise
    return np.asarray(colour * np.exp(-np.arange(n) / decay) * _fade(n, 0.002))


def _emit_tone(n: int, draws: Draws) -> FloatArray:
    centre_hz = 600.0 * (6_000.0 / 600.0) ** draws.uniform(0.0, 1.0)
    # A whistle is never steady: it wavers by up to 2 % a few times a second.
    waver_hz, width = draws.uniform(3.0, 9.0), draws.uniform(0.002, 0.02)
    t = np.arange(n) / SAMPLE_RATE
    phase = centre_hz * t + width * centre_hz / waver_hz * np.sin(2.0 * np.pi * waver_hz * t) / (2.0 * np.pi)
    return np.asarray(np.sin(2.0 * np.pi * (phase + draws.uniform(0.0, 1.0))) * _fade(n, 0.05))


def _emit_rattle(n: int, draws: Draws) -> FloatArray:
    resonance = ring(draws.uniform(1_200.0, 5_000.0), draws.uniform(0.003, 0.012))
    spacing_s = 1.0 / draws.uniform(15.0, 70.0)
    # Play in the cage: neither the impacts' times nor their strengths are regular.
    starts = jittered(np.arange(0.0, n, spacing_s * SAMPLE_RATE), 0.15 * spacing_s, draws)
    impacts = np.zeros(n)
    strike(impacts, starts, draws.uniforms(0.3, 1.0, len(starts)), resonance)
    return np.asarray((impacts + 0.01 * draws.noise(n)) * _fade(n, 0.005))


def _lose_drive(machine: FloatArray, severity: float) -> FloatArray:
    mildest, deepest = _DROPOUT_DB
    loss = 1.0 - from_db(mildest + severity * (deepest - mildest))
    return np.asarray(-loss * _fade(len(machine), 0.02) * machine)


def _fade(n: int, ramp_s: float) -> FloatArray:
    """Raised-cosine ramps at both ends of n samples, nowhere zero."""
    ramp = max(round(ramp_s * SAMPLE_RATE), 1)
    nearest_end = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(nearest_end / ramp, 1.0)) ** 2)


_EMITTERS: dict[str, Callable[[int, Draws], FloatArray]] = {
    "impulse_burst": _emit_burst,
    "band_tone": _emit_tone,
    "bearing_rattle": _emit_rattle,
}
