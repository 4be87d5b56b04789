"""metadata.csv as bytes: good ones, and what comes out of spreadsheets, editors and malice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

HEADER = ("relative_path", "machine_type", "section_id", "confirmed_normal", "confirmed_by", "recorded_at")
NORMALS = 4
"""One more than an asset needs, so that a package stands when one clip of it is held back."""


def normal_path(number: int) -> str:
    return f"audio/normal_{number}.wav"


def row(path: str, **cells: str) -> dict[str, str]:
    """A row of the fan 00, a confirmed normal."""
    filled = dict(zip(HEADER, (path, "fan", "00", "true", "Kim", "2026-03-02T09:30"), strict=True))
    return filled | cells


def normals() -> list[dict[str, str]]:
    return [row(normal_path(number)) for number in range(NORMALS)]


def table(rows: Iterable[Mapping[str, str]], *, separator: str = ",", quote: bool = False) -> bytes:
    """Rows as UTF-8 text, columns in the order in which they come up."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for line in rows for name in line))
    lines = [columns, *([line.get(name, "") for name in columns] for line in rows)]
    cells = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' if quote else cell for cell in line] for line in lines]
    return ("\r\n".join(separator.join(line) for line in cells) + "\r\n").encode("utf-8", "surrogatepass")
