"""The quality gate: one pass over a package, from the table's contract to the signal of every clip.

Everything wrong is found before anything is decided: a broken table does not keep the recordings from being
checked. A *clip* here is one row of the table with its file, before it is cut into segments. Verdicts:

- per clip: `ok`, `warn`, or `reject` (quarantined: nothing later sees it);
- per asset: accepted where it has enough good target normals, counting those it already had, and not counting those
  that were taken back or called anomalous since (`tasks.corrections`);
- per package: accepted, accepted with quarantine, or rejected. `bad_input` says that the contract itself is
  broken, so that nothing of the package may be filed.

Memory holds the samples of as many clips as there are threads, however large the package, and of a long recording a
block at a time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from engines.quality import RECORDING_ID_DIGITS
from engines.sound_typing import SoundTyping
from schemas.errors import PackageError
from schemas.machine_types import MachineTypes, load_machine_types
from schemas.metadata import FILE, QA_COLUMNS, empty_metadata, read_metadata, regions_fault
from schemas.paths import AUDIO_FOLDER, unsafe_clip_path
from schemas.problems import MAX_LISTED, Problem, Severity, shorten, stand_for
from schemas.references import AssetIntake, QualityReport, Verdict
from schemas.rules import RULES, breaks_only_the_contract, printable, report
from schemas.settings import OnboardSettings, QaLimits, StandardizeSettings
from schemas.tables import find_lost_table, find_tables
from tasks.advice import advise, ask
from tasks.clips import AssetKey, Clip, ClipVerdict
from tasks.comparisons import compare_recordings, compare_sounds, compare_with_known, compare_within_assets
from tasks.packages import PackageArchive
from tasks.parallel import give_back_freed_memory, ordered_map
from tasks.signals import Keep, check_signal, sensor_of, some_seconds

__all__ = ["AssetKey", "ClipVerdict", "Judgement", "hear", "judge", "learnt_tests", "list_clips", "recordings_in"]

Recordings = Mapping[AssetKey, frozenset[str]]
"""Recording ids by asset."""
REGION_TOLERANCE_S = 0.1
"""People write where a recording ends rounded to a tenth of a second."""
_SHORTAGES = ("asset.normals", "asset.few_normals")
NEAR_LEAKS = frozenset({"clip.near_leak"})
LEAKS = NEAR_LEAKS | {"clip.leak", "clip.known_normal"}
"""Rules by which the score of a test clip says nothing: its machine learnt that very recording, or one near to it."""


@dataclass(frozen=True)
class Judgement:
    """Everything the gate found, and what it decided."""

    metadata: pd.DataFrame
    """The table by `schemas.metadata`, qa_ columns filled. It keeps the strict contract unless `bad_input`."""
    quality: pd.DataFrame
    """One row a clip, indexed like `metadata`: clip_id, relative_path, machine_type, section_id, split, domain,
    verdict, reasons (list of rule ids), says_nothing (true of a test clip that was learnt from), sensor, and the
    measures of `engines.quality.SignalMeasures` (null where it cannot be decoded) and of `tasks.clips.SoundMeasures`
    (null too where the waveform alone quarantined the clip)."""
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
        broken = int(self.quality["reasons"].map(breaks_only_the_contract).sum())
        synthetic = self.metadata["synthetic"]
        return QualityReport(
            package_id=package_id,
            verdict=self.verdict,
            bad_input=self.bad_input,
            clips=len(self.quality),
            ok=int(verdicts.get(ClipVerdict.OK, 0)),
            warned=int(verdicts.get(ClipVerdict.WARN, 0)),
            quarantined=int(verdicts.get(ClipVerdict.REJECT, 0)) - broken,
            broken=broken,
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
    heard: Callable[[list[Clip]], None] | None = None,
) -> Judgement:
    """Judge a package in one pass.

    known_normals: recording ids of the good target normals that an asset has from other packages.
    not_normal: recording ids that an asset must not learn as normal, whatever the table says of them: they are judged
    like any other clip and count for no normal.
    progress: called with the number of clips checked since its last call.
    machine_types: what a table may name; default: what the settings know.
    workers: threads that decode and measure; default: one a core, at most four. They change no result.
    keep: takes the standard form of every clip whose own signal is good, as soon as it is judged, from any thread.
        The clip may yet be quarantined for another reason. Of a package of bad input nothing is kept.
    sound_typing: asked of every good clip whether it sounds like its machine type; by default nobody is asked.
    heard: fills in what `hear` found of the clips that have a file, where that was done elsewhere; `keep` gets nothing.

    Of a rule that very many clips break the first are listed, the last of these counts the others. Raises nothing for
    what a package may hold; its faults are in the judgement.
    """
    settings = settings or OnboardSettings()
    known = known_normals or {}
    listed = list_clips(archive, settings, machine_types)
    table, clips, types, problems = listed.table, listed.clips, listed.types, listed.problems
    if heard is None:
        hear(archive, listed, settings, progress=progress, workers=workers, keep=keep, sound_typing=sound_typing)
    else:
        heard(listed.readable)
    _check_regions(clips, table["anomaly_regions"])
    # Reading may have found more that is wrong with the archive.
    problems = _placed([*archive.problems, *problems], clips)
    compare_recordings(clips)
    compare_with_known(clips, known)
    compare_sounds(clips, partial(some_seconds, archive=archive, settings=settings), settings.qa, workers=workers)
    compare_within_assets(clips, settings.qa)
    bad_input = _is_broken(problems)
    intake = _intake(clips, known, not_normal or {}, settings.qa)
    told = advise(clips, types)
    # The counts mean nothing until the table is mended, and the remedy would mislead.
    if not bad_input:
        told += _name_shortages(intake.values(), settings.qa)
        learnt = [key for key, asset in intake.items() if asset.target]
        told += ask(learnt, known, types, has_noise=bool(table["supp_type"].eq("noise").any()))
        _hold_back_refused(clips, intake)
    verdict = _package_verdict(clips, bad_input)
    everything = [*problems, *(problem for clip in clips for problem in clip.problems), *told]
    return Judgement(
        metadata=_with_measures(table, clips),
        quality=_quality_table(clips, table),
        problems=tuple(_under_headers(shorten(everything), listed.headers)),
        verdict=verdict,
        bad_input=bad_input,
        assets=tuple(_refuse(intake.values()) if verdict is Verdict.REJECTED else intake.values()),
    )


# --- the table and its files ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """What a package lists, before any recording of it is heard."""

    table: pd.DataFrame
    headers: Mapping[str, str]
    """What the table itself calls its columns."""
    clips: list[Clip]
    """One a row, in the order of the table."""
    types: MachineTypes
    problems: list[Problem]
    """Of the table and of how it fits the files; those of the archive besides."""
    is_broken: bool
    """Whether the contract is broken already, so that nothing of the package may be filed."""

    @property
    def readable(self) -> list[Clip]:
        """The clips that have a file, in the order of the table."""
        return [clip for clip in self.clips if clip.file_is_there]


def list_clips(archive: PackageArchive, settings: OnboardSettings, machine_types: MachineTypes | None = None) -> Listed:
    """Read a package's table and tie its rows to the files."""
    own = machine_types or (settings.known_machine_types if settings.machine_types else None)
    types = own or load_machine_types()
    name, table, problems = _read_table(archive, settings, own)
    headers = table.attrs.pop("headers", {})
    clips = _clips(table, settings.standardize, types)
    problems += _match_files(clips, archive, name)
    return Listed(table, headers, clips, types, problems, _is_broken([*archive.problems, *problems]))


