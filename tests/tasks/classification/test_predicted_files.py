"""`predict` reads the forms of files that a training reads, and says what the labels of a model are."""

from __future__ import annotations

import importlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizerFast,
    pipeline,
)

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.columns import Columns
from itrd_nlp.tasks.classification.data import read_rows

WORDS = ["rhine", "flows", "past", "bonn", "and", "basel"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LABELS = {0: "river", 1: "town", 2: "none"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of random weights, as they come from the Hub: no record, and no problem_type."""
    folder = tmp_path_factory.mktemp("predicted")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(**SHAPE, vocab_size=len(tokens), initializer_range=0.5, id2label=LABELS)
    torch.manual_seed(0)
    for name, kind in (
        ("texts", BertForSequenceClassification),
        ("tokens", BertForTokenClassification),
    ):
        kind(config).save_pretrained(folder / name)
        BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(
            folder / name
        )
    return folder


@pytest.fixture(autouse=True)
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


def predict(capsys: pytest.CaptureFixture[str], model: str, *arguments: str) -> list[Any]:
    module = importlib.import_module("itrd_nlp.cli.commands.predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["itrd-nlp predict", "--model", model, *arguments])
        module.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_table_is_read_as_its_training_reads_it(capsys: Any) -> None:
    texts = ['"rhine, and bonn"', "basel", "bonn flows"]
    Path("plain.jsonl").write_text(
        "\n".join(json.dumps({"text": text.strip('"')}) for text in texts)
    )
    Path("table.csv").write_text("text,label\n" + "\n".join(f"{text},town" for text in texts))
    Path("table.tsv").write_text("id\tsentence\n" + "\n".join(f"1\t{text}" for text in texts))
    expected = predict(capsys, "texts", "--input", "plain.jsonl")
    found = predict(capsys, "texts", "--input", "table.csv")
    assert [(row["text"], row["score"]) for row in found] == [
        (row["text"], pytest.approx(row["score"])) for row in expected
    ]
    named = predict(capsys, "texts", "--input", "table.tsv", "--text_column", "sentence")
    assert [row["label"] for row in named] == [row["label"] for row in expected]
    assert named[0]["sentence"] == named[0]["text"] == "rhine, and bonn"


def test_second_texts_of_a_table_may_be_empty(capsys: Any) -> None:
    Path("pairs.csv").write_text("a,b\nrhine,bonn\nbasel,\n")
    columns = ("--text_column", "a", "--text_pair_column", "b")
    found = predict(capsys, "texts", "--input", "pairs.csv", *columns)
    pair = predict(capsys, "texts", "--text", "rhine", "--text_pair", "bonn")
    alone = predict(capsys, "texts", "--text", "basel")
    assert [row["score"] for row in found] == pytest.approx(
        [pair[0]["score"], alone[0]["score"]], abs=1e-6
    )


@pytest.mark.parametrize("named", [(), ("--text_pair_column", "b")], ids=["usual", "named"])
def test_an_empty_second_text_is_none_in_every_form_of_file(capsys: Any, named: Any) -> None:
    column = "b" if named else "text_pair"
    Path("empty.csv").write_text(f"text,{column}\nbasel,\n")
    Path("empty.jsonl").write_text(json.dumps({"text": "basel", column: ""}))
    (alone,) = predict(capsys, "texts", "--text", "basel")
    for file in ("empty.csv", "empty.jsonl"):
        (found,) = predict(capsys, "texts", "--input", file, *named)
        assert found["score"] == pytest.approx(alone["score"], abs=1e-6)
        (row,) = read_rows(labelled(file), columns=Columns(text_pair=column))
        assert row == {"text": "basel", "label": "town"}


def labelled(file: str) -> Path:
    """The same file with a label in each line."""
    content = Path(file).read_text()
    path = Path(f"labelled-{file}")
    if file.endswith(".csv"):
        header, *rows = content.splitlines()
        path.write_text("\n".join([f"{header},label", *(f"{row},town" for row in rows)]))
    else:
        path.write_text(json.dumps(json.loads(content) | {"label": "town"}))
    return path


@pytest.mark.parametrize("model", ["texts", "tokens"])
def test_a_column_has_the_texts_or_the_tokens_that_the_option_names(
    model: str, capsys: Any
) -> None:
    column = {"texts": {"body": "bonn flows"}, "tokens": {"body": ["bonn", "flows"]}}[model]
    others = {"text": "rhine", "tokens": ["rhine"], "n": 3}
    Path("named.jsonl").write_text(json.dumps(others | column))
    own = {"texts": "text", "tokens": "tokens"}[model]
    Path("usual.jsonl").write_text(json.dumps({own: column["body"]}))
    (found,) = predict(capsys, model, "--input", "named.jsonl", "--text_column", "body")
    (expected,) = predict(capsys, model, "--input", "usual.jsonl")
    assert {name: found[name] for name in expected} == expected
    assert found["n"] == 3


@pytest.mark.parametrize("file", ["counted.csv", "counted.jsonl"])
def test_a_column_of_numbers_of_tokens_makes_no_text_one_of_tokens(file: str, capsys: Any) -> None:
    rows = "text,tokens\nbonn flows,2" if file.endswith("csv") else '{"text": "bonn", "tokens": 2}'
    Path(file).write_text(rows)
    (found,) = predict(capsys, "texts", "--input", file)
    assert found["label"] and str(found["tokens"]) == "2"


def test_a_text_column_that_a_line_lacks_is_named_and_the_others_are_answered(capsys: Any) -> None:
    Path("some.jsonl").write_text('{"text": "a", "bdy": "rhine"}\n{"text": "a", "body": "bonn"}')
    sentence = r"some\.jsonl:1: there is no column 'body', but text, bdy; did you mean bdy"
    with pytest.raises(UserError, match=sentence):
        predict(capsys, "texts", "--input", "some.jsonl", "--text_column", "body")
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["text"] == "bonn"


def test_a_column_of_second_texts_is_in_one_line_at_least(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = '{"text": "bonn"}\n{"text": "rhine", "other": "basel"}'
    Path("some.jsonl").write_text(content)
    column = ("--text_pair_column", "other")
    assert len(predict(capsys, "texts", "--input", "some.jsonl", *column)) == 2
    wrong = ("--text_pair_column", "othr")
    with pytest.raises(UserError, match=r"some\.jsonl: there is no column 'othr', but text, other"):
        predict(capsys, "texts", "--input", "some.jsonl", *wrong)
    assert capsys.readouterr().out == ""  # a file is looked at before any work
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    with pytest.raises(UserError, match="stdin: there is no column 'othr', but text, other"):
        predict(capsys, "texts", "--input", "-", *wrong)


def test_an_empty_text_beside_a_second_one_is_read_as_its_training_reads_it(capsys: Any) -> None:
    Path("pairs.csv").write_text("text,text_pair,label\n,bonn flows,town\nrhine,bonn,river\n")
    assert read_rows("pairs.csv")[0] == {"text": "", "text_pair": "bonn flows", "label": "town"}
    (found, _) = predict(capsys, "texts", "--input", "pairs.csv")
    (label,) = pipeline("text-classification", "texts")([{"text": "", "text_pair": "bonn flows"}])
    assert (found["label"], found["score"]) == (label["label"], pytest.approx(label["score"]))
    for row in ({"text": " ", "text_pair": "bonn"}, {"text": "", "text_pair": " "}, {"text": ""}):
        Path("bad.jsonl").write_text(json.dumps(row))
        with pytest.raises(UserError, match=r"bad\.jsonl:1: the line must have a \"text\" that is"):
            predict(capsys, "texts", "--input", "bad.jsonl")


def test_sentences_of_conll_are_read(capsys: Any) -> None:
    Path("some.conll").write_text("rhine B-river\nflows O\n\nbonn B-town\n")
    Path("same.jsonl").write_text('{"tokens": ["rhine", "flows"]}\n{"tokens": ["bonn"]}\n')
    found = predict(capsys, "tokens", "--input", "some.conll")
    expected = predict(capsys, "tokens", "--input", "same.jsonl")
    assert [row["tokens"] for row in found] == [["rhine", "flows"], ["bonn"]]
    assert [row["labels"] for row in found] == [row["labels"] for row in expected]


BAD_ROWS = [
    ("rows.csv", "text\nrhine\nbasel, and bonn\nflows\nbonn\n", "the row has 2 cells", True),
    ("rows.csv", 'text\nrhine\n"basel\nflows\nbonn\n', "the line is no row of a table", False),
    (
        "rows.conll",
        "rhine O\n\nbasel B-town\nand\nflows O\n\nflows O\n\nbonn O\n",
        "the line has 1 columns",
        True,
    ),
]


@pytest.mark.parametrize(("name", "content", "says", "goes_on"), BAD_ROWS)
def test_rows_behind_a_bad_one_are_answered_unless_nobody_knows_where_they_begin(
    name: str, content: str, says: str, goes_on: bool, capsys: Any, caplog: Any
) -> None:
    Path(name).write_text(content)
    model = "texts" if name.endswith(".csv") else "tokens"
    with pytest.raises(UserError) as refused:
        predict(capsys, model, "--input", name)
    answers = map(json.loads, capsys.readouterr().out.splitlines())
    found = [row.get("text") or row["tokens"][0] for row in answers]
    line = 4 if name == "rows.conll" else 3
    assert str(refused.value).startswith(f"{name}:{line}: {says}")
    assert f"stdout has {len(found)} answer" in str(refused.value)
    assert ("What stands behind it is not read." in str(refused.value)) is not goes_on
    assert ("What stands behind it is not read." in caplog.text) is not goes_on
    assert ("It is passed over." in caplog.text) is goes_on
    assert found == (["rhine", "flows", "bonn"] if goes_on else ["rhine"])


@pytest.mark.parametrize("start", ['{"text"', '{ "text"', '\ufeff{ "text"'])
def test_json_lines_in_a_file_of_texts_are_still_read(start: str, capsys: Any) -> None:
    Path("lines.txt").write_text(start + ': "bonn"}\n')
    assert predict(capsys, "texts", "--input", "lines.txt")[0]["text"] == "bonn"


def test_a_brace_is_a_token_where_the_line_is_no_object(capsys: Any) -> None:
    Path("brace.txt").write_text("{ O\nbonn B-town\n")
    assert predict(capsys, "tokens", "--input", "brace.txt")[0]["tokens"] == ["{", "bonn"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--input", "table.csv"), r"there is no column 'text', but a, b"),
        (("--input", "table.csv", "--text_column", "c"), "no column 'c', but a, b"),
        (("--input", "x.conll", "--text_column", "a"), "has columns without names"),
        (("--text", "bonn", "--text_column", "a"), "text_column is set, but names a column of"),
    ],
)
def test_a_column_that_is_not_there_is_refused(
    arguments: tuple[str, ...], sentence: str, capsys: Any
) -> None:
    Path("table.csv").write_text("a,b\nbonn,1\n")
    Path("x.conll").write_text("bonn O\n")
    with pytest.raises(UserError, match=sentence):
        predict(capsys, "texts", *arguments)


def test_labels_that_may_hold_together_are_given_where_they_are_asked_for(
    capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A model of the Hub may have been trained so without saying it; nothing in it tells."""
    with caplog.at_level(logging.WARNING):
        (one,) = predict(capsys, "texts", "--text", "bonn")
    assert "label" in one
    assert "no problem_type whether several of its 3 labels may hold together" in caplog.text
    caplog.clear()
    several = ("--problem_type", "multi_label_classification")
    (found,) = predict(capsys, "texts", "--text", "bonn", *several)
    assert caplog.text == ""
    theirs = pipeline("text-classification", "texts", top_k=None, function_to_apply="sigmoid")
    (rows,) = theirs(["bonn"])
    expected = {row["label"]: row["score"] for row in rows if row["score"] >= 0.5}
    assert dict(zip(found["labels"], found["scores"], strict=True)) == pytest.approx(expected)


def test_tokens_have_one_label_each(capsys: Any) -> None:
    Path("same.jsonl").write_text('{"tokens": ["rhine", "flows"]}\n')
    with pytest.raises(UserError, match="tokens labels tokens, which have one label each"):
        predict(capsys, "tokens", "--input", "same.jsonl", "--problem_type", "regression")


def test_a_regression_of_several_numbers_is_refused_and_none_of_them_is_dropped(
    capsys: Any,
) -> None:
    config = BertConfig.from_pretrained("texts", num_labels=2, problem_type="regression")
    BertForSequenceClassification(config).save_pretrained("two")
    BertTokenizerFast.from_pretrained("texts").save_pretrained("two")
    Path("rows.jsonl").write_text('{"text": "rhine"}')
    with pytest.raises(UserError, match="two has 2 outputs and the problem_type regression"):
        predict(capsys, "two", "--input", "rows.jsonl")
    several = ("--problem_type", "multi_label_classification")
    assert "labels" in predict(capsys, "two", "--input", "rows.jsonl", *several)[0]
    with pytest.raises(UserError, match="texts has 3 outputs and the problem_type regression"):
        predict(capsys, "texts", "--input", "rows.jsonl", "--problem_type", "regression")
