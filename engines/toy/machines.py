"""Clean sounds of eight machine types, as functions of the individual machine, its speed and its load.

    fan         blade pass and its harmonics over air noise that the blades modulate
    pump        vane pass, flow noise, and cavitation crackle that grows with load
    valve       solenoid strokes: a bright click to open, a dull one to close, a hiss between
    slider      rail strokes: servo whine and friction that follow the velocity, stick-slip near the ends, end stops
    bearing     high-frequency noise modulated at the ball-pass rates, over a weak shaft
    motor       magnetic hum at twice the line, slot lines with sidebands, a carrier whine of the inverter
    compressor  piston strokes: sharp pressure pulses, flutter of the valves, breath of the intake, a ringing tank
    gearbox     gear mesh with sidebands at both shafts' rates, a light rattle

An individual (section) has its own fundamental, counts of blades, teeth or balls, amplitudes and body resonances,
all drawn from its own stream; a clip adds only its start angle, its small drifts and its noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engines.toy.draws import Draws, FloatArray
from engines.toy.waves import (
    N_SAMPLES,
    SAMPLE_RATE,
    Spectrum,
    crossings,
    drift,
    falling,
    from_db,
    harmonics,
    jittered,
    periodic,
    ring,
    rotate,
    sharpen,
    smooth,
    spectral_rms,
    strike,
)

SPEEDS = {"slow": 0.85, "medium": 1.0, "fast": 1.12, "top": 1.25}
LOADS = {"light": 0.6, "medium": 0.8, "heavy": 1.0}

# A load level moves the loudness of a machine by this much for the whole range of LOADS.
_LOAD_DB = 4.0


@dataclass(frozen=True)
class Operation:
    """How a machine runs in one clip: factors on its nominal speed and load."""

    speed: float
    load: float


@dataclass(frozen=True)
class Body:
    """A machine type from outside: how its frame colours and carries what the moving parts do.

    modes           resonances, one in each equal ratio of lowest_hz to highest_hz
    quality         their mean Q on rubber mounts
    direct          amplitude of what passes beside the modes, whose own peaks are at most 1
    level_db        RMS at 1 m on axis at nominal speed and heavy load, dB re full scale
    operating_mode  whether the machine runs on or comes and goes
    """

    modes: int
    lowest_hz: float
    highest_hz: float
    quality: float
    direct: float
    level_db: float
    operating_mode: str


BODIES = {
    "fan": Body(5, 120.0, 1_800.0, 5.0, 0.30, -30.0, "continuous"),
    "pump": Body(6, 200.0, 2_600.0, 8.0, 0.22, -30.0, "continuous"),
    "valve": Body(4, 700.0, 5_000.0, 6.0, 0.50, -38.0, "cycling"),
    "slider": Body(5, 300.0, 4_000.0, 7.0, 0.35, -33.0, "cycling"),
    "bearing": Body(5, 1_400.0, 6_500.0, 9.0, 0.18, -31.0, "continuous"),
    "motor": Body(5, 180.0, 3_200.0, 8.0, 0.30, -30.0, "continuous"),
    "compressor": Body(6, 70.0, 1_200.0, 7.0, 0.20, -31.0, "continuous"),
    "gearbox": Body(6, 300.0, 4_200.0, 10.0, 0.25, -30.0, "continuous"),
}

# How an individual is mounted, and what that does to the quality of its modes.
INSTALLATIONS = {"concrete_base": 0.7, "rubber_mounts": 1.0, "steel_frame": 1.6}


def installation_of(machine_type: str, individual: str) -> str:
    """How that individual is mounted: one of INSTALLATIONS."""
    return Draws("installation", machine_type, individual).pick(sorted(INSTALLATIONS))


def make_machine(machine_type: str, individual: str, operation: Operation, draws: Draws) -> Spectrum:
    """The individual's clean sound at 1 m on axis, linear full scale, as a spectrum, complex128 (N_BINS,).

    `individual` names the machine's own stream, `draws` is the clip's. Raises KeyError for an unknown type.
    """
    parts = _MACHINES[machine_type](Draws("parts", machine_type, individual), operation, draws)
    sound = np.fft.rfft(parts)
    sound *= body_response(machine_type, individual)
    sound *= from_db(level_db(machine_type, operation)) / spectral_rms(sound)
    return sound


def level_db(machine_type: str, operation: Operation) -> float:
    """RMS level at 1 m on axis, dB re full scale: the type's, raised by load and speed."""
    load_range = LOADS["heavy"] - LOADS["light"]
    by_load = _LOAD_DB * (operation.load - LOADS["heavy"]) / load_range
    return float(BODIES[machine_type].level_db + by_load + 20.0 * np.log10(operation.speed))


