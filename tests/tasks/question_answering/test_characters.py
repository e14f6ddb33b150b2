"""Answers are trimmed and hold whole grapheme clusters: in the windows, the evaluation and the pipeline alike."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from itrd_nlp.tasks.question_answering import best_answers, decode_spans, evaluation_features
from itrd_nlp.tasks.question_answering.characters import whole_characters
from itrd_nlp.tasks.question_answering.features import training_features
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline
from itrd_nlp.tasks.question_answering.scoring import exact_match

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
# What a reader sees as one character, and what becomes of it in the middle.
CLUSTERS = {
    "combining mark": "e\u0301",
    "two marks": "a\u0323\u0302",
    "variation selector": "\N{HEAVY BLACK HEART}\ufe0f",
    "joined emoji": FAMILY,
    "skin": "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "flag": "\N{REGIONAL INDICATOR SYMBOL LETTER C}\N{REGIONAL INDICATOR SYMBOL LETTER H}",
    "jamo": "\u1112\u1161\u11ab",
    "keycap": "1\ufe0f\u20e3",
}


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS.keys())
def test_a_cluster_is_never_cut(cluster: str) -> None:
    text = f"so {cluster} it"
    every = np.array([[i, i + 1] for i in range(len(text))], np.int32)
    end = 3 + len(cluster)
    assert whole_characters(text, every)[3:end].tolist() == [[3, end]] * len(cluster)
    others = [i for i in range(len(text)) if not 3 <= i < end and text[i] != " "]
    assert whole_characters(text, every)[others].tolist() == every[others].tolist()


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("a the b", [[0, 1], [1, 5], [5, 7]], [[0, 1], [2, 5], [6, 7]]),
        ("a  b", [[0, 1], [1, 3], [3, 4]], [[0, 1], [3, 3], [3, 4]]),
        ("a\u00a0\u3000b\n", [[0, 2], [2, 4], [4, 5]], [[0, 1], [3, 4], [5, 5]]),
        ("\r\n", [[0, 2]], [[2, 2]]),
        ("a \u0301b", [[0, 1], [1, 3], [3, 4]], [[0, 1], [2, 3], [3, 4]]),  # a mark on a space
        ("\u0301a", [[0, 2]], [[0, 2]]),
        ("ab", [[0, 0], [0, 2], [2, 2]], [[0, 0], [0, 2], [2, 2]]),
        ("é", [], []),
        ("", [], []),
    ],
)
def test_white_space_belongs_to_no_answer(text: str, offsets: Any, expected: Any) -> None:
    found = whole_characters(text, np.array(offsets, np.int32).reshape(-1, 2))
    assert found.tolist() == expected


def test_offsets_stay_in_order_whatever_the_text() -> None:
    draw = np.random.default_rng(0)
    pool = [*"ab \n\u0301\u200d\ufe0f\u3000", *FAMILY, *CLUSTERS["flag"]]
    for _ in range(300):
        text = "".join(draw.choice(pool, size=draw.integers(1, 30)))
        cuts = [0, *sorted(draw.integers(0, len(text) + 1, size=6).tolist()), len(text)]
        raw = np.array(list(itertools.pairwise(cuts)), np.int32)
        found = whole_characters(text, raw)
        assert (np.diff(found, axis=0) >= 0).all()
        for first, last in found[found[:, 0] < found[:, 1]].tolist():
            assert text[first:last].strip() == text[first:last]


# ---- with a tokenizer that counts the space to the word ----

CONTEXT = f"  in the Cafe\u0301 {CLUSTERS['flag']}  of   Zu\u0308rich {FAMILY}  \n"
WORDS = ["in", "the", "Cafe", "of", "Zurich"]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """As SentencePiece makes it: the space is a part of the word, and marks are normalised away."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = special + [f"▁{word}" for word in WORDS] + ["▁"] + sorted({*"".join(WORDS), *CONTEXT})
    pieces = list(dict.fromkeys(pieces))
    scores = [(piece, -1.0 if len(piece) > 1 else -9.0) for piece in pieces]
    backend = Tokenizer(models.Unigram(scores, unk_id=3))
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk")},
    )


def questions(*answers: str) -> Dataset:
    return Dataset.from_list(
        [
            {
                "id": str(i),
                "title": "",
                "context": CONTEXT,
                "question": "of the",
                "answers": {"text": [text], "answer_start": [CONTEXT.index(text)]},
            }
            for i, text in enumerate(answers)
        ]
    )


def test_the_tokenizer_is_of_the_kind_that_is_meant(tokenizer: PreTrainedTokenizerFast) -> None:
    raw = tokenizer(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)
    shown = [CONTEXT[a:b] for a, b in raw["offset_mapping"]]
    assert " the" in shown and " " in shown
    assert " Cafe" in shown and " Cafe\u0301" not in shown


def test_no_span_has_white_space_at_its_ends_or_half_a_character(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    examples = questions("the")
    features = evaluation_features(examples, tokenizer, max_length=96, doc_stride=8)
    draw = np.random.default_rng(0)
    start, end = draw.standard_normal((2, len(features), 96))
    spans = decode_spans(start, end, features, examples, n_best=10_000, max_answer_length=8)["0"]
    texts = {span.text for span in spans}
    assert len(texts) > 20
    for text in texts:
        assert text and text.strip() == text
        assert not text.endswith(("Cafe", "\u200d", CLUSTERS["flag"][0]))
        assert not text.startswith(("\u0301", "\u200d", CLUSTERS["flag"][1]))
    assert {"Cafe\u0301", CLUSTERS["flag"], FAMILY, "the"} <= texts


@pytest.mark.parametrize("answer", ["the", "Cafe\u0301", f"Cafe\u0301 {CLUSTERS['flag']}", FAMILY])
def test_a_model_that_finds_the_tokens_of_an_answer_has_an_exact_match(
    answer: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """From the answer to the positions that are learned, and back from these positions to the answer."""
    examples = questions(answer)
    features = evaluation_features(examples, tokenizer, max_length=96, doc_stride=8)
    learned = training_features(examples, tokenizer, max_length=96, doc_stride=8)
    first, last = learned["start_positions"][0], learned["end_positions"][0]
    assert 0 < first <= last
    start, end = np.zeros((2, len(features), 96))
    start[0, first], end[0, last] = 9, 9
    found = best_answers(start, end, features, examples)["0"]
    assert found == answer and exact_match(found, answer) == 1


def test_the_pipeline_finds_what_the_evaluation_finds(tokenizer: PreTrainedTokenizerFast) -> None:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,
    )
    qa = QuestionAnsweringPipeline(BertForQuestionAnswering(config), tokenizer, device="cpu")
    found = qa(question="of the", context=CONTEXT, top_k=10_000, max_answer_len=8)
    assert sum(answer["score"] for answer in found) == pytest.approx(1, abs=1e-5)
    for answer in found:
        text = answer["answer"]
        assert text == CONTEXT[answer["start"] : answer["end"]] == text.strip() != ""
        assert not text.endswith("Cafe")


def test_a_context_of_white_space_tokens_alone_has_no_answer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    examples = Dataset.from_list([{"id": "a", "context": "\u3000\u3000", "question": "of"}])
    features = evaluation_features(examples, tokenizer, max_length=16, doc_stride=2)
    zeros = np.zeros((len(features), 16))
    assert best_answers(zeros, zeros, features, examples) == {"a": ""}