def hear(
    archive: PackageArchive,
    listed: Listed,
    settings: OnboardSettings,
    clips: Sequence[Clip] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
    keep: Keep | None = None,
    sound_typing: SoundTyping | None = None,
) -> None:
    """Decode and measure clips (default: all that have a file) in their order, and note what is wrong with each."""
    check = partial(
        check_signal,
        archive=archive,
        settings=settings,
        keep=None if listed.is_broken else keep,
        sound_typing=sound_typing,
    )
    _check_signals(listed.readable if clips is None else clips, check, progress or (lambda done: None), workers)


def _under_headers(problems: Iterable[Problem], headers: Mapping[str, str]) -> list[Problem]:
    """The problems with what the package's own table calls their columns."""
    own = {column: printable(header) for column, header in headers.items() if header != column}
    return [
        problem.model_copy(update={"header": own[problem.column]}) if problem.column in own else problem
        for problem in problems
    ]


def _read_table(
    archive: PackageArchive, settings: OnboardSettings, machine_types: MachineTypes | None
) -> tuple[str, pd.DataFrame, list[Problem]]:
    """The table's name, the table and its problems; without rows where there is none to be read."""
    limits = settings.archive
    name, *others = find_tables(archive.names) or [FILE]
    if name not in archive.names:
        rule, found = find_lost_table(archive.names)
        file = archive.path.name if rule == "table.alone" else found or FILE
        return name, empty_metadata(), [report(rule, file=file, found=found)]
    problems = [report("table.several", file=name, table=name, others=", ".join(others))] if others else []
    if archive.size(name) > limits.max_table_bytes:
        return name, empty_metadata(), [*problems, report("table.bytes", file=name, limits=limits)]
    try:
        content = [archive.read(name)]
    except PackageError:
        return name, empty_metadata(), problems  # the archive's own problems name it
    try:
        # Handed over, not shared, so that the bytes can go as soon as they are read.
        table, found = read_metadata(content.pop(), name=name, machine_types=machine_types, limits=limits)
        # A table of its largest size leaves holes that nothing small fills: what comes next would stand on top of them.
        give_back_freed_memory()
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


