"""Only the background is off: a machine that runs, faulty or not, never is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from numpy.typing import NDArray

from engines.base import Clip, ClipSet
from engines.machine_state import KEPT_EXCESS, LEAST_MARGIN_DB, Background, Indistinct
from engines.standardize import standardize
from engines.toy import ToyClip, ToyPlan, render_clip
from schemas.errors import InputError

RATE = 16_000


def hall(seed: int, *, level: float = 0.01, seconds: float = 1.2) -> NDArray[np.float32]:
    """Noise of a place without the machine."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def running(seed: int, *, level: float = 0.02, frequency_hz: float = 1000.0, hall_level: float = 0.01) -> NDArray:
    """A tone in the same hall."""
    noise = hall(seed, level=hall_level)
    return (noise + level * np.sin(2 * np.pi * frequency_hz * np.arange(noise.size) / RATE)).astype(np.float32)


def clips(waveforms: Iterable[NDArray], prefix: str = "r", **options: object) -> ClipSet:
    found = list(waveforms)
    names = [f"{prefix}{i}" for i in range(len(found))]
    return ClipSet.from_arrays(found, **({"recording_ids": names} | options))  # type: ignore[arg-type]


def fitted(noise: int = 4, normals: int = 4) -> Background:
    found = Background.fit(clips(map(hall, range(noise)), "n"), clips(running(10 + i) for i in range(normals)))
    assert isinstance(found, Background), found
    return found


def test_the_background_is_off_and_the_machine_is_not() -> None:
    heard = clips([hall(50), running(51), hall(52), running(53, frequency_hz=3000.0), running(54, level=0.01)])
    assert fitted().is_off(heard).tolist() == [True, False, True, False, False]


def test_a_quieter_background_is_off_and_a_louder_one_is_judged() -> None:
    """What is loud may be a fault that drowns the machine; nothing that is louder than the place is the place."""
    assert fitted().is_off(clips([hall(50, level=0.008), hall(51, level=0.04)])).tolist() == [True, False]
    assert fitted().tell(clips([hall(50, level=0.004)])) == ["too quiet"]


@pytest.mark.parametrize("gain_db", [-60, -40, -20])
def test_a_muted_microphone_is_not_a_machine_that_is_off(gain_db: float) -> None:
    gain = 10 ** (gain_db / 20)
    background = fitted()
    assert background.is_off(clips([hall(90)])).all()
    muted = clips([gain * running(91), gain * hall(92), gain * running(93, frequency_hz=3000.0)])
    assert not background.is_off(muted).any()
    if gain_db <= -40:
        assert background.tell(muted) == ["too quiet"] * 3


def test_the_floor_is_the_noise_s_own_spread() -> None:
    alike = fitted()
    assert alike.floor_db == LEAST_MARGIN_DB
    loud_and_quiet = clips([hall(i, level=0.004 + 0.002 * i) for i in range(4)])
    wide = Background.fit(loud_and_quiet, clips([running(10 + i, level=0.1) for i in range(4)]))
    assert isinstance(wide, Background)
    assert wide.floor_db > alike.floor_db
    assert Background.fit(clips([hall(0)]), clips([running(1)])).floor_db == LEAST_MARGIN_DB  # type: ignore[union-attr]


def test_a_machine_is_heard_though_the_hall_is_quieter_than_it_ever_was() -> None:
    """Its levels lie below the loudest background, but nearer to a normal than to any background."""
    quiet = running(50, level=0.01, hall_level=0.005)
    assert not fitted().is_off(clips([quiet]))[0]


def test_a_recording_of_which_one_piece_runs_was_running() -> None:
    pieces = ["a", "a", "b", "b"]
    heard = clips([hall(50), running(51), hall(52), hall(53)], recording_ids=pieces)
    assert fitted().is_off(heard).tolist() == [False, True]


