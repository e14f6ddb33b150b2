"""One process with a batch of 16, two with 8 and four with 4: the same losses, gradients and students.

Gradients in float32 are compared relative to the norm of the whole gradient, which is what clipping and the reader of
a log see: single tensors, such as the biases of the keys, have a gradient of zero that is rounding alone.
"""

from __future__ import annotations

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from itrd_nlp.losses import correlation_loss, mutual_information_loss
from itrd_nlp.training.checkpoints import damage

# Two processes show what goes wrong between them. Four take another minute.
several = pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
PAIRS, WIDTH = 2, 32


def assert_same_gradients(ours, expected, tolerance):
    """Each gradient within `tolerance` of the norm of all of them; none is one of zeros."""
    assert ours.keys() == expected.keys()
    norm = math.sqrt(sum(g.square().sum().item() for g in expected.values() if g is not None))
    assert norm > 1e-3
    for name, gradient in expected.items():
        if gradient is None:
            assert ours[name] is None or not ours[name].any(), name
            continue
        error = (ours[name] - gradient).abs().max().item()
        assert error <= tolerance * norm, (name, error / norm)


@several
@pytest.mark.parametrize("term", ["task", "kd", "corr", "mi", "all"])
def test_the_first_step_has_the_loss_and_the_gradients_of_one_process(found, processes, term):
    ours, one = found(processes)[0]["one step"][term], found(1)[0]["one step"][term]
    assert ours["wrapper"] == "DistributedDataParallel"
    names = {"loss", *one["logs"][0]} & {"loss", "task", "kd", "corr", "mi", "corr_1:2", "mi_2:4"}
    assert len(names) > 1
    for name in names:
        assert ours["logs"][0][name] == pytest.approx(one["logs"][0][name], rel=1e-6), name
    assert_same_gradients(ours["gradients"], one["gradients"], 1e-6)


@several
@pytest.mark.parametrize(
    "case",
    [
        "corr",
        "corr, narrow student",
        "corr, pooled",
        "corr, sequence",
        "corr, unbiased",
        "mi",
        "mi, log",
        "mi, narrow student",
        "mi, pooled",
        "mi, pooled, two texts a row",
    ],
)
def test_in_float64_the_gradients_agree_to_nine_digits(found, processes, case):
    ours, one = found(processes)[0]["exact"][case], found(1)[0]["exact"][case]
    assert next(g for g in one["gradients"].values() if g is not None).dtype == torch.float64
    in_float32 = "pooled" in case  # the view takes its means in float32 whatever comes in
    assert_same_gradients(ours["gradients"], one["gradients"], 1e-6 if in_float32 else 1e-9)


@several
def test_20_steps_end_with_the_same_student_and_projections(found, processes):
    ours, one = found(processes)[0]["20 steps"], found(1)[0]["20 steps"]
    names = set(one["weights"])
    assert {name.partition(".")[0] for name in names} == {"student", "objective"}
    for name in names:
        scale = one["weights"][name].abs().max().item()
        error = (ours["weights"][name] - one["weights"][name]).abs().max().item()
        assert error <= 1e-5 * max(scale, 1e-2), (name, error, scale)  # biases start at 0
    first, last = one["logs"][0], one["logs"][-1]
    assert last["corr"] < first["corr"] - 0.1  # it learned, so agreeing means something
    assert ours["logs"][-1]["corr"] == pytest.approx(last["corr"], rel=1e-5)


@several
def test_20_steps_leave_every_rank_with_the_same_bits(found, processes):
    first, *others = (result["20 steps"]["weights"] for result in found(processes))
    assert any(name.startswith("objective.projections") for name in first)
    for other in others:
        for name, value in first.items():
            assert torch.equal(other[name], value), name


@several
def test_ddp_neither_searches_for_unused_parameters_nor_warns_of_them(found, processes):
    results = found(processes)
    assert results[0]["20 steps"]["find_unused"] is False
    assert "find_unused_parameters" not in results[0]["stderr"]


def test_without_a_loss_on_the_logits_ddp_is_told_that_the_head_is_unused(found):
    one_step = found(2)[0]["one step"]
    assert one_step["corr"]["find_unused"] is True
    assert one_step["kd"]["find_unused"] is False


