"""Where the microphone hangs, as a filter: what the position does to the machine and to the room's noise.

From the machine come three paths: straight, by the floor and by the nearest wall (image sources). The later ones
are weaker and duller and beat with the straight one, which combs the spectrum differently at every position. Off
the microphone's axis the highs fall; close to the machine the lows rise (proximity). The room's noise arrives
from everywhere: it keeps the two shelves, but no comb and no distance.

All filters are finite: `taps` are float64 (n,) at SAMPLE_RATE, at most MAX_TAPS, beginning with the straight path.
A sound of n samples reaches the recording within n + taps - 1 samples and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engines.toy.draws import Draws, FloatArray
from engines.toy.waves import N_SAMPLES, SAMPLE_RATE, Spectrum

MAX_TAPS = 320

_SPEED_OF_SOUND = 343.0
_PROXIMITY_TAPS = 40


@dataclass(frozen=True)
class MicPosition:
    """A place to hang the microphone; lengths in m."""

    mic_position_id: str
    direction: str
    distance: float
    height: float
    wall: float
    # Share of the highs that is lost off the axis: 0 none, 1 all of them at Nyquist.
    off_axis: float
    # Lift of the lows below about 200 Hz: 0 none, 1 doubles them.
    proximity: float


_POSITIONS = (
    MicPosition("p1", "front", 0.6, 0.9, 2.2, off_axis=0.05, proximity=0.6),
    MicPosition("p2", "left", 0.8, 0.5, 1.4, off_axis=0.35, proximity=0.3),
    MicPosition("p3", "right", 0.7, 1.2, 1.8, off_axis=0.25, proximity=0.4),
    MicPosition("p4", "above", 1.4, 1.6, 0.7, off_axis=0.60, proximity=0.0),
    MicPosition("p5", "rear", 1.1, 0.3, 0.5, off_axis=0.80, proximity=0.1),
)
MIC_POSITIONS = {position.mic_position_id: position for position in _POSITIONS}


@lru_cache(maxsize=64)
def machine_taps(mic_position_id: str, site: str) -> FloatArray:
    """Filter from the machine, 1 m away on axis = 1, to the microphone, float64 (n,), read-only.

    `site` names where the machine stands: walls and floors differ a little from one site to another.
    Raises KeyError for an unknown position.
    """
    position = MIC_POSITIONS[mic_position_id]
    room = Draws("room", site)
    floor = float(np.hypot(position.distance, 2.0 * position.height)) * room.uniform(0.92, 1.08)
    wall = position.distance + 2.0 * position.wall * room.uniform(0.85, 1.15)
    straight = np.zeros(1) + 1.0 / position.distance
    paths = [
        (0.0, straight),
        (floor - position.distance, room.uniform(0.45, 0.65) / floor * _lowpass(0.5)),
        (wall - position.distance, room.uniform(0.5, 0.8) / wall * _lowpass(0.7)),
    ]
    taps = np.zeros(MAX_TAPS)
    for extra_m, path in paths:
        start = round(max(extra_m, 0.0) / _SPEED_OF_SOUND * SAMPLE_RATE)
        taps[start : start + len(path)] += path
    return _frozen(np.convolve(np.trim_zeros(taps, "b"), noise_taps(mic_position_id)))


@lru_cache(maxsize=16)
def noise_taps(mic_position_id: str) -> FloatArray:
    """Filter from the room's noise to the microphone, float64 (n,), read-only. KeyError as above."""
    position = MIC_POSITIONS[mic_position_id]
    lift = np.full(_PROXIMITY_TAPS, position.proximity / _PROXIMITY_TAPS)
    lift[0] += 1.0
    return _frozen(np.convolve(lift if position.proximity else np.ones(1), _lowpass(position.off_axis)))


@lru_cache(maxsize=16)
def machine_response(mic_position_id: str, site: str) -> Spectrum:
    """Frequency response of `machine_taps`, complex128 (N_BINS,), read-only."""
    response = np.fft.rfft(machine_taps(mic_position_id, site), N_SAMPLES)
    response.setflags(write=False)
    return response


@lru_cache(maxsize=16)
def noise_response(mic_position_id: str) -> Spectrum:
    """Frequency response of `noise_taps`, complex128 (N_BINS,), read-only."""
    response = np.fft.rfft(noise_taps(mic_position_id), N_SAMPLES)
    response.setflags(write=False)
    return response


def hear(sound: FloatArray, taps: FloatArray) -> FloatArray:
    """A passing sound at the microphone, float64 (n + taps - 1,), with its onset and its tail."""
    n = len(sound) + len(taps) - 1
    size = 1 << (n - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(taps, size), size)[:n]


def _lowpass(loss: float) -> FloatArray:
    """Three taps that keep the lows and lose that share of the amplitude at Nyquist."""
    return np.array([loss / 4.0, 1.0 - loss / 2.0, loss / 4.0])


def _frozen(taps: FloatArray) -> FloatArray:
    """The taps made read-only: they are shared by every clip of that position."""
    taps.setflags(write=False)
    return taps
