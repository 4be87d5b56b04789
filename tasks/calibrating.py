"""Set an asset's threshold and alarm rule, decide on its recordings, measure where labels allow it, and hand the tables
over.

A clip's decision is its own: "alarm" above the threshold, "off" where only the background is heard, "not comparable"
where a recorder unlike the normals' heard nothing high. How many high clips make an alarm is the alarm rule's to say
(`alarm_rule.json`), which needs clips in their order; so what is measured of labelled clips counts those above the
rule's clip limit, which is what rings in use.
"""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
from prefect import task

from engines.alarm import AlarmRule, choose_alarm_rule
from engines.calibration import Method, Threshold, calibrate, conformal_p_values
from engines.grading import judge_clip, severity
from engines.metrics import AssetMetrics, evaluate
from schemas.errors import StoreError
from schemas.references import AssetResult, Calibrated, Model, Run, Scores
from tasks import keys
from tasks.background import OFF, background_key
from tasks.champions import Champion as Champion
from tasks.champions import Onboarding as Onboarding
from tasks.champions import crown, how_to_crown
from tasks.champions import onboarding_key as onboarding_key
from tasks.ledger import Role, rows_of
from tasks.logbook import note
from tasks.normals import CALIBRATION, read_normal_scores
from tasks.quality import NEAR_LEAKS, learnt_tests
from tasks.store import ObjectStore, open_store

SCORE_COLUMNS = (
    "clip_id",
    "machine_type",
    "section_id",
    "split",
    "domain",
    "label",
    "score",
    "p_value",
    "threshold",
    "decision",
    "state",
    "engine",
    "model_version",
    "severity",
    "grade",
    "notes",
)
LEAKED = "leaked"
"""Note of a test clip that is a copy of a recording that was learnt from."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@task(name="Set the threshold", task_run_name="Set the threshold of {model.asset.asset_id}")
def set_threshold(model: Model, run: Run) -> str:
    """Calibrate on the model's scores of the asset's own normals, and on nothing else; choose the alarm rule.

    Returns the key of the model's `threshold.json`; `alarm_rule.json` lies beside it, and both in the run's folder.
    """
    store, policy = open_store(run.store), run.settings.alarm
    key, rule_key = f"{model.prefix}/threshold.json", _rule_key(model)
    scores, method = normal_scores(store, model)
    if not store.exists(key):
        # Band standardization is learnt from the same normals, so one more recording may raise a score too:
        # the claim that would certify plain leave-one-out is not made (docs/decisions/0006).
        store.put_model(key, calibrate(scores, policy, method=method, seed=run.settings.seed))
    # What hold-off and re-arming bound stands in the rule too, and they may change without a new model.
    rule = choose_alarm_rule(scores, policy, store.get_model(key, Threshold), method=method)
    if not store.exists(rule_key) or store.get_model(rule_key, AlarmRule) != rule:
        store.put_model(rule_key, rule)
    for name, of_model in (("threshold.json", key), ("alarm_rule.json", rule_key)):
        store.put(_run_key(model, run, name), store.get(of_model))
    note(store.get_model(key, Threshold).explanation)
    note(store.get_model(rule_key, AlarmRule).explanation)
    return key


def _rule_key(model: Model) -> str:
    return f"{model.prefix}/alarm_rule.json"


def normal_scores(store: ObjectStore, model: Model) -> tuple[np.ndarray, Method]:
    """Scores of the asset's normals by engines fitted without them, float64 (n_recordings,), and how that was done."""
    found = read_normal_scores(store, model.prefix)
    return found.scores, found.method


def _run_key(model: Model, run: Run, name: str) -> str:
    return keys.run(run.customer, run.run_id, f"{model.asset.asset_id}/{name}")


