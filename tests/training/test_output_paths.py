"""A job writes over nothing that it reads, nothing of somebody else, and nothing but regular files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.files import replacing
from itrd_nlp.training.output_paths import check_target_file, check_target_folder, holds_rows

WRITTEN = ("README.md", "config.json", "*.safetensors", "checkpoint-*")


def refusal(path: Path, *inputs: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_target_file(path, option="output", inputs=inputs)
    return str(caught.value)


def refused_folder(path: Path, *inputs: Path | str | None, ours: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        folder(path, *inputs, ours=ours)
    return str(caught.value)


def folder(path: Path, *inputs: Path | str | None, ours: bool = False) -> None:
    check_target_folder(
        path, option="output_dir", written=WRITTEN, ours=lambda _: ours, inputs=inputs
    )


# ---- a file ----


def test_a_file_may_be_new_or_replace_a_regular_one(tmp_path: Path) -> None:
    (tmp_path / "input").touch()
    (tmp_path / "old").touch()
    for name in ("new", "old"):
        check_target_file(
            tmp_path / name, option="output", inputs=[tmp_path / "input", "me/model", None]
        )


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_an_input_is_not_written_over_under_any_name(tmp_path: Path, make: object) -> None:
    (tmp_path / "input").touch()
    assert callable(make)
    make(tmp_path / "input", tmp_path / "link")
    (tmp_path / "here").symlink_to(tmp_path)
    for name in ("input", "link", "here/input"):
        assert "which is read" in refusal(tmp_path / name, tmp_path / "input")


def test_what_lies_in_a_folder_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    sentence = refusal(tmp_path / "model" / "config.json", tmp_path / "model")
    assert f"is a part of {tmp_path / 'model'}, which is read" in sentence
    check_target_file(tmp_path / "model" / "new", option="output", inputs=[tmp_path / "model"])


def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for path in (tmp_path / "fifo", tmp_path / "nowhere", Path("/dev/null")):
        assert f"output {path} is no regular file" in refusal(path)
    assert f"output {tmp_path} is a folder, but must be a file" in refusal(tmp_path)
    assert "there is no folder" in refusal(tmp_path / "absent" / "x")


def test_the_file_behind_links_is_the_one_to_write(tmp_path: Path) -> None:
    """`latest.jsonl` of somebody who keeps the answers of each day, in a folder that is a link itself."""
    (tmp_path / "days").mkdir()
    (tmp_path / "days" / "friday").write_text("old\n")
    (tmp_path / "latest").symlink_to("days/today")
    (tmp_path / "days" / "today").symlink_to("friday")
    (tmp_path / "here").symlink_to(tmp_path)
    for link in (tmp_path / "latest", tmp_path / "here" / "latest"):
        target = check_target_file(link, option="output")
        assert target == tmp_path / "days" / "friday"
        with replacing(target) as file:
            file.write(f"new by {link}\n")
        assert link.read_text() == (tmp_path / "days" / "friday").read_text() == f"new by {link}\n"
        assert (tmp_path / "latest").is_symlink() and (tmp_path / "days" / "today").is_symlink()
    for path in (tmp_path / "new", tmp_path / "days" / "friday", Path("relative")):
        assert check_target_file(path, option="output") == path


def test_a_way_to_the_stdout_of_a_shell_is_refused(tmp_path: Path) -> None:
    """Where stdout is redirected to a file, these lead to a regular one, which the shell writes at the same time.

    The new file would take its place, and what another command has written into it would be lost.
    """
    (tmp_path / "link").symlink_to("/dev/stdout")
    # the file would be another one in each process, so that this one's own stands for it
    with (tmp_path / "redirected").open("w") as file:
        fd = f"/proc/self/fd/{file.fileno()}"
        assert os.path.samefile(fd, tmp_path / "redirected")
        (tmp_path / "stdout").symlink_to(fd)
        for path in (Path(fd), tmp_path / "stdout", tmp_path / "link", Path("/dev/stdout")):
            assert f"output {path} is no regular file" in refusal(path)
    assert "is no regular file" in refusal(Path("/proc/answers.jsonl"))
    if os.access("/dev/shm", os.W_OK):
        shared = Path("/dev/shm/answers.jsonl")
        assert check_target_file(shared, option="output") == shared


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("", True),
        ('{"label": "a"}\n{"label"', True),
        ('{"text": "a"}\n', False),
        ("[1]\n", False),
        ("# a title\n", False),
        ("\n# a title\n", False),
        ("\x00\x01", False),
        ("[" * 100_000, False),
    ],
)
def test_rows_are_known_by_a_key_of_the_first(tmp_path: Path, text: str, ours: bool) -> None:
    (tmp_path / "file").write_text(text)
    assert holds_rows("label", "labels")(tmp_path / "file") is ours


# ---- a folder ----


def test_a_folder_may_be_new_or_hold_other_names(tmp_path: Path) -> None:
    folder(tmp_path / "absent" / "folder", tmp_path)
    (tmp_path / "config.yaml").touch()
    folder(tmp_path, tmp_path / "config.yaml", "me/model", None)


def test_a_folder_of_such_a_job_may_hold_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "checkpoint-1").mkdir()
    folder(tmp_path, ours=True)


@pytest.mark.parametrize("name", ["README.md", "config.json", "model-1.safetensors"])
def test_files_of_somebody_else_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert f"output_dir {tmp_path} holds {name}, but no run" in refused_folder(tmp_path)


@pytest.mark.parametrize("ours", [True, False])
def test_the_folder_of_an_input_is_refused_under_any_name(tmp_path: Path, ours: bool) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for name in ("model", "link", "model/../model"):
        sentence = refused_folder(tmp_path / name, tmp_path / "model", ours=ours)
        assert "which is read, so it must stay" in sentence
    assert "which is read" in refused_folder(tmp_path / "model", tmp_path / "link", ours=ours)


def test_an_input_in_the_place_of_something_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-7" / "inner").mkdir(parents=True)
    (tmp_path / "config.json").touch()
    for source in ("checkpoint-7", "checkpoint-7/inner", "config.json"):
        sentence = refused_folder(tmp_path, tmp_path / source, ours=True)
        assert f"but {tmp_path / source} is read from there" in sentence


def test_a_part_of_an_input_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    part = tmp_path / "model" / "part"
    part.mkdir(parents=True)
    folder(part, tmp_path / "model")
    (part / "anything").touch()
    assert "holds anything, but no run" in refused_folder(part, tmp_path / "model")
    folder(part, tmp_path / "model", ours=True)  # a run that was put there


def test_links_and_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "README.md")
    (tmp_path / "b").mkdir()
    (tmp_path / "elsewhere").touch()
    (tmp_path / "b" / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    for name in ("a", "b"):
        assert "is no regular file or folder" in refused_folder(tmp_path / name, ours=True)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"output_dir {tmp_path / 'file'} is a file, but must be a folder" in refused_folder(
        tmp_path / "file"
    )
    assert "output_dir /dev/null is no folder" in refused_folder(Path("/dev/null"))