@lru_cache(maxsize=16)
def body_response(machine_type: str, individual: str) -> Spectrum:
    """Frequency response of the individual's body, complex128 (N_BINS,), read-only.

    A sum of resonances 1 / (1 + jQ(f/f0 - f0/f)) with random signs beside a direct share.
    """
    body = BODIES[machine_type]
    draws = Draws("body", machine_type, individual)
    quality = body.quality * INSTALLATIONS[installation_of(machine_type, individual)]
    frequencies = np.fft.rfftfreq(N_SAMPLES, 1.0 / SAMPLE_RATE)
    frequencies[0] = frequencies[1]
    # One mode in every equal ratio of the range, so that no individual is left without lows or highs.
    edges = np.geomspace(body.lowest_hz, body.highest_hz, body.modes + 1)
    response = np.full(len(frequencies), body.direct, dtype=np.complex128)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        mode_hz = draws.uniform(low, high)
        gain = draws.pick((-1.0, 1.0)) * from_db(draws.uniform(-9.0, 0.0))
        detuning = frequencies / mode_hz - mode_hz / frequencies
        response += gain / (1.0 + 1j * quality * draws.uniform(0.7, 1.4) * detuning)
    response[0] = 0.0
    response.setflags(write=False)
    return response


def _make_fan(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    shaft = rotate(machine.uniform(19.0, 33.0) * operation.speed, clip, wander=0.003)
    blades = machine.integer(5, 9)
    unbalance = harmonics(shaft, falling(range(1, 5), 1.0, machine), machine)
    pass_amplitudes = falling(range(blades, blades * 13, blades), 1.5, machine)
    blade_pass = harmonics(shaft, pass_amplitudes, machine)
    chop = harmonics(shaft, {blades: 1.0, 2 * blades: 0.4}, machine)
    air = smooth(smooth(clip.noise(N_SAMPLES), 1_200.0), 500.0) * (1.0 + 0.35 * chop)
    return np.asarray(0.25 * unbalance + 0.9 * blade_pass + 3.0 * operation.load * operation.speed**2 * air)


def _make_pump(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    shaft = rotate(machine.uniform(42.0, 58.0) * operation.speed, clip, wander=0.002)
    vanes = machine.integer(4, 7)
    rotor = harmonics(shaft, falling(range(1, 9), 0.7, machine), machine)
    vane_pass = harmonics(shaft, falling(range(vanes, vanes * 11, vanes), 0.8, machine), machine)
    noise = clip.noise(N_SAMPLES)
    flow = smooth(sharpen(noise), 1_500.0) * (1.0 + 0.25 * drift(clip))
    # Collapsing bubbles: the rare large values of a noise, more of them under load.
    bubbles = clip.noise(N_SAMPLES)
    crackle = np.where(bubbles > 3.05 - 0.55 * operation.load, bubbles, 0.0)
    return np.asarray(0.5 * rotor + 0.9 * operation.load * vane_pass + 3.0 * flow + 1.2 * crackle)


def _make_valve(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    strokes = rotate(operation.speed / machine.uniform(0.55, 0.95), clip, wander=0.01)
    share_open = machine.uniform(0.35, 0.6)
    opened, closed = crossings(strokes), crossings(strokes - share_open)
    sound = np.zeros(N_SAMPLES)
    for starts, lowest_hz, gain in ((opened, 2_200.0, 1.0), (closed, 700.0, 1.3)):
        hits = jittered(starts, 0.002, clip)
        strength = gain * (0.7 + 0.3 * operation.load) * clip.uniforms(0.9, 1.1, len(hits))
        for _ in range(3):
            kernel = ring(machine.uniform(lowest_hz, 2.6 * lowest_hz), machine.uniform(0.004, 0.018))
            strike(sound, hits, machine.uniform(0.4, 1.0) * strength, kernel)
    is_open = _gate(strokes, share_open)
    hum = harmonics(rotate(60.0, clip, wander=0.0003), {2: 1.0, 4: 0.5, 6: 0.3}, machine)
    hiss = sharpen(clip.noise(N_SAMPLES))
    return np.asarray(sound + (0.004 + 0.05 * operation.load * is_open) * hiss + 0.012 * is_open * hum)


def _make_slider(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    strokes = rotate(operation.speed / machine.uniform(1.5, 2.4), clip, wander=0.01)
    velocity = np.abs(periodic(strokes, np.sin(2.0 * np.pi * np.arange(4_096) / 4_096)))
    noise = clip.noise(N_SAMPLES)
    # Faster friction is louder and brighter.
    friction = velocity * (velocity * sharpen(noise) + (1.0 - velocity) * smooth(noise, 700.0))
    travelled = np.cumsum(velocity) / SAMPLE_RATE
    whine_hz = machine.uniform(380.0, 620.0) * operation.speed
    whine = velocity * harmonics(travelled * whine_hz, falling(range(1, 8), 1.1, machine), machine)
    # Stick-slip needs a slow but moving carriage.
    slow = np.exp(-(((velocity - 0.22) / 0.10) ** 2))
    slips = rotate(machine.uniform(90.0, 170.0), clip, wander=0.05)
    squeal = slow * harmonics(slips, {k: 1.0 / k**0.5 for k in range(1, 25)}, machine)
    sound = 1.1 * operation.load * friction + 0.35 * whine + 0.10 * operation.load * squeal
    for _ in range(2):
        kernel = ring(machine.uniform(110.0, 420.0), machine.uniform(0.012, 0.030))
        ends = jittered(crossings(2.0 * strokes), 0.003, clip)
        strike(sound, ends, 1.2 * operation.load * clip.uniforms(0.85, 1.15, len(ends)), kernel)
    return np.asarray(sound)


def _make_bearing(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    shaft = rotate(machine.uniform(24.0, 40.0) * operation.speed, clip, wander=0.002)
    balls = machine.integer(7, 12)
    # Contact angle and slip make the ratio of ball to pitch diameter, and so no harmonic of the shaft.
    diameters = machine.uniform(0.18, 0.28)
    outer = shaft * (balls * (1.0 - diameters) / 2.0)
    inner = shaft * (balls * (1.0 + diameters) / 2.0)
    rolling = 0.5 * harmonics(outer, {1: 1.0, 2: 0.5, 3: 0.3}, machine)
    rolling += 0.3 * harmonics(inner, {1: 1.0, 2: 0.4}, machine)
    loaded_zone = harmonics(shaft, {1: 1.0}, machine)
    noise = sharpen(clip.noise(N_SAMPLES))
    grinding = noise * (1.0 + 0.6 * rolling) * (1.0 + 0.25 * operation.load * loaded_zone)
    rotor = harmonics(shaft, falling(range(1, 12), 0.8, machine), machine)
    passes = harmonics(outer, falling(range(1, 20), 0.6, machine), machine)
    return np.asarray(2.0 * grinding + 0.35 * rotor + 0.25 * operation.load * passes)


def _make_motor(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    line_hz = 60.0 * operation.speed
    line = rotate(line_hz, clip, wander=0.0006)
    # An induction motor slips behind its field, the more the harder it pulls.
    pole_pairs = machine.pick((2, 2, 3))
    slip = machine.uniform(0.02, 0.05) * operation.load
    shaft = line * ((1.0 - slip) / pole_pairs)
    hum = harmonics(line, falling(range(2, 18, 2), 1.3, machine), machine)
    slots = machine.integer(26, 44)
    slot_lines = harmonics(shaft, {slots: 1.0, 2 * slots: 0.5, 3 * slots: 0.3}, machine)
    beat = 1.0 + 0.7 * harmonics(line, {2: 1.0}, machine)
    carrier = rotate(machine.uniform(2_600.0, 4_600.0), clip, wander=0.0)
    whine = harmonics(carrier, {1: 1.0}, machine) * harmonics(line, {2: 1.0, 4: 0.5}, machine)
    cooling = smooth(clip.noise(N_SAMPLES), 900.0)
    sound = 1.1 * hum + 0.45 * operation.load * slot_lines * beat + 0.30 * whine
    return np.asarray(sound + 0.6 * operation.speed**2 * cooling)


def _make_compressor(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    crank = rotate(machine.uniform(9.0, 16.0) * operation.speed, clip, wander=0.006)
    # Sharp rise, slow fall: the pressure of one stroke over one revolution.
    angle = np.arange(4_096) / 4_096
    pulse = np.minimum(angle / 0.02, 1.0) * np.exp(-angle / 0.18)
    strokes = periodic(crank, pulse - pulse.mean())
    intake = _gate(crank - machine.uniform(0.35, 0.55), 0.4)
    noise = clip.noise(N_SAMPLES)
    breath = intake * smooth(noise, 2_000.0) + 0.25 * smooth(noise, 300.0)
    sound = (1.0 + 1.5 * operation.load) * strokes + 0.6 * breath
    for lag in (0.0, 0.45):
        kernel = ring(machine.uniform(1_300.0, 3_200.0), machine.uniform(0.003, 0.009))
        flutter = jittered(crossings(crank - lag), 0.0015, clip)
        strike(sound, flutter, 2.2 * clip.uniforms(0.6, 1.2, len(flutter)), kernel)
    hum = harmonics(rotate(60.0, clip, wander=0.0004), {2: 1.0, 4: 0.4, 6: 0.2}, machine)
    return np.asarray(sound + 0.12 * hum)


def _make_gearbox(machine: Draws, operation: Operation, clip: Draws) -> FloatArray:
    pinion = rotate(machine.uniform(22.0, 34.0) * operation.speed, clip, wander=0.003)
    teeth, driven_teeth = machine.integer(17, 25), machine.integer(37, 61)
    wheel = pinion * (teeth / driven_teeth)
    mesh = harmonics(pinion, falling(range(teeth, teeth * 9, teeth), 0.9, machine), machine)
    # Runout of each wheel modulates the mesh: sidebands at both shafts' rates.
    runout = 1.0 + 0.45 * harmonics(pinion, {1: 1.0, 2: 0.4}, machine)
    runout += 0.35 * harmonics(wheel, {1: 1.0, 2: 0.5, 3: 0.2}, machine)
    shafts = harmonics(pinion, falling(range(1, 6), 0.8, machine), machine)
    noise = clip.noise(N_SAMPLES)
    churning = smooth(noise, 800.0)
    rattle = np.where(noise > 2.7 + 0.4 * operation.load, noise, 0.0)
    sound = 1.0 * (0.5 + 0.5 * operation.load) * mesh * runout + 0.35 * shafts
    return np.asarray(sound + 0.8 * churning + 0.8 * rattle)


def _gate(turns: FloatArray, share: float) -> FloatArray:
    """1 in the first `share` of every revolution, 0 in the rest, with ramps of 2 % of a revolution."""
    angle = np.arange(2_048) / 2_048
    ramps = np.clip(angle / 0.02, 0.0, 1.0) * np.clip((share - angle) / 0.02, 0.0, 1.0)
    return periodic(turns, ramps)


_MACHINES: dict[str, Callable[[Draws, Operation, Draws], FloatArray]] = {
    "fan": _make_fan,
    "pump": _make_pump,
    "valve": _make_valve,
    "slider": _make_slider,
    "bearing": _make_bearing,
    "motor": _make_motor,
    "compressor": _make_compressor,
    "gearbox": _make_gearbox,
}
MACHINE_TYPES = tuple(_MACHINES)
