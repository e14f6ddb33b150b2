"""Models whose tokenizer holds the space in front of a word as a part of it, by the commands."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from commands import done, write_rows

TASK = ("--task", "classification")
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["rhine", "flows", "past", "bonn"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa whose tokenizer knows each word twice, with and without its space; a teacher and its student."""
    folder = tmp_path_factory.mktemp("byte_level")
    known = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *pre_tokenizers.ByteLevel.alphabet()]
    merges: list[tuple[str, str]] = []
    for word in ("Ġ" + word for word in WORDS):
        for begin in (0, 1):
            merges += [(word[begin:i], word[i]) for i in range(begin + 1, len(word))]
    merges = list(dict.fromkeys(merges))
    known += dict.fromkeys(a + b for a, b in merges)
    config = RobertaConfig(
        **SHAPE, vocab_size=len(known), intermediate_size=32, max_position_embeddings=66
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        RobertaForMaskedLM(config).save_pretrained("encoder")
        RobertaTokenizer(vocab={t: i for i, t in enumerate(known)}, merges=merges).save_pretrained(
            "encoder"
        )
        rows = [
            {"tokens": WORDS[i % 2 :], "labels": ["O"] * (3 - i % 2) + ["B-CITY"]} for i in range(8)
        ]
        write_rows("rows.jsonl", rows)
        data = {"train_file": "rows.jsonl", "validation_file": "rows.jsonl", "max_length": 32}
        run = {"max_steps": 20, "learning_rate": 0.02, "save_strategy": "no", "disable_tqdm": True}
        teacher = {"model_name_or_path": "encoder", "output_dir": "teacher"}
        student = {"teacher": "teacher", "num_layers": 1, "output_dir": "student", "max_steps": 1}
        for name, own in (("teacher", teacher), ("student", student)):
            Path(f"{name}.yaml").write_text(json.dumps(data | run | {"report_to": "none"} | own))
        done("fine-tune", "teacher.yaml", *TASK)
        done("distil", "student.yaml", *TASK)
    return folder


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_a_text_has_the_labels_of_its_words(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    monkeypatch.chdir(workplace)
    assert AutoTokenizer.from_pretrained(model).tokenize("bonn flows") == ["Ġbonn", "Ġflows"]
    words = json.dumps({"tokens": WORDS}).encode()
    caplog.set_level(logging.WARNING, "itrd_nlp")
    of_words: Any = json.loads(done("predict", "--model", model, "--input", "-", stdin=words))
    of_text: Any = json.loads(done("predict", "--model", model, "--text", " ".join(WORDS)))
    assert of_text["tokens"] == WORDS
    assert of_text["labels"] == of_words["labels"]
    assert of_text["scores"] == pytest.approx(of_words["scores"], abs=1e-6)
    assert of_text["entities"] == of_words["entities"]
    assert not caplog.messages
    if model == "teacher":  # which has learned the rows
        assert [found["text"] for found in of_text["entities"]] == ["bonn"]