@several
def test_a_layer_that_no_loss_reads_is_found_before_the_first_step(found, processes):
    """DDP would stop in the second step. The run is that of one process, and the layer stays as it was."""
    ours, one = found(processes)[0]["an unused layer"], found(1)[0]["an unused layer"]
    assert ours["find_unused"] is True
    assert len(ours["logs"]) == 3
    unused = [name for name, gradient in one["gradients"].items() if gradient is None]
    assert unused == [f"student.bert.pooler.dense.{name}" for name in ("weight", "bias")]
    for mine, expected in zip(ours["logs"], one["logs"], strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, value in one["weights"].items():
        torch.testing.assert_close(ours["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)


@several
@pytest.mark.parametrize("way", ["split_batches", "even_batches", "ddp", "stream"])
def test_however_batches_reach_the_processes_the_student_is_that_of_one(found, processes, way):
    """Among them accelerator_config, the arguments of DDP, and a stream over several passes."""
    ours, one = found(processes)[0]["ways"][way], found(1)[0]["ways"][way]
    assert len(ours["logs"]) == len(one["logs"]) == (5 if way == "stream" else 2)
    for mine, expected in zip(ours["logs"], one["logs"], strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, value in one["weights"].items():
        torch.testing.assert_close(ours["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)


@several
@pytest.mark.parametrize(
    "case", ["uneven", "a rank without a valid sample", "a rank without a row"]
)
@pytest.mark.parametrize("loss", ["corr", "mi"])
def test_uneven_ranks_give_what_one_process_with_all_samples_gives(found, processes, case, loss):
    results = [result["on samples"]["losses"][case] for result in found(processes)]
    parts = [result["samples"] for result in results]
    student, teacher, mask = (
        torch.cat([part[name] for part in parts]) for name in ("student", "teacher", "mask")
    )
    student.requires_grad_()
    function = {"corr": correlation_loss, "mi": mutual_information_loss}[loss]
    value = function(student, teacher, mask=mask)
    value.backward()
    ours = [result[loss] for result in results]
    for value_of_rank, _ in ours:
        torch.testing.assert_close(value_of_rank, value.detach(), rtol=1e-12, atol=0)
    # Every rank's gradient is meant to be averaged, so it is `processes` times its share.
    gradient = torch.cat([gradient for _, gradient in ours]) / processes
    torch.testing.assert_close(gradient, student.grad, rtol=1e-10, atol=1e-14)


@several
def test_the_gradient_of_the_sum_is_that_of_torchs_differentiable_all_reduce(found, processes):
    for result in found(processes):
        for case in result["on samples"]["losses"].values():
            for ours, theirs in zip(case["corr"], case["corr by torch"], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@several
def test_samples_in_bf16_are_gathered_as_they_are(found, processes):
    for result in found(processes):
        rows, mask = result["on samples"]["bf16"]
        assert rows.dtype == torch.bfloat16
        assert rows[::2, 0].tolist() == list(range(processes))
        assert mask.tolist() == [True, False] * processes


@several
def test_what_the_losses_exchange_is_what_the_documentation_says(found, processes):
    """Bytes that each process gives into the collectives of one step in float32."""
    record = found(processes)[0]["exchanged"]
    counts, *statistics = record["all_reduce"]
    assert counts == 3 * 4  # labels, rows and tokens of the step
    assert statistics == [PAIRS * (2 * WIDTH + 1) * 4, PAIRS * 3 * WIDTH * 4]
    assert sum(statistics) == PAIRS * (5 * WIDTH + 1) * 4
    rows = 512 // processes
    samples, *log = record["all_gather"]
    assert samples == rows * (PAIRS * 2 * WIDTH + 1) * 4
    assert all(size < 100 for size in log)  # the trainer's own


@several
def test_predictions_are_those_of_one_process_each_example_once_and_in_order(found, processes):
    one = found(1)[0]["evaluated"]["predictions"]
    assert len(one) == 2  # start and end logits, no hidden states
    for result in found(processes):
        for ours, expected in zip(result["evaluated"]["predictions"], one, strict=True):
            assert len(expected) == 11
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@several
def test_all_ranks_stop_early_at_the_same_step_for_the_same_metric(found, processes):
    first, *others = (result["evaluated"]["stopped"] for result in found(processes))
    assert first[0] < 20
    assert all(other == first for other in others)


@several
def test_a_classifier_without_a_teacher_has_the_loss_and_the_gradient_of_one_process(
    found, processes
):
    assert found(processes)[0]["fine-tuned"] == pytest.approx(found(1)[0]["fine-tuned"], rel=1e-4)


@several
def test_every_process_knows_the_mean_loss_of_all_of_them(found, processes):
    (one,) = (result["unlogged"] for result in found(1))
    assert [result["unlogged"] for result in found(processes)] == pytest.approx(
        [one] * processes, rel=1e-5
    )


def test_a_signal_after_the_last_tenth_step_saves_the_last_step(found):
    """Process 1 is told to stop in step 12 of 15. Otherwise nothing would be left of a run without checkpoints."""
    for result in found(2):
        assert result["stopped"]["signal"] == signal.SIGTERM
        checkpoint = Path(result["stopped"]["checkpoint"])
        assert checkpoint.name == "checkpoint-15"
        assert damage(checkpoint) is None


def test_fsdp2_trains_in_shards_as_one_process_and_saves_a_student_that_loads(found):
    ours, one = found(2)[0]["sharded"], found(1)[0]["one step"]["all"]
    assert ours["wrapper"] == "FSDPDistillationModel"
    assert (ours["shards"], one["shards"]) == (4, 0)  # embeddings, two layers, the rest
    for name in ("task", "kd", "corr", "mi"):
        assert ours["logs"][0][name] == pytest.approx(one["logs"][0][name], rel=1e-6)
    assert_same_gradients(ours["gradients"], one["gradients"], 1e-6)
    assert ours["files"] == ["config.json", "model.safetensors"]
    assert ours["student's size"] == ours["size of the saved"] == one["student's size"]
    assert ours["judged"] == pytest.approx(found(1)[0]["judged"], rel=1e-6)
    trained = {n.removeprefix("student."): w for n, w in ours["weights"].items()}
    for name, value in ours["saved"].items():
        assert torch.equal(trained[name], value), name
