"""Bring a package's good clips into standard form and file the package, wholly or not at all.

The package's folder counts as filed once its `quality.json` is there; that object is written last. Clip
objects are named by what they hold, so a step that was cut off finds its clips and goes on with the next.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping

import pandas as pd
from prefect import task

from schemas.references import Asset, Dataset, Package, QualityReport, Run
from tasks import keys, ledger
from tasks.corrections import standing_corrections
from tasks.logbook import note
from tasks.packages import open_package
from tasks.parallel import ordered_map
from tasks.progress import track
from tasks.runs import digest
from tasks.signals import opened, sensor_of, to_standard
from tasks.standard_clips import (
    Segment,
    StandardClips,
    package_lock,
    remove_unneeded,
    stored_keys,
    stored_segments,
)
from tasks.store import ObjectStore, open_store


class FiledPackage(QualityReport):
    """`quality.json` of a filed package: the gate's report, and which settings and code filed it."""

    filed_by: str


def filed_by(run: Run) -> str:
    """Changes when the gate or the standard form would come out differently."""
    settings = run.settings
    own_types = [kind.digest() for kind in settings.machine_types]
    return digest(
        settings.archive.digest(), settings.qa.digest(), settings.standardize.digest(), run.code_version, *own_types
    )


def find_filed(store: ObjectStore, package: Package, run: Run) -> FiledPackage | None:
    """The package as it lies filed by the same settings and code, if it does."""
    key = keys.package(package.customer, package.package_id, "quality.json")
    if not store.exists(key):
        return None
    filed = store.get_model(key, FiledPackage)
    return filed if filed.filed_by == filed_by(run) else None


@task(name="File the good clips in standard form", task_run_name="File the good clips of {package.name}")
def file_package(package: Package, quality: QualityReport, run: Run) -> Dataset:
    """Standardize and store every clip the gate let through, then the package's tables.

    Under the package's lock, so that two runs of one package both end with all of its objects there, and none besides.
    """
    store = open_store(run.store)
    with package_lock(store, package):
        before = _filed_segments(store, package)
        filed = find_filed(store, package, run)
        if filed is not None and _holds_the_same(filed, quality):
            dataset = _reuse(store, package, before, run)
        else:
            dataset = _file(store, package, quality, run)
        # A run that began before may still read what was filed until now.
        remove_unneeded(store, package, set(before["audio"]))
    return dataset


def _filed_segments(store: ObjectStore, package: Package) -> pd.DataFrame:
    home = _home(package)
    return store.get_frame(home) if store.exists(home) else pd.DataFrame(columns=["audio"])


def _home(package: Package) -> str:
    return keys.package(package.customer, package.package_id, "metadata.parquet")


def _reuse(store: ObjectStore, package: Package, segments: pd.DataFrame, run: Run) -> Dataset:
    """The package as it lies filed in `segments`; objects that are gone are made anew."""
    there = stored_keys(store, package)
    gone = segments[~segments["audio"].isin(there)].drop_duplicates("relative_path")
    if len(gone):
        again = _standardize_again(store, package, gone.to_dict("records"), run)
        made = {(path, segment["segment"]): segment["audio"] for path, own in again.items() for segment in own}
        places = zip(segments["relative_path"], segments["segment"], segments["audio"], strict=True)
        audio = [made.get((path, number), key) for path, number, key in places]
        store.put_frame(_home(package), segments.assign(audio=audio))
        note(f"{len(gone)} recordings standardized again: their objects were gone")
    return Dataset(
        package_id=package.package_id,
        metadata_key=_home(package),
        reused=gone.empty,
        segments=len(segments),
        assets=(),
    )


def _file(store: ObjectStore, package: Package, quality: QualityReport, run: Run) -> Dataset:
    home = _home(package)
    good = store.get_frame(str(quality.metadata_key))
    segments = _file_clips(store, package, good, run)
    note(f"{len(good)} recordings filed as {len(segments)} segments")
    store.put_frame(home, segments)
    store.put(_quality_table_key(package), store.get(quality.quality_key))
    filed = FiledPackage(
        **{
            **quality.model_dump(exclude={"filed_by"}),
            "metadata_key": home,
            "quality_key": _quality_table_key(package),
        },
        filed_by=filed_by(run),
    )
    store.put_model(keys.package(package.customer, package.package_id, "quality.json"), filed)
    return Dataset(package_id=package.package_id, metadata_key=home, segments=len(segments), assets=())


def _holds_the_same(filed: FiledPackage, quality: QualityReport) -> bool:
    """Whether the same clips were good then and now: an asset may have been refused then for want of normals."""
    return (filed.ok, filed.warned, filed.quarantined) == (quality.ok, quality.warned, quality.quarantined) and [
        asset.accepted for asset in filed.assets
    ] == [asset.accepted for asset in quality.assets]


def _quality_table_key(package: Package) -> str:
    return keys.package(package.customer, package.package_id, "quality.parquet")


