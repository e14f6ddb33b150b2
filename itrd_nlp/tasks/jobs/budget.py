"""Make it three times as fast: measure candidate students on this machine and choose the deepest one that fits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_json, writing
from itrd_nlp.models.loading import load_model_and_tokenizer
from itrd_nlp.models.onnx_export import PACKAGES, export_onnx
from itrd_nlp.models.onnx_model import GRAPHS, OnnxModel, require_packages
from itrd_nlp.models.onnx_weights import write_quantized
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.students import STUDENT_LAYERS, build_student, number_of_layers
from itrd_nlp.tasks.jobs.arguments import BudgetArguments, StudentArguments
from itrd_nlp.tasks.jobs.runs import check_lengths
from itrd_nlp.tasks.jobs.speed import AnyModel, milliseconds_per_question
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import BUDGET_NAME, CandidateRecord, runtimes_of, validated
from itrd_nlp.training.results import size
from itrd_nlp.training.roles import chosen_arguments
from itrd_nlp.training.terminal import print_table

EXAMPLES, ROUNDS, SECONDS = 16, 3, 10.0
"""Of the measurement of one depth: examples of all lengths, rounds, and seconds after which no further round begins."""


def within_budget(
    task: Task, model_args: StudentArguments, loading: LoadingArguments, args: FineTuningArguments
) -> tuple[StudentArguments, list[CandidateRecord]]:
    """Choose the depth of a student by its budget.

    The measurement is kept in output_dir, so that a training that was stopped goes on with the same depth, and another
    limit is not measured again.

    Args:
        task: with the examples on which time is measured.
        model_args: teacher, student and budget.
        loading: how the teacher is loaded.
        args: of the training: device and output_dir.

    Returns:
        The arguments with ``num_layers`` as chosen, and all that was measured, by depth. Where there is no budget the
        arguments as they are and nothing.

    Raises:
        UserError: no depth fits; the sentence names the nearest. Or the budget does not go with another argument.
    """
    model_args.check_budget()
    if not model_args.has_budget:
        return model_args, []
    _check(model_args, args)
    path = Path(str(args.output_dir)) / BUDGET_NAME
    without_limits = replace(model_args, speedup=None, max_ms=None, max_mb=None)
    asked = chosen_arguments((without_limits, loading, task.args))
    candidates = None if args.overwrite_output_dir else _kept(path, asked)
    if candidates is None:
        if args.world_size > 1:
            raise UserError(
                "speedup, max_ms and max_mb are measured by one process; run the command once with one process, and "
                "give the others the num_layers that it chooses."
            )
        candidates = measured(task, model_args, loading, device=args.device)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = [candidate.model_dump() for candidate in candidates]
            write_json(path, {"arguments": asked, "candidates": shown})
    if args.process_index == 0:
        _print_table(candidates, model_args, task)
    chosen = choose(candidates, model_args)
    if args.process_index == 0:
        print(f"num_layers {chosen}: the deepest student that fits {_described(model_args)}.")
    return replace(model_args, num_layers=chosen), candidates


def choose(candidates: Sequence[CandidateRecord], budget: BudgetArguments) -> int:
    """The number of layers of the deepest candidate that fits a budget.

    Args:
        candidates: measured.
        budget: the budget.

    Raises:
        UserError: none fits; the sentence names the nearest, by the part that is furthest beyond its limit.
    """
    runtime = budget.budget_runtime
    excess = {c.layers: max(_shares(c, budget).values()) for c in candidates}
    fitting = [layers for layers, share in excess.items() if share <= 1]
    if fitting:
        return max(fitting)
    nearest = min(candidates, key=lambda c: excess[c.layers])
    raise UserError(
        f"no student of this teacher fits {_described(budget)}: the nearest has {_layers(nearest.layers)}, which take "
        f"{nearest.ms[runtime]:.3g} ms ({nearest.speedup(runtime):.2f} times as fast as the teacher) and "
        f"{nearest.megabytes[runtime]:.3g} MB in {runtime}."
    )


def measured(
    task: Task,
    model_args: StudentArguments,
    loading: LoadingArguments,
    *,
    device: Any = "cpu",
) -> list[CandidateRecord]:
    """Time and size of each candidate depth, in torch, ONNX and int8, each beside the teacher in torch.

    Weights decide nothing about time and size, so the candidates are not trained.

    Args:
        task: with the examples.
        model_args: teacher, start of the student, and candidate depths.
        loading: how the teacher is loaded.
        device: of the models in torch. Those of ONNX run on the CPU.

    Returns:
        The candidates, from the shallowest on. ONNX and int8 are missing where the extra ``export`` is not installed or
        torch cannot export the model, unless the budget is about them.

    Raises:
        UserError: a candidate cannot be made, or not in the runtime that the budget is about.
    """
    teacher, tokenizer = load_model_and_tokenizer(
        model_args.teacher, role="teacher", args=loading, head=task.head
    )
    total = number_of_layers(teacher)
    depths = sorted(set(model_args.candidate_layers)) or list(range(1, total))
    if not depths:
        raise UserError(
            "candidate_layers is not set, but the teacher has 1 layer, so that no student has fewer; set it to 1."
        )
    if depths[-1] > total:
        raise UserError(
            f"candidate_layers are {depths}, but those of this teacher are from 1 to {total}."
        )
    task.judged_beside(teacher, teacher)
    data = task.load(tokenizer, teacher, training=False)
    check_lengths(teacher, data)
    teacher.to(device)
    found = []
    for layers in depths:
        student = build_student(teacher, layers, init=model_args.student_init).eval()
        status = Console(stderr=True).status(f"Measuring a student of {_layers(layers)}")
        with status, tempfile.TemporaryDirectory() as folder:
            forms, megabytes = _forms(student, tokenizer, Path(folder), model_args.budget_runtime)
            student.to(device)
            found.append(_candidate(layers, teacher, forms, megabytes, data))
    return found


def _candidate(
    layers: int,
    teacher: PreTrainedModel,
    forms: Mapping[str, AnyModel],
    megabytes: dict[str, float],
    data: TaskData,
) -> CandidateRecord:
    """One depth, timed in turn with the teacher, so that a busy machine slows both alike."""
    milliseconds = milliseconds_per_question(
        {"teacher": teacher, **forms},
        data.evaluation,
        data.collator,
        questions=EXAMPLES,
        rounds=ROUNDS,
        seconds=SECONDS,
    )
    return CandidateRecord(
        layers=layers,
        teacher_ms=milliseconds.pop("teacher"),
        ms=milliseconds,
        megabytes=megabytes,
    )


def _forms(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, wanted: str
) -> tuple[dict[str, AnyModel], dict[str, float]]:
    """A student in torch, ONNX, int8 and, where the budget is about it, int4, and the size of each."""
    forms: dict[str, AnyModel] = {"torch": student}
    megabytes = {"torch": float(size(student)["megabytes_fp32"])}
    quantized = ["int8", *(["int4"] if wanted == "int4" else [])]
    try:
        require_packages(*PACKAGES)
        export_onnx(student, tokenizer, folder / "onnx")
        for name in quantized:
            (folder / name).mkdir()
            write_quantized(folder / "onnx", folder / name, name)
    except UserError:
        if wanted != "torch":
            raise
        return forms, megabytes
    for name, weights in (("onnx", "fp32"), *zip(quantized, quantized, strict=True)):
        forms[name] = OnnxModel.from_pretrained(folder / name)
        megabytes[name] = round((folder / name / GRAPHS[weights]).stat().st_size / 1e6, 1)
    return forms, megabytes


def _check(model_args: StudentArguments, args: FineTuningArguments) -> None:
    """Refuse arguments that contradict a depth that is chosen."""
    if model_args.student is not None:
        raise UserError(
            f"student is {model_args.student}, but {_described(model_args)} chooses the depth of a student made from "
            "the teacher; give one of the two."
        )
    init = model_args.student_init
    if len(init) != 1 or init[0] not in STUDENT_LAYERS:
        raise UserError(
            f"student_init is {init}, but {_described(model_args)} chooses the number of layers; "
            f"give one of {', '.join(STUDENT_LAYERS)}."
        )
    if model_args.budget_runtime != "torch":
        require_packages(*PACKAGES)


def _kept(path: Path, asked: dict[str, Any]) -> list[CandidateRecord] | None:
    """An earlier measurement for the same arguments, None where there is none."""
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("arguments") != asked:
        return None
    return validated(path, list[CandidateRecord], content.get("candidates"))


def _shares(candidate: CandidateRecord, budget: BudgetArguments) -> dict[str, float]:
    """Each limit of a budget to the share of it that a candidate uses; above 1: it does not fit."""
    runtime, shares = budget.budget_runtime, {}
    if budget.speedup is not None:
        shares["speedup"] = budget.speedup / candidate.speedup(runtime)
    if budget.max_ms is not None:
        shares["max_ms"] = candidate.ms[runtime] / budget.max_ms
    if budget.max_mb is not None:
        shares["max_mb"] = candidate.megabytes[runtime] / budget.max_mb
    return shares


def _described(budget: BudgetArguments) -> str:
    limits = (("speedup", budget.speedup), ("max_ms", budget.max_ms), ("max_mb", budget.max_mb))
    parts = [f"{name} {value:g}" for name, value in limits if value is not None]
    return f"{' and '.join(parts)} in {budget.budget_runtime}"


def _layers(number: int) -> str:
    return f"{number} layer{'s' if number > 1 else ''}"


def _print_table(
    candidates: Sequence[CandidateRecord], budget: BudgetArguments, task: Task
) -> None:
    """Print what was measured, a row a depth. The cells of a runtime in which a depth was not measured are empty."""
    runtimes = runtimes_of(candidates)
    threads = torch.get_num_threads()
    numbers = ["layers"]
    for runtime in runtimes:
        numbers += [f"{runtime} ms/{task.page.one}", "times", "MB"]
    rows = []
    for candidate in candidates:
        cells = []
        for runtime in runtimes:
            if runtime in candidate.ms:
                cells += [f"{candidate.ms[runtime]:.1f}", f"{candidate.speedup(runtime):.2f}"]
                cells.append(f"{candidate.megabytes[runtime]:.1f}")
            else:
                cells += [""] * 3
        fits = max(_shares(candidate, budget).values()) <= 1
        rows.append([str(candidate.layers), *cells, "yes" if fits else "no"])
    print_table(
        f"Candidates, {threads} threads, batch size 1",
        [*((heading, "right") for heading in numbers), ("fits", "left")],
        rows,
    )
