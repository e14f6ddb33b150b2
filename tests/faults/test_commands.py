"""What commands once did wrong with odd arguments, files and surroundings, each by a real command.

`test_faults.py` damages files. Here are the other kinds: paths that no file can have, options that make no sense, a
folder that is not there, a Hub that is not asked for, texts that take long.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from workshop import content, make_workshop, outcome

ONE_STEP = ("--max_steps", "1", "--save_strategy", "no", "--output_dir", "out")
TRAIN = ("train-squad", "student.yaml", *ONE_STEP)
EVALUATE = ("evaluate", "--model", "student", "--max_length", "48", "--doc_stride", "16")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_workshop(tmp_path / "workshop")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that somebody looks up in a network, where there is none."""
    found: list[Any] = []

    def refuse(*address: Any, **_: Any) -> Any:
        found.append(address)
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return found


def refused(*arguments: str) -> str:
    """The sentence by which a command refuses its arguments; every file is as it was."""
    before = content(Path.cwd(), [])
    code, sentence = outcome(list(arguments))
    assert (code, sentence[:7]) == (2, "error: "), sentence
    assert sentence.endswith((".", "?")) and len(sentence) < 2000
    assert content(Path.cwd(), []) == before
    return sentence


# ---- paths ----

PATHS = {
    "a name that is too long": "x" * 300 + ".json",
    "a path that is too long": "a/" * 3000 + "b.json",
    "a loop": "loop.json",
    "a file that answers with an input error": "/proc/self/mem",
    "a pipe": "pipe.json",
    "a device that never ends": "/dev/zero",
    "a folder": "student",
    "a file below a file": "dev.json/below.json",
    "a folder that is missing": "none/x.json",
    "a broken link": "broken.json",
}
READING = {
    "config": lambda path: ("train-squad", path),
    "validation_file": lambda path: (*EVALUATE, "--validation_file", path),
    "train_file": lambda path: (*TRAIN, "--train_file", path),
    "predictions_file": lambda path: (
        *("evaluate-squad", "--predictions_file", path),
        *("--validation_file", "dev.json"),
    ),
    "input": lambda path: ("predict", "--model", "student", "--input", path),
    "model": lambda path: ("evaluate", "--model", path, "--validation_file", "dev.json"),
    "teacher": lambda path: (*TRAIN, "--teacher", path),
    "run": lambda path: ("report", path),
    "source_file": lambda path: (
        *("make-unlabelled-questions", "--source_file", path),
        *("--output_file", "made.json"),
    ),
    "resume_from_checkpoint": lambda path: (*TRAIN, "--resume_from_checkpoint", path),
    "show": lambda path: ("show-config", path),
}


@pytest.mark.parametrize(
    ("option", "what"),
    [
        (option, what)
        for option in READING
        for what in PATHS
        # Three of them read folders, and two of these a model of this name from the Hub.
        if not (option in ("model", "teacher", "run") and what == "a folder")
        if not (option in ("model", "teacher") and what == "a folder that is missing")
    ],
)
def test_a_path_that_cannot_be_read_is_one_sentence(
    option: str, what: str, root: Path, asked: list[Any]
) -> None:
    (root / "loop.json").symlink_to("loop.json")
    (root / "broken.json").symlink_to("nowhere")
    os.mkfifo(root / "pipe.json")
    sentence = refused(*READING[option](PATHS[what]))
    assert PATHS[what][:50] in sentence or Path(PATHS[what]).name[:50] in sentence
    assert asked == []


WRITING = {
    "output": lambda path: (
        *("predict", "--model", "student", "--input", "dev.json"),
        *("--output", path),
    ),
    "output_file": lambda path: (*EVALUATE, "--validation_file", "dev.json", "--output_file", path),
    "output_dir": lambda path: (*TRAIN, "--output_dir", path),
    "made": lambda path: (
        *("make-unlabelled-questions", "--source_file", "train.json"),
        *("--output_file", path),
    ),
    "export": lambda path: (
        *("export-onnx", "--model", "student", "--validation_file", "dev.json"),
        *("--max_length", "48", "--doc_stride", "16", "--output_dir", path),
    ),
    "data": lambda path: (
        *("make-classification-data", "--train_file", "train.json"),
        *("--validation_file", "dev.json", "--output_dir", path),
    ),
}


