"""The scores and answers of a teacher: from its own folder, from the teacher cache, or from an evaluation."""

from __future__ import annotations

import logging
from pathlib import Path

from transformers import PreTrainedModel

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.cache_folder import cache_folder
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.publish.report.data import ANALYSIS_NAME, PREDICTIONS_NAME
from itrd_nlp.tasks.jobs import evaluate as evaluation
from itrd_nlp.tasks.jobs.runs import optional, public_name
from itrd_nlp.tasks.task import Answers, Task, TaskData, read_answers
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.identity import weights_digest
from itrd_nlp.training.record import RESULTS_NAME, ModelRecord, RunRecord

logger = logging.getLogger(__name__)


def judge_teacher(
    task: Task, name: str, teacher: PreTrainedModel, data: TaskData, args: FineTuningArguments
) -> tuple[ModelRecord, Answers]:
    """The record of the teacher and its answers, from its own folder if that is about these weights and examples.

    The files of earlier versions have no digests. They are believed where the signatures agree, with a warning.
    """
    weights = weights_digest(teacher)
    known = RunRecord.read(name) or RunRecord()
    if known.weights not in (None, weights):
        if args.process_index == 0:
            logger.warning(
                "%s in %s is about other weights than those that lie there, so the teacher is evaluated anew.",
                RESULTS_NAME,
                name,
            )
        known = RunRecord()
    path = Path(name) / ANALYSIS_NAME / PREDICTIONS_NAME
    if _is_about(known, data, task) and path.is_file():
        answers = read_answers(path)
        if args.process_index == 0:
            _warn_without_digests(known, Path(name))
        _check_answers(task, answers, data, path)
    else:
        judged, answers = _kept_judgement(task, teacher, data, args)
        known = known.changed(**judged.as_json() | {"data_digest": judged.data_digest})
    kept = known.model_dump(include=set(ModelRecord.model_fields))
    unknown = dict.fromkeys(("eval_seconds", "license", "ms_per_question"))
    return ModelRecord(**kept | unknown | {"name": public_name(name), "weights": weights}), answers


def _is_about(record: RunRecord, data: TaskData, task: Task) -> bool:
    """Whether a model was judged on these examples by these metrics.

    Of a record without a digest the signature alone is known.
    """
    if record.signature != data.signature or record.data_digest not in (None, data.digest):
        return False
    return all(name in record.scores for name in task.measures.headings)


def _warn_without_digests(record: RunRecord, folder: Path) -> None:
    if record.weights is None or record.data_digest is None:
        logger.warning(
            "%s has no digests of weights and data, as those of earlier versions have none; its scores are believed.",
            folder / RESULTS_NAME,
        )


def _check_answers(task: Task, answers: Answers, data: TaskData, path: Path) -> None:
    """Do with the teacher's answers what is done with them after the training.

    Raises:
        UserError: they are no answers of this task.
    """
    try:
        task.breakdown(answers, data)
        task.disagreements(answers, answers, data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: an answer is none of the task {task.name} ({type(error).__name__}: {error}); delete the file to "
            "let the teacher answer again."
        ) from error


def _kept_judgement(
    task: Task, teacher: PreTrainedModel, data: TaskData, args: FineTuningArguments
) -> tuple[RunRecord, Answers]:
    """Scores and answers of the teacher, kept in the teacher cache for the other runs that share it.

    Several processes evaluate a teacher together, so none may find what another does not: they leave the cache aside.
    """
    kept = None
    itrd = args if isinstance(args, ITRDTrainingArguments) else None
    if itrd is not None and itrd.teacher_cache != "off" and args.world_size == 1:
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
        kept = cache_folder(teacher, itrd) / f"answers-{data.signature}-{precision}"
        try:
            judged = RunRecord.read(kept)
            if judged is not None and _is_about(judged, data, task):
                answers = read_answers(kept / PREDICTIONS_NAME)
                _warn_without_digests(judged, kept)
                return judged, answers
        except (OSError, UserError) as error:  # a cache may be lost, or be somebody else's
            reason = error.strerror if isinstance(error, OSError) else None
            sentence = f"{kept} cannot be read: {reason}." if reason else error
            logger.warning("%s The teacher is evaluated again.", sentence)
    judged = evaluation.judge(task, teacher, data, args)
    answers = dict(data.judge.predictions)
    if kept is not None:
        judged.weights = weights_digest(teacher)
        with optional(f"the teacher's answers in {kept}"):
            kept.mkdir(parents=True, exist_ok=True)
            write_json(kept / PREDICTIONS_NAME, answers)
            judged.write(kept)  # last: it says that both are there
    return judged, answers