@task(name="Decide and measure", task_run_name="Decide on the recordings of {scores.model.asset.asset_id}")
def decide_and_measure(scores: Scores, threshold_key: str, run: Run) -> Calibrated:
    """Write `scores.csv` and `metrics.json` of one asset."""
    store, model = open_store(run.store), scores.model
    threshold = store.get_model(threshold_key, Threshold)
    rule = store.get_model(_rule_key(model), AlarmRule)
    clips = judge_clips(store, scores, threshold, normal_scores(store, model)[0])
    scores_key, scores_csv = _run_key(model, run, "scores.csv"), to_csv(clips[list(SCORE_COLUMNS)])
    reused = store.exists(scores_key) and store.get(scores_key) == scores_csv
    store.put(scores_key, scores_csv)
    metrics = measure(clips, rule, seed=run.settings.seed)
    store.put_model(_run_key(model, run, "metrics.json"), metrics)
    background = background_key(model.prefix)
    return Calibrated(
        scores=scores,
        threshold_key=threshold_key,
        rule_key=_rule_key(model),
        normals_key=f"{model.prefix}/{CALIBRATION}.parquet",
        background_key=background if store.exists(background) else None,
        result=_describe_result(scores, rule, threshold, metrics, clips, run),
        reused=reused,
    )


def _describe_result(
    scores: Scores, rule: AlarmRule, threshold: Threshold, metrics: AssetMetrics, clips: pd.DataFrame, run: Run
) -> AssetResult:
    """The asset's line of the run's result; what is promised of false alarms is promised of the alarm rule."""
    model, asset = scores.model, scores.model.asset
    return AssetResult(
        machine_type=asset.machine_type,
        section_id=asset.section_id,
        engine=model.engine,
        encoder=model.encoder,
        n_target=asset.target,
        n_source=scores.selection.source.recordings,
        n_test=asset.test,
        auc=metrics.auc,
        pauc=metrics.pauc,
        auc_source=metrics.auc_source,
        auc_target=metrics.auc_target,
        threshold=threshold.value,
        certified=rule.certified,
        alarms_per_day=rule.alarms_per_day,
        report=_run_key(model, run, "report.html"),
        rule=name_rule(rule),
        grades={name: int(count) for name, count in clips["grade"].value_counts().sort_index().items()},
        highest_severity=float(clips["severity"].max()) if len(clips) else None,
        clips_per_day=run.settings.alarm.clips_per_day,
    )


def name_rule(rule: AlarmRule) -> str:
    """High clips that make an alarm, of how many: `5 of 5`."""
    return f"{rule.m} of {rule.window}"


def judged_table(store: ObjectStore, scores: Scores, threshold: Threshold, calibration: np.ndarray) -> pd.DataFrame:
    """The rows of `scores.csv`: one a test clip, in the order of clip ids. Parameters and errors of `judge_clips`."""
    return judge_clips(store, scores, threshold, calibration)[list(SCORE_COLUMNS)]


def judge_clips(store: ObjectStore, scores: Scores, threshold: Threshold, calibration: np.ndarray) -> pd.DataFrame:
    """One row a test clip, in the order of clip ids: its row of the ledger, and the columns of `scores.csv`.

    `calibration` is what `normal_scores` gives, float64 (n_recordings,).

    Raises
    ------
    StoreError
        A test clip has no score.
    """
    model = scores.model
    ledger = store.get_frame(model.asset.ledger_key)
    tests = rows_of(ledger, [Role.TEST])
    clips = tests[tests["segment"] == 0].sort_values("clip_id")
    table = clips.merge(store.get_frame(scores.key), on="recording_id", how="left", validate="many_to_one")
    unscored = table.loc[table["score"].isna(), "clip_id"].tolist()
    if unscored:
        raise StoreError(
            f"{scores.key} holds no score of {len(unscored)} of {len(table)} test clips, such as {unscored[0]!r};"
            " onboard the package again, which scores what is missing"
        )
    table = table.assign(threshold=threshold.value, engine=model.engine, model_version=model.version)
    leaked = table["recording_id"].isin(find_leaks(store, model.asset.customer, ledger))
    table["notes"] = table["notes"].mask(leaked, (table["notes"] + f"; {LEAKED}").str.removeprefix("; "))
    return table.assign(**_verdicts(table, threshold, calibration)).reset_index(drop=True)


