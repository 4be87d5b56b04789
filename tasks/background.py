"""Whether an asset's machine is running: learnt from the plant's noise-only recordings, kept beside its model.

`background.json` holds what the place sounds like without the machine (`engines.machine_state.Background`), or why that
cannot be told from the machine. An asset without noise-only recordings of its own domain has none, and the state of
its clips is "not assessed".
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from prefect import task
from pydantic import RootModel

from engines.base import ClipSet
from engines.comparability import UNHEARD, Difference, Recorded
from engines.grading import State
from engines.machine_state import Background, Indistinct, Sound
from schemas.references import Model, Run
from tasks.ledger import Role, clip_set, rows_of
from tasks.library import serves_beside
from tasks.logbook import note
from tasks.progress import track
from tasks.store import ObjectStore, open_store

ON: State = "on"
OFF: State = "off"
NOT_ASSESSED: State = "not assessed"
NOT_COMPARABLE: State = "not comparable"
"""What `scores.csv` calls the state of a machine; the last is the recorder's."""


class BackgroundFile(RootModel[Background | Indistinct]):
    """`background.json` of a model."""


@task(name="Learn the background", task_run_name="Learn the background of {model.asset.asset_id}")
def learn_background(model: Model, run: Run) -> None:
    """File the model's `background.json`, unless it lies there or the asset has no noise-only recordings."""
    store = open_store(run.store)
    ledger = store.get_frame(model.asset.ledger_key)
    noise = noise_of(ledger)
    if noise.empty:
        return
    if not store.exists(background_key(model.prefix)):
        quiet, running = clip_set(store, noise), clip_set(store, rows_of(ledger, [Role.TARGET]))
        with track(f"Hearing the background of {model.asset.asset_id}", total=len(quiet) + len(running)) as advance:
            found = Background.fit(quiet, running, progress=advance)
        store.put_model(background_key(model.prefix), BackgroundFile(found))
    note(_describe(store, model.prefix))


def _describe(store: ObjectStore, prefix: str) -> str:
    found = read_background(store, prefix)
    if isinstance(found, Background):
        return (
            f"Machine off is told by {found.n_noise} noise-only recordings: up to {found.margin_db:.1f} dB above them"
        )
    return f"Machine off is not told: {found.reason}" if found else "No noise-only recordings"


def background_key(prefix: str) -> str:
    """Where the background of the model under `prefix` lies."""
    return f"{prefix}/background.json"


def read_background(store: ObjectStore, prefix: str) -> Background | Indistinct | None:
    """The background of a model, why there is none to tell by, or None where no noise-only recording was sent."""
    found = store.find_model(background_key(prefix), BackgroundFile)
    return None if found is None else found.root


def noise_of(ledger: pd.DataFrame) -> pd.DataFrame:
    """Ledger rows of the noise-only recordings that can be held against the asset's normals.

    Those of its own domain, of the normals' kind of sensor and rate; synthetic ones only where the normals are.
    """
    rows, normals = rows_of(ledger, [Role.NOISE]), rows_of(ledger, [Role.TARGET])
    if rows.empty:
        return rows
    alike = (
        (rows["domain"] == "target")
        & rows["sensor"].isin(normals["sensor"])
        & rows["sample_rate"].isin(normals["sample_rate"])
    )
    rows = rows[alike]
    return rows[serves_beside(rows, normals)].drop_duplicates(["recording_id", "segment"]).reset_index(drop=True)


@dataclass(frozen=True)
class Standing:
    """The state of the machine in a recording, and in what the recording differs from the normals."""

    state: State
    differences: tuple[Difference, ...] = ()


def stand(background: Background | Indistinct | None, recorded: Recorded, clips: ClipSet) -> list[Standing]:
    """State and differences of each recording, in `clips.recordings` order.

    A machine that is off is quieter than it ever runs, and still off. What is quieter than the place is without the
    machine was heard by another recorder, or by none, and so was what holds another band.
    """
    differences = recorded.differences(clips)
    sounds = background.tell(clips) if isinstance(background, Background) else [None] * len(differences)
    return [Standing(_name_state(sound, found), found) for sound, found in zip(sounds, differences, strict=True)]


def _name_state(sound: Sound | None, differences: tuple[Difference, ...]) -> State:
    if "band" in differences or sound == "too quiet":
        return NOT_COMPARABLE
    if sound == "off":
        return OFF
    if UNHEARD.intersection(differences):
        return NOT_COMPARABLE
    return NOT_ASSESSED if sound is None else ON
