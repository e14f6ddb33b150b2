"""Tables, CoNLL files and data sets as rows, and the sentence about each thing that is wrong with them."""

from __future__ import annotations

import csv
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.arguments import METRICS, LabelArguments, TextArguments
from itrd_nlp.tasks.classification.columns import Columns
from itrd_nlp.tasks.classification.data import kind_of, read_rows, read_source
from itrd_nlp.tasks.classification.glue import PRESETS
from itrd_nlp.tasks.classification.measures import ENTITIES, KNOWN
from itrd_nlp.tasks.classification.prediction import read_texts
from itrd_nlp.tasks.classification.tables import read_conll, read_table
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.lines import stop
from itrd_nlp.tasks.sources import is_file


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ---- tables ----


def test_a_table_is_read_with_byte_order_mark_quotes_and_line_breaks(write):
    path = write(
        "a.csv",
        '\ufefftext,label\r\n"a, ""quoted""\r\nfilm",good\r\n\r\n bad , poor \r\n',
    )
    assert read_rows(path) == [
        {"text": 'a, "quoted"\r\nfilm', "label": "good"},
        {"text": "bad", "label": "poor"},
    ]


def test_the_ending_says_the_form_in_capitals_too(write):
    labelled = "text,label\nfilm,good\n"
    assert read_rows(write("A.CSV", labelled)) == read_rows(write("b.csv", labelled))
    assert read_rows(write("A.TSV", labelled.replace(",", "\t"))) == read_rows(
        write("b.csv", labelled)
    )
    tagged = "Bonn B-LOC\n"
    assert read_rows(write("A.CoNLL", tagged)) == [{"tokens": ["Bonn"], "labels": ["B-LOC"]}]
    assert is_file("folder/TRAIN.CSV")  # no id of the Hub
    for name, content in (("A.Csv", "text\nfilm\n"), ("A.TXT", "Bonn B-LOC\n")):
        (line,) = read_texts(str(write(name, content)), LabelArguments(), stop)
        assert line.row.get("text", line.row.get("tokens")) in ("film", ["Bonn"])


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_cell_of_a_whole_document_is_read_and_the_row_behind_it(write, quote):
    limit = csv.field_size_limit()
    document = "a, b\n" * 40_000 if quote else "x" * 200_000
    path = write("a.csv", f"text,label\n{quote}{document}{quote},long\nb,short\n")
    assert read_rows(path) == [
        {"text": document.strip(), "label": "long"},
        {"text": "b", "label": "short"},
    ]
    assert csv.field_size_limit() == limit  # that of the process is as it was
    path = write("b.csv", f'text,label\na,x\n"{"a, b" * 50_000}\n')
    with pytest.raises(UserError, match=r"b\.csv:3: the line is no row of a table"):
        read_rows(path)


