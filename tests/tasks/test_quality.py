"""The quality gate: contract and signal in one pass, quarantine, duplicates, and what an asset is given."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile
import soxr

from schemas.machine_types import load_machine_types
from schemas.metadata import METADATA_COLUMNS, validate_metadata
from schemas.problems import Severity
from schemas.references import Verdict
from schemas.settings import ArchiveLimits, OnboardSettings, QaLimits, StandardizeSettings
from tasks.comparisons import LEAST_FOR_CHANNELS
from tasks.packages import open_package
from tasks.quality import Judgement, judge, learnt_tests, recount

RATE = 16_000
DEFAULTS = {
    "machine_type": "fan",
    "section_id": "00",
    "confirmed_normal": "true",
    "confirmed_by": "Kim",
    "recorded_at": "2026-03-02",
}
NOTES_BY_THE_FORM = ("asset.low_rate", "asset.short_clips", "ask.noise")
"""Of packages that are small so that they are quick to make; test_advice.py holds them to the form."""
LENIENT = OnboardSettings(qa=QaLimits(recommended_normals=3))


def noise(seed: int, *, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).normal(size=int(seconds * RATE)).clip(-4, 4)


def wav(samples: np.ndarray, *, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype=subtype)
    return stream.getvalue()


def row(name: str, **cells: str) -> dict[str, str]:
    return {**DEFAULTS, "relative_path": f"audio/{name}.wav", "clip_id": name, **cells}


def normals(count: int = 3, **cells: str) -> list[dict[str, str]]:
    return [row(f"n{cells.get('section_id', '')}{i}", **cells) for i in range(count)]


def known(section_id: str, count: int) -> dict[tuple[str, str], frozenset[str]]:
    """Normals that a fan has from other packages."""
    return {("fan", section_id): frozenset(f"earlier-{i}" for i in range(count))}


class Packer:
    """Writes packages: a table, and noise of its own seed for every row that brings no sound."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "package.zip"

    def __call__(
        self,
        rows: Iterable[dict[str, str]],
        sounds: dict[str, bytes | None] | None = None,
        **judging: Any,
    ) -> Judgement:
        rows, sounds = list(rows), dict(sounds or {})
        for seed, cells in enumerate(rows):
            if cells["relative_path"].startswith("audio/"):
                sounds.setdefault(cells["relative_path"], wav(noise(seed)))
        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("metadata.csv", pd.DataFrame(rows).to_csv(index=False))
            for name, content in sounds.items():
                if content is not None:
                    archive.writestr(name, content)
        with open_package(self.path) as package:
            result = judge(package, judging.pop("settings", LENIENT), **judging)
        rest = tuple(problem for problem in result.problems if problem.rule not in NOTES_BY_THE_FORM)
        return dataclasses.replace(result, problems=rest)


@pytest.fixture
def judged(tmp_path: Path) -> Packer:
    return Packer(tmp_path)


def rules(judgement: Judgement) -> list[str]:
    return [problem.rule for problem in judgement.problems]


def verdicts(judgement: Judgement) -> dict[str, str]:
    return dict(zip(judgement.quality["clip_id"], judgement.quality["verdict"], strict=True))


def reasons(judgement: Judgement, clip_id: str) -> list[str]:
    quality = judgement.quality.set_index("clip_id")
    return list(quality.at[clip_id, "reasons"])


# --- whole packages -----------------------------------------------------------------------------------------------


def test_a_good_package_is_accepted_with_its_measures_in_the_table(judged: Packer) -> None:
    result = judged(normals(4))

    assert result.verdict is Verdict.ACCEPTED
    assert result.exit_code == 0
    assert result.problems == ()
    assert validate_metadata(result.metadata) == []
    assert list(result.metadata.columns) == list(METADATA_COLUMNS)
    assert result.metadata["qa_rms"].tolist() == pytest.approx([0.1] * 4, rel=0.05)
    assert result.metadata["qa_clipping_ratio"].tolist() == [0.0] * 4
    assert result.quality["duration_s"].tolist() == [1.0] * 4
    assert result.quality["content_sha256"].nunique() == 4
    assert len(result.accepted_clips) == 4


def test_six_faults_are_named_in_one_pass(judged: Packer) -> None:
    rows = [
        *normals(3),
        row("broken"),
        row("missing"),
        row("first", clip_id="twin"),
        row("second", clip_id="twin"),
        row("outside", relative_path="../../etc/passwd"),
        row("strange", machine_type="toaster"),
        row("wrong", label="anomaly"),
    ]
    result = judged(rows, {"audio/broken.wav": b"RIFF....WAVE", "audio/missing.wav": None})

    assert result.bad_input
    assert result.exit_code == 3
    assert result.verdict is Verdict.REJECTED
    assert {(p.rule, p.row, p.column) for p in result.problems} == {
        ("clip.undecodable", 5, None),
        ("file.missing", 6, "relative_path"),
        ("row.clip_id_twice", 7, "clip_id"),
        ("row.clip_id_twice", 8, "clip_id"),
        ("row.path", 9, "relative_path"),
        ("row.machine_type", 10, "machine_type"),
        ("row.normal_only", 11, "label"),
    }
    assert all(problem.remedy for problem in result.problems)
    assert len(result.accepted_clips) == 0


def test_a_hostile_entry_makes_bad_input_and_the_recordings_are_still_checked(judged: Packer) -> None:
    result = judged([*normals(3), row("dead")], {"../../etc/passwd": b"x", "audio/dead.wav": wav(np.zeros(RATE))})

    assert rules(result) == ["archive.path", "clip.dead"]
    assert result.exit_code == 3


def test_broken_recordings_are_quarantined_and_the_rest_goes_on(judged: Packer) -> None:
    result = judged([*normals(3), row("bad")], {"audio/bad.wav": wav(noise(9))[:400]})

    assert result.verdict is Verdict.ACCEPTED_WITH_QUARANTINE
    assert result.exit_code == 0
    assert verdicts(result)["bad"] == "reject"
    assert reasons(result, "bad") == ["clip.undecodable"]
    assert [problem.clip_id for problem in result.problems] == ["bad"]
    assert result.accepted_clips["clip_id"].tolist() == ["n0", "n1", "n2"]
    assert pd.isna(result.metadata["qa_rms"].iloc[-1])


@pytest.mark.parametrize("content", [None, "relative_path\n".encode("utf-16"), b""])
def test_a_package_without_a_readable_table_is_bad_input(tmp_path: Path, content: bytes | None) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("audio/a.wav", wav(noise(0)))
        if content is not None:
            archive.writestr("metadata.csv", content)
    with open_package(tmp_path / "p.zip") as package:
        result = judge(package)

    assert result.exit_code == 3
    assert len(result.problems) == 1
    assert result.problems[0].rule.startswith("table.")
    assert len(result.metadata) == len(result.quality) == len(result.assets) == 0


