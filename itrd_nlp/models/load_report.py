"""Keep the load report of transformers out of the output: `load_model` judges the weights itself, in a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "transformers.modeling_utils"
_ABOUT_MISSING = ("LOAD REPORT", "This checkpoint seem corrupted. The tied weights")


@contextmanager
def without_load_report() -> Iterator[None]:
    """Drop what transformers logs about missing and unexpected weights when it loads a checkpoint.

    It is a table, and for a head that shares its weights a sentence that calls the checkpoint corrupted. Both would
    tell a user to worry about a head that is about to be trained. All other messages of transformers pass.
    """
    logger = logging.getLogger(_LOGGER)
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(words in message for words in _ABOUT_MISSING)
