"""What goes wrong when a zip is not what it says; workbooks are zips too."""

from __future__ import annotations

import struct
import zipfile
import zlib

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
