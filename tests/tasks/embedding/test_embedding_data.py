"""Texts to train on and to judge on: what is read and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

from itrd_nlp.errors import UserError
from itrd_nlp.publish.report.data import Group
from itrd_nlp.tasks.embedding.arguments import EmbeddingArguments
from itrd_nlp.tasks.embedding.data import read_pairs, read_training
from itrd_nlp.tasks.embedding.from_squad import similarity, similarity_rows
from itrd_nlp.tasks.embedding.retrieval import Embedding, corpus_of, relevant_passages
from itrd_nlp.tasks.embedding.similarity import SentenceSimilarity
from itrd_nlp.tasks.jobs.speed import milliseconds_per_question


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_query_goes_with_its_most_relevant_passage(tmp_path: Path) -> None:
    found = read_training(
        written(
            tmp_path / "x.jsonl",
            {"query": "a", "passages": ["p", "q"], "labels": [1, 2]},
            {"query": "b", "passages": ["r", "s"], "labels": [0, 0]},
            {"query": "c", "passages": ["q"], "labels": [1]},
        )
    )
    assert (found.kind, found.labelled) == ("queries", True)
    assert found.rows == [["a", "q"], ["c", "q"]]
    assert found.labels == [0, 0]  # both have one passage


def test_queries_without_labels_go_with_their_first_passage(tmp_path: Path) -> None:
    found = read_training(written(tmp_path / "x.jsonl", {"query": "a", "passages": ["p", "q"]}))
    assert (found.rows, found.labelled) == ([["a", "p"]], False)


def test_pairs_and_single_texts_are_read(tmp_path: Path) -> None:
    pair = {"text": "a", "text_pair": "b", "score": 1}
    found = read_training(written(tmp_path / "x.jsonl", pair))
    assert (found.kind, found.rows, found.labels) == ("pairs", [["a", "b"]], [1.0])
    found = read_training(written(tmp_path / "y.jsonl", {"text": "a"}, {"text": "b"}), 1)
    assert (found.kind, found.rows, found.labelled) == ("texts", [["a"]], False)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no text"),
        ([{"text": "a"}, {"text": " "}], "x.jsonl:2: \"text\" is ' ', but must be a string"),
        ([{"text": "a"}, {"query": "a"}], 'x.jsonl:2: "text" is None'),
        ([{"text": "a", "text_pair": "", "score": 1}], "\"text_pair\" is ''"),
        ([{"text": "a", "text_pair": "b"}], '"score" is None, but must be a finite number'),
        ([{"text": "a", "text_pair": "b", "score": float("nan")}], '"score" is nan'),
        ([{"text": "a", "text_pair": "b", "score": True}], '"score" is True'),
        ([{"text": "a", "text_pair": "b", "score": 10**400}], "0, but must be a finite number"),
        (
            [{"text": "a"}, {"text": "b", "text_pair": "c", "score": 1}],
            'x.jsonl:2: "text_pair" is there, but the first line of the file is a single text',
        ),
        (
            [{"text": "a", "text_pair": None}, {"text": "b", "query": "c", "passages": ["d"]}],
            'x.jsonl:2: "query" is there, but the first line of the file is a single text',
        ),
        (
            [{"text": "a", "text_pair": "b", "score": 1, "source": 3}],
            'x.jsonl:1: "source" is 3, but must be a string',
        ),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(
    tmp_path: Path, rows: list[Any], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        read_training(written(tmp_path / "x.jsonl", *rows))
    assert sentence in str(error.value)


def test_pairs_of_one_score_have_no_order(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", *[{"text": "a", "text_pair": "b", "score": 2}] * 3)
    assert len(read_pairs(path)) == 3
    with pytest.raises(UserError, match="has the score 2 alone, so there is no order"):
        _ = SentenceSimilarity(EmbeddingArguments(validation_file=str(path)))._validation


def test_a_file_of_answers_with_a_number_that_no_float_holds_is_refused(tmp_path: Path) -> None:
    pairs = [{"text": "a", "text_pair": "b", "score": i} for i in range(2)]
    args = EmbeddingArguments(validation_file=str(written(tmp_path / "x.jsonl", *pairs)))
    answers = written(tmp_path / "answers.json", {"0": 10**400, "1": 0.5})
    with pytest.raises(UserError, match=r"the answer to pair 0 is 10+, but must be a similarity"):
        SentenceSimilarity.score_file(args, str(answers))


def test_a_pair_without_an_answer_has_the_mean_cosine_of_the_others(tmp_path: Path) -> None:
    """Not 0, which would be the right answer to a pair of opposites and of all others."""
    pairs = [{"text": "a", "text_pair": "b", "score": i} for i in range(4)]
    args = EmbeddingArguments(validation_file=str(written(tmp_path / "x.jsonl", *pairs)))
    answers = written(tmp_path / "answers.json", {"1": 0.2, "2": 0.3, "3": 0.9})
    found = SentenceSimilarity.score_file(args, str(answers))
    expected = spearmanr([0, 1, 2, 3], [(0.2 + 0.3 + 0.9) / 3, 0.2, 0.3, 0.9]).statistic
    assert found == {"spearman": pytest.approx(100 * expected), "rows": 4, "missing": 1}


def test_training_queries_without_a_relevant_passage_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"query": "a", "passages": ["p"], "labels": [0]})
    with pytest.raises(UserError, match="has no query with a relevant passage"):
        _ = Embedding(EmbeddingArguments(train_file=str(path)))._train


def test_a_passage_of_several_queries_is_one_of_the_choice() -> None:
    rows = [
        {"passages": ["p", "q"], "labels": [1.0, 0.0]},
        {"passages": ["q", "r"], "labels": [2.0, 1.0]},
    ]
    assert corpus_of(rows) == ["p", "q", "r"]
    assert relevant_passages(rows) == [[0], [1, 2]]


def judged(tmp_path: Path, scores: list[float], **fields: Any) -> SentenceSimilarity:
    rows = [{"text": "a", "text_pair": "b", "score": score} | fields for score in scores]
    path = written(tmp_path / "pairs.jsonl", *rows)
    return SentenceSimilarity(EmbeddingArguments(validation_file=str(path)))


def data_of(task: SentenceSimilarity) -> Any:
    return SimpleNamespace(examples=task._validation)


def test_pairs_name_their_source_for_the_intervals(tmp_path: Path) -> None:
    task = judged(tmp_path, [0, 1, 2])
    assert SentenceSimilarity.sources(task.args) is None
    task = judged(tmp_path, [0, 1, 2], source="Rhine")
    assert SentenceSimilarity.sources(task.args).tolist() == [0, 0, 0]


def test_models_with_equal_ranks_do_not_disagree_about_pairs_of_equal_scores(
    tmp_path: Path,
) -> None:
    task = judged(tmp_path, [0.0] * 5 + [1.0] * 5)
    good = {str(i): float(i >= 5) for i in range(10)}
    odd = good | {"0": 1.0}
    found = task.disagreements(good, odd, data_of(task))
    assert len(found["examples"]) == 1
    (only,) = found["examples"]
    assert only["student"]["exact_match"] and not only["teacher"]["exact_match"]


def test_of_two_models_that_are_equally_far_from_the_truth_neither_is_right(tmp_path: Path) -> None:
    """The first pair has the rank 3 of 5: the student gives it rank 1, the teacher rank 5."""
    task = judged(tmp_path, [3.0, 1.0, 2.0, 4.0, 5.0])
    student, teacher = (
        {str(i): float(value) for i, value in enumerate(values)}
        for values in ([1, 2, 3, 4, 5], [5, 1, 2, 3, 4])
    )
    found = task.disagreements(student, teacher, data_of(task))
    assert (found["neither_right"], found["teacher_right"]) == (1, 0)
    (only,) = found["examples"]
    assert not only["student"]["exact_match"] and not only["teacher"]["exact_match"]


def test_a_third_whose_pairs_are_equally_alike_has_no_correlation(tmp_path: Path) -> None:
    answers = {str(i): i / 10 for i in range(9)}
    task = judged(tmp_path, [0, 0, 0, 1, 2, 3, 5, 5, 5])
    groups = task.breakdown(answers, data_of(task))["score"]
    assert groups == {"middle third": {"questions": 3, "spearman": pytest.approx(100)}}
    task = judged(tmp_path, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert task.breakdown(answers, data_of(task)) == {}


def test_a_correlation_inside_of_a_third_may_be_negative(tmp_path: Path) -> None:
    """The thirds lie in the right order, and each of them is reversed inside. It was shown as 0."""
    task = judged(tmp_path, [float(i) for i in range(9)])
    answers = {str(i): (i // 3 * 3 + 2 - i % 3) / 10 for i in range(9)}
    groups = task.breakdown(answers, data_of(task))["score"]
    shown = [Group.model_validate(group).scores for group in groups.values()]
    assert shown == [{"spearman": pytest.approx(-100)}] * 3


def squad(title: str, context: str, question: str) -> dict[str, str]:
    return {"title": title, "context": context, "question": question}


def test_pairs_of_squad_are_scored_by_what_their_questions_share() -> None:
    examples = [
        squad(title, f"{title} {part}", f"{title} {part} {i}?")
        for i in range(3)
        for part in range(2)
        for title in ("Rhine", "Bonn")
    ]
    where = {row["question"]: row for row in examples}
    rows = list(similarity_rows(examples))
    assert [row["score"] for row in rows] == [1, 0.5, 0] * 4
    assert [row["text"] for row in rows] == [row["question"] for row in examples]
    for row in rows:
        one, other = where[row["text"]], where[row["text_pair"]]
        assert one is not other and row["source"] == one["title"]
        shared = [one[name] == other[name] for name in ("title", "context")]
        assert shared == {1: [True, True], 0.5: [True, False], 0: [False, False]}[row["score"]]
    assert list(similarity_rows(examples)) == rows
    assert list(similarity_rows(examples, seed=1)) != rows


def test_a_question_without_another_of_its_score_gives_no_pair() -> None:
    alone = [squad("Rhine", "a", "a?"), squad("Rhine", "a", " a? "), squad("Rhine", "b", "b?")]
    assert [similarity(alone[0], other) for other in alone] == [None, None, 0.5]
    with pytest.raises(UserError, match="all pairs of questions would have one similarity"):
        list(similarity_rows(alone))


class Counting(torch.nn.Module):
    """Remembers the texts of its batches."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[int]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.read.append(input_ids[attention_mask.bool()].tolist())
        return {"logits": torch.zeros(len(input_ids), 2)}


@pytest.mark.parametrize("task", [SentenceSimilarity, Embedding])
def test_a_pair_waits_for_both_texts_and_a_query_for_itself_alone(
    make_reader: Any, tmp_path: Path, task: Any
) -> None:
    words = [f"w{i}" for i in range(40)]
    reader, tokenizer = make_reader(words, 1)
    pairs = [{"text": words[i], "text_pair": words[i + 20], "score": i} for i in range(10)]
    queries = [{"query": words[i], "passages": words[20:], "labels": [1] * 20} for i in range(10)]
    rows = pairs if task is SentenceSimilarity else queries
    args = EmbeddingArguments(validation_file=str(written(tmp_path / "rows.jsonl", *rows)))
    data = task(args).load(tokenizer, reader, training=False)
    model: Any = Counting()
    milliseconds_per_question({"a": model}, data.evaluation, data.collator, rounds=1)
    read = [tokenizer.decode(ids, skip_special_tokens=True) for ids in model.read]
    waited = [[row["text"], row["text_pair"]] if "text" in row else [row["query"]] for row in rows]
    assert read == [text for texts in waited for text in texts] * 2  # once to warm up
