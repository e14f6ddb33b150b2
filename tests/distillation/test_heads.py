"""Models of other families and heads: each reads its own inputs, and KD compares what the logits mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.logit_kd import mean_logits
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError

ROWS = 8


def arguments(folder: Path, **changes: Any) -> ITRDTrainingArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": 4,
        "max_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "beta_corr": 0.0,
        "beta_mi": 0.0,
        "w_task": 0.0,
        "w_kd": 1.0,
        "temperature": 1.0,
    }
    return ITRDTrainingArguments(**(values | changes))


# ---- inputs ----


def distilbert(make_config: Any) -> DistilBertForQuestionAnswering:
    config = make_config(2)
    torch.manual_seed(1)
    return DistilBertForQuestionAnswering(
        DistilBertConfig(
            vocab_size=config.vocab_size,
            dim=config.hidden_size,
            hidden_dim=config.intermediate_size,
            n_layers=2,
            n_heads=config.num_attention_heads,
        )
    )


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_teacher_reads_columns_that_its_student_does_not(
    make_config: Any, teacher: Any, make_rows: Any, collate: Any, tmp_path: Path, cache: str
) -> None:
    rows = [
        row | {"token_type_ids": [0, 1] + [1] * (len(row["input_ids"]) - 2)} for row in make_rows(4)
    ]
    trainer = ITRDTrainer(
        model=distilbert(make_config),
        teacher=teacher,
        args=arguments(tmp_path, teacher_cache=cache, teacher_cache_dir=str(tmp_path / "cache")),
        train_dataset=datasets.Dataset.from_list(rows),
        data_collator=collate,
    )
    seen: list[dict[str, Any]] = []
    teacher.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    assert seen
    assert torch.equal(seen[0]["token_type_ids"], collate(rows)["token_type_ids"])


def test_a_student_reads_columns_that_its_teacher_does_not(
    make_config: Any, student: Any, make_rows: Any, collate: Any, tmp_path: Path
) -> None:
    rows = [row | {"token_type_ids": [1] * len(row["input_ids"])} for row in make_rows(4)]
    trainer = ITRDTrainer(
        model=student,
        teacher=distilbert(make_config),
        args=arguments(tmp_path, teacher_cache="off"),
        train_dataset=datasets.Dataset.from_list(rows),
        data_collator=collate,
    )
    seen: list[dict[str, Any]] = []
    student.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    assert torch.equal(seen[0]["token_type_ids"], collate(rows)["token_type_ids"])


# ---- heads ----


def classifier(seed: int, layers: int, **changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **changes,
    )
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.weight)  # so that the logits of two models differ
    return model


def first_step(
    student: Any, teacher: Any, labels: list[Any], folder: Path
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The KD loss of one step with all rows, as the trainer logs it, and the logits of both models before it."""
    rows = [
        {"input_ids": [2, 5 + i, 9, 3], "attention_mask": [1] * 4, "labels": label}
        for i, label in enumerate(labels)
    ]
    args = arguments(folder, per_device_train_batch_size=len(rows), teacher_cache="off")
    trainer = ITRDTrainer(
        model=student,
        teacher=teacher,
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
    )
    with torch.no_grad():
        batch = trainer.data_collator(
            [{k: v for k, v in row.items() if k != "labels"} for row in rows]
        )
        ours, theirs = (model.eval()(**batch).logits.double() for model in (student, teacher))
    trainer.train()
    return trainer.state.log_history[0]["kd"], ours, theirs


def test_kd_of_a_regression_is_the_squared_distance(tmp_path: Path) -> None:
    student, teacher = (classifier(i, 2, num_labels=1) for i in range(2))
    loss, ours, theirs = first_step(student, teacher, [0.5 * i for i in range(ROWS)], tmp_path)
    assert loss == pytest.approx(((ours - theirs) ** 2).mean().item(), rel=1e-4)
    assert loss > 0.01


def test_kd_of_several_labels_is_a_divergence_for_each(tmp_path: Path) -> None:
    student, teacher = (
        classifier(i, 2, num_labels=3, problem_type="multi_label_classification") for i in range(2)
    )
    labels = [[float(i % 2), 1.0, 0.0] for i in range(ROWS)]
    loss, *logits = first_step(student, teacher, labels, tmp_path)
    ours, theirs = (value.sigmoid() for value in logits)
    divergence = theirs * (theirs / ours).log() + (1 - theirs) * ((1 - theirs) / (1 - ours)).log()
    assert loss == pytest.approx(divergence.mean().item(), rel=1e-4)
    assert loss > 0.01


def test_labels_in_another_order_are_refused(tmp_path: Path) -> None:
    student = classifier(0, 2, id2label={0: "no", 1: "yes"})
    teacher = classifier(1, 2, id2label={0: "yes", 1: "no"})
    with pytest.raises(
        UserError, match="id2label of the student is no, yes and of the teacher yes, no"
    ):
        ITRDTrainer(model=student, teacher=teacher, args=arguments(tmp_path))


# ---- several teachers ----


def test_several_teachers_predict_the_mean_of_what_their_logits_mean() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(4, 3, dtype=torch.float64) for _ in range(3)]
    stacked = torch.stack(logits)
    values = mean_logits(logits, "regression", temperature=2.0)
    torch.testing.assert_close(values.double(), stacked.mean(0), rtol=1e-6, atol=1e-6)
    labels = mean_logits(logits, "multi_label_classification", temperature=2.0)
    torch.testing.assert_close((labels / 2).sigmoid(), (stacked / 2).sigmoid().mean(0))
    classes = mean_logits(logits, "single_label_classification", temperature=2.0)
    torch.testing.assert_close((classes / 2).softmax(-1), (stacked / 2).softmax(-1).mean(0))


