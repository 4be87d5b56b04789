"""A challenger for an asset's champion: what it is made by, how the two compare, and what follows from that.

A retraining makes each machine of a type a model anew, from its ledger and from the library as it is now, with the
settings by which its champion is heard. The two are asked about the same recordings (`engines.succession`), and the
challenger becomes champion unless it is worse. What was found lies as `comparison.json` beside the run's other results.

The run's id says what decides its outcome: ledger, champion, settings, code and library. Started again it finds what it
had found, and only carries it out. Its package is the one that the champion's page is of, whose name and quality the
new page repeats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from prefect import State, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from engines.alarm import AlarmRule
from engines.base import recording_scores
from engines.calibration import Threshold
from engines.succession import Record, compare_records, explain, is_not_worse
from schemas.errors import StoreError
from schemas.references import (
    Asset,
    Calibrated,
    Model,
    Package,
    QualityReport,
    Reference,
    Run,
    Scores,
)
from tasks import keys
from tasks.background import OFF
from tasks.calibrating import judge_clips, without_leaked_labels
from tasks.challenges import Comparison
from tasks.champions import (
    Champion,
    Coronation,
    Onboarding,
    crown,
    find_champion,
    how_to_crown,
    missing_parts,
    onboarding_key,
    read_succession,
    refuse,
)
from tasks.engine_names import engine_phrase
from tasks.engines import load_engine
from tasks.fleet import refresh_fleet_page
from tasks.growth import Growth
from tasks.ledger import Role, clip_set, describe_asset, ledger_version, read_corrected, read_ledger, rows_of
from tasks.lineage import Lineage, lineage_key
from tasks.logbook import note
from tasks.normals import divide, read_normal_scores
from tasks.runs import Manifest, code_version, digest, manifest_key
from tasks.scoring import Caveats
from tasks.sharing import lenders, snapshot
from tasks.store import ObjectStore, open_store

CHOSEN_BY_LABELS = (
    "labelled test recordings had a say in choosing this model, so what is measured on them looks a little better than"
    " it is"
)
"""Caveat of a model that followed a champion by labelled clips: the better of two is picked for its luck as well."""
Became = Literal["promoted", "refused", "as it was", "held", "overtaken"]
_UNDER_WAY = timedelta(hours=1)
"""A run that has written nothing for so long was cut off: from crowning a model to its manifest it writes all along."""


class Entrant(BaseModel):
    """A machine that has a champion to be challenged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str

    @property
    def name(self) -> str:
        """Customer and machine, as a person reads them."""
        return f"{self.customer} {self.asset}"


class Bout(Reference):
    """All that a challenger is made by, and whom it meets."""

    run: Run
    asset: Asset = Field(description="At the ledger as it is now.")
    champion: Model
    package: Package = Field(description="Whose page the champion's is.")
    quality: QualityReport


class Outcome(BaseModel):
    """What became of a machine's champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    became: Became
    before: str = Field(description="Engine and version of the champion.")
    challenger: str | None = Field(description="Of the challenger; None where it was the champion itself.")
    why: str
    comparison: str | None = Field(default=None, description="Store key of the comparison.")
    put_off: bool = Field(
        default=False,
        description="Whether it was left for the next retraining, its onboarding being under way.",
    )


class RetrainReport(BaseModel):
    """What a retraining of a machine type brought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    growth: Growth
    outcomes: tuple[Outcome, ...]
    failed: dict[str, str] = Field(description="Machines that could not be challenged, and why.")


@task(name="Find the champions", task_run_name="Find the champions of {machine_type}")
def find_entrants(machine_type: str, store: str) -> list[Entrant]:
    """Every machine of a type that has a champion, whosever it is, in the order of customers and machines."""
    shelf = open_store(store)
    crowned = [key.split("/") for key in shelf.list_keys("assets/") if key.endswith("/champion.json")]
    entrants = [Entrant(customer=parts[1], asset=parts[2]) for parts in crowned if len(parts) == 4]
    found = [each for each in entrants if _is_of(shelf, each, machine_type)]
    note(f"{len(found)} machines of type {machine_type} have a champion")
    return found


def _is_of(store: ObjectStore, entrant: Entrant, machine_type: str) -> bool:
    if not entrant.asset.startswith(f"{machine_type}-"):
        return False
    ledger = read_ledger(store, keys.asset(entrant.customer, entrant.asset, "ledger.parquet"))
    return not ledger.empty and str(ledger["machine_type"].iloc[0]) == machine_type


