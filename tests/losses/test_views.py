import pytest
import torch

from itrd_nlp.errors import UserError
from itrd_nlp.losses.views import draw_samples, to_samples

HIDDEN = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4)
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_tokens_are_the_valid_tokens_of_the_whole_batch():
    samples, mask = to_samples(HIDDEN, MASK, "tokens")
    valid = samples[mask]
    assert samples.shape == (6, 4)
    assert torch.equal(valid, torch.cat([HIDDEN[0, :2], HIDDEN[1]]))


def test_sequence_keeps_the_sequences_apart():
    samples, mask = to_samples(HIDDEN, MASK, "sequence")
    assert torch.equal(samples, HIDDEN)
    assert mask.tolist() == [[True, True, False], [True, True, True]]


def test_pooled_is_the_mean_over_the_valid_tokens():
    samples, mask = to_samples(HIDDEN, MASK, "pooled")
    assert torch.allclose(samples, torch.stack([HIDDEN[0, :2].mean(0), HIDDEN[1].mean(0)]))
    assert mask.tolist() == [True, True]


def test_pooled_ignores_garbage_in_the_padding_and_sequences_of_padding_alone():
    hidden = HIDDEN.clone()
    hidden[0, 2] = float("nan")
    samples, _ = to_samples(hidden, MASK, "pooled")
    assert samples.isfinite().all()
    samples, mask = to_samples(hidden, torch.zeros_like(MASK), "pooled")
    assert samples.isfinite().all()
    assert not mask.any()


def test_pooled_averages_bf16_in_fp32():
    hidden = torch.full((1, 512, 1), 1.0078125, dtype=torch.bfloat16)  # sums of 512 exceed bf16
    samples, _ = to_samples(hidden, torch.ones(1, 512), "pooled")
    assert samples.item() == 1.0078125


def test_an_unknown_view_is_refused():
    with pytest.raises(UserError, match="view is 'words', but must be one of tokens, sequence"):
        to_samples(HIDDEN, MASK, "words")


def test_draws_are_distinct_valid_samples_and_anew_each_time():
    mask = torch.rand(500) < 0.5
    first, second = draw_samples(mask, 50), draw_samples(mask, 50)
    assert mask[first].all()
    assert len(first.unique()) == 50
    assert set(first.tolist()) != set(second.tolist())


def test_the_first_of_a_draw_are_a_draw_themselves():
    mask = torch.tensor([True, False] * 250)
    drawn = draw_samples(mask, 400)
    assert mask[drawn].tolist() == [True] * 250 + [False] * 150
    assert drawn[:20].tolist() != sorted(drawn[:20].tolist())


def test_draws_are_uniform_over_the_valid_samples():
    mask = torch.tensor([True, True, False, True, True])
    torch.manual_seed(0)
    counts = torch.zeros(5)
    for _ in range(2000):
        counts[draw_samples(mask, 2)] += 1
    assert counts[2] == 0
    assert (counts[mask] / 2000 - 0.5).abs().max() < 0.05


def test_too_few_valid_samples_are_filled_with_masked_ones_so_that_the_shape_is_fixed():
    mask = torch.tensor([False, True, False, True])
    drawn = draw_samples(mask, 3)
    assert len(drawn) == 3
    assert mask[drawn].sum() == 2
    assert len(draw_samples(mask, 100)) == 4


def test_pooled_averages_float64_in_float64():
    hidden = HIDDEN.double() + 1e-12 * torch.arange(HIDDEN.shape[1]).view(1, -1, 1)
    samples, _ = to_samples(hidden, MASK, "pooled")
    kept = MASK.bool().unsqueeze(-1)
    expected = torch.where(kept, hidden, 0.0).sum(1) / kept.sum(1).clamp(min=1)
    assert samples.dtype == torch.float64
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-15)
