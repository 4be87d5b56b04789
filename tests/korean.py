"""Which Latin letters a Korean sentence may hold.

Names of things, values and units are written the same in Korean; everything else in Latin letters is a sentence that
nobody translated. What a package itself holds (its file names, cells, sheets) is for the caller to name.
"""

from __future__ import annotations

import re

from schemas.machine_types import load_machine_types
from schemas.metadata import METADATA_COLUMNS, CustomerForm

_UNITS = {"Hz", "kHz", "dB", "dBFS", "ms"}
_FORMATS = {
    *("WAV", "FLAC", "PCM", "MP3", "OGG", "AIFF", "AVI", "CAF", "AU", "W64", "BW64", "WMA", "MP4", "M4A", "AAC", "AMR"),
    *("RIFF", "zip", "Deflate", "Store", "CSV", "csv", "UTF", "CP949", "xls", "xlsx", "html", "XML", "JSON", "YAML"),
    *("ISO", "CRC"),
}
"""What stands on a recorder, in a dialog that saves a file, or in the name of a standard."""
_FIELD = {"RMS", "DC", "NaN", "AUC", "pAUC"}
"""Words of the field that Korean engineers write in Latin letters."""
_DATE_FORMAT = {"yyyy", "mm", "dd", "hh"}
"""What a spreadsheet's dialog calls it, in Korean too."""
_SYSTEMS = {"Windows", "Prefect", "ALP", "alp"}
_PLACES = {"metadata", "audio", "T09"}
"""Of the package's own layout, and the letter in an ISO 8601 time."""
_VALUES = {
    *load_machine_types(),
    *METADATA_COLUMNS,
    *(value for column in METADATA_COLUMNS for value in CustomerForm.choices(column)),
    *("fan_01", "wav"),
}

ALLOWED = frozenset(_UNITS | _FORMATS | _DATE_FORMAT | _FIELD | _SYSTEMS | _PLACES | _VALUES)


def english_in(text: str, *said: object) -> list[str]:
    """Words of a sentence in Latin letters that are neither allowed nor part of what was `said`."""
    for given in sorted((str(each) for each in said if each), key=len, reverse=True):
        text = text.replace(given, " ")
    return [word for word in re.findall(r"[A-Za-z][A-Za-z0-9_]+", text) if word not in ALLOWED]
