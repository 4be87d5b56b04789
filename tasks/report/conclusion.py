"""What an onboarding concluded of an asset, in few words: the same on its page, on its package's and in the terminal.

The asset's page draws the conclusion and files it as `verdict.json`; whoever else speaks of the asset reads it there.
It holds no words but keys of them, so it can be said in any language.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.references import AssetResult
from schemas.settings import Kpi
from tasks.report import words
from tasks.report.words import Words
from tasks.store import ObjectStore

Tone = Literal["good", "caution", "bad"]
TONES: tuple[Tone, ...] = ("bad", "caution", "good")
"""The gravest first."""
_NAME = "verdict.json"


class Target(BaseModel):
    """What is called good enough, and what was measured of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kpi: Kpi
    default: bool = Field(description="Whether it is the target that ALP takes where the settings name none.")
    status: Literal["met", "not_met", "unproven", "synthetic"]
    value: float | None = Field(description="Measured; of alarms a day expected. None where labels do not allow it.")
    interval: tuple[float, float] | None = Field(description="95 %, where labels give one.")
    bound: float | None = Field(description="Of alarms a day: at most so many are certified.")
    falls_short: bool = Field(description="Whether `value` lies on the wrong side of the target, by however little.")


class Conclusion(BaseModel):
    """`verdict.json`: is the machine covered, what to do when it rings, and what was measured, on how many labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: str = Field(description="The headline of the asset's page: the text `headline.<verdict>`.")
    tone: Tone
    ringing: Literal["go", "listen", "blind", "synthetic"] = Field(description="What to do when it rings.")
    sureness: Literal["certified", "estimated", "modelled"] = Field(description="What the false-alarm rate rests on.")
    target: Target | None = Field(default=None, description="None in a file of an older version.")
    auc: float | None
    auc_interval: tuple[float, float] | None = Field(description="95 %.")
    normals: int = Field(description="Labelled normal test recordings.")
    faults: int = Field(description="Labelled faulty test recordings.")


def conclusion_key(report: str) -> str:
    """Where the conclusion lies whose page is `report`, a store key."""
    return f"{report.rpartition('/')[0]}/{_NAME}"


def read_conclusion(store: ObjectStore, asset: AssetResult) -> Conclusion | None:
    """What a run concluded of one asset; None in a dry run, and of a run by an older version.

    Raises
    ------
    StoreError
        The file is damaged.
    """
    return None if asset.report is None else store.find_model(conclusion_key(asset.report), Conclusion)


def name_verdict(concluded: Conclusion, say: Words) -> str:
    """The headline of the asset's page."""
    return say(f"headline.{concluded.verdict}")


def name_ringing(concluded: Conclusion, say: Words) -> str:
    """What to do when it rings."""
    return say(f"ringing.{concluded.ringing}")


def name_kpi(kpi: Kpi, say: Words) -> str:
    """The target in words: `AUC at least 0.95`."""
    return say(f"kpi.{kpi.metric}", target=f"{kpi.target:g}")


def name_found(target: Target, say: Words) -> str | None:
    """What was measured of a target with its interval, or why nothing was."""
    is_rate = target.kpi.metric == "alarms_per_day"
    show = words.rate if is_rate else words.number
    if target.value is None:
        official = ".official" if target.kpi.metric == "official" else ""
        return None if is_rate else say(f"kpi.unproven.labels{official}")
    if is_rate and target.status == "unproven":
        if target.bound is None:
            return say("kpi.unproven.rate", value=show(target.value))
        return say("kpi.unproven.bound", bound=show(target.bound))
    if target.interval is None:
        return say("kpi.measured", value=show(target.value))
    low, high = (show(edge) for edge in target.interval)
    return say("kpi.measured.interval", value=show(target.value), low=low, high=high)


def name_measured(concluded: Conclusion, say: Words) -> str:
    """The target with what was measured of it, and the AUC with what it rests on, or why there is none."""
    target = concluded.target
    said = [_name_auc(concluded, say)]
    if target is not None:
        whose = "concluded.target.default" if target.default else "concluded.target.own"
        said = [say(whose, goal=name_kpi(target.kpi, say)), *_name_besides_auc(target, say), *said]
    return " ".join(f"{sentence.removesuffix('.')}." for sentence in said)


def _name_besides_auc(target: Target, say: Words) -> list[str]:
    """What was measured of a target that is no AUC, and whether that proves anything."""
    found = None if target.kpi.metric == "auc" else name_found(target, say)
    if found is None:
        return []
    return [found, say("kpi.synthetic")] if target.status == "synthetic" else [found]


def _name_auc(concluded: Conclusion, say: Words) -> str:
    if concluded.auc is None or concluded.auc_interval is None:
        return say("concluded.auc.none")
    low, high = (words.number(edge) for edge in concluded.auc_interval)
    return say(
        "concluded.auc.synthetic" if concluded.ringing == "synthetic" else "concluded.auc",
        auc=words.number(concluded.auc),
        low=low,
        high=high,
        normals=concluded.normals,
        faults=concluded.faults,
    )
