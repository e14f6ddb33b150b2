"""The scripts as a user runs them: real processes, real files, tiny models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from itrd_nlp.training.yaml_files import parse_yaml, read_yaml

SCRIPTS = Path(__file__).parents[2] / "scripts"


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_accelerate_launch_distils_a_student_and_reports_both(run_script, workplace):
    done = run_script("train_squad.py", "student.yaml", "--seed", "7", launch=True)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()[-25:]
    assert any("teacher" in line for line in table)
    assert any("student" in line and " 2 " in line for line in table)

    found = results(workplace / "student")
    assert {"exact_match", "f1", "questions", "train_seconds", "teacher", "environment"} <= set(
        found
    )
    assert found["questions"] == 10
    assert found["teacher"]["layers"] == 4
    assert found["layers"] == 2
    assert found["layer_pairs"] == ["1:2", "2:4"]
    assert found["arguments"]["seed"] == 7  # the flag wins over the file
    assert found["steps"] == 3
    assert "student.yaml --seed 7" in found["command"]
    assert str(workplace) not in json.dumps(found)

    assert found["ms_per_question"] > 0 < found["teacher"]["ms_per_question"]
    recorded = parse_yaml(found["config"]["text"])
    assert recorded == read_yaml(str(workplace / "student.yaml"))
    assert found["datasets"]["validation"]["questions"] == 10
    assert len(found["datasets"]["train"]["sha256"]) == 64
    for name in ("README.md", "report.html"):
        page = (workplace / "student" / name).read_text()
        assert f"{found['f1']:.2f}" in page
        assert str(workplace) not in page
    student = AutoModelForQuestionAnswering.from_pretrained(workplace / "student")
    assert student.config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(workplace / "student").vocab_size == 64

    judged = run_script(
        "evaluate_squad.py",
        "--model",
        "student",
        "--validation_file",
        "dev.json",
        "--max_length",
        "64",
        "--doc_stride",
        "16",
        "--bf16",
        "--output_file",
        "answers.json",
    )
    assert judged.returncode == 0, judged.stderr
    last = json.loads(judged.stdout.splitlines()[-1])
    assert (last["exact_match"], last["f1"]) == (found["exact_match"], found["f1"])

    again = run_script(
        "evaluate_squad.py", "--predictions_file", "answers.json", "--validation_file", "dev.json"
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["f1"] == found["f1"]


def test_a_finished_run_is_shown_again_and_never_overwritten(run_script, workplace):
    assert run_script("train_squad.py", "student.yaml").returncode == 0
    weights = (workplace / "student" / "model.safetensors").read_bytes()
    shown = run_script("train_squad.py", "student.yaml")
    assert shown.returncode == 0
    assert "Finished already" in shown.stdout
    refused = run_script("train_squad.py", "student.yaml", "--seed", "1")
    assert refused.returncode == 2
    assert "holds a finished run with seed = " in refused.stderr
    assert (workplace / "student" / "model.safetensors").read_bytes() == weights


def test_a_teacher_is_fine_tuned_and_its_results_are_believed(run_script, workplace):
    done = run_script("train_teacher.py", "teacher.yaml")
    assert done.returncode == 0, done.stderr
    teacher = results(workplace / "fine_tuned")
    assert teacher["layers"] == 4
    teacher["exact_match"] = 12.34  # a figure that no second measurement would give
    (workplace / "fine_tuned" / "results.json").write_text(json.dumps(teacher))
    done = run_script("train_squad.py", "student.yaml", "--teacher", "fine_tuned")
    assert done.returncode == 0, done.stderr
    assert results(workplace / "student")["teacher"]["exact_match"] == 12.34


def test_a_student_can_start_from_another_checkpoint(run_script, workplace, make_bert):
    make_bert(2, seed=3, hidden_size=16).save_pretrained(workplace / "narrow")
    AutoTokenizer.from_pretrained(workplace / "teacher").save_pretrained(workplace / "narrow")
    done = run_script("train_squad.py", "student.yaml", "--student", "narrow")
    assert done.returncode == 0, done.stderr
    assert (
        AutoModelForQuestionAnswering.from_pretrained(workplace / "student").config.hidden_size
        == 16
    )


def test_help_names_our_options_before_those_of_transformers(run_script):
    done = run_script("train_squad.py", "--help")
    assert done.returncode == 0
    order = [
        done.stdout.index(f) for f in ("--teacher", "--w_kd", "--train_file", "--learning_rate")
    ]
    assert order == sorted(order)


def truncate(folder):
    path = folder / "train.json"
    path.write_text(path.read_text()[:-40])


def edit(change):
    def prepare(folder):
        path = folder / "train.json"
        content = json.loads(path.read_text())
        change(content["data"][0]["paragraphs"])
        path.write_text(json.dumps(content))

    return prepare


def shift_answer(paragraphs):
    paragraphs[3]["qas"][0]["answers"][0]["answer_start"] += 1


def empty_context(paragraphs):
    paragraphs[2]["context"] = ""


def long_question(paragraphs):
    paragraphs[4]["qas"][0]["question"] = "what " * 80


def same_id(paragraphs):
    paragraphs[5]["qas"][0]["id"] = paragraphs[6]["qas"][0]["id"]


def other_vocabulary(folder):
    from transformers import BertTokenizerFast

    AutoModelForQuestionAnswering.from_pretrained(folder / "teacher").save_pretrained(
        folder / "other"
    )
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"x{i}" for i in range(59))]
    BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}).save_pretrained(folder / "other")


def headless_teacher(folder):
    from transformers import BertModel

    BertModel.from_pretrained(folder / "teacher").save_pretrained(folder / "headless")
    AutoTokenizer.from_pretrained(folder / "teacher").save_pretrained(folder / "headless")


def vision_model(folder):
    (folder / "vision").mkdir()
    (folder / "vision" / "config.json").write_text('{"model_type": "vit"}')
    AutoTokenizer.from_pretrained(folder / "teacher").save_pretrained(folder / "vision")


def broken_weights(folder):
    path = folder / "teacher" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


BAD_INPUT = [
    (None, ["--train_file", "nowhere.json"], "nowhere.json"),
    (truncate, [], "train.json"),
    (edit(shift_answer), [], "t3"),
    (edit(empty_context), [], "context"),
    (edit(long_question), [], "t4"),
    (edit(same_id), [], "t6"),
    (None, ["--teacher", "./nowhere"], "teacher ./nowhere does not exist"),
    (vision_model, ["--teacher", "vision"], "teacher vision"),
    (headless_teacher, ["--teacher", "headless"], "no fine-tuned model for QuestionAnswering"),
    (broken_weights, [], "teacher teacher cannot be loaded"),
    (
        other_vocabulary,
        ["--student", "other"],
        "the vocabularies of student (64 tokens) and teacher (64) differ",
    ),
    (None, ["--layer_map", "2:13"], "names teacher layer 13, but the teacher has layers 1 to 4"),
    (None, ["--student_init", "1", "9"], "names teacher layer 9"),
    (None, ["--beta_corr", "-1"], "beta_corr is -1.0, but must be a finite number >= 0"),
    (None, ["--mi_view", "words"], "mi_view"),
    (None, ["--temperature", "0"], "temperature is 0.0"),
    (None, ["--max_train_samples", "0"], "max_train_samples"),
    (None, ["--doc_stride", "64"], "doc_stride"),
    (None, ["--beta_cor", "1"], "beta_corr"),
    (None, ["--output_dir", "train.json"], "output_dir train.json is a file"),
]


@pytest.mark.parametrize(("prepare", "arguments", "named"), BAD_INPUT)
def test_bad_input_gets_one_sentence_exit_code_2_and_loses_nothing(
    refusal, workplace, prepare, arguments, named
):
    if prepare is not None:
        prepare(workplace)

    def files():
        return {p: p.read_bytes() for p in workplace.glob("*") if p.is_file()} | {
            p: p.read_bytes() for p in (workplace / "teacher").iterdir()
        }

    before = files()
    assert named in refusal("train_squad.py", "student.yaml", *arguments)
    assert files() == before
    assert not (workplace / "student").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "either --model or --predictions_file"),
        (
            ["--model", "teacher", "--predictions_file", "x.json"],
            "either --model or --predictions_file",
        ),
        (["--predictions_file", "x.json", "--validation_file", "dev.json"], "x.json"),
        (["--predictions_file", "dev.json", "--validation_file", "dev.json"], "dev.json"),
        (["--model", "teacher"], "validation_file is not set"),
    ],
)
def test_bad_input_to_the_evaluation(refusal, arguments, named):
    assert named in refusal("evaluate_squad.py", *arguments)


def test_a_real_process_exits_with_2_and_no_traceback(run_script):
    done = run_script("train_squad.py", "student.yaml", "--layer_map", "2:13", launch=True)
    assert "names teacher layer 13, but the teacher has layers 1 to 4" in done.stderr
    assert done.returncode != 0
    plain = run_script("train_squad.py", "student.yaml", "--layer_map", "2:13")
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr


def asked(file: Path) -> list[tuple[str, str]]:
    """The question and the context of each row of a file in SQuAD's format."""
    return [
        (qa["question"], paragraph["context"])
        for article in json.loads(file.read_text())["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def test_questions_asked_elsewhere_are_taught_without_answers(run_script, workplace, refusal):
    make = ("make_unlabelled_questions.py", "--source_file", "train.json")
    done = run_script(*make, "--output_file", "elsewhere.json", "--max_samples", "20")
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split("elsewhere.json: ")[1].split()[0])
    assert 0 < count <= 20
    kept = (workplace / "elsewhere.json").read_bytes()
    done = run_script("train_squad.py", "student.yaml", "--unlabelled_file", "elsewhere.json")
    assert done.returncode == 0, done.stderr
    found = results(workplace / "student")["datasets"]["unlabelled"]
    trained, unlabelled = (asked(workplace / name) for name in ("train.json", "elsewhere.json"))
    assert len(unlabelled) == count
    new = sum(question not in trained for question in unlabelled)  # small data ask some twice
    assert (found["name"], found["questions"]) == ("elsewhere.json", new)

    assert "output_file elsewhere.json exists" in refusal(*make, "--output_file", "elsewhere.json")
    assert (workplace / "elsewhere.json").read_bytes() == kept
    refused = refusal(*make, "--output_file", "few.json", "--max_samples", "1")
    assert "train.json: no article has two contexts" in refused
    assert not (workplace / "few.json").exists()


def test_questions_asked_in_vain_become_data_like_squad_2(run_script, workplace, refusal):
    make = ("make_answerless_questions.py", "--train_file", "train.json")
    make += ("--validation_file", "dev.json", "--share", "0.3")
    done = run_script(*make, "--output_dir", "answerless")
    assert done.returncode == 0, done.stderr
    files = [workplace / "answerless" / name for name in ("train.json", "dev.json")]
    for line, path in zip(done.stdout.splitlines()[-2:], files, strict=True):
        assert re.fullmatch(
            rf"answerless/{path.name}: \d+ questions, \d+ of them unanswerable", line
        )
        kinds = {
            qa["is_impossible"]
            for article in json.loads(path.read_text())["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        }
        assert kinds == {True, False}
    kept = [path.read_bytes() for path in files]
    assert "which is not overwritten" in refusal(*make, "--output_dir", "answerless")
    assert [path.read_bytes() for path in files] == kept


def test_textbrewer_runs_on_the_same_data_and_leaves_the_same_results(run_script, workplace):
    done = run_script("train_textbrewer.py", "student.yaml", "--temperature", "4")
    assert done.returncode == 0, done.stderr
    found = results(workplace / "student")
    assert (found["method"], found["steps"], found["layers"]) == ("TextBrewer", 3, 2)
    assert found["layer_pairs"] == ["0:0", "1:2", "2:4"]
    assert found["questions"] == 10
    card = (workplace / "student" / "README.md").read_text()
    assert "by TextBrewer, to compare with," in card
    assert "beta_corr" not in card


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")
@pytest.mark.parametrize("script", ["train_squad.py", "train_textbrewer.py"])
def test_a_student_is_distilled_on_a_gpu(run_script, workplace, script):
    done = run_script(script, "student.yaml")
    assert done.returncode == 0, done.stderr
    found = results(workplace / "student")
    assert torch.cuda.get_device_name() in found["environment"]["machine"]
    layers = json.loads((workplace / "student" / "analysis" / "similarity.json").read_text())
    assert len(layers["before"]["cka"]) == len(layers["after"]["cka"]) == 3
