"""Batches of queries, their shares in a step, and the losses over them in a trainer."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.step import StepTotals, counts_of
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.students import build_student
from itrd_nlp.tasks.batches import PairCollator
from itrd_nlp.tasks.reranking.arguments import RankingArguments
from itrd_nlp.tasks.reranking.features import list_features, pair_features
from itrd_nlp.tasks.reranking.losses import RankingLosses
from itrd_nlp.tasks.reranking.task import Reranking
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.trainer import BaseTrainer

WORDS = ["rhine", "flows", "past", "bonn", "and", "basel"]
ROWS: list[dict[str, Any]] = [
    {
        "query": "rhine flows",
        "passages": ["bonn", "past bonn and basel", "and"],
        "labels": [0.0, 1.0, 2.0],
        "scores": [-1.0, 3.0, 0.5],
        "source": None,
    },
    {
        "query": "basel",
        "passages": ["past rhine", "and"],
        "labels": [1.0, 0.0],
        "scores": [2.0, -2.0],
        "source": None,
    },
]


@pytest.fixture(scope="module")
def tokenizer(make_reader: Any) -> Any:
    return make_reader(WORDS, 1)[1]


def test_pairs_are_judged_one_by_one_and_the_longest_comes_first(tokenizer: Any) -> None:
    features, order = pair_features(ROWS, tokenizer, 16)
    lengths = features["length"][:]
    assert lengths == sorted(lengths, reverse=True)
    pairs = [(row["query"], passage) for row in ROWS for passage in row["passages"]]
    for place, one in zip(order, features.to_list(), strict=True):
        assert one["input_ids"] == tokenizer(*pairs[place])["input_ids"]
        assert one["example_id"] == str(int(place > 2))
        assert one["labels"] == [0.0, 1.0, 2.0, 1.0, 0.0][place]


def test_the_longer_text_of_a_pair_is_cut(tokenizer: Any) -> None:
    features, _ = pair_features([ROWS[0]], tokenizer, 8)
    longest = tokenizer.convert_ids_to_tokens(features[0]["input_ids"])
    assert longest == ["[CLS]", "rhine", "flows", "[SEP]", "past", "bonn", "and", "[SEP]"]


def test_a_batch_of_lists_has_its_pairs_one_after_the_other(tokenizer: Any) -> None:
    rows = list_features(ROWS, tokenizer, 16, scores=True)
    batch = PairCollator(tokenizer)(rows.to_list())
    assert batch["input_ids"].shape == (5, 16)  # padded to a multiple of 8
    assert batch["labels"].tolist() == [[0, 1, 2], [1, 0, IGNORED]]
    assert batch["scores"].tolist() == [[-1, 3, 0.5], [2, -2, 0]]
    pairs, order = pair_features(ROWS, tokenizer, 16)
    alone = PairCollator(tokenizer)([pairs[order.index(i)] for i in range(5)])
    assert torch.equal(alone["input_ids"], batch["input_ids"])
    assert alone["labels"].tolist() == [0, 1, 2, 1, 0]
    assert "scores" not in PairCollator(tokenizer)(
        list_features(ROWS, tokenizer, 16, scores=False).to_list()
    )


def test_a_batch_counts_its_labels_and_its_queries(tokenizer: Any) -> None:
    batch = PairCollator(tokenizer)(list_features(ROWS, tokenizer, 16, scores=False).to_list())
    labels, queries, tokens = counts_of(batch).tolist()
    assert (labels, queries, tokens) == (5, 2, float(batch["attention_mask"].sum()))


@pytest.mark.parametrize("label_loss", ["listwise", "pointwise"])
@pytest.mark.parametrize("kd_loss", ["listwise", "margin_mse"])
def test_micro_batches_add_up_to_the_losses_of_the_whole_step(
    label_loss: str, kd_loss: str
) -> None:
    """Queries have 3, 1 or 2 passages, and the last one has no relevant passage."""
    losses = RankingLosses(label_loss, kd_loss)
    labels = torch.tensor([[1, 0, 1], [1, IGNORED, IGNORED], [0, 1, IGNORED], [0, 0, IGNORED]])
    held = labels.ne(IGNORED)
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 4, 3)

    def batch(start: int, end: int) -> dict[str, Any]:
        passages = int(held[start:end].sum())
        return {"input_ids": torch.ones(passages, 4 + end), "labels": labels[start:end].float()}

    def means(start: int, end: int) -> tuple[float, float]:
        student, teacher = (
            {"logits": scores[start:end][held[start:end]].unsqueeze(-1)}
            for scores in (ours, theirs)
        )
        inputs = batch(start, end)
        task = losses.task(student, inputs["labels"])
        return float(task), float(losses.kd(student, teacher, inputs, temperature=1.0))

    parts = [(0, 1), (1, 2), (2, 4)]
    totals = torch.stack([counts_of(batch(*part), losses) for part in parts]).sum(dim=0)
    step = StepTotals(totals, len(parts), 1, losses)
    shares = [step.share(batch(*part)) for part in parts]
    task, kd = means(0, 4)
    found = [means(*part) for part in parts]
    assert sum(float(s.task) * t for s, (t, _) in zip(shares, found, strict=True)) == pytest.approx(
        task
    )
    assert sum(
        float(s.logits) * k for s, (_, k) in zip(shares, found, strict=True)
    ) == pytest.approx(kd)


# ---- a training step ----


@pytest.fixture
def models(make_config: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    config = make_config(2, num_labels=1, initializer_range=0.5)
    teacher = BertForSequenceClassification(config)
    return teacher, build_student(teacher, 1)


def task_of(tmp_path: Path, rows: list[dict[str, Any]] = ROWS, **options: Any) -> Reranking:
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = (str(tmp_path / "train.jsonl"), str(tmp_path / "dev.jsonl"))
    return Reranking(RankingArguments(*files, max_length=16, **options))


def terms_of(task: Reranking, models: Any, tokenizer: Any, folder: Path, **weights: Any) -> Any:
    """The terms of the loss of one step over both queries."""
    teacher, student = copy.deepcopy(models)
    data = task.load(tokenizer, teacher)
    given = {"w_task": 1.0, "w_kd": 1.0, "beta_corr": 0.0, "beta_mi": 0.0, "temperature": 1.0}
    args = ITRDTrainingArguments(
        str(folder / "out"), report_to="none", use_cpu=True, save_strategy="no", max_steps=1,
        per_device_train_batch_size=2, disable_tqdm=True, logging_steps=1, **given | weights,
    )  # fmt: skip
    trainer = ITRDTrainer(student, teacher, args, **data.distiller_kwargs())
    trainer.train()
    return trainer.state.log_history[0]


def scores_of(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return [
            torch.stack(
                [
                    model(**tokenizer(row["query"], p, return_tensors="pt")).logits[0, 0]
                    for p in row["passages"]
                ]
            )
            for row in ROWS
        ]


@pytest.mark.parametrize("scores", ["model", "file"])
def test_a_step_learns_from_the_lists_of_each_query(
    models: Any, tokenizer: Any, tmp_path: Path, scores: str
) -> None:
    found = terms_of(task_of(tmp_path, teacher_scores=scores), models, tokenizer, tmp_path)
    ours, theirs = scores_of(models[1], tokenizer), scores_of(models[0], tokenizer)
    if scores == "file":
        theirs = [torch.tensor(row["scores"]) for row in ROWS]
    kd = [
        (t.softmax(0) * (t.log_softmax(0) - s.log_softmax(0))).sum()
        for s, t in zip(ours, theirs, strict=True)
    ]
    labels = [torch.tensor(row["labels"]) / sum(row["labels"]) for row in ROWS]
    task = [-(y * s.log_softmax(0)).sum() for s, y in zip(ours, labels, strict=True)]
    assert found["kd"] == pytest.approx(float(sum(kd) / 2), rel=1e-3)
    assert found["task"] == pytest.approx(float(sum(task) / 2), rel=1e-3)


def test_margins_and_the_pointwise_loss_are_chosen_by_options(
    models: Any, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [row | {"labels": [float(y > 0) for y in row["labels"]]} for row in ROWS]
    task = task_of(tmp_path, rows, kd_loss="margin_mse", label_loss="pointwise")
    found = terms_of(task, models, tokenizer, tmp_path)
    ours, theirs = scores_of(models[1], tokenizer), scores_of(models[0], tokenizer)
    margins = [
        float(((s[i] - s[j]) - (t[i] - t[j])) ** 2)
        for s, t in zip(ours, theirs, strict=True)
        for i in range(len(s))
        for j in range(i)
    ]
    labels = torch.tensor([label for row in rows for label in row["labels"]])
    task_loss = torch.nn.functional.binary_cross_entropy_with_logits(torch.cat(ours), labels)
    assert found["kd"] == pytest.approx(sum(margins) / len(margins), rel=1e-3)
    assert found["task"] == pytest.approx(float(task_loss), rel=1e-3)


def test_queries_without_labels_teach_by_the_teacher_alone(
    models: Any, tokenizer: Any, tmp_path: Path
) -> None:
    task = task_of(tmp_path)
    bare = [{k: row[k] for k in ("query", "passages")} for row in ROWS]
    Path(str(task.args.train_file)).write_text("\n".join(map(json.dumps, bare)))
    found = terms_of(task, models, tokenizer, tmp_path, w_task=0.0)
    assert "task" not in found and found["kd"] > 0


@pytest.mark.parametrize("label_loss", ["listwise", "pointwise"])
def test_micro_batches_of_a_training_without_a_teacher_give_the_step_of_all_queries(
    models: Any, tokenizer: Any, tmp_path: Path, label_loss: str
) -> None:
    """Lists have 3 and 2 passages, and one list has no relevant passage."""
    rows = [row | {"labels": [float(y > 0) for y in row["labels"]]} for row in ROWS]
    rows = [*rows, ROWS[1] | {"labels": [0.0, 0.0]}, rows[0]]
    found = []
    for size, micro_batches in ((4, 1), (1, 4)):
        model = copy.deepcopy(models[0])
        args = FineTuningArguments(
            str(tmp_path / f"out{size}"), use_cpu=True, save_strategy="no", max_steps=1,
            per_device_train_batch_size=size, gradient_accumulation_steps=micro_batches,
            disable_tqdm=True, logging_steps=1, max_grad_norm=1e9,
        )  # fmt: skip
        data = task_of(tmp_path, rows, label_loss=label_loss).load(tokenizer, model)
        run = BaseTrainer(model=model, args=args, **data.trainer_kwargs())
        if micro_batches == 1:
            mean = float(run.loss_of_a_step(next(iter(run.get_train_dataloader()))))
        run.train()
        found.append([run.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][0] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize(
    ("rows", "options", "weights", "sentence"),
    [
        ([{k: v for k, v in ROWS[0].items() if k != "labels"}], {}, {}, "query 0 (from 0 on) has no"),
        ([ROWS[0] | {"labels": [1, 1, 1]}], {}, {}, "all passages of each query have one label"),
        ([{"query": "a", "passages": ["b"], "labels": [1]}], {}, {}, "one passage for each query"),
        (ROWS, {"label_loss": "pointwise"}, {}, "has the label 2, but label_loss is 'pointwise'"),
        ([{k: v for k, v in ROWS[0].items() if k != "scores"}], {"teacher_scores": "file"}, {}, '"scores" is missing'),
        (ROWS, {"teacher_scores": "file"}, {"w_kd": 0.0}, "w_kd is 0, so that nothing reads them"),
    ],
)  # fmt: skip
def test_data_that_cannot_serve_the_objective_are_refused(
    tmp_path: Path, rows: Any, options: Any, weights: Any, sentence: str
) -> None:
    task = task_of(tmp_path, rows, **options)
    args = ITRDTrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True, **weights)
    with pytest.raises(UserError) as error:
        task.check_distillation(args)
    assert sentence in str(error.value)


def test_a_training_without_a_teacher_has_no_scores_of_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher_scores is 'file', but a training without"):
        task_of(tmp_path, teacher_scores="file").check_fine_tuning()


def test_the_warnings_say_what_judges_nothing(
    tokenizer: Any, models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(tmp_path, [ROWS[0], ROWS[1] | {"labels": [0, 0]}])
    with caplog.at_level(logging.WARNING):
        task.warn(task.load(tokenizer, models[0]))
    assert "1 of 2 queries in" in caplog.text and "have passages of one label" in caplog.text
    assert "2 of 2 queries are trained on and judged on" in caplog.text


def test_another_loss_makes_another_run(models: Any, tokenizer: Any, tmp_path: Path) -> None:
    found = []
    for loss in ("listwise", "margin_mse"):
        data = task_of(tmp_path, kd_loss=loss).load(tokenizer, models[0])
        teacher, student = copy.deepcopy(models)
        args = ITRDTrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True)
        trainer = ITRDTrainer(student, teacher, args, **data.distiller_kwargs())
        found.append(trainer.identity())
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"losses"}
