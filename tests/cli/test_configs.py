"""Configs: what they inherit, the names they go by without a path, and how `show-config` prints the whole of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli import configs, parser, process
from itrd_nlp.cli import main as command
from itrd_nlp.cli.jobs import TaskArguments
from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks import options_of
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.yaml_files import dump_yaml, read_config, read_yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs"
FILES = sorted(FOLDER.glob("**/*.yaml"))
EXPERIMENTS = [p for p in FILES if p.parent.name not in ("accelerate", "compare", "shared")]


@dataclass
class Arguments:
    """Any."""

    rate: float = field(default=0.5, metadata={"help": "A rate."})
    samples: int | None = field(default=3, metadata={"help": "At most so many."})
    mode: str = field(default="yes", metadata={"help": "A mode."})
    options: dict[str, Any] | None = field(default=None, metadata={"help": "Any options."})


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file below the current folder, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write


def parse(*argv: str) -> Arguments:
    (arguments,) = parser.parse([Arguments], argv)
    return arguments


def refused(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- bases ----


def test_a_file_wins_over_its_base_and_a_flag_over_both(write: Write) -> None:
    write("base.yaml", "rate: 1\nsamples: 7\nmode: from the base\n")
    config = write("mine.yaml", "base: base.yaml\nrate: 2\nsamples: 8\n")
    assert parse(config, "--samples", "9") == Arguments(2.0, 9, "from the base")


def test_a_base_is_named_from_the_folder_of_its_file(write: Write) -> None:
    write("shared/base.yaml", "rate: 1\n")
    config = write("mine/here/config.yaml", "base: ../../shared/base.yaml\n")
    write("mine/base.yaml", "rate: 5\n")
    assert parse(config).rate == 1
    os.chdir("mine")
    assert parse("here/config.yaml").rate == 1
    assert parse(os.path.abspath("here/config.yaml")).rate == 1


def test_bases_chain_and_each_value_has_its_file(write: Write) -> None:
    write("far/a.yaml", "rate: 1\nsamples: 1\nmode: a\n")
    write("far/b.yaml", "base: a.yaml\nrate: 2\nsamples: 2\n")
    config = read_config(write("c.yaml", "rate: 3\nbase: far/b.yaml\n"))
    assert config.values == {"rate": 3, "samples": 2, "mode": "a"}
    assert config.files == {"rate": "c.yaml", "samples": "far/b.yaml", "mode": "far/a.yaml"}
    assert config.chain == ("c.yaml", "far/b.yaml", "far/a.yaml")


def test_null_wins_over_a_value_of_the_base(write: Write) -> None:
    write("base.yaml", "samples: 7\n")
    assert parse(write("mine.yaml", "base: base.yaml\nsamples: null\n")).samples is None
    assert parse("base.yaml").samples == 7


def test_a_mapping_takes_the_place_of_that_of_the_base(write: Write) -> None:
    write("base.yaml", "options: {a: 1, b: 2}\n")
    assert parse(write("mine.yaml", "base: base.yaml\noptions: {b: 3}\n")).options == {"b": 3}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"mine.yaml": "base: sub/nowhere.yaml\n"},
            "mine.yaml: base is 'sub/nowhere.yaml', but sub/nowhere.yaml does not exist; a base is named from the "
            "folder of its file.",
        ),
        (
            {"mine.yaml": "base: sub/b.yaml\n", "sub/b.yaml": "base: b2.yaml\n"},
            "sub/b.yaml: base is 'b2.yaml', but sub/b2.yaml does not exist; a base is named from the folder of its "
            "file.",
        ),
        (
            {"mine.yaml": "base: sub/b.yaml\n", "sub/b.yaml": "base: ../mine.yaml\n"},
            "sub/b.yaml: base is '../mine.yaml', but the bases must not form a circle: "
            "mine.yaml -> sub/b.yaml -> mine.yaml.",
        ),
        (
            {"mine.yaml": "base: mine.yaml\n"},
            "mine.yaml: base is 'mine.yaml', but the bases must not form a circle: mine.yaml -> mine.yaml.",
        ),
        (
            {"mine.yaml": "base: b.yaml\n", "b.yaml": "- rate\n"},
            "b.yaml must be a mapping of options to values, such as `seed: 1`.",
        ),
        (
            {"mine.yaml": "base: sub\n", "sub/b.yaml": ""},
            "sub is a folder, but must be a YAML file.",
        ),
        (
            {"mine.yaml": "base:\n"},
            "mine.yaml: base is null, but must be the path of a YAML file.",
        ),
        (
            {"mine.yaml": "base: [b.yaml]\n"},
            "mine.yaml: base is ['b.yaml'], but must be the path of a YAML file.",
        ),
    ],
)
def test_a_base_that_makes_no_sense_is_one_sentence(
    write: Write, files: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        write(name, text)
    assert refused("mine.yaml") == sentence


def test_an_error_names_the_file_in_which_the_value_stands(write: Write) -> None:
    write("base.yaml", "rate: fast\nsampels: 1\n")
    config = write("mine.yaml", "base: base.yaml\nsamples: 1.5\n")
    assert refused(config).startswith("mine.yaml: samples is 1.5, but must be")
    write("mine.yaml", "base: base.yaml\n")
    assert refused(config).startswith("base.yaml: rate is 'fast', but must be")
    write("mine.yaml", "base: base.yaml\nrate: 1\n")
    assert refused(config) == "base.yaml: there is no option 'sampels'; did you mean samples?"


def test_where_base_is_an_option_nothing_is_inherited(write: Write) -> None:
    write("other.yaml", "seeds: [5]\n")
    config = write("compare.yaml", "base: other.yaml\noutput_dir: out\nmethods: {kd: {}}\n")
    (args,) = parser.parse([CompareArguments], [config])
    assert (args.base, args.seeds) == ("other.yaml", [0, 1, 2])


def test_the_base_of_a_comparison_is_named_from_here_or_from_the_folder_of_its_file(
    write: Write,
) -> None:
    def base() -> str:
        (args,) = parser.parse([CompareArguments], [config])
        return args.base

    config = write("mine/compare.yaml", "base: b.yaml\noutput_dir: out\nmethods: {kd: {}}\n")
    assert base() == "b.yaml"  # for the sentence that it does not exist
    write("mine/b.yaml", "seed: 1\n")
    assert base() == "mine/b.yaml"
    write("b.yaml", "seed: 1\n")
    assert base() == "b.yaml"


# ---- the record of a run ----


def record(monkeypatch: pytest.MonkeyPatch, *argv: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp train-squad", *argv])
    return process.record()


def test_the_record_has_the_whole_configuration(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("far/base.yaml", 'mode: "no"\nrate: 1e-5\n')
    config = write("mine.yaml", "base: far/base.yaml\nsamples: 1\nrate: 2e-5\n")
    kept = record(monkeypatch, config, "--seed", "1")["config"]
    write("kept.yaml", kept["text"])
    assert kept["name"] == "mine.yaml"
    assert read_yaml("kept.yaml") == {"samples": 1, "rate": 2e-5, "mode": "no"}


def test_the_record_has_the_name_as_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = record(monkeypatch, "minilm_t3", "--seed", "1")
    assert found["command"] == "itrd-nlp train-squad minilm_t3 --seed 1"
    assert found["config"]["name"] == "minilm_t3"
    written = tmp_path / "again.yaml"
    written.write_text(found["config"]["text"], encoding="utf-8")
    again = read_yaml(str(written))
    assert again == read_config(str(FOLDER / "minilm" / "minilm_t3.yaml")).values


@pytest.mark.parametrize(
    "value",
    [
        *("no", "1e3", "1:4", "null", "", " a ", "a: b", "# a", "a\nb # c", "2026-01-02", "0x1f", "é"),
        *(1, 1e-5, 1e17, float("inf"), None, True, [], {}, [1, [2, "no"]]),
        {"a": {"b": [1, {"c": "d\n"}], "e": {}}, "f": "x" * 300},
    ],
)  # fmt: skip
def test_what_is_dumped_is_read_back_as_it_was(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(dump_yaml({"key": value, "seed": 1}), encoding="utf-8")
    assert read_yaml(str(path)) == {"key": value, "seed": 1}


# ---- names without a path ----


def test_a_packaged_config_goes_by_its_name_in_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert configs.find_config("minilm_t3") == str(FOLDER / "minilm" / "minilm_t3.yaml")
    monkeypatch.chdir(ROOT)
    assert configs.find_config("minilm_t3") == "configs/minilm/minilm_t3.yaml"
    (args,) = parser.parse([CompareArguments], ["minilm_full"])
    assert args.base == "configs/minilm/minilm_t3.yaml"


def test_a_file_wins_over_a_name_and_a_folder_does_not(write: Write) -> None:
    write("minilm_t3", "rate: 4\n")
    assert parse("minilm_t3").rate == 4
    Path("mpnet_t6").mkdir()
    assert configs.find_config("mpnet_t6") == str(FOLDER / "mpnet" / "mpnet_t6.yaml")


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("minilm_t4", "; did you mean minilm_t3 or "),
        ("minilm_t3.yaml", "; did you mean minilm_t3"),
        ("qqqq", "; itrd-nlp show-config lists the names."),
        # where the configs were before
        ("configs/quickstart.yaml", "; did you mean quickstart"),
        ("configs/teacher_quickstart.yaml", "; did you mean quickstart_teacher?"),
        ("configs/squad_minilm_t3.yaml", "; did you mean minilm_t3 or "),
        ("configs/squad_minilm_t3_subset.yaml", "; did you mean minilm_t3_subset or "),
        ("configs/textbrewer_minilm_t3_subset.yaml", "; did you mean textbrewer_minilm_t3_subset?"),
        ("configs/teacher_minilm.yaml", "; did you mean minilm_teacher?"),
        ("configs/squad_mpnet_t3.yaml", "; did you mean mpnet_t3 or "),
        ("configs/squad_mpnet_t6.yaml", "; did you mean mpnet_t6 or "),
        ("configs/squad_mpnet_subset.yaml", " or mpnet_t6_subset?"),
        ("configs/teacher_mpnet.yaml", "; did you mean mpnet_teacher?"),
        ("configs/teacher_mpnet_subset.yaml", "; did you mean mpnet_teacher_subset?"),
        ("configs/squad_bert_base_t6.yaml", "; did you mean bert_base_t6 or "),
        ("configs/squad_bert_base_t3.yaml", "; did you mean bert_base_t3 or "),
        ("configs/teacher_bert_base.yaml", "; did you mean bert_base_teacher?"),
        ("configs/sentences_t3.yaml", "; did you mean sentences_t3"),
        ("configs/teacher_sentences.yaml", "; did you mean sentences_teacher?"),
        ("configs/punctuation_t3.yaml", "; did you mean punctuation_t3"),
        ("configs/teacher_punctuation.yaml", "; did you mean punctuation_teacher?"),
    ],
)
def test_an_unknown_name_or_file_is_told_the_closest_name(
    argument: str, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refused(argument)
    assert sentence.startswith(f"{argument} does not exist, but the first argument must be a YAML")
    assert hint in sentence


# ---- show-config ----


def show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp", "show-config", *arguments])
    command.main()
    return capsys.readouterr().out


def test_show_config_prints_the_whole_and_where_it_comes_from(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("far/base.yaml", 'mode: "no"\nrate: 1\noptions: {a: {b: [1, 2]}, c: "d\\ne"}\n')
    write("mine.yaml", "# Mine.\nbase: far/base.yaml\nrate: 2  # high\nsamples: null\n")
    assert show(monkeypatch, capsys, "mine.yaml") == (
        "rate: 2\n"
        "samples: null\n"
        "mode: 'no'  # base.yaml\n"
        "options:  # base.yaml\n"
        "  a:\n"
        "    b: [1, 2]\n"
        '  c: "d\\ne"\n'
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_show_config_prints_says_the_same_as_the_config(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("whole.yaml").write_text(show(monkeypatch, capsys, path.stem), encoding="utf-8")
    if path.parent.name == "compare":
        groups = [CompareArguments]
        assert parser.parse(groups, ["whole.yaml"]) == parser.parse(groups, [path.stem])
    elif path in EXPERIMENTS:
        groups = groups_of(path)
        whole, named = (parser.parse(groups, [config]) for config in ("whole.yaml", path.stem))
        assert list(map(values_of, whole)) == list(map(values_of, named))
    else:
        assert read_yaml("whole.yaml") == read_config(str(path)).values


def values_of(arguments: Any) -> dict[str, Any]:
    """The fields of a dataclass, without what transformers keeps beside them."""
    return {f.name: getattr(arguments, f.name) for f in fields(arguments)}


def test_without_an_argument_it_lists_all_configs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = show(monkeypatch, capsys).splitlines()
    names = [line.split()[0] for line in lines if line.startswith(" ")]
    assert names == [path.stem for path in FILES]
    assert [line for line in lines if not line.startswith(" ")] == [
        f"{name}:" for name in sorted({path.parent.name for path in FILES})
    ]
    told = next(line for line in lines if line.split()[0] == "minilm_t3")
    assert told.endswith(
        "  T3 from MiniLM-L6: 3 of 6 layers, 384 wide, one epoch on all of SQuAD 1.1."
    )


@pytest.mark.parametrize("arguments", [["qqqq"], ["--config", "qqqq"], ["minilm_t3", "more"]])
def test_show_config_of_what_is_none_is_one_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        show(monkeypatch, capsys, *arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")


# ---- the folder ----


def groups_of(path: Path) -> tuple[type, ...]:
    """The dataclasses that the command of a packaged config fills, as `itrd_nlp.cli.commands` has them."""
    texts = ("classification", "glue", "ner")
    data: type = TextArguments if path.parent.name in texts else DataArguments
    task = read_config(str(path)).values.get("task")
    if task is not None:
        first = TeacherArguments if path.stem.endswith("_teacher") else StudentArguments
        last = FineTuningArguments if path.stem.endswith("_teacher") else ITRDTrainingArguments
        return (TaskArguments, first, LoadingArguments, options_of(str(task))[0], last)
    if path.stem.endswith(("_teacher", "_teacher_subset")):
        return (TeacherArguments, LoadingArguments, data, FineTuningArguments)
    if path.stem.startswith("textbrewer_"):
        return (StudentArguments, LoadingArguments, data, TextBrewerArguments)
    return (StudentArguments, LoadingArguments, data, ITRDTrainingArguments)


def test_no_two_configs_have_the_same_name() -> None:
    twice = [name for name, count in Counter(path.stem for path in FILES).items() if count > 1]
    assert twice == []
    assert list(configs.packaged_configs()) == [path.stem for path in FILES]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses_with_the_arguments_of_its_command(path: Path) -> None:
    groups = groups_of(path)
    assert len(parser.parse(groups, [str(path)])) == len(groups)


def test_every_shared_file_is_a_base_and_parses_with_those_that_name_it() -> None:
    bases = {Path(f).resolve() for path in EXPERIMENTS for f in read_config(str(path)).chain[1:]}
    assert bases >= set(FOLDER.glob("shared/*.yaml"))


def test_no_line_of_a_config_says_what_its_base_says() -> None:
    # But for what is worth a comment where it stands.
    repeated = {
        (path.stem, key)
        for path in EXPERIMENTS
        for base in read_config(str(path)).chain[1:2]
        for key, value in read_yaml(str(path)).items()
        if read_config(base).values.get(key) == value
    }
    assert repeated == {("minilm_t3", "teacher_cache"), ("bert_base_t3", "learning_rate")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_says_what_it_is_in_a_sentence(path: Path) -> None:
    sentence = configs.summary(path)
    assert sentence[-1] in ".?"
    assert len(sentence) <= 200


# ---- the wheel ----


def test_the_wheel_has_the_configs_and_their_names(tmp_path: Path) -> None:
    source, installed, empty = (tmp_path / name for name in ("source", "installed", "empty"))
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("itrd_nlp", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [sys.executable, "-m", *build, "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    inside = installed / "itrd_nlp" / "configs"
    assert {p.relative_to(inside) for p in inside.glob("**/*.yaml")} == {
        path.relative_to(FOLDER) for path in FILES
    }

    shutil.rmtree(source)
    empty.mkdir()
    shown = subprocess.run(
        [sys.executable, "-m", "itrd_nlp", "show-config", "minilm_t3"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    (empty / "whole.yaml").write_text(shown.stdout, encoding="utf-8")
    expected = read_config(str(FOLDER / "minilm" / "minilm_t3.yaml")).values
    assert read_yaml(str(empty / "whole.yaml")) == expected
