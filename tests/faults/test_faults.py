"""Every entry point under every fault: it works, or one sentence says why not, and every file is as it was.

A fault damages one file, or one field of a file, in a known way. The workshop is a copy of the files in
`tests/old_files`, which an earlier version of the package made. `make test` takes a part of the table, drawn with a
seed, and `make test-slow` takes all of it.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from workshop import OLD, content, make_workshop, outcome

FAST = 40


FIELDS_PER_FILE = 12
DEEP = 100_000


class Fault(NamedTuple):
    """A file of the workshop and its damage.

    Attributes:
        command: the command that meets the fault, a key of `COMMANDS`.
        file: path in the workshop.
        damage: name of the damage, for the name of the test.
        apply: damages the file at a path.
    """

    command: str
    file: str
    damage: str
    apply: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.command}-{self.file}-{self.damage}".replace("/", ".")


# ---- whole files ----


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _writes(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


OF_FILES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": _writes(b""),
    "cut": _cut,
    "flipped": _flipped,
    "zeros": _writes(bytes(64)),
    "folder": _folder,
    "pipe": _pipe,
    "loop": _loop,
    "latin-1": lambda path: (path.write_bytes(path.read_bytes() + "ü".encode("latin-1")), None)[1],
    "utf-16": _writes("{}".encode("utf-16")),
    "byte-order-mark": lambda path: (path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()), None)[
        1
    ],
    "deep": _writes(b"[" * DEEP),
    "deep-object": _writes(b'{"a":' * DEEP),
    "list": _writes(b"[]"),
    "object": _writes(b"{}"),
    "null": _writes(b"null"),
    "long-number": _writes(b"9" * 5000),
    "half-character": _writes(b'{"a": "\\ud800"}'),
    "text": _writes(b'"text"'),
    "aliases": _writes(
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 107)
        )
    ),
}

# ---- fields of JSON and YAML ----

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "\ud800",
    "x" * 100_000,
    "../../outside",
    "<script>alert(1)</script>",
    [],
    [[]],
    {},
    {"a": {"b": None}},
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _places(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value[:3]):
            yield from _places(part, (*path, i))


def _replacing(place: tuple[Any, ...], value: Any) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        first_line, is_lines = path.read_text(encoding="utf-8"), path.suffix == ".jsonl"
        rest = ""
        if is_lines:
            first_line, _, rest = first_line.partition("\n")
        is_yaml = path.suffix == ".yaml"
        content = yaml.safe_load(first_line) if is_yaml else json.loads(first_line)
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        text = json.dumps(content)  # JSON is YAML, too
        path.write_text(text + ("\n" + rest if is_lines else ""), encoding="utf-8")

    return apply


def of_fields(command: str, file: str, root: Path) -> Iterator[Fault]:
    """Some fields of a file, drawn by its name, each with a value that it should not have."""
    text = (root / file).read_text(encoding="utf-8")
    if file.endswith(".jsonl"):
        text = text.partition("\n")[0]
    content = yaml.safe_load(text) if file.endswith(".yaml") else json.loads(text)
    draw = random.Random(f"{command} {file}")
    places = list(_places(content))
    for place in draw.sample(places, min(FIELDS_PER_FILE, len(places))):
        number = draw.randrange(len(VALUES))
        name = ".".join(map(str, place))[:60]
        yield Fault(command, file, f"{name}={number}", _replacing(place, VALUES[number]))


# ---- commands ----


class Command(NamedTuple):
    """A command with arguments.

    Attributes:
        arguments: its name and its arguments, with paths in the workshop.
        files: the files it reads.
        writes: files and folders that it may write.
    """

    arguments: list[str]
    files: list[str]
    writes: list[str]


MODEL = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
ONE_STEP = ["--max_steps", "1", "--save_strategy", "no", "--output_dir", "out"]
COMMANDS = {
    "show-config": Command(["show-config", "student.yaml"], ["student.yaml"], []),
    "train-squad": Command(
        ["train-squad", "student.yaml", *ONE_STEP],
        ["student.yaml", "train.json", "dev.json", "teacher/results.json"]
        + [f"teacher/{name}" for name in MODEL],
        ["out", "teacher_cache"],
    ),
    "train-teacher": Command(
        ["train-teacher", "teacher.yaml", "--model_name_or_path", "student", *ONE_STEP],
        ["teacher.yaml", "train.json", "student/README.md"],
        ["out"],
    ),
    "evaluate": Command(
        ["evaluate", "--model", "student", "--validation_file", "dev.json", "--output_file", "out"],
        ["dev.json", *(f"student/{name}" for name in MODEL)],
        ["out"],
    ),
    "score": Command(
        [
            "evaluate-squad",
            "--predictions_file",
            "student/analysis/predictions.json",
            "--validation_file",
            "dev.json",
        ],
        ["student/analysis/predictions.json", "dev.json"],
        [],
    ),
    "evaluate-texts": Command(
        ["evaluate", "--model", "classifier", "--validation_file", "texts.jsonl"],
        ["texts.jsonl", "classifier/config.json", "classifier/results.json"],
        [],
    ),
    "predict": Command(
        ["predict", "--model", "student", "--input", "dev.json", "--output", "out"],
        ["dev.json", "student/results.json", *(f"student/{name}" for name in MODEL)],
        ["out"],
    ),
    "report": Command(
        ["report", "student"],
        ["student/results.json"]
        + [
            f"student/analysis/{name}.json"
            for name in ("breakdown", "disagreements", "history", "predictions", "similarity")
        ],
        ["student/report.html"],
    ),
    "push-to-hub": Command(
        ["push-to-hub", "--model", "student", "--repo_id", "user/name", "--dry_run"],
        [
            "student/results.json",
            "student/README.md",
            "student/config.json",
            "student/model.safetensors",
        ],
        [],
    ),
    "compare": Command(
        ["compare", "compare.yaml", "--tables_only", "true"],
        ["compare.yaml", "base.yaml", "compare/results.jsonl", "compare/scores.npz"],
        ["compare"],
    ),
}


def faults() -> Iterator[Fault]:
    """The whole table."""
    for name, command in COMMANDS.items():
        for file in command.files:
            for damage, apply in OF_FILES.items():
                yield Fault(name, file, damage, apply)
            if Path(file).suffix in (".json", ".jsonl", ".yaml"):
                yield from of_fields(name, file, OLD)


ALL = list(faults())
SOME = set(random.Random(0).sample(range(len(ALL)), FAST))


def test_the_table_has_hundreds_of_faults_with_names_of_their_own() -> None:
    assert len(ALL) >= 300
    assert len({fault.name for fault in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=[] if i in SOME else [pytest.mark.slow])
        for i, fault in enumerate(ALL)
    ],
)
def test_it_works_or_says_in_one_sentence_why_not(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "workshop"
    make_workshop(root)
    monkeypatch.chdir(root)
    fault.apply(root / fault.file)
    command = COMMANDS[fault.command]
    before = content(root, command.writes)
    code, sentence = outcome(command.arguments)
    assert code in (0, 2), sentence
    if code == 2:
        assert sentence.startswith("error: "), sentence
        assert sentence.endswith((".", "?", ")")), sentence
        assert len(sentence) < 2000, sentence[:2000]
    assert content(root, command.writes) == before
