"""Take a model to int8 or int4 weights after its training, and judge it before and after on the same examples."""

from __future__ import annotations

import fnmatch
import functools
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_NAME

from itrd_nlp.errors import UserError
from itrd_nlp.files import check_replaceable, replacing_folder
from itrd_nlp.models.anatomy import layers_of
from itrd_nlp.models.embedder import SENTENCE_FILES
from itrd_nlp.models.loading import fit_tokenizer, load_model, load_tokenizer
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.torchao_weights import (
    BITS,
    quantised_model,
    require_torchao,
    torchao_config,
)
from itrd_nlp.tasks.jobs.judging import Rows, check_judging, judge_forms, print_forms, too_lossy
from itrd_nlp.tasks.jobs.run_folder import RUN_FILES, has_edited_card
from itrd_nlp.tasks.jobs.runs import check_lengths, public_name, write_card
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.output_paths import check_target_folder, check_writable
from itrd_nlp.training.record import VERSION, ModelRecord, QuantisedRecord, RunRecord, counted
from itrd_nlp.training.results import environment, size
from itrd_nlp.training.roles import chosen_arguments

_OF_EVALUATION = ("validation_file", "max_eval_samples", "evaluate_on_holdout")
BEFORE = "fp32"
"""The row of the model as it was."""


def quantise(
    task: Task,
    name: str,
    loading: LoadingArguments,
    *,
    weights: str,
    output_dir: str,
    max_f1_drop: float = 1.0,
    batch_size: int = 32,
    command: str | None = None,
) -> RunRecord:
    """Quantise the weights of a model by torchao, and judge it before and after on the same examples.

    Writes a folder that transformers loads where torchao is installed, with card and ``results.json``. Prints a table.

    Args:
        task: with the examples.
        name: folder or model id.
        loading: how the model is loaded.
        weights: ``int8`` or ``int4``.
        output_dir: where the quantised model goes; it appears when it is whole.
        max_f1_drop: the points of the task's main metric that may be lost, at most. Default: 1.
        batch_size: features a batch, where the metrics and the examples a second are measured.
        command: that was given, for the record.

    Returns:
        The content of results.json.

    Raises:
        UserError: torchao is missing, something cannot be used, or more than `max_f1_drop` is lost. Then output_dir
            stays as it was.
    """
    folder = _checked_output(name, weights, output_dir, max_f1_drop, batch_size, task.files)
    load = functools.partial(load_model, role="model", args=loading, head=task.head)
    model, tokenizer = load(name), load_tokenizer(name, loading)
    fit_tokenizer(model, tokenizer, name)
    torchao_config(model, weights)  # refuses what cannot be quantised before the data are read
    data = task.load(tokenizer, model, training=False)
    check_lengths(model, data)
    with replacing_folder(folder, "a quantised model", RUN_FILES) as staged:
        with Console().status("Quantising"):
            small, kept = quantised_model(
                model, weights, lambda config: load(name, quantization_config=config)
            )
            small.save_pretrained(staged)
            _save_the_rest(tokenizer, Path(name), staged)
        models = {BEFORE: model, weights: load(str(staged))}
        stored = round((staged / SAFE_WEIGHTS_NAME).stat().st_size / 1e6, 1)
        sizes = {BEFORE: size(model)["megabytes_fp32"], weights: stored}
        rows = judge_forms(task, models, sizes, data, batch_size=batch_size)
        print_forms(rows, f"{torch.get_num_threads()} threads", task, data)
        sentence = too_lossy(task, data, rows, weights, weights, max_f1_drop)
        if sentence is not None:
            raise UserError(f"{sentence}; {folder} stays as it was.")
        facts = {"trained_layers": kept, "command": command}
        record = _with_figures(task, data, _record(task, data, name, model), rows, facts)
        record.write(staged)
    write_card(folder, record, task)
    print(f"{folder} holds the model with {weights} weights.")
    return record


