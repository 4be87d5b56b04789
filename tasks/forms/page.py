"""The form as a page to print: one sheet of A4 a machine type, in one HTML file that fetches nothing."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.forms.content import FormText


def render_page(form: FormText) -> str:
    """The form as HTML."""
    return str(_environment().get_template("form.html.j2").render(form=form, pages=form.pages(), say=form.say))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tasks.forms"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
