"""The quality gate: one pass over a package, from the table's contract to the signal of every clip.

Everything wrong is found before anything is decided: a broken table does not keep the recordings from being
checked. A *clip* here is one row of the table with its file, before it is cut into segments. Verdicts:

- per clip: `ok`, `warn`, or `reject` (quarantined: nothing later sees it);
- per asset: accepted where it has enough good target normals, counting those it already had, and not counting those
  that were taken back or called anomalous since (`tasks.corrections`);
- per package: accepted, accepted with quarantine, or rejected. `bad_input` says that the contract itself is
  broken, so that nothing of the package may be filed.

Memory holds the samples of as many clips as there are threads, however large the package.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from engines.quality import RECORDING_ID_DIGITS
from engines.sound_typing import SoundTyping
from schemas.errors import PackageError
from schemas.machine_types import MachineTypes, load_machine_types
from schemas.metadata import FILE, QA_COLUMNS, empty_metadata, read_metadata
from schemas.paths import AUDIO_FOLDER, unsafe_clip_path
from schemas.problems import Problem, Severity, shorten
from schemas.references import AssetIntake, QualityReport, Verdict
from schemas.rules import RULES, report
from schemas.settings import OnboardSettings, QaLimits, StandardizeSettings
from schemas.tables import find_tables
from tasks.clips import AssetKey, Clip, ClipVerdict
from tasks.comparisons import compare_recordings, compare_sounds, compare_with_known, compare_within_assets
from tasks.packages import PackageArchive
from tasks.parallel import ordered_map
from tasks.signals import Keep, check_signal, sensor_of, standard_form

__all__ = ["AssetKey", "ClipVerdict", "Judgement", "judge"]

Recordings = Mapping[AssetKey, frozenset[str]]
"""Recording ids by asset."""
_SHORTAGES = ("asset.normals", "asset.few_normals")


@dataclass(frozen=True)
class Judgement:
    """Everything the gate found, and what it decided."""

    metadata: pd.DataFrame
    """The table by `schemas.metadata`, qa_ columns filled. It keeps the strict contract unless `bad_input`."""
    quality: pd.DataFrame
    """One row a clip, indexed like `metadata`: clip_id, relative_path, machine_type, section_id, split, domain,
    verdict, reasons (list of rule ids), sensor, and the measures of `engines.quality.SignalMeasures` (null where it
    cannot be decoded) and of `tasks.clips.SoundMeasures` (null too where the waveform alone quarantined the clip)."""
    problems: tuple[Problem, ...]
    verdict: Verdict
    bad_input: bool
    assets: tuple[AssetIntake, ...]

    @property
    def exit_code(self) -> int:
        """Of the `alp` command: 0 accepted, 3 bad input, 4 rejected."""
        if self.bad_input:
            return 3
        return 4 if self.verdict is Verdict.REJECTED else 0

    @property
    def accepted_clips(self) -> pd.DataFrame:
        """Rows of `metadata` that later steps may read, with their recordings' ids; none of a package of bad input."""
        ids = self.quality["content_sha256"].str[:RECORDING_ID_DIGITS]
        good = (self.quality["verdict"] != ClipVerdict.REJECT) & (not self.bad_input)
        return self.metadata.assign(recording_id=ids)[good]

    def report(self, package_id: str, *, quality_key: str, metadata_key: str | None) -> QualityReport:
        """The judgement without its tables, which lie at the keys."""
        verdicts = self.quality["verdict"].value_counts()
        synthetic = self.metadata["synthetic"]
        return QualityReport(
            package_id=package_id,
            verdict=self.verdict,
            bad_input=self.bad_input,
            clips=len(self.quality),
            ok=int(verdicts.get(ClipVerdict.OK, 0)),
            warned=int(verdicts.get(ClipVerdict.WARN, 0)),
            quarantined=int(verdicts.get(ClipVerdict.REJECT, 0)),
            synthetic=len(synthetic) > 0 and bool(synthetic.fillna(False).all()),
            assets=self.assets,
            problems=self.problems,
            metadata_key=metadata_key,
            quality_key=quality_key,
        )


