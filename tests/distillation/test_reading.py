"""All layer pairs at once, as a GPU reads them, are the layer pairs one by one, with fewer kernels."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from itrd_nlp.distillation import reading
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair

ROWS, LENGTH = 4, 12
NO_KERNELS = {
    *("view", "_unsafe_view", "transpose", "t", "expand", "slice", "select", "permute"),
    *("unsqueeze", "squeeze", "detach", "alias", "split", "split_with_sizes", "as_strided"),
    *("unbind", "chunk", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("scalar_tensor", "lift_fresh", "promote_types"),
}
"""Operations that start nothing on a GPU."""


class Kernels(TorchDispatchMode):
    """Counts the operations that a GPU would run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.overloadpacket.__name__
        if name not in NO_KERNELS:
            self.found[name] += 1
        return op(*args, **(kwargs or {}))


def objective(pairs: int, d_s: int, d_t: int, **arguments: Any) -> ITRDObjective:
    torch.manual_seed(0)
    made = ITRDObjective(
        [LayerPair(i, 2 * i) for i in range(1, pairs + 1)],
        student_size=d_s,
        teacher_size=d_t,
        args=ITRDTrainingArguments(output_dir="unused", w_kd=0, w_task=0, **arguments),
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)  # no projection is that of another pair
    return made


def outputs(
    pairs: int, d_s: int, d_t: int, dtype: torch.dtype = torch.float64
) -> tuple[EncoderOutput, EncoderOutput, Tensor]:
    torch.manual_seed(1)
    ours = {i: torch.randn(ROWS, LENGTH, d_s, dtype=dtype) for i in range(1, pairs + 1)}
    theirs = {2 * i: torch.randn(ROWS, LENGTH, d_t, dtype=dtype) for i in range(1, pairs + 1)}
    mask = torch.arange(LENGTH) < torch.tensor([[12], [7], [9], [4]])
    for states in (*ours.values(), *theirs.values()):
        states[~mask] = float("nan")
    for states in ours.values():
        states.requires_grad_()
    return EncoderOutput({}, ours), EncoderOutput({}, theirs), mask


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "gains_from_few_kernels", lambda device: True)


def terms_and_gradients(
    made: ITRDObjective, pairs: int, d_s: int, d_t: int
) -> tuple[dict[str, Tensor], list[Tensor]]:
    made = made.double()
    student, teacher, mask = outputs(pairs, d_s, d_t)
    torch.manual_seed(2)  # of the draw
    terms = made(student, teacher, None, mask, BatchShare())
    inputs = [*student.hidden_states.values(), *made.parameters()]
    return terms, list(torch.autograd.grad(terms["loss"], inputs))


