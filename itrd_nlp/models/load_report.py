"""Keep the load report of transformers out of the output: `load_model` judges the weights itself, in a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "transformers.modeling_utils"


@contextmanager
def without_load_report() -> Iterator[None]:
    """Drop the table of missing and unexpected weights that transformers logs when it loads a checkpoint.

    All other messages of transformers pass. The table would tell a user to worry about a head that is about to be
    trained.
    """
    logger = logging.getLogger(_LOGGER)
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()