@task(name="Prepare the challenge", task_run_name="Prepare a challenger for {entrant.asset} of {entrant.customer}")
def prepare_challenge(entrant: Entrant, store: str) -> Bout | Outcome:
    """The run that makes a challenger, on the ledger and the library as they are now.

    Of a machine whose champion's own run has not come to its end, the outcome: the next retraining takes it up.

    Raises
    ------
    StoreError
        It is not known by which settings or from which package the champion was made.
    """
    shelf, customer, name = open_store(store), entrant.customer, entrant.asset
    champion = find_champion(shelf, customer, name)
    if champion is None:
        raise StoreError(f"{name} of {customer} has lost its champion since; onboard a package of it")
    if (running := _made_by_now(shelf, entrant, champion)) is not None:
        return _put_off(entrant, champion, running)
    onboarding, manifest = _made_by(shelf, entrant, champion)
    ledger = read_corrected(shelf, customer, name)
    version, library = ledger_version(ledger), snapshot(shelf, customer, besides="")
    identity = (customer, name, version, champion.version, onboarding.settings.digest(), code_version(), library)
    run = Run(
        run_id=digest("retrain", *identity),
        customer=customer,
        package_id=manifest.package.package_id,
        store=store,
        settings=onboarding.settings,
        code_version=code_version(),
        library=library,
    )
    seen = keys.run(customer, run.run_id, f"{name}/ledger.parquet")
    shelf.put_frame(seen, ledger)
    asset = describe_asset(run, ledger, ledger_key=seen)
    prefix = keys.model(customer, name, champion.version)
    said = {"version": champion.version, "prefix": prefix, "engine": champion.engine, "encoder": champion.encoder}
    model = Model(asset=asset, **said)
    return Bout(run=run, asset=asset, champion=model, package=manifest.package, quality=manifest.quality)


def _made_by_now(store: ObjectStore, entrant: Entrant, champion: Champion) -> str | None:
    """The run that crowned a champion, where that has not ended yet: the manifest comes last; None: it has, or was cut
    off."""
    onboarding = store.find_model(_settings_key(entrant, champion), Onboarding)
    if onboarding is None:
        return None
    under = keys.run(entrant.customer, onboarding.run_id, "")
    written = dict(store.list_objects(under))
    if f"{under}manifest.json" in written:
        return None
    crowned = store.stat(_settings_key(entrant, champion)).modified
    last = max([crowned, *(stat.modified for stat in written.values())])
    return onboarding.run_id if datetime.now(UTC) - last < _UNDER_WAY else None


def _settings_key(entrant: Entrant, champion: Champion) -> str:
    return onboarding_key(keys.model(entrant.customer, entrant.asset, champion.version))


def _put_off(entrant: Entrant, champion: Champion, run_id: str) -> Outcome:
    why = (
        f"its onboarding, run {run_id}, is still under way: champion {champion.version} is crowned, and its page not"
        " written yet; the next retraining takes the machine up"
    )
    note(f"{entrant.asset} of {entrant.customer} is put off: {why}")
    return Outcome(
        customer=entrant.customer,
        asset=entrant.asset,
        became="overtaken",
        before=f"{engine_phrase(champion.engine)} ({champion.encoder}), model {champion.version}",
        challenger=None,
        why=why,
        put_off=True,
    )


def _made_by(store: ObjectStore, entrant: Entrant, champion: Champion) -> tuple[Onboarding, Manifest]:
    """By which settings a champion is heard, and the run that has its page."""
    onboarding = store.find_model(_settings_key(entrant, champion), Onboarding)
    key = "" if onboarding is None else keys.run(entrant.customer, onboarding.run_id, "manifest.json")
    manifest = store.find_model(key, Manifest) if key else None
    if onboarding is None or manifest is None:
        missing = key or _settings_key(entrant, champion)
        raise StoreError(
            f"{missing} is not there, which says how champion {champion.version} of {entrant.asset} of"
            f" {entrant.customer} was made: its run was cut off, or it is of an older version; onboard a package of the"
            " machine again"
        )
    return onboarding, manifest


