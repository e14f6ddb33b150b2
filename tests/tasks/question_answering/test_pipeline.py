"""The pipeline: held against the evaluation's decoding and against a loop over all spans."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertTokenizerFast,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForQuestionAnswering,
)
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs.evaluate import evaluate
from itrd_nlp.tasks.question_answering import (
    best_answers,
    decode_spans,
    evaluation_features,
    read_squad,
)
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline, load_pipeline
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.tasks.question_answering.window_sizes import WindowSizes
from itrd_nlp.training.record import RunRecord

CONTEXT = "the river flows past a town, and then it flows on to the sea."
LONG = " ".join(f"the river {i} flows in {i * 7} to x{i}." for i in range(60))


def tiny(tokenizer: PreTrainedTokenizerBase, *, seed: int = 0, dropout: float = 0.0) -> Any:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 130,
        "hidden_dropout_prob": dropout,
        "initializer_range": 0.5,  # so that logits differ
    }
    if "token_type_ids" in tokenizer.model_input_names:
        return BertForQuestionAnswering(BertConfig(**sizes))
    return RobertaForQuestionAnswering(RobertaConfig(**sizes, pad_token_id=1))


class Table(torch.nn.Module):
    """Logits looked up by token: no PreTrainedModel, and easy to compute by hand."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, null: float = 0.0) -> None:
        super().__init__()
        self.config = BertConfig(vocab_size=len(tokenizer))
        self.start, self.end = torch.randn(2, len(tokenizer), generator=torch.manual_seed(3))
        self.start[tokenizer.cls_token_id] = null
        self.end[tokenizer.cls_token_id] = 0.0

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> QuestionAnsweringModelOutput:
        # Longer windows are surer that there is no answer.
        start = self.start[input_ids].clone()
        start[:, 0] += attention_mask.sum(1) / 100
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=self.end[input_ids])


@pytest.fixture
def qa(bert_tokenizer: BertTokenizerFast) -> QuestionAnsweringPipeline:
    return QuestionAnsweringPipeline(tiny(bert_tokenizer), bert_tokenizer)


@pytest.fixture
def table(bert_tokenizer: BertTokenizerFast) -> QuestionAnsweringPipeline:
    return QuestionAnsweringPipeline(Table(bert_tokenizer), bert_tokenizer)