def _verdicts(table: pd.DataFrame, threshold: Threshold, calibration: np.ndarray) -> dict[str, object]:
    """P-value, decision, severity and grade of each row of a table with score and state."""
    values = table["score"].to_numpy(dtype=np.float64)
    if not len(values):
        return {name: [] for name in ("p_value", "decision", "severity", "grade")}
    severities = severity(values, calibration, threshold)
    verdicts = [
        judge_clip(score, how, state=state, threshold=threshold.value, clip_threshold=threshold.value)
        for score, how, state in zip(values.tolist(), severities.tolist(), table["state"], strict=True)
    ]
    return {
        "p_value": conformal_p_values(values, calibration),
        "decision": [verdict.decision for verdict in verdicts],
        "severity": severities,
        "grade": [verdict.grade for verdict in verdicts],
    }


def find_leaks(store: ObjectStore, customer: str, ledger: pd.DataFrame) -> set[str]:
    """Recording ids of tests that were learnt from: the same sound, sample by sample, re-encoded or cut.

    Exact copies by the ledger, which knows all packages and what was corrected since; near ones as the gate found them
    within a package.
    """
    learnt, tests = rows_of(ledger, [Role.TARGET, Role.SOURCE]), rows_of(ledger, [Role.TEST])
    near: set[str] = set()
    for package_id in sorted(set(tests["package"])):
        quality = keys.package(customer, package_id, "quality.parquet")
        near |= learnt_tests(store.get_frame(quality), by=NEAR_LEAKS) if store.exists(quality) else set()
    return set(tests["recording_id"]) & (near | set(learnt["recording_id"]))


def without_leaked_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The table as evidence: a test clip that was learnt from says nothing, whatever its label."""
    if "notes" not in table:
        return table
    return table.assign(label=table["label"].mask(table["notes"].str.contains(LEAKED), None))


def measure(table: pd.DataFrame, rule: AlarmRule, *, seed: int) -> AssetMetrics:
    """Metrics of `engines.metrics` over the labelled rows of a judged table; by anomaly type where it names them.

    A clip counts as found when the rule counts it towards an alarm; of a clip by itself `decision` tells. One that was
    called off rings no alarm: of a faulty machine, that is a miss. Leaked tests, which an engine knows by heart, count
    as unlabelled.
    """
    table = without_leaked_labels(table)
    rings = (table["score"] > rule.clip_threshold) & (table["state"] != OFF)
    labels = table["label"].map({"anomaly": 1.0, "normal": 0.0}).to_numpy(dtype=np.float64)
    kinds = table["anomaly_type"] if "anomaly_type" in table else pd.Series(None, index=table.index, dtype=object)
    found = evaluate(
        table["score"].to_numpy(dtype=np.float64),
        labels,
        table["domain"].tolist(),
        decisions=rings.to_numpy(dtype=bool),
        anomaly_types=[None if pd.isna(kind) else str(kind) for kind in kinds],
        seed=seed,
    )
    return found.model_copy(update={"found_above": rule.clip_threshold, "rule": name_rule(rule)})


def to_csv(table: pd.DataFrame) -> bytes:
    """CSV bytes, UTF-8; a text cell that a spreadsheet would run as a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(table.columns)
    for row in table.itertuples(index=False, name=None):
        writer.writerow([_safe_cell(cell) for cell in row])
    return buffer.getvalue().encode()


def _safe_cell(cell: object) -> object:
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
    return "" if cell is None or pd.isna(cell) else cell


@task(name="Crown the champion", task_run_name="Crown the champion of {model.asset.asset_id}")
def crown_champion(model: Model, run: Run) -> None:
    """Point the asset at this model; the one before stays known as previous.

    Not a model of another ledger than the asset has now, nor one that an operator took back or a comparison refused.
    """
    ended = crown(open_store(run.store), model, run, by="onboard", reason="the newest fit of an onboarding")
    if ended.overtaken:
        note(f"Model {model.version} is not crowned: {ended.overtaken}")
    elif ended.held is not None and ended.champion is not None:
        asset = model.asset
        note(
            f"Model {model.version} is not crowned, and {ended.champion.version} stays: {ended.held.sentence}."
            f" `{how_to_crown(asset.customer, asset.asset_id, model.version)}` crowns it"
        )
