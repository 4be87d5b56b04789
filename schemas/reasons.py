"""Why something cannot be read, in half a sentence: what a rule's `{why}` says.

Every reason has a key and an English text here, and a Korean one under `reasons` in tasks/report/texts.yaml; a check
gives no other. What a library says of an error stays out of the sentences: it is English, changes with its version,
and may repeat what a hostile file holds.

Texts are `str.format` templates over the facts of the case. Text of a package enters as a fact, never as a template.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        # Names of files: schemas/paths.py.
        "name.empty": "empty",
        "name.long": "too long",
        "name.control": "control character",
        "name.backslash": "backslash",
        "name.drive": "drive letter",
        "name.absolute": "absolute path",
        "name.parent": "parent folder",
        "name.empty_part": "empty part",
        "name.look_alike": "look-alikes of slashes or dots",
        "name.device": "device name",
        "name.end": "dot or space at the end",
        "name.not_audio": "not under audio/",
        # Entries of an archive: schemas/unpacking.py.
        "entry.short": "{found} of {stated} bytes are there",
        "entry.packed": "its packed bytes are damaged",
        "entry.checksum": "its content does not fit its checksum (CRC)",
        "entry.name": "its name is written in two ways that differ",
        "entry.place": "it does not lie where the directory of the archive says",
        "entry.method": "it is packed in a way that is not read here",
        "entry.disk": "it cannot be read from the disk ({why})",
        "entry.damaged": "its bytes contradict the directory of the archive",
        # The table as text: schemas/tables.py.
        "csv.bars": "vertical bars",
        "csv.open_quote": "a quote is opened and never closed",
        "csv.after_quote": "a closing quote is followed by more text of the same cell",
        "csv.line_break": "a line break stands within a cell without quotes",
        "csv.cell": "a cell is longer than {limit} characters; look for a quote that is never closed",
        "csv.row": "a row is longer than {limit} characters",
        "csv.syntax": "its separators and quotes contradict each other",
        # The table as a workbook: schemas/xlsx.py.
        "book.old": "it is an old .xls workbook, or one with a password",
        "book.other": "it is no Excel workbook",
        "book.no_sheet": "it has no visible sheet",
        "book.document_type": "it declares a document type, which no spreadsheet does",
        "book.part_damaged": "its {part} is damaged",
        "book.part_missing": "its {part} is missing",
        "book.part_method": "its {part} is packed in a way that no spreadsheet uses",
        "book.tag": "it holds a tag that is longer than any of a spreadsheet",
        "book.depth": "it is nested deeper than any spreadsheet",
        "book.cells": "it holds more cells than any package's table",
        "book.row_order": "row {number} follows row {last}",
        "book.string": "string {number} is not among its strings",
        "book.place": "{text} is no place of a cell",
        "book.number": "{text} is no whole number",
        # Regions of an anomaly: schemas/metadata.py.
        "regions.json": "not JSON",
        "regions.list": "not a list of pairs",
        "regions.numbers": "not pairs of numbers",
        "regions.order": "{start} to {end} is out of order",
        # The bytes of a recording: tasks/audio.py.
        "sound.empty": "the file is empty",
        "sound.unknown": "it does not begin as a WAV or FLAC file does",
        "sound.no_samples": "it holds no samples",
        "sound.chunks": "the header leads past the end of the file",
        "sound.bytes": "the header promises {promised} bytes of samples, the file holds {found}",
        "sound.more_bytes": "the header promises {promised} bytes of samples, {more} that it does not name follow them",
        "sound.frames": "the header promises {promised} frames, {found} can be decoded",
        "sound.channels": "its header names a number of channels that is not possible",
        "sound.header": "its header lacks a value or contradicts itself",
        "sound.codec": "its samples are written in a way that is not read here",
        "sound.decoder": "its samples are damaged (error {code} of the decoder)",
        # What the system says: `system_reason`.
        "system.denied": "permission denied",
        "system.gone": "no such file or folder",
        "system.folder": "it is a folder",
        "system.no_folder": "a part of the path is no folder",
        "system.full": "no room left on the disk",
        "system.read_only": "the disk is read-only",
        "system.long": "the name is too long",
        "system.busy": "it is in use",
        "system.disk": "the disk has a fault",
        "system.other": "error {code} of the system",
    }
)
"""English texts by key. No two are alike, so that a text tells its key."""


SYSTEM_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.EACCES: "system.denied",
        errno.EPERM: "system.denied",
        errno.ENOENT: "system.gone",
        errno.EISDIR: "system.folder",
        errno.ENOTDIR: "system.no_folder",
        errno.ENOSPC: "system.full",
        errno.EDQUOT: "system.full",
        errno.EROFS: "system.read_only",
        errno.ENAMETOOLONG: "system.long",
        errno.EBUSY: "system.busy",
        errno.EIO: "system.disk",
    }
)
"""By the number of a system's error the key of its reason."""


def reason(key: str, /, **facts: object) -> str:
    """The English text of a reason."""
    return REASONS[key].format(**facts)


def system_reason(error: OSError) -> str:
    """The English text of why the system did not do what it was asked."""
    key = SYSTEM_REASONS.get(error.errno or 0, "system.other")
    return reason(key, code=error.errno)