def evaluation_logits(model: Any, features: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each window, run alone."""
    logits = np.full((2, len(features), max(features["length"])), -1e9, dtype=np.float32)
    for n, row in enumerate(features):
        names = {"input_ids", "token_type_ids"} & set(row)
        with torch.no_grad():
            output = model.eval()(**{name: torch.tensor([row[name]]) for name in names})
        logits[0, n, : row["length"]] = output.start_logits[0].numpy()
        logits[1, n, : row["length"]] = output.end_logits[0].numpy()
    return logits[0], logits[1]


@pytest.mark.parametrize("kind", ["bert_tokenizer", "roberta_tokenizer"])
@pytest.mark.parametrize(
    ("max_length", "doc_stride", "longest", "batch_size"),
    [(128, 40, 30, 1), (80, 20, 7, 5), (70, 0, 1, 16)],
)
def test_answers_are_those_of_the_evaluation(
    kind: str,
    max_length: int,
    doc_stride: int,
    longest: int,
    batch_size: int,
    write_squad: Callable[..., Path],
    request: pytest.FixtureRequest,
) -> None:
    tokenizer = request.getfixturevalue(kind)
    windows = 0
    for seed in range(3):
        model = tiny(tokenizer, seed=seed)
        qa = QuestionAnsweringPipeline(model, tokenizer, doc_stride=doc_stride)
        examples = read_squad(write_squad(articles=2, seed=seed), split="validation")
        sizes = {"max_length": max_length, "doc_stride": doc_stride}
        features = evaluation_features(examples, tokenizer, **sizes)
        logits = evaluation_logits(model, features)
        options = {
            "max_length": max_length,
            "max_answer_len": longest,
            "batch_size": batch_size,
        }
        windows += len(features) - len(examples)

        rows = list(examples)
        best = best_answers(*logits, features, examples, max_answer_length=longest)
        assert [a["answer"] for a in qa(rows, **options)] == list(best.values())
        expected = decode_spans(*logits, features, examples, max_answer_length=longest)
        for row, found in zip(rows, qa(rows, top_k=20, **options), strict=True):
            spans = expected[row["id"]]
            assert [(a["start"], a["end"]) for a in found] == [(s.start, s.end) for s in spans]
            assert [a["answer"] for a in found] == [
                row["context"][a["start"] : a["end"]] for a in found
            ]
            # Where there are no more than 20 spans, both are softmaxes over the same ones.
            total = math.fsum(a["score"] for a in found)
            np.testing.assert_allclose(
                [a["score"] / total for a in found], [s.score for s in spans], rtol=1e-3
            )
    assert windows > 20, "the contexts are too short for this test"


def all_spans(
    qa: QuestionAnsweringPipeline, question: str, context: str, longest: int, room: int, step: int
) -> tuple[dict[tuple[int, int], float], float]:
    """Every span with its logit, and the logit of no answer, from the table, by loops."""
    encode = qa.tokenizer.backend_tokenizer.encode
    start, end = qa.model.start.tolist(), qa.model.end.tolist()
    head = len(encode(question).ids)
    body = encode(context, add_special_tokens=False)
    spans: dict[tuple[int, int], float] = {}
    null = math.inf
    begin = 0
    while True:
        part = range(begin, min(begin + room, len(body.ids)))
        for i in part:
            for j in range(i, min(i + longest, part.stop)):
                logit = start[body.ids[i]] + end[body.ids[j]]
                spans[body.offsets[i][0], body.offsets[j][1]] = logit
        null = min(null, (head + len(part) + 1) / 100)
        if part.stop == len(body.ids):
            return spans, null
        begin += step


@pytest.mark.parametrize("context", [CONTEXT, LONG])
@pytest.mark.parametrize("null", [None, -2.0, 0.0, 30.0])
def test_scores_are_the_softmax_over_every_span_of_all_windows(
    context: str, null: float | None, bert_tokenizer: BertTokenizerFast
) -> None:
    qa = QuestionAnsweringPipeline(Table(bert_tokenizer, null or 0.0), bert_tokenizer)
    question = "x y"  # 2 tokens and 3 special ones: 45 of the context in a window of 50
    spans, no_answer = all_spans(qa, question, context, longest=6, room=45, step=35)
    expected: dict[tuple[int, int], float] = dict(spans)
    if null is not None:
        expected[0, 0] = null + no_answer
    total = math.fsum(math.exp(logit) for logit in expected.values())
    options = {"max_length": 50, "doc_stride": 10, "max_answer_len": 6}
    found = qa(
        question=question,
        context=context,
        top_k=100_000,
        handle_impossible_answer=null is not None,
        **options,
    )
    assert len(found) == len(expected)
    assert math.fsum(answer["score"] for answer in found) == pytest.approx(1, abs=1e-6)
    for answer in found:
        wanted = math.exp(expected[answer["start"], answer["end"]]) / total
        assert answer["score"] == pytest.approx(wanted, rel=1e-4)
    assert [a["score"] for a in found] == sorted((a["score"] for a in found), reverse=True)
    if null == 30.0:
        assert found[0] == {"answer": "", "score": found[0]["score"], "start": 0, "end": 0}
        assert found[0]["score"] > 0.99


def test_a_score_depends_neither_on_top_k_nor_on_the_batch(qa: QuestionAnsweringPipeline) -> None:
    one = qa(question="the river", context=LONG)
    many = qa(question="the river", context=LONG, top_k=9, batch_size=7)
    assert len(many) == 9
    assert many[0]["answer"] == one["answer"]
    assert many[0]["score"] == pytest.approx(one["score"], rel=1e-4)


def test_parts_of_one_character_are_one_answer(
    roberta_tokenizer: PreTrainedTokenizerBase,
) -> None:
    # The three bytes of each of these are three tokens with the same characters.
    qa = QuestionAnsweringPipeline(tiny(roberta_tokenizer), roberta_tokenizer)
    found = qa(question="x", context="東京", top_k=100)
    assert sorted(a["answer"] for a in found) == ["京", "東", "東京"]
    assert math.fsum(a["score"] for a in found) == pytest.approx(1, abs=1e-6)


def test_all_ways_to_ask_give_the_same_answers(qa: QuestionAnsweringPipeline) -> None:
    questions, contexts = ["the river", "a town?", "x"], [CONTEXT, LONG, CONTEXT]
    rows = [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]
    answers = [qa(question=q, context=c) for q, c in zip(questions, contexts, strict=True)]
    assert set(answers[0]) == {"answer", "score", "start", "end"}
    assert [qa(row) for row in rows] == answers
    assert qa(question=questions, context=contexts) == answers
    assert qa(rows) == answers
    assert qa(tuple(rows)) == answers
    assert list(qa(row for row in rows)) == answers
    assert list(qa(Dataset.from_list(rows))) == answers
    assert qa(question=questions[::2], context=CONTEXT) == answers[::2]
    assert [found[0] for found in qa(rows, top_k=2)] == answers


def test_nothing_asked_is_nothing_answered(qa: QuestionAnsweringPipeline) -> None:
    assert qa([]) == []
    assert qa(question=[], context=[]) == []
    assert list(qa(iter([]))) == []


def test_options_of_a_call_win_over_those_of_the_construction(
    bert_tokenizer: BertTokenizerFast,
) -> None:
    model = tiny(bert_tokenizer)
    qa = QuestionAnsweringPipeline(model, bert_tokenizer, top_k=3, max_answer_len=1)
    plain = QuestionAnsweringPipeline(model, bert_tokenizer)
    pair = {"question": "the river", "context": CONTEXT}
    assert qa(pair) == plain(pair, top_k=3, max_answer_len=1)
    assert qa(pair, top_k=1, max_answer_len=30) == plain(pair)
    assert qa(pair) == plain(pair, top_k=3, max_answer_len=1)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stream_is_read_no_further_than_16_batches_ahead(
    table: QuestionAnsweringPipeline, batch_size: int
) -> None:
    read, ahead = 0, 1 if batch_size == 1 else 16 * batch_size

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        for read in itertools.count(1):
            yield {"question": f"the river {read}", "context": CONTEXT}

    stream = table(endless(), batch_size=batch_size)
    for answered, _ in enumerate(itertools.islice(stream, 100), start=1):
        assert read <= answered + ahead


@pytest.mark.parametrize("kind", [list, iter])
def test_batches_hold_windows_of_like_length(
    kind: Callable[[list[Any]], Any],
    table: QuestionAnsweringPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In their own order these rows would be padded to four times their length."""
    padding, places = 0, 0
    original = table.model.forward

    def counted(attention_mask: torch.Tensor, **others: torch.Tensor) -> Any:
        nonlocal padding, places
        padding += int((attention_mask == 0).sum())
        places += attention_mask.numel()
        return original(attention_mask=attention_mask, **others)

    monkeypatch.setattr(table.model, "forward", counted)
    contexts = ["the river", CONTEXT, "a town", CONTEXT * 3] * 8
    rows = [{"question": f"the river {n}", "context": text} for n, text in enumerate(contexts)]
    answers = list(table(kind(rows), batch_size=4))
    assert places > 0
    assert padding < 0.1 * places
    monkeypatch.undo()
    assert answers == [table(row) for row in rows]


def test_a_long_context_in_a_stream_goes_through_in_batches(
    table: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = table.model.forward

    def counted(input_ids: torch.Tensor, **others: torch.Tensor) -> Any:
        sizes.append(len(input_ids))
        return original(input_ids, **others)

    monkeypatch.setattr(table.model, "forward", counted)
    table(question="the river", context=LONG * 5, batch_size=8, max_length=64)
    assert max(sizes) == 8
    assert len(sizes) > 10


def test_windows_are_as_long_as_the_model_can_take(qa: QuestionAnsweringPipeline) -> None:
    assert qa(question="the", context=LONG) == qa(
        question="the", context=LONG, max_length=130, doc_stride=43
    )
    with pytest.raises(UserError, match="max_length is 131, but the model takes no more than 130"):
        qa(question="the", context=LONG, max_length=131)


def test_a_context_without_tokens_has_the_empty_answer(qa: QuestionAnsweringPipeline) -> None:
    nothing = {"answer": "", "score": 0.0, "start": 0, "end": 0}
    assert qa(question="the", context="\u200b") == nothing
    assert qa(question="the", context="\u200b", top_k=3) == [nothing]
    certain = qa(question="the", context="\u200b", handle_impossible_answer=True)
    assert certain == {**nothing, "score": 1.0}


def test_dropout_is_off(bert_tokenizer: BertTokenizerFast) -> None:
    model = tiny(bert_tokenizer, dropout=0.5).train()
    qa = QuestionAnsweringPipeline(model, bert_tokenizer)
    assert len({qa(question="the river", context=CONTEXT)["score"] for _ in range(5)}) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, bert_tokenizer: BertTokenizerFast) -> None:
    qa = QuestionAnsweringPipeline(tiny(bert_tokenizer).to(dtype), bert_tokenizer, batch_size=3)
    assert qa.dtype == dtype
    found = qa(question="the river", context=LONG, top_k=5)
    assert all(a["answer"] == LONG[a["start"] : a["end"]] for a in found)
    assert all(0 < a["score"] <= 1 for a in found)


@pytest.mark.gpu
def test_a_gpu_gives_the_answers_of_the_cpu(bert_tokenizer: BertTokenizerFast) -> None:
    rows = [{"question": f"the river {i}", "context": LONG} for i in range(5)]
    on_cpu = QuestionAnsweringPipeline(tiny(bert_tokenizer), bert_tokenizer, device="cpu")
    on_gpu = QuestionAnsweringPipeline(tiny(bert_tokenizer), bert_tokenizer, device="cuda:0")
    for cpu, gpu in zip(on_cpu(rows), on_gpu(rows, batch_size=8), strict=True):
        assert gpu["answer"] == cpu["answer"]
        assert gpu["score"] == pytest.approx(cpu["score"], rel=1e-2)


def test_load_pipeline_reads_a_folder(
    tmp_path: Path, qa: QuestionAnsweringPipeline, bert_tokenizer: BertTokenizerFast
) -> None:
    qa.model.save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, top_k=2, device="cpu")
    assert loaded(question="the", context=LONG) == qa(question="the", context=LONG, top_k=2)
    assert load_pipeline(str(tmp_path), dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UserError, match="device 'moon' cannot be used: "):
        load_pipeline(tmp_path, device="moon")
    with pytest.raises(UserError, match="does not exist"):
        load_pipeline(tmp_path / "absent")