@pytest.mark.parametrize("what", [w for w in PATHS if "missing" not in w and w != "a folder"])
@pytest.mark.parametrize("option", WRITING)
def test_a_path_that_cannot_be_written_is_one_sentence_before_the_work(
    option: str, what: str, root: Path
) -> None:
    (root / "loop.json").symlink_to("loop.json")
    (root / "broken.json").symlink_to("nowhere/deep")
    os.mkfifo(root / "pipe.json")
    refused(*WRITING[option](PATHS[what]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--model", "{}", "--validation_file", "dev.json"),
        ("predict", "--model", "{}", "--question", "who", "--context", "a"),
        (*TRAIN, "--teacher", "{}"),
        (*TRAIN, "--student", "{}"),
        ("train-teacher", "teacher.yaml", *ONE_STEP, "--model_name_or_path", "{}"),
        ("push-to-hub", "--model", "{}", "--repo_id", "user/name"),
        ("export-onnx", "--model", "{}", "--validation_file", "dev.json", "--output_dir", "o"),
        ("demo", "{}"),
        ("report", "{}"),
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("path", ["./none", "/none/at/all", "runs/none/checkpoint-1", "../none"])
def test_a_local_path_that_is_missing_is_not_looked_up_on_the_hub(
    arguments: tuple[str, ...], path: str, root: Path, asked: list[Any]
) -> None:
    sentence = refused(*(argument.format(path) for argument in arguments))
    assert Path(path).name in sentence
    assert asked == []


# ---- options ----


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--learning_rate", "-1"), "learning_rate is -1.0, but must be"),
        (("--learning_rate", "nan"), "learning_rate is nan, but must be"),
        (("--num_train_epochs", "-1"), "num_train_epochs is -1.0, but must be"),
        (("--seed", "-1"), "seed is -1, but must be"),
        (("--dropout", "2"), "dropout is 2.0, but must be"),
        (("--max_steps", "9" * 5000), "max_steps"),
        (("--num_layers", "99"), "num_layers"),
        (("--report_to", "tensorbord"), "which is no tracker"),
        (("--report_to", "comet_ml"), "the package of this tracker is not installed"),
        (("--optim", "adam_w"), "optim"),
        (("--lr_scheduler_type", "liner"), "lr_scheduler_type"),
        (("--doc_stride", "48"), "doc_stride is 48, but must be at least 0 and below max_length"),
        (("--max_length", "1"), "doc_stride is 16, but must be at least 0 and below max_length=1"),
        (("--peer_losses", "{"), "peer_losses is '{'"),
        (
            (
                *("--metric_for_best_model", "nope", "--load_best_model_at_end", "true"),
                *("--eval_strategy", "steps", "--save_strategy", "steps"),
            ),
            "metric_for_best_model is 'nope', but must be one of loss, exact_match, f1, has_answer",
        ),
        (("--output_dir", ""), "output_dir is empty, but must be"),
        (("--train_file", ""), "train_file is empty, but must be"),
        (("--teacher", ""), "teacher is empty, but must be"),
        (("--per_device_eval_batch_size", str(2**31 - 1)), "but must be from 1 to 1048576"),
        (("--layer_map", "1:99"), "1:99"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_sentence(
    options: tuple[str, ...], sentence: str, root: Path, asked: list[Any]
) -> None:
    assert sentence in refused(*TRAIN, *options)
    assert asked == []


def test_a_schedule_that_takes_no_such_options_is_one_sentence(root: Path) -> None:
    code, sentence = outcome([*TRAIN, "--lr_scheduler_kwargs", '{"nope": 1}'])
    assert code == 2 and "lr_scheduler_kwargs is {'nope': 1}, but: " in sentence
    assert not (root / "out" / "results.json").exists()


def test_an_export_takes_no_nan_for_the_loss_that_it_may_have(root: Path) -> None:
    export = ("export-onnx", "--model", "student", "--validation_file", "dev.json")
    assert "max_f1_drop is nan, but" in refused(*export, "--max_f1_drop", "nan")


def test_a_push_without_a_hub_is_one_sentence_and_keeps_the_model(
    root: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "ordinary-words-of-mine")
    code, sentence = outcome([*TRAIN, "--push_to_hub", "true", "--hub_model_id", "user/name"])
    assert code == 2 and sentence.startswith("error: ") and asked
    assert "ordinary-words" not in sentence


# ---- models ----


def _of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    save_file(weights | {name: weights[name][:, :-1].clone()}, folder / "model.safetensors")


def _of_pickles(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"harm": Harm()}, folder / "pytorch_model.bin")


class Harm:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("damage", [_of_another_shape, _of_pickles])
@pytest.mark.parametrize("command", ["evaluate", "train-squad", "push-to-hub", "predict"])
def test_weights_that_do_not_fit_or_could_do_harm_are_one_sentence(
    command: str, damage: Callable[[Path], None], root: Path
) -> None:
    model = "teacher" if command == "train-squad" else "student"
    damage(root / model)
    arguments = {
        "evaluate": (*EVALUATE, "--validation_file", "dev.json"),
        "train-squad": TRAIN,
        "push-to-hub": ("push-to-hub", "--model", "student", "--repo_id", "a/b", "--dry_run"),
        "predict": ("predict", "--model", "student", "--input", "dev.json"),
    }
    assert model in refused(*arguments[command])
    assert not (root / "harm").exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000 in config.json, but at most"),
        ("vocab_size", 10**12, "model student cannot be loaded: "),
        ("max_position_embeddings", -5, "model student cannot be loaded: "),
        ("id2label", {"a": "b"}, "model student cannot be loaded: "),
        ("auto_map", {"AutoConfig": "evil.Config"}, "custom code"),
    ],
)
def test_a_configuration_that_no_model_has_is_one_sentence_at_once(
    field: str, value: Any, sentence: str, root: Path
) -> None:
    path = root / "student" / "config.json"
    changed = json.loads(path.read_text()) | {field: value}
    if field == "auto_map":
        changed["model_type"] = "evil"
        (root / "student" / "evil.py").write_text('open("harm", "w")\n')
    path.write_text(json.dumps(changed))
    began = time.process_time()
    assert sentence in refused(*EVALUATE, "--validation_file", "dev.json")
    assert time.process_time() - began < 20
    assert not (root / "harm").exists()