def test_a_table_beyond_its_limit_is_not_even_unpacked(judged: Packer) -> None:
    result = judged(normals(3), settings=OnboardSettings(archive=ArchiveLimits(max_table_bytes=10)))

    assert rules(result) == ["table.bytes"]


# --- the table against the archive --------------------------------------------------------------------------------


def test_files_without_a_row_warn_and_rows_without_a_file_are_errors(judged: Packer) -> None:
    result = judged([*normals(3), row("gone")], {"audio/gone.wav": None, "audio/extra.wav": b"x", "notes.txt": b"x"})

    assert [(p.rule, p.severity, p.value or p.file) for p in result.problems] == [
        ("file.missing", Severity.ERROR, "audio/gone.wav"),
        ("file.unlisted", Severity.WARN, "audio/extra.wav"),
    ]


def test_a_file_that_differs_in_case_is_pointed_at(judged: Packer) -> None:
    result = judged([*normals(3), row("a")], {"audio/a.wav": None, "audio/A.WAV": wav(noise(9))})

    assert "audio/A.WAV" in result.problems[0].message


def test_a_file_that_the_archive_refused_is_not_called_missing(judged: Packer) -> None:
    link = zipfile.ZipInfo("audio/link.wav")
    link.external_attr = 0o120777 << 16
    judged([*normals(3), row("link")], {"audio/link.wav": None})
    with zipfile.ZipFile(judged.path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with open_package(judged.path) as package:
        result = judge(package, LENIENT)

    assert set(rules(result)) == {"archive.link", "asset.short_clips"}
    assert reasons(result, "link") == ["archive.link"]


# --- one signal each ----------------------------------------------------------------------------------------------

HALF_SILENT = np.concatenate([noise(50), np.zeros(RATE)])
MOSTLY_SILENT = np.concatenate([noise(51), np.zeros(19 * RATE)])
WITH_NAN = np.where(np.arange(RATE) == 5, np.nan, noise(52))


@pytest.mark.parametrize(
    ("sound", "rule", "verdict"),
    [
        (wav(noise(1, seconds=0.5)), "clip.short", "reject"),
        (wav(noise(1)[:450], rate=400), "clip.rate_low", "reject"),
        (wav(np.zeros(RATE)), "clip.dead", "reject"),
        (wav(np.full(RATE, 0.01)), "clip.dead", "reject"),
        (wav(noise(53, level=3e-4)), "clip.quiet", "warn"),
        (wav(np.sign(noise(1))), "clip.clipped_lost", "reject"),
        (wav(noise(53, level=0.5)), "clip.clipped", "warn"),
        (wav(noise(53, level=0.5), subtype="ULAW"), "clip.clipped", "warn"),
        (wav(MOSTLY_SILENT), "clip.silent", "reject"),
        (wav(HALF_SILENT), "clip.dropouts", "warn"),
        (wav(noise(53) + 0.1), "clip.dc_offset", "warn"),
        (wav(WITH_NAN, subtype="FLOAT"), "clip.nan", "reject"),
        (wav(noise(53, level=0.4), subtype="FLOAT"), "clip.over_scale", "warn"),
        (wav(noise(53, level=0.27) + 0.053, subtype="FLOAT"), "clip.over_scale", "warn"),
        (wav(noise(53) * 32768, subtype="FLOAT"), "clip.over_scale_lost", "reject"),
        (wav(noise(53, level=0.7), subtype="FLOAT"), "clip.over_scale_lost", "reject"),
        (wav(noise(53) * 1e37, subtype="FLOAT"), "clip.nan", "reject"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_of_a_signal_is_named_alone(judged: Packer, sound: bytes, rule: str, verdict: str) -> None:
    result = judged([*normals(3), row("x")], {"audio/x.wav": sound})

    assert rules(result) == [rule]
    assert (result.problems[0].file, result.problems[0].clip_id) == ("audio/x.wav", "x")
    assert verdicts(result)["x"] == verdict
    assert reasons(result, "x") == [rule]


def test_limits_come_from_the_settings(judged: Packer) -> None:
    settings = OnboardSettings(qa=QaLimits(recommended_normals=3, min_duration_s=2.0))
    result = judged(normals(3, split="test"), settings=settings, known_normals=known("00", 3))

    assert rules(result) == ["clip.short"] * 3
    assert "less than 2 s" in result.problems[0].message


# --- the same recording twice -------------------------------------------------------------------------------------

SAME = wav(noise(77))


def with_copies(judged: Packer, *rows: dict[str, str]) -> Judgement:
    return judged([*normals(3), *rows], {cells["relative_path"]: SAME for cells in rows})


def test_extra_training_copies_are_quarantined(judged: Packer) -> None:
    result = with_copies(judged, row("a"), row("b", domain="source"), row("c"))

    assert [verdicts(result)[name] for name in "abc"] == ["ok", "reject", "reject"]
    assert rules(result) == ["clip.copy_train"] * 2
    assert "copy of a," in result.problems[0].message


def test_test_copies_only_warn(judged: Packer) -> None:
    result = with_copies(judged, row("a", split="test"), row("b", split="test"))

    assert [verdicts(result)[name] for name in "ab"] == ["ok", "warn"]
    assert rules(result) == ["clip.copy"]


def test_tests_that_were_learnt_from_are_marked_for_whoever_measures(judged: Packer) -> None:
    sound = wav(noise(900))
    rows = [*normals(3), row("learnt"), row("again", split="test", label="normal"), row("new", split="test")]
    quality = judged(rows, {"audio/learnt.wav": sound, "audio/again.wav": sound}).quality.set_index("clip_id")

    assert quality.index[quality["says_nothing"]].tolist() == ["again"]
    assert learnt_tests(quality) == {quality.at["again", "content_sha256"][:16]}


def test_a_package_of_nothing_good_takes_on_no_machine_however_many_normals_it_has(judged: Packer) -> None:
    result = judged([row("dead")], {"audio/dead.wav": wav(np.zeros(RATE))}, known_normals=known("00", 10))

    assert (result.verdict, result.exit_code) == (Verdict.REJECTED, 4)
    assert [asset.accepted for asset in result.assets] == [False]
    assert "asset.normals" not in rules(result)


def test_a_test_copy_of_a_training_normal_says_nothing_and_training_keeps_it(judged: Packer) -> None:
    result = with_copies(judged, row("a", split="test", label="normal"), row("b"))

    assert [verdicts(result)[name] for name in "ab"] == ["warn", "ok"]
    assert reasons(result, "a") == ["clip.leak"]


def test_a_training_normal_that_is_a_test_anomaly_is_quarantined(judged: Packer) -> None:
    result = with_copies(judged, row("a"), row("b", split="test", label="anomaly"), row("c"))

    assert [verdicts(result)[name] for name in "abc"] == ["reject", "ok", "reject"]
    assert reasons(result, "a") == ["clip.contradiction"]


def test_two_labels_for_one_test_recording_are_asked_about(judged: Packer) -> None:
    result = with_copies(judged, row("a", split="test", label="normal"), row("b", split="test", label="anomaly"))

    assert reasons(result, "a") == ["clip.two_labels"]
    assert reasons(result, "b") == ["clip.two_labels", "clip.copy"]
    assert verdicts(result)["a"] == verdicts(result)["b"] == "warn"


def test_supplemental_copies_warn(judged: Packer) -> None:
    result = with_copies(judged, *(row(name, split="supplemental", supp_type="noise") for name in "ab"))

    assert [verdicts(result)[name] for name in "ab"] == ["ok", "warn"]


def test_a_copy_under_another_header_is_found(judged: Packer) -> None:
    pcm = np.round(noise(77) * 32767) / 32768
    result = judged(
        [*normals(3), row("a"), row("b")],
        {"audio/a.wav": wav(pcm), "audio/b.wav": wav(pcm, subtype="PCM_24")},
    )

    assert rules(result) == ["clip.copy_train"]


def test_quarantined_recordings_take_no_part_in_the_comparison(judged: Packer) -> None:
    dead = wav(np.zeros(RATE))
    result = judged([*normals(3), row("a"), row("b")], {"audio/a.wav": dead, "audio/b.wav": dead})

    assert rules(result) == ["clip.dead", "clip.dead"]


# --- the band that is listened to ---------------------------------------------------------------------------------


def hiss(seed: int = 60, *, rate: int = 48_000) -> bytes:
    """White noise: at 48 kHz two thirds of it lie above 8 kHz."""
    return wav(0.1 * np.random.default_rng(seed).normal(size=rate).clip(-4, 4), rate=rate)


def hum(seed: int, *, rate: int = 48_000) -> bytes:
    """A low tone of its own phase, whatever the rate."""
    time = np.arange(rate) / rate
    return wav(0.3 * np.sin(2 * np.pi * 200 * time + seed), rate=rate)


def rated(*rates: int, **cells: str) -> tuple[list[dict[str, str]], dict[str, bytes | None]]:
    """Training rows r0, r1, … of one machine, a low tone at each of the sample rates."""
    rows = [row(f"r{i}", **cells) for i in range(len(rates))]
    return rows, {
        each["relative_path"]: hum(i, rate=rate) for i, (each, rate) in enumerate(zip(rows, rates, strict=True))
    }


def test_energy_above_the_band_that_is_listened_to_warns_and_a_low_hum_does_not(judged: Packer) -> None:
    rows = [*normals(3), row("hiss"), row("hum")]
    result = judged(rows, {"audio/hiss.wav": hiss(), "audio/hum.wav": hum(0)})

    assert rules(result) == ["clip.lost_energy"]
    assert result.problems[0].clip_id == "hiss"
    assert "68% of the recording's energy lies above 8000 Hz" in result.problems[0].message
    assert verdicts(result)["hiss"] == "warn"


def test_lost_energy_heeds_its_limit_and_the_rates_of_settings_and_machine_type(judged: Packer) -> None:
    def found(settings: StandardizeSettings, **judging: Any) -> list[str]:
        onboard = OnboardSettings(qa=LENIENT.qa, standardize=settings)
        return rules(judged([*normals(3), row("hiss")], {"audio/hiss.wav": hiss()}, settings=onboard, **judging))

    types = load_machine_types()
    at_48_khz = {**types, "fan": types["fan"].model_copy(update={"sample_rate": 48_000})}

    assert found(StandardizeSettings(warn_lost_energy=0.6)) == ["clip.lost_energy"]
    assert found(StandardizeSettings(warn_lost_energy=0.7)) == []
    assert found(StandardizeSettings(sample_rate=48_000)) == ["asset.mixed_rates"]
    assert found(StandardizeSettings(), machine_types=at_48_khz) == ["asset.mixed_rates"]


def test_a_quarantined_recording_is_not_asked_about_its_band(judged: Packer) -> None:
    result = judged([*normals(3), row("x")], {"audio/x.wav": wav(np.sign(noise(1)), rate=44_100)})

    assert "clip.lost_energy" not in rules(result)


def test_clips_of_another_band_than_most_of_their_machine_are_named(judged: Packer) -> None:
    rows, sounds = rated(16_000, 16_000, 8_000, 16_000)
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id, p.severity) for p in result.problems] == [("asset.mixed_rates", "r2", Severity.WARN)]
    assert "at 8000 Hz" in result.problems[0].message
    assert "mostly at 16000 Hz" in result.problems[0].message
    assert "16000 Hz or more" in result.problems[0].remedy
    assert verdicts(result)["r2"] == "warn"


def test_rates_at_and_above_the_standard_one_are_the_same_band(judged: Packer) -> None:
    assert rules(judged(*rated(16_000, 44_100, 48_000))) == []


def test_the_minority_is_named_even_where_it_is_the_fuller_band(judged: Packer) -> None:
    result = judged(*rated(8_000, 48_000, 8_000, 8_000))

    assert [problem.clip_id for problem in result.problems] == ["r1"]
    assert "at 48000 Hz" in result.problems[0].message


def test_of_bands_equally_frequent_the_fuller_one_is_kept(judged: Packer) -> None:
    assert [problem.clip_id for problem in judged(*rated(8_000, 16_000, 8_000, 16_000)).problems] == ["r0", "r2"]


def test_each_machine_may_have_a_rate_of_its_own(judged: Packer) -> None:
    rows, sounds = rated(8_000, 8_000, 8_000, section_id="01")

    assert rules(judged([*normals(3), *rows], sounds)) == []


def test_only_good_recordings_that_are_trained_on_or_judged_are_held_to_one_rate(judged: Packer) -> None:
    rows = [
        *normals(3),
        row("short"),
        row("room", split="supplemental", supp_type="noise"),
        row("judged", split="test"),
    ]
    sounds = {
        "audio/short.wav": wav(noise(9, seconds=0.2), rate=8_000),
        "audio/room.wav": hum(1, rate=8_000),
        "audio/judged.wav": hum(2, rate=8_000),
    }
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.short", "short"), ("asset.mixed_rates", "judged")]


# --- what else a signal may have -----------------------------------------------------------------------------------


def channels(*sounds: np.ndarray) -> np.ndarray:
    return np.stack(sounds, axis=1)


def tones(*frequencies_hz: float, seconds: float = 3.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(0.1 * np.sin(2 * np.pi * frequency * time) for frequency in frequencies_hz)


HELD = np.concatenate([noise(80), np.full(RATE // 10, 0.02)])
MUTED = np.concatenate([noise(81), noise(82, seconds=0.1, level=3e-4)])
EIGHT_BITS = np.rint(noise(83, seconds=3.0) * 128) / 128
FLAT = np.clip(noise(84), -0.15, 0.15) * 0.52
NARROW = soxr.resample(noise(85, seconds=3.0), 1, 4, quality="HQ")[: 3 * RATE]
HUM = tones(50, 100, 150, 250) + noise(86, seconds=3.0, level=0.02)
CANCELLING = channels(noise(87), -noise(87) + noise(88, level=0.01))


@pytest.mark.parametrize(
    ("sound", "rule", "verdict", "words"),
    [
        (wav(FLAT), "clip.flat_tops", "warn", "cut flat at -22 dBFS"),
        (wav(np.clip(tones(120, 310), -2e-2, 2e-2)), "clip.flat_tops_lost", "reject", "the waveform is lost"),
        (wav(EIGHT_BITS), "clip.few_bits", "warn", "use 8 bits, fewer than 11"),
        (wav(HELD), "clip.stuck", "warn", "stands still at one value for 9% of the clip"),
        (wav(np.concatenate([noise(80), np.full(19 * RATE, 0.02)])), "clip.stuck_lost", "reject", "95%"),
        (wav(MUTED), "clip.gaps", "warn", "For 9% of the clip"),
        (wav(channels(noise(89), np.zeros(RATE))), "clip.dead_channel", "warn", "Of 2 channels, these carry no sound"),
        (wav(CANCELLING), "clip.cancelling", "warn", "cancel each other"),
        (wav(NARROW), "clip.narrow_band", "warn", "nothing, though at 16000 Hz it could hold up to 8000 Hz"),
        (wav(HUM), "clip.hum", "warn", "mains hum (50 Hz and its multiples)"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("clip.") else "",
)
def test_what_a_header_does_not_tell_is_named_alone(
    judged: Packer, sound: bytes, rule: str, verdict: str, words: str
) -> None:
    result = judged([*normals(3), row("x")], {"audio/x.wav": sound})

    assert rules(result) == [rule]
    assert words in result.problems[0].message
    assert verdicts(result)["x"] == verdict


def test_an_accelerometer_whose_first_axis_is_dead_is_held_back_and_another_axis_only_warns(judged: Packer) -> None:
    rows = [*normals(3), row("first", sensor="accelerometer"), row("second", sensor="accelerometer")]
    sounds = {
        "audio/first.wav": wav(channels(np.zeros(RATE), noise(90))),
        "audio/second.wav": wav(channels(noise(91), np.zeros(RATE))),
    }
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [
        ("clip.dead_axis", "first"),
        ("clip.dead_channel", "second"),
    ]
    assert verdicts(result)["first"] == "reject"


QUIET_AXIS = channels(noise(90, level=1e-6), noise(91, level=1e-3))
HALF_CLIPPED = channels(np.sign(noise(92)), noise(93))
HALF_GONE = channels(HALF_SILENT, noise(94, seconds=2.0))
HALF_STUCK = channels(np.concatenate([noise(95), np.full(RATE, 0.02)]), noise(96, seconds=2.0))


@pytest.mark.parametrize(
    ("sound", "sensor", "rule", "verdict"),
    [
        (wav(channels(noise(87), -noise(87))), "microphone", "clip.cancelling_lost", "reject"),
        (wav(QUIET_AXIS, subtype="FLOAT"), "accelerometer", "clip.dead_axis", "reject"),
        (wav(0.01 * QUIET_AXIS, subtype="FLOAT"), "accelerometer", "clip.dead", "reject"),
        (wav(HALF_CLIPPED), "accelerometer", "clip.clipped_lost", "reject"),
        (wav(HALF_CLIPPED), "microphone", "clip.clipped_lost", "reject"),
        (wav(HALF_CLIPPED[:, ::-1]), "microphone", "clip.clipped_lost", "reject"),
        (wav(HALF_CLIPPED[:, ::-1]), "accelerometer", None, "ok"),
        (wav(HALF_GONE), "accelerometer", "clip.dropouts", "warn"),
        (wav(HALF_GONE), "microphone", "clip.dropouts", "warn"),
        (wav(HALF_GONE[:, ::-1]), "accelerometer", None, "ok"),
        (wav(HALF_STUCK), "accelerometer", "clip.stuck", "warn"),
        (wav(HALF_STUCK), "microphone", "clip.stuck", "warn"),
        (wav(HALF_STUCK[:, ::-1]), "accelerometer", None, "ok"),
    ],
)
def test_of_several_channels_those_that_are_heard_decide(
    judged: Packer, sound: bytes, sensor: str, rule: str | None, verdict: str
) -> None:
    result = judged([*normals(3), row("x", sensor=sensor)], {"audio/x.wav": sound})

    assert rules(result) == [rule] * (rule is not None)
    assert verdicts(result)["x"] == verdict


def test_what_is_faint_because_channels_cancel_is_not_to_be_recorded_louder(judged: Packer) -> None:
    faint = channels(noise(87, level=0.02), -noise(87, level=0.02) + noise(88, level=1e-4))

    assert rules(judged([*normals(3), row("x")], {"audio/x.wav": wav(faint)})) == ["clip.cancelling"]


def test_counts_of_a_converter_are_told_how_to_be_scaled(judged: Packer) -> None:
    counts = np.rint(noise(53) * 32768)
    counts[7] = 14_000
    sound = wav(counts, subtype="FLOAT")
    (problem,) = judged([*normals(3), row("x")], {"audio/x.wav": sound}).problems

    assert "go up to 14,000.0 times full scale" in problem.message
    assert "1/32768" in problem.remedy
    assert "16- or 24-bit WAV" in problem.remedy


def test_a_stray_sample_beyond_the_range_does_not_cost_the_recording(judged: Packer) -> None:
    samples = noise(53, seconds=2.0)
    samples[100:102] = 5.0

    assert rules(judged([*normals(3), row("x")], {"audio/x.wav": wav(samples, subtype="FLOAT")})) == ["clip.over_scale"]


def speech_like(seed: int) -> np.ndarray:
    """Harmonic tones that glide for a syllable's length, with pauses between them."""
    rng = np.random.default_rng(seed)
    said = []
    while sum(map(len, said)) < 5 * RATE:
        time = np.arange(int(rng.uniform(0.12, 0.35) * RATE)) / RATE
        phase = 2 * np.pi * np.cumsum(rng.uniform(100, 200) * 2 ** (0.3 * time / time[-1])) / RATE
        tones = sum(np.sin(k * phase) / k for k in range(1, 8))
        said += [tones * np.hanning(len(time)), np.zeros(RATE // 7)]
    return 0.1 * np.concatenate(said) + noise(seed, seconds=len(np.concatenate(said)) / RATE, level=1e-3)


def test_speech_is_sought_in_what_microphones_hear_and_in_no_accelerometer(judged: Packer) -> None:
    rows = [*normals(3), row("heard"), row("felt", sensor="accelerometer")]
    sounds = {f"audio/{name}.wav": wav(speech_like(seed)) for seed, name in enumerate(["heard", "felt"])}
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.speech", "heard")]
    assert result.quality.set_index("clip_id").at["felt", "speech_ratio"] == 0


def test_axes_of_an_accelerometer_may_cancel(judged: Packer) -> None:
    assert rules(judged([*normals(3), row("x", sensor="accelerometer")], {"audio/x.wav": wav(CANCELLING)})) == []


def test_the_measures_of_the_spectrum_stand_in_the_table(judged: Packer) -> None:
    result = judged(
        [*normals(3), row("x"), row("dead")], {"audio/x.wav": wav(NARROW), "audio/dead.wav": wav(np.zeros(RATE))}
    )
    quality = result.quality.set_index("clip_id")

    assert quality.at["x", "band_hz"] == pytest.approx(2000, rel=0.1)
    assert quality.at["n0", "band_hz"] == 8000
    assert quality.at["n0", "bits_used"] == 16
    assert pd.isna(quality.at["dead", "band_hz"])


# --- the same recording in another form -----------------------------------------------------------------------------


def again(seed: int = 1) -> bytes:
    """The recording of normal n1, which is `noise(1)`, two tenths of a second later, softer and companded."""
    return wav(0.3 * noise(seed)[RATE // 5 :], subtype="ULAW")


@pytest.mark.parametrize(
    ("cells", "rule", "named", "other"),
    [
        ({}, "clip.near_copy_train", "x", "n1"),
        ({"domain": "source"}, "clip.near_copy_train", "x", "n1"),
        ({"split": "test"}, "clip.near_leak", "x", "n1"),
        ({"split": "test", "label": "anomaly"}, "clip.near_contradiction", "n1", "x"),
        ({"split": "supplemental", "supp_type": "machine"}, "clip.near_copy", "x", "n1"),
    ],
)
def test_a_recording_sent_again_in_another_form_is_found(
    judged: Packer, cells: dict[str, str], rule: str, named: str, other: str
) -> None:
    settings = OnboardSettings(qa=QaLimits(recommended_normals=3, min_duration_s=0.5, copy_overlap=0.75))
    result = judged([*normals(4), row("x", **cells)], {"audio/x.wav": again()}, settings=settings)

    assert [(p.rule, p.clip_id) for p in result.problems] == [(rule, named)]
    assert other in result.problems[0].message
    assert verdicts(result)[named] == ("reject" if rule.endswith(("_train", "contradiction")) else "warn")


def test_what_is_learnt_stays_where_the_test_copy_comes_first_in_the_table(judged: Packer) -> None:
    result = judged([row("x", split="test"), *normals(4)], {"audio/x.wav": wav(0.3 * noise(2), subtype="ULAW")})

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.near_leak", "x")]


def test_anomalous_stretches_beyond_the_end_are_named(judged: Packer) -> None:
    def faulty(name: str, regions: str) -> dict[str, str]:
        return row(name, split="test", label="anomaly", anomaly_regions=regions)

    told = {"beyond": "[[0.2, 0.4], [3, 9.5]]", "rounded": "[[0.5, 1.05]]", "no": ""}
    rows = [*normals(3), *(faulty(name, regions) for name, regions in told.items())]
    (problem,) = judged(rows).problems

    assert (problem.rule, problem.clip_id, problem.row) == ("clip.regions_beyond", "beyond", 5)
    assert (problem.column, problem.value) == ("anomaly_regions", "[[0.2, 0.4], [3, 9.5]]")
    assert "reach to 9.5 s" in problem.message
    assert "end at 1.00 s" in problem.message


def test_of_twenty_near_copies_one_is_learnt(judged: Packer) -> None:
    rows = [*normals(3), *(row(f"c{i:02}") for i in range(20))]
    sounds = {f"audio/c{i:02}.wav": wav((0.3 + 0.03 * i) * noise(77, seconds=2.0)) for i in range(20)}
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [
        ("clip.near_copy_train", f"c{i:02}") for i in range(1, 20)
    ]
    assert all("is c00 once more" in problem.message for problem in result.problems)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_every_near_copy_of_a_test_anomaly_is_held_back_wherever_that_stands(judged: Packer, place: int) -> None:
    copies = [row(f"c{i}") for i in range(6)]
    copies.insert(place, row("fault", split="test", label="anomaly"))
    sounds = {
        each["relative_path"]: wav((0.3 + 0.1 * i) * noise(77, seconds=2.0), subtype="ULAW" if i % 2 else "PCM_16")
        for i, each in enumerate(copies)
    }
    result = judged([*normals(3), *copies], sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.near_contradiction", f"c{i}") for i in range(6)]


def test_copies_of_copies_are_told_from_what_they_are_all_copies_of(judged: Packer) -> None:
    """The first and the last share no more noise than two recordings do; those between tie them."""
    steps = [noise(77, seconds=3.0)]
    for seed in range(4):
        steps.append(steps[-1] + noise(200 + seed, seconds=3.0, level=0.035))
    rows = [row("d0", split="test", label="anomaly"), *(row(f"d{i}") for i in range(1, 5))]
    result = judged([*normals(3), *rows], {f"audio/d{i}.wav": wav(each) for i, each in enumerate(steps)})

    assert {p.clip_id: p.rule for p in result.problems} == {f"d{i}": "clip.near_contradiction" for i in range(1, 5)}


@pytest.mark.parametrize("first", ["test", "train"])
def test_an_exact_copy_hides_no_near_copy(judged: Packer, first: str) -> None:
    exact = [row("t", split="test"), row("a")]
    rows = [*normals(3), *(exact if first == "test" else exact[::-1]), row("near")]
    sounds = {"audio/t.wav": SAME, "audio/a.wav": SAME, "audio/near.wav": wav(0.5 * noise(77))}
    result = judged(rows, sounds)

    assert {clip: reasons(result, clip) for clip in ("t", "a", "near")} == {
        "t": ["clip.leak"],
        "a": [],
        "near": ["clip.near_copy_train"],
    }


def test_a_fault_that_was_cut_out_of_a_training_normal_contradicts_it(judged: Packer) -> None:
    whole = noise(77, seconds=30.0)
    rows = [*normals(3), row("long"), row("fault", split="test", label="anomaly")]
    cut = wav(0.7 * whole[4 * RATE : 14 * RATE])
    result = judged(rows, {"audio/long.wav": wav(whole), "audio/fault.wav": cut})

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.near_contradiction", "long")]
    assert "(33% of it)" in result.problems[0].message


def test_a_fault_that_was_cut_out_of_the_second_minute_of_a_training_normal_contradicts_it(judged: Packer) -> None:
    whole = noise(77, seconds=100.0)
    rows = [row("fault", split="test", label="anomaly"), *normals(3), row("long")]
    cut = wav(0.7 * whole[round(76.3 * RATE) : round(86.3 * RATE)], subtype="ULAW")
    result = judged(rows, {"audio/long.wav": wav(whole), "audio/fault.wav": cut})

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.near_contradiction", "long")]
    assert "(10% of it)" in result.problems[0].message


def test_windows_that_overlap_by_half_are_named_each_with_its_neighbour(judged: Packer) -> None:
    whole = noise(77, seconds=30.0)
    rows = [row(f"w{i}") for i in range(5)]
    sounds = {f"audio/w{i}.wav": wav(whole[5 * i * RATE : (5 * i + 10) * RATE]) for i in range(5)}
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.overlap", f"w{i}") for i in range(1, 5)]
    assert [f"shares 50% of its length with w{i}" in p.message for i, p in enumerate(result.problems)] == [True] * 4


@pytest.mark.parametrize("names", [("long", "cut"), ("cut", "long")])
def test_of_a_training_normal_and_an_excerpt_of_it_the_longer_one_is_learnt(
    judged: Packer, names: tuple[str, str]
) -> None:
    whole = noise(77, seconds=12.0)
    sounds = {"audio/long.wav": wav(whole), "audio/cut.wav": wav(0.7 * whole[2 * RATE : 9 * RATE])}
    result = judged([*normals(3), *map(row, names)], sounds)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.near_copy_train", "cut")]


def test_near_copies_with_two_labels_are_asked_about(judged: Packer) -> None:
    rows = [row("a", split="test", label="normal"), row("b", split="test", label="anomaly")]
    sounds = {"audio/a.wav": SAME, "audio/b.wav": wav(0.5 * noise(77))}
    result = judged([*normals(3), *rows], sounds)

    assert reasons(result, "a") == ["clip.near_two_labels"]
    assert reasons(result, "b") == ["clip.near_two_labels", "clip.near_copy"]
    assert verdicts(result)["a"] == verdicts(result)["b"] == "warn"


def test_of_exact_copies_with_two_labels_nothing_more_is_said_for_a_near_copy_beside_them(judged: Packer) -> None:
    rows = [row("p", split="test", label="normal"), row("q", split="test", label="anomaly"), row("r", split="test")]
    sounds = {"audio/p.wav": SAME, "audio/q.wav": SAME, "audio/r.wav": wav(0.5 * noise(77))}
    result = judged([*normals(3), *rows], sounds)

    assert {clip: reasons(result, clip) for clip in "pqr"} == {
        "p": ["clip.two_labels"],
        "q": ["clip.two_labels", "clip.copy"],
        "r": ["clip.near_copy"],
    }


def run_up(seed: int, *, seconds: float = 6.0) -> np.ndarray:
    """A drive that a trigger starts: the same ramp of speed each time, noise of its own 20 dB below."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(10 + 7 * time) * (1 + 1e-4 * rng.normal()) / RATE
    sound = sum(np.sin(k * phase + k * k) / k**0.5 for k in range(1, 120))
    return 0.1 * (sound / sound.std() + 0.1 * rng.normal(size=len(time)))


def test_a_run_up_that_a_trigger_repeats_is_asked_about_and_its_copy_held_back(judged: Packer) -> None:
    rows = [row(f"r{i}") for i in range(6)]
    sounds = {each["relative_path"]: wav(run_up(i)) for i, each in enumerate(rows)}
    again = wav(0.5 * run_up(2), subtype="ULAW")
    result = judged([*rows, row("copy")], sounds | {"audio/copy.wav": again})

    assert [p.clip_id for p in result.problems if p.severity is Severity.REJECT] == ["copy"]
    assert reasons(result, "copy") == ["clip.near_copy_train"]
    assert {p.rule for p in result.problems} == {"clip.near_copy_train", "clip.alike"}


def test_what_agrees_in_a_part_of_the_band_is_asked_about_only_where_the_setting_says_so(judged: Packer) -> None:
    low = np.array(scipy.signal.firwin(401, 2000, fs=RATE))
    below, above = (scipy.signal.lfilter(low, 1, noise(seed, seconds=4.0)) for seed in (1, 2))
    mixed = noise(2, seconds=4.0) + np.roll(below - above, -200)
    rows = [*normals(3), row("a"), row("x")]
    sounds = {"audio/a.wav": wav(noise(1, seconds=4.0)), "audio/x.wav": wav(mixed)}
    lenient = LENIENT.qa.model_copy(update={"copy_coherence": 0.15})

    assert rules(judged(rows, sounds)) == []
    assert rules(judged(rows, sounds, settings=OnboardSettings(qa=lenient))) == ["clip.alike"]


def test_recordings_that_overlap_only_warn(judged: Packer) -> None:
    whole = noise(95, seconds=5.0)
    rows = [*normals(3), row("a"), row("b")]
    result = judged(rows, {"audio/a.wav": wav(whole[: 4 * RATE + 1600]), "audio/b.wav": wav(whole[RATE - 1600 :])})

    assert [(p.rule, p.clip_id, p.severity) for p in result.problems] == [("clip.overlap", "b", Severity.WARN)]
    assert "shares 78% of its length with a" in result.problems[0].message


def test_of_a_quarantined_recording_no_near_copies_are_sought(judged: Packer) -> None:
    short = wav(noise(1, seconds=0.9), subtype="ULAW")

    assert rules(judged([*normals(3), row("x")], {"audio/x.wav": short})) == ["clip.short"]


# --- normals unlike the others ----------------------------------------------------------------------------------------


def test_a_normal_unlike_the_others_is_asked_about_and_stays(judged: Packer) -> None:
    rows = [*normals(8), row("loud"), row("whine")]
    sounds = {"audio/loud.wav": wav(noise(96, level=0.01)), "audio/whine.wav": wav(tones(1500, 3000) / 2)}
    result = judged(rows, sounds)

    assert [(p.rule, p.clip_id, p.severity) for p in result.problems] == [
        ("asset.odd_level", "loud", Severity.WARN),
        ("asset.odd_spectrum", "whine", Severity.WARN),
    ]
    assert result.verdict is Verdict.ACCEPTED


def test_test_clips_and_other_machines_are_not_asked_about(judged: Packer) -> None:
    rows = [*normals(8), row("test", split="test"), *normals(3, section_id="01")]
    sounds = {f"audio/{name}.wav": wav(noise(97 + i, level=0.005)) for i, name in enumerate(["test", "n010", "n011"])}

    assert rules(judged(rows, sounds)) == []


def of_three_axes(count: int, order: Iterable[int] = range(3), **cells: str) -> Any:
    """Rows and sounds of recordings of three axes of different levels, the last with its channels in another order."""
    rows = [row(f"s{i}", **cells) for i in range(count)]
    axes = [channels(*(noise(200 + 10 * i + k, level=0.003 * 4**k) for k in range(3))) for i in range(count)]
    axes[-1] = axes[-1][:, list(order)]
    return rows, {each["relative_path"]: wav(own) for each, own in zip(rows, axes, strict=True)}


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_a_recording_with_its_channels_in_another_order_is_named(judged: Packer, order: tuple[int, ...]) -> None:
    result = judged(*of_three_axes(6, order, sensor="accelerometer"))
    as_usual = ", ".join(str(order.index(axis) + 1) for axis in range(3))

    assert [(p.rule, p.clip_id) for p in result.problems] == [("asset.swapped_channels", "s5")]
    assert f"in the order {as_usual})" in result.problems[0].message


def test_channels_in_the_usual_order_and_among_few_recordings_are_not_asked_about(judged: Packer) -> None:
    assert rules(judged(*of_three_axes(6))) == []
    assert rules(judged(*of_three_axes(LEAST_FOR_CHANNELS, (1, 0, 2)))) == ["asset.swapped_channels"]
    assert rules(judged(*of_three_axes(LEAST_FOR_CHANNELS - 1, (1, 0, 2)))) == []


# --- what the machine learnt before -------------------------------------------------------------------------------


def test_a_test_clip_that_was_learnt_as_normal_before_is_asked_about(judged: Packer) -> None:
    rows = [row(name, split="test", **cells) for name, cells in (("a", {}), ("b", {"label": "anomaly"}), ("c", {}))]
    ids = judged(rows).quality["content_sha256"].str[:16]
    learnt = {("fan", "00"): frozenset(ids[:2]) | known("00", 3)["fan", "00"]}
    result = judged(rows, known_normals=learnt)

    assert [(p.rule, p.clip_id) for p in result.problems] == [("clip.known_normal", name) for name in "ab"]
    assert "here it is sent to be judged" in result.problems[0].message
    assert "here it is sent as an anomaly to be judged" in result.problems[1].message
    assert verdicts(result) == {"a": "warn", "b": "warn", "c": "ok"}


def test_what_another_machine_learnt_and_what_is_trained_on_again_is_not_asked_about(judged: Packer) -> None:
    rows = [*normals(3), row("t", split="test")]
    ids = judged(rows).quality["content_sha256"].str[:16]

    assert rules(judged(rows, known_normals={("fan", "01"): frozenset(ids)})) == []
    assert rules(judged(rows, known_normals={("fan", "00"): frozenset(ids[:3])})) == []


# --- assets -------------------------------------------------------------------------------------------------------


def test_every_asset_gets_its_own_counts(judged: Packer) -> None:
    rows = [
        *normals(4),
        row("s1", domain="source"),
        row("t1", split="test", label="anomaly"),
        row("t2", split="test", domain="source"),
        row("x1", split="supplemental", supp_type="machine"),
        row("bad"),
        *normals(3, section_id="01"),
    ]
    first, second = judged(rows, {"audio/bad.wav": b"x"}).assets

    assert (first.section_id, first.target, first.source, first.test) == ("00", 4, 1, 2)
    assert (first.supplemental, first.quarantined, first.accepted) == (1, 1, True)
    assert (second.section_id, second.target, second.quarantined) == ("01", 3, 0)


def test_an_asset_with_too_few_normals_is_held_back_and_told_how_many_to_record(judged: Packer) -> None:
    rows = [*normals(3), row("only", section_id="01"), row("tested", section_id="01", split="test")]
    result = judged(rows)

    assert result.verdict is Verdict.ACCEPTED_WITH_QUARANTINE
    assert rules(result) == ["asset.normals"]
    assert "fan 01 has 1 good" in result.problems[0].message
    assert "Record 2 more" in result.problems[0].remedy
    assert "together with those you have, in one package" in result.problems[0].remedy
    assert verdicts(result) == {"n0": "ok", "n1": "ok", "n2": "ok", "only": "reject", "tested": "reject"}
    assert [asset.accepted for asset in result.assets] == [True, False]
    assert result.accepted_clips["section_id"].unique().tolist() == ["00"]


def test_a_package_in_which_no_asset_has_accepted_is_rejected(judged: Packer) -> None:
    rows = [*normals(2), row("bad"), row("s", domain="source")]
    result = judged(rows, {"audio/bad.wav": wav(np.zeros(RATE))})

    assert result.verdict is Verdict.REJECTED
    assert not result.bad_input
    assert result.exit_code == 4
    assert rules(result) == ["clip.dead", "asset.normals"]


def test_normals_of_earlier_packages_count(judged: Packer) -> None:
    tests_only = [row("t", split="test")]

    assert judged(tests_only, known_normals=known("00", 3)).exit_code == 0
    assert judged(tests_only, known_normals=known("00", 2)).exit_code == 4
    assert judged(tests_only, known_normals=known("99", 3)).exit_code == 4
    assert judged(normals(1), known_normals=known("00", 2)).exit_code == 0


def test_a_recording_sent_again_does_not_count_twice(judged: Packer) -> None:
    first = judged(normals(2))
    again = frozenset(first.quality["content_sha256"].str[:16])

    assert judged(normals(2), known_normals={("fan", "00"): again}).exit_code == 4
    assert judged(normals(3), known_normals={("fan", "00"): again}).exit_code == 0


def recordings(judgement: Judgement, *clip_ids: str) -> frozenset[str]:
    quality = judgement.quality.set_index("clip_id")
    return frozenset(quality.loc[list(clip_ids), "content_sha256"].str[:16])


def test_a_normal_that_was_taken_back_counts_no_more_and_the_other_machines_go_on(judged: Packer) -> None:
    rows = [*normals(3), row("s", domain="source"), *normals(3, section_id="01")]
    before = judged(rows)
    spoilt = {("fan", "01"): recordings(before, "n010", "n0"), ("fan", "00"): recordings(before, "s")}
    result = judged(rows, not_normal=spoilt)

    assert before.exit_code == result.exit_code == 0
    assert [(asset.target, asset.source, asset.normals, asset.accepted) for asset in result.assets] == [
        (3, 0, 3, True),
        (2, 0, 2, False),
    ]
    assert rules(result) == ["asset.normals"]
    assert "fan 01 has 2 good" in result.problems[0].message
    assert verdicts(result) == {"n0": "ok", "n1": "ok", "n2": "ok", "s": "ok"} | dict.fromkeys(
        ("n010", "n011", "n012"), "reject"
    )
    assert judged(rows, not_normal=spoilt, known_normals=known("01", 1)).assets[1].accepted


def recounted(before: Judgement, now: dict[str, Any], settings: OnboardSettings = LENIENT) -> Any:
    """The report of `before` brought up to date from its tables, as they come back from a store."""
    stream = io.BytesIO()
    before.quality.to_parquet(stream)
    said = {"known_normals": {}, "not_normal": {}} | now
    report = before.report("p", quality_key="q", metadata_key="m")
    return recount(report, pd.read_parquet(io.BytesIO(stream.getvalue())), settings.qa, **said)


def test_a_report_is_brought_up_to_date_as_judging_again_would(judged: Packer) -> None:
    rows = [
        *normals(5),
        row("bad"),
        row("quiet"),
        row("s", domain="source"),
        row("t", split="test"),
        *normals(2, section_id="01"),
    ]
    sounds = {"audio/bad.wav": wav(np.zeros(RATE)), "audio/quiet.wav": wav(noise(99, level=5e-4))}
    settings = OnboardSettings(qa=QaLimits(recommended_normals=7))
    before = judged(rows, sounds, settings=settings)
    told = {"clip.dead", "clip.quiet", "asset.odd_level", "asset.few_normals", "asset.normals"}
    assert told == set(rules(before))
    for now in (
        {},
        {"not_normal": {("fan", "00"): recordings(before, "n0", "n1", "s", "t")}},
        {"not_normal": {("fan", "01"): recordings(before, "n010")}},
        {"known_normals": known("00", 4)},
        {"known_normals": {("fan", "00"): recordings(before, "n1", "n2")}},
    ):
        again = judged(rows, sounds, settings=settings, **now).report("p", quality_key="q", metadata_key="m")
        assert recounted(before, now, settings) == again


def test_a_package_is_judged_again_once_a_correction_or_another_package_changes_a_verdict(judged: Packer) -> None:
    rows = [*normals(3), row("t", split="test"), *normals(3, section_id="01")]
    before = judged(rows)
    spoilt = {"not_normal": {("fan", "00"): recordings(before, "n0")}}
    assert recounted(before, spoilt) is None, "refused now"
    assert recounted(before, {"known_normals": known("00", 1), **spoilt}) is not None
    short = judged(rows, **spoilt)
    assert recounted(short, spoilt) is not None
    assert recounted(short, {}) is None, "the correction was taken back"
    leant_on = {"known_normals": known("00", 1)}
    assert recounted(judged(rows, **leant_on, **spoilt), spoilt) is None, "the other package's normal was taken back"
    learnt = {"known_normals": {("fan", "00"): recordings(before, "t")}}
    assert recounted(before, learnt) is None, "a test clip has become a known normal"
    assert recounted(judged(rows, **learnt), {}) is None, "and is none any more"


def test_fewer_normals_than_recommended_warn(judged: Packer) -> None:
    result = judged(normals(4), settings=OnboardSettings())

    assert [(p.rule, p.severity) for p in result.problems] == [("asset.few_normals", Severity.WARN)]
    assert "Record 6 more" in result.problems[0].remedy
    assert result.verdict is Verdict.ACCEPTED


def test_nothing_is_said_about_counts_while_the_table_is_broken(judged: Packer) -> None:
    assert rules(judged([row("a", machine_type="toaster")])) == ["row.machine_type"]


# --- running ------------------------------------------------------------------------------------------------------


def test_threads_change_nothing(judged: Packer) -> None:
    rows = [*normals(12), *(row(f"c{i}") for i in range(3))]
    sounds = {f"audio/c{i}.wav": SAME for i in range(3)}
    one, many = (judged(rows, sounds, workers=count) for count in (1, 4))

    assert one.problems == many.problems
    pd.testing.assert_frame_equal(one.quality, many.quality)
    pd.testing.assert_frame_equal(one.metadata, many.metadata)


def test_progress_counts_every_recording_that_is_there(judged: Packer) -> None:
    done: list[int] = []
    judged([*normals(5), row("gone")], {"audio/gone.wav": None}, progress=done.append)

    assert sum(done) == 5


# --- real recordings ----------------------------------------------------------------------------------------------


def test_heavy_clipping_of_the_compressor_warns_and_quarantines_nothing(shared_data: Path) -> None:
    with open_package(shared_data / "compressor.zip") as package:
        result = judge(package)

    assert result.verdict is Verdict.ACCEPTED
    assert result.quality["verdict"].value_counts().to_dict() == {"ok": 125, "warn": 50}
    assert set(rules(result)) == {"clip.clipped", "ask.confirmed_by", "asset.short_clips"}
    (asset,) = result.assets
    assert (asset.target, asset.source, asset.test, asset.supplemental) == (10, 40, 100, 25)


def test_the_motor_has_fourteen_test_copies_and_nothing_is_quarantined(shared_data: Path) -> None:
    with open_package(shared_data / "motor.zip") as package:
        result = judge(package)

    assert result.verdict is Verdict.ACCEPTED
    assert result.quality["verdict"].value_counts().to_dict() == {"ok": 128, "warn": 92}
    assert rules(result).count("clip.copy") == 14
    # The accelerometer saturates in the faulty recordings, at a tenth of the files' full scale.
    assert rules(result).count("clip.flat_tops") == 77
    (asset,) = result.assets
    assert (asset.target, asset.source, asset.test) == (11, 0, 209)
