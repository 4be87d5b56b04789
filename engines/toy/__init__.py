"""Toy machine sounds: seeded synthetic recordings with a known truth, for demos, tests and comparisons.

A plan says which clips a package holds (`ToyPlan.clips`), a renderer turns one clip's description into samples
(`render_clip`). Pure: no files here; `tasks.toy` writes the package. The sounds are frozen: engines are measured
on them, so any change of a sample is a new `plan.SOUNDS_VERSION` and a changelog entry.
"""

from __future__ import annotations

from engines.toy.anomalies import ANOMALY_TYPES, Fault
from engines.toy.machines import MACHINE_TYPES
from engines.toy.microphone import MIC_POSITIONS
from engines.toy.noises import NOISE_IDS
from engines.toy.plan import ToyClip, ToyPlan, section_ids
from engines.toy.render import Components, render_clip, render_components
from engines.toy.waves import DURATION_S, N_SAMPLES, SAMPLE_RATE

__all__ = [
    "ANOMALY_TYPES",
    "DURATION_S",
    "MACHINE_TYPES",
    "MIC_POSITIONS",
    "NOISE_IDS",
    "N_SAMPLES",
    "SAMPLE_RATE",
    "Components",
    "Fault",
    "ToyClip",
    "ToyPlan",
    "render_clip",
    "render_components",
    "section_ids",
]
