"""What a plant is asked to record stands in one place, and what the gate and the router ask is read from there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from engines.routing import MIN_TARGET_NORMALS
from schemas import forms
from schemas.errors import AlpError, UsageError
from schemas.forms import SHARED, RecordingForm, built_in_forms, form_of, load_forms, shared_quantity
from schemas.machine_types import load_machine_types
from schemas.metadata import CONDITION_COLUMNS, CustomerForm
from schemas.settings import OnboardSettings, QaLimits, StandardizeSettings

FOLDER = Path(forms.__file__).with_name("forms")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the built-in forms, to be changed."""
    return Path(shutil.copytree(FOLDER, tmp_path / "forms"))


def rewrite(path: Path, **changes: object) -> None:
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(fields | changes), encoding="utf-8")


def test_every_built_in_machine_type_has_a_form() -> None:
    assert set(built_in_forms()) == set(load_machine_types())


@pytest.mark.parametrize("form", built_in_forms().values(), ids=lambda form: form.machine_type)
def test_the_gate_and_the_router_ask_for_what_the_form_says(form: RecordingForm) -> None:
    settings = OnboardSettings()

    assert (settings.qa.min_normals, settings.qa.recommended_normals) == (form.min_normals, form.recommended_normals)
    assert settings.standardize.segment_s == form.clip_s
    assert form.min_normals >= MIN_TARGET_NORMALS
    assert settings.qa.min_duration_s <= form.clip_s <= settings.qa.max_duration_s
    assert settings.qa.min_sample_rate <= form.sample_rate[0]
    assert form.sample_rate[1] <= settings.qa.max_sample_rate
    assert set(form.varies) <= set(CONDITION_COLUMNS)
    assert set(form.sensors) <= set(CustomerForm.choices("sensor"))


def test_a_quantity_changed_in_the_forms_is_changed_in_the_settings(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in copied.glob("*.yaml"):
        rewrite(path, min_normals=4, recommended_normals=12, clip_s=8)
    monkeypatch.setattr(forms, "built_in_forms", lambda: load_forms(copied))

    assert QaLimits().min_normals == 4
    assert QaLimits().recommended_normals == 12
    assert StandardizeSettings().segment_s == 8


@pytest.mark.parametrize("name", SHARED)
def test_one_form_that_disagrees_with_the_others_is_refused(copied: Path, name: str) -> None:
    rewrite(copied / "pump.yaml", **{name: 7})

    with pytest.raises(UsageError, match=rf"pump\.yaml.*|{name}.*"):
        load_forms(copied)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_s": [120, 30]},
        {"min_normals": 20},
        {"varies": ["colour"]},
        {"varies": []},
        {"microphones": 3},
        {"clip_s": 0},
        {"unheard_of": 1},
    ],
)
def test_a_form_that_makes_no_sense_is_refused_by_file_and_field(copied: Path, changes: dict[str, object]) -> None:
    rewrite(copied / "fan.yaml", **changes)

    with pytest.raises(UsageError, match=r"fan\.yaml"):
        load_forms(copied)


@pytest.mark.parametrize("text", ["", "- 1", "clip_s: [", "\xff"])
def test_a_file_that_is_no_form_is_refused(copied: Path, text: str) -> None:
    (copied / "fan.yaml").write_bytes(text.encode("latin-1"))

    with pytest.raises(UsageError, match=r"fan\.yaml"):
        load_forms(copied)


def test_a_folder_without_forms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no form"):
        load_forms(tmp_path)


def test_only_quantities_that_all_forms_share_can_be_asked_for_without_a_type() -> None:
    assert shared_quantity("min_normals") == built_in_forms()["valve"].min_normals
    with pytest.raises(AlpError, match="form_of"):
        shared_quantity("noise_s")


def test_a_type_added_by_yaml_is_asked_for_a_general_form() -> None:
    assert form_of("mixer").noise_s == built_in_forms()["fan"].noise_s


@pytest.mark.parametrize(("seconds", "clips"), [(30, 3), (31, 4), (10, 1), (120, 12)])
def test_seconds_are_counted_in_whole_recordings(seconds: float, clips: int) -> None:
    assert form_of("fan").clips(seconds) == clips
