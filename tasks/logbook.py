"""What a step did, in a sentence, for the log of its run."""

from __future__ import annotations

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger


def note(sentence: str, *, level: int = logging.INFO) -> None:
    """Log a sentence to the Prefect run that is under way, or to `alp`'s own logger where there is none."""
    try:
        logger = get_run_logger()
    except MissingContextError:
        logger = get_logger("alp")
    logger.log(level, sentence)
