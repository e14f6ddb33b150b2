"""Texts become pieces, and tokens are masked by transformers' own rule, in a way that can be repeated."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import BertForMaskedLM, EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.masked_lm import POSITIONS
from itrd_nlp.tasks.masked_lm.arguments import MaskedLMArguments
from itrd_nlp.tasks.masked_lm.features import (
    Masker,
    MaskingCollator,
    evaluation_features,
    pieces_of,
    training_features,
)
from itrd_nlp.tasks.masked_lm.losses import MaskedLosses, predicted
from itrd_nlp.tasks.masked_lm.task import MaskedLM
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.trainer import BaseTrainer

WORDS = [f"w{i}" for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer(make_reader: Any) -> Any:
    return make_reader(WORDS, 1)[1]


def text(first: int, count: int) -> str:
    return " ".join(WORDS[(first + i) % 200] for i in range(count))


def test_a_long_text_is_cut_and_no_token_is_lost(tokenizer: Any) -> None:
    texts = [text(0, 3), text(7, 50), text(11, 10)]
    pieces = pieces_of(texts, tokenizer, 12)
    assert pieces.texts == [0, 1, 1, 1, 1, 1, 2]
    special = set(tokenizer.all_special_ids)
    for number, one in enumerate(texts):
        of_text = [
            p for p, n in zip(pieces.columns["input_ids"], pieces.texts, strict=True) if n == number
        ]
        assert all(len(p) <= 12 and p[0] == tokenizer.cls_token_id for p in of_text)
        assert all(p[-1] == tokenizer.sep_token_id for p in of_text)
        kept = [i for p in of_text for i in p.tolist() if i not in special]
        assert kept == tokenizer(one, add_special_tokens=False)["input_ids"]


def test_texts_without_a_token_are_left_out_and_none_at_all_is_refused(tokenizer: Any) -> None:
    assert pieces_of(["w1 w2", "\u200b"], tokenizer, 12).texts == [0]
    with pytest.raises(UserError, match="the tokenizer finds no token in any text"):
        pieces_of(["\u200b"], tokenizer, 12)


def test_a_piece_of_unknown_words_alone_is_a_piece(tokenizer: Any) -> None:
    """Its tokens are read, so that an encoder has states of them."""
    pieces = pieces_of(["w1 w2", "unknown words", "w1 " * 10 + "words " * 10], tokenizer, 12)
    assert pieces.texts == [0, 1, 2, 2]
    assert tokenizer.unk_token_id in pieces.columns["input_ids"][1]


def test_a_tokenizer_that_cannot_cut_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="Slow is no fast tokenizer"):
        pieces_of(["a"], Slow(), 12)  # type: ignore[arg-type]


def test_training_masks_have_the_rates_of_bert(tokenizer: Any) -> None:
    ids = torch.randint(5, 205, (400, 60), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 40:] = tokenizer.cls_token_id, tokenizer.pad_token_id
    masked, labels = Masker(tokenizer, 0.15)(ids)
    chosen = labels.ne(IGNORED)
    assert not chosen[:, 0].any() and not chosen[:, 40:].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert float(chosen[:, 1:40].float().mean()) == pytest.approx(0.15, abs=0.01)
    hidden = masked[chosen].eq(tokenizer.mask_token_id).float().mean()
    same = masked[chosen].eq(ids[chosen]).float().mean()
    assert float(hidden) == pytest.approx(0.8, abs=0.03)
    assert float(same) == pytest.approx(0.1, abs=0.03)


def test_masks_depend_on_the_tokens_of_the_batch_the_seed_and_the_epoch_alone(
    tokenizer: Any,
) -> None:
    pieces = pieces_of([text(i, 20) for i in range(8)], tokenizer, 32)
    rows = training_features(pieces).to_list()
    collate = MaskingCollator(Masker(tokenizer, 0.15))
    first = collate(rows)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = collate(rows)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(state, torch.get_rng_state())  # no draw of anybody else is changed
    other = collate(rows[::-1])["labels"].flip(0)
    assert not torch.equal(first["labels"], other)  # in another batch other tokens are masked
    assert (
        first[POSITIONS].tolist() == first["labels"].flatten().ne(IGNORED).nonzero()[:, 0].tolist()
    )
    assert next(iter(first)) == "input_ids"  # by which the rows of a batch are counted
    drawn = []
    for numbers in ((0, 0), (0, 1), (1, 0), (1, 1)):
        collate.begin_epoch(*numbers)
        drawn.append(collate(rows)["labels"])
    assert torch.equal(drawn[0], first["labels"])
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


class Watching(BaseTrainer):
    """Remembers the labels of each micro-batch."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.__dict__.setdefault("seen", []).append(inputs["labels"].tolist())
        return super().compute_loss(model, inputs, *args, **kwargs)


