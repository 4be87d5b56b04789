"""What an onboarding concluded of an asset, in few words: the same on its page, on its package's and in the terminal.

The asset's page draws the conclusion and files it as `verdict.json`; whoever else speaks of the asset reads it there.
It holds no words but keys of them, so it can be said in any language.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.references import AssetResult
from tasks.report import words
from tasks.report.words import Words
from tasks.store import ObjectStore

Tone = Literal["good", "caution", "bad"]
TONES: tuple[Tone, ...] = ("bad", "caution", "good")
"""The gravest first."""
_NAME = "verdict.json"


class Conclusion(BaseModel):
    """`verdict.json`: is the machine covered, what to do when it rings, and what the measured AUC rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: str = Field(description="The headline of the asset's page: the text `headline.<verdict>`.")
    tone: Tone
    ringing: Literal["go", "listen", "blind", "synthetic"] = Field(description="What to do when it rings.")
    sureness: Literal["certified", "estimated", "modelled"] = Field(description="What the false-alarm rate rests on.")
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
    if asset.report is None or not store.exists(key := conclusion_key(asset.report)):
        return None
    return store.get_model(key, Conclusion)


def name_verdict(concluded: Conclusion, say: Words) -> str:
    """The headline of the asset's page."""
    return say(f"headline.{concluded.verdict}")


def name_ringing(concluded: Conclusion, say: Words) -> str:
    """What to do when it rings."""
    return say(f"ringing.{concluded.ringing}")


def name_measured(concluded: Conclusion, say: Words) -> str:
    """The AUC with what it rests on, or why there is none."""
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
