"""Names inside a package: plain relative POSIX paths that mean the same on every system."""

from __future__ import annotations

import pytest

from schemas.paths import MAX_NAME_CHARS, has_control, unsafe_clip_path, unsafe_name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("x" * (MAX_NAME_CHARS + 1), "too long"),
        ("a\0b", "control character"),
        ("a\u202evaw.exe", "control character"),
        ("a\\b", "backslash"),
        ("C:a", "drive letter"),
        ("/a", "absolute path"),
        ("a/../b", "parent folder"),
        ("a//b", "empty part"),
        ("．．／a", "look-alikes of slashes or dots"),
        ("a/．．", "look-alikes of slashes or dots"),
        ("a/\u2025/b", "look-alikes of slashes or dots"),
        ("\u2215etc\u2215passwd", "look-alikes of slashes or dots"),
        ("a＼．．＼b", "look-alikes of slashes or dots"),
        ("audio/con", "device name"),
        ("audio/Aux.wav", "device name"),
        ("nul.tar.gz/a", "device name"),
        ("audio/LPT¹", "device name"),
        ("audio/a.", "dot or space at the end"),
        ("audio /a", "dot or space at the end"),
    ],
)
def test_a_name_that_some_system_takes_otherwise_is_unsafe(name: str, why: str) -> None:
    assert unsafe_name(name) == why


@pytest.mark.parametrize(
    "name",
    [
        "metadata.csv",
        "audio/송풍기 3호기.wav",
        "audio/1／2호기.wav",
        "audio/..hidden.wav",
        "audio/a...b.wav",
        "audio/…끝.wav",
        "audio/09:30.wav",
        "audio/console.wav",
        "audio/com10.wav",
        "audio/नमस्ते\u200dक.wav",
        "x" * MAX_NAME_CHARS,
    ],
)
def test_a_plain_name_of_any_script_is_safe(name: str) -> None:
    assert unsafe_name(name) is None


def test_a_clip_lies_under_audio() -> None:
    assert unsafe_clip_path("audio/a.wav") is None
    assert unsafe_clip_path("metadata.csv") == "not under audio/"
    assert unsafe_clip_path("audio/../metadata.csv") == "parent folder"


@pytest.mark.parametrize("text", ["a\x1bb", "a\u2028b", "\ud800", "\u2066a"])
def test_what_changes_how_text_is_shown_is_control(text: str) -> None:
    assert has_control(text)
    assert not has_control("송풍기 3, fan\u200d")
