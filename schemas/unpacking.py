"""What goes wrong when a zip is not what it says; workbooks are zips too."""

from __future__ import annotations

import struct
import zipfile
import zlib

from schemas.reasons import reason, system_reason

UNPACK_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
)
"""What zipfile raises on a hostile archive; NotImplementedError is a RuntimeError, UnicodeError a ValueError."""

_TOLD_BY_ZIPFILE = {
    "Bad CRC-32": "entry.checksum",
    "File name in directory": "entry.name",
    "Bad magic number": "entry.place",
    "Overlapped entries": "entry.place",
}
"""How zipfile begins its sentences; it has one class of error for all of them."""


def unpack_fault(error: Exception) -> str:
    """Why an entry cannot be unpacked, by one of `UNPACK_ERRORS`."""
    if isinstance(error, zlib.error):
        return reason("entry.packed")
    if isinstance(error, NotImplementedError):
        return reason("entry.method")
    if isinstance(error, OSError):
        return reason("entry.disk", why=system_reason(error))
    told = str(error)
    return reason(next((key for start, key in _TOLD_BY_ZIPFILE.items() if told.startswith(start)), "entry.damaged"))
