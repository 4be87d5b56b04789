"""The cast of the end-to-end run is what its story needs; how it ends is seen there."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from engines.succession import LEAST_LABELLED
from engines.toy import render_clip
from schemas.settings import GrowthPolicy, RoutingSettings
from tests.e2e import recipe


def test_only_with_haneul_is_there_source_enough_for_engine_b() -> None:
    needed = RoutingSettings().min_source
    assert len(recipe.first_of_haneul()) >= needed
    assert needed > 2 * recipe.NORMALS + recipe.LATE_NORMALS


def test_growth_asks_for_a_retraining_once_haneul_shares_and_not_before() -> None:
    policy, mirae = GrowthPolicy(), 2 * recipe.NORMALS
    assert not policy.is_passed(new=mirae, before=0)
    learnt = mirae + recipe.LATE_NORMALS + recipe.SHARED
    assert policy.is_passed(new=learnt, before=0)
    assert not policy.is_passed(new=recipe.ADDED, before=learnt)


def test_each_machine_of_mirae_has_labels_enough_to_decide() -> None:
    found = Counter((clip.section_id, clip.split, clip.label) for clip in recipe.first_of_mirae())
    assert found == {
        (section, split, label): count
        for section in ("01", "02")
        for split, label, count in [
            ("train", "normal", recipe.NORMALS),
            ("test", "normal", recipe.LABELLED),
            ("test", "anomaly", recipe.LABELLED),
        ]
    }
    assert recipe.LABELLED >= LEAST_LABELLED


def test_a_slipping_belt_at_mirae_is_an_ordinary_day_at_haneul() -> None:
    mine = [clip for clip in recipe.first_of_mirae() if clip.section_id == "01"]
    ordinary = recipe.first_of_haneul()
    slipping = {(clip.individual, clip.operation) for clip in mine if clip.label == "anomaly"}
    assert slipping < {(clip.individual, clip.operation) for clip in ordinary}
    assert slipping.isdisjoint((clip.individual, clip.operation) for clip in mine if clip.label == "normal")
    assert all(clip.fault is None for clip in mine)


def test_no_recording_comes_twice() -> None:
    sent = [*recipe.first_of_haneul(), *recipe.more_of_haneul()]
    assert len({clip.clip_id for clip in sent}) == len(sent)
    tested = [clip for clip in recipe.first_of_mirae() if clip.split == "test"]
    heard = recipe.recordings_of("02", normal=6, faulty=12)
    assert {clip.clip_id for clip in heard}.isdisjoint(clip.clip_id for clip in tested)


def test_a_package_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    clips = recipe.late_of_mirae()[:2]
    for name in ("one.zip", "two.zip"):
        recipe.write_package(tmp_path / name, clips)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("metadata.csv").decode())))
    assert [row["clip_id"] for row in rows] == [clip.clip_id for clip in clips]
    assert {(row["machine_type"], row["section_id"], row["domain"]) for row in rows} == {("compressor", "03", "target")}


def test_recordings_are_normal_first_and_faulty_to_the_end() -> None:
    clips = recipe.recordings_of("02", normal=2, faulty=3)
    assert [clip.label for clip in clips] == ["normal"] * 2 + ["anomaly"] * 3
    fault = clips[-1]
    assert np.any(render_clip(fault) != render_clip(fault.without_fault()))
    assert list(recipe.sounds(clips[:1])) == ["001.wav"]
