"""What a saved engine that cannot be read says: which file, what is wrong with it, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.saving import EncoderCard, EngineName, read_card
from schemas.errors import InputError


def test_a_folder_without_an_engine_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.json is absent.*refit the asset$"):
        read_card(tmp_path, EngineName, engine="any")


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        (b"{}", "field 'name': Field required"),
        (b'{"name": "x", "version": "1", "weights": "", "front_end": ""}', "field 'version': Input should be"),
        (b"{", "Invalid JSON"),
        (b"\xff", "it is not UTF-8 at byte 0"),
    ],
)
def test_a_card_that_cannot_be_read_names_one_fault_and_the_remedy(tmp_path: Path, written: bytes, fault: str) -> None:
    (tmp_path / "engine.json").write_bytes(written)
    with pytest.raises(InputError, match="no model of engine A that this version reads") as refused:
        read_card(tmp_path, EncoderCard, engine="a")
    message = str(refused.value)
    assert fault in message
    assert message.endswith("; refit the asset")
    assert "\n" not in message


def test_a_card_of_no_engine_at_all_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text("{}")
    with pytest.raises(InputError, match="no model of any engine that this version reads: field 'engine'"):
        read_card(tmp_path, EngineName, engine="any")
