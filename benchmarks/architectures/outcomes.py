"""What a user meets who distils a model of some architecture: each step works, or is refused with one sentence."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, default_data_collator

from benchmarks.architectures.tiny import CANNOT, CannotBeMade, rows_for, tiny_model
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.teacher import Teacher
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.models.encode import encode, own_inputs
from itrd_nlp.models.students import build_student

STEPS = ("first", "uniform", "last", "training", "saving", "early exit", "cache", "narrower")
"""What is tried: students of each start, training with all terms, and so on."""

OK = "ok"
Outcome = dict[str, str]
"""Name of a step to ``ok`` or to the sentence that refuses it."""


def outcome(model_type: str, class_name: str, head: str) -> Outcome:
    """Try every step with a tiny model.

    Args:
        model_type: a type of transformers.
        class_name: its class with the head.
        head: a key of `benchmarks.architectures.tiny.HEADS`.

    Raises:
        CannotBeMade: there is no tiny model, or transformers itself cannot run it.
    """
    if model_type in CANNOT:
        raise CannotBeMade(CANNOT[model_type])
    teacher = tiny_model(model_type, class_name)
    rows = rows_for(teacher, head)
    _check_runs(teacher, rows)
    found: Outcome = {}
    student: PreTrainedModel | None = None
    with tempfile.TemporaryDirectory() as folder:
        for start in ("last", "uniform", "first"):
            found[start], built = _told(partial(_built, teacher, start, rows))
            student = built or student
        # Where no student can be built, the user makes one: here of the teacher's own shape.
        student = student if student is not None else tiny_model(model_type, class_name, seed=1)
        place = Path(folder)
        found["training"], _ = _told(partial(_train, student, teacher, rows, place))
        found["saving"], _ = _told(partial(_save, student, rows, place / "saved"))
        found["early exit"], _ = _told(partial(_exit_early, teacher, rows, place))
        found["cache"], _ = _told(partial(_cache, teacher, rows, place))
        found["narrower"], _ = _told(partial(_narrow, model_type, class_name, teacher, rows, place))
    return {step: found[step] for step in STEPS}


def _told(step: Callable[[], Any]) -> tuple[str, Any]:
    """Run a step. Return that it works, or the sentence that refuses it, and what the step has returned."""
    torch.manual_seed(0)
    try:
        return OK, step()
    except UserError as error:
        return str(error), None


def _check_runs(model: PreTrainedModel, rows: list[dict[str, Tensor]]) -> None:
    """Raises CannotBeMade if transformers itself cannot run the model on these rows."""
    try:
        with torch.no_grad():
            model(**own_inputs(model, default_data_collator(rows)))
    except Exception as error:
        raise CannotBeMade(f"{type(error).__name__}: {str(error).strip()[:160]}") from error


def _built(teacher: PreTrainedModel, start: str, rows: list[dict[str, Tensor]]) -> PreTrainedModel:
    """Build a student of half of the layers, and see that it is saved and read as it is."""
    student = build_student(teacher, 2, init=start, dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        _save(student, rows, Path(folder))
    return student


def _save(student: PreTrainedModel, rows: list[dict[str, Tensor]], folder: Path) -> None:
    """Save a model, load it by its class, and compare the weights and the logits.

    The logits may differ by rounding: a file puts weights at other addresses, where a kernel may sum in other steps.
    """
    student.eval().save_pretrained(folder)
    loaded = type(student).from_pretrained(folder).eval()
    weights, again = student.state_dict(), loaded.state_dict()
    for name, value in weights.items():
        assert torch.equal(value, again[name]), f"{name} differs after loading"
    expected, found = (_logits(model, rows) for model in (student, loaded))
    for name, value in expected.items():
        same = torch.allclose(value, found[name], rtol=1e-5, atol=1e-5)
        assert same, f"{name} differ after loading"


def _logits(model: PreTrainedModel, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    with torch.no_grad():
        torch.manual_seed(0)  # some attention draws its buckets
        return encode(model, default_data_collator(rows), [])[1].logits


def _arguments(folder: Path, **changes: Any) -> ITRDTrainingArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "teacher_cache": "off",
        "corr_view": "pooled",
        "mi_view": "pooled",
        "seed": 0,
    }
    return ITRDTrainingArguments(**(values | changes))


def _train(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: list[dict[str, Tensor]], folder: Path
) -> None:
    """Three steps with all terms. The teacher stays as it is, the student learns, and each term is a number."""
    before = copy.deepcopy(student.state_dict())
    frozen = copy.deepcopy(teacher.state_dict())
    trainer = ITRDTrainer(student, teacher, _arguments(folder), train_dataset=rows)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == 3
    for row in logged:
        for term in ("task", "kd", "corr", "mi"):
            assert torch.tensor(row[term]).isfinite(), f"{term} is {row[term]}"
    after = student.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before), "nothing is learned"
    now = teacher.state_dict()
    assert all(torch.equal(frozen[name], now[name]) for name in frozen), "the teacher has changed"


def _exit_early(teacher: PreTrainedModel, rows: list[dict[str, Tensor]], folder: Path) -> None:
    """A teacher without KD gives the states that a whole pass gives, whether it stops early or not."""
    args = _arguments(folder, w_kd=0.0)
    batch = {k: v for k, v in default_data_collator(rows).items() if k not in _LABELS}
    torch.manual_seed(0)
    found = Teacher(teacher, [1], args)(batch).hidden_states[1]
    with torch.no_grad():
        torch.manual_seed(0)
        expected = encode(teacher, batch, [1])[1].hidden_states[1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def _cache(teacher: PreTrainedModel, rows: list[dict[str, Tensor]], folder: Path) -> None:
    """What the cache reads is what the teacher has computed."""
    args = _arguments(folder, teacher_cache="on", teacher_cache_dir=str(folder / "cache"))
    batch = {k: v for k, v in default_data_collator(rows).items() if k not in _LABELS}
    run = Teacher(teacher, [1], args)
    computed, read = run(batch), run(batch)
    assert run.cache is not None and run.cache.hits == len(rows), "nothing is read from the cache"
    assert torch.equal(computed.hidden_states[1], read.hidden_states[1])
    assert all(torch.equal(value, read.logits[name]) for name, value in computed.logits.items())


def _narrow(
    model_type: str,
    class_name: str,
    teacher: PreTrainedModel,
    rows: list[dict[str, Tensor]],
    folder: Path,
) -> None:
    """A student of another width learns through projections."""
    student = tiny_model(model_type, class_name, seed=2, narrow=True)
    _train(student, teacher, rows, folder / "narrow")


_LABELS = ("labels", "start_positions", "end_positions")
