"""Names of files inside a package: plain relative POSIX paths, and nothing else."""

from __future__ import annotations

import re
import unicodedata

AUDIO_FOLDER = "audio/"

MAX_NAME_CHARS = 1000
"""As many as a cell of the table may hold: a longer name could be listed in none."""

_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make text read in another order than it is written in, so that `vaw.exe` shows as `exe.wav`."""

_LOOK_ALIKES = str.maketrans(
    {
        **dict.fromkeys("\u2044\u2215\u29f8\uff0f", "/"),
        **dict.fromkeys("\u2216\u29f5\u29f9\ufe68\uff3c", "\\"),
        **dict.fromkeys("\u2024\ufe52\uff0e", "."),
        "\u2025": "..",
        "\u2026": "...",
    }
)
"""What other programs, as they normalize a name, may take for a slash, a backslash or dots (Unicode TR 36)."""

_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(?:\..*)?", re.IGNORECASE
)
"""Names that Windows keeps for devices, in every folder and with any ending."""


def has_control(text: str) -> bool:
    """Whether the text holds a control character, a line or paragraph break, half of a character, or a change of
    the direction of reading."""
    return any(unicodedata.category(character) in _CONTROL or character in _DIRECTION for character in text)


def unsafe_name(name: str) -> str | None:
    """Why `name` is no plain relative POSIX path, or None where it is one."""
    if not name:
        return "empty"
    if len(name) > MAX_NAME_CHARS:
        return "too long"
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
    if _leads_out(name.translate(_LOOK_ALIKES)):
        return "look-alikes of slashes or dots"
    if any(map(_DEVICE.fullmatch, parts)):
        return "device name"
    if any(part.endswith((" ", ".")) for part in parts):
        return "dot or space at the end"
    return None


def _leads_out(name: str) -> bool:
    """Whether the name would leave its place, a slash of full width within an honest name being none of that."""
    return name.startswith(("/", "\\")) or not {".", ".."}.isdisjoint(re.split(r"[/\\]", name))


def unsafe_clip_path(path: str) -> str | None:
    """Why `path` does not name a file under audio/, or None where it does."""
    why = unsafe_name(path)
    if why is None and not path.startswith(AUDIO_FOLDER):
        return "not under audio/"
    return why