def recordings_in(archive: PackageArchive) -> int:
    """How many recordings there are to judge, as far as names tell before the table is read."""
    return sum(name.startswith(AUDIO_FOLDER) for name in archive.names)


def _match_files(clips: list[Clip], archive: PackageArchive, table_name: str) -> list[Problem]:
    """Tie rows and files together; files that are not there or lie elsewhere, and files that no row names."""
    names = set(archive.names)
    for clip in clips:
        clip.file_is_there = clip.path in names
    # A path that is itself at fault, or that the archive refused, already has its own words.
    refused = archive.refused
    lost = [
        clip
        for clip in clips
        if not clip.file_is_there and clip.path not in refused and unsafe_clip_path(clip.path) is None
    ]
    unlisted = names.difference(clip.path for clip in clips)
    found = _find_elsewhere(lost, unlisted)
    problems = _name_lost(lost, found, table_name)
    unlisted -= set(found.values())
    nameless = [report("file.unlisted", file=name) for name in sorted(unlisted) if name.startswith(AUDIO_FOLDER)]
    return [*problems, *shorten(nameless)] if clips else problems


def _find_elsewhere(lost: Iterable[Clip], unlisted: Iterable[str]) -> dict[str, str]:
    """Where files that the table seeks lie instead, by the table's path: spelt in another case, or in another folder
    where one file alone has that name and one row alone seeks it."""
    lost = list(lost)
    sought = Counter(_file_name(clip.path) for clip in lost)
    by_spelling = {name.casefold(): name for name in unlisted}
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name in unlisted:
        by_name[_file_name(name)].append(name)
    found = {}
    for clip in lost:
        name = _file_name(clip.path)
        alike = by_name.get(name, [])
        near = by_spelling.get(clip.path.casefold()) or (alike[0] if len(alike) == sought[name] == 1 else None)
        if near:
            found[clip.path] = near
    return found


def _file_name(path: str) -> str:
    return path.rpartition("/")[2].casefold()


