"""Collators that draw: what a trainer tells them, so that a draw can be repeated and is another one in every epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod


class DrawsByEpoch(ABC):
    """A collator whose draws depend on its batch, on the seed of the training and on the epoch, and on nothing else.

    Draws of torch's global generator would depend on all earlier ones, so that a resumed run would draw others.
    """

    @abstractmethod
    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Take the seed and the number of the epoch, from 0 on, before the first batch of each epoch.

        Workers that a data loader keeps from epoch to epoch must hear of it, too.
        """