def judge(
    archive: PackageArchive,
    settings: OnboardSettings | None = None,
    *,
    known_normals: Recordings | None = None,
    not_normal: Recordings | None = None,
    machine_types: MachineTypes | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
    keep: Keep | None = None,
    sound_typing: SoundTyping | None = None,
) -> Judgement:
    """Judge a package in one pass.

    known_normals: recording ids of the good target normals that an asset has from other packages.
    not_normal: recording ids that an asset must not learn as normal, whatever the table says of them: they are judged
    like any other clip and count for no normal.
    progress: called with the number of clips checked since its last call.
    workers: threads that decode and measure; default: one a core, at most four. They change no result.
    keep: takes the standard form of every clip whose own signal is good, as soon as it is judged, from any thread.
        The clip may yet be quarantined for another reason. Of a package of bad input nothing is kept.
    sound_typing: asked of every good clip whether it sounds like its machine type; by default nobody is asked.

    Of a rule that very many clips break the first are listed, the last of these counts the others. Raises nothing for
    what a package may hold; its faults are in the judgement.
    """
    settings = settings or OnboardSettings()
    known = known_normals or {}
    name, table, problems = _read_table(archive, settings, machine_types)
    clips = _clips(table, settings.standardize, load_machine_types() if machine_types is None else machine_types)
    problems += _match_files(clips, archive, name)
    broken = _is_broken([*archive.problems, *problems])
    check = partial(
        check_signal,
        archive=archive,
        settings=settings,
        keep=None if broken else keep,
        sound_typing=sound_typing,
    )
    _check_signals(clips, check, progress or (lambda done: None), workers)
    # Reading may have found more that is wrong with the archive.
    problems = _placed([*archive.problems, *problems], clips)
    compare_recordings(clips)
    compare_with_known(clips, known)
    compare_sounds(clips, lambda clip: standard_form(clip, archive, settings).waveform, settings.qa, workers=workers)
    compare_within_assets(clips, settings.qa)
    bad_input = _is_broken(problems)
    intake = _intake(clips, known, not_normal or {}, settings.qa)
    # The counts mean nothing until the table is mended, and the remedy would mislead.
    shortages = [] if bad_input else _name_shortages(intake.values(), settings.qa)
    if not bad_input:
        _hold_back_refused(clips, intake)
    return Judgement(
        metadata=_with_measures(table, clips),
        quality=_quality_table(clips, table),
        problems=tuple(shorten([*problems, *(problem for clip in clips for problem in clip.problems), *shortages])),
        verdict=_package_verdict(clips, bad_input),
        bad_input=bad_input,
        assets=tuple(intake.values()),
    )


# --- the table and its files ------------------------------------------------------------------------------------


def _read_table(
    archive: PackageArchive, settings: OnboardSettings, machine_types: MachineTypes | None
) -> tuple[str, pd.DataFrame, list[Problem]]:
    """The table's name, the table and its problems; without rows where there is none to be read."""
    limits = settings.archive
    name, *others = find_tables(archive.names) or [FILE]
    if name not in archive.names:
        return name, empty_metadata(), [report("table.missing", file=FILE)]
    problems = [report("table.several", file=name, others=", ".join(others))] if others else []
    if archive.size(name) > limits.max_table_bytes:
        return name, empty_metadata(), [*problems, report("table.bytes", file=name, limits=limits)]
    try:
        data = archive.read(name)
    except PackageError:
        return name, empty_metadata(), problems  # the archive's own problems name it
    try:
        table, found = read_metadata(data, name=name, machine_types=machine_types, limits=limits)
    except PackageError as error:
        return name, empty_metadata(), [*problems, *error.problems]
    return name, table, [*problems, *found]


def _clips(table: pd.DataFrame, standardize: StandardizeSettings, machine_types: MachineTypes) -> list[Clip]:
    own_rates = {name: kind.sample_rate for name, kind in machine_types.items() if kind.sample_rate}
    columns = ["clip_id", "relative_path", "machine_type", "section_id", "split", "domain", "label", "sensor"]
    rows = zip(table.index, *(table[column].fillna("") for column in columns), strict=True)
    return [
        Clip(
            *(row, clip_id, path, (machine_type, section_id), split, domain, label),
            sensor=sensor_of(sensor),
            standard_rate=own_rates.get(machine_type, standardize.sample_rate),
        )
        for row, clip_id, path, machine_type, section_id, split, domain, label, sensor in rows
    ]


def _match_files(clips: list[Clip], archive: PackageArchive, table_name: str) -> list[Problem]:
    """Tie rows and files together; files that are not there, and files that no row names."""
    names = set(archive.names)
    spelt = {name.casefold(): name for name in names}
    problems = []
    for clip in clips:
        clip.file_is_there = clip.path in names
        # A path that is itself at fault, or that the archive refused, already has its own words.
        if clip.file_is_there or clip.path in archive.refused or unsafe_clip_path(clip.path):
            continue
        near = spelt.get(clip.path.casefold())
        hint = f" It holds {near}, which differs in upper and lower case." if near else ""
        row, path = clip.row, clip.path
        place = {"file": table_name, "row": row, "column": "relative_path"}
        problems.append(report("file.missing", **place, value=path, hint=hint))
    listed = {clip.path for clip in clips}
    unlisted = sorted(name for name in names - listed if name.startswith(AUDIO_FOLDER))
    return problems + [report("file.unlisted", file=name) for name in unlisted if clips]


