"""What others named, as text that is only ever shown: on a terminal, in a message, in a table."""

from __future__ import annotations

import unicodedata


def printable(name: str) -> str:
    """A file's name as text that can be printed and filed, whatever bytes it is made of.

    Two names never become one: what would move a cursor, end a line or turn the direction of writing is escaped, and
    so is the backslash that escapes are made with.
    """
    return without_controls(name.replace("\\", "\\\\"))


def without_controls(text: str) -> str:
    """Text on one line, with escapes for what a terminal or a mail program would act on instead of showing it."""
    return "".join(each if _is_shown(each) else _escaped(each) for each in text)


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
