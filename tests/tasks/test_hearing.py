"""A recorder's file is heard as a file of a package is, however long it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import tasks.audio
from engines.base import ClipSet
from schemas.references import Package
from schemas.settings import OnboardSettings
from tasks.audio import DecodedAudio, LongAudio, open_audio
from tasks.clip_files import from_flac
from tasks.clips import Clip
from tasks.hearing import Ear, clips_of, goes_on, hear
from tasks.packages import open_package
from tasks.signals import check_signal
from tasks.standard_clips import StandardClips
from tasks.store import FolderStore
from tests.tasks.watching_rig import Loudness

SETTINGS = OnboardSettings()
EAR = Ear("fan", "00", "microphone", 16_000, SETTINGS)
RATE, SECONDS = 44_100, 23.0


def sound(seconds: float = SECONDS) -> bytes:
    """Two channels of noise and a tone at another rate than the standard one; the shorter begins the longer."""
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal((int(SECONDS * RATE), 2))
    samples += 0.1 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / RATE)[:, None]
    buffer = io.BytesIO()
    sf.write(buffer, samples[: int(seconds * RATE)], RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture
def nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.audio, "HELD_SAMPLES", 10_000)
    monkeypatch.setattr(tasks.audio, "READ_SAMPLES", 1 << 16)


def filed_by_onboarding(home: Path, data: bytes) -> tuple[Clip, ClipSet]:
    """The clips of a recording as a package's gate files them and an engine is given them."""
    (home / "package" / "audio").mkdir(parents=True)
    (home / "package" / "metadata.csv").write_bytes(b"relative_path\naudio/a.wav\n")
    (home / "package" / "audio" / "a.wav").write_bytes(data)
    store = FolderStore(home / "store")
    package = Package(customer="acme", package_id="0" * 16, name="p", raw_key="raw/acme/p.zip", files=2, bytes=1)
    clip = Clip(0, "a", "audio/a.wav", ("fan", "00"), "test", "target", "", "microphone", 16_000, file_is_there=True)
    clips = StandardClips(store, package, SETTINGS.standardize)
    with open_package(home / "package") as archive:
        check_signal(clip, archive, SETTINGS, clips.add)
    segments = clips.of("audio/a.wav")
    made = [(str(each["audio"]), each["sample_rate"], each["bandwidth_hz"]) for each in segments]
    named = clips_of([hear("a.wav", data, EAR)], EAR)
    assert [(clip.sample_rate, clip.bandwidth_hz) for clip, _ in named] == [(rate, band) for _, rate, band in made]
    return clip, ClipSet([clip for clip, _ in named], lambda i: from_flac(store.get(made[i][0]), key=made[i][0]))


@pytest.mark.usefixtures("nothing_is_held")
def test_a_recording_too_long_to_be_held_gets_exactly_the_scores_that_onboarding_gives(tmp_path: Path) -> None:
    data = sound()
    assert isinstance(open_audio(io.BytesIO(data), SETTINGS.qa), LongAudio)
    clip, filed = filed_by_onboarding(tmp_path, data)
    heard = hear("a.wav", data, EAR)
    assert clip.measures is not None
    assert (heard.recording_id, heard.notes) == (clip.measures.recording_id, tuple(clip.reasons))
    here = clips_of([heard], EAR)
    assert len(here) == 3
    for (_, mine), (_, theirs) in zip(here, filed, strict=True):
        assert np.array_equal(mine, theirs)
    engine = Loudness()
    assert np.array_equal(engine.decision_function(here), engine.decision_function(filed))


def test_how_much_is_held_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound()
    held = hear("a.wav", data, EAR)
    assert isinstance(open_audio(io.BytesIO(data), SETTINGS.qa), DecodedAudio)
    monkeypatch.setattr(tasks.audio, "HELD_SAMPLES", 10_000)
    long = hear("a.wav", data, EAR)
    assert held.standard is not None
    assert long.standard is not None
    assert long.recording_id == held.recording_id
    assert np.array_equal(long.standard.codes, held.standard.codes)
    assert long.standard.bandwidth_hz == held.standard.bandwidth_hz


@pytest.mark.usefixtures("nothing_is_held")
def test_a_long_recording_that_goes_on_is_known_by_its_beginning() -> None:
    before = hear("a.wav", sound(12.5), EAR)
    assert before.duration_s == 12.5
    assert goes_on(sound(), str(before.recording_id), before.duration_s, EAR)
    assert not goes_on(sound(12.5), str(before.recording_id), before.duration_s, EAR), "it is the same, not more"
    assert not goes_on(sound()[:-1000], str(before.recording_id), before.duration_s, EAR), "half of it is missing"
    other = hear("b.wav", sound(11.0), EAR)
    assert not goes_on(sound(), str(other.recording_id), before.duration_s, EAR)
