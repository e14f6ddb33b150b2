"""`BaseTrainer` with a model that has its own loss: the loss of a step, and an evaluation that rounds weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
)

from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.identity import weights_digest
from itrd_nlp.training.trainer import BaseTrainer

BERT = BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
DISTILBERT = DistilBertConfig(  # its forward takes no number of labels
    vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=16, dropout=0.0, attention_dropout=0.0
)
TEXTS = [
    {"input_ids": [1, 2, 3, 4 + i], "attention_mask": [1] * 4, "labels": i % 2} for i in range(8)
]
TOKENS = [
    row | {"labels": [-100, *(j % 2 if j <= i % 3 else -100 for j in range(3))]}
    for i, row in enumerate(TEXTS)
]


def trainer(folder: Path, config: Any, rows: list[Any], **options: Any) -> BaseTrainer:
    torch.manual_seed(0)
    tokens = isinstance(rows[0]["labels"], list)
    head: Any = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    model = head.from_config(config)
    if config is DISTILBERT and not tokens:
        model.dropout.p = model.config.seq_classif_dropout = 0.0
    args = FineTuningArguments(
        str(folder),
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=1e9,
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        use_cpu=True,
        **({"max_steps": 1} | options),
    )
    return BaseTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows))


@pytest.mark.parametrize("config", [BERT, DISTILBERT], ids=["BERT", "DistilBERT"])
@pytest.mark.parametrize("rows", [TEXTS, TOKENS], ids=["texts", "tokens"])
def test_micro_batches_give_the_loss_and_the_gradient_of_the_whole_batch(
    config: Any, rows: list[Any], tmp_path: Path
) -> None:
    found = []
    for size, micro_batches in ((8, 1), (2, 4)):
        run = trainer(
            tmp_path / str(size),
            config,
            rows,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=micro_batches,
        )
        result = run.train()
        log = run.state.log_history[0]
        found.append([log["loss"], log["grad_norm"], result.training_loss])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][0] == pytest.approx(0.69, abs=0.1)  # ln 2 of two labels


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_rows_without_a_label_are_passed_over(micro_batches: int, tmp_path: Path) -> None:
    """The mean over no label is no number, so that a micro-batch of them must not have a share."""
    null = [row | {"labels": [-100] * 4} for row in TOKENS[:2]]
    found = {}
    for name, rows in (("with", [*null, *TOKENS[:2]]), ("without", TOKENS[:2])):
        steps = {"max_steps": 2 if name == "with" and micro_batches == 1 else 1}
        sizes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": micro_batches}
        run = trainer(tmp_path / name, BERT, rows, **sizes, **steps)
        run.train()
        found[name] = [log["loss"] for log in run.state.log_history if "loss" in log]
    assert found["without"][0] > 0.5
    if micro_batches == 2:  # both share a step
        assert found["with"] == pytest.approx(found["without"], rel=1e-5)
    else:  # a step without labels has no loss and changes nothing
        assert sorted(found["with"]) == pytest.approx([0.0, found["without"][0]], rel=1e-5)


@pytest.mark.parametrize("option", ["bf16_full_eval", "fp16_full_eval"])
def test_an_evaluation_in_16_bits_leaves_the_weights_as_they_were(
    option: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path, BERT, TEXTS, **{option: True})
    model = run.network
    model.register_buffer("own", torch.full((1,), 1 / 3))
    before = weights_digest(model)
    run.evaluate(run.train_dataset)
    assert weights_digest(model) == before
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.own.dtype == torch.float32 and float(model.own) == pytest.approx(1 / 3, abs=1e-8)


def test_a_micro_batch_with_fewer_spans_has_a_smaller_share(tmp_path: Path) -> None:
    """Twelve rows in batches of eight: the second one of the step has four."""
    rows = [
        {"input_ids": [1, 2, 3, 4 + i], "attention_mask": [1] * 4}
        | {"start_positions": i % 3, "end_positions": i % 4}
        for i in range(12)
    ]
    found = []
    for size, micro_batches in ((12, 1), (8, 2)):
        torch.manual_seed(0)
        args = FineTuningArguments(
            str(tmp_path / str(size)),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=micro_batches,
            max_steps=1,
            max_grad_norm=1e9,
            train_sampling_strategy="sequential",
            logging_steps=1,
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
        )
        model = AutoModelForQuestionAnswering.from_config(BERT)
        run = BaseTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows))
        run.train()
        found.append([run.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][0] == pytest.approx(1.39, abs=0.1)  # ln 4 of four places


@pytest.mark.parametrize("option", [{"dataloader_drop_last": True}, {}])
def test_an_evaluation_takes_all_rows_also_where_the_training_drops_some(
    option: dict[str, Any], tmp_path: Path
) -> None:
    run = trainer(tmp_path, BERT, TEXTS, per_device_eval_batch_size=3, **option)
    assert len(run.predict(run.train_dataset).predictions) == len(TEXTS) == 8
    assert len(run.get_train_dataloader()) == 1
    assert run.args.dataloader_drop_last is bool(option)
