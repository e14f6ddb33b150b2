"""`layer_similarity` against CKA by Gram matrices and correlations by numpy, on all hidden states at once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from itrd_nlp.errors import UserError
from itrd_nlp.models.similarity import layer_similarity, similarity_bytes


@pytest.fixture
def batches(make_rows, collate):
    """Three batches of different lengths, labels in them as a collator leaves them there."""
    rows = make_rows(12)
    return [collate(rows[:5]), collate(rows[5:7]), collate(rows[7:])]


def all_hidden_states(model, batches):
    """Every layer at every token that is not padding: a list of (n, d) arrays in float64."""
    parts = []
    for batch in batches:
        names = ("input_ids", "attention_mask", "token_type_ids")
        with torch.no_grad():
            states = model.eval()(**{k: batch[k] for k in names}, output_hidden_states=True)
        valid = batch["attention_mask"] == 1
        parts.append([state[valid].double().numpy() for state in states.hidden_states])
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def cka_by_gram_matrices(x, y):
    """Kornblith et al., eqs. 2 and 3: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    centre = np.eye(len(x)) - 1 / len(x)

    def hsic(k, j):
        return np.trace(k @ centre @ j @ centre)

    k, j = x @ x.T, y @ y.T
    return hsic(k, j) / np.sqrt(hsic(k, k) * hsic(j, j))


def mean_absolute_correlation(x, y):
    return np.mean([abs(np.corrcoef(x[:, i], y[:, i])[0, 1]) for i in range(x.shape[1])])


def naive(measure, student, teacher, batches):
    theirs = all_hidden_states(teacher, batches)
    return [[measure(x, y) for y in theirs] for x in all_hidden_states(student, batches)]


def test_both_measures_are_those_of_the_naive_formulas(student, teacher, batches):
    result = layer_similarity(student, teacher, batches)
    assert result["tokens"] == sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert np.shape(result["cka"]) == (3, 5)
    expected = naive(cka_by_gram_matrices, student, teacher, batches)
    np.testing.assert_allclose(result["cka"], expected, rtol=1e-9)
    expected = naive(mean_absolute_correlation, student, teacher, batches)
    np.testing.assert_allclose(result["correlation"], expected, rtol=1e-9)


def test_widths_that_differ_have_a_cka_and_no_correlation(narrow_student, teacher, batches):
    result = layer_similarity(narrow_student, teacher, batches)
    expected = naive(cka_by_gram_matrices, narrow_student, teacher, batches)
    np.testing.assert_allclose(result["cka"], expected, rtol=1e-9)
    assert "correlation" not in result


def test_features_with_a_large_mean_lose_no_digits(student, teacher, batches):
    """A mean of 1000 beside a deviation of 1: products of the features as they are would lose six digits."""
    for model in (student, teacher):
        model.base_model.embeddings.LayerNorm.bias.data += 1000.0
    result = layer_similarity(student, teacher, batches)
    expected = naive(cka_by_gram_matrices, student, teacher, batches)
    np.testing.assert_allclose(result["cka"][0][0], expected[0][0], rtol=1e-6)


def test_a_model_is_like_itself(teacher, batches):
    result = layer_similarity(teacher, teacher, batches)
    np.testing.assert_allclose(np.diag(result["cka"]), 1, rtol=1e-12)
    np.testing.assert_allclose(np.diag(result["correlation"]), 1, rtol=1e-12)
    assert np.max(result["cka"]) <= 1
    assert np.max(result["correlation"]) <= 1


def test_a_constant_feature_counts_0(teacher, batches):
    norm = teacher.base_model.embeddings.LayerNorm
    norm.weight.data[0], norm.bias.data[0] = 0.0, 0.1
    result = layer_similarity(teacher, teacher, batches)
    assert result["correlation"][0][0] == pytest.approx(31 / 32)


def test_a_teacher_in_bfloat16_will_do(student, teacher, batches):
    expected = layer_similarity(student, teacher, batches)["cka"]
    result = layer_similarity(student, teacher.bfloat16(), iter(batches))["cka"]
    np.testing.assert_allclose(result, expected, atol=0.02)


def test_modes_are_restored_and_dropout_is_off_meanwhile(make_bert, teacher, batches):
    student = make_bert(2, seed=1)
    expected = layer_similarity(student.eval(), teacher.eval(), batches)
    student.train()
    student.base_model.embeddings.eval()
    student.base_model.encoder.layer[0].output.dropout.p = 0.5
    assert layer_similarity(student, teacher, batches) == expected
    assert student.training
    assert student.base_model.encoder.layer[0].output.dropout.training
    assert not student.base_model.embeddings.training
    assert not teacher.training


def test_modes_are_restored_after_an_error_too(student, teacher, batches):
    student.train()
    del batches[1]["attention_mask"]
    with pytest.raises(UserError, match="attention_mask"):
        layer_similarity(student, teacher, batches)
    assert student.training


def test_no_batches_are_refused(student, teacher):
    with pytest.raises(UserError, match="batches hold 0 tokens"):
        layer_similarity(student, teacher, [])


@pytest.mark.parametrize(
    ("layers", "widths", "gigabytes"),
    [((6, 12), (768, 768), 0.52), ((8, 16), (2048, 2048), 6.0), ((14, 28), (1536, 3072), 18.8)],
)
def test_the_memory_that_a_comparison_takes_is_known_before_it(layers, widths, gigabytes):
    """The numbers are those of the products between the models, and within each of them, at 8 bytes each."""
    small, large = (
        SimpleNamespace(config=SimpleNamespace(num_hidden_layers=layer, hidden_size=width))
        for layer, width in zip(layers, widths, strict=True)
    )
    assert similarity_bytes(small, large) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_that_memory_is_the_one_of_the_largest_tensors(narrow_student, teacher, batches):
    """Whatever torch allocates and keeps is more than the sums by little: the features of one batch are small."""
    held = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "new_zeros" in str(function) or "zeros_like" in str(function):
                made = function(*args, **(kwargs or {}))
                held.append(made.numel() * made.element_size())
                return made
            return function(*args, **(kwargs or {}))

    with Watched():
        layer_similarity(narrow_student, teacher, batches)
    known = similarity_bytes(narrow_student, teacher)
    assert known <= sum(held) < 1.2 * known