def _placed(problems: list[Problem], clips: list[Clip]) -> list[Problem]:
    """The problems with the clip they are about, which hears of it."""
    by_row = {clip.row: clip for clip in clips}
    by_path = {clip.path: clip for clip in clips}
    placed = []
    for problem in problems:
        clip = by_row.get(problem.row) if problem.row is not None else by_path.get(problem.file or "")
        others = [by_row[row] for row in problem.further_rows() if row in by_row]
        for concerned in [clip, *others] if clip and problem.severity is Severity.ERROR else []:
            concerned.breaches.append(problem.rule)
        place = {"clip_id": clip.clip_id, "row": clip.row} if clip else {}
        placed.append(problem.model_copy(update=place) if place else problem)
    return placed


def _is_broken(problems: Iterable[Problem]) -> bool:
    return any(problem.severity is Severity.ERROR for problem in problems)


def _check_signals(
    clips: list[Clip], check: Callable[[Clip], None], progress: Callable[[int], None], workers: int | None
) -> None:
    """Decode and measure every clip that has a file, in the order of the table."""
    readable = [clip for clip in clips if clip.file_is_there]
    for _ in ordered_map(check, readable, workers=workers):
        progress(1)


# --- what becomes of it -----------------------------------------------------------------------------------------


def _intake(
    clips: Iterable[Clip], known: Recordings, not_normal: Recordings, qa: QaLimits
) -> dict[AssetKey, AssetIntake]:
    """What every asset gets, in the order of the table."""
    groups: dict[AssetKey, list[Clip]] = defaultdict(list)
    for clip in clips:
        if all(clip.asset):
            groups[clip.asset].append(clip)
    nothing: frozenset[str] = frozenset()
    return {
        asset: _asset_intake(asset, own, known.get(asset, nothing), not_normal.get(asset, nothing), qa)
        for asset, own in groups.items()
    }


def _asset_intake(
    asset: AssetKey, clips: list[Clip], known: frozenset[str], not_normal: frozenset[str], qa: QaLimits
) -> AssetIntake:
    good = [clip for clip in clips if clip.is_good]
    splits = Counter(clip.split for clip in good)
    training = [(clip.domain, clip.measures.recording_id) for clip in good if clip.split == "train" and clip.measures]
    return AssetIntake(
        machine_type=asset[0],
        section_id=asset[1],
        test=splits["test"],
        supplemental=splits["supplemental"],
        quarantined=len(clips) - len(good),
        **_count_normals(training, known, not_normal, qa),
    )


def _count_normals(
    training: Iterable[tuple[str, str]], known: frozenset[str], not_normal: frozenset[str], qa: QaLimits
) -> dict[str, Any]:
    """The fields of `AssetIntake` that tell of normals. `training`: domain and recording id of each good train clip."""
    normals = [(domain, recording) for domain, recording in training if recording not in not_normal]
    own = [recording for domain, recording in normals if domain == "target"]
    in_all = len(known.union(own))
    return {
        "target": len(own),
        "source": len(normals) - len(own),
        "known_target": len(known),
        "normals": in_all,
        "accepted": in_all >= qa.min_normals,
    }


def _name_shortages(intake: Iterable[AssetIntake], qa: QaLimits) -> list[Problem]:
    """What each asset with fewer normals than recommended should record next."""
    return [_name_shortage(asset, qa) for asset in intake if asset.normals < qa.recommended_normals]


def _name_shortage(asset: AssetIntake, qa: QaLimits) -> Problem:
    needed, recommended = _SHORTAGES
    wanted = qa.recommended_normals if asset.accepted else qa.min_normals
    return report(
        recommended if asset.accepted else needed,
        limits=qa,
        asset=f"{asset.machine_type}/{asset.section_id}",
        measured=asset.normals,
        missing=wanted - asset.normals,
        recommended=qa.recommended_normals,
    )


def _hold_back_refused(clips: list[Clip], intake: Mapping[AssetKey, AssetIntake]) -> None:
    """Hold back every clip of an asset with too few good normals."""
    refused = {key for key, asset in intake.items() if not asset.accepted}
    for clip in clips:
        if clip.asset in refused:
            clip.breaches.append("asset.normals")


