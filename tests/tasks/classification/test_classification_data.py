import json

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.data import is_tokens, label_names, read_rows
from itrd_nlp.tasks.classification.task import Classification


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "rows.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts) + "\n")
        return path

    return write


def test_texts_and_pairs_of_texts_are_read(write):
    rows = read_rows(
        write(
            {"text": "a", "label": "yes", "id": 7}, {"text": "b", "text_pair": "c", "label": "no"}
        )
    )
    assert rows == [
        {"text": "a", "label": "yes"},
        {"text": "b", "text_pair": "c", "label": "no"},
    ]
    assert not is_tokens(rows)
    assert label_names(rows) == ["no", "yes"]


def test_tokens_are_read_and_null_is_no_label(write):
    rows = read_rows(write({"tokens": ["Where", "Rhine"], "labels": [None, "B"]}))
    assert is_tokens(rows)
    assert label_names(rows) == ["B"]


def test_integers_and_booleans_among_labels_are_their_text(write):
    rows = read_rows(write({"text": "a", "label": 0}, {"text": "b", "label": True}))
    assert [row["label"] for row in rows] == ["0", "true"]
    (row,) = read_rows(write({"tokens": ["a", "b", "c"], "labels": [3, None, False]}))
    assert row["labels"] == ["3", None, "false"]


@pytest.mark.parametrize("count", [1, 2])
def test_byte_order_marks_are_no_part_of_the_text(tmp_path, count):
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"text": "a", "label": "x"})
    path.write_text("\n".join([line] * count), encoding="utf-8-sig")
    assert read_rows(path) == [{"text": "a", "label": "x"}] * count
    path.write_text("\n", encoding="utf-8-sig")
    with pytest.raises(UserError, match="holds no row"):
        read_rows(path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_than_utf_8_are_named_by_file_and_line(tmp_path, encoding):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "Zürich", "label": "x"}, ensure_ascii=False), encoding)
    with pytest.raises(UserError, match=r"rows\.jsonl:1: the line is not UTF-8"):
        read_rows(path)


def test_max_samples_reads_the_first_rows_and_no_further(write):
    assert len(read_rows(write({"text": "a", "label": "x"}, "{"), max_samples=1)) == 1


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], r"rows\.jsonl:1: the line is not JSON"),
        (["[1]"], ":1: the line is a list, but must be an object with"),
        ([{"text": "a", "label": "x"}, {"text": "b"}], ':2: "label" is None, but must be'),
        ([{"text": " ", "label": "x"}], "\"text\" is ' ', but must be a string that is not empty"),
        ([{"text": "a", "text_pair": 3, "label": "x"}], '"text_pair" is 3'),
        ([{"tokens": "a b", "labels": ["x"]}], '"tokens" must be a list of words, at least one'),
        ([{"tokens": [], "labels": []}], '"tokens" must be a list of words, at least one'),
        ([{"tokens": ["a", "b"], "labels": ["x"]}], "one label for each of 2 tokens"),
        ([{"tokens": ["a"], "labels": [1.5]}], '1.5 is among "labels", but each must be a string'),
        ([{"tokens": ["a"], "labels": [["x"]]}], "or null where the token is not judged"),
        ([{"tokens": ["a"], "labels": [""]}], "must be a string that is not empty"),
        ([{"text": "a", "label": 1.5}], "an integer, true or false"),
        ([{"text": "a", "label": None}], '"label" is None, but must be'),
        ([{"text": 3, "label": "x"}], '"text" is 3, but must be a string'),
        (["null"], ":1: the line is null, but must be an object with"),
        (['{"text": "\\ud800", "label": "x"}'], r":1: \"text\" is '\\ud800', but must be"),
        (['{"text": "a", "label": "\\ud800"}'], r":1: \"label\" is '\\ud800', but must be"),
        (['{"text": "a", "label": "x", "text_pair": "\\udfff"}'], r"\"text_pair\" is '\\udfff'"),
        (['{"tokens": ["\\ud800"], "labels": ["x"]}'], '"tokens" must be a list of words'),
        (['{"tokens": ["a"], "labels": ["\\ud800"]}'], r"'\\ud800' is among \"labels\""),
        (
            [{"text": "a", "label": "x"}, "[" * 100_000],
            r":2: the line is not JSON \(it is nested too deep\)",
        ),
        ([{"text": "a", "label": "x"}, {"tokens": ["a"], "labels": ["x"]}], ":2 is of another"),
        ([""], "holds no row"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(write, lines, sentence):
    with pytest.raises(UserError, match=sentence):
        read_rows(write(*lines))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: there is no such file"):
        read_rows(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["max_length", "max_train_samples", "max_eval_samples"])
def test_numbers_below_1_are_refused(name):
    with pytest.raises(UserError, match=f"{name} is 0, but must be at least 1"):
        TextArguments(train_file="a", validation_file="b", **{name: 0})


def test_training_data_without_a_label_are_named(write):
    path = str(write({"tokens": ["a", "b"], "labels": [None, None]}))
    with pytest.raises(UserError, match=r"rows\.jsonl has no label in any row"):
        _ = Classification(TextArguments(path, path)).labels
