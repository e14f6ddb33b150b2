"""A YAML file first, flags after it, and one sentence for everything that makes no sense."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch.distributed as dist
from transformers import TrainingArguments

from itrd_nlp.cli import parser, process
from itrd_nlp.errors import UserError


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class ModelArguments:
    """Which model."""

    model: str = field(metadata={"help": "Its name."})
    size: Size = field(default=Size.SMALL, metadata={"help": "How large."})
    pairs: list[str] = field(default_factory=lambda: ["uniform"], metadata={"help": "Layers."})
    widths: list[int] | None = field(default=None, metadata={"help": "Widths."})
    view: str = field(
        default="tokens", metadata={"help": "Of it.", "choices": ["tokens", "pooled"]}
    )
    options: dict[str, Any] | None = field(default=None, metadata={"help": "Any options."})
    methods: dict[str, dict[str, Any]] = field(default_factory=dict, metadata={"help": "Of each."})


@dataclass
class DataArguments:
    """Which data."""

    rate: float = field(default=0.5, metadata={"help": "A rate, > 0."})
    samples: int | None = field(default=None, metadata={"help": "At most so many."})
    shuffle: bool = field(default=True, metadata={"help": "In random order."})
    clean: bool = field(default=False, metadata={"help": "Remove 100% of the dirt."})
    mode: Literal["no", "yes"] = field(default="yes", metadata={"help": "A mode."})
    name: str | None = field(default=None, metadata={"help": "A name."})

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate},\n but must be > 0.")


Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "config.yaml")

    return write


def parse(*argv: str) -> tuple[ModelArguments, DataArguments]:
    model, data = parser.parse((ModelArguments, DataArguments), argv)
    return model, data


def refused(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*argv)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_flags_alone() -> None:
    model, data = parse(
        "--model", "m", "--size", "large", "--samples", "5", "--no_shuffle", "--clean"
    )
    assert (model.model, model.size) == ("m", Size.LARGE)
    assert (data.samples, data.shuffle, data.clean) == (5, False, True)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(write: Write) -> None:
    config = write("model: m\nrate: 2\nsamples: 7\n")
    model, data = parse(config, "--rate", "3", "--pairs", "1:4", "2:8")
    assert (model.model, model.pairs, model.view) == ("m", ["1:4", "2:8"], "tokens")
    assert (data.rate, data.samples) == (3.0, 7)


def test_null_on_the_command_line_wins_over_a_number_in_the_file(write: Write) -> None:
    _, data = parse(write("model: m\nsamples: 7\nname: x\n"), "--samples", "null", "--name=null")
    assert data.samples is None
    assert data.name is None


def test_a_text_in_place_of_several_values_is_no_list(tmp_path: Path, write: Write) -> None:
    """`debug` of transformers takes both."""
    config = write(f"output_dir: {tmp_path}\ndebug: underflow_overflow\n")
    (args,) = parser.parse([TrainingArguments], [config])
    assert [str(option.value) for option in args.debug] == ["underflow_overflow"]


def test_null_on_the_command_line_is_none_for_a_list_that_may_be_none(write: Write) -> None:
    model, _ = parse(write("model: m\nwidths: [1, 2]\n"), "--widths", "null")
    assert model.widths is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("rate: 2e-4", 2e-4),  # a text in YAML 1.1
        ("rate: 1", 1.0),
        ("rate: '0.25'", 0.25),
        ("rate: .inf", float("inf")),
        ("samples: null", None),
        ("samples:", None),
        ("samples: 1e3", 1000),
        ("samples: '12'", 12),
        ("shuffle: false", False),
        ("shuffle: no", False),
        ("clean: 'yes'", True),
        ("mode: no", "no"),  # false in YAML 1.1
        ("size: large", Size.LARGE),
        ("name: 007", "007"),
        ("name: 12", "12"),
        ("name: null", None),
        ("name: 2026-01-02", "2026-01-02"),
        ("pairs: [1:4, 2:8, 3:12]", ["1:4", "2:8", "3:12"]),  # 64, 128, 192 in YAML 1.1
        ("pairs: last", ["last"]),
        ("widths: [1, '2']", [1, 2]),
        ("widths: 3", [3]),
        ("widths: null", None),
        ("options: {a: 1, b: [x, {c: false}]}", {"a": 1, "b": ["x", {"c": False}]}),
    ],
)
def test_yaml_values_become_the_type_of_their_field(write: Write, line: str, value: object) -> None:
    model, data = parse(write(f"model: m\n{line}\n"))
    found = {**vars(model), **vars(data)}[line.partition(":")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rate: fast", "rate is 'fast', but must be float"),
        ("rate: true", "rate is True, but must be float"),
        ("rate: null", "rate is null, but must be float"),
        ("rate: [1]", "rate is [1], but must be float"),
        ("samples: 1.5", "samples is 1.5, but must be int or null"),
        ("samples: false", "samples is False, but must be int or null"),
        ("shuffle: maybe", "shuffle is 'maybe', but must be bool"),
        ("model: {a: 1}", "model is {'a': 1}, but must be str"),
        ("size: huge", "size is 'huge', but must be one of small, large"),
        ("view: tokenz", "view is 'tokenz', but must be one of tokens, pooled"),
        ("mode: maybe", "mode is 'maybe', but must be one of no, yes"),
        ("widths: [1, wide]", "widths is [1, 'wide'], but must be list[int] or null"),
        ("options: [1]", "options is [1], but must be a mapping or null"),
        ("methods: {kd:, itrd: {}}", "methods.kd is null, but must be a mapping"),
        ("methods: kd", "methods is 'kd', but must be a mapping"),
    ],
)
def test_a_wrong_type_names_file_field_value_and_what_is_allowed(
    write: Write, line: str, expected: str
) -> None:
    config = write(f"{line}\n")
    assert refused(config) == f"{config}: {expected}."


def test_an_unknown_key_names_the_file_and_the_closest_options(write: Write) -> None:
    config = write("model: m\nshufle: true\n")
    assert refused(config) == f"{config}: there is no option 'shufle'; did you mean shuffle?"
    assert "--help" in refused(write("qqqqqqq: 1\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping"),
        ("model: m\n", None),
        ("model: [m\nrate: 1\n", "not valid YAML: .* in line 2"),
        ("model: m\nmodel: n\n", "the key 'model' is there twice in line 2"),
        ("? [a]\n: b\n", "not valid YAML"),
        ("model: !!python/object:os.system x\n", "not valid YAML"),
        ("model: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_yaml_mapping(write: Write, text: str, expected: str | None) -> None:
    config = write(text)
    if expected is None:
        parse(config)
    else:
        with pytest.raises(UserError, match=expected) as caught:
            parse(config)
        assert str(caught.value).startswith(config)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refused(str(missing)).startswith(f"{missing} does not exist")
    assert refused(str(tmp_path)) == f"{tmp_path} is a folder, but must be a YAML file."
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(str(tmp_path / "binary"))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--shufle"], "there is no option --shufle; did you mean --shuffle or "),
        (["--sampels=5"], "there is no option --sampels; did you mean --samples?"),
        (["--sam", "5"], "there is no option --sam; "),  # no abbreviations
        (["--rate", "1", "config.yaml"], "'config.yaml' is neither an option nor the value of one"),
        (["--rate", "fast"], "argument --rate: invalid float value: 'fast'."),
        (["--samples", "some"], "argument --samples: invalid int value: 'some'."),
        (["--samples"], "argument --samples: expected one argument."),
        (["--view", "x"], "argument --view: invalid choice: 'x' (choose from"),
        (["--shuffle", "maybe"], "argument --shuffle: 'maybe' must be true or false."),
        (
            ["--methods", "kd"],
            "argument --methods: it is a mapping, which only a YAML file can give.",
        ),
        (
            ["--widths", "1", "null"],
            "--widths has null among other values, but must have it alone.",
        ),
        (["--model", ""], "model is empty, but must be a text."),
        (["--view", ""], "argument --view: invalid choice: '' (choose from"),
    ],
)
def test_a_wrong_flag_is_one_sentence(argv: list[str], expected: str) -> None:
    assert refused("--model", "m", *argv).startswith(expected)


def test_a_required_option_may_come_from_the_file_or_a_flag(write: Write) -> None:
    assert refused() == "the following arguments are required: --model."
    assert parse("--model", "m")[0].model == "m"
    assert parse(write("model: m"))[0].model == "m"


def test_a_value_error_of_the_dataclass_is_one_sentence(write: Write) -> None:
    assert refused(write("model: m\nrate: -1\n")) == "rate is -1.0, but must be > 0."


def test_the_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "--model", "m"])
    assert parser.parse([ModelArguments])[0].model == "m"


def test_training_arguments(write: Write, tmp_path: Path) -> None:
    config = write(
        f"""
        output_dir: {tmp_path}
        learning_rate: 2e-4
        eval_strategy: no
        save_strategy: epoch
        report_to: none
        lr_scheduler_type: cosine_with_min_lr
        lr_scheduler_kwargs: {{min_lr_rate: 0.1}}
        activation_checkpointing_kwargs: {{use_reentrant: false}}
        warmup_steps: 10
        use_cpu: true
        """
    )
    (args,) = parser.parse([TrainingArguments], [config, "--seed", "7", "--max_steps", "-1"])
    assert (args.learning_rate, args.seed, args.warmup_steps) == (2e-4, 7, 10.0)
    assert (args.eval_strategy, args.save_strategy, args.report_to) == ("no", "epoch", [])
    assert args.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert args.activation_checkpointing_kwargs == {"use_reentrant": False}


def test_training_arguments_that_contradict_each_other_are_one_sentence(tmp_path: Path) -> None:
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "--bf16", "--fp16"]
    with pytest.raises(UserError, match="fp16 and bf16"):
        parser.parse([TrainingArguments], argv)


def test_help_has_our_options_first_and_those_of_transformers_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @dataclass
    class OurTrainingArguments(TrainingArguments):
        """Ours, and theirs."""

        temperature: float = field(default=2.0, metadata={"help": "Of the logits."})

    with pytest.raises(SystemExit) as caught:
        parser.parse(
            [OurTrainingArguments, DataArguments], ["--help-all"], description="What it does."
        )
    assert caught.value.code == 0
    text = capsys.readouterr().out
    order = [
        "What it does.",
        "Ours, and theirs:",
        "--temperature FLOAT",
        "Which data:",
        "--samples INT",
        "100% of the dirt. (default: False)",
        "transformers.TrainingArguments:",
        "--learning_rate FLOAT",
    ]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)
    assert len(text[: positions[0]]) < 100  # the usage does not list all options
    assert "--learning-rate" not in text


def test_every_option_of_transformers_has_its_line_in_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parser.parse([TrainingArguments], ["--help-all"])
    text = capsys.readouterr().out
    assert "%%" not in text
    for name in ("output_dir", "gradient_accumulation_steps", "bf16", "resume_from_checkpoint"):
        assert f"  --{name} " in text


def run_main(
    main: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as caught:
        process.run(main)
    return (caught.value.code, *capsys.readouterr())


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def test_run_prints_a_user_error_as_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError("alpha is -1, but must be > 0.")
    assert run_main(raising(error), capsys) == (2, "", "error: alpha is -1, but must be > 0.\n")


def test_run_prints_once_in_a_distributed_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(
        process, "WAIT_FOR_THE_FIRST", 0.0
    )  # the launcher would end it in this time
    assert run_main(raising(UserError("no")), capsys) == (2, "", "error: process 1: no\n")
    monkeypatch.setenv("RANK", "0")
    assert run_main(raising(UserError("no")), capsys) == (2, "", "error: no\n")


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EEXIST),
        *(errno.ELOOP, errno.EIO, errno.ENAMETOOLONG),
    ],
)
def test_run_prints_a_file_that_cannot_be_used_as_one_sentence(
    capsys: pytest.CaptureFixture[str], number: int
) -> None:
    error = OSError(number, os.strerror(number), "runs/x")
    expected = f"error: runs/x: {os.strerror(number)}.\n"
    assert run_main(raising(error), capsys) == (2, "", expected)


def test_run_exits_with_130_on_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(raising(KeyboardInterrupt()), capsys)[0] == 130


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("no number"), RuntimeError("bug")])
def test_run_keeps_the_traceback_of_everything_else(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        process.run(raising(error))


def test_run_returns_when_main_does() -> None:
    process.run(lambda: None)


def test_run_leaves_the_process_group(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    process.run(lambda: dist.barrier())
    assert not dist.is_initialized()


def test_importing_the_command_line_does_not_import_torch() -> None:
    code = "import sys, itrd_nlp.cli.parser; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
