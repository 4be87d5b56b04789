"""How a flow run below came to its end, for the run above that goes on whatever became of it."""

from __future__ import annotations

from typing import Any

from prefect import State

from tasks.plain_text import without_controls

LONGEST_MESSAGE = 2000
"""Of a state's message, as a list of runs shows it."""


def outcome(state: State[Any]) -> object:
    """What a run gave, or why it failed."""
    try:
        return state.result(raise_on_failure=False)
    except Exception as error:  # of a run that crashed, what is left of it
        return error


def why_failed(state: State[Any]) -> str:
    """Why a run, or a step of one, failed, on one line."""
    fault = outcome(state)
    return on_one_line(str(fault) if isinstance(fault, Exception) else state.message or "it ended without a result")


def on_one_line(text: str) -> str:
    """A text on one line, with nothing in it that a terminal would act on."""
    return without_controls(" ".join(text.split()))


def in_a_message(text: str) -> str:
    """The same, of a text that is too long for a state's message the beginning."""
    line = on_one_line(text)
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"
