"""Both losses inside TextBrewer's own distiller."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from itrd_nlp.distillation.textbrewer import itrd_matches
from itrd_nlp.errors import UserError
from itrd_nlp.losses import correlation_loss, mutual_information_loss
from itrd_nlp.models.encode import encode

textbrewer = pytest.importorskip("textbrewer")

LABELS = ("start_positions", "end_positions")


def adaptor(batch: dict[str, Any], output: Any) -> dict[str, Any]:
    return {
        "logits": (output.start_logits, output.end_logits),
        "hidden": output.hidden_states,
        "inputs_mask": batch["attention_mask"],
        "losses": [output.loss],
    }


@pytest.fixture
def make_distiller(tmp_path):
    def make_distiller(teacher, student, matches):
        for model in (teacher, student):
            model.config.output_hidden_states = True
        return textbrewer.GeneralDistiller(
            train_config=textbrewer.TrainingConfig(
                output_dir=str(tmp_path / "out"), log_dir=str(tmp_path / "log"), device="cpu"
            ),
            distill_config=textbrewer.DistillationConfig(
                temperature=2, kd_loss_weight=0, intermediate_matches=matches
            ),
            model_T=teacher,
            model_S=student,
            adaptor_T=adaptor,
            adaptor_S=adaptor,
        )

    return make_distiller


def test_its_total_is_that_of_the_losses_on_the_valid_tokens(
    teacher, student, span_batch, make_distiller
):
    matches = itrd_matches(2, 4, 32, 32, beta_corr=3.0, beta_mi=5.0, mi_max_samples=10_000)
    distiller = make_distiller(teacher.eval(), student.eval(), matches)
    total, _ = distiller.train_on_batch(span_batch, {})

    inputs = {name: x for name, x in span_batch.items() if name not in LABELS}
    valid = span_batch["attention_mask"].bool()
    states = [
        encode(m, inputs, [1, 2, 4][:n])[1].hidden_states for m, n in ((student, 2), (teacher, 3))
    ]
    expected = torch.zeros(())
    for s, t in ((1, 2), (2, 4)):  # the projection starts as the identity
        z_s, z_t = states[0][s][valid], states[1][t][valid]
        expected = expected + 3 * correlation_loss(z_s, z_t) + 5 * mutual_information_loss(z_s, z_t)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_of_another_width_is_projected_and_learns(
    teacher, narrow_student, span_batch, make_distiller, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    distiller = make_distiller(teacher, narrow_student, itrd_matches(2, 4, 16, 32))
    assert [tuple(p.weight.shape) for p in distiller.projs] == [(32, 16)] * 4
    before = [p.weight.detach().clone() for p in distiller.projs]
    start, _ = distiller.train_on_batch(span_batch, {})
    optimizer = torch.optim.AdamW(narrow_student.parameters(), lr=1e-2)
    with distiller:
        distiller.train(optimizer, DataLoader([span_batch] * 10, batch_size=None), num_epochs=1)
    end, _ = distiller.train_on_batch(span_batch, {})
    assert end < start - 1
    assert not any(torch.equal(p.weight, w) for p, w in zip(distiller.projs, before, strict=True))


def test_padding_does_not_count(teacher, student, span_batch, make_distiller):
    matches = itrd_matches(2, 4, 32, 32, mi_max_samples=10_000)
    distiller = make_distiller(teacher.eval(), student.eval(), matches)
    longer = {
        name: torch.nn.functional.pad(x, (0, 5)) if x.dim() == 2 else x
        for name, x in span_batch.items()
    }
    totals = [distiller.train_on_batch(batch, {})[0].item() for batch in (span_batch, longer)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)


def test_a_weight_of_zero_leaves_a_loss_out():
    assert {match["loss"] for match in itrd_matches(3, 12, 8, 8, beta_mi=0)} == {
        "itrd_correlation_1.01"
    }
    assert [match["layer_T"] for match in itrd_matches(3, 12, 8, 8, beta_corr=0)] == [4, 8, 12]


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="teacher layer 13"):
        itrd_matches(3, 12, 8, 8, layer_map=["1:13"])


def test_without_textbrewer_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "textbrewer.presets", None)
    with pytest.raises(UserError, match=r"itrd_nlp\[textbrewer\]"):
        itrd_matches(3, 12, 8, 8)