# ---- arguments that would do nothing ----


@pytest.mark.parametrize("role", ["teacher", "more_teachers"])
def test_a_student_that_is_its_own_teacher_is_refused(
    student: Any, teacher: Any, tmp_path: Path, role: str
) -> None:
    given = {"teacher": student} if role == "teacher" else {"teacher": teacher, role: [student]}
    with pytest.raises(UserError, match="the student and a teacher are one object"):
        ITRDTrainer(model=student, args=arguments(tmp_path), **given)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_smoothed_labels_and_a_loss_function_are_refused(
    student: Any, teacher: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"label_smoothing_factor is 0\.1, but the task loss"):
        ITRDTrainer(
            model=student, teacher=teacher, args=arguments(tmp_path, label_smoothing_factor=0.1)
        )
    with pytest.raises(UserError, match="compute_loss_func is given, but the objective"):
        ITRDTrainer(
            model=student,
            teacher=teacher,
            args=arguments(tmp_path),
            compute_loss_func=lambda *_: torch.zeros(()),
        )


# ---- shares of a step ----


def test_kd_of_tokens_is_exact_under_accumulation_without_labels(
    make_config, make_rows, collate, tmp_path
):
    """Micro-batches of other numbers of tokens add up to the mean over all tokens of the step."""
    names = ("input_ids", "token_type_ids", "length")
    rows = [{name: row[name] for name in names} for row in make_rows(ROWS)]

    def logged(**changes: Any) -> float:
        torch.manual_seed(0)
        student, teacher = (
            BertForTokenClassification(make_config(layers, num_labels=3)) for layers in (1, 2)
        )
        trainer = ITRDTrainer(
            student,
            teacher,
            arguments(tmp_path, **changes),
            train_dataset=datasets.Dataset.from_list(rows),
            data_collator=collate,
        )
        trainer.train()
        return trainer.state.log_history[0]["kd"]

    lengths = [sum(row["length"] for row in part) for part in (rows[:4], rows[4:])]
    assert lengths[0] != lengths[1]
    whole = logged(per_device_train_batch_size=8)
    assert logged(gradient_accumulation_steps=2) == pytest.approx(whole, rel=1e-5)


# ---- heads whose logits are not of rows or tokens ----


@pytest.mark.parametrize("adapters", [False, True])
def test_a_model_that_writes_text_is_refused(tmp_path: Path, adapters: bool) -> None:
    """Its decoder would read another text in the teacher than in the student."""
    sizes: dict[str, Any] = {
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "vocab_size": 9,
    }
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    config = BartConfig(**sizes, **heads, encoder_ffn_dim=8, decoder_ffn_dim=8)
    student: Any = BartForConditionalGeneration(config)
    if adapters:
        peft = pytest.importorskip("peft")
        student = peft.get_peft_model(student, peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UserError, match="BartForConditionalGeneration writes text by a decoder"):
        ITRDTrainer(student, BartForConditionalGeneration(config), arguments(tmp_path))
    classifies = BartForSequenceClassification(config)
    ITRDTrainer(classifies, BartForSequenceClassification(config), arguments(tmp_path))


def segformer(seed: int) -> SegformerForSemanticSegmentation:
    torch.manual_seed(seed)
    layers: dict[str, Any] = {"num_encoder_blocks": 1, "depths": [1], "hidden_sizes": [8]}
    patches: dict[str, Any] = {"patch_sizes": [3], "strides": [2], "sr_ratios": [1]}
    model = SegformerForSemanticSegmentation(
        SegformerConfig(
            **layers,
            **patches,
            num_attention_heads=[1],
            mlp_ratios=[2],
            decoder_hidden_size=8,
            num_labels=3,
            classifier_dropout_prob=0.0,
            drop_path_rate=0.0,
        )
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:  # else both models would say the same of each place
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("teachers", [1, 2])
def test_kd_of_an_image_is_over_the_classes_of_each_place(tmp_path: Path, teachers: int) -> None:
    rows = [{"pixel_values": torch.randn(3, 16, 16)} for _ in range(4)]
    student, *others = (segformer(seed) for seed in range(1 + teachers))
    options: dict[str, Any] = {"more_teachers": others[1:], "train_dataset": rows}
    trainer = ITRDTrainer(student, others[0], arguments(tmp_path, w_kd=1.0), **options)
    batch = {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}
    with torch.no_grad():
        ours = student(**batch).logits.double()
        theirs = torch.stack([other(**batch).logits.double().softmax(1) for other in others])
    target = theirs.mean(0)
    expected = (target * (target.log() - ours.log_softmax(1))).sum(1).mean()
    trainer.prepare()
    trainer.state.max_steps = 1
    student.eval()
    assert trainer.loss_of_a_step(batch).item() == pytest.approx(expected.item(), rel=1e-4)


def test_models_without_logits_have_no_kd(make_config: Any, tmp_path: Path) -> None:
    student, teacher = BertModel(make_config(1)), BertModel(make_config(1))
    rows = [{"input_ids": [5, 6], "attention_mask": [1, 1]}] * ROWS
    data = datasets.Dataset.from_list(rows)
    trainer = ITRDTrainer(student, teacher, arguments(tmp_path), train_dataset=data)
    with pytest.raises(UserError, match="the student returns no logits, which w_kd compares"):
        trainer.train()