def find_comparison(bout: Bout) -> Comparison | None:
    """What this very run found before, if it came to its end and its challenger is still there."""
    store, asset = open_store(bout.run.store), bout.asset
    found = store.find_intact(comparison_key(bout), Comparison)
    if found is None or not store.exists(manifest_key(bout.run)):
        return None
    version = found.challenger.version
    return None if missing_parts(store, asset.customer, asset.asset_id, version) else found


def comparison_key(bout: Bout) -> str:
    """Where a run's comparison lies."""
    return keys.run(bout.run.customer, bout.run.run_id, f"{bout.asset.asset_id}/comparison.json")


def settled_already(bout: Bout, challenger: Model) -> Outcome | None:
    """How it ends where nothing is to be compared: the same model again, or one that an operator took back."""
    if challenger.version == bout.champion.version:
        _leave_nothing(bout)
        return _outcome(bout, None, "as it was", "the data make the same model again")
    store, asset = open_store(bout.run.store), bout.asset
    held = read_succession(store, asset.customer, asset.asset_id).held_by(challenger.version)
    if held is None or held.by != "rollback" or _why_it_must_go(store, bout) is not None:
        return None
    _leave_nothing(bout)
    return _outcome(bout, challenger, "held", _how_held(asset, challenger, held.sentence))


def _leave_nothing(bout: Bout) -> None:
    """Delete what a run wrote that comes to no result: the champion is the model, and its own run has the page."""
    store = open_store(bout.run.store)
    if not store.exists(manifest_key(bout.run)):
        for key in list(store.list_keys(keys.run(bout.run.customer, bout.run.run_id, ""))):
            store.delete(key)


def _how_held(asset: Asset, challenger: Model, sentence: str) -> str:
    return f"{sentence}; `{how_to_crown(asset.customer, asset.asset_id, challenger.version)}` crowns it all the same"


# --- the comparison -------------------------------------------------------------------------------------------------


@task(
    name="Compare with the champion", task_run_name="Compare the challenger of {bout.asset.asset_id} with its champion"
)
def compare_with_champion(bout: Bout, champion: Scores, challenger: Calibrated) -> Comparison:
    """Ask both models about the same recordings, and write down what they say.

    champion: its scores of the test recordings that are on the ledger now.
    """
    store, model = open_store(bout.run.store), challenger.scores.model
    old, new = _trial_of_champion(store, bout, model), _trial_of_challenger(store, bout, model)
    names = sorted(old.scores.keys() & new.scores.keys())
    learnt = old.scores.keys() | old.calibrated
    ours, labels = _judged(store, champion, learnt)
    theirs, _ = _judged(store, challenger.scores, learnt)
    criteria = compare_records(
        _record(champion.model, old, names, ours),
        _record(model, new, names, theirs),
        labels,
        budget=bout.run.settings.alarm.false_alarms_per_day,
    )
    must, not_worse = _why_it_must_go(store, bout), is_not_worse(criteria)
    targets = set(rows_of(store.get_frame(bout.asset.ledger_key), [Role.TARGET])["recording_id"])
    comparison = Comparison(
        champion=champion.model,
        challenger=model,
        criteria=criteria,
        not_worse=not_worse,
        by_labels=any(each.decisive and each.name in ("auc", "found") for each in criteria),
        must=must,
        learnt_what_is_none=len(learnt - targets - old.unheard),
        sentence="; ".join([*([must] if must else []), explain(criteria)]),
    )
    if not_worse and comparison.by_labels:
        _tell_that_labels_chose(store, model)
    store.put_model(comparison_key(bout), comparison)
    note(f"Challenger {model.version} is {'not ' if not_worse else ''}worse than {bout.champion.version}")
    for criterion in criteria:
        note(criterion.sentence)
    return comparison


class _Trial(NamedTuple):
    """Scores of normals, each by the model without it, by recording; and which normals its threshold rests on."""

    scores: dict[str, float]
    calibrated: frozenset[str] = frozenset()
    """Held out to calibrate on, where that was by split: no evidence, or the threshold set on them would not hold."""
    unheard: frozenset[str] = frozenset()
    """Of those with a score, what came after the model was made."""


class _Judged(NamedTuple):
    scores: np.ndarray
    found: np.ndarray
    alarms_per_day: float


def _trial_of_challenger(store: ObjectStore, bout: Bout, model: Model) -> _Trial:
    return _left_out_scores(store, model, bout.asset.ledger_key, bout.run)


