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

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd

from engines.quality import RECORDING_ID_DIGITS, SignalMeasures, energy_above, measure
from schemas.errors import PackageError
from schemas.machine_types import MachineTypes, load_machine_types
from schemas.metadata import FILE, QA_COLUMNS, empty_metadata, read_metadata
from schemas.paths import AUDIO_FOLDER, unsafe_clip_path
from schemas.problems import Problem, Severity
from schemas.references import AssetIntake, QualityReport, Verdict
from schemas.rules import RULES, report
from schemas.settings import OnboardSettings, QaLimits, StandardizeSettings
from tasks.audio import decode
from tasks.packages import PackageArchive
from tasks.parallel import ordered_map

AssetKey = tuple[str, str]
"""(machine_type, section_id) of one customer."""
Recordings = Mapping[AssetKey, frozenset[str]]
"""Recording ids by asset."""
_SHORTAGES = ("asset.normals", "asset.few_normals")


class ClipVerdict(StrEnum):
    """What becomes of one clip."""

    OK = "ok"
    WARN = "warn"
    REJECT = "reject"


@dataclass(frozen=True)
class Judgement:
    """Everything the gate found, and what it decided."""

    metadata: pd.DataFrame
    """The table by `schemas.metadata`, qa_ columns filled. It keeps the strict contract unless `bad_input`."""
    quality: pd.DataFrame
    """One row a clip, indexed like `metadata`: clip_id, relative_path, machine_type, section_id, split, domain,
    verdict, reasons (list of rule ids), and the measures of `engines.quality.SignalMeasures` (null where it cannot
    be decoded)."""
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


@dataclass
class _Clip:
    """One row of the table, its file, and what was found about them."""

    row: int
    clip_id: str
    path: str
    asset: AssetKey
    split: str
    domain: str
    label: str
    standard_rate: int
    """Hz at which its machine type is listened to."""
    file_is_there: bool = False
    measures: SignalMeasures | None = None
    problems: list[Problem] = field(default_factory=list)
    """Of this clip's signal."""
    breaches: list[str] = field(default_factory=list)
    """Rules of the table and the archive that this clip's row or file breaks, or its asset."""

    @property
    def verdict(self) -> ClipVerdict:
        if self.breaches or any(problem.severity is Severity.REJECT for problem in self.problems):
            return ClipVerdict.REJECT
        return ClipVerdict.WARN if self.problems else ClipVerdict.OK

    @property
    def is_good(self) -> bool:
        return self.verdict is not ClipVerdict.REJECT

    @property
    def reasons(self) -> list[str]:
        return list(dict.fromkeys([*self.breaches, *(problem.rule for problem in self.problems)]))

    def add(self, rule: str, *, limits: QaLimits | None = None, **facts: Any) -> None:
        """Note a problem of this clip's signal."""
        self.problems.append(report(rule, limits=limits, file=self.path, clip_id=self.clip_id, **facts))


