"""A condition column is believed if the sound bears it out, and shuffled labels are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import conditions
from engines.base import Clip, ClipSet
from engines.conditions import ConditionEvidence, judge_condition, recording_features
from engines.toy.plan import ToyPlan
from engines.toy.render import render_clip
from schemas.errors import InputError
from schemas.metadata import CONDITION_COLUMNS
from schemas.settings import RoutingSettings

LIMITS = RoutingSettings()
RATE = 16_000


def heard(classes: list[int], *, difference: float = 1.0, dims: int = 120, seed: int = 0) -> NDArray[np.float64]:
    """Features (n, dims) in which each class shifts a few of the dimensions by `difference` deviations."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((max(classes) + 1, dims)) * (rng.random((max(classes) + 1, dims)) < 0.1)
    return rng.standard_normal((len(classes), dims)) + difference * directions[classes]


def named(classes: list[int]) -> list[str | None]:
    return [f"level {number}" for number in classes]


def judge(features: Any, values: Any, *, column: str = "speed_level", **changes: Any) -> ConditionEvidence:
    limits = LIMITS.model_copy(update=changes)
    return judge_condition(features, values, column=column, limits=limits, seed=0)


def shuffled(values: list[str | None], seed: int) -> list[str | None]:
    return [values[i] for i in np.random.default_rng(seed).permutation(len(values))]


def test_values_that_are_heard_are_believed() -> None:
    classes = [0, 1, 2] * 70
    found = judge(heard(classes, difference=2.0), named(classes))
    assert (found.filled, found.classes, found.chance) == (1.0, 3, pytest.approx(1 / 3))
    assert found.accuracy is not None
    assert found.accuracy > 0.9
    assert found.is_true(LIMITS)


def test_the_same_values_shuffled_are_not() -> None:
    classes = [0, 1, 2] * 70
    found = judge(heard(classes), shuffled(named(classes), 1))
    assert found.accuracy == pytest.approx(1 / 3, abs=0.12)
    assert not found.is_true(LIMITS)


def test_seven_shuffled_columns_seldom_have_one_that_passes() -> None:
    """At a significance of a fifth, a fifth of the sets at most; without the correction for seven it were four."""
    classes = [0, 1] * 30
    features, passed = heard(classes, dims=20), 0
    for trial in range(60):
        columns = [
            judge(features, shuffled(named(classes), 7 * trial + i), column=column, significance=0.2)
            for i, column in enumerate(CONDITION_COLUMNS)
        ]
        passed += any(found.is_true(LIMITS.model_copy(update={"significance": 0.2})) for found in columns)
    assert passed <= 21  # P < 0.005 if a fifth pass


def test_a_p_value_can_be_small_enough_after_correction() -> None:
    classes = [0, 1] * 100
    for significance in (0.05, 0.01, 0.001):
        found = judge(heard(classes), named(classes), significance=significance)
        assert found.p_value is not None
        assert found.p_value <= significance


def test_a_frequent_value_gains_nothing_by_being_frequent() -> None:
    classes = [0] * 190 + [1] * 10
    found = judge(heard(classes, difference=0.0), named(classes))
    assert found.accuracy is not None
    assert found.accuracy < 0.7  # guessing the frequent one: .95 of recordings, .5 of the values
    assert not found.is_true(LIMITS)


def test_a_rare_value_is_recognized_too() -> None:
    classes = [0] * 190 + [1] * 10
    found = judge(heard(classes, difference=3.0), named(classes))
    assert found.accuracy is not None
    assert found.accuracy > 0.8
    assert found.is_true(LIMITS)


def test_empty_cells_count_against_the_column_and_stay_out_of_the_test() -> None:
    classes = [0, 1] * 50
    values = named(classes)
    values[:25] = [None] * 25
    found = judge(heard(classes), values)
    assert found.filled == 0.75
    assert found.is_true(LIMITS)
    nothing = judge(heard(classes), [None] * 100)
    assert (nothing.filled, nothing.classes, nothing.p_value) == (0.0, 0, None)


def test_values_of_too_few_recordings_are_no_classes() -> None:
    classes = [0] * 50 + [1] * 4
    found = judge(heard(classes), named(classes))
    assert (found.classes, found.accuracy, found.p_value) == (1, None, None)
    assert not found.is_true(LIMITS)
    assert judge(heard(classes), named(classes), min_class=4).classes == 2


def test_without_features_nothing_is_tested_but_counted() -> None:
    found = judge(None, named([0, 1] * 20))
    assert (found.filled, found.classes, found.p_value) == (1.0, 2, None)


