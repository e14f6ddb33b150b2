"""Rows of a data set of the Hub, with its labels by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, load_dataset

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Line


def read_hub(name: str, config: str | None, split: str) -> Dataset:
    """A split of a data set.

    Args:
        name: an id of the Hub, or a folder, as `datasets.load_dataset` takes it.
        config: the part of the data set; None where it has one alone.
        split: name of the split.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        return load_dataset(name, config, split=split)
    except Exception as error:  # of datasets, of the Hub or of the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        part = f" {config!r} and" if config is not None else ""
        raise UserError(
            f"{name}: this is neither a file nor a data set with{part} a split {split!r} that can be loaded ({reason})."
        ) from error


def list_columns(dataset: Dataset) -> list[str]:
    """The columns that hold lists."""
    return [name for name, kind in dataset.features.items() if isinstance(kind, List | LargeList)]


def class_names(dataset: Dataset, column: str) -> list[str] | None:
    """The names of the labels in a column, in the order of their numbers; None where it has no numbered labels."""
    feature = _label_feature(dataset, column)
    return None if feature is None else list(feature.names)


def hub_lines(dataset: Dataset, where: str, columns: Sequence[str]) -> Iterator[Line]:
    """The rows with these columns, in which numbers of labels are their names.

    Args:
        dataset: of `read_hub`.
        where: for error messages.
        columns: those that are read.

    Raises:
        UserError: a label is -1, as in a split whose labels are kept secret.
    """
    readers = {name: _reader(_label_feature(dataset, name)) for name in columns}
    for number, row in enumerate(dataset.select_columns(list(columns)), start=1):
        place = f"{where}, row {number}"
        yield Line(place, {name: read(row[name], place) for name, read in readers.items()})


def _label_feature(dataset: Dataset, column: str) -> ClassLabel | None:
    feature = dataset.features[column]
    if isinstance(feature, List | LargeList):
        feature = feature.feature
    return feature if isinstance(feature, ClassLabel) else None


def _reader(feature: ClassLabel | None) -> Callable[[Any, str], Any]:
    def as_it_is(value: Any, where: str) -> Any:
        return value

    def named(value: Any, where: str) -> Any:
        assert feature is not None
        if isinstance(value, list):
            return [named(one, where) for one in value]
        if value == -1:
            raise UserError(
                f"{where}: the label is -1, which stands for none; name a split with labels."
            )
        return None if value is None else feature.int2str(value)

    return as_it_is if feature is None else named