@pytest.mark.parametrize("samples", [(16, 8), (8, 16), (2048, 512)], ids=str)
@pytest.mark.parametrize(("d_s", "d_t"), [(6, 6), (6, 10)])
@pytest.mark.parametrize(
    "more", [{}, {"beta_mi": 0}, {"beta_corr": 0}, {"layer_reduction": "mean", "mi_log": True}]
)
def test_at_once_the_terms_and_their_gradients_are_those_of_the_pairs_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
    samples: tuple[int, int],
    d_s: int,
    d_t: int,
    more: dict[str, Any],
) -> None:
    """In float64, with padding that holds NaN, and for more and fewer samples than there are tokens."""
    arguments = {"corr_max_samples": samples[0], "mi_max_samples": samples[1], **more}
    expected, gradients = terms_and_gradients(objective(3, d_s, d_t, **arguments), 3, d_s, d_t)
    read: list[Any] = []
    original = reading.PairReader._at_once
    monkeypatch.setattr(
        reading.PairReader, "_at_once", lambda *a, **k: read.append(original(*a, **k)) or read[0]
    )
    monkeypatch.setattr(reading, "gains_from_few_kernels", lambda device: True)
    found, of_found = terms_and_gradients(objective(3, d_s, d_t, **arguments), 3, d_s, d_t)
    assert len(read) == 1
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    for ours, theirs in zip(of_found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "arguments",
    [
        {"corr_view": "sequence"},
        {"mi_view": "pooled"},
        {"corr_view": "pooled", "mi_view": "pooled"},
    ],
    ids=str,
)
def test_other_views_are_read_pair_by_pair(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    expected, gradients = terms_and_gradients(objective(3, 6, 6, **arguments), 3, 6, 6)
    monkeypatch.setattr(reading, "gains_from_few_kernels", lambda device: True)
    monkeypatch.setattr(reading.PairReader, "_at_once", lambda *a, **k: pytest.fail("at once"))
    found, of_found = terms_and_gradients(objective(3, 6, 6, **arguments), 3, 6, 6)
    assert {name: value.item() for name, value in found.items()} == {
        name: value.item() for name, value in expected.items()
    }
    assert all(map(torch.equal, of_found, gradients))


def read(
    student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None, *, pairs: list[LayerPair]
) -> reading.Read:
    """Read 4 tokens for the correlation loss and 2 for the MI loss."""
    made = objective(len(pairs), 6, 6, corr_max_samples=4, mi_max_samples=2).double()
    reader = reading.PairReader(made.args, pairs, made.widths, list(made.projections))
    torch.manual_seed(3)
    return reader.read(student, teacher, mask, release=True)


def assert_same(ours: reading.Read, theirs: reading.Read) -> None:
    """One group of all pairs, and the groups of one pair each, hold the same samples."""
    for (together,), apart in zip(ours, theirs, strict=True):
        assert len(together.student) == len(apart) > 1
        for i, group in enumerate(apart):
            for name in ("student", "teacher"):
                found, expected = getattr(together, name)[i], getattr(group, name)[0]
                kept = together.valid
                torch.testing.assert_close(found[kept], expected[kept], rtol=1e-10, atol=1e-12)
            assert torch.equal(together.valid, group.valid)


@pytest.mark.parametrize("masks", ["none", "student", "teacher", "both"])
def test_at_once_the_masks_of_both_models_count_and_read_layers_are_taken_out(
    monkeypatch: pytest.MonkeyPatch, masks: str
) -> None:
    """A layer that two pairs read is taken out once, and one that no pair reads stays."""
    pairs = [LayerPair(1, 2), LayerPair(1, 4), LayerPair(2, 6)]

    def states() -> tuple[EncoderOutput, EncoderOutput, Tensor | None]:
        student, teacher, mask = outputs(3, 6, 6)
        for output in (student, teacher):
            for layer, state in output.hidden_states.items():
                output.hidden_states[layer] = state.detach().nan_to_num(7.0)
        if masks in ("teacher", "both"):
            teacher.mask = torch.arange(LENGTH) >= torch.tensor([[2], [0], [1], [0]])
        return student, teacher, mask if masks in ("student", "both") else None

    student, teacher, mask = states()
    apart = read(student, teacher, mask, pairs=pairs)
    assert list(student.hidden_states) == [3]
    monkeypatch.setattr(reading, "gains_from_few_kernels", lambda device: True)
    student, teacher, mask = states()
    assert_same(read(student, teacher, mask, pairs=pairs), apart)
    assert list(student.hidden_states) == [3]


@pytest.mark.usefixtures("at_once")
def test_states_of_two_types_are_read_pair_by_pair() -> None:
    """Under autocast the embeddings are in fp32 and the layers are not."""
    made = objective(2, 6, 6)
    student, teacher, _ = outputs(2, 6, 6, torch.float32)
    reader = reading.PairReader(made.args, made.pairs, made.widths, list(made.projections))
    assert reader._can_read_at_once(student, teacher)
    student.hidden_states[1] = student.hidden_states[1].bfloat16()
    assert not reader._can_read_at_once(student, teacher)


@pytest.mark.usefixtures("at_once")
def test_layers_of_other_lengths_or_projections_of_another_kind_are_read_pair_by_pair() -> None:
    made = objective(2, 6, 6).double()
    student, teacher, _ = outputs(2, 6, 6)
    reader = reading.PairReader(made.args, made.pairs, made.widths, list(made.projections))
    assert reader._can_read_at_once(student, teacher)
    wrapped = [torch.nn.Sequential(layer) for layer in made.projections]
    other = reading.PairReader(made.args, made.pairs, made.widths, wrapped)
    assert not other._can_read_at_once(student, teacher)
    for change in (
        # as ZeRO-3 leaves a weight that lies on other devices, and as it marks one that is here
        lambda layer: setattr(layer, "weight", torch.nn.Parameter(torch.empty(0))),
        lambda layer: setattr(layer.weight, "ds_id", 3),
        lambda layer: setattr(layer, "forward", layer.forward),  # as accelerate's hooks
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
    ):
        layer = torch.nn.Linear(6, 6).double()
        assert reading._is_plain(layer, (6, 6))
        change(layer)
        other = reading.PairReader(made.args, made.pairs, made.widths, [layer] * 2)
        assert not other._can_read_at_once(student, teacher)
    student.hidden_states[2] = student.hidden_states[2][:, :8]
    teacher.hidden_states[4] = teacher.hidden_states[4][:, :8]
    assert not reader._can_read_at_once(student, teacher)


@pytest.mark.usefixtures("at_once")
def test_a_compiled_objective_reads_at_once_too() -> None:
    made = objective(3, 6, 6, corr_max_samples=16, mi_max_samples=8).double()
    compiled = torch.compile(made, backend="eager")
    losses = []
    for run in (made, compiled):
        student, teacher, mask = outputs(3, 6, 6)
        torch.manual_seed(2)
        losses.append(run(student, teacher, None, mask, BatchShare())["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def kernels(pairs: int) -> int:
    """Kernels of the objective, forward and backward, on a device from which no number can be read."""
    made = objective(pairs, 6, 6, corr_max_samples=16, mi_max_samples=8).to("meta")
    ours, theirs, mask = outputs(pairs, 6, 6, torch.float32)
    for output in (ours, theirs):
        for layer, state in output.hidden_states.items():
            output.hidden_states[layer] = state.detach().to("meta")
    for state in ours.hidden_states.values():
        state.requires_grad_()
    with Kernels() as counted:
        made(ours, theirs, None, mask.to("meta"), BatchShare())["loss"].backward()
    return counted.found.total()


def test_one_more_pair_starts_few_more_kernels_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens are drawn from both models, and their gradient goes back to them; all else is done for all pairs."""
    # autocast knows no meta device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    of_two, of_six = kernels(2), kernels(6)
    assert of_six - of_two <= 4 * 7
    monkeypatch.setattr(reading, "gains_from_few_kernels", lambda device: False)
    assert kernels(6) - of_six > 40
