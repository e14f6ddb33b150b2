"""Every job on texts, pairs of texts and tokens, by the commands as a user gives them, with tiny models."""

from __future__ import annotations

import html
import json
import operator
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.utils import close_session
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.task import Classification

sys.path.insert(0, str(Path(__file__).parents[2] / "hub"))  # test folders are no packages
sys.path.insert(0, str(Path(__file__).parents[1]))

from commands import done, read, refused, rows_of
from server import HubServer

ROOT = Path(__file__).parents[3]
WORDS = ["rhine", "flows", "past", "bonn", "and", "basel"]
KINDS = ("texts", "pairs", "tokens")
TASK = ("--task", "classification")
TRAINING = {
    "num_train_epochs": 12,
    "per_device_train_batch_size": 8,
    "learning_rate": 2e-3,
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "logging_steps": 6,
    "report_to": "none",
    "disable_tqdm": True,
    "max_length": 32,
}


def row(kind: str, i: int) -> dict[str, Any]:
    """Whether a text names bonn, whether a second text repeats its first word, which words are cities."""
    words = [WORDS[(i * 5 + i // 6 + j) % 6] for j in range(3 + i % 4)]
    if kind == "texts":
        return {"text": " ".join(words), "label": 1 if "bonn" in words else 0}
    if kind == "pairs":
        other = words[0] if i % 2 else "sea"
        return {"text": " ".join(words), "text_pair": other, "label": "same" if i % 2 else "other"}
    labels = ["CITY" if word in ("bonn", "basel") else "O" for word in words]
    return {"tokens": words, "labels": [None, *labels[1:]]}


def true_labels(kind: str) -> list[list[str]]:
    """Of each row of the validation file the labels that are judged, as text."""
    rows = rows_of(f"{kind}-dev.jsonl")
    if kind == "tokens":
        return [[label for label in row["labels"] if label is not None] for row in rows]
    return [[str(row["label"])] for row in rows]


def by_hand(true: list[list[str]], found: list[list[str]], kind: str) -> dict[str, float]:
    """Accuracy and F1 in percent, written out."""
    pairs = [pair for t, f in zip(true, found, strict=True) for pair in zip(t, f, strict=True)]
    accuracy = sum(t == f for t, f in pairs) / len(pairs)
    if kind == "tokens":
        right = sum(t == f != "O" for t, f in pairs)
        named = sum(t != "O" for t, _ in pairs) + sum(f != "O" for _, f in pairs)
        return {"accuracy": 100 * accuracy, "f1": 100 * 2 * right / named}
    f1 = []
    for label in {label for pair in pairs for label in pair}:
        right = sum(t == f == label for t, f in pairs)
        f1.append(
            2 * right / (sum(t == label for t, _ in pairs) + sum(f == label for _, f in pairs))
        )
    return {"accuracy": 100 * accuracy, "f1": 100 * sum(f1) / len(f1)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """A folder with data, an encoder, and for each kind a teacher and a student made by the commands."""
    folder = tmp_path_factory.mktemp("classifiers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model, tokenizer = make_reader(WORDS, 4, initializer_range=0.05, max_position_embeddings=64)
        model.save_pretrained("encoder")
        tokenizer.save_pretrained("encoder")
        for kind in KINDS:
            for split, begin, count in (("train", 0, 48), ("dev", 48, 21)):
                rows = [json.dumps(row(kind, i)) for i in range(begin, begin + count)]
                Path(f"{kind}-{split}.jsonl").write_text("\n".join(rows))
            files = {"train_file": f"{kind}-train.jsonl", "validation_file": f"{kind}-dev.jsonl"}
            student = {
                "teacher": f"{kind}-teacher",
                "num_layers": 2,
                "output_dir": f"{kind}-student",
            }
            for name, own in (
                ("teacher", {"model_name_or_path": "encoder", "output_dir": f"{kind}-teacher"}),
                # Of fresh weights and trained for a moment, so that it disagrees with its teacher.
                ("student", student | {"num_train_epochs": 1, "student_init": "random"}),
            ):
                config = files | TRAINING | own
                Path(f"{kind}-{name}.yaml").write_text(json.dumps(config))
            done("fine-tune", f"{kind}-teacher.yaml", *TASK)
            done("distil", f"{kind}-student.yaml", *TASK)
    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(workplace)
    return str(request.param)


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workplace)
    return workplace


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub of this process, on this machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    close_session()  # its client remembers proxies and connections
    with HubServer() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server
    close_session()


# ---- training ----


def test_results_are_those_of_the_answers_that_lie_beside_them(kind):
    true = true_labels(kind)
    for model in ("teacher", "student"):
        record = read(f"{kind}-{model}/results.json")
        answers = read(f"{kind}-{model}/analysis/predictions.json")
        found = [answers[str(i)] for i in range(len(true))]
        found = found if kind == "tokens" else [[label] for label in found]
        expected = by_hand(true, found, kind)
        assert {n: record[n] for n in ("accuracy", "f1")} == pytest.approx(expected, abs=1e-9)
        assert (record["task"], record["rows"]) == ("classification", 21)
        assert record["metrics"] == {"accuracy": "accuracy", "f1": "F1"}
        assert record["datasets"]["train"]["rows"] == 48
    teacher = read(f"{kind}-teacher/results.json")
    student = read(f"{kind}-student/results.json")
    assert teacher["accuracy"] > 90  # else there is nothing to teach
    assert (teacher["layers"], student["layers"]) == (4, 2)
    for name in ("accuracy", "f1", "signature"):
        assert student["teacher"][name] == teacher[name]
    assert student["layer_pairs"] == ["1:2", "2:4"]
    assert f"{kind}-student.yaml --task classification" in student["command"]


def test_models_load_without_this_package_and_know_their_labels(kind):
    tokens = kind == "tokens"
    head = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    labels = {"texts": ["0", "1"], "pairs": ["other", "same"], "tokens": ["CITY", "O"]}[kind]
    for model in ("teacher", "student"):
        config = head.from_pretrained(f"{kind}-{model}").config
        assert config.id2label == dict(enumerate(labels))


def test_scores_of_rows_have_the_accuracy_as_their_mean(kind):
    answers = read(f"{kind}-student/analysis/predictions.json")
    args = TextArguments(validation_file=f"{kind}-dev.jsonl")
    scores = Classification.scores(args, answers)
    accuracy = read(f"{kind}-student/results.json")["accuracy"]
    assert scores["accuracy"].shape == (21,)
    assert 100 * scores["accuracy"].mean() == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize(
    ("command", "model", "task"),
    [
        ("fine-tune", "teacher", TASK),
        ("distil", "student", TASK),
        ("train-classifier", "teacher", ()),
        ("distil-classifier", "student", ()),
    ],
)
def test_a_finished_run_is_shown_again_and_not_made_again(kind, command, model, task):
    folder = Path(f"{kind}-{model}")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out = done(command, f"{kind}-{model}.yaml", *task)
    assert f"Finished already: {folder}" in out
    assert f"{read(f'{folder}/results.json')['accuracy']:.2f}" in out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    says = refused(command, f"{kind}-{model}.yaml", *task, "--seed", "7")
    assert "holds a finished run with seed = None, not 7" in says


def test_the_task_may_stand_in_a_base_of_the_config(here, tmp_path):
    content = json.loads(Path("texts-teacher.yaml").read_text())
    (tmp_path / "base.yaml").write_text(json.dumps(content | {"task": "classification"}))
    (tmp_path / "own.yaml").write_text("base: base.yaml\nmax_steps: 1\n")
    done("fine-tune", str(tmp_path / "own.yaml"), "--output_dir", str(tmp_path / "out"))
    assert read(f"{tmp_path}/out/results.json")["task"] == "classification"


def test_a_teachers_scores_are_believed_by_their_signature(kind, tmp_path):
    record = read(f"{kind}-teacher/results.json")
    believed = tmp_path / "teacher"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (believed / name).parent.mkdir(exist_ok=True)
        (believed / name).write_bytes(Path(f"{kind}-teacher/{name}").read_bytes())
    (believed / "analysis").mkdir()
    answers = Path(f"{kind}-teacher/analysis/predictions.json").read_bytes()
    (believed / "analysis" / "predictions.json").write_bytes(answers)
    # A figure that no second measurement would give.
    (believed / "results.json").write_text(json.dumps(record | {"accuracy": 12.34}))
    arguments = (f"{kind}-student.yaml", *TASK, "--teacher", str(believed), "--max_steps", "1")
    done("distil", *arguments, "--output_dir", str(tmp_path / "same"))
    assert read(f"{tmp_path}/same/results.json")["teacher"]["accuracy"] == 12.34
    fewer = ("--max_eval_samples", "20", "--output_dir", str(tmp_path / "others"))
    done("distil", *arguments, *fewer)
    taught = read(f"{tmp_path}/others/results.json")["teacher"]
    assert (taught["accuracy"] > 90, taught["rows"]) == (True, 20)


# ---- evaluation ----


def test_evaluate_finds_the_task_by_the_head_and_the_answers_score_the_same(kind, tmp_path):
    model = ("--model", f"{kind}-student", "--validation_file", f"{kind}-dev.jsonl")
    answers = str(tmp_path / "answers.json")
    out = done("evaluate", *model, "--max_length", "32", "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    record = read(f"{kind}-student/results.json")
    for name in ("accuracy", "f1", "rows", "signature"):
        assert found[name] == record[name]
    assert read(answers) == read(f"{kind}-student/analysis/predictions.json")
    file = ("--predictions_file", answers, "--validation_file", f"{kind}-dev.jsonl")
    again = json.loads(done("evaluate", *TASK, *file).splitlines()[-1])
    expected = {"accuracy": record["accuracy"], "f1": record["f1"], "rows": 21, "missing": 0}
    assert again == pytest.approx(expected, abs=1e-9)


def test_evaluate_judges_the_tokens_alike_where_the_end_of_a_text_is_cut(here, tmp_path):
    answers = str(tmp_path / "answers.json")
    data = ("--validation_file", "tokens-dev.jsonl")
    cut = ("--max_length", "5", "--output_file", answers)  # [CLS], three words, [SEP]
    first = json.loads(done("evaluate", "--model", "tokens-student", *data, *cut).splitlines()[-1])
    assert any(None in labels for labels in read(answers).values())
    second = json.loads(done("evaluate", *TASK, "--predictions_file", answers, *data))
    for name in ("accuracy", "f1"):
        assert second[name] == pytest.approx(first[name], abs=1e-9)
    scores = Classification.scores(TextArguments(validation_file="tokens-dev.jsonl"), read(answers))
    assert 100 * scores["accuracy"].mean() == pytest.approx(first["accuracy"], abs=1e-9)


def test_a_model_of_texts_is_not_judged_on_tokens_nor_the_other_way_round(here):
    for model, data, needed, found in (
        ("texts", "tokens", "Token", "Sequence"),
        ("tokens", "texts", "Sequence", "Token"),
    ):
        arguments = ("--model", f"{model}-teacher", "--validation_file", f"{data}-dev.jsonl")
        assert refused("evaluate", *arguments).startswith(
            f"model {model}-teacher is no fine-tuned model for {needed}Classification: it is a "
            f"BertFor{found}Classification"
        )


# ---- prediction ----


def lines_without_labels(kind: str) -> list[dict[str, Any]]:
    return [
        {"id": i} | {name: row[name] for name in ("text", "text_pair", "tokens") if name in row}
        for i, row in enumerate(rows_of(f"{kind}-dev.jsonl"))
    ]


def probabilities(folder: str, row: dict[str, Any]) -> Any:
    """By transformers alone: the probabilities of the labels of one row, or of each of its words."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if "tokens" in row:
        model = AutoModelForTokenClassification.from_pretrained(folder).eval()
        inputs = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            found = model(**inputs).logits[0, 1:-1].softmax(-1)  # every word is one token here
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        texts = [row["text"], row["text_pair"]] if "text_pair" in row else [row["text"]]
        with torch.no_grad():
            found = model(**tokenizer(*texts, return_tensors="pt")).logits[0].softmax(-1)
    return found.numpy()


def test_predict_labels_a_file_a_pipe_and_one_text_alike(kind, tmp_path):
    model = f"{kind}-student"
    asked = lines_without_labels(kind)
    source = tmp_path / "asked.jsonl"
    source.write_text("\n".join(map(json.dumps, asked)))
    out = str(tmp_path / "labels.jsonl")
    done("predict", "--model", model, "--input", str(source), "--output", out)
    found = rows_of(out)
    answers = read(f"{model}/analysis/predictions.json")
    names = AutoTokenizer.from_pretrained(model) and read(f"{model}/config.json")["id2label"]
    for i, (given, labelled) in enumerate(zip(asked, found, strict=True)):
        assert given.items() <= labelled.items()
        expected = probabilities(model, given)
        best = [names[str(int(j))] for j in np.atleast_2d(expected).argmax(-1)]
        if kind == "tokens":
            assert labelled["labels"] == best
            assert labelled["labels"][1:] == answers[str(i)]  # the first one is not judged
            assert labelled["scores"] == pytest.approx(expected.max(-1).tolist(), abs=1e-5)
        else:
            assert [labelled["label"]] == best == [answers[str(i)]]
            assert labelled["score"] == pytest.approx(float(expected.max()), abs=1e-5)

    piped = done("predict", "--model", model, "--input", "-", stdin=source.read_bytes())
    for one, other in zip(map(json.loads, piped.splitlines()), found, strict=True):
        assert one.keys() == other.keys()
        name = "labels" if kind == "tokens" else "label"
        assert one[name] == other[name]

    if kind != "tokens":
        texts = ("--text", asked[3]["text"])
        texts += ("--text_pair", asked[3]["text_pair"]) if kind == "pairs" else ()
        one = json.loads(done("predict", "--model", model, *texts))
        assert one["label"] == found[3]["label"]
        assert one["score"] == pytest.approx(found[3]["score"], abs=1e-5)


def test_words_that_are_not_read_have_no_label_and_move_no_other(here):
    words = ["rhine", "\u200b", "bonn", "and", "basel"]
    line = json.dumps({"tokens": words}).encode()
    arguments = ("--model", "tokens-teacher", "--input", "-")
    found = json.loads(done("predict", *arguments, stdin=line))
    assert found["labels"] == ["O", None, "CITY", "O", "CITY"]
    assert [score is None for score in found["scores"]] == [False, True, False, False, False]
    found = json.loads(done("predict", *arguments, "--max_length", "4", stdin=line))
    assert found["labels"] == ["O", None, "CITY", None, None]


def test_a_text_has_the_same_label_whatever_stands_beside_it(here):
    rows = [{"text": "bonn and basel"}, {"text": "rhine", "text_pair": "sea"}]
    content = "\n".join(map(json.dumps, rows)).encode()
    arguments = ("predict", "--model", "pairs-student", "--input", "-")
    one, two = (
        [
            json.loads(line)
            for line in done(*arguments, "--batch_size", n, stdin=content).splitlines()
        ]
        for n in ("1", "2")
    )
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in two], abs=1e-6)


def test_texts_that_are_longer_than_the_model_can_read_are_cut(here, tmp_path):
    long = {"text": "rhine " * 100, "label": "1"}
    asked = ("--model", "texts-student", "--max_length", "384")  # it has 64 positions
    found = done("predict", *asked, "--input", "-", stdin=json.dumps(long).encode())
    assert json.loads(found)["label"] in ("0", "1")
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(long))
    out = done("evaluate", *asked, "--validation_file", str(path))
    assert json.loads(out.splitlines()[-1])["rows"] == 1


def test_predict_reads_as_much_of_a_text_as_the_training_and_the_evaluation(kind, tmp_path):
    short = rows_of(f"{kind}-dev.jsonl")
    name = "tokens" if kind == "tokens" else "text"
    more = ["rhine"] * 27 if kind == "tokens" else " rhine" * 27
    first = [row | {name: row[name] + more} for row in short]  # what differs stands in front
    last = [row | {name: more + row[name]} for row in short]  # the training read 32 tokens
    if kind == "tokens":
        first = [row | {"labels": row["labels"] + ["O"] * 27} for row in first]
        last = [row | {"labels": ["O"] * 27 + row["labels"]} for row in last]
    path, answers = tmp_path / "long.jsonl", str(tmp_path / "answers.json")
    path.write_text("\n".join(map(json.dumps, first + last)))
    model = ("--model", f"{kind}-teacher")
    done("evaluate", *model, "--validation_file", str(path), "--output_file", answers)
    found = done("predict", *model, "--input", str(path)).splitlines()
    labelled = [row.get("label") or row["labels"] for row in map(json.loads, found)]
    for i, (row, expected) in enumerate(zip(first + last, read(answers).values(), strict=True)):
        if kind == "tokens":
            judged = [j for j, label in enumerate(row["labels"]) if label is not None]
            assert [labelled[i][j] for j in judged] == expected
            assert labelled[i][:30] + [None] * (len(row[name]) - 30) == labelled[i]
        else:
            assert labelled[i] == expected
    if kind == "tokens":
        return
    longer = done("predict", *model, "--input", str(path), "--max_length", "64").splitlines()
    scores = [[json.loads(line)["score"] for line in lines] for lines in (found, longer)]
    assert scores[0] != pytest.approx(scores[1], abs=1e-4)  # the rest of the text says something


@pytest.mark.parametrize(
    ("model", "arguments", "line", "sentence"),
    [
        ("texts", ("--input", "-"), {"text": " "}, 'stdin:1: the line must have a "text"'),
        ("texts", ("--input", "-"), {"tokens": ["a"]}, 'stdin:1: the line must have a "text"'),
        ("tokens", ("--input", "-"), {"text": "a"}, 'stdin:1: the line must have "tokens"'),
        ("tokens", ("--text", "rhine"), None, '--text: the line must have "tokens"'),
        ("pairs", ("--input", "-"), {"text": "a", "text_pair": 3}, 'stdin:1: "text_pair" is 3'),
        ("texts", ("--input", "-"), {"text": "\ud800"}, 'stdin:1: the line must have a "text"'),
        ("texts", (), None, "give either --text or --input"),
        ("texts", ("--text_pair", "a", "--input", "-"), None, "text_pair is set, but belongs to"),
        ("texts", ("--text", "a", "--batch_size", "0"), None, "batch_size is 0, but must be"),
        ("texts", ("--text", "a", "--max_length", "0"), None, "max_length is 0, but must be"),
        ("texts", ("--text", "a", "--max_length", "1"), None, "max_length is 1, but must be at"),
        ("texts", ("--text", "a", "--device", "tpu9"), None, "device 'tpu9' cannot be used"),
    ],
)
def test_what_cannot_be_labelled_is_one_sentence(here, model, arguments, line, sentence):
    stdin = None if line is None else json.dumps(line).encode()
    assert sentence in refused("predict", "--model", f"{model}-student", *arguments, stdin=stdin)


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff\xfe", b"{"])
def test_lines_that_are_no_json_are_named(here, line):
    says = refused("predict", "--model", "texts-student", "--input", "-", stdin=line)
    assert says.startswith("stdin:1: the line is not ")


def test_a_bad_line_is_named_and_the_others_are_answered(kind, tmp_path, caplog):
    """As for questions: the batch of a bad line is not lost, and nothing behind it."""
    asked = lines_without_labels(kind)[:5]
    source, target = tmp_path / "asked.jsonl", tmp_path / "labels.jsonl"
    good = [json.dumps(row) for row in asked]
    source.write_text("\n".join([*good[:2], "{", good[2], "[]", '{"text": 3}', *good[3:]]))
    arguments = ("predict", "--model", f"{kind}-student", "--input", str(source))
    for size in ("1", "4", "16"):
        says = refused(*arguments, "--output", str(target), "--batch_size", size)
        assert says.startswith(f"{source}:3: the line is not JSON")
        assert says.endswith(f" 2 more could not be answered. {target} has 5 answers.")
        assert [row["id"] for row in rows_of(str(target))] == [0, 1, 2, 3, 4]
    assert [f"{source}:{n}: " in m for n, m in zip((3, 5, 6), caplog.messages, strict=False)] == [
        True
    ] * 3


# ---- report, card, Hub ----


def page_text(path: str) -> str:
    """The words of a page, without charts, styles and scripts."""
    page = Path(path).read_text()
    for name in ("svg", "style", "script"):
        page = re.sub(rf"<{name}.*?</{name}>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_report_has_groups_and_disagreements_in_the_words_of_the_task(kind):
    text = page_text(f"{kind}-student/report.html")
    assert "Judged on 21 rows." in text
    assert "Rows by group" in text and "Scores by label" in text
    cases = read(f"{kind}-student/analysis/disagreements.json")
    right = sum(cases[who] for who in ("teacher_right", "student_right", "both_right"))
    total = right + cases["neither_right"]
    assert total > 0
    assert f"They answer {total} of 21 rows differently." in text
    assert f"In {cases['teacher_right']} of these the teacher alone is right" in text
    assert text.count("✓ right") + text.count("✗ wrong") == 2 * len(cases["examples"])
    record = read(f"{kind}-student/results.json")
    for word in ("Accuracy", "F1", f"{record['accuracy']:.1f} %", "ms/row"):
        assert word in text
    words = text.partition("The run Command")[0].lower()
    for strange in ("question", "exact match", "squad", "span", "em (%)", "reference s"):
        assert strange not in words, strange


def test_a_label_is_not_marked_as_if_it_were_a_piece_of_the_text(here, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree("pairs-student", folder)
    path = folder / "analysis" / "disagreements.json"
    cases = json.loads(path.read_text())
    cases["examples"][0]["context"] = "the same word and no other"
    path.write_text(json.dumps(cases))
    done("report", str(folder))
    page = (folder / "report.html").read_text()
    assert "the same word and no other" in page and "<mark" not in page


def test_the_report_can_be_made_again(kind):
    path = Path(f"{kind}-student/report.html")
    before = path.read_bytes()
    assert done("report", f"{kind}-student").strip() == str(path)
    assert path.read_bytes() == before


def test_a_dry_run_of_a_push_shows_the_card(kind):
    out = done("push-to-hub", "--model", f"{kind}-student", "--repo_id", "user/labels", "--dry_run")
    tag = "token-classification" if kind == "tokens" else "text-classification"
    assert f"pipeline_tag: {tag}" in out
    assert "Nothing was pushed." in out
    record = read(f"{kind}-student/results.json")
    assert f"{record['accuracy']:.2f}" in out and f"{record['teacher']['f1']:.2f}" in out
    head = "TokenClassification" if kind == "tokens" else "SequenceClassification"
    assert f'BertFor{head}.from_pretrained("user/labels")' in out
    assert "question" not in out.partition("## Command")[0].lower()


def test_a_push_sends_the_model_its_card_and_its_results(kind, hub):
    model = ("--model", f"{kind}-student", "--repo_id", "user/labels")
    assert "Pushed to" in done("push-to-hub", *model)
    files = hub.repos["user/labels"].files()
    assert set(files) - {".gitattributes"} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("README.md", "results.json"),
    }
    record = read(f"{kind}-student/results.json")
    sent = json.loads(files["results.json"])
    for name in ("accuracy", "f1", "task", "metrics", "rows", "layer_pairs"):
        assert sent[name] == record[name]
    metadata = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    tag = "token-classification" if kind == "tokens" else "text-classification"
    assert metadata["pipeline_tag"] == tag
    (entry,) = metadata["model-index"]
    (result,) = entry["results"]
    assert result["task"]["type"] == tag
    scores = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert scores == {name: round(record[name], 2) for name in ("accuracy", "f1")}


def test_a_finished_run_is_pushed_where_it_asks_for_that(kind, hub):
    asked = ("--push_to_hub", "true", "--hub_model_id", "user/labels")
    for _ in range(2):
        assert "Finished already" in done("distil", f"{kind}-student.yaml", *TASK, *asked)
    assert len(hub.repos["user/labels"].commits()) == 1
    sent = json.loads(hub.repos["user/labels"].files()["results.json"])
    assert sent["accuracy"] == read(f"{kind}-student/results.json")["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairs", "tokens"])
def test_a_model_on_the_hub_labels_as_its_folder_does(here, hub, tmp_path, kind):
    done("push-to-hub", "--model", f"{kind}-student", "--repo_id", "user/labels")
    stdin = "\n".join(map(json.dumps, lines_without_labels(kind)))
    arguments = ("predict", "--model", "user/labels", "--input", "-")
    by_id = subprocess.run(  # in a process of its own, which knows no other Hub
        [sys.executable, "-m", "itrd_nlp", *arguments],
        input=stdin,
        env=hub.environment(tmp_path / "cache") | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert by_id.returncode == 0, by_id.stderr
    arguments = ("predict", "--model", f"{kind}-student", "--input", "-")
    assert by_id.stdout == done(*arguments, stdin=stdin.encode())


# ---- export ----


def test_onnx_and_int8_are_judged_by_accuracy_and_label_the_same(kind, tmp_path):
    data = ("--validation_file", f"{kind}-dev.jsonl", "--max_length", "32")
    model = ("--model", f"{kind}-teacher", *data, "--output_dir", str(tmp_path))
    out = done("export-onnx", *model, "--max_f1_drop", "100")
    for word in ("21 rows", "accuracy", "F1", "rows/s", "ms/row"):
        assert word in out
    report = read(f"{tmp_path}/export.json")
    record = read(f"{kind}-teacher/results.json")
    assert (report["rows"], report["signature"]) == (21, record["signature"])
    assert list(report["models"]) == ["torch", "onnx", "onnx int8"]
    for name in ("accuracy", "f1"):
        assert report["models"]["torch"][name] == pytest.approx(record[name], abs=1e-9)
        assert report["models"]["onnx"][name] == pytest.approx(record[name], abs=1e-9)
    assert report["models"]["onnx"]["same_answers"] == 100
    assert report["models"]["onnx"]["rows_per_second"] > 0

    asked = lines_without_labels(kind)
    stdin = "\n".join(map(json.dumps, asked)).encode()
    by_torch = done("predict", "--model", f"{kind}-teacher", "--input", "-", stdin=stdin)
    for folder in ("onnx", "onnx_int8"):
        found = done("predict", "--model", f"{tmp_path}/{folder}", "--input", "-", stdin=stdin)
        name = "labels" if kind == "tokens" else "label"
        same = [
            json.loads(one)[name] == json.loads(other)[name]
            for one, other in zip(found.splitlines(), by_torch.splitlines(), strict=True)
        ]
        assert all(same) if folder == "onnx" else sum(same) > 15
    says = refused("predict", "--model", f"{tmp_path}/onnx", "--text", "a", "--dtype", "bfloat16")
    assert "is an ONNX folder, which runs on the CPU as it was exported" in says


def test_int8_that_loses_accuracy_is_not_kept(here, tmp_path, monkeypatch):
    from itrd_nlp.tasks.jobs import judging

    def worse(values: Any, of: Any = judging._prediction) -> Any:
        found = of(values)
        calls.append(found)
        if len(calls) == 3:  # torch, onnx, int8
            found.predictions[:] = 0
        return found

    calls: list[Any] = []
    monkeypatch.setattr(judging, "_prediction", worse)
    data = ("--validation_file", "texts-dev.jsonl", "--output_dir", str(tmp_path))
    says = refused("export-onnx", "--model", "texts-teacher", *data)
    report = read(f"{tmp_path}/export.json")
    scores = {name: row["accuracy"] for name, row in report["models"].items()}
    share = 100 * sum(labels == ["0"] for labels in true_labels("texts")) / 21
    assert scores["onnx int8"] == pytest.approx(share)
    assert f"int8 loses {scores['torch'] - share:.2f} accuracy on 21 rows" in says
    assert report["int8_refused"] is True
    assert (tmp_path / "onnx").is_dir() and not (tmp_path / "onnx_int8").exists()


# ---- comparison ----


def comparison(kind: str, folder: Path) -> tuple[str, ...]:
    """The arguments of a comparison of two methods."""
    base = json.loads(Path(f"{kind}-student.yaml").read_text())
    (folder / "base.yaml").write_text(json.dumps(base | {"num_train_epochs": 1}))
    plan = {
        "base": str(folder / "base.yaml"),
        "task": "classification",
        "output_dir": str(folder / "out"),
        "seeds": [0],
        "methods": {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {}},
        "cost_steps": 2 if kind == "tokens" else 0,
    }
    (folder / "compare.yaml").write_text(json.dumps(plan))
    return (str(folder / "compare.yaml"),)


def scores_by_hand(kind: str, cell: Path) -> list[float]:
    """The accuracy of each row, of the answers of a training; of tokens the metric and the row's influence on it."""
    true = true_labels(kind)
    answers = json.loads((cell / "analysis" / "predictions.json").read_text())
    found = [answers[str(i)] for i in range(len(true))]
    found = found if kind == "tokens" else [[label] for label in found]
    right = [sum(map(operator.eq, t, f)) for t, f in zip(true, found, strict=True)]
    if kind != "tokens":
        return [float(count) for count in right]
    sizes = list(map(len, true))
    whole = sum(right) / sum(sizes)
    without = [
        (sum(right) - of_row) / (sum(sizes) - size)
        for of_row, size in zip(right, sizes, strict=True)
    ]
    loss = len(true) - 1
    return [whole + loss * (statistics.mean(without) - other) for other in without]


def check_table(kind: str, folder: Path, table: str) -> None:
    """Hold the tables and records of a comparison against the answers of its trainings."""
    header = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
    assert header[6:9] == ["accuracy", "F1", "accuracy - kd [95% interval]"]
    assert "accuracy and F1 in percent on 21 rows" in table
    assert "paired bootstrap over the seeds that both have and over the rows" in table
    assert "question" not in table
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    means = {}
    lines = {line.split("|")[2].strip(): line for line in table.splitlines() if "| student" in line}
    for record in records:
        expected = scores_by_hand(kind, folder / "cells" / record["name"])
        stored = np.load(folder / "scores.npz")[f"{record['name']}/accuracy"]
        assert stored.astype(float) == pytest.approx(np.array(expected), abs=1e-3)
        means[record["method"]] = 100 * sum(expected) / len(expected)
        assert record["accuracy"] == pytest.approx(means[record["method"]], abs=1e-9)
        assert record["rows"] == 21
        assert (record["cost"] is None) == (kind == "texts")
        scores = f"| {record['accuracy']:.2f} | {record['f1']:.2f} |"
        assert scores in lines[record["method"]]
    difference = re.search(r"\| ([+-][\d.]+) \[", lines["itrd"])
    assert float(difference[1]) == pytest.approx(means["itrd"] - means["kd"], abs=0.02)
    assert (folder / "accuracy_cost.svg").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["texts", "tokens"])
def test_two_methods_are_compared_by_accuracy(here, tmp_path, kind, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    arguments = comparison(kind, tmp_path)
    out = done("compare", *arguments)
    folder = tmp_path / "out"
    table = (folder / "table.md").read_text()
    assert table in out
    check_table(kind, folder, table)

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*")}

    before = times()
    again = done("compare", *arguments)
    assert table in again and "[1/2]" not in again
    assert times() == before
    (folder / "table.md").unlink()
    assert table in done("compare", *arguments, "--tables_only", "true")

    # A training that was stopped before its end is made again, and comes to the same.
    scores = {name: list(values) for name, values in np.load(folder / "scores.npz").items()}
    (folder / "cells" / "student" / "itrd" / "seed0" / "results.json").unlink()
    made_again = done("compare", *arguments)
    assert "[2/2] cells/student/itrd/seed0: accuracy " in made_again
    assert {n: list(v) for n, v in np.load(folder / "scores.npz").items()} == scores

    base = json.loads((tmp_path / "base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(json.dumps(base | {"learning_rate": 1e-4}))
    says = refused("compare", *arguments)
    assert "holds a finished training with learning_rate = 0.002, not 0.0001" in says


def test_what_a_comparison_of_classifiers_cannot_do_is_said_before_it_starts(here, tmp_path):
    (arguments,) = comparison("texts", tmp_path)
    plan = json.loads(Path(arguments).read_text())
    for change, sentence in (
        ({"textbrewer": {"theirs": {}}}, "there is no recipe of TextBrewer for the task classif"),
        (
            {"search": {"kd": [{"temperature": 2}], "itrd": [{"beta_mi": 1}]}},
            "search needs training data that are set aside, which the task classification cannot do",
        ),
        ({"table": ["exact_match"]}, "table names 'exact_match', but its columns are"),
        ({"task": "classificaton"}, "did you mean classification?"),
    ):
        Path(arguments).write_text(json.dumps(plan | change))
        assert sentence in refused("compare", arguments)
    assert not (tmp_path / "out" / "cells").exists()


# ---- documentation ----


def test_the_python_of_the_documentation_runs(here, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "classification.md").read_text()
    example = page.partition("<!-- example: classification -->\n```python\n")[2].partition("```")[0]
    for split in ("train", "dev"):
        shutil.copy(f"pairs-{split}.jsonl", tmp_path / f"{split}.jsonl")
    shutil.copytree("pairs-teacher", tmp_path / "runs" / "my_teacher")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    found = read("runs/my_student/results.json")
    printed = capsys.readouterr().out.split()
    assert printed[-2:] == [str(found["accuracy"]), str(found["teacher"]["accuracy"])]
    assert found["layers"] == 3


def test_the_comparison_of_the_configs_has_one_command_for_all_its_trainings():
    from itrd_nlp.cli.comparison import setting_of
    from itrd_nlp.cli.parser import parse
    from itrd_nlp.compare.plan import CompareArguments, Plan

    (args,) = parse([CompareArguments], [str(ROOT / "configs" / "compare" / "sentences.yaml")])
    plan = Plan(args, setting_of(args.task))
    cells = plan.cells(plan.nothing_chosen())
    assert len(cells) == 3 * 3
    assert {cell.command for cell in cells} == {"distil"}
    assert {cell.config["max_train_samples"] for cell in cells} == {16000}
