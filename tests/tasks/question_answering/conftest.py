"""A small SQuAD of random words, and two tokenizers with vocabularies of letters and bytes."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

WORDS = [
    *("the", "a", "an", "of", "river", "Rhine", "flows", "1,230", "km.", "(in", "Alps),", "U.S."),
    *("café", "naïve", "don't", "well-known", "Zürich", "東京", "“quoted”", "e=mc²", "x", "y"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees what another one, or the user, has in the cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def bert_tokenizer() -> BertTokenizerFast:
    characters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "river", "##ver", "flow"]
    tokens += [*characters, *(f"##{c}" for c in characters), *string.punctuation]
    # A model_max_length that is too small on purpose: the features have their own.
    return BertTokenizerFast(
        vocab={token: i for i, token in enumerate(tokens)}, model_max_length=12
    )


@pytest.fixture
def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, two separators in the middle, no token types, padding id 1."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokens = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[], unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def squad(
    *, articles: int = 3, questions: int = 3, words: int = 60, seed: int = 0
) -> dict[str, Any]:
    """The official nesting with random contexts; answers are words of them."""
    draw = random.Random(seed)
    data = []
    for a in range(articles):
        paragraphs = []
        for p in range(2):
            parts = [draw.choice(WORDS) for _ in range(draw.randint(1, words))]
            context, begins = "", []
            for part in parts:
                context += draw.choice(("", " ", "\n")) if not begins else draw.choice((" ", "  "))
                begins.append(len(context))
                context += part
            qas = []
            for q in range(questions):
                first = draw.randrange(len(parts))
                last = min(first + draw.randrange(4), len(parts) - 1)
                end = begins[last] + len(parts[last])
                # Without the punctuation at its ends, so that tokens touch the answer.
                end -= len(parts[last]) - len(parts[last].rstrip(").,”"))
                begin = begins[first] + len(parts[first]) - len(parts[first].lstrip("(“"))
                qas.append(
                    {
                        "id": f"{a}-{p}-{q}",
                        "question": " ".join(draw.choices(WORDS, k=draw.randint(1, 5))) + "?",
                        "answers": [{"text": context[begin:end], "answer_start": begin}],
                    }
                )
            paragraphs.append({"context": context, "qas": qas})
        data.append({"title": f"article {a}", "paragraphs": paragraphs})
    return {"version": "1.1", "data": data}


@pytest.fixture
def squad_content() -> dict[str, Any]:
    return squad()


@pytest.fixture
def write_squad(tmp_path: Path) -> Callable[..., Path]:
    """Write a random SQuAD file (or the content given) and return its path."""

    def write(content: Any = None, name: str = "squad.json", **shape: int) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(squad(**shape) if content is None else content))
        return path

    return write