@pytest.mark.parametrize("architectures", [[5], "BertForQuestionAnswering", {}, [None]])
def test_an_architecture_that_is_no_name_is_passed_over(architectures: Any, root: Path) -> None:
    """The record of the run says which task it is."""
    path = root / "student" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": architectures}))
    code, sentence = outcome([*EVALUATE, "--validation_file", "dev.json"])
    assert code in (0, 2) and "tasks are" not in sentence


# ---- what is written ----


def test_every_file_of_a_command_has_the_mode_of_the_others(root: Path) -> None:
    """A temporary file is often one's own alone, and so is what it becomes."""
    before = {path for path in root.rglob("*") if path.is_file()}
    old = os.umask(0o022)
    try:
        steps = ("--save_strategy", "steps", "--save_steps", "1", "--output_dir", "out")
        assert outcome(["train-squad", "student.yaml", "--max_steps", "2", *steps])[0] == 0
        commands = (
            (*EVALUATE, "--validation_file", "dev.json", "--output_file", "answers.json"),
            ("predict", "--model", "out", "--input", "dev.json", "--output", "answers.jsonl"),
            ("report", "out"),
            WRITING["data"]("made"),
            WRITING["made"]("more.json"),
        )
        for command in commands:
            assert outcome(list(command))[0] == 0, command
    finally:
        os.umask(old)
    written = [path for path in root.rglob("*") if path.is_file() and path not in before]
    assert len(written) > 25
    modes = {
        str(path.relative_to(root)): oct(stat.S_IMODE(path.stat().st_mode)) for path in written
    }
    assert {name: mode for name, mode in modes.items() if mode != "0o644"} == {}


