"""A student whose weights have few bits: what it learns, what is saved, and how a training goes on."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.student_trainer import LEARNED_WEIGHTS_NAME
from itrd_nlp.errors import UserError
from itrd_nlp.models.low_bits import fake_quantise, low_bit_weights


@pytest.mark.parametrize("bits", [1, 4])
def test_the_saved_student_is_an_ordinary_model_that_computes_the_same(
    make_itrd, student, span_batch, tmp_path, bits
):
    trainer = make_itrd(student, weight_bits=bits)
    before = {name: layer.weight.clone() for name, layer in low_bit_weights(student)}
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "student").eval()
    expected = student.eval()(**span_batch)
    assert torch.equal(loaded(**span_batch).start_logits, expected.start_logits)
    saved = load_file(tmp_path / "student" / "model.safetensors")
    assert saved.keys() == student.state_dict().keys()
    for name, layer in low_bit_weights(student):
        assert not torch.equal(layer.weight, before[name])  # it learned
        assert torch.equal(saved[name], fake_quantise(layer.weight.detach(), bits))
        assert all(len(row.unique()) <= 2**bits for row in saved[name])
    assert not (tmp_path / "student" / LEARNED_WEIGHTS_NAME).exists()
    assert trainer.known_record().arguments["weight_bits"] == bits


def test_a_resumed_run_ends_where_an_undisturbed_one_does(make_itrd, make_bert, tmp_path):
    common = {"weight_bits": 2, "max_steps": 6, "save_strategy": "steps", "save_steps": 2}

    def run(name, **given):
        student = make_bert(2, seed=1)
        trainer = make_itrd(student, output_dir=str(tmp_path / name), **common | given)
        return trainer, student

    whole, expected = run("whole")
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    learned = load_file(checkpoint / LEARNED_WEIGHTS_NAME)
    assert learned.keys() == {name for name, _ in low_bit_weights(expected)}
    again, student = run("again")
    again.train(resume_from_checkpoint=str(checkpoint))
    for name, value in expected.state_dict().items():
        assert torch.equal(student.state_dict()[name], value), name


def test_another_number_of_bits_is_another_run(make_itrd, student):
    found = [make_itrd(student, weight_bits=bits).identity()["weight_bits"] for bits in (1, 2)]
    assert found == [1, 2]


def test_without_bits_the_identity_is_that_of_older_checkpoints(make_itrd, student):
    assert make_itrd(student).identity()["weight_bits"] is None


@pytest.mark.parametrize("bits", [-1, 9])
def test_other_numbers_are_refused(tmp_path, bits):
    with pytest.raises(UserError, match=f"weight_bits is {bits}, but must be"):
        ITRDTrainingArguments(output_dir=str(tmp_path), weight_bits=bits)


def test_shards_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="weight_bits is 4, but FSDP and DeepSpeed write"):
        ITRDTrainingArguments(output_dir=str(tmp_path), weight_bits=4)


def test_a_second_trainer_may_read_all_bits_again(make_itrd, student, span_batch):
    whole = student.eval()(**span_batch).start_logits
    make_itrd(student, weight_bits=1)
    assert not torch.equal(student.eval()(**span_batch).start_logits, whole)
    make_itrd(student, weight_bits=0)
    assert next(low_bit_weights(student), None) is None
    assert torch.equal(student.eval()(**span_batch).start_logits, whole)
