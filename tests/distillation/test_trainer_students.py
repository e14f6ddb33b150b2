"""Students and teachers of other kinds: with adapters, quantised, or in half precision."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    TrainerCallback,
)

from itrd_nlp.errors import UserError
from itrd_nlp.losses.peers import PeerLoss
from itrd_nlp.models.encode import encode
from itrd_nlp.models.peft_adapters import has_adapters
from itrd_nlp.models.quantised import is_quantised
from itrd_nlp.models.students import build_student
from itrd_nlp.training.identity import weights_digest

STEPS = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4}
BEST = {
    **STEPS,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": True,  # so that the first is the best
}


class Interrupt(TrainerCallback):
    """Ends a training after a step was saved, as a kill does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# ---- adapters ----


def wrapped(model: BertForQuestionAnswering) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    config = peft.LoraConfig(
        r=2, target_modules=["query", "value"], modules_to_save=["qa_outputs"], lora_dropout=0.1
    )
    return peft.get_peft_model(model, config)


def given_one(model: BertForQuestionAnswering) -> Any:
    """By `add_adapter` of transformers. The head stays frozen."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["query", "value"]))
    return model


adapters = pytest.mark.parametrize("adapt", [wrapped, given_one])


@adapters
def test_a_student_with_an_adapter_trains_the_adapter_alone(make_itrd, student, adapt) -> None:
    before = state_of(student)
    adapted = adapt(student)
    trainer = make_itrd(adapted)
    trainer.train()
    frozen = {n: p for n, p in adapted.named_parameters() if not p.requires_grad}
    moved = [
        n for n, p in adapted.named_parameters() if p.requires_grad and "lora" in n and p.any()
    ]
    assert any("lora_B" in name for name in moved)  # they start at 0
    for name, value in frozen.items():
        short = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if short in before:
            assert torch.equal(value, before[short]), name


@adapters
def test_a_student_with_an_adapter_is_resumed_to_the_same_bits(make_itrd, make_bert, adapt) -> None:
    whole = make_itrd(adapt(make_bert(2, seed=1)), **STEPS, overwrite_output_dir=True)
    whole.train()
    broken = make_itrd(
        adapt(make_bert(2, seed=1)),
        **STEPS,
        overwrite_output_dir=True,
        given={"callbacks": [Interrupt(2)]},
    )
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = make_itrd(adapt(make_bert(2, seed=1)), **STEPS)
    resumed.train(resume_from_checkpoint=True)
    assert resumed._initial_global_step == 2
    assert_same(state_of(resumed.model), state_of(whole.model))


@adapters
def test_the_best_adapter_is_taken_at_the_end(make_itrd, student, make_rows, adapt) -> None:
    first: dict[str, torch.Tensor] = {}

    class Remember(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            if state.global_step == 1:
                first.update(state_of(model))

    rows = make_rows(8, seed=3)
    trainer = make_itrd(
        adapt(student), eval_rows=rows, given={"callbacks": [Remember()]}, learning_rate=0.1, **BEST
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    assert_same(state_of(trainer.model), first)


def test_a_saved_adapter_loads_by_peft_onto_its_base(make_itrd, make_bert, tmp_path, span_batch):
    peft = pytest.importorskip("peft")
    trainer = make_itrd(wrapped(make_bert(2, seed=1)))
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    loaded = peft.PeftModel.from_pretrained(make_bert(2, seed=1), tmp_path / "adapter").eval()
    with torch.no_grad():
        ours = trainer.student.eval()(**span_batch).start_logits
        assert torch.equal(ours, loaded(**span_batch).start_logits)


def test_a_parameter_that_peft_would_not_save_is_refused(make_itrd, student) -> None:
    adapted = given_one(student)
    adapted.qa_outputs.requires_grad_(True)
    with pytest.raises(UserError, match=r"trains qa_outputs\.weight, .*, but PEFT saves"):
        make_itrd(adapted)


def test_adapters_are_not_pushed(make_itrd, student) -> None:
    with pytest.raises(UserError, match="push_to_hub is true, but the student has adapters"):
        make_itrd(wrapped(student), push_to_hub=True)


def test_a_teacher_with_an_adapter_teaches_as_it_predicts(make_itrd, make_bert, student, teacher):
    merged = wrapped(copy.deepcopy(teacher)).merge_and_unload()
    logs = []
    for one in (wrapped(copy.deepcopy(teacher)), merged):
        trainer = make_itrd(make_bert(2, seed=1), teacher=one, max_steps=1)
        trainer.train()
        logs.append(trainer.state.log_history[0])
    for name in ("kd", "corr", "mi"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)


def test_a_student_is_built_of_the_merged_adapter_and_the_teacher_keeps_it(
    make_itrd, make_bert, span_batch
) -> None:
    adapted = wrapped(make_bert(4, seed=0)).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    student = build_student(adapted, 4).eval()
    assert type(student) is BertForQuestionAnswering
    assert not has_adapters(student) and has_adapters(adapted)
    with torch.no_grad():
        ours, theirs = student(**span_batch), adapted(**span_batch)
        plain = make_bert(4, seed=0).eval()(**span_batch)
    torch.testing.assert_close(ours.start_logits, theirs.start_logits, rtol=1e-4, atol=1e-5)
    assert (ours.start_logits - plain.start_logits).abs().max() > 1e-2
    make_itrd(build_student(adapted, 2), teacher=adapted, max_steps=1).train()
    with pytest.raises(UserError, match="has adapters of add_adapter, which cannot be merged"):
        build_student(given_one(make_bert(4, seed=0)), 2)


@pytest.mark.parametrize("flag", ["output_hidden_states", "output_attentions"])
def test_a_student_does_not_publish_the_outputs_that_its_teacher_asked_for(
    make_bert, flag, tmp_path
) -> None:
    teacher = make_bert(4, seed=0, attn_implementation="eager")
    setattr(teacher.config, flag, True)
    student = build_student(teacher, 2)
    student.save_pretrained(tmp_path)
    assert flag not in (tmp_path / "config.json").read_text()
    assert getattr(teacher.config, flag) is True


# ---- weights of the teacher ----


def of_its_layers(teacher: BertForQuestionAnswering, student: BertForQuestionAnswering) -> Any:
    student.bert.encoder.layer = nn.ModuleList(teacher.bert.encoder.layer[:2])
    return student


def around_it(teacher: BertForQuestionAnswering, student: BertForQuestionAnswering) -> Any:
    return wrapped(teacher)


def with_its_memory(teacher: BertForQuestionAnswering, student: BertForQuestionAnswering) -> Any:
    student.load_state_dict(teacher.state_dict(), strict=False, assign=True)
    return student


@pytest.mark.parametrize("make", [of_its_layers, around_it, with_its_memory])
def test_a_student_that_shares_weights_with_its_teacher_is_refused(
    make_itrd, teacher, student, make_bert, make
):
    """The teacher is frozen and cast in place, and the student would be with it."""
    sharing = make(teacher, student)
    with pytest.raises(UserError, match=r"the student shares .* with a teacher.* copy\.deepcopy"):
        make_itrd(sharing)
    with pytest.raises(UserError, match="the student shares"):
        make_itrd(sharing, teacher=make_bert(4, seed=7), given={"more_teachers": [teacher]})
    assert any(p.requires_grad for p in sharing.parameters())
    make_itrd(make(make_bert(4, seed=0), make_bert(2, seed=1)))


# ---- quantised models ----


def by_torch(model: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def by_torchao(model: nn.Module) -> nn.Module:
    torchao = pytest.importorskip("torchao.quantization")
    model = copy.deepcopy(model)
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


def by_bitsandbytes(model: nn.Module) -> nn.Module:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, nn.Linear) and name != "qa_outputs"
            ):  # transformers skips heads, too
                four = bitsandbytes.nn.Linear4bit(child.in_features, child.out_features)
                four.load_state_dict(child.state_dict())
                setattr(parent, name, four.to("cpu"))
    return model


quantisers = pytest.mark.parametrize("quantise", [by_torch, by_torchao, by_bitsandbytes])


@quantisers
def test_a_quantised_teacher_teaches_as_it_predicts(
    make_itrd, make_bert, student, make_rows, collate, quantise
) -> None:
    teacher = make_bert(4, seed=0, hidden_size=64)  # bitsandbytes takes blocks of 64
    quantised = quantise(teacher.eval())
    assert is_quantised(quantised) and not is_quantised(teacher)
    trainer = make_itrd(
        student,
        teacher=quantised,
        max_steps=1,
        learning_rate=0.0,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    batch = collate(make_rows(16)[:4])
    labels = [batch.pop(name) for name in ("start_positions", "end_positions")]
    assert len(labels) == 2
    expected = 0.0
    with torch.no_grad():
        ours, theirs = student.eval()(**batch), quantised(**batch)
    for name in ("start_logits", "end_logits"):
        for row, valid in enumerate(batch["attention_mask"].bool()):
            p = torch.softmax(theirs[name][row][valid].double() / 2, -1)
            q = torch.log_softmax(ours[name][row][valid].double() / 2, -1)
            expected += float(4 * (p * (p.log() - q)).sum() / 8)
    assert trainer.state.log_history[0]["kd"] == pytest.approx(expected, rel=1e-4)


@quantisers
def test_a_quantised_teacher_keeps_its_cache_and_its_identity(
    make_itrd, make_bert, tmp_path, quantise
) -> None:
    teacher, other = (make_bert(4, seed=seed, hidden_size=64) for seed in (0, 9))
    digests = [weights_digest(quantise(model.eval())) for model in (teacher, teacher, other)]
    assert digests[0] == digests[1] != digests[2]
    cached = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    quantised = quantise(teacher)
    losses = []
    for _ in range(2):
        trainer = make_itrd(make_bert(2, seed=1), teacher=quantised, **cached)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == losses[1]
    folders = [path.name[:16] for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert folders == [digests[0]]


@quantisers
def test_a_quantised_student_and_a_dtype_for_a_quantised_teacher_are_refused(
    make_itrd, student, teacher, quantise
) -> None:
    with pytest.raises(UserError, match="the teacher is quantised, so a student cannot copy"):
        build_student(quantise(teacher), 2)
    with pytest.raises(UserError, match="the student is quantised"):
        make_itrd(quantise(student))
    with pytest.raises(UserError, match="teacher_dtype is 'float32', but the teacher is quantised"):
        make_itrd(student, teacher=quantise(teacher), teacher_dtype="float32")


# ---- half precision ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_student_in_half_precision_is_trained_in_fp32_and_told_so(
    make_itrd, make_bert, caplog, dtype, tmp_path
) -> None:
    with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
        half = make_itrd(make_bert(2, seed=1).to(dtype), max_steps=2)
    name = str(dtype).removeprefix("torch.")
    assert f"The student has weights in {name}; they are trained in float32" in caplog.text
    half.train()
    exact = make_itrd(make_bert(2, seed=1).to(dtype).float(), max_steps=2)
    exact.train()
    assert_same(state_of(half.model), state_of(exact.model))
    half.save_model(str(tmp_path / "saved"))
    loaded = BertForQuestionAnswering.from_pretrained(tmp_path / "saved")
    assert loaded.dtype == torch.float32


# ---- losses of one's own ----


class Sharing(PeerLoss):
    """Has one tensor under two names, as tied weights are."""

    def __init__(self, sizes: Any, pairs: Any) -> None:
        super().__init__(sizes, pairs)
        self.one = nn.Linear(sizes.student, sizes.teacher, bias=False)
        self.other = nn.Linear(sizes.student, sizes.teacher, bias=False)
        self.other.weight = self.one.weight

    def forward(self, student: Any, teacher: Any, mask: Any) -> torch.Tensor:
        found = [
            self.other(self.one(student.hidden_states[p.student]) * 0.5).square().mean()
            for p in self.pairs
        ]
        return torch.stack(found).sum()


def test_a_loss_that_shares_tensors_is_saved_and_resumed(make_itrd, make_bert) -> None:
    peers = {"peer_losses": {f"{__name__}.Sharing": 1.0}, **STEPS}
    whole = make_itrd(make_bert(2, seed=1), overwrite_output_dir=True, **peers)
    whole.train()
    broken = make_itrd(
        make_bert(2, seed=1),
        overwrite_output_dir=True,
        given={"callbacks": [Interrupt(2)]},
        **peers,
    )
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = make_itrd(make_bert(2, seed=1), **peers)
    resumed.train(resume_from_checkpoint=True)
    assert_same(state_of(resumed.model), state_of(whole.model))
    sharing = resumed.model.objective.peers["sharing"]
    assert sharing.one.weight is sharing.other.weight


@pytest.mark.parametrize("kind", [None, "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"])
def test_adapters_read_what_their_model_reads(make_config, kind) -> None:
    """The wrapper of a kind of task names fewer inputs than it hands on."""
    peft = pytest.importorskip("peft")
    head = {
        "TOKEN_CLS": BertForTokenClassification,
        "QUESTION_ANS": BertForQuestionAnswering,
    }.get(kind, BertForSequenceClassification)
    plain = head(make_config(1)).eval()
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8]]),
        "token_type_ids": torch.tensor([[0, 0, 1, 1]]),
    }
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        model = peft.get_peft_model(
            plain, peft.LoraConfig(task_type=kind, target_modules=["query"])
        ).eval()
        expected = model(**batch, output_hidden_states=True)
        found = encode(model, batch, [1])[1]
    assert torch.equal(found.hidden_states[1], expected.hidden_states[1])
    assert found.logits
    assert all(torch.equal(value, expected[name]) for name, value in found.logits.items())


def test_arguments_that_two_trainers_share_stay_as_they_were(
    make_itrd, make_bert, tmp_path
) -> None:
    first = make_itrd(make_bert(2, seed=1))
    assert first.label_names == ["start_positions", "end_positions"]
    assert first.args.label_names is None
    assert first.identity()["label_names"] == first.label_names
