"""Names of files inside a package: plain relative POSIX paths, and nothing else."""

from __future__ import annotations

import re

from schemas.reasons import reason

AUDIO_FOLDER = "audio/"

MAX_NAME_CHARS = 1000
"""As many as a cell of the table may hold: a longer name could be listed in none."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Categories Cc, Zl, Zp and Cs of Unicode; the last two ranges make text read in another order than it is written in,
so that `vaw.exe` shows as `exe.wav`."""

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
    return _CONTROL.search(text) is not None


_CLUTTER = re.compile(
    r"(^|/)(__MACOSX/|\.DS_Store$|\._[^/]*$|Thumbs\.db$|desktop\.ini$|~\$[^/]*\.(xls|doc|ppt)[a-z]?$|\.~lock\.[^/]*#$)",
    re.IGNORECASE,
)


def is_clutter(name: str) -> bool:
    """Whether a system or an office program left the file there by itself: folder views, thumbnails, and the lock files
    of documents that were open while the package was made (`~$form.xlsx`, `.~lock.form.xlsx#`)."""
    return _CLUTTER.search(name) is not None


def unsafe_name(name: str) -> str | None:
    """Why `name` is no plain relative POSIX path, or None where it is one."""
    if not name:
        return reason("name.empty")
    if len(name) > MAX_NAME_CHARS:
        return reason("name.long")
    if has_control(name):
        return reason("name.control")
    if "\\" in name:
        return reason("name.backslash")
    if re.match(r"[A-Za-z]:", name):
        return reason("name.drive")
    if name.startswith("/"):
        return reason("name.absolute")
    parts = name.split("/")
    if ".." in parts:
        return reason("name.parent")
    if "" in parts or "." in parts:
        return reason("name.empty_part")
    if _leads_out(name.translate(_LOOK_ALIKES)):
        return reason("name.look_alike")
    if any(map(_DEVICE.fullmatch, parts)):
        return reason("name.device")
    if any(part.endswith((" ", ".")) for part in parts):
        return reason("name.end")
    return None


def _leads_out(name: str) -> bool:
    """Whether the name would leave its place, a slash of full width within an honest name being none of that."""
    return name.startswith(("/", "\\")) or not {".", ".."}.isdisjoint(re.split(r"[/\\]", name))


def unsafe_clip_path(path: str) -> str | None:
    """Why `path` does not name a file under audio/, or None where it does."""
    why = unsafe_name(path)
    if why is None and not path.startswith(AUDIO_FOLDER):
        return reason("name.not_audio")
    return why
