"""Properties that every peer has, whatever its formula."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from itrd_nlp.errors import UserError
from itrd_nlp.losses import peers
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers import Sizes


def run(peer, student, teacher, mask, gradients_of):
    peer.zero_grad()
    loss = peer(student, teacher, mask)
    loss.backward()
    return loss, gradients_of(student), [p.grad for p in peer.parameters()]


def test_padding_never_counts(draw, pad, make_peer, peer_class, gradients_of):
    """Longer padding of other garbage: same loss, same gradients, none where there is padding."""
    ragged_s, ragged_t = draw()
    peer = make_peer(peer_class)
    results = []
    for length, fill in ((5, float("nan")), (9, 1e4)):
        student, mask = pad(ragged_s, length, fill, grad=True)
        teacher, _ = pad(ragged_t, length, fill)
        loss, grads, own = run(peer, student, teacher, mask, gradients_of)
        for grad in grads:
            if grad is not None:
                assert not grad[mask == 0].any()
        results.append((loss, [g if g is None else g[:, :5] for g in grads], own))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_padding_on_the_left_counts_no_more(draw, pad, make_peer, peer_class):
    ragged_s, ragged_t = draw((3, 3, 3))
    (student, mask), (teacher, _) = pad(ragged_s, 5), pad(ragged_t, 5)

    def shifted(output):
        return dataclasses.replace(
            output,
            hidden_states={n: z.roll(2, dims=1) for n, z in output.hidden_states.items()},
            attention={
                n: dataclasses.replace(a, **{k: x.roll(2, dims=1) for k, x in vars(a).items()})
                for n, a in output.attention.items()
            },
        )

    peer = make_peer(peer_class)
    left = peer(shifted(student), shifted(teacher), mask.roll(2, dims=1))
    torch.testing.assert_close(left, peer(student, teacher, mask))


def test_the_student_learns_and_so_does_every_parameter(
    draw, pad, make_peer, peer_class, gradients_of
):
    (student, mask), (teacher, _) = (pad(x, grad=True) for x in draw())
    peer = make_peer(peer_class)
    _, grads, own = run(peer, student, teacher, mask, gradients_of)
    assert any(g is not None and g.abs().sum() > 0 for g in grads)
    assert all(g is not None and g.isfinite().all() for g in own)
    assert all(g is None for g in gradients_of(teacher))


def test_a_step_along_the_gradient_makes_the_loss_smaller(
    draw, pad, make_peer, peer_class, gradients_of
):
    """By as much as the gradient says, so that it is the gradient of this loss."""
    ragged_s, ragged_t = draw()
    teacher, mask = pad(ragged_t)
    student, _ = pad(ragged_s, grad=True)
    peer = make_peer(peer_class)
    loss, grads, _ = run(peer, student, teacher, mask, gradients_of)
    size = sum(g.square().sum() for g in grads if g is not None).item()
    step = 3e-3 / size**0.5
    with torch.no_grad():
        states = [
            x
            for layer, hidden in student.hidden_states.items()
            for x in (hidden, *vars(student.attention[layer]).values())
        ]
        for x, grad in zip(states, grads, strict=True):
            if grad is not None:
                x -= step * grad
        fallen = (loss - peer(student, teacher, mask)).item()
    # The absolute part is the rounding of a loss near 2 in float32.
    assert fallen == pytest.approx(step * size, rel=0.05, abs=6e-7)


@pytest.mark.parametrize("lengths", [(1,), (3,), (1, 1)], ids=str)
def test_few_tokens_give_finite_numbers(draw, pad, make_peer, peer_class, gradients_of, lengths):
    (student, mask), (teacher, _) = (pad(x, length=4, grad=True) for x in draw(lengths))
    loss, grads, own = run(make_peer(peer_class), student, teacher, mask, gradients_of)
    assert loss.isfinite()
    assert all(g is None or g.isfinite().all() for g in grads)
    assert all(g is not None and g.isfinite().all() for g in own)


def test_equal_sequences_and_states_of_zero_give_finite_gradients(
    draw, pad, make_peer, peer_class, gradients_of
):
    ragged_s, ragged_t = draw((3, 3, 3, 2))
    for ragged in (ragged_s, ragged_t):
        for sequences in ragged.values():
            sequences[1] = sequences[0]
            sequences[2] = {kind: torch.zeros_like(x) for kind, x in sequences[2].items()}
    (student, mask), (teacher, _) = pad(ragged_s, grad=True), pad(ragged_t)
    loss, grads, own = run(make_peer(peer_class), student, teacher, mask, gradients_of)
    assert loss.isfinite()
    assert all(g is None or (g.isfinite().all() and g.abs().max() < 1e4) for g in grads)
    assert all(g.isfinite().all() for g in own)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=str)
def test_a_token_that_is_no_number_shows_in_the_loss(draw, pad, make_peer, peer_class, bad):
    """A loss of 0 would hide it, while its gradient ruins the student."""
    for who in (0, 1):
        ragged = draw()
        for sequences in ragged[who].values():
            for x in sequences[0].values():
                x[0, 0] = bad
        (student, mask), (teacher, _) = (pad(x) for x in ragged)
        assert not make_peer(peer_class)(student, teacher, mask).isfinite()


def test_a_sequence_of_padding_alone_is_as_if_it_were_not_there(draw, pad, make_peer, peer_class):
    ragged_s, ragged_t = draw((4, 3, 2))
    peer = make_peer(peer_class)
    (student, mask), (teacher, _) = pad(ragged_s), pad(ragged_t)
    expected = peer(student, teacher, mask)
    for ragged in (ragged_s, ragged_t):
        for sequences in ragged.values():
            sequences.append({kind: x[:0] for kind, x in sequences[0].items()})
    (student, mask), (teacher, _) = pad(ragged_s), pad(ragged_t)
    torch.testing.assert_close(peer(student, teacher, mask), expected)
    assert peer(student, teacher, 0 * mask).isfinite()


def test_statistics_are_in_float32_under_autocast(draw, pad, make_peer, peer_class):
    """An input in bfloat16 gives the loss of the same numbers in float32."""
    ragged_s, ragged_t = draw()
    peer = make_peer(peer_class)
    (low_s, mask), (low_t, _) = (pad(x, dtype=torch.bfloat16) for x in (ragged_s, ragged_t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = peer(low_s, low_t, mask)
    for ragged in (ragged_s, ragged_t):
        for sequence in (sequence for sequences in ragged.values() for sequence in sequences):
            for kind, x in sequence.items():
                sequence[kind] = x.bfloat16().double()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, peer(pad(ragged_s)[0], *pad(ragged_t)))


def test_a_teacher_in_inference_mode_will_do(draw, pad, make_peer, peer_class):
    ragged_s, ragged_t = draw()
    student, mask = pad(ragged_s, grad=True)
    with torch.inference_mode():
        teacher, _ = pad(ragged_t)
    make_peer(peer_class)(student, teacher, mask).backward()


def test_a_student_that_is_its_teacher_has_nothing_to_learn(draw, pad, make_peer, peer_class):
    if peer_class in (peers.FitNet, peers.CRD, peers.VID, peers.VkD):
        pytest.skip("has a regressor that must be learned first")
    if peer_class is peers.SRD:
        pytest.skip("has a logarithm whose minimum is below 0")
    ragged, _ = draw()
    student, mask = pad(ragged)
    teacher, _ = pad({2: ragged[1], 4: ragged[2]})
    assert make_peer(peer_class, teacher_width=6)(student, teacher, mask).abs() < 1e-6


def test_tinybert_needs_as_many_heads_in_student_and_teacher():
    pairs = [LayerPair(1, 2)]
    with pytest.raises(UserError, match=r"TinyBERT.*student has 6 heads and the teacher 12"):
        peers.TinyBERT(Sizes(384, 768, 6, 12), pairs)
    assert peers.MiniLMv2(Sizes(384, 768, 6, 12), pairs).heads == 48
    assert peers.MiniLMv2(Sizes(312, 768, 12, 12), pairs).heads == 24


def test_embeddings_have_no_attention(draw, pad):
    """TinyBERT compares their hidden states alone, MiniLMv2 has nothing to compare."""
    pair = [LayerPair(0, 0)]
    with pytest.raises(UserError, match=r"MiniLMv2.*0:0 and layer 0"):
        peers.MiniLMv2(Sizes(6, 6, 2, 2), pair)
    ragged_s, ragged_t = draw(teacher_width=6)
    (student, mask), (teacher, _) = pad({0: ragged_s[1]}), pad({0: ragged_t[2]})
    student.attention, teacher.attention = {}, {}
    loss = peers.TinyBERT(Sizes(6, 6, 2, 2), pair)(student, teacher, mask)
    expected = peers.HiddenMSE(Sizes(6, 6, 2, 2), pair)(student, teacher, mask)
    torch.testing.assert_close(loss, expected)


def test_peers_do_not_need_transformers():
    code = "import sys; sys.modules['transformers'] = None; import itrd_nlp.losses.peers"
    subprocess.run([sys.executable, "-c", code], check=True)