def _checked_output(
    name: str, weights: str, output_dir: str, max_f1_drop: float, batch_size: int, files: list[str]
) -> Path:
    """The folder of the model, after a look at all that can be refused before the work."""
    if weights not in BITS:
        raise UserError(f"weights is {weights!r}, but must be one of {', '.join(BITS)}.")
    require_torchao()
    check_judging(max_f1_drop, batch_size)
    check_replaceable(Path(output_dir), "output_dir")
    check_target_folder(
        output_dir, option="output_dir", written=("*",), ours=_is_ours, inputs=[name, *files]
    )
    check_writable(output_dir, option="output_dir")
    return Path(output_dir)


def _is_ours(folder: Path) -> bool:
    """Whether this job has written all of a folder. A student that was trained there, or an edited card, must stay."""
    record = RunRecord.read(folder)
    if record is None or record.quantised is None or has_edited_card(folder):
        return False
    names = [path.name for path in folder.iterdir()]
    return all(any(fnmatch.fnmatch(name, own) for own in RUN_FILES) for name in names)


def _save_the_rest(tokenizer: PreTrainedTokenizerBase, source: Path, folder: Path) -> None:
    """Save the tokenizer, and copy what sentence-transformers needs and transformers does not write."""
    tokenizer.save_pretrained(folder)
    for file in SENTENCE_FILES:
        if (source / file).is_file() and not (folder / file).exists():
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(source / file, folder / file)


def _record(task: Task, data: TaskData, name: str, model: PreTrainedModel) -> RunRecord:
    """The record of the training, without what was measured then, and with the data that are measured on now."""
    source = RunRecord.read(name) if Path(name).is_dir() else None
    known = source or RunRecord(base_model=public_name(name))
    teacher = known.teacher
    if teacher is not None:
        # Milliseconds of another day say nothing beside those of now, nor do scores on other examples.
        same = teacher.signature is None or teacher.signature == data.signature
        scores = teacher.scores if same else {}
        perplexity = teacher.perplexity if same else None
        changes = {"ms_per_question": None, "scores": scores, "perplexity": perplexity}
        teacher = teacher.model_copy(update=changes)
    # The lengths stay those of the training: every later command reads them here.
    judged = (*_OF_EVALUATION, *task.reading)
    arguments = {k: v for k, v in known.arguments.items() if k not in judged}
    chosen = chosen_arguments([task.args])
    arguments |= {k: v for k, v in chosen.items() if source is None or k in judged}
    unknown = dict.fromkeys(("eval_seconds", "weights", "questions", "rows"))
    about = {
        **size(model),
        "version": VERSION,
        "task": task.name,
        "metrics": dict(task.metrics_of(data)),
        "problem_type": task.problem_type,
        "signature": data.signature,
        "data_digest": data.digest,
        "layers": layers_of(model),
        "teacher": teacher,
        "datasets": known.datasets | data.datasets,
        "arguments": arguments,
        "candidates": [],
        "environment": environment() | {"torchao": version("torchao")},
        **counted(task.page.unit, len(data.examples)),
    }
    return known.model_copy(update=unknown | about)


def _with_figures(
    task: Task, data: TaskData, record: RunRecord, rows: Rows, facts: dict[str, Any]
) -> RunRecord:
    """The record with both rows of the table, the model before and the one after."""
    before, weights = rows
    quantised = QuantisedRecord(
        weights=weights,
        library=f"torchao {version('torchao')}",
        same_answers=round(rows[weights]["same_answers"], 2),
        before=ModelRecord(**_measured(task, data, rows[before])),
        **facts,
    )
    return record.model_copy(
        update={**_measured(task, data, rows[weights]), "quantised": quantised}
    )


def _measured(task: Task, data: TaskData, row: dict[str, float]) -> dict[str, Any]:
    """A row of the table as fields of a record."""
    return {
        "scores": {metric: row[metric] for metric in task.metrics_of(data)},
        "perplexity": row.get("perplexity"),
        "megabytes": row["megabytes"],
        "ms_per_question": round(row[f"milliseconds_per_{task.page.one}"], 2),
    }
