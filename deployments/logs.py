"""How `alp` itself writes to stderr: sentences for people, or with `ALP_LOG_FORMAT=json` a JSON object a line.

With JSON the log of every run in this process goes there too, and an error that ends the command is a line of it.
What a command prints on stdout is the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError
from tasks import json_logs

_WISH = "ALP_LOG_FORMAT"


def wants_json(environment: Mapping[str, str]) -> bool:
    """Whether lines of JSON are asked for.

    Raises
    ------
    UsageError
        Something else than `plain` and `json` is.
    """
    said = environment.get(_WISH, "plain")
    if said not in ("plain", "json"):
        raise UsageError(f"{_WISH} is {said!r}; set it to plain or json")
    return said == "json"


def set_up_logs(environment: MutableMapping[str, str]) -> None:
    """Say to Prefect what is to become of logs; before anything imports it. The environment may say otherwise.

    In plain Prefect leaves the terminal to `alp`, which says in a sentence what is wrong; runs keep their logs in the
    UI.

    Raises
    ------
    UsageError
        As `wants_json`.
    """
    if wants_json(environment):
        for name, value in json_logs.ENVIRONMENT.items():
            environment.setdefault(name, value)
    else:
        environment.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def tell(
    console: Console, sentence: str, *, environment: Mapping[str, str], level: str = "INFO", style: str = "dim"
) -> None:
    """A sentence on stderr, in whichever form is asked for."""
    if environment.get(_WISH) == "json":
        console.file.write(json_logs.json_line(level, sentence) + "\n")
    else:
        console.print(escape(sentence), style=style, highlight=False, soft_wrap=True)


def tell_error(console: Console, error: Mapping[str, Any], *, environment: Mapping[str, str]) -> bool:
    """The error that ends a command as a line of JSON, its problems in it; False, and nothing, where none is asked for.

    error: `message`, and what else is known of it.
    """
    if environment.get(_WISH) != "json":
        return False
    more = {name: value for name, value in error.items() if name != "message"}
    console.file.write(json_logs.json_line("ERROR", error["message"], **more) + "\n")
    return True
