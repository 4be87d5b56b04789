"""The machine types: eight built in, more from YAML, each with every spelling a plant may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.machine_types import fold, load_machine_types, spelling_index

BUILT_IN = ("fan", "pump", "valve", "slider", "bearing", "motor", "compressor", "gearbox")


def test_eight_types_are_built_in_with_english_and_korean_names() -> None:
    types = load_machine_types()

    assert tuple(types) == BUILT_IN
    assert all(kind.en and kind.ko for kind in types.values())


def test_yaml_adds_a_type_and_changes_one(tmp_path: Path) -> None:
    more = tmp_path / "types.yaml"
    more.write_text("mixer: {en: mixer, ko: 믹서, aliases: [Toy Mixer]}\nfan: {en: fan, sample_rate: 32000}\n", "utf-8")
    types = load_machine_types(more)

    assert tuple(types) == (*BUILT_IN, "mixer")
    assert types["fan"].sample_rate == 32_000
    assert spelling_index(types)["toymixer"] == "mixer"
    assert "mixer" not in load_machine_types()


@pytest.mark.parametrize("written", ["slider", "SLIDER", " Slide_Rail ", "slide-rail", "슬라이드 레일"])
def test_a_type_is_found_by_any_of_its_spellings(written: str) -> None:
    assert spelling_index(load_machine_types())[fold(written)] == "slider"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- fan", "a mapping"),
        ("mixer: {ko: 믹서}", "'mixer' is not valid"),
        ("mixer: mixer", "'mixer' wants its names"),
        ("Mixer One: {en: mixer}", "'Mixer One' is not valid"),
        ("mixer: {en: mixer, colour: red}", "colour"),
        ("mixer: {en: pump}", "share the spelling 'pump'"),
        ("mixer: [", "cannot be read"),
        ("mixer: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    more = tmp_path / "types.yaml"
    more.write_text(text, "utf-8")

    with pytest.raises(UsageError, match=named):
        load_machine_types(more)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml"):
        load_machine_types(tmp_path / "none.yaml")