def standard_clips_key(run: Run) -> str:
    """Where the gate tells which segments it has stored of which recording."""
    return keys.run(run.customer, run.run_id, "standard.parquet")


def _file_clips(store: ObjectStore, package: Package, rows: pd.DataFrame, run: Run) -> pd.DataFrame:
    """One row a segment, in the table's order; what the gate has not stored is stored now."""
    segments, records = dict(_found_segments(store, package, run)), rows.to_dict("records")
    missing = [row for row in records if row["relative_path"] not in segments]
    if missing:
        segments |= _standardize_again(store, package, missing, run)
    return pd.DataFrame(
        [_describe_segment(row, segment) for row in records for segment in segments[str(row["relative_path"])]]
    )


def _found_segments(store: ObjectStore, package: Package, run: Run) -> Mapping[str, list[Segment]]:
    key = standard_clips_key(run)
    return stored_segments(store, package, store.get_frame(key)) if store.exists(key) else {}


def _standardize_again(
    store: ObjectStore, package: Package, rows: list[dict[Hashable, object]], run: Run
) -> dict[str, list[Segment]]:
    """Segments of recordings whose report is older than this run, or whose objects were taken away since."""
    rates = _sample_rates(run)
    with (
        store.local_file(package.raw_key) as path,
        open_package(path, run.settings.archive) as archive,
        track("Standardizing recordings", total=len(rows)) as advance,
    ):
        clips = StandardClips(store, package, run.settings.standardize)

        def store_one(row: dict[Hashable, object]) -> str:
            name = str(row["relative_path"])
            with opened(name, archive, run.settings.qa) as audio:
                rate = rates[str(row["machine_type"])]
                clips.add(name, to_standard(audio, sensor=sensor_of(row["sensor"]), rate=rate))
            return name

        names = []
        for name in ordered_map(store_one, rows):
            names.append(name)
            advance(1)
    return {name: clips.of(name) for name in names}


def _sample_rates(run: Run) -> dict[str, int]:
    return {name: run.settings.sample_rate_of(name) for name in run.settings.known_machine_types}


def _describe_segment(row: Mapping[Hashable, object], segment: Segment) -> dict[str, object]:
    """A segment's row of the package's table: its recording's row, cut to it.

    The label stays the recording's, which is judged as a whole: a segment of an anomalous recording that marks its
    stretches is itself anomalous only where `anomaly_regions` is not `[]`.
    """
    start_s, stop_s = float(str(segment["start_s"])), float(str(segment["stop_s"]))
    supp_type = row["supp_type"]
    return {
        **{str(name): value for name, value in row.items()},
        **{name: value for name, value in segment.items() if name not in ("relative_path", "stop_s")},
        "anomaly_regions": cut_regions(row["anomaly_regions"], start_s, stop_s),
        "role": str(
            ledger.role_of(str(row["split"]), str(row["domain"]), None if supp_type is None else str(supp_type))
        ),
    }


def cut_regions(regions: object, start_s: float, stop_s: float) -> str | None:
    """Anomalous stretches (JSON `[[start_s, end_s], …]`) inside one segment, in the segment's own time."""
    if not isinstance(regions, str):
        return None
    inside = [
        [round(max(begin, start_s) - start_s, 6), round(min(end, stop_s) - start_s, 6)]
        for begin, end in json.loads(regions)
    ]
    # After rounding: a stretch of less than a microsecond is none.
    return json.dumps([[begin, end] for begin, end in inside if begin < end])


@task(name="Join the assets' ledgers", task_run_name="Enter {package.name} in the ledgers")
def join_ledgers(dataset: Dataset, package: Package, run: Run) -> Dataset:
    """Enter the package's rows in each asset's ledger, and keep beside the run the ledger as the run saw it."""
    store = open_store(run.store)
    segments = store.get_frame(dataset.metadata_key)
    assets = [_join_asset(store, rows, package, run) for _, rows in segments.groupby(["machine_type", "section_id"])]
    reused = dataset.reused and all(asset.reused for asset in assets)
    return dataset.model_copy(update={"assets": tuple(assets), "reused": reused})


def _join_asset(store: ObjectStore, rows: pd.DataFrame, package: Package, run: Run) -> Asset:
    asset_id = keys.asset_id(rows["machine_type"].iloc[0], rows["section_id"].iloc[0])
    current = keys.asset(run.customer, asset_id, "ledger.parquet")
    with store.lock(current):
        before = ledger.read_ledger(store, current)
        after = ledger.join(before, rows, package_id=package.package_id)
        known = not before.empty and after.equals(before)
        if not known:
            store.put_frame(current, after)
    seen = ledger.correct(after, standing_corrections(store, run.customer, asset_id))
    snapshot = keys.run(run.customer, run.run_id, f"{asset_id}/ledger.parquet")
    store.put_frame(snapshot, seen)
    return ledger.describe_asset(run, seen, ledger_key=snapshot).model_copy(update={"reused": known})
