"""The peer NVIDIA ModelOpt computes the losses that the benchmark names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax, mse_loss

pytest.importorskip("modelopt", reason="pip install nvidia-modelopt")


def test_its_losses_are_those_of_mapped_layers_and_of_the_logits(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    from benchmarks.peers import modelopt_squad
    from benchmarks.training import random_models
    from benchmarks.windows import random_collator, random_windows

    teacher, student = random_models("tiny", 2, attention="eager")
    batch = random_collator()(random_windows([50] * 4).to_list())
    with torch.no_grad():
        theirs = teacher.eval()(**batch, output_hidden_states=True)
        ours = student.eval()(**batch, output_hidden_states=True)
    wrapped = modelopt_squad._wrapped(student, teacher)
    loss = wrapped(**batch).loss
    found = wrapped.compute_kd_loss(student_loss=loss, skip_balancer=True)
    expected = [loss]
    for layer in (1, 2):
        expected.append(mse_loss(ours.hidden_states[layer], theirs.hidden_states[2 * layer]))
    divergences = [
        4
        * kl_div(
            log_softmax(ours[name] / 2, -1),
            log_softmax(theirs[name] / 2, -1),
            reduction="batchmean",
            log_target=True,
        )
        for name in ("start_logits", "end_logits")
    ]
    expected.append(sum(divergences) / 2)
    torch.testing.assert_close(list(found.values()), expected)


def test_its_teacher_is_in_bf16_where_ours_is(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    from benchmarks.peers import modelopt_squad
    from benchmarks.training import random_models
    from benchmarks.windows import random_collator, random_windows

    teacher, student = random_models("tiny", 2, attention="eager")
    clock = modelopt_squad.train(
        teacher,
        student,
        random_windows([16] * 4),
        random_collator(),
        bf16=True,
        max_steps=2,
        per_device_train_batch_size=2,
    )
    assert len(clock.ended) == 2
    assert teacher.dtype == torch.bfloat16
    assert student.dtype == torch.float32
