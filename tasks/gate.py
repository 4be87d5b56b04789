"""The quality gate as a step: judge a received package in one pass and keep what was found beside the run.

What a package holds never changes, but what its assets know does: other packages bring normals, and people correct
recordings. A report that was made before is heeded with its counts brought up to date, as long as no clip's verdict
would change: every asset that was accepted still is, and every one that was refused.

The same pass brings the good recordings into standard form, so that no later step decodes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import task

from schemas.references import Package, QualityReport, Run
from tasks import keys
from tasks.heard import HeardPortions, read_heard, remove_heard
from tasks.ledger import known_normals, known_not_normal
from tasks.logbook import note
from tasks.packages import open_package
from tasks.progress import track
from tasks.quality import Recordings, judge, list_clips, recordings_in, recount
from tasks.spreading import Portion, portions
from tasks.standard_clips import StandardClips
from tasks.standardizing import find_filed, standard_clips_key
from tasks.store import ObjectStore, open_store

LEAST_PORTION = 100
"""Recordings that are worth reading the package once more for, on another worker."""


@dataclass(frozen=True)
class Known:
    """What the customer's assets know of recordings: their normals from other packages, and what is none."""

    normals: Recordings
    not_normal: Recordings


def read_known(store: ObjectStore, run: Run) -> Known:
    """What the ledgers and the corrections say of recordings now."""
    return Known(
        normals=known_normals(store, run.customer, besides=run.package_id),
        not_normal=known_not_normal(store, run.customer),
    )


def portions_to_hear(package: Package, run: Run) -> list[Portion]:
    """The recordings of a package cut into portions, one a worker.

    None where one pass hears and judges them all, or where the report of an earlier run still stands.
    """
    if len(portions(package.files, least=LEAST_PORTION)) < 2:
        return []
    store = open_store(run.store)
    if _standing_report(store, package, run, read_known(store, run)) is not None:
        return []
    with store.local_file(package.raw_key) as path, open_package(path, run.settings.archive) as archive:
        cut = portions(len(list_clips(archive, run.settings).readable), least=LEAST_PORTION)
    return cut if len(cut) > 1 else []


@task(name="Judge every recording", task_run_name="Judge the recordings of {package.name}")
def judge_package(package: Package, run: Run, heard: Sequence[Portion] = ()) -> QualityReport:
    """Table contract and signal checks over the whole package, or the report that still stands.

    heard: portions of its recordings that were heard already (`tasks.heard`); all are heard here where that is lost.
    """
    store = open_store(run.store)
    known = read_known(store, run)
    if (standing := _standing_report(store, package, run, known)) is not None:
        if heard:
            # By another worker on the same run, which judged it first.
            remove_heard(store, run)
        return standing
    frames = read_heard(store, heard, run)
    with (
        store.local_file(package.raw_key) as path,
        open_package(path, run.settings.archive) as archive,
        track("Judging recordings", total=recordings_in(archive)) as advance,
        StandardClips(store, package, run.settings.standardize) as clips,
    ):
        judgement = judge(
            archive,
            run.settings,
            progress=advance,
            known_normals=known.normals,
            not_normal=known.not_normal,
            keep=clips.add,
            heard=HeardPortions(frames, archive, clips) if frames else None,
        )
        accepted = judgement.accepted_clips["relative_path"].tolist()
        clips.keep_only(accepted)
    remove_heard(store, run)
    store.put_frame(standard_clips_key(run), clips.table(accepted))
    quality_key = keys.run(run.customer, run.run_id, "quality.parquet")
    metadata_key = None if judgement.bad_input else keys.run(run.customer, run.run_id, "metadata.parquet")
    store.put_frame(quality_key, judgement.quality)
    if metadata_key is not None:
        store.put_frame(metadata_key, judgement.accepted_clips)
    report = judgement.report(package.package_id, quality_key=quality_key, metadata_key=metadata_key)
    held_back = f"{report.quarantined} held back, {report.broken} broken"
    note(f"{report.clips} clips: {report.ok} good, {report.warned} with a note, {held_back}")
    store.put_model(_report_key(run), report)
    return report


def _report_key(run: Run) -> str:
    return keys.run(run.customer, run.run_id, "quality.json")


def _standing_report(store: ObjectStore, package: Package, run: Run, known: Known) -> QualityReport | None:
    """The report of this run, or of an earlier run that filed the package under the same rules, brought up to date."""
    own = store.find_model(_report_key(run), QualityReport)
    report = own or find_filed(store, package, run)
    current = _bring_up_to_date(store, report, run, known) if report else None
    return current and current.model_copy(update={"reused": True})


def still_stands(store: ObjectStore, report: QualityReport, run: Run) -> bool:
    """Whether judging again would give every clip the same verdict."""
    return _bring_up_to_date(store, report, run, read_known(store, run)) is not None


def _bring_up_to_date(store: ObjectStore, report: QualityReport, run: Run, known: Known) -> QualityReport | None:
    """The report with today's counts; None where the package must be judged again."""
    if not store.exists(report.quality_key):
        return None
    quality = store.get_frame(report.quality_key)
    return recount(report, quality, run.settings.qa, known_normals=known.normals, not_normal=known.not_normal)
