"""Names of others are shown, and never acted on."""

from __future__ import annotations

import pytest

from tasks.plain_text import printable, without_controls


@pytest.mark.parametrize("name", ["2026-03/a b.wav", "3번 라인.wav", "größe_é.flac", "[bold]x[.wav", "音.wav"])
def test_names_that_are_plain_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("esc\x1b[31mRED\x07", r"esc\x1b[31mRED\x07"),
        ("one\nALARM    two", r"one\x0aALARM    two"),
        ("a\u202egpj.wav", r"a\u202egpj.wav"),
        ("a\u2028b", r"a\u2028b"),
        (b"\xff.wav".decode(errors="surrogateescape"), r"\udcff.wav"),
        ("c1\x9b31m", r"c1\x9b31m"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert shown.isprintable()
    assert without_controls(shown) == shown


def test_two_names_never_become_one() -> None:
    assert printable("a\n") != printable(r"a\x0a")
