"""Files of others: every defect is one sentence, and none makes a reader wait or grow."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from itrd_nlp.errors import UserError
from itrd_nlp.files import (
    damage,
    is_inside,
    is_plain_name,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    replace_folder,
    replacing_folder,
    seal,
    writing,
)
from itrd_nlp.training.yaml_files import parse_yaml, read_yaml

READERS: list[Callable[[Any], Any]] = [open_file, read_bytes, read_text, read_json, read_yaml]
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_refused_at_once(read: Any, tmp_path: Path) -> None:
    pipe, loop, folder = str(tmp_path / "pipe"), str(tmp_path / "loop"), str(tmp_path)
    os.mkfifo(pipe)
    os.symlink(loop, loop)
    for name, reason in (
        (pipe, "is a pipe, a device or a socket, but must be a file"),
        ("/dev/null", "is a pipe, a device or a socket, but must be a file"),
        (folder, "is a folder, but must be a"),
        (loop, "cannot be read: Too many levels of symbolic links"),
        (str(tmp_path / ("x" * 300)), "cannot be read: File name too long|does not exist"),
        (str(tmp_path / "missing"), "does not exist"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            read(name)
        assert str(caught.value).startswith(name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no name of a file"):
        read_bytes(name)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_text(path) == '{"a": 1}'
    assert read_json(path) == {"a": 1} == parse_json(path.read_bytes())
    assert read_yaml(str(path)) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name .* in line 1, column 2"),
        (b"", "Expecting value in line 1, column 1"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"9" * 5000, "a whole number has too many digits"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (rb'{"a": "\ud800"}', "half of a character"),
        (rb'{"\uDFFF": 1}', "half of a character"),
    ],
)
def test_json_that_cannot_be_used_is_a_sentence(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content)
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json is not valid JSON: .*{reason}.*\.$"):
        read_json(path)


def test_both_halves_of_a_character_are_a_character() -> None:
    assert parse_json(r'"\ud83d\ude00"') == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 100,000 values, aliases written out"),
        ("a: &a [*a]\n", "an alias stands for a value that holds the alias"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("a: " + "9" * 5000, "a value cannot be read"),
        ("a: !!timestamp 5\n", "a value cannot be read"),
        ("a: !!int b\n", "a value cannot be read"),
        ('a: "\\ud800"\n', "half of a character"),
        ("a: " + "x" * 1_000_001, "more than 1,000,000 characters"),
    ],
)
def test_yaml_that_cannot_be_used_is_a_sentence(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"a\.yaml is not valid YAML: .*{reason}"):
        read_yaml(str(path))


def test_aliases_in_moderation_are_values() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_bomb_of_aliases_takes_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(yaml.YAMLError):
        parse_yaml(BOMB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # bytes; written out it has 10^10 values


@pytest.mark.parametrize(
    ("name", "plain", "inside"),
    [
        ("model.safetensors", True, True),
        ("a/b", False, True),
        ("./b", False, True),
        ("..", False, False),
        ("../b", False, False),
        ("a/../../b", False, False),
        ("/b", False, False),
        ("", False, False),
        (".", False, False),
        ("a\\b", False, False),
        ("a\0b", False, False),
        (5, False, False),
        (None, False, False),
    ],
)
def test_a_name_in_a_file_stays_in_its_folder(name: Any, plain: bool, inside: bool) -> None:
    assert is_plain_name(name) is plain
    assert is_inside(name) is inside


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    behind, link, staged = tmp_path / "behind", tmp_path / "link", tmp_path / "staged"
    for folder in (behind, staged):
        folder.mkdir()
        (folder / folder.name).touch()
    link.symlink_to(behind)
    replace_folder(staged, link)
    assert link.readlink() == behind
    assert os.listdir(behind) == ["staged"]
    assert sorted(os.listdir(tmp_path)) == ["behind", "link"]


def test_an_error_without_words_is_a_sentence_all_the_same(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"x cannot be written: TimeoutError\.$"),
        writing(tmp_path / "x"),
    ):
        raise TimeoutError


def test_a_manifest_may_name_what_no_disk_can_hold(tmp_path: Path) -> None:
    seal(tmp_path)
    assert damage(tmp_path) is None
    name = "a" * 300
    (tmp_path / "manifest.json").write_text(f'{{"{name}": {{"size": 1, "sha256": "x"}}}}')
    assert damage(tmp_path) == f"{name} is missing"


def test_a_folder_is_replaced_when_its_new_content_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for text in ("first", "second"):
        with replacing_folder(folder, "a test", ["*.txt"]) as staged:
            (staged / f"{text}.txt").touch()
            assert not (folder / f"{text}.txt").exists()
    assert os.listdir(folder) == ["second.txt"]
    with pytest.raises(KeyError), replacing_folder(folder, "a test", ["*.txt"]):
        raise KeyError
    with replacing_folder(folder, "a test", ["*.txt"]) as staged:
        staged.rmdir()  # what the body does not want
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(folder) == ["second.txt"]


def test_a_folder_with_something_else_is_not_replaced(tmp_path: Path) -> None:
    folder, done = tmp_path / "folder", []
    sentence = r"folder holds mine, which is no part of a test; name another folder\."
    with pytest.raises(UserError, match=sentence), replacing_folder(folder, "a test", []):
        folder.mkdir()
        (folder / "mine").touch()  # meanwhile
    with pytest.raises(UserError, match=sentence), replacing_folder(folder, "a test", []):
        done.append("work")
    assert not done and os.listdir(tmp_path) == ["folder"]


def test_a_fresh_folder_takes_the_place_of_the_one_behind_a_link(tmp_path: Path) -> None:
    behind, link = tmp_path / "disk" / "onnx", tmp_path / "here" / "onnx"
    behind.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(Path("..") / "disk" / "onnx")
    for content in ("first", "second"):
        with replacing_folder(link, "a test", ["model.onnx"]) as staged:
            (staged / "model.onnx").write_text(content)
        assert link.is_symlink()
        assert (behind / "model.onnx").read_text() == content
    for folder in (behind.parent, link.parent):
        assert os.listdir(folder) == ["onnx"]
