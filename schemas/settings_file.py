"""A customer's settings from a YAML file: what `alp onboard --settings FILE` reads.

The file fills the models of `schemas.settings` and nothing else: no objects, no paths. A key that is left out keeps its
default. Numbers are numbers: `yes` is none, nor is a number in quotes.

    kpi: {metric: miss_rate, target: 0.1}
    alarm: {false_alarms_per_day: 0.5, clips_per_day: 288}
"""

from __future__ import annotations

from pathlib import Path

from schemas.settings import OnboardSettings
from schemas.yaml_files import read_mapping
from schemas.yaml_models import fill_model

KEYS = ("kpi", "alarm", "routing", "qa", "engine", "encoder", "language", "seed")
"""Of `OnboardSettings`, what a customer's file may say. What an archive may weigh and the form of clips are ours."""


def read_settings(path: Path) -> OnboardSettings:
    """The settings that a YAML file gives.

    Raises
    ------
    UsageError
        The file cannot be read, or says what is no setting; the message names file, key, value and remedy, for all
        keys at once.
    """
    entries = read_mapping(
        path,
        what="the settings",
        wanted=f"settings by name are wanted, such as {', '.join(KEYS)}; see docs/commands.md",
    )
    return fill_model(OnboardSettings, entries, keys=KEYS, place=lambda _: str(path))
