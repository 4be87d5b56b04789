"""Names of files inside a package: plain relative POSIX paths, and nothing else."""

from __future__ import annotations

import re
import unicodedata

AUDIO_FOLDER = "audio/"

_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


def has_control(text: str) -> bool:
    """Whether the text holds a control character, a line or paragraph break, or half of a character."""
    return any(unicodedata.category(character) in _CONTROL for character in text)


def unsafe_name(name: str) -> str | None:
    """Why `name` is no plain relative POSIX path, or None where it is one."""
    if not name:
        return "empty"
    if has_control(name):
        return "control character"
    if "\\" in name:
        return "backslash"
    if re.match(r"[A-Za-z]:", name):
        return "drive letter"
    if name.startswith("/"):
        return "absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "parent folder"
    if "" in parts or "." in parts:
        return "empty part"
    return None


def unsafe_clip_path(path: str) -> str | None:
    """Why `path` does not name a file under audio/, or None where it does."""
    why = unsafe_name(path)
    if why is None and not path.startswith(AUDIO_FOLDER):
        return "not under audio/"
    return why
