"""What people call an engine: a letter stands upper case, a word as a word."""

from __future__ import annotations


def engine_name(engine: str) -> str:
    """`A`, `B`, `C`, or `Ensemble`, as it stands in a table."""
    return engine.upper() if len(engine) == 1 else engine.capitalize()


def engine_phrase(engine: str) -> str:
    """`engine A`, or `the ensemble`, as it stands in a sentence."""
    return f"engine {engine.upper()}" if len(engine) == 1 else f"the {engine}"