# ---- time ----


def test_a_report_of_twenty_long_contexts_takes_no_minute(root: Path) -> None:
    path = root / "student" / "analysis" / "disagreements.json"
    shown = json.loads(path.read_text())
    one = shown["examples"][0]
    text = "the rhine flows past basel and bonn . " * 1000
    one |= {"context": text, "references": [{"text": "basel", "start": text.rindex("basel")}]}
    for who in ("student", "teacher"):
        one[who] |= {"text": "the rhine"}
    path.write_text(json.dumps(shown | {"examples": [one] * 20}))
    began = time.process_time()
    assert outcome(["report", "student"])[0] == 0
    assert time.process_time() - began < 10


def test_one_long_context_of_questions_in_lines_takes_no_minute(root: Path) -> None:
    (root / "in.jsonl").write_text(
        json.dumps({"question": "who", "context": "the rhine flows past basel . " * 400}) + "\n"
    )
    began = time.process_time()
    predict = ["predict", "--model", "student", "--input", "in.jsonl", "--output", "out.jsonl"]
    assert outcome(predict)[0] == 0
    assert time.process_time() - began < 30


# ---- one example of many ----


def _with_a_long_question(root: Path, count: int) -> dict[str, Any]:
    """dev.json, in which the first `count` questions are too long for any window."""
    shown: dict[str, Any] = json.loads((root / "dev.json").read_text())
    asked = [qa for a in shown["data"] for p in a["paragraphs"] for qa in p["qas"]]
    for qa in asked[:count]:
        qa["question"] = "who " * 200
    (root / "dev.json").write_text(json.dumps(shown))
    return {qa["id"]: qa for qa in asked}


def test_one_question_that_is_too_long_costs_no_score_and_no_answer_of_another(
    root: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    evaluate = [*EVALUATE, "--validation_file", "dev.json", "--output_file"]
    assert outcome([*evaluate, "all.json"])[0] == 0
    answers = json.loads((root / "all.json").read_text())
    asked = _with_a_long_question(root, 1)
    capsys.readouterr()
    code, sentence = outcome([*evaluate, "others.json"])
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    first, *others = asked
    assert code == 2
    assert sentence.startswith(f"error: 1 of the {len(asked)} questions are too long for a window")
    assert any(f"question {first}: it leaves no room" in message for message in caplog.messages)
    assert json.loads((root / "others.json").read_text()) == {k: answers[k] for k in others}
    judge = ["evaluate-squad", "--predictions_file", "others.json", "--validation_file", "dev.json"]
    assert outcome(judge)[0] == 0
    judged = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (judged["missing"], judged["f1"]) == (1, pytest.approx(scores["f1"]))


def test_questions_that_are_all_too_long_are_one_sentence(root: Path) -> None:
    _with_a_long_question(root, 10_000)
    sentence = refused(*EVALUATE, "--validation_file", "dev.json", "--output_file", "out.json")
    assert "dev.json: no question leaves room" in sentence


def test_a_training_refuses_a_question_that_is_too_long_before_it_starts(root: Path) -> None:
    first = next(iter(_with_a_long_question(root, 1)))
    before = content(root, ["teacher_cache"])
    code, sentence = outcome(list(TRAIN))
    assert code == 2 and f"question {first}: its 200 tokens leave room for 0 tokens" in sentence
    assert content(root, ["teacher_cache"]) == before
