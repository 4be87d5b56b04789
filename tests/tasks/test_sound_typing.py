"""Where a judge of "is this really a fan?" plugs in: it is asked once a clip, and without one nobody answers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from schemas.settings import OnboardSettings, QaLimits
from tasks.packages import open_package
from tasks.quality import Judgement, judge

RATE = 16_000
SETTINGS = OnboardSettings(qa=QaLimits(recommended_normals=3))


class HearsAValve:
    """Takes every recording for a valve."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, str]] = []

    def other_type(self, waveform: NDArray[np.float32], sample_rate: int, machine_type: str) -> str | None:
        self.asked.append((len(waveform), sample_rate, machine_type))
        return None if machine_type == "valve" else "valve"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Three fans, three valves and a broken file."""
    rng = np.random.default_rng(4)
    lines = ["relative_path,machine_type,section_id,confirmed_normal,confirmed_by,recorded_at"]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for i, kind in enumerate(["fan"] * 3 + ["valve"] * 3 + ["fan"]):
            stream = io.BytesIO()
            soundfile.write(stream, (0.1 * rng.normal(size=RATE)).clip(-0.5, 0.5), RATE, format="WAV")
            archive.writestr(f"audio/{i}.wav", stream.getvalue() if i < 6 else b"RIFF")
            lines.append(f"audio/{i}.wav,{kind},00,true,Kim,2026-03-02")
        archive.writestr("metadata.csv", "\n".join(lines))
    return tmp_path / "p.zip"


def judged(package: Path, typing: HearsAValve | None = None) -> Judgement:
    with open_package(package) as archive:
        return judge(archive, SETTINGS, sound_typing=typing)


def test_without_a_judge_the_gate_says_nothing_of_the_matter(package: Path) -> None:
    assert "clip.other_sound" not in {problem.rule for problem in judged(package).problems}


def test_a_judge_is_asked_of_every_good_clip_in_standard_form_and_its_doubts_are_told(package: Path) -> None:
    typing = HearsAValve()
    result = judged(package, typing)
    doubted = [problem for problem in result.problems if problem.rule == "clip.other_sound"]
    assert sorted(typing.asked) == [(RATE, RATE, "fan")] * 3 + [(RATE, RATE, "valve")] * 3
    assert [problem.clip_id for problem in doubted] == ["0", "1", "2"]
    assert doubted[0].message == "The recording sounds like machine type valve, not like fan."
    assert set(result.quality["verdict"][:3]) == {"warn"}
