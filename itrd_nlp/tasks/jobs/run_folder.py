"""The folder of a run before its training: whose files it holds, and whether a run may write into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_text
from itrd_nlp.models.embedder import SENTENCE_FILES
from itrd_nlp.models.tokenizing import TOKENIZER_PATTERNS
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.publish.model_card import is_generated
from itrd_nlp.publish.report import REPORT_NAME
from itrd_nlp.publish.report.data import ANALYSIS_NAME
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import MANIFEST_NAME, checkpoints
from itrd_nlp.training.output_paths import Source, check_target_folder, check_writable
from itrd_nlp.training.record import BUDGET_NAME, RESULTS_NAME, UNFINISHED_NAME, RunRecord
from itrd_nlp.training.roles import same_anywhere

UNFINISHED = (
    "A training of itrd_nlp writes into this folder. It removes this file when it is finished."
)
"""By this file the same command, given again after a kill, knows what it finds in the folder as its own."""

RUN_FILES = (
    CARD_NAME,
    RESULTS_NAME,
    REPORT_NAME,
    ANALYSIS_NAME,
    BUDGET_NAME,
    "checkpoint-*",
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "training_args.bin",
    *TOKENIZER_PATTERNS,
    *(name.partition("/")[0] for name in SENTENCE_FILES),
)
"""Names of what a run writes into its folder: transformers writes the models and the tokenizers."""


def finished_run(args: FineTuningArguments, arguments: dict[str, Any]) -> RunRecord | None:
    """The record of the run in output_dir if it is finished, None if there is none, or if it is to be made anew.

    Args:
        args: of the training. With ``overwrite_output_dir`` a finished run is nothing to keep; `train` removes its
            results when all that can be refused was looked at.
        arguments: that are not their default, see `chosen_arguments`. The name of the folder and the machine make no
            other run.

    Raises:
        UserError: output_dir cannot take the files of a run, or holds a finished run of other arguments, which must not
            be overwritten.
    """
    output_dir = str(args.output_dir)
    _check_output_dir(Path(output_dir))
    record = None if args.overwrite_output_dir else RunRecord.read(output_dir)
    if record is None:
        return None
    arguments, before = same_anywhere(arguments), same_anywhere(record.arguments)
    for name in sorted(arguments.keys() | before.keys()):
        if arguments.get(name) != before.get(name):
            raise UserError(
                f"output_dir {output_dir} holds a finished run with {name} = {before.get(name)!r}, not "
                f"{arguments.get(name)!r}; name another output_dir, or replace that run by --overwrite_output_dir true."
            )
    return record


def check_run_folder(args: FineTuningArguments, inputs: Iterable[Source]) -> None:
    """Refuse to train into a folder where something would be lost.

    Args:
        args: their output_dir is missing, empty, of a finished run, or of one that was interrupted.
        inputs: the models and the files that the run reads.

    Raises:
        UserError: the folder is one of the inputs, or holds files that no run of this package has written.
    """
    folder = Path(str(args.output_dir))
    check_target_folder(folder, option="output_dir", written=RUN_FILES, ours=_is_run, inputs=inputs)
    finished = (folder / RESULTS_NAME).is_file() and not args.overwrite_output_dir
    if has_edited_card(folder) and not finished:
        raise UserError(
            f"output_dir {folder} holds a {CARD_NAME} that somebody has written or edited, and the run would "
            "replace it; move it or name another output_dir."
        )


def remove_results(folder: Path) -> None:
    """Remove what says how good the model of an earlier run is, so that it never stands beside another model."""
    for name in (RESULTS_NAME, REPORT_NAME, CARD_NAME):
        (folder / name).unlink(missing_ok=True)
    # Those of an embedder would say that another model behind them is one.
    for name in (ANALYSIS_NAME, *SENTENCE_FILES):
        path = folder / name.partition("/")[0]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: finished, not finished, or without the results.json that somebody deleted."""
    return (
        any((folder / name).is_file() for name in (RESULTS_NAME, UNFINISHED_NAME, BUDGET_NAME))
        or any((checkpoint / MANIFEST_NAME).is_file() for checkpoint in checkpoints(folder))
        or _has_card_of_a_run(folder)
    )


def _has_card_of_a_run(folder: Path) -> bool:
    """Whether a folder has a card that this package has written and nobody has edited since."""
    card = folder / CARD_NAME
    try:
        return card.is_file() and is_generated(read_text(card))
    except UserError:
        return False


def has_edited_card(folder: Path) -> bool:
    """Whether a folder has a card that somebody has written or edited."""
    return (folder / CARD_NAME).is_file() and not _has_card_of_a_run(folder)


def _check_output_dir(folder: Path) -> None:
    """Refuse a folder that cannot take the files of the end.

    Raises:
        UserError: names what is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir {folder} is a file, but must be a folder.")
    for name in (RESULTS_NAME, CARD_NAME, REPORT_NAME):
        if (folder / name).exists() and not (folder / name).is_file():
            raise UserError(f"{folder / name} is no file, but the run writes its {name} there.")
    analysis = folder / ANALYSIS_NAME
    if analysis.exists() and not analysis.is_dir():
        raise UserError(
            f"{analysis} is a file, but the run writes its answers into a folder there."
        )
    check_writable(folder, option="output_dir")