@pytest.mark.parametrize("workers", [{}, {"dataloader_num_workers": 1}])
def test_a_batch_of_one_row_is_masked_anew_in_every_epoch_and_for_every_seed(
    make_config: Any, tokenizer: Any, tmp_path: Path, workers: dict[str, Any]
) -> None:
    file = str(tmp_path / "texts.txt")
    Path(file).write_text(f"{text(0, 40)}\n{text(50, 40)}\n")

    def masks(seed: int, *, resumed: bool = False) -> list[Any]:
        torch.manual_seed(0)  # of the weights
        model = BertForMaskedLM(make_config(1, vocab_size=len(tokenizer)))
        task = MaskedLM(MaskedLMArguments(file, file, mlm_probability=0.3))
        args = FineTuningArguments(
            output_dir=str(tmp_path / f"{seed}"),
            per_device_train_batch_size=1,
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=3,  # in the middle of the second epoch
            seed=seed,
            report_to="none",
            disable_tqdm=True,
            dataloader_persistent_workers=bool(workers),
            **workers,
        )
        data = task.load(tokenizer, model)
        trainer = Watching(model=model, args=args, **data.trainer_kwargs())
        trainer.train(str(tmp_path / f"{seed}" / "checkpoint-3") if resumed else None)
        return list(vars(trainer)["seen"])

    seen = masks(1)
    assert len(seen) == len({str(labels) for labels in seen}) == 6
    if workers:
        return  # which take seconds to start
    assert masks(1, resumed=True) == seen[3:]
    assert {str(labels) for labels in masks(2)}.isdisjoint({str(labels) for labels in seen})


def test_an_evaluation_masks_every_chosen_token_whatever_stands_beside_it(tokenizer: Any) -> None:
    texts = [text(3 * i, 5 + 9 * (i % 5)) for i in range(30)]
    masker = Masker(tokenizer, 0.15)
    features, order, masks = evaluation_features(pieces_of(texts, tokenizer, 24), masker)
    assert features["length"] == sorted(features["length"], reverse=True)
    alone, _, of_one = evaluation_features(pieces_of(texts[4:5], tokenizer, 24), masker)
    assert [m.positions for m in of_one] == [m.positions for m in masks if m.text == 4]
    for i, row in enumerate(features):
        mask = masks[order[i]]
        assert row["example_id"] == str(mask.text)
        places = [p for p, label in enumerate(row["labels"]) if label != IGNORED]
        assert places == mask.positions
        assert [row["labels"][p] for p in places] == mask.true
        assert all(row["input_ids"][p] == tokenizer.mask_token_id for p in places)
    assert len(alone) == len(of_one)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_keeps_the_labels_at_their_tokens(tokenizer: Any, side: str) -> None:
    texts = [text(0, 30), text(50, 12)]
    features, _, _ = evaluation_features(pieces_of(texts, tokenizer, 64), Masker(tokenizer, 0.3))
    before, tokenizer.padding_side = tokenizer.padding_side, side
    try:
        batch = MaskingCollator(Masker(tokenizer, 0.3))(features.to_list())
    finally:
        tokenizer.padding_side = before
    held = batch["labels"].ne(IGNORED)
    assert torch.equal(
        batch["input_ids"][held], torch.full((int(held.sum()),), tokenizer.mask_token_id)
    )
    assert batch["input_ids"].shape[1] % 8 == 0
    asked = MaskingCollator(Masker(tokenizer, 0.3))([{"input_ids": [2, 7, 8, 3]}])
    assert set(asked) == {"input_ids", "attention_mask"}
    assert asked["input_ids"][0, :4].tolist() == [2, 7, 8, 3]


