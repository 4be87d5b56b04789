"""From a clip's description to its samples.

    machine (1 m) ── position's filter ──┐
    fault   (1 m) ── position's filter ──┼── sum ── 16 bit
    noise ── position's shelves ── gain ─┘

The gain of the noise is set by the powers at the sum: mean square of the machine over mean square of the noise,
over the whole clip and without the fault, is the clip's `snr_db` exactly. Levels are linear full scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.toy.anomalies import make_fault
from engines.toy.draws import FloatArray
from engines.toy.machines import level_db, make_machine
from engines.toy.microphone import machine_response, machine_taps, noise_response
from engines.toy.noises import make_noise
from engines.toy.plan import ToyClip
from engines.toy.waves import N_SAMPLES, from_db, rms

# Peaks stay below full scale by construction: a scene may reach the first, what a fault adds the second.
SCENE_PEAK = 0.45
FAULT_PEAK = 0.5

_FULL_SCALE = 32_767


@dataclass(frozen=True)
class Components:
    """What a recording is the sum of, each float64 (N_SAMPLES,), linear full scale, at the microphone."""

    machine: FloatArray
    noise: FloatArray
    fault: FloatArray

    @property
    def recording(self) -> FloatArray:
        """The sum, float64 (N_SAMPLES,), before it is brought to 16 bit."""
        return np.asarray(self.machine + self.noise + self.fault)


def render_clip(clip: ToyClip) -> NDArray[np.int16]:
    """The clip's samples, int16 (N_SAMPLES,), mono at SAMPLE_RATE. The same clip gives the same samples."""
    scaled = np.rint(render_components(clip).recording * _FULL_SCALE)
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE).astype(np.int16)


def render_components(clip: ToyClip) -> Components:
    """The parts of the clip; what is not heard in it is zero."""
    machine, noise = _render_scene(clip)
    # One gain for the scene, so that neither the SNR nor the healthy part of a faulty clip depends on it.
    scene_gain = min(1.0, SCENE_PEAK / (np.abs(machine).max() + np.abs(noise).max()))
    machine, noise = machine * scene_gain, noise * scene_gain
    fault = _render_fault(clip, machine, scene_gain)
    silence = np.zeros(N_SAMPLES)
    return Components(
        machine=silence if clip.supp_type == "noise" else machine,
        noise=silence if clip.supp_type == "machine" else noise,
        fault=fault,
    )


def _render_scene(clip: ToyClip) -> tuple[FloatArray, FloatArray]:
    """Machine and noise at the microphone, at the clip's SNR."""
    emitted = make_machine(clip.machine_type, clip.individual, clip.operation, clip.draws("machine"))
    machine = np.fft.irfft(emitted * machine_response(clip.mic_position_id, clip.individual), N_SAMPLES)
    background = make_noise(clip.noise_id, clip.draws("noise"))
    noise = np.fft.irfft(background * noise_response(clip.mic_position_id), N_SAMPLES)
    return machine, noise * (rms(machine) / rms(noise) * from_db(-clip.snr_db))


def _render_fault(clip: ToyClip, machine: FloatArray, scene_gain: float) -> FloatArray:
    if clip.fault is None:
        return np.zeros(N_SAMPLES)
    fault = make_fault(
        clip.fault,
        machine=machine,
        level=scene_gain * from_db(level_db(clip.machine_type, clip.operation)),
        taps=machine_taps(clip.mic_position_id, clip.individual),
        draws=clip.draws("fault"),
    )
    if clip.fault.anomaly_type == "dropout":
        return fault  # takes away, never adds
    return np.asarray(fault * min(1.0, FAULT_PEAK / np.abs(fault).max()))
