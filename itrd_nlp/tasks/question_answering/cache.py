"""The cache of tokens on disk, which a run can do without."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import datasets
from datasets import Dataset

logger = logging.getLogger(__name__)


def in_cache(made: Callable[..., Dataset], fingerprint: str) -> Dataset:
    """The result of `Dataset.map`, from the cache or into it, and in memory where the cache cannot be used.

    Args:
        made: calls `Dataset.map`, which looks into the file that it is given.
        fingerprint: of the result.
    """
    # Examples in memory have no folder of their own in which map would keep its result.
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "itrd_nlp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return made(cache_file_name=str(folder / f"{fingerprint}.arrow"))
    except OSError as error:  # of another user, read-only or full
        reason = error.strerror or error
        logger.warning(
            "%s cannot be written (%s), so the tokens are kept in memory and not in a cache.",
            folder,
            reason,
        )
    return made(keep_in_memory=True)