def test_an_evaluation_without_a_mask_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no token of the evaluation is masked"):
        evaluation_features(pieces_of(["w1"], tokenizer, 12), Masker(tokenizer, 0.01))


def test_the_losses_are_means_over_the_masked_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 9, generator=generator).double() for _ in range(2))
    labels = torch.tensor([[1, IGNORED, 8, IGNORED], [IGNORED, IGNORED, 0, IGNORED]])
    held = labels.ne(IGNORED)
    losses = MaskedLosses()
    task = losses.task({"logits": student[held]}, labels)
    expected = -student.log_softmax(-1)[held].gather(1, labels[held][:, None]).mean()
    assert float(task) == pytest.approx(float(expected), rel=1e-6)
    own, theirs = {"logits": student[held]}, {"logits": teacher[held]}
    kd = losses.kd(own, theirs, {}, temperature=2.0)
    p, q = (x[held].div(2).softmax(-1) for x in (teacher, student))
    assert float(kd) == pytest.approx(float(4 * (p * (p / q).log()).sum(-1).mean()), rel=1e-6)


def test_a_batch_without_a_mask_has_the_loss_0_and_a_gradient() -> None:
    logits = torch.randn(0, 9, requires_grad=True)
    labels = torch.full((2, 4), IGNORED)
    loss = MaskedLosses().task({"logits": logits}, labels)
    kd = MaskedLosses().kd({"logits": logits}, {"logits": logits.detach()}, {}, temperature=2.0)
    (loss + kd).backward()
    assert float(loss) == float(kd) == 0


def test_a_judge_gets_the_predicted_token_and_the_loss_of_the_true_one() -> None:
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[IGNORED, 2, IGNORED], [5, IGNORED, IGNORED]])
    found = predicted(logits, labels)
    assert found.shape == (2, 3, 2)
    for row, place, true in ((0, 1, 2), (1, 0, 5)):
        loss = F.cross_entropy(logits[row, place], torch.tensor(true))
        assert found[row, place].tolist() == pytest.approx(
            [int(logits[row, place].argmax()), float(loss)]
        )
    assert found[labels.eq(IGNORED)].eq(0).all()
    assert torch.equal(found, predicted(logits[labels.ne(IGNORED)], labels))


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_model_that_knows_every_token_is_right_whichever_side_its_tokenizer_padded(
    make_reader: Any, tmp_path: Path, side: str
) -> None:
    model, tokenizer = make_reader(WORDS, 1)
    tokenizer.padding_side = side
    (tmp_path / "texts.txt").write_text(f"{text(0, 30)}\n{text(50, 9)}\n")
    args = MaskedLMArguments(validation_file=str(tmp_path / "texts.txt"), mlm_probability=0.4)
    data = MaskedLM(args).load(tokenizer, model, training=False)
    batch = data.collator(data.evaluation.select_columns(["input_ids", "labels"]).to_list())
    logits = F.one_hot(batch["labels"].clamp(min=0), len(tokenizer)).float() * 30
    found: Any = predicted(logits, batch["labels"]).numpy()
    scores = data.judge(EvalPrediction(predictions=found, label_ids=batch["labels"].numpy()))
    assert scores["accuracy"] == 100
    assert tokenizer.padding_side == "right"  # and is saved so


def test_a_run_knows_the_probability_of_its_masks_when_it_is_resumed(
    make_reader: Any, tmp_path: Path
) -> None:
    model, tokenizer = make_reader(WORDS, 1)
    file = str(tmp_path / "texts.txt")
    Path(file).write_text(f"{text(0, 30)}\n")
    said = set()
    for probability in (0.15, 0.3):
        args = MaskedLMArguments(file, file, mlm_probability=probability)
        said.add(repr(MaskedLM(args).load(tokenizer, model).losses))
    assert len(said) == 2  # the losses are a part of the identity of a run
