"""A task as card, Hub and report show it. The task hands it in, so that none of them knows a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from transformers.modelcard import TASK_MAPPING

from itrd_nlp.training.record import DataRecord, RunRecord


def singular(noun: str) -> str:
    """The singular of a noun such as ``rows`` or ``queries``."""
    return f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")


@dataclass(frozen=True)
class KnownData:
    """A public data set that is recognised in a record.

    Attributes:
        hub_id: its id on the Hub.
        name: its name among people.
        sha256: of the files that hold the same data, each with the name of its split on the Hub.
        aliases: names that `datasets.load_dataset` takes for it, too.
        language: of its texts, as the Hub spells it.
        limits: a sentence about models that were trained on it.
    """

    hub_id: str
    name: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    aliases: frozenset[str] = frozenset()
    language: str | None = None
    limits: str | None = None


class LossUnits(NamedTuple):
    """The units on the axes of the report's curves, such as ``cross entropy (nats)``.

    Attributes:
        task: the task loss.
        kd: the logit KD.
    """

    task: str = "cross entropy (nats)"
    kd: str = "T² KL (nats)"


@dataclass(frozen=True)
class TaskPage:
    """A task as others see it.

    Attributes:
        pipeline_tag: the Hub's name of the task, such as ``token-classification``; None: that of the model's head.
        title: how people call it, such as ``token classification``.
        unit: the noun for its examples, in the plural.
        sources: the noun for the sources of its examples, in the plural; None where each is a source by itself.
        tags: further tags of the Hub.
        data: the public data sets that a record is searched for.
        kd: from the record to the KD term of the card's formula; None: the divergence of the predictions.
        loss_units: from the record to the axes of task loss and KD in the report; None: those of `LossUnits`.
        use: from the model's name and its record to the section of the card that shows how to call it; None: the lines
            that load any model of transformers.
        limits: sentences for the card about every model of the task.
        groupings: key of a way to group the examples in the report to its name among people.
        groups_note: a sentence about these groups.
    """

    pipeline_tag: str | None = None
    title: str | None = None
    unit: str = "rows"
    sources: str | None = None
    tags: tuple[str, ...] = ()
    data: tuple[KnownData, ...] = ()
    kd: Callable[[RunRecord], str] | None = None
    loss_units: Callable[[RunRecord], LossUnits] | None = None
    use: Callable[[str, RunRecord], str] | None = None
    limits: tuple[str, ...] = ()
    groupings: Mapping[str, str] = field(default_factory=dict)
    groups_note: str | None = None

    @property
    def one(self) -> str:
        """The noun for one example."""
        return singular(self.unit)

    def known(self, data: DataRecord | None) -> KnownData | None:
        """The public data set that a record names, None where it is none of them."""
        if data is None:
            return None
        for known in self.data:
            named = not data.is_local and data.name in known.aliases | {known.hub_id}
            if named or data.sha256 in known.sha256:
                return known
        return None


def page_of_architecture(architecture: str | None) -> TaskPage:
    """The page of a model whose task nobody has handed in: what transformers says of the class of its head."""
    mapping: Any = TASK_MAPPING  # tag to the names of classes, by that of a base class
    for tag, names in mapping.items():
        if architecture in names.values():
            return TaskPage(pipeline_tag=tag, title=tag.replace("-", " "))
    return TaskPage()