def test_a_machine_that_comes_and_goes_is_running() -> None:
    heard = hall(50, seconds=10.0)
    on = running(51)[: RATE // 2]
    heard[RATE : RATE + on.size] = on
    assert not fitted().is_off(clips([heard]))[0]


def test_one_clip_alone_is_judged_as_in_company_and_in_any_order() -> None:
    background, sounds = fitted(), [hall(50), running(51), hall(52)]
    together = background.is_off(clips(sounds)).tolist()
    assert [bool(background.is_off(clips([one]))[0]) for one in sounds] == together
    assert background.is_off(clips(sounds[::-1])).tolist() == together[::-1]


def test_it_reads_as_it_was_written() -> None:
    background = fitted()
    read = Background.model_validate_json(background.model_dump_json())
    assert read == background
    heard = clips([hall(50), running(51)])
    assert read.is_off(heard).tolist() == background.is_off(heard).tolist()


def test_the_margin_is_the_noise_s_own_spread_but_keeps_its_distance_from_the_machine() -> None:
    one = fitted(noise=1)
    assert (one.margin_db, one.recognized, one.n_noise) == (LEAST_MARGIN_DB, None, 1)
    levels = [0.01, 0.01, 0.005, 0.02]  # one of them 6 dB above the others
    loud = clips((hall(i, level=level) for i, level in enumerate(levels)), "n")
    spread = Background.fit(loud, clips(running(10 + i, level=0.5) for i in range(4)))
    assert isinstance(spread, Background)
    assert 5.5 < spread.margin_db < 8.0
    near = Background.fit(loud, clips(running(10 + i, level=0.01) for i in range(4)))
    assert isinstance(near, Background)
    assert near.margin_db < spread.margin_db
    least = min(
        np.sort(np.array(row) - np.array(near.noise).max(axis=0))[-round(0.05 * len(row)) :].mean()
        for row in near.normals
    )
    assert near.margin_db == pytest.approx(KEPT_EXCESS * least)


def test_a_machine_that_does_not_stand_out_is_not_told_from_its_background() -> None:
    refused = Background.fit(clips(map(hall, range(4)), "n"), clips(hall(10 + i, level=0.005) for i in range(4)))
    assert isinstance(refused, Indistinct)
    assert "does not stand out" in refused.reason


def test_recordings_of_the_running_machine_sent_as_noise_are_refused() -> None:
    refused = Background.fit(clips(map(running, range(4)), "n"), clips(running(10 + i) for i in range(4)))
    assert isinstance(refused, Indistinct)


def test_noise_that_is_never_alike_is_refused() -> None:
    """Of two backgrounds that have nothing in common neither says what the next one sounds like."""
    hum = running(1, level=0.3, frequency_hz=300.0)
    whistle = running(2, level=0.3, frequency_hz=5000.0)
    refused = Background.fit(clips([hum, whistle], "n"), clips(running(10 + i) for i in range(4)))
    assert isinstance(refused, Indistinct)
    assert "0% of the noise-only recordings" in refused.reason


def test_a_clip_that_holds_a_narrower_band_is_compared_over_that_band() -> None:
    background = fitted()
    names = [Clip(name, name, RATE, 4000.0) for name in ("off", "on")]
    sounds = [hall(50), running(51)]
    assert background.is_off(ClipSet(names, lambda i: sounds[i])).tolist() == [True, False]
    narrow = Background.fit(clips(map(hall, range(3)), "n", bandwidth_hz=4000.0), clips(map(running, range(3))))
    assert isinstance(narrow, Background)
    assert narrow.bandwidth_hz == 4000.0


def test_what_cannot_be_heard_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no noise-only recording"):
        Background.fit(clips([]), clips([running(1)]))
    with pytest.raises(InputError, match="no normal recording"):
        Background.fit(clips([hall(1)]), clips([]))
    with pytest.raises(InputError, match="8000 Hz"):
        fitted().is_off(clips([hall(1)], sample_rate=8000))
    with pytest.raises(InputError, match=r"'r0#0'.*shorter than one window"):
        fitted().is_off(clips([hall(1)[:100]]))


# --- machines -----------------------------------------------------------------------------------------------------


def toy_sounds(found: list[ToyClip], role: str, start: int, stop: int) -> ClipSet:
    chosen = [clip for clip in found if f"{clip.split} {clip.supp_type or clip.label}" == role][start:stop]
    return ClipSet.from_arrays(
        [np.asarray(render_clip(clip), dtype=np.float32) for clip in chosen],
        recording_ids=[clip.clip_id for clip in chosen],
    )


def test_toy_faults_are_never_off_and_most_toy_noise_is() -> None:
    """A machine that comes and goes, in halls of three sorts at 0-20 dB; seed 100 is for development."""
    plan = ToyPlan(machine_types=("valve",), scale=0.6, seed=100)
    found = [clip for clip in plan.clips() if clip.domain == "target"]
    background = Background.fit(toy_sounds(found, "supplemental noise", 0, 8), toy_sounds(found, "train normal", 0, 6))
    assert isinstance(background, Background)
    assert not background.is_off(toy_sounds(found, "test normal", 0, 4)).any()
    assert not background.is_off(toy_sounds(found, "test anomaly", 0, 12)).any()
    assert background.is_off(toy_sounds(found, "supplemental noise", 8, 13)).mean() >= 0.6


def read_package(path: Path) -> tuple[pd.DataFrame, list[NDArray[np.float32]]]:
    with zipfile.ZipFile(path) as archive:
        table = pd.read_csv(io.BytesIO(archive.read("metadata.csv")))
        sounds = []
        for name in table["relative_path"]:
            samples, rate = sf.read(io.BytesIO(archive.read(name)), dtype="float32")
            sounds.append(standardize(samples, rate, target_rate=RATE).waveform)
    return table, sounds


def test_the_compressor_running_is_never_off_and_its_silence_is(shared_data: Path) -> None:
    """Its "anomalies" are recordings at rest, mostly as loud as the others; one of 50 is
    background alone by its spectrum: 2 dB from a noise-only recording, 20 dB from any normal."""
    table, sounds = read_package(shared_data / "compressor.zip")

    def part(said: pd.Series) -> ClipSet:
        return clips([sounds[i] for i in np.flatnonzero(said)])

    noise = table["supp_type"] == "noise"
    every_second = pd.Series(np.arange(len(table)) % 2 == 0)
    own = (table["split"] == "train") & (table["domain"] == "target")
    background = Background.fit(part(noise & every_second), part(own))
    assert isinstance(background, Background)
    tests = table["split"] == "test"
    assert not background.is_off(part(tests & (table["label"] == "normal"))).any()
    assert background.is_off(part(tests & (table["label"] == "anomaly"))).sum() <= 1
    assert background.is_off(part(noise & ~every_second)).mean() >= 0.9
