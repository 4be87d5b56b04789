"""The form as a page to print: one sheet of A4 a machine type, in one HTML file that fetches nothing."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment

from tasks.forms.content import FormText
from tasks.html import html_environment


def render_page(form: FormText) -> str:
    """The form as HTML."""
    return str(_environment().get_template("form.html.j2").render(form=form, pages=form.pages(), say=form.say))


@cache
def _environment() -> Environment:
    return html_environment("tasks.forms")
