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
GENERAL = Path(forms.__file__).with_name("general_form.yaml")


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
    changed = load_forms(copied)
    monkeypatch.setattr(forms, "built_in_forms", lambda: changed)

    assert QaLimits().min_normals == 4
    assert QaLimits().recommended_normals == 12
    assert StandardizeSettings().segment_s == 8


@pytest.mark.parametrize("name", sorted(SHARED))
def test_one_form_that_disagrees_with_the_others_is_refused(copied: Path, name: str) -> None:
    rewrite(copied / "pump.yaml", **{name: 7})

    with pytest.raises(UsageError, match=rf"pump\.yaml {name}|{name} \S+ and.*pump\.yaml|{name}.*pump\.yaml"):
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


def test_a_type_without_a_form_is_told_where_its_quantities_stand() -> None:
    with pytest.raises(UsageError, match=r"'mixer'.*fan, .*under `form`"):
        form_of("mixer")


def test_a_type_of_one_s_own_states_what_differs_and_is_asked_the_usual_for_the_rest(tmp_path: Path) -> None:
    (tmp_path / "types.yaml").write_text(
        "mixer: {en: mixer, form: {varies: [load_level], levels: 2, distance_m: [1, 2]}}\n"
        "chopper: {en: chopper, sample_rate: 32000}\n"
        "fan: {en: fan, form: {test_clips: 9}}\n",
        encoding="utf-8",
    )
    types = load_machine_types(tmp_path / "types.yaml")
    mixer, chopper, fan = (types[name].recording_form for name in ("mixer", "chopper", "fan"))

    assert (mixer.varies, mixer.levels, mixer.distance_m) == (("load_level",), 2, (1, 2))
    usual = yaml.safe_load(GENERAL.read_text(encoding="utf-8"))
    assert mixer.noise_s == tuple(usual["noise_s"])
    assert chopper.varies == tuple(usual["varies"])
    assert chopper.sample_rate == (32_000, 48_000)
    assert fan == form_of("fan").model_copy(update={"test_clips": 9})
    assert all(getattr(mixer, name) == shared_quantity(name) for name in SHARED)
    assert form_of("fan") == load_machine_types()["fan"].recording_form


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ("{clip_s: 5}", "clip_s, which is asked of every machine alike"),
        ("{levels: 1}", "levels"),
        ("{colour: red}", "colour"),
        ("{noise_s: [9, 3]}", "noise_s goes down"),
        ("[1]", "form"),
    ],
)
def test_quantities_that_make_no_form_are_refused_by_file_type_and_field(tmp_path: Path, own: str, named: str) -> None:
    (tmp_path / "types.yaml").write_text(f"mixer: {{en: mixer, form: {own}}}", encoding="utf-8")

    with pytest.raises(UsageError, match=rf"types\.yaml: machine type 'mixer'(.|\n)*{named}"):
        load_machine_types(tmp_path / "types.yaml")


def test_general_quantities_are_all_that_a_type_may_leave_out() -> None:
    stated = set(yaml.safe_load(GENERAL.read_text(encoding="utf-8")))
    assert stated | SHARED | {"machine_type"} == set(RecordingForm.model_fields)


@pytest.mark.parametrize(("seconds", "clips"), [(30, 3), (31, 4), (10, 1), (120, 12)])
def test_seconds_are_counted_in_whole_recordings(seconds: float, clips: int) -> None:
    assert form_of("fan").clips(seconds) == clips
