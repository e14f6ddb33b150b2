"""SQuAD 2.0 from data to Hub: fine-tune, distil, evaluate, predict, report, export and push, with tiny models.

The threshold of no answer is found once, on questions that nobody trains on or is judged on, and every later step uses
the same one.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.publish.report import write_report
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.jobs.evaluate import evaluate
from itrd_nlp.tasks.jobs.export import export
from itrd_nlp.tasks.jobs.predict import predict
from itrd_nlp.tasks.jobs.push import push_student
from itrd_nlp.tasks.question_answering.arguments import AnswerArguments, DataArguments
from itrd_nlp.tasks.question_answering.data import load_evaluation_data, load_training_data
from itrd_nlp.tasks.question_answering.evaluation import evaluate_predictions
from itrd_nlp.tasks.question_answering.no_answer import answers_and_differences
from itrd_nlp.tasks.question_answering.pipeline import load_pipeline
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.arguments import FineTuningArguments

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))  # test folders are no packages

from workflows import distil, fine_tune

SETTING = "null_score_diff_threshold"
WORDS = [f"w{i}" for i in range(40)]
SIZES = {"max_length": 64, "doc_stride": 16}


def squad_2(articles: int, name: str) -> dict[str, Any]:
    """The form of the official files: half of the questions are impossible, with plausible answers."""
    draw = random.Random(name)
    data = []
    for a in range(articles):
        paragraphs = []
        for p in range(2):
            context = " ".join(draw.choices(WORDS, k=20))
            qas: list[dict[str, Any]] = []
            for q in range(4):
                start = context.index(" ") + 1
                answer = {"text": context[start:].split()[0], "answer_start": start}
                qa = {"id": f"{name}-{a}-{p}-{q}", "question": " ".join(draw.choices(WORDS, k=3))}
                if q % 2:
                    qas.append(qa | {"answers": [answer], "is_impossible": False})
                else:
                    more = {"plausible_answers": [answer], "is_impossible": True}
                    qas.append(qa | {"answers": []} | more)
            paragraphs.append({"context": context, "qas": qas})
        data.append({"title": f"{name} {a}", "paragraphs": paragraphs})
    return {"version": "v2.0", "data": data}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataArguments:
    folder = tmp_path_factory.mktemp("data")
    for name, articles in (("train", 6), ("dev", 2)):
        (folder / f"{name}.json").write_text(json.dumps(squad_2(articles, name)))
    files = {"train_file": f"{folder}/train.json", "validation_file": f"{folder}/dev.json"}
    return DataArguments(**files, **SIZES, threshold_questions=9)


def options(folder: Path, **more: Any) -> dict[str, Any]:
    usual = {"max_steps": 4, "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True}
    return {"output_dir": str(folder), "save_strategy": "no", **usual, **more}


@pytest.fixture(scope="module")
def runs(
    data: DataArguments, tmp_path_factory: pytest.TempPathFactory, make_reader: Any
) -> dict[str, Path]:
    """A teacher and its student by ITRD, with a teacher cache."""
    folder = tmp_path_factory.mktemp("runs")
    for part in make_reader(WORDS, 3, max_position_embeddings=64):
        part.save_pretrained(folder / "encoder")
    teacher, student = folder / "teacher", folder / "student"
    args = FineTuningArguments(**options(teacher))
    fine_tune(TeacherArguments(str(folder / "encoder")), LoadingArguments(), data, args)
    cache = {"teacher_cache": "on", "teacher_cache_dir": str(folder / "cache")}
    distillation = ITRDTrainingArguments(**options(student), **cache)
    models = StudentArguments(teacher=str(teacher), num_layers=2)
    distil(models, LoadingArguments(), data, distillation)
    return {"teacher": teacher, "student": student, "encoder": folder / "encoder"}


def content(folder: Path, name: str = "results.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_the_record_has_the_unanswerable_share_and_the_threshold(
    who: str, runs: dict[str, Path]
) -> None:
    record = content(runs[who])
    counts = {
        split: (of["questions"], of["unanswerable"]) for split, of in record["datasets"].items()
    }
    # 48 questions of train in articles of 8; the two that hold 9 questions are set aside.
    assert counts == {"train": (32, 16), "threshold": (16, 8), "validation": (16, 8)}
    assert record["decoding"] == {SETTING: content(runs[who], "config.json")[SETTING]}
    names = ["exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer"]
    assert list(record["metrics"]) == names
    assert record["f1"] == pytest.approx((record["has_answer_f1"] + record["no_answer"]) / 2)


def test_the_student_has_a_threshold_of_its_own_and_the_record_that_of_its_teacher(
    runs: dict[str, Path],
) -> None:
    taught, teacher = content(runs["student"])["teacher"], content(runs["teacher"])
    assert taught["decoding"] == teacher["decoding"]
    assert {n: taught[n] for n in teacher["metrics"]} == {n: teacher[n] for n in teacher["metrics"]}
    assert content(runs["student"])["decoding"] != teacher["decoding"]


def test_no_question_both_sets_the_threshold_and_is_trained_on_or_judged_on(
    data: DataArguments, runs: dict[str, Path]
) -> None:
    tokenizer = load_pipeline(runs["student"]).tokenizer
    read = load_training_data(data, tokenizer)
    assert read.threshold is not None
    aside = read.threshold.examples
    for others in (read.examples[0], load_evaluation_data(data, tokenizer).examples):
        assert not set(others["id"]) & set(aside["id"])
        assert not set(others["title"]) & set(aside["title"])
        assert not set(others["context"]) & set(aside["context"])


def test_the_threshold_is_the_best_one_on_the_questions_set_aside(
    data: DataArguments, runs: dict[str, Path]
) -> None:
    """Found again by trying every value, with the pipeline's own logits and the scores of `evaluate`."""
    qa = load_pipeline(runs["student"])
    read = load_training_data(data, qa.tokenizer)
    assert read.threshold is not None
    examples, features = read.threshold.examples, read.threshold.features
    start = torch.zeros(len(features), 64)
    end = torch.zeros(len(features), 64)
    for i, window in enumerate(features):
        ids = torch.tensor([window["input_ids"]])
        types = torch.tensor([window["token_type_ids"]])
        with torch.inference_mode():
            out = qa.model(input_ids=ids, token_type_ids=types)
        start[i, : ids.shape[1]], end[i, : ids.shape[1]] = out.start_logits[0], out.end_logits[0]
    found = answers_and_differences(start.numpy(), end.numpy(), features, examples)

    own = content(runs["student"])["decoding"][SETTING]
    differences = sorted(found.differences.values())
    tried = [differences[0] - 1, *differences]
    exact = [found.at(t) for t in tried]
    assert found.at(own) in exact  # a cut between two questions
    best = max(evaluate_predictions(answers, examples)["f1"] for answers in exact)
    assert evaluate_predictions(found.at(own), examples)["f1"] == pytest.approx(best)


