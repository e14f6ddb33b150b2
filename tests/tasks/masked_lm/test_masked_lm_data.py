"""Plain text from files, what is wrong with it, and the text that is made of SQuAD."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizer, EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.masked_lm.analysis import (
    check_answers,
    disagreements,
    scores_of,
    text_scores,
)
from itrd_nlp.tasks.masked_lm.arguments import EncoderArguments, MaskedLMArguments
from itrd_nlp.tasks.masked_lm.data import read_texts
from itrd_nlp.tasks.masked_lm.encoder import Encoder
from itrd_nlp.tasks.masked_lm.from_squad import text_rows
from itrd_nlp.tasks.masked_lm.likeness import LikenessJudge, spread_states
from itrd_nlp.tasks.masked_lm.task import MaskedLM

ANSWERS = {
    "0": [["a", "a", 0.5], ["b", "c", 2.0], ["c", "c", 0.25]],
    "1": [["a", "b", 3.0]],
    "2": [],
}


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    return read_texts(MaskedLMArguments(train_file=str(path), **options), "train").rows


@pytest.mark.parametrize("name", ["a.txt", "A.TXT"])
def test_a_line_of_a_text_file_is_a_text_and_blank_lines_are_skipped(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes("\ufeffThe Rhine.\r\n\n  \nThe Elbe.  \nThe Oder.".encode())
    found = read(path)
    assert [row["text"] for row in found] == ["The Rhine.", "The Elbe.  ", "The Oder."]
    assert [row["text"] for row in read(path, max_train_samples=2)] == ["The Rhine.", "The Elbe.  "]
    record = read_texts(MaskedLMArguments(train_file=str(path)), "train").record
    assert (record.name, record.rows) == (name, 3) and record.sha256


def test_json_lines_may_name_a_source_and_another_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "x", "source": "A"}, {"text": " "}, {"text": "y", "body": "z"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read(path) == [{"text": "x", "source": "A"}, {"text": "y", "source": None}]
    path.write_text(json.dumps({"body": "z"}))
    assert read(path, text_column="body")[0]["text"] == "z"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"fine\n\xff\n", r"a\.txt:2: the line is not UTF-8 text"),
        ("a.txt", b"\n \n", r"a\.txt holds no text"),
        ("a.jsonl", b'{"text": 7}', r"""a\.jsonl:1: "text" is '7', but must be a string"""),
        ("a.jsonl", b'{"label": "x"}', r"""a\.jsonl:1: "text" is 'None'"""),
        ("a.jsonl", b'{"text": "x", "source": 3}', r"""a\.jsonl:1: "source" is 3"""),
        ("a.jsonl", b'{"text": "\\ud800"}', "must be a string"),
        ("a.jsonl", b"plain text", r"a\.jsonl:1: the line is not JSON"),
        ("a.csv", b"text\nx\n", r"a\.csv is a table, but texts come as"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read(tmp_path / name)


def test_a_source_must_be_named_and_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train_file is not set, .* a \.txt file, JSON lines or"):
        read_texts(MaskedLMArguments(), "train")
    with pytest.raises(UserError, match=r"none\.txt does not exist"):
        read(tmp_path / "none.txt")


def test_a_data_set_of_the_hub_names_its_sources_as_a_file_does(tmp_path: Path) -> None:
    rows = [{"text": "one", "source": "a"}, {"text": "two", "source": None}]
    Dataset.from_list(rows).to_parquet(tmp_path / "sources" / "validation-00000-of-00001.parquet")
    args = EncoderArguments(validation_file=str(tmp_path / "sources"))
    assert read_texts(args, "validation").rows == rows
    record = read_texts(args, "validation").record
    assert (record.name, record.file) == ("sources", True)
    assert Encoder.sources(args) is not None
    for name, row in (("plain", {"text": "one"}), ("number", {"text": "one", "source": 3})):
        Dataset.from_list([row]).to_parquet(tmp_path / name / "validation-00000-of-00001.parquet")
        args = EncoderArguments(validation_file=str(tmp_path / name))
        assert read_texts(args, "validation").rows == [{"text": "one", "source": None}]


def test_no_article_is_trained_on_and_judged_on() -> None:
    paragraphs = {f"A{i}": [f"{i}.{j}" for j in range(3)] for i in range(10)}
    train, dev = text_rows(paragraphs, held_out=0.3)
    articles = [{row["source"] for row in rows} for rows in (train, dev)]
    assert not articles[0] & articles[1] and len(articles[1]) == 3
    assert sorted(row["text"] for row in train + dev) == sorted(
        text for texts in paragraphs.values() for text in texts
    )
    assert text_rows(paragraphs, held_out=0.3) == (train, dev)
    assert len({row["source"] for row in train[:7]}) > 3  # the first rows are of many articles


def test_of_few_articles_paragraphs_are_held_out() -> None:
    train, dev = text_rows({"A": [str(i) for i in range(40)]})
    assert (len(train), len(dev)) == (38, 2)
    assert not {row["text"] for row in train} & {row["text"] for row in dev}
    assert [len(part) for part in text_rows({"A": ["a"], "B": ["b"]})] == [1, 1]
    with pytest.raises(UserError, match="there is one paragraph alone"):
        text_rows({"A": ["a"]})


def test_the_scores_are_over_all_masked_tokens() -> None:
    found = scores_of(ANSWERS)
    assert found["accuracy"] == 50
    assert found["perplexity"] == pytest.approx(math.exp((0.5 + 2 + 0.25 + 3) / 4))
    parts = text_scores(ANSWERS, 3)
    assert 100 * parts.mean() == pytest.approx(50)
    others = [ANSWERS.keys() - {str(i)} for i in range(3)]
    without = [
        scores_of({name: ANSWERS[name] for name in kept})["accuracy"] / 100 for kept in others
    ]
    assert parts.tolist() == pytest.approx([0.5 + 2 * (sum(without) / 3 - one) for one in without])
    assert scores_of({"0": [["a", "b", 5000.0]]})["perplexity"] < math.inf


@pytest.mark.parametrize(
    "answer",
    [
        "x",
        [["a", "b"]],
        [["a", "b", -1]],
        [["a", "b", math.nan]],
        [["a", "b", 10**400]],
        [["a", 3, 1.0]],
        [1],
    ],
)
def test_answers_of_another_kind_are_refused(answer: Any) -> None:
    with pytest.raises(UserError, match="the answer to text 0 must be a list with"):
        check_answers({"0": answer}, 1, "answers.json")
    with pytest.raises(UserError, match="no text has a masked token"):
        check_answers({"0": []}, 1, "answers.json")


def test_a_file_of_answers_that_lacks_a_text_has_no_score(tmp_path: Path) -> None:
    texts, answers = tmp_path / "a.txt", tmp_path / "answers.json"
    texts.write_text("The Rhine.\nThe Elbe.\nThe Oder.\n")
    args = MaskedLMArguments(validation_file=str(texts))
    whole = {
        "0": [["a", "a", 0.5]],
        "1": [["b", "a", 0.5]],
        "2": [],
    }  # no token of the last is masked
    answers.write_text(json.dumps(whole))
    assert MaskedLM.score_file(args, str(answers))["accuracy"] == 50
    answers.write_text(json.dumps({name: whole[name] for name in "02"}))
    with pytest.raises(UserError, match="1 of 3 texts have no answer, the first of them text 1 "):
        MaskedLM.score_file(args, str(answers))


def test_two_models_disagree_at_the_first_token_that_they_predict_differently() -> None:
    rows = [{"text": "zero"}, {"text": "one"}, {"text": "two"}]
    student = {"0": [["a", "a", 1], ["b", "x", 1]], "1": [["a", "b", 1]], "2": [["c", "c", 1]]}
    teacher = {"0": [["a", "a", 1], ["b", "b", 1]], "1": [["a", "b", 1]], "2": [["c", "d", 1]]}
    found = disagreements(student, teacher, rows)
    assert (found["questions"], found["teacher_right"], found["student_right"]) == (3, 1, 1)
    first = found["examples"][0]
    assert first["question"] == "masked token 2 of the text" and first["context"] == "zero"
    (shown,) = disagreements(student, teacher, [{"text": "a" * 400}])["examples"]
    assert shown["context"] == "a" * 300 + " ..."
    assert (first["student"]["text"], first["teacher"]["text"]) == ("x", "b")


def test_states_are_compared_by_their_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    states, others = (torch.randn(3, 20, 8, generator=generator) for _ in range(2))
    lengths = torch.tensor([20, 5, 17])
    true = spread_states(others, lengths)
    assert true.shape == (3, 16, 8)
    assert torch.equal(true[1, 0], others[1, 0]) and torch.equal(true[1, -1], others[1, 4])
    judge = LikenessJudge(lambda: true.numpy(), [0, 0, 1], 2)
    found = spread_states(states, lengths)
    nothing: Any = None
    score = judge(EvalPrediction(predictions=found.numpy(), label_ids=nothing))
    cosines = F.cosine_similarity(found, true, dim=-1).mean(1)
    expected = (cosines[:2].mean() + cosines[2]) / 2
    assert score["cosine"] == pytest.approx(100 * float(expected), abs=1e-3)
    assert judge.predictions["1"] == pytest.approx(float(cosines[2]), abs=1e-5)
    again = LikenessJudge(lambda: true.numpy(), [0, 0, 1], 2)
    assert again(EvalPrediction(true.numpy(), nothing))["cosine"] == pytest.approx(100, abs=1e-3)
    with pytest.raises(UserError, match="the states of the model have 4 numbers and those of"):
        again(EvalPrediction(predictions=np.zeros((3, 16, 4)), label_ids=nothing))


def test_the_mean_cosine_of_a_group_may_be_negative() -> None:
    """It was shown as 0 %."""
    rows = [{"text": "one two", "source": None}, {"text": "three", "source": None}]
    data: Any = SimpleNamespace(examples=rows)
    found = Encoder(EncoderArguments()).breakdown({"0": -0.25, "1": -0.5}, data)
    assert list(found["words"].values()) == [{"questions": 2, "cosine": -37.5}]


def test_a_narrower_student_is_refused_before_its_training(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\n")
    task = Encoder(EncoderArguments(train_file=str(path), validation_file=str(path)))

    def bert(width: int) -> BertModel:
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
        return BertModel(BertConfig(vocab_size=7, hidden_size=width, **sizes))

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two")
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    task.judged_beside(bert(8), bert(8))
    task.load(tokenizer, bert(8))
    task.judged_beside(bert(8), bert(4))
    with pytest.raises(UserError, match="the states of the model have 4 numbers and those of"):
        task.load(tokenizer, bert(8))