PAIR = {"question": "the river", "context": CONTEXT}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {}, "There is no question, but a call needs a question and its context"),
        ([], {"question": "a"}, "There is no context, but"),
        ([], {"context": "a"}, "There is no question, but"),
        ([PAIR], {"question": "a"}, "either question and context, or inputs that hold both"),
        (["the river"], {}, "The input is a str, but must be a dict with question and context"),
        ([5], {}, "The input is a int, but must be"),
        ([[PAIR, "x"]], {}, "Input 2 is a str, but must be a dict"),
        ([{"question": "a"}], {}, "question 1: context is missing, but must be a text"),
        ([{"question": "a", "context": 5}], {}, "question 1: context is a int, but must be a text"),
        ([{"question": "a", "context": " \n"}], {}, "question 1: context is empty"),
        ([{"question": "", "context": "a"}], {}, "question 1: question is empty"),
        ([[PAIR, {"id": "q7", "context": "a"}]], {}, "question q7: question is missing"),
        ([], {"question": 5, "context": "a"}, "question is a int, but must be a text or a list"),
        ([], {"question": "a", "context": ["a"]}, "question 1: context is a list of 1, but must"),
        (
            [],
            {"question": ["a", "b"], "context": ["a"]},
            "question is a list of 2, but context is a list of 1; it must be a list of the same",
        ),
        ([PAIR], {"top_k": 0}, "top_k is 0, but must be an integer of at least 1"),
        ([PAIR], {"top_k": True}, "top_k is True, but must"),
        ([PAIR], {"max_answer_len": -1}, "max_answer_len is -1, but must"),
        ([PAIR], {"max_length": "10"}, "max_length is '10', but must"),
        ([PAIR], {"batch_size": 0}, "batch_size is 0, but must"),
        ([PAIR], {"doc_stride": -1}, "doc_stride is -1, but must be an integer of at least 0"),
        ([PAIR], {"max_length": 20, "doc_stride": 20}, "doc_stride is 20, but must be at least 0"),
        ([PAIR], {"handle_impossible_answer": "yes"}, "handle_impossible_answer is 'yes', but"),
        (
            [{"question": "the " * 200, "context": "a"}],
            {},
            "question 1: its 200 tokens leave room for 0 tokens of the context",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[Any], options: dict[str, Any], message: str, qa: QuestionAnsweringPipeline
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        qa(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_bad_row_of_a_stream_comes_after_the_answers_before_it(
    qa: QuestionAnsweringPipeline,
) -> None:
    stream = qa(iter([PAIR, {"question": "a"}]))
    assert next(stream) == qa(PAIR)
    with pytest.raises(UserError, match="question 2: context is missing"):
        next(stream)


def test_an_unknown_option_is_an_error(qa: QuestionAnsweringPipeline) -> None:
    with pytest.raises(TypeError, match="max_answer_length"):
        qa(PAIR, max_answer_length=3)


def test_a_list_is_looked_at_before_the_first_of_it_is_answered(
    qa: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one question that is too long would cost the answers to all before it."""
    monkeypatch.setattr(qa.model, "forward", None)  # it is not asked
    long = {"question": "the " * 500, "context": "the river", "id": "last"}
    with pytest.raises(UserError, match="question last: its 500 tokens leave room for 0 tokens"):
        qa([{"question": "the", "context": "the river"}] * 3 + [long])


# ---- the windows of the training ----


@pytest.mark.parametrize(
    ("most", "trained", "asked", "sizes"),
    [
        (512, None, {}, (384, 128)),
        (130, None, {}, (130, 43)),
        (None, None, {}, (384, 128)),
        (512, (256, 64), {}, (256, 64)),
        (None, (1024, 256), {}, (1024, 256)),
        (512, (256, 64), {"doc_stride": 32}, (256, 32)),
        (512, (384, 64), {"max_length": 256}, (256, 64)),
        (512, (384, 64), {"max_length": 384}, (384, 64)),
        (512, (384, 128), {"max_length": 140}, (140, 46)),  # a question needs room, too
        (512, (256, 64), {"max_length": 60}, (60, 20)),  # a stride of 64 makes no sense in it
        (130, (384, 128), {}, (130, 43)),  # no context of the training was so long
    ],
)
def test_windows_are_as_asked_for_else_as_in_the_training(
    most: int | None,
    trained: tuple[int, int] | None,
    asked: dict[str, int],
    sizes: tuple[int, int],
) -> None:
    known = (
        None if trained is None else dict(zip(("max_length", "doc_stride"), trained, strict=True))
    )
    assert WindowSizes(most, known).of(**asked) == sizes


def test_a_loaded_pipeline_answers_as_the_evaluation_of_its_model(
    bert_tokenizer: BertTokenizerFast, write_squad: Callable[..., Path], tmp_path: Path
) -> None:
    file, folder = write_squad(articles=2, seed=1), tmp_path / "model"
    for part in (tiny(bert_tokenizer), bert_tokenizer):
        part.save_pretrained(folder)
    default = load_pipeline(folder)
    read = {"max_length": 72, "doc_stride": 8}
    record = RunRecord(
        version=3,
        task="question-answering",
        metrics={"f1": "F1"},
        scores={"f1": 50},
        arguments=read,
    )
    record.write(folder)
    task = QuestionAnswering(DataArguments(validation_file=str(file), **read))
    _, expected = evaluate(task, str(folder), LoadingArguments())
    examples = list(read_squad(file, split="validation"))
    found, otherwise = (
        {row["id"]: one["answer"] for row, one in zip(examples, qa(examples), strict=True)}
        for qa in (load_pipeline(folder), default)
    )
    assert found == expected
    assert found != otherwise