def _trial_of_champion(store: ObjectStore, bout: Bout, challenger: Model) -> _Trial:
    """The champion's scores; of normals that came after it was made, which it never heard, as of any recording."""
    run_id = store.get_model(onboarding_key(bout.champion.prefix), Onboarding).run_id
    learnt_from = keys.run(bout.run.customer, run_id, f"{bout.asset.asset_id}/ledger.parquet")
    trial = _left_out_scores(store, bout.champion, learnt_from, bout.run)
    normals = rows_of(store.get_frame(bout.asset.ledger_key), [Role.TARGET])
    new = normals[~normals["recording_id"].isin({*trial.scores, *trial.calibrated})].reset_index(drop=True)
    if new.empty:
        return trial
    clips = clip_set(store, new)
    with store.local_folder(bout.champion.prefix) as folder:
        engine = load_engine(folder, bout.champion.encoder)
        scores = recording_scores(clips, engine.decision_function(clips))
    heard = dict(zip(clips.recordings, scores.tolist(), strict=True))
    return _Trial({**trial.scores, **heard}, trial.calibrated, frozenset(heard))


def _left_out_scores(store: ObjectStore, model: Model, learnt_from: str, run: Run) -> _Trial:
    """What a model makes of each normal that it learnt from, without it; `learnt_from` is the ledger it knew."""
    found = read_normal_scores(store, model.prefix)
    if found.method != "split":
        return _Trial(dict(zip(found.recording_ids, found.scores.tolist(), strict=True)))
    learnt = divide(rows_of(store.get_frame(learnt_from), [Role.TARGET]), run.settings).learnt
    with store.local_folder(model.prefix) as folder:
        scores = load_engine(folder, model.encoder).normal_scores()
    names = dict.fromkeys(learnt["recording_id"].astype(str))
    return _Trial(dict(zip(names, scores.tolist(), strict=True)), frozenset(found.recording_ids))


def _judged(store: ObjectStore, scores: Scores, learnt: set[str]) -> tuple[_Judged, list[object]]:
    """A model's scores and findings of the test clips, and the labels that are evidence, None for the others."""
    model = scores.model
    threshold = store.get_model(f"{model.prefix}/threshold.json", Threshold)
    rule = store.get_model(f"{model.prefix}/alarm_rule.json", AlarmRule)
    table = judge_clips(store, scores, threshold, read_normal_scores(store, model.prefix).scores)
    table = without_leaked_labels(table)
    # What was a normal once, and is an anomaly by now, the champion knows by heart.
    labels = table["label"].mask(table["recording_id"].isin(learnt), None)
    values = table["score"].to_numpy(dtype=np.float64)
    found = (values > rule.clip_threshold) & (table["state"] != OFF).to_numpy(dtype=bool)
    said = {"anomaly": True, "normal": False}
    return _Judged(values, found, rule.alarms_per_day), [
        None if pd.isna(label) else said.get(label) for label in labels
    ]


def _record(model: Model, trial: _Trial, names: Sequence[str], judged: _Judged) -> Record:
    normals = np.array([trial.scores[name] for name in names], dtype=np.float64)
    return Record(model.engine, normals, judged.scores, judged.found, judged.alarms_per_day)


def _why_it_must_go(store: ObjectStore, bout: Bout) -> str | None:
    """Why a champion cannot stay; None: it can. Nobody is named: what is filed here outlives who left."""
    lineage = store.find_model(lineage_key(bout.champion.prefix), Lineage)
    if lineage is None or set(lineage.customers) <= lenders(store, bout.run.customer):
        return None
    return "the champion learnt from recordings that their owner does not lend any more"


def _tell_that_labels_chose(store: ObjectStore, model: Model) -> None:
    key = f"{model.prefix}/caveats.json"
    known = store.get_model(key, Caveats).root
    if CHOSEN_BY_LABELS not in known:
        store.put_model(key, Caveats((*known, CHOSEN_BY_LABELS)))


def with_caveats(calibrated: Calibrated, store: str) -> Calibrated:
    """The same with what is to be known of the model by now, for its page."""
    model = calibrated.scores.model
    known = open_store(store).get_model(f"{model.prefix}/caveats.json", Caveats).root
    scores = calibrated.scores.model_copy(update={"model": model.model_copy(update={"caveats": known})})
    return calibrated.model_copy(update={"scores": scores})


# --- what follows ---------------------------------------------------------------------------------------------------