@pytest.mark.parametrize("name", ["a.csv", "a.conll"])
def test_a_row_is_read_without_those_behind_it(write, name):
    rows = "Bonn B-LOC\n\n" if name == "a.conll" else "a film,good\n"
    path = write(name, "text,label\n" * (name == "a.csv") + rows * 200_000)
    tracemalloc.start()
    try:
        first = next(read_conll(path) if name == "a.conll" else read_table(path)[1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first.row and peak < 200_000 < path.stat().st_size / 10


@pytest.mark.parametrize("name", ["a.csv", "a.conll"])
def test_a_byte_that_is_no_text_is_named_behind_the_rows_that_are(write, name):
    rows = "Bonn B-LOC\n\n" if name == "a.conll" else "text,label\n" + "a film,good\n"
    start = rows.encode() * 2_000
    path = write(name, b"\xef\xbb\xbf" + start + b"\xff")
    lines = read_conll(path) if name == "a.conll" else read_table(path)[1]
    assert next(lines).row
    with pytest.raises(UserError, match=rf"not text in UTF-8 \(byte {len(start)}\)"):
        list(lines)


def test_columns_have_any_name_and_a_pair_may_be_empty(write):
    path = write("a.tsv", "id\tq\ts\tgold\n1\ta b\tc, d\t0\n2\te\t\t1\n")
    assert read_rows(path, columns=Columns("q", "s", ("gold",))) == [
        {"text": "a b", "text_pair": "c, d", "label": "0"},
        {"text": "e", "label": "1"},
    ]
    assert read_rows(path, 1, columns=Columns("q", "s", ("gold",)))[0]["label"] == "0"


def test_several_labels_stand_in_a_cell_or_in_columns_of_their_own(write):
    several = Columns(problem_type="multi_label_classification")
    path = write("a.csv", "text,label\na,red | blue\nb,\nc,red\n")
    assert [row["labels"] for row in read_rows(path, columns=several)] == [
        ["blue", "red"],
        [],
        ["red"],
    ]
    path = write("b.csv", "text,toxic,threat\na,1,0\nb,0,0\nc,1.0,true\n")
    rows = read_rows(path, columns=Columns(labels=("toxic", "threat")))
    assert [row["labels"] for row in rows] == [["toxic"], [], ["threat", "toxic"]]


def test_numbers_are_read_where_they_are_asked_for_alone(write):
    numbers = Columns(problem_type="regression")
    assert [
        r["label"]
        for r in read_rows(write("a.csv", "text,label\na,1\nb,-2.5e1\n"), columns=numbers)
    ] == [1.0, -25.0]
    lines = write("a.jsonl", '{"text": "a", "label": 3}\n{"text": "b", "label": 2.5}')
    rows = read_rows(lines, columns=numbers)
    assert [row["label"] for row in rows] == [3.0, 2.5]
    assert kind_of(rows) == "value"
    with pytest.raises(UserError, match="problem_type=regression reads numbers"):
        read_rows(write("b.jsonl", '{"text": "a", "label": 2.5}'))


@pytest.mark.parametrize(
    ("name", "content", "columns", "sentence"),
    [
        ("a.csv", "txt,label\na,b\n", {}, r"a\.csv: there is no column 'text', but txt, label"),
        (
            "a.csv",
            "text,lable\na,b\n",
            {},
            "no column 'label', but text, lable; did you mean lable",
        ),
        ("a.csv", "text,label\na,b\n", {"text": "sentence"}, "text_column names one of them"),
        ("a.csv", "text,label\na,b\n", {"text_pair": "other"}, "no column 'other'"),
        (
            "a.csv",
            "text,label\na,b,c\n",
            {},
            r"a\.csv:2: the row has 3 cells, but the header has 2",
        ),
        ("a.csv", "text,label\na,b\nc\n", {}, r"a\.csv:3: the row has 1 cells"),
        ("a.csv", 'text,label\n"a,b\n', {}, r"a\.csv:2: the line is no row of a table"),
        ("a.csv", 'text,label\n"a"b,c\n', {}, "each quote in it is doubled"),
        ("a.csv", "text,text\na,b\n", {}, "the header has the column 'text' twice"),
        ("a.csv", "text,,label\na,b,c\n", {}, "the header has a column without a name"),
        ("a.csv", "text,label\na,\n", {}, r"a\.csv:2: \"label\" is '', but must be a string that"),
        ("a.csv", "text,label\n,x\n", {}, r"a\.csv:2: \"text\" is ''"),
        ("a.csv", "text,label\n", {}, r"a\.csv holds no row"),
        ("a.csv", "", {}, r"a\.csv: there is no column 'text'"),
        ("a.csv", b"text,label\n\xff,b\n", {}, r"a\.csv is not text in UTF-8"),
        *(
            ("a.csv", f"text,label\na,{bad}\n", {"problem_type": "regression"}, "a finite number")
            for bad in ("nan", "inf", "", "high")
        ),
        ("a.jsonl", '{"text": "a", "label": NaN}', {"problem_type": "regression"}, "is nan, but"),
        ("a.jsonl", '{"text": "a", "label": true}', {"problem_type": "regression"}, "is True, but"),
        ("a.jsonl", '{"text": "a"}', {"problem_type": "regression"}, "is None, but"),
        ("a.csv", "text,x,y\na,1,2\n", {"labels": ("x", "y")}, "\"y\" is '2', but must be 0 or 1"),
        ("a.jsonl", '{"text": "a", "labels": ["x", ""]}', {}, "'' is among \"labels\""),
        ("a.jsonl", '{"text": "a", "labels": "x"}', {}, None),
        (
            "a.jsonl",
            '{"text": "a", "labels": ["x"]}\n{"text": "a", "label": "x"}',
            {},
            r"a\.jsonl:2 is of another kind than the lines before; all rows need one kind: a label, a",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_one_sentence(write, name, content, columns, sentence):
    path = write(name, content)
    if sentence is None:
        assert read_rows(path, columns=Columns(**columns)) == [{"text": "a", "label": "x"}]
        return
    with pytest.raises(UserError, match=sentence):
        read_rows(path, columns=Columns(**columns))


def test_an_empty_text_may_stand_beside_another_and_an_empty_second_text_is_none(write):
    lines = [
        {"text": "", "text_pair": "b", "label": "x"},
        {"text": "a", "text_pair": "", "label": "x"},
    ]
    read = [lines[0], {"text": "a", "label": "x"}]
    assert read_rows(write("rows.jsonl", "\n".join(map(json.dumps, lines)))) == read
    assert read_rows(write("rows.csv", "text,text_pair,label\n,b,x\na,,x\n")) == read
    with pytest.raises(UserError, match="\"text\" is '', but must be"):
        read_rows(write("b.jsonl", '{"text": "", "text_pair": "", "label": "x"}'))


def test_a_column_that_is_called_tokens_is_one_of_tokens_where_it_holds_lists(write):
    assert read_rows(write("a.csv", "text,label,tokens\na b,x,2\n")) == [
        {"text": "a b", "label": "x"}
    ]
    counted = write("a.jsonl", '{"text": "a b", "label": "x", "tokens": 2}')
    assert read_rows(counted) == [{"text": "a b", "label": "x"}]
    both = write(
        "b.jsonl", '{"text": "a b", "label": "x", "tokens": ["a", "b"], "tags": ["X", "O"]}'
    )
    assert read_rows(both) == [{"tokens": ["a", "b"], "labels": ["X", "O"]}]
    assert read_rows(both, columns=Columns("text")) == [{"text": "a b", "label": "x"}]
    named = write("c.csv", "tokens,label\na b,x\n")
    assert read_rows(named, columns=Columns("tokens")) == [{"text": "a b", "label": "x"}]


def test_a_column_of_second_texts_is_in_one_row_at_least(write):
    path = write(
        "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "other": "c", "label": "x"}'
    )
    assert read_rows(path, columns=Columns(text_pair="other")) == [
        {"text": "a", "label": "x"},
        {"text": "b", "text_pair": "c", "label": "x"},
    ]
    sentence = r"a\.jsonl: there is no column 'othr', but text, label, other; did you mean other"
    with pytest.raises(UserError, match=sentence):
        read_rows(path, columns=Columns(text_pair="othr"))


def test_a_source_that_is_not_named_may_be_more_than_json_lines():
    with pytest.raises(UserError, match="train_file is not set, but training needs labelled texts"):
        read_source(TextArguments(), "train")


# ---- CoNLL ----


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_tokens_stand_in_the_first_column_and_tags_in_the_last(write, separator):
    lines = ["-DOCSTART- -X- O O", "", "EU NNP I-ORG", "U.N. NNP B-ORG", "", "", "in IN O"]
    content = "\n".join(line.replace(" ", separator) for line in lines)
    assert read_rows(write("a.conll", content)) == [
        {"tokens": ["EU", "U.N."], "labels": ["B-ORG", "B-ORG"]},
        {"tokens": ["in"], "labels": ["O"]},
    ]


def test_a_document_ends_a_sentence(write):
    rows = read_rows(write("a.conll", "a O\n-DOCSTART- O\nb O\n"))
    assert [row["tokens"] for row in rows] == [["a"], ["b"]]


def test_comments_are_passed_over_and_a_number_sign_is_a_token(write):
    content = "# id = 7\r\n# text = a b c\r\n#\tO\r\nnew york\tB-LOC\r\n"
    assert read_rows(write("a.iob", content)) == [
        {"tokens": ["#", "new york"], "labels": ["O", "B-LOC"]}
    ]


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("a O\n\n# newpar\nb O\n", [["a"], ["b"]]),
        ("# id 1f\tdomain=en\na _ _ O\n\n# id 2f\tdomain=en\nb _ _ O\n", [["a"], ["b"]]),
        ("# id 1f\tdomain=en\na\tO\n\n# id 2f\tdomain=en\n#\tO\n", [["a"], ["#"]]),
        ("a O\n# B-X\n", [["a", "#"]]),  # its tag is one of entities
        (
            "a O\n#1 COMMA\n# PERIOD\n",
            [["a", "#1", "#"]],
        ),  # no space, and then a tag of another kind
        ("a DT\n# NN\n", [["a", "#"]]),  # all tags are others than those of entities
    ],
)
def test_a_comment_is_told_from_a_number_sign_by_its_tag(write, content, tokens):
    assert [row["tokens"] for row in read_rows(write("a.conll", content))] == tokens


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("EU\n", r"a\.conll:1: the line has 1 columns, but must have 2"),
        ("EU NNP O\nin O\n", r"a\.conll:2: the line has 2 columns, but must have 3"),
        ("EU\t\n", r"a\.conll:1: the line must have a token first and its tag last, but one is"),
        ("-DOCSTART- O\n\n", r"a\.conll holds no row"),
    ],
)
def test_what_is_wrong_with_a_conll_file_is_one_sentence(write, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read_rows(write("a.conll", content))


def test_a_column_of_second_texts_may_begin_behind_the_rows_that_are_read(write):
    path = write(
        "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "other": "c", "label": "y"}\n'
    )
    columns = Columns(text_pair="other")
    assert read_rows(path, 1, columns=columns) == [{"text": "a", "label": "x"}]
    with pytest.raises(UserError, match="there is no column 'othr'"):
        read_rows(path, 1, columns=Columns(text_pair="othr"))


def test_columns_of_a_conll_file_have_no_names(write):
    with pytest.raises(UserError, match="has columns without names"):
        read_rows(write("a.conll", "a O\n"), columns=Columns(text="tokens"))


# ---- data sets ----


@pytest.fixture
def data_set(tmp_path: Path) -> Any:
    """A folder that `datasets` loads as it does a data set of the Hub: parquet files with their features."""

    def make(features: dict[str, Any], **splits: list[dict[str, Any]]) -> str:
        folder = tmp_path / "org" / "name"
        folder.mkdir(parents=True)
        for split, rows in splits.items():
            table = Dataset.from_list(rows, features=Features(features))
            table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return str(folder)

    return make


def test_labels_of_a_data_set_have_their_names_and_their_order(data_set):
    names = ["unacceptable", "acceptable"]
    features = {
        "sentence": Value("string"),
        "label": ClassLabel(names=names),
        "idx": Value("int32"),
    }
    rows = [{"sentence": f"a {i}", "label": i % 2, "idx": i} for i in range(4)]
    folder = data_set(features, train=rows, validation=rows[:2])
    args = TextArguments(folder, folder, text_column="sentence", max_train_samples=3)
    source = read_source(args, "train")
    assert source.rows[:2] == [
        {"text": "a 0", "label": "unacceptable"},
        {"text": "a 1", "label": "acceptable"},
    ]
    assert (source.names, source.record.rows) == (names, 3)
    assert (source.record.name, source.record.file) == ("name", True)  # and no path of this machine
    assert len(read_source(args, "validation").rows) == 2


def test_tokens_of_a_data_set_have_the_names_of_their_tags(data_set):
    tags = ["O", "B-PER", "I-PER"]
    features = {
        "id": Value("string"),
        "tokens": List(Value("string")),
        "ner_tags": List(ClassLabel(names=tags)),
    }
    rows = [{"id": "0", "tokens": ["Ada", "Lovelace"], "ner_tags": [1, 2]}]
    folder = data_set(features, train=rows)
    source = read_source(TextArguments(folder), "train")
    assert source.rows == [{"tokens": ["Ada", "Lovelace"], "labels": ["B-PER", "I-PER"]}]
    assert source.names == tags


def test_a_split_without_labels_and_one_that_is_not_there_are_named(data_set):
    features = {"text": Value("string"), "label": ClassLabel(names=["a", "b"])}
    folder = data_set(features, test=[{"text": "a", "label": -1}])
    with pytest.raises(UserError, match=r"row 1: the label is -1, which stands for none"):
        read_source(TextArguments(folder, train_split="test"), "train")
    with pytest.raises(UserError, match="neither a file nor a data set with a split 'train'"):
        read_source(TextArguments(folder), "train")
    args = TextArguments(folder, train_split="test", text_column="txt")
    with pytest.raises(UserError, match="no column 'txt', but text, label; did you mean text"):
        read_source(args, "train")


def test_of_several_splits_each_row_knows_its_own(data_set):
    features = {"text": Value("string"), "label": Value("string")}
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    folder = data_set(features, validation=rows, test=rows)
    args = TextArguments(
        train_file=folder,
        validation_file=folder,
        validation_splits=["validation", "test"],
        max_eval_samples=1,
    )
    source = read_source(args, "validation")
    assert [(row["text"], row["split"]) for row in source.rows] == [
        ("a", "validation"),
        ("a", "test"),
    ]
    assert source.record.model_extra == {"split": "validation+test"}
    assert (source.record.rows, source.record.subset) == (2, True)  # one of two rows of each split
    whole = read_source(replace(args, max_eval_samples=2), "validation")
    assert (whole.record.rows, whole.record.subset) == (4, False)


def test_the_only_split_may_be_a_half_of_mnli(data_set):
    features = {"text": Value("string"), "label": Value("string")}
    folder = data_set(features, validation_matched=[{"text": "a", "label": "x"}])
    files = [{"split": "validation_matched", "path": "validation_matched-*"}]
    card = json.dumps({"configs": [{"config_name": "default", "data_files": files}]})
    (Path(folder) / "README.md").write_text(f"---\n{card}\n---\n")
    args = TextArguments(
        validation_file=folder,
        validation_splits=["validation_matched"],
        metrics=["accuracy_matched"],
    )
    assert list(Classification(args).measures.headings) == ["accuracy_matched"]
    other = Classification(replace(args, metrics=["accuracy_mismatched"]))
    with pytest.raises(UserError, match="has no row of a split validation_mismatched"):
        _ = other.measures
    assert "split" not in read_source(replace(args, metrics=[]), "validation").rows[0]


def test_a_name_with_one_slash_is_a_data_set_where_nothing_of_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert not is_file("nyu-mll/glue")
    assert not is_file("data")
    for name in (
        "data/train",
        "train.csv",
        "org/train.conll",
        "/a/b",
        "a/b/c",
        "train",
        Path("a/b"),
    ):
        assert is_file(name)


# ---- GLUE ----


def test_glue_fills_what_is_not_given():
    args = TextArguments(glue="stsb", max_length=64)
    assert (args.train_file, args.validation_file) == ("nyu-mll/glue", "nyu-mll/glue")
    assert (args.dataset_config, args.problem_type) == ("stsb", "regression")
    assert args.metrics == ["spearman", "pearson"]
    own = TextArguments(glue="cola", validation_file="dev.tsv")
    assert (own.train_file, own.validation_file) == ("nyu-mll/glue", "dev.tsv")
    again = TextArguments(**{k: v for k, v in vars(args).items()})
    assert again == args  # a record has both, the name and what it stands for
    with pytest.raises(
        UserError, match="dataset_config is 'sst2', but glue=cola sets it to 'cola'"
    ):
        TextArguments(glue="cola", dataset_config="sst2")
    with pytest.raises(UserError, match="glue is 'ax', but must be one of cola, sst2"):
        TextArguments(glue="ax")


def test_the_metrics_of_glue_are_those_that_the_benchmark_names():
    """Wang et al. 2018, table 1, and `evaluate`'s metric glue: F1 of MRPC and QQP is that of the label 1."""
    metrics = {name: preset["metrics"] for name, preset in PRESETS.items()}
    assert set(metrics) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    assert metrics["cola"][0] == "matthews"
    assert set(metrics["stsb"]) == {"pearson", "spearman"}
    assert metrics["mrpc"] == metrics["qqp"] == ["accuracy", "positive_f1"]
    assert set(metrics["mnli"]) == {"accuracy", "accuracy_matched", "accuracy_mismatched"}
    for name in ("sst2", "qnli", "rte", "wnli"):
        assert metrics[name] == ["accuracy"]


def test_files_of_ones_own_have_no_halves_of_mnli(tmp_path):
    rows = [
        {"premise": "a", "hypothesis": h, "label": label}
        for h, label in (("b", "neutral"), ("c", "entailment"))
    ]
    file = str(tmp_path / "dev.jsonl")
    Path(file).write_text("\n".join(map(json.dumps, rows)))
    own = TextArguments(validation_file=file, glue="mnli")
    assert list(Classification(own).measures.headings) == ["accuracy"]
    asked = TextArguments(
        validation_file=file,
        metrics=["accuracy", "accuracy_matched"],
        text_column="premise",
        text_pair_column="hypothesis",
    )
    sentence = "metrics name 'accuracy_matched', but .* has no row of a split validation_matched"
    with pytest.raises(UserError, match=sentence):
        _ = Classification(asked).measures
    halves = Classification(own)
    found = halves._validation.rows
    for row, half in zip(found, ("matched", "mismatched"), strict=True):
        row["split"] = f"validation_{half}"
    assert list(halves.measures.headings) == PRESETS["mnli"]["metrics"]


def test_every_metric_has_a_heading_and_a_kind_of_rows():
    known = {name for names in KNOWN.values() for name in names} | set(ENTITIES)
    assert known == set(METRICS)


def test_old_json_lines_are_read_as_before(write):
    lines = [{"text": "a", "text_pair": "b", "label": 1}, {"text": "c", "label": "x"}]
    path = write("rows.jsonl", "\n".join(map(json.dumps, lines)))
    args = TextArguments(str(path), str(path))
    assert read_source(args, "train").rows == read_rows(path)
    record = read_source(args, "validation").record
    assert (record.name, record.rows, record.sha256 is None) == ("rows.jsonl", 2, False)
