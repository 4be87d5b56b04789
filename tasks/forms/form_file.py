"""Write the form to a file: a workbook to fill in, or a page to print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.errors import UsageError
from schemas.machine_types import MachineTypes
from schemas.settings import Language
from tasks.forms.content import FormText
from tasks.forms.page import render_page
from tasks.forms.workbook import write_workbook
from tasks.new_files import new_file, require_free


def write_form(
    target: Path,
    spellings: Sequence[str],
    *,
    language: Language,
    types: MachineTypes | None = None,
    overwrite: bool = False,
) -> FormText:
    """Write the form of some machine types of `types` (default: the built-in ones), or of all where none is named;
    .xlsx or .html, as the name ends.

    Raises UsageError where a type is not known, the ending is another, or something lies there that may not be
    replaced; EnvironmentFault where it cannot be written.
    """
    form = FormText(spellings, language, types)
    ending = target.suffix.lower()
    if ending not in (".xlsx", ".html"):
        raise UsageError(f"{target}: the form is written as .xlsx or .html; give it a name that ends so")
    require_free(target, overwrite=overwrite)
    content = write_workbook(form) if ending == ".xlsx" else render_page(form).encode()
    with new_file(target) as partial:
        partial.write_bytes(content)
    return form