def judge(
    archive: PackageArchive,
    settings: OnboardSettings | None = None,
    *,
    known_normals: Recordings | None = None,
    not_normal: Recordings | None = None,
    machine_types: MachineTypes | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> Judgement:
    """Judge a package in one pass.

    known_normals: recording ids of the good target normals that an asset has from other packages.
    not_normal: recording ids that an asset must not learn as normal, whatever the table says of them: they are judged
    like any other clip and count for no normal.
    progress: called with the number of clips checked since its last call.
    workers: threads that decode and measure; default: one a core, at most four. They change no result.

    Raises nothing for what a package may hold; its faults are in the judgement.
    """
    settings = settings or OnboardSettings()
    known = known_normals or {}
    table, problems = _read_table(archive, settings, machine_types)
    clips = _clips(table, settings.standardize, load_machine_types() if machine_types is None else machine_types)
    problems += _match_files(clips, archive)
    _check_signals(clips, archive, settings, progress or (lambda done: None), workers)
    problems = _placed([*archive.problems, *problems], clips)
    _compare_recordings(clips)
    _compare_with_known(clips, known)
    _compare_rates(clips)
    bad_input = any(problem.severity is Severity.ERROR for problem in problems)
    intake = _intake(clips, known, not_normal or {}, settings.qa)
    # The counts mean nothing until the table is mended, and the remedy would mislead.
    shortages = [] if bad_input else _name_shortages(intake.values(), settings.qa)
    if not bad_input:
        _hold_back_refused(clips, intake)
    return Judgement(
        metadata=_with_measures(table, clips),
        quality=_quality_table(clips, table),
        problems=(*problems, *(problem for clip in clips for problem in clip.problems), *shortages),
        verdict=_package_verdict(clips, bad_input),
        bad_input=bad_input,
        assets=tuple(intake.values()),
    )


# --- the table and its files ------------------------------------------------------------------------------------


def _read_table(
    archive: PackageArchive, settings: OnboardSettings, machine_types: MachineTypes | None
) -> tuple[pd.DataFrame, list[Problem]]:
    """The table and its problems; without rows where there is none to be read."""
    limits = settings.archive
    name = next((name for name in archive.names if name.casefold() == FILE), None)
    if name is None:
        return empty_metadata(), [report("table.missing", file=FILE)]
    if archive.size(name) > limits.max_table_bytes:
        return empty_metadata(), [report("table.bytes", file=name, limits=limits)]
    try:
        data = archive.read(name)
    except PackageError:
        return empty_metadata(), []  # the archive's own problems name it
    try:
        return read_metadata(data, machine_types=machine_types, limits=limits)
    except PackageError as error:
        return empty_metadata(), list(error.problems)


def _clips(table: pd.DataFrame, standardize: StandardizeSettings, machine_types: MachineTypes) -> list[_Clip]:
    own_rates = {name: kind.sample_rate for name, kind in machine_types.items() if kind.sample_rate}
    columns = ["clip_id", "relative_path", "machine_type", "section_id", "split", "domain", "label"]
    rows = zip(table.index, *(table[column].fillna("") for column in columns), strict=True)
    return [
        _Clip(
            *(row, clip_id, path, (machine_type, section_id), split, domain, label),
            standard_rate=own_rates.get(machine_type, standardize.sample_rate),
        )
        for row, clip_id, path, machine_type, section_id, split, domain, label in rows
    ]


def _match_files(clips: list[_Clip], archive: PackageArchive) -> list[Problem]:
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
        problems.append(report("file.missing", file=FILE, row=row, column="relative_path", value=path, hint=hint))
    listed = {clip.path for clip in clips}
    unlisted = sorted(name for name in names - listed if name.startswith(AUDIO_FOLDER))
    return problems + [report("file.unlisted", file=name) for name in unlisted if clips]


def _placed(problems: list[Problem], clips: list[_Clip]) -> list[Problem]:
    """The problems with the clip they are about, which hears of it."""
    by_row = {clip.row: clip for clip in clips}
    by_path = {clip.path: clip for clip in clips}
    placed = []
    for problem in problems:
        clip = by_row.get(problem.row) if problem.row is not None else by_path.get(problem.file or "")
        if clip is not None and problem.severity is Severity.ERROR:
            clip.breaches.append(problem.rule)
        placed.append(problem.model_copy(update={"clip_id": clip.clip_id}) if clip else problem)
    return placed


# --- the signal of every clip -----------------------------------------------------------------------------------


def _check_signals(
    clips: list[_Clip],
    archive: PackageArchive,
    settings: OnboardSettings,
    progress: Callable[[int], None],
    workers: int | None,
) -> None:
    """Decode and measure every clip that has a file, in the order of the table."""
    readable = [clip for clip in clips if clip.file_is_there]
    for _ in ordered_map(lambda clip: _check_signal(clip, archive, settings), readable, workers=workers):
        progress(1)


def _check_signal(clip: _Clip, archive: PackageArchive, settings: OnboardSettings) -> None:
    qa = settings.qa
    try:
        data = archive.read(clip.path)
    except PackageError:
        return  # the archive's own problems name it
    try:
        audio = decode(data, qa, name=clip.path)
    except PackageError as error:
        clip.problems += [problem.model_copy(update={"clip_id": clip.clip_id}) for problem in error.problems]
        return
    clip.measures = measure(audio.samples, audio.sample_rate, full_scale=audio.full_scale)
    for rule, facts in _signal_faults(clip.measures, qa):
        clip.add(rule, limits=qa, **facts)
    if clip.is_good and audio.sample_rate > clip.standard_rate:
        nyquist, allowed = clip.standard_rate / 2, settings.standardize.warn_lost_energy
        lost = energy_above(audio.samples, audio.sample_rate, nyquist)
        if lost > allowed:
            clip.add("clip.lost_energy", measured=lost, nyquist=nyquist, allowed=allowed)


def _signal_faults(found: SignalMeasures, qa: QaLimits) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rules that a signal breaks, with the facts for their words; of two limits only the graver."""
    if found.has_nan:
        # The other measures would describe the numbers that are left.
        yield "clip.nan", {}
        return
    if found.duration_s < qa.min_duration_s:
        yield "clip.short", {"measured": found.duration_s}
    if found.sample_rate < qa.min_sample_rate:
        yield "clip.rate_low", {"measured": found.sample_rate}
    if found.ac_rms < qa.reject_rms:
        yield "clip.dead", _levels(found.ac_rms, qa.reject_rms)
        return
    if found.ac_rms < qa.warn_rms:
        yield "clip.quiet", _levels(found.ac_rms, qa.warn_rms)
    if found.clipping_ratio > qa.reject_clipping_ratio:
        yield "clip.clipped_lost", {"measured": found.clipping_ratio}
    elif found.clipping_ratio > qa.warn_clipping_ratio:
        yield "clip.clipped", {"measured": found.clipping_ratio}
    if found.silence_ratio > qa.reject_silence_ratio:
        yield "clip.silent", {"measured": found.silence_ratio}
    elif found.silence_ratio > qa.warn_silence_ratio:
        yield "clip.dropouts", {"measured": found.silence_ratio}
    if found.peak > 1:
        yield "clip.over_scale", {"measured": found.peak}
    offset = abs(found.dc_offset) / max(1.0, found.peak)
    if offset > qa.warn_dc_offset:
        yield "clip.dc_offset", {"measured": offset}


def _levels(measured: float, limit: float) -> dict[str, Any]:
    return {"measured_db": _dbfs(measured), "limit_db": _dbfs(limit)}


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


# --- clips against each other -----------------------------------------------------------------------------------


def _compare_recordings(clips: Iterable[_Clip]) -> None:
    """Note exact copies among the good clips. Of training copies one stays; test copies only warn."""
    groups: dict[str, list[_Clip]] = defaultdict(list)
    for clip in clips:
        if clip.is_good and clip.measures is not None:
            groups[clip.measures.content_sha256].append(clip)
    for same in groups.values():
        if len(same) > 1:
            _judge_copies(same)


def _judge_copies(same: list[_Clip]) -> None:
    """Judge the clips of one recording, given in the order of the table."""
    training = [clip for clip in same if clip.split == "train"]
    tests = [clip for clip in same if clip.split == "test"]
    anomalies = [clip for clip in tests if clip.label == "anomaly"]
    normals = [clip for clip in tests if clip.label == "normal"]
    for clip in training if anomalies else []:
        clip.add("clip.contradiction", other=anomalies[0].clip_id)
    for clip in training[1:] if not anomalies else []:
        clip.add("clip.copy_train", other=training[0].clip_id)
    if anomalies and normals:
        for clip in tests:
            if clip.label:
                clip.add("clip.two_labels", other=(normals if clip.label == "anomaly" else anomalies)[0].clip_id)
    if training and not anomalies:
        for clip in tests:
            clip.add("clip.leak", other=training[0].clip_id)
    else:
        for clip in tests[1:]:
            clip.add("clip.copy", other=tests[0].clip_id)
    first = next(iter(training or tests or same))
    for clip in same:
        if clip.split == "supplemental" and clip is not first:
            clip.add("clip.copy", other=first.clip_id)


def _compare_with_known(clips: Iterable[_Clip], known: Recordings) -> None:
    """Note good test clips that an earlier package taught their asset as normal."""
    for clip in clips:
        if clip.split != "test" or not clip.is_good or clip.measures is None:
            continue
        if clip.measures.recording_id in known.get(clip.asset, frozenset()):
            clip.add("clip.known_normal", hint=" as an anomaly" if clip.label == "anomaly" else "")


def _compare_rates(clips: Iterable[_Clip]) -> None:
    """Note good clips that hold another band than most of their asset's; supplemental ones are not judged by it."""
    groups: dict[AssetKey, list[tuple[_Clip, int]]] = defaultdict(list)
    for clip in clips:
        if clip.is_good and clip.measures is not None and clip.split != "supplemental":
            groups[clip.asset].append((clip, clip.measures.sample_rate))
    for rated in groups.values():
        _judge_rates(rated)


def _judge_rates(rated: list[tuple[_Clip, int]]) -> None:
    """Judge the clips of one asset, given with their sample rates in Hz. Rates above the standard one are alike."""
    kept = [min(rate, clip.standard_rate) for clip, rate in rated]
    counts = Counter(kept)
    usual = max(counts, key=lambda rate: (counts[rate], rate))
    other = Counter(rate for (_, rate), own in zip(rated, kept, strict=True) if own == usual).most_common(1)[0][0]
    for (clip, rate), own in zip(rated, kept, strict=True):
        if own != usual:
            clip.add("asset.mixed_rates", measured=rate, other=other, standard=clip.standard_rate)


# --- what becomes of it -----------------------------------------------------------------------------------------


def _intake(
    clips: Iterable[_Clip], known: Recordings, not_normal: Recordings, qa: QaLimits
) -> dict[AssetKey, AssetIntake]:
    """What every asset gets, in the order of the table."""
    groups: dict[AssetKey, list[_Clip]] = defaultdict(list)
    for clip in clips:
        if all(clip.asset):
            groups[clip.asset].append(clip)
    nothing: frozenset[str] = frozenset()
    return {
        asset: _asset_intake(asset, own, known.get(asset, nothing), not_normal.get(asset, nothing), qa)
        for asset, own in groups.items()
    }


def _asset_intake(
    asset: AssetKey, clips: list[_Clip], known: frozenset[str], not_normal: frozenset[str], qa: QaLimits
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


def _hold_back_refused(clips: list[_Clip], intake: Mapping[AssetKey, AssetIntake]) -> None:
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


def _package_verdict(clips: list[_Clip], bad_input: bool) -> Verdict:
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
    "silence_ratio": "Float64",
    "dc_offset": "Float64",
    "has_nan": "boolean",
    "content_sha256": "string",
}


def _with_measures(table: pd.DataFrame, clips: list[_Clip]) -> pd.DataFrame:
    filled = table.copy()
    for column in QA_COLUMNS:
        measure_name = column.removeprefix("qa_")
        values = [getattr(clip.measures, measure_name) if clip.measures else None for clip in clips]
        filled[column] = pd.Series(values, index=table.index, dtype="Float64")
    return filled


def _quality_table(clips: list[_Clip], table: pd.DataFrame) -> pd.DataFrame:
    quality = table[["clip_id", "relative_path", "machine_type", "section_id", "split", "domain"]].copy()
    quality["verdict"] = pd.Series([clip.verdict.value for clip in clips], index=table.index, dtype="string")
    quality["reasons"] = pd.Series([clip.reasons for clip in clips], index=table.index, dtype="object")
    for name, dtype in _MEASURE_DTYPES.items():
        values = [getattr(clip.measures, name) if clip.measures else None for clip in clips]
        quality[name] = pd.Series(values, index=table.index, dtype=dtype)
    return quality