def _name_lost(lost: Iterable[Clip], found: Mapping[str, str], table_name: str) -> list[Problem]:
    """The rows whose file is not where they say, by where it lies; of very many the last stands for the others."""
    groups: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in lost:
        near = found.get(clip.path)
        rule = "file.missing" if near is None else "file.elsewhere" if near.startswith(AUDIO_FOLDER) else "file.outside"
        groups[rule].append(clip)
    problems = []
    for rule, rows in groups.items():
        for clip in rows[:MAX_LISTED]:
            facts = {} if rule == "file.missing" else {"near": found[clip.path]}
            place = {"file": table_name, "row": clip.row, "column": "relative_path"}
            problems.append(report(rule, **place, value=clip.path, **facts))
        if others := rows[MAX_LISTED:]:
            problems[-1] = stand_for(problems[-1], (clip.row for clip in others), len(others))
    return sorted(problems, key=lambda problem: problem.row or 0)


def _placed(problems: list[Problem], clips: list[Clip]) -> list[Problem]:
    """The problems with the clip they are about, which hears of it."""
    by_row = {clip.row: clip for clip in clips}
    by_path = {printable(clip.path): clip for clip in clips}
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
    clips: Sequence[Clip], check: Callable[[Clip], None], progress: Callable[[int], None], workers: int | None
) -> None:
    for _ in ordered_map(check, clips, workers=workers):
        progress(1)


def _check_regions(clips: Iterable[Clip], regions: pd.Series) -> None:
    """Note good clips whose anomalous stretches reach beyond their end."""
    for clip, text in zip(clips, regions, strict=True):
        if clip.measures is None or not isinstance(text, str) or regions_fault(text) is not None:
            continue
        end_s = max(end for _, end in json.loads(text))
        if clip.is_good and end_s > clip.measures.duration_s + REGION_TOLERANCE_S:
            facts = {"column": "anomaly_regions", "value": text}
            clip.add("clip.regions_beyond", measured=end_s, duration=clip.measures.duration_s, **facts)


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
    enough = asset.normals >= qa.min_normals
    wanted = qa.recommended_normals if enough else qa.min_normals
    return report(
        recommended if enough else needed,
        limits=qa,
        asset=f"{asset.machine_type} {asset.section_id}",
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


def _refuse(assets: Iterable[AssetIntake]) -> list[AssetIntake]:
    """The assets of a package of which nothing is filed."""
    return [asset.model_copy(update={"accepted": False}) for asset in assets]


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
    accepted = {(asset.machine_type, asset.section_id) for asset in assets if asset.accepted}
    if found.bad_input or accepted.isdisjoint(zip(good["machine_type"], good["section_id"], strict=True)):
        assets = _refuse(assets)
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


def learnt_tests(quality: pd.DataFrame, *, by: frozenset[str] = LEAKS) -> frozenset[str]:
    """Ids of the recordings among a package's test clips that their machine learnt from, also re-encoded or cut: rows
    of a judged table with these ids belong in no figure.

    quality: the table of measures, as `Judgement.quality` or quality.parquet holds it. by: the rules that tell.
    """
    leaks = quality["split"].eq("test") & quality["reasons"].map(lambda reasons: not by.isdisjoint(reasons))
    return frozenset(quality.loc[leaks.astype(bool), "content_sha256"].dropna().str[:RECORDING_ID_DIGITS])


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
    "heard_rms": "Float64",
    "peak": "Float64",
    "over_range_ratio": "Float64",
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
    quality["says_nothing"] = pd.Series(
        [not LEAKS.isdisjoint(clip.reasons) for clip in clips], index=table.index, dtype="bool"
    )
    quality["sensor"] = pd.Series([clip.sensor for clip in clips], index=table.index, dtype="string")
    for part, dtypes in (("measures", _MEASURE_DTYPES), ("sound", _SOUND_DTYPES)):
        found = [getattr(clip, part) for clip in clips]
        for name, dtype in dtypes.items():
            values = [getattr(each, name) if each else None for each in found]
            quality[name] = pd.Series(values, index=table.index, dtype=dtype)
    return quality