def recount(
    found: QualityReport, quality: pd.DataFrame, qa: QaLimits, *, known_normals: Recordings, not_normal: Recordings
) -> QualityReport | None:
    """A report as judging its package again would give it, told from its table without hearing a recording.

    found: what `judge` reported of the package under the same `qa`; quality: its table. `known_normals` and
    `not_normal` as in `judge`, as they are now.

    None where the package must be judged again, since another verdict of a clip would come out: an asset would be
    refused that was accepted or the other way round, or other test clips are known as normals.
    """
    nothing: frozenset[str] = frozenset()
    good = _good_clips(quality)
    training = good[good["split"] == "train"].groupby(["machine_type", "section_id"])
    told = {key: list(zip(rows["domain"], rows["recording_id"], strict=True)) for key, rows in training}
    assets = []
    for asset in found.assets:
        key = (asset.machine_type, asset.section_id)
        known, spoilt = known_normals.get(key, nothing), not_normal.get(key, nothing)
        assets.append(asset.model_copy(update=_count_normals(told.get(key, []), known, spoilt, qa)))
    same_assets = all(now.accepted == before.accepted for now, before in zip(assets, found.assets, strict=True))
    if not same_assets or _known_now(good, known_normals) != _known_then(good):
        return None
    rest = [problem for problem in found.problems if problem.rule not in _SHORTAGES]
    shortages = [] if found.bad_input else _name_shortages(assets, qa)
    return found.model_copy(update={"assets": tuple(assets), "problems": (*rest, *shortages)})


def _good_clips(quality: pd.DataFrame) -> pd.DataFrame:
    """The rows of clips that are good in themselves, also where their asset was refused, with recording ids."""
    in_order = [
        all(RULES[rule].severity is Severity.WARN for rule in reasons if rule != "asset.normals")
        for reasons in quality["reasons"]
    ]
    good = quality[pd.Series(in_order, index=quality.index, dtype=bool) & quality["content_sha256"].notna()]
    return good.assign(recording_id=good["content_sha256"].str[:RECORDING_ID_DIGITS])


def _known_now(good: pd.DataFrame, known: Recordings) -> set[str]:
    """Recordings of test clips that their asset has learnt as normal from another package."""
    tests = good.loc[good["split"] == "test", ["machine_type", "section_id", "recording_id"]]
    rows = tests.itertuples(index=False, name=None)
    return {name for kind, section, name in rows if name in known.get((kind, section), ())}


def _known_then(good: pd.DataFrame) -> set[str]:
    warned = ["clip.known_normal" in reasons for reasons in good["reasons"]]
    return set(good.loc[pd.Series(warned, index=good.index, dtype=bool), "recording_id"])


def _package_verdict(clips: list[Clip], bad_input: bool) -> Verdict:
    good = sum(clip.is_good for clip in clips)
    if bad_input or good == 0:
        return Verdict.REJECTED
    return Verdict.ACCEPTED if good == len(clips) else Verdict.ACCEPTED_WITH_QUARANTINE


# --- the two tables ---------------------------------------------------------------------------------------------

_MEASURE_DTYPES = {
    "duration_s": "Float64",
    "sample_rate": "Int64",
    "channels": "Int64",
    "rms": "Float64",
    "ac_rms": "Float64",
    "peak": "Float64",
    "clipping_ratio": "Float64",
    "flat_top_ratio": "Float64",
    "bits_used": "Float64",
    "silence_ratio": "Float64",
    "stuck_ratio": "Float64",
    "gap_ratio": "Float64",
    "dc_offset": "Float64",
    "mono_ratio": "Float64",
    "has_nan": "boolean",
    "content_sha256": "string",
}

_SOUND_DTYPES = {
    "band_hz": "Float64",
    "lost_energy": "Float64",
    "hum_ratio": "Float64",
    "speech_ratio": "Float64",
}


def _with_measures(table: pd.DataFrame, clips: list[Clip]) -> pd.DataFrame:
    filled = table.copy()
    for column in QA_COLUMNS:
        measure_name = column.removeprefix("qa_")
        values = [getattr(clip.measures, measure_name) if clip.measures else None for clip in clips]
        filled[column] = pd.Series(values, index=table.index, dtype="Float64")
    return filled


def _quality_table(clips: list[Clip], table: pd.DataFrame) -> pd.DataFrame:
    quality = table[["clip_id", "relative_path", "machine_type", "section_id", "split", "domain"]].copy()
    quality["verdict"] = pd.Series([clip.verdict.value for clip in clips], index=table.index, dtype="string")
    quality["reasons"] = pd.Series([clip.reasons for clip in clips], index=table.index, dtype="object")
    quality["sensor"] = pd.Series([clip.sensor for clip in clips], index=table.index, dtype="string")
    for part, dtypes in (("measures", _MEASURE_DTYPES), ("sound", _SOUND_DTYPES)):
        found = [getattr(clip, part) for clip in clips]
        for name, dtype in dtypes.items():
            values = [getattr(each, name) if each else None for each in found]
            quality[name] = pd.Series(values, index=table.index, dtype=dtype)
    return quality
