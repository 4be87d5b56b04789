"""Anomalous stretches stay right across cuts; clips come back from the store as they went."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engines.standardize import standardize
from schemas.errors import StoreError
from tasks.clip_files import from_flac, to_flac
from tasks.standardizing import cut_regions


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [
        (0.0, 10.0, [[2.0, 3.0], [9.5, 10.0]]),
        (10.0, 20.0, [[0.0, 0.5]]),
        (20.0, 25.0, []),
    ],
)
def test_regions_follow_their_segment(start: float, stop: float, inside: list[list[float]]) -> None:
    assert json.loads(cut_regions("[[2, 3], [9.5, 10.5]]", start, stop) or "") == inside


def test_a_clip_without_regions_has_none_in_any_segment() -> None:
    assert cut_regions(None, 0.0, 10.0) is None


def test_flac_gives_back_the_very_samples() -> None:
    rng = np.random.default_rng(3)
    standard = standardize(rng.normal(0, 0.5, 20_000).astype(np.float32), 44_100, target_rate=16_000)
    stored = from_flac(to_flac(standard.codes, standard.sample_rate), key="x")
    assert np.array_equal(stored, standard.waveform)


def test_a_damaged_object_is_named() -> None:
    with pytest.raises(StoreError, match=r"packages/acme/p/audio/x\.flac"):
        from_flac(b"not flac", key="packages/acme/p/audio/x.flac")