def test_every_loader_uses_the_threshold_of_the_student(
    data: DataArguments, runs: dict[str, Path], tmp_path: Path
) -> None:
    record = content(runs["student"])
    plain = DataArguments(validation_file=data.validation_file, **SIZES)
    found, answers = evaluate(
        QuestionAnswering(plain), str(runs["student"]), LoadingArguments(), batch_size=3
    )
    assert found.scores == {name: record[name] for name in record["metrics"]}
    assert found.decoding == record["decoding"]
    assert answers == content(runs["student"], "analysis/predictions.json")
    assert "" in answers.values() and any(answers.values())

    dev = content(Path(str(data.validation_file)).parent, "dev.json")
    asked = [
        {"id": qa["id"], "question": qa["question"], "context": paragraph["context"]}
        for article in dev["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    by_pipeline = load_pipeline(runs["student"], max_length=64, doc_stride=16)(asked)
    assert [a["answer"] for a in by_pipeline] == [answers[row["id"]] for row in asked]
    lines = predict(
        QuestionAnswering,
        str(runs["student"]),
        data.validation_file,
        AnswerArguments(max_length=64, doc_stride=16),
        loading=LoadingArguments(),
    )
    assert {line["id"]: line["answer"] for line in lines} == answers

    output = tmp_path / "export"
    export(
        QuestionAnswering(plain),
        str(runs["student"]),
        LoadingArguments(),
        output_dir=str(output),
        max_f1_drop=100,
    )
    rows = content(output, "export.json")["models"]
    for name in ("torch", "onnx"):
        assert {m: rows[name][m] for m in record["metrics"]} == pytest.approx(found.scores)
    onnx = load_pipeline(output / "onnx", max_length=64, doc_stride=16)
    assert onnx.threshold == record["decoding"][SETTING]
    assert [a["answer"] for a in onnx(asked)] == [a["answer"] for a in by_pipeline]


def test_options_win_over_the_threshold_of_the_student(runs: dict[str, Path]) -> None:
    row = {"question": "w1 w2", "context": "w3 w4 w5"}
    qa = load_pipeline(runs["student"])
    assert qa(row, null_score_diff_threshold=-1000)["answer"] == ""
    assert qa(row, null_score_diff_threshold=1000)["answer"] != ""
    assert qa(row, handle_impossible_answer=False)["answer"] != ""
    own = qa.threshold
    assert (
        qa(row) == qa(row, null_score_diff_threshold=own) == qa(row, handle_impossible_answer=True)
    )
    for bad in (float("nan"), "0", True, 1e9):
        with pytest.raises(UserError, match=r"null_score_diff_threshold is .*, but must be from"):
            qa(row, null_score_diff_threshold=bad)


def test_a_given_threshold_holds_for_both_models_and_nothing_is_set_aside(
    data: DataArguments, runs: dict[str, Path], tmp_path: Path
) -> None:
    files = {"train_file": data.train_file, "validation_file": data.validation_file}
    given = DataArguments(**files, **SIZES, null_score_diff_threshold=-1.5)
    args = ITRDTrainingArguments(**options(tmp_path / "student", max_steps=1))
    models = StudentArguments(teacher=str(runs["teacher"]), num_layers=1)
    record = distil(models, LoadingArguments(), given, args)
    assert record["decoding"] == record["teacher"]["decoding"] == {SETTING: -1.5}
    assert record["datasets"]["train"]["questions"] == 48
    assert "threshold" not in record["datasets"]
    assert content(tmp_path / "student", "config.json")[SETTING] == -1.5
    kept = content(runs["teacher"], "config.json")
    assert kept[SETTING] == content(runs["teacher"])["decoding"][SETTING]


def test_a_foreign_teacher_without_a_threshold_gets_one_and_stays_as_it_is(
    data: DataArguments, runs: dict[str, Path], tmp_path: Path
) -> None:
    before = (runs["encoder"] / "config.json").read_bytes()
    args = ITRDTrainingArguments(**options(tmp_path / "student", max_steps=1))
    models = StudentArguments(teacher=str(runs["encoder"]), num_layers=1)
    record = distil(models, LoadingArguments(), data, args)
    assert SETTING in record["teacher"]["decoding"]
    assert (runs["encoder"] / "config.json").read_bytes() == before


def test_report_and_card_show_what_is_true(hub: Any, runs: dict[str, Path]) -> None:
    record = content(runs["student"])
    threshold = record["decoding"][SETTING]
    page = write_report(runs["student"], QuestionAnswering.page).read_text()
    assert "Null score diff threshold" in page and f"{threshold:.3g}" in page
    assert "HasAns F1" in page and "NoAns" in page and "(no answer)" in page

    push_student(runs["student"], "user/student", api=hub.api)
    pushed = hub.repos["user/student"].files()
    assert json.loads(pushed["config.json"])[SETTING] == threshold
    card = ModelCard(pushed["README.md"].decode())
    metrics = {m.metric_type: m.metric_value for m in card.data.eval_results}
    assert metrics == {name: round(record[name], 2) for name in record["metrics"]}
    text = str(card)
    assert "Evaluated on 16 questions (8 of them unanswerable) of dev.json" in text
    found = (
        "The threshold of no answer was found on a subset of 16 questions (8 of them unanswerable)"
    )
    assert f"{found} of train.json" in text
    assert (
        f'The answer is "" where the score of no answer is more than {threshold:.6g} above' in text
    )


def test_the_example_of_the_card_answers_as_the_pipeline_does(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (runs["student"] / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    name = json.dumps(runs["student"].name)
    assert name in code
    folder = shutil.copytree(runs["student"], tmp_path / "copy")
    code = code.replace(name, json.dumps(str(folder)))
    for threshold in (None, -1000.0, 1000.0):
        if threshold is not None:
            change = content(folder, "config.json") | {SETTING: threshold}
            (folder / "config.json").write_text(json.dumps(change))
        qa = load_pipeline(folder)
        for question, context in (("w1 w2", "w3 w4 w5 w6"), ("w20 w3", "w1 w2 " * 9)):
            asked = code.replace("Where does the Rhine begin?", question).replace(
                "The Rhine begins in the Swiss Alps and flows to the North Sea.", context.strip()
            )
            exec(compile(asked, "card", "exec"), {})
            shown = capsys.readouterr().out.removesuffix("\n")
            assert shown == qa(question=question, context=context.strip())["answer"]
            if threshold is not None:
                assert (shown == "") == (threshold < 0)


# ---- what makes no sense ----


def write(path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    made = squad_2(2, "odd")
    change(made)
    path.write_text(json.dumps(made))
    return str(path)


def all_impossible(made: dict[str, Any]) -> None:
    for article in made["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                qa |= {"answers": [], "is_impossible": True}


def one_article(made: dict[str, Any]) -> None:
    del made["data"][1]


def test_training_data_of_one_article_need_a_given_threshold(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    file = write(tmp_path / "train.json", one_article)
    tokenizer = load_pipeline(runs["student"]).tokenizer
    with pytest.raises(UserError, match=r"leave none to train on then. Set null_score_diff_thresh"):
        load_training_data(DataArguments(train_file=file, **SIZES), tokenizer)
    given = DataArguments(train_file=file, **SIZES, null_score_diff_threshold=0)
    assert load_training_data(given, tokenizer).questions == 8


def test_where_each_question_has_an_answer_no_threshold_is_searched(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    def answered(made: dict[str, Any]) -> None:
        for article in made["data"]:
            for paragraph in article["paragraphs"]:
                del paragraph["qas"][::2]

    file = write(tmp_path / "train.json", answered)
    tokenizer = load_pipeline(runs["student"]).tokenizer
    read = load_training_data(DataArguments(train_file=file, **SIZES), tokenizer)
    assert (read.threshold, read.unanswerable, read.questions) == (None, 0, 8)
    with pytest.raises(
        UserError, match="threshold_questions is 3, but each question of train_file"
    ):
        load_training_data(
            DataArguments(train_file=file, **SIZES, threshold_questions=3), tokenizer
        )


def test_data_that_are_all_unanswerable_are_judged(runs: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "dev.json", all_impossible)
    task = QuestionAnswering(DataArguments(validation_file=file, **SIZES))
    found, answers = evaluate(task, str(runs["student"]), LoadingArguments())
    share = 100 * sum(text == "" for text in answers.values()) / len(answers)
    assert found.scores == pytest.approx(dict.fromkeys(("exact_match", "f1", "no_answer"), share))


def test_a_model_without_a_threshold_uses_0_and_says_so(
    data: DataArguments, runs: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    plain = DataArguments(validation_file=data.validation_file, **SIZES)
    found, _ = evaluate(QuestionAnswering(plain), str(runs["encoder"]), LoadingArguments())
    assert found.decoding == {SETTING: 0.0}
    assert (
        "the model has no null_score_diff_threshold in its config.json, so 0 is used" in caplog.text
    )
    caplog.clear()
    evaluate(QuestionAnswering(plain), str(runs["student"]), LoadingArguments())
    assert "so 0 is used" not in caplog.text


def test_questions_that_are_judged_on_do_not_set_the_threshold(
    data: DataArguments, runs: dict[str, Path]
) -> None:
    """Where the two files are one, nothing is left to find the threshold on."""
    same = DataArguments(train_file=data.train_file, validation_file=data.train_file, **SIZES)
    pipeline = load_pipeline(runs["student"])
    with pytest.raises(UserError, match=r"is one of .*, too, where it must not be"):
        QuestionAnswering(same).load(pipeline.tokenizer, pipeline.model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -1e9])
def test_a_threshold_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(
        UserError, match=r"null_score_diff_threshold is .*, but must be from -10000"
    ):
        DataArguments(null_score_diff_threshold=value)
    sentence = (
        "threshold_questions and null_score_diff_threshold are both.*; set one of them to null"
    )
    with pytest.raises(UserError, match=sentence):
        DataArguments(null_score_diff_threshold=0, threshold_questions=5)