def test_the_fewest_recordings_a_setting_allows_can_be_judged() -> None:
    assert judge(heard([0, 0, 1, 1]), named([0, 0, 1, 1]), min_class=2).p_value is not None


def test_features_that_never_vary_say_nothing() -> None:
    found = judge(np.zeros((40, 10)), named([0, 1] * 20))
    assert not found.is_true(LIMITS)


def test_evidence_follows_the_seed() -> None:
    classes = [0, 1] * 30
    features, values = heard(classes, difference=0.3), named(classes)
    assert judge(features, values) == judge(features, values)
    other = judge_condition(features, values, column="speed_level", limits=LIMITS, seed=1)
    assert other != judge(features, values)


# --- features -----------------------------------------------------------------------------------------------------


def tones(count: int, *, clips_each: int = 1) -> ClipSet:
    rng = np.random.default_rng(5)
    t = np.arange(RATE) / RATE
    waves = [
        (0.1 * np.sin(2 * np.pi * rng.uniform(200, 4000) * t) + 0.01 * rng.standard_normal(RATE)).astype(np.float32)
        for _ in range(count * clips_each)
    ]
    return ClipSet.from_arrays(waves, recording_ids=[f"r{i // clips_each:04d}" for i in range(len(waves))])


def test_features_are_standardized_over_the_set() -> None:
    names, features = recording_features(tones(30), 8000.0)
    assert names == tuple(f"r{i:04d}" for i in range(30))
    assert features.shape[0] == 30
    assert features.mean(axis=0) == pytest.approx(0.0, abs=1e-9)
    assert features.std(axis=0) == pytest.approx(1.0)


def test_the_order_of_clips_never_matters() -> None:
    clips = tones(12, clips_each=3)
    order = np.random.default_rng(2).permutation(len(clips))
    names, features = recording_features(clips, 8000.0)
    again, shuffled_features = recording_features(clips.subset(list(order)), 8000.0)
    assert names == again
    assert np.array_equal(features, shuffled_features)


def test_of_many_recordings_the_same_ones_are_drawn_in_whatever_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "MAX_RECORDINGS", 8)
    clips, heard_clips = tones(20, clips_each=2), []
    names, features = recording_features(clips, 8000.0, heard_clips.append)
    again, same = recording_features(clips.subset(range(39, -1, -1)), 8000.0)
    assert len(names) == 8
    assert sum(heard_clips) == 16
    assert names == again
    assert np.array_equal(features, same)
    assert recording_features(clips, 8000.0, seed=1)[0] != names


def test_a_band_that_a_recording_does_not_hold_reads_as_the_mean() -> None:
    """Else the recorder would be heard, and with it every condition that came with another recorder."""
    whole = tones(6)
    clips = [Clip(c.clip_id, c.recording_id, RATE, 4000.0 if i < 3 else 8000.0) for i, c in enumerate(whole.clips)]
    _, features = recording_features(ClipSet(clips, whole.waveform), 8000.0)
    bands = features.shape[1] // 2
    assert np.all(features[:3, bands - 1] == 0.0)
    assert np.any(features[3:, bands - 1] != 0.0)


def test_a_clip_that_cannot_be_heard_is_named() -> None:
    clips = ClipSet.from_arrays([np.zeros(RATE, np.float32), np.ones(100, np.float32)], recording_ids=["long", "short"])
    with pytest.raises(InputError, match="short#1"):
        recording_features(clips, 8000.0)


def test_what_the_toy_machine_is_recorded_under_can_be_told_from_its_sound() -> None:
    planned = [
        clip
        for clip in ToyPlan(machine_types=("pump",), scale=0.05, seed=100).clips()
        if clip.domain == "source" and clip.split == "train"
    ]
    sounds = [render_clip(clip)[: 4 * RATE].astype(np.float32) / 32_768 for clip in planned]
    clips = ClipSet.from_arrays(sounds, recording_ids=[clip.clip_id for clip in planned])
    names, features = recording_features(clips, 8000.0)
    by_name = {clip.clip_id: clip for clip in planned}
    positions = [by_name[name].mic_position_id for name in names]
    installations = [by_name[name].installation for name in names]
    assert judge(features, positions, column="mic_position_id").is_true(LIMITS)
    assert not judge(features, shuffled(list(positions), 3), column="mic_position_id").is_true(LIMITS)
    assert judge(features, installations, column="installation").classes == 1
