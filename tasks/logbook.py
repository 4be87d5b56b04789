"""What a step did, in a sentence, for the log of its run."""

from __future__ import annotations

import logging


def note(sentence: str, *, level: int = logging.INFO) -> None:
    """Log a sentence to the Prefect run that is under way, or to `alp`'s own logger where there is none."""
    # Commands that only read import this too, and Prefect takes longer than all that they do.
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_logger, get_run_logger

    try:
        logger = get_run_logger()
    except MissingContextError:
        logger = get_logger("alp")
    logger.log(level, sentence)
