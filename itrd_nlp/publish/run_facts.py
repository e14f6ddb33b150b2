"""The facts of a run that its card needs, from its record."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers

from itrd_nlp import __version__
from itrd_nlp.files import read_json
from itrd_nlp.publish.markdown import one_line
from itrd_nlp.publish.page import KnownData, TaskPage, page_of_architecture
from itrd_nlp.publish.privacy import last_part
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import DataRecord, ModelRecord, RunRecord

_FILE = re.compile(r".*\.(jsonl?|csv|tsv|txt|conll|iob|bio|parquet)", re.DOTALL)


def with_local_data(record: RunRecord) -> RunRecord:
    """Return a record that says of each of its data sets whether it is of this machine.

    The names must still have their folders: `/home/ada/reviews` is no id of the Hub, and `reviews` could be one. Where
    the data were not recorded, they are those of the arguments.
    """
    datasets = dict(record.datasets)
    for split in ("train", "unlabelled", "validation"):
        name = record.arguments.get(f"{split}_file")
        if split not in datasets and name is not None:
            is_file = _FILE.fullmatch(str(name)) is not None
            shown = last_part(str(name)) if is_file else str(name)
            datasets[split] = DataRecord(name=shown, file=is_file or None)
    for split, data in datasets.items():
        if data.is_local:
            datasets[split] = data.model_copy(update={"file": True})
    return record.model_copy(update={"datasets": datasets})


class RunFacts:
    """The record of a run, and the facts that follow from it.

    Args:
        record: of the run, without anything private, see `with_local_data`.
        folder: of the model.
        page: how its task is shown. Default: by the class of the head.
        repo_id: where it goes on the Hub.
    """

    def __init__(
        self,
        record: RunRecord,
        folder: str | Path | None,
        page: TaskPage | None,
        repo_id: str | None,
    ) -> None:
        self.record = record
        self.teacher = record.teacher
        self.repo_id = repo_id
        path = Path(folder) if folder is not None else None
        self.name = one_line(
            repo_id.rpartition("/")[2] if repo_id else path.resolve().name if path else "model"
        )
        self.architecture = _architecture(path)
        of_head = page_of_architecture(self.architecture)
        if page is None:
            page = of_head
        elif page.pipeline_tag is None:  # the task has several heads
            page = replace(page, pipeline_tag=of_head.pipeline_tag, title=of_head.title)
        self.page = page

    @property
    def is_itrd(self) -> bool:
        """Whether this package's objective made it; a run by another library says so as its `method`."""
        return self.teacher is not None and self.record.method is None

    @property
    def seed(self) -> Any:
        """The seed of the run, None where it is not known: it is not recorded where it is the default."""
        versions = {"itrd_nlp": __version__, "transformers": transformers.__version__}
        environment = self.record.environment
        same = all(environment.get(package) == version for package, version in versions.items())
        default = FineTuningArguments.__dataclass_fields__["seed"].default if same else None
        return self.record.arguments.get("seed", default)

    def number(self, argument: str) -> float | None:
        """The value of an argument, None where it is the default or no number."""
        value = self.record.arguments.get(argument)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def data_set(self, split: str) -> DataRecord | None:
        """The data of a split.

        Args:
            split: train, unlabelled, threshold or validation.
        """
        return self.record.datasets.get(split)

    def known_data(self, split: str) -> KnownData | None:
        """The public data set of a split, where it is one that the task knows."""
        return self.page.known(self.data_set(split))

    def hub_data_set(self, split: str) -> str | None:
        """The id on the Hub, where the data came from there or are a file that is known to be the same."""
        known, data = self.known_data(split), self.data_set(split)
        if known is not None:
            return known.hub_id
        return None if data is None or data.is_local else data.name

    def is_subset(self, split: str) -> bool:
        """Whether examples were drawn from the data, and not all taken. Records of earlier versions do not say it."""
        data = self.data_set(split)
        if data is not None and data.subset is not None:
            return data.subset
        name = {"validation": "eval"}.get(split, split)
        most = self.number(f"max_{name}_samples")
        count = data.examples if data is not None else None
        return most is not None and (count is None or most == count)

    @property
    def is_held_out(self) -> bool:
        """Whether the model was judged on examples of the source that it was trained on, which were set aside."""
        return bool(self.record.arguments.get("evaluate_on_holdout"))

    @property
    def judged_split(self) -> str:
        """The split that the model was judged on: as it was recorded, else that of a known file."""
        data, known = self.data_set("validation"), self.known_data("validation")
        recorded = None if data is None else (data.model_extra or {}).get("split")
        if recorded is not None:
            return str(recorded)
        if data is not None and data.sha256 is not None and known is not None:
            return known.sha256.get(data.sha256, "validation")
        return "train" if self.is_held_out else "validation"

    @property
    def base_model(self) -> str | None:
        """The model on the Hub that this one comes from. A folder's name, which has no namespace, is none."""
        teacher = self.teacher or ModelRecord()
        names = (teacher.name, teacher.base_model, self.record.base_model)
        return next(
            (name for name in names if name and re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None
        )


def _architecture(folder: Path | None) -> str | None:
    path = folder / "config.json" if folder is not None else None
    if path is None or not path.is_file():
        return None
    config = read_json(path)
    names = config.get("architectures") if isinstance(config, dict) else None
    name = names[0] if isinstance(names, list) and names else None
    # It becomes a line of Python on the card.
    return name if isinstance(name, str) and name.isidentifier() else None