@task(name="Decide who is champion", task_run_name="Decide who is champion of {bout.asset.asset_id}")
def decide_succession(bout: Bout, comparison: Comparison) -> Outcome:
    """Crown the challenger, or write down why not; the champion that it met is kept as previous."""
    store, model, key = open_store(bout.run.store), comparison.challenger, comparison_key(bout)
    if not comparison.not_worse and comparison.must is None:
        ended = refuse(store, model, bout.run, reason=comparison.sentence, comparison=key)
        return _outcome(bout, model, "refused", _how_held(bout.asset, model, comparison.sentence), key)
    ended = crown(
        store,
        model,
        bout.run,
        by="retrain",
        reason=comparison.sentence,
        comparison=key,
        instead_of=bout.champion.version,
        must=comparison.must is not None,
    )
    return _how_crowned(bout, comparison, ended, key)


def _how_crowned(bout: Bout, comparison: Comparison, ended: Coronation, key: str) -> Outcome:
    model = comparison.challenger
    if ended.overtaken:
        return _outcome(bout, model, "overtaken", f"{ended.overtaken}; the next retraining decides", key)
    if ended.held is not None:
        return _outcome(bout, model, "held", _how_held(bout.asset, model, ended.held.sentence), key)
    return _outcome(bout, model, "promoted", comparison.sentence, key)


def _outcome(bout: Bout, challenger: Model | None, became: Became, why: str, comparison: str | None = None) -> Outcome:
    note(f"{bout.asset.asset_id} of {bout.run.customer} {became}: {why}")
    return Outcome(
        customer=bout.run.customer,
        asset=bout.asset.asset_id,
        became=became,
        before=_name(bout.champion),
        challenger=None if challenger is None else _name(challenger),
        why=why,
        comparison=comparison,
    )


def _name(model: Model) -> str:
    return f"{engine_phrase(model.engine)} ({model.encoder}), model {model.version}"


@task(name="Bring the fleet pages up to date", task_run_name="Bring the pages of {customers} up to date")
def refresh_fleets(customers: list[str], store: str) -> None:
    """Write the page of all machines anew for customers whose champions changed."""
    for customer in customers:
        refresh_fleet_page(open_store(store), customer, otherwise="en")


def conclude_retraining(growth: Growth, outcomes: Sequence[Outcome], failed: dict[str, str]) -> State[RetrainReport]:
    """How a retraining ends: completed, or failed with what is wrong with which machine; the others are done anyway."""
    report = RetrainReport(growth=growth, outcomes=tuple(outcomes), failed=failed)
    if outcomes or failed:
        create_table_artifact(
            key=f"retrain-{re.sub(r'[^a-z0-9-]', '-', growth.machine_type.lower())}",
            table=[*(_row(each) for each in outcomes), *(_failed_row(name, why) for name, why in failed.items())],
            description=f"What became of the champions of {growth.machine_type}",
        )
    counts = {became: sum(each.became == became for each in outcomes) for became in ("promoted", "refused")}
    rest = len(outcomes) - sum(counts.values())
    done = f"{counts['promoted']} promoted, {counts['refused']} refused, {rest} as they were"
    if put_off := [f"{each.customer} {each.asset}" for each in outcomes if each.put_off]:
        more = f" and {len(put_off) - 3} more" if len(put_off) > 3 else ""
        done += f"; put off until their onboarding has ended: {', '.join(put_off[:3])}{more}"
    if not failed:
        return Completed(message=done, data=report)
    told = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
    more = f"; and {len(failed) - 3} more in the table" if len(failed) > 3 else ""
    return Failed(message=f"{done}, {len(failed)} failed. {told}{more}", data=report)


def conclude_rest(growth: Growth) -> State[RetrainReport]:
    """Nothing is to be done: too little is new."""
    return Completed(name="NotDue", message=growth.sentence, data=RetrainReport(growth=growth, outcomes=(), failed={}))


def _row(outcome: Outcome) -> dict[str, str]:
    return {
        "customer": outcome.customer,
        "asset": outcome.asset,
        "verdict": outcome.became,
        "before": outcome.before,
        "challenger": "none yet" if outcome.put_off else outcome.challenger or "the same",
        "why": outcome.why,
    }


def _failed_row(name: str, why: str) -> dict[str, str]:
    customer, _, asset = name.partition(" ")
    return {"customer": customer, "asset": asset, "verdict": "failed", "before": "", "challenger": "", "why": why}
