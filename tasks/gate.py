"""The quality gate as a step: judge a received package in one pass and keep what was found beside the run."""

from __future__ import annotations

from prefect import task

from schemas.references import Package, QualityReport, Run
from tasks import keys
from tasks.ledger import known_normals
from tasks.logbook import note
from tasks.packages import open_package
from tasks.progress import track
from tasks.quality import judge
from tasks.standardizing import find_filed
from tasks.store import ObjectStore, open_store

KnownNormals = dict[tuple[str, str], frozenset[str]]


@task(name="Judge every recording", task_run_name="Judge the recordings of {package.name}")
def judge_package(package: Package, run: Run) -> QualityReport:
    """Table contract and signal checks over the whole package, or the report that still stands."""
    store = open_store(run.store)
    known = known_normals(store, package.customer, besides=package.package_id)
    if (standing := _standing_report(store, package, run, known)) is not None:
        return standing
    with (
        store.local_file(package.raw_key) as path,
        open_package(path, run.settings.archive) as archive,
        track("Judging recordings", total=len(archive.names) - 1) as advance,
    ):
        judgement = judge(archive, run.settings, progress=advance, known_normals=known)
    quality_key = keys.run(run.customer, run.run_id, "quality.parquet")
    metadata_key = None if judgement.bad_input else keys.run(run.customer, run.run_id, "metadata.parquet")
    store.put_frame(quality_key, judgement.quality)
    if metadata_key is not None:
        store.put_frame(metadata_key, judgement.accepted_clips)
    report = judgement.report(package.package_id, quality_key=quality_key, metadata_key=metadata_key)
    note(f"{report.clips} clips: {report.ok} good, {report.warned} with a note, {report.quarantined} held back")
    store.put_model(_report_key(run), report)
    return report


def _report_key(run: Run) -> str:
    return keys.run(run.customer, run.run_id, "quality.json")


def _standing_report(store: ObjectStore, package: Package, run: Run, known: KnownNormals) -> QualityReport | None:
    """The report of this run, or of an earlier run that filed the package under the same rules, if it stands."""
    own = store.get_model(_report_key(run), QualityReport) if store.exists(_report_key(run)) else None
    report = own or find_filed(store, package, run)
    return report.model_copy(update={"reused": True}) if report and still_stands(report, known) else None


def still_stands(report: QualityReport, known: KnownNormals) -> bool:
    """Whether judging again would come out the same.

    What a package holds never changes, but an asset refused for want of normals may have got some since, from
    another package.
    """
    return all(
        asset.accepted or asset.known_target == len(known.get((asset.machine_type, asset.section_id), ()))
        for asset in report.assets
    )
