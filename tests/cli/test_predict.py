"""scripts/predict.py: files and pipes in, JSON lines out, nothing half written."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli import process
from itrd_nlp.cli.commands.predict import main
from itrd_nlp.errors import UserError
from itrd_nlp.tasks.jobs.predict import answered
from itrd_nlp.tasks.lines import Line
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline, load_pipeline
from itrd_nlp.tasks.question_answering.prediction import QuestionAnswerer, read_questions

ROOT = Path(__file__).parents[2]
WORDS = ["the", "river", "rhine", "flows", "past", "basel", "and", "bonn", "where", "what"]
CONTEXT = "The river Rhine flows past Basel and Bonn"
ROW = {"question": "where", "context": CONTEXT}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    folder = tmp_path_factory.mktemp("model")
    for part in make_reader(WORDS, 1, max_position_embeddings=48):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qa(model: Path) -> QuestionAnsweringPipeline:
    return load_pipeline(model, device="cpu")


@pytest.fixture
def run(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the script in this process: exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        command = ["predict.py", "--model", str(model), "--device", "cpu", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        code = 0
        try:
            process.run(main)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def squad(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}]}


def records(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_question_from_flags(run: Any, qa: QuestionAnsweringPipeline) -> None:
    code, out, err = run("--question", "where", "--context", CONTEXT)
    assert (code, records(out)) == (0, [{"question": "where", **qa(ROW)}])
    assert "error" not in err
    _, out, _ = run("--question", "where", "--context", CONTEXT, "--top_k", "3")
    assert records(out) == [{"question": "where", "answers": qa(ROW, top_k=3)}]


def test_lines_of_a_file_become_lines_of_a_file(
    run: Any, qa: QuestionAnsweringPipeline, tmp_path: Path
) -> None:
    long = {"id": 7, "question": "what", "context": " ".join([CONTEXT] * 20), "other": None}
    source = write_lines(tmp_path / "in.jsonl", [ROW, long, {**ROW, "id": "x"}] * 3)
    source.write_text("\ufeff" + source.read_text().replace("\n", "\r\n\r\n"), encoding="utf-8")
    target = tmp_path / "out.jsonl"
    target.write_text("what was there before")
    code, out, _ = run("--input", str(source), "--output", str(target), "--batch_size", "4")
    assert (code, out) == (0, "")
    found = records(target.read_text(encoding="utf-8"))
    assert [list(row)[:2] for row in found[:3]] == [
        ["question", "answer"],
        ["id", "question"],
        ["id", "question"],
    ]
    assert [row.get("id") for row in found] == [None, 7, "x"] * 3
    for row, asked in zip(found, [ROW, long, ROW] * 3, strict=True):
        assert row["answer"] == qa(asked)["answer"]
        assert row["answer"] == asked["context"][row["start"] : row["end"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_squad_files_with_and_without_answers(
    run: Any, qa: QuestionAnsweringPipeline, tmp_path: Path
) -> None:
    answered = {"id": "a", "question": "where", "answers": [{"text": "The", "answer_start": 0}]}
    impossible = {"id": "b", "question": "what", "is_impossible": True}
    source = tmp_path / "dev.json"
    source.write_text(json.dumps(squad(answered, impossible)))
    code, out, _ = run("--input", str(source))
    assert code == 0
    assert [(row["id"], row["question"]) for row in records(out)] == [("a", "where"), ("b", "what")]
    assert records(out)[0]["answer"] == qa(ROW)["answer"]


def test_options_reach_the_pipeline(run: Any, qa: QuestionAnsweringPipeline) -> None:
    options = {"max_answer_len": 2, "max_length": 16, "doc_stride": 3}
    long = " ".join([CONTEXT] * 9)
    pair = ["--question", "what", "--context", long]
    flags = ["--max_answer_length", "2", "--max_length", "16", "--doc_stride", "3"]
    _, out, _ = run(*pair, *flags, "--handle_impossible_answer", "--top_k", "999")
    expected = qa(
        question="what", context=long, top_k=999, handle_impossible_answer=True, **options
    )
    assert [a["answer"] for a in records(out)[0]["answers"]] == [a["answer"] for a in expected]
    assert "" in [a["answer"] for a in expected]


BAD_LINES = [
    ("{", ":2: the line is not JSON (Expecting property name"),
    ("[" * 100_000, ":2: the line is not JSON (it is nested too deep)."),
    (
        '{"id": ' + "9" * 5000 + "}",
        ":2: the line is not JSON (a whole number has too many digits).",
    ),
    ("[]", ":2: the line is a list, but must be an object with question and context."),
    ('{"question": "where"}', ":2: context is missing, but must be a text."),
    ('{"question": "", "context": "a"}', ":2: question is empty."),
    ('{"question": "a", "context": 5}', ":2: context is a int, but must be a text."),
    ('{"question": "a", "context": "\\ud800"}', ":2: context has half of a surrogate pair"),
    (
        json.dumps({"question": "where " * 60, "context": "a"}),
        ":2: its 60 tokens leave room for 0 tokens of the context in a window of max_length=48",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
@pytest.mark.parametrize("batch_size", ["1", "16"])
def test_a_bad_line_is_named_and_the_answers_to_the_others_are_kept(
    line: str, message: str, batch_size: str, run: Any, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{**ROW, "id": i} for i in (1, 3)]
    source.write_text(json.dumps(rows[0]) + "\n" + line + "\n" + json.dumps(rows[1]) + "\n")
    arguments = ["--input", str(source), "--output", str(target), "--batch_size", batch_size]
    code, _, err = run(*arguments)
    assert code == 2
    error = err.splitlines()[-1]
    assert error.startswith("error: ") and f"{source}{message}" in error
    assert error.endswith(f" {target} has 2 answers.")
    assert [row["id"] for row in records(target.read_text())] == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_answers_go_into_the_file_behind_a_link(run: Any, tmp_path: Path) -> None:
    """Whoever reads that file would read stale answers if a new file took the place of the link."""
    source, kept, link = (tmp_path / name for name in ("in.jsonl", "kept.jsonl", "link.jsonl"))
    write_lines(source, [ROW])
    kept.write_text("stale")
    link.symlink_to("kept.jsonl")
    code, _, _ = run("--input", str(source), "--output", str(link))
    assert code == 0 and link.is_symlink()
    assert len(records(kept.read_text())) == 1
    link.unlink()
    link.symlink_to("/dev/stdout")
    code, out, err = run("--input", str(source), "--output", str(link))
    assert (code, out) == (2, "") and f"output {link} is no regular file" in err


def test_half_of_a_surrogate_pair_in_an_id_stays_what_it_was(run: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_lines(source, [ROW, {**ROW, "id": "\ud800"}, {**ROW, "id": "東"}])
    code, _, _ = run("--input", str(source), "--output", str(target))
    assert code == 0
    assert [row.get("id") for row in records(target.read_text())] == [None, "\ud800", "東"]
    assert "東" in target.read_text(encoding="utf-8")


def test_every_question_without_an_answer_is_counted(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.jsonl"
    bad = {"question": "where " * 60, "context": "a"}
    write_lines(source, [bad, ROW, bad, {"question": ""}])
    code, out, err = run("--input", str(source))
    assert (code, len(records(out))) == (2, 1)
    assert f"error: question {source}:1: its 60 tokens" in err.splitlines()[-1]
    assert "2 more could not be answered. stdout has 1 answer." in err
    assert [f"{source}:{n}: " in m for n, m in zip((1, 3, 4), caplog.messages, strict=True)] == [
        True
    ] * 3


def test_of_many_bad_lines_ten_are_named_and_all_are_counted(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("no JSON\n" * 500 + json.dumps(ROW) + "\n")
    code, out, err = run("--input", str(source))
    assert (code, len(records(out)), len(caplog.messages)) == (2, 1, 10)
    assert err.splitlines()[-1].endswith("499 more could not be answered. stdout has 1 answer.")


def test_a_part_of_a_squad_file_that_is_damaged_costs_no_other(run: Any, tmp_path: Path) -> None:
    good = {"id": "a", "question": "where"}
    content = squad(good, {"id": "b"}, {"id": "c", "question": "where " * 60}, {**good, "id": "d"})
    content["data"][0]["paragraphs"].append({"qas": [good]})
    content["data"] += [{"title": "no paragraphs"}, *squad({**good, "id": "e"})["data"]]
    source = tmp_path / "dev.json"
    source.write_text(json.dumps(content))
    code, out, err = run("--input", str(source))
    assert (code, [row["id"] for row in records(out)]) == (2, ["a", "d", "e"])
    assert "data[0].paragraphs[0].qas[1].question is missing or not a text" in err.splitlines()[-1]
    assert err.splitlines()[-1].endswith("3 more could not be answered. stdout has 3 answers.")


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
@pytest.mark.parametrize("batch_size", ["1", "16"])
def test_without_one_answer_the_output_is_as_it_was(
    line: str, message: str, batch_size: str, run: Any, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n" + line + "\n")
    target.write_text("what was there before")
    arguments = ["--input", str(source), "--output", str(target), "--batch_size", batch_size]
    code, _, err = run(*arguments)
    assert code == 2
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    assert f"{source}{message}" in error
    assert target.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(json.dumps(ROW).encode() + b"\n\xff\n")
    with pytest.raises(UserError, match=r"in\.jsonl:2: the line is not UTF-8 text"):
        list(read_questions(source))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --question and --context or --input"),
        (["--question", "a"], "give either --question and --context or --input"),
        (["--question", "a", "--input", "-"], "give either --question and --context or --input"),
        (["--question", " ", "--context", "a"], "question is empty"),
        (["--input", "absent.jsonl"], "absent.jsonl: there is no such file"),
        (["--input", "absent.json"], "absent.json: there is no such file"),
        (
            ["--question", "a", "--context", "a", "--output", "absent/x"],
            "there is no folder absent",
        ),
        (["--question", "a", "--context", "a", "--output", "."], "output . is a folder"),
        (["--question", "a", "--context", "a", "--batch_size", "0"], "batch_size is 0, but must"),
        (["--question", "a", "--context", "a", "--top_k", "0"], "top_k is 0, but must"),
        (["--question", "a", "--context", "a", "--model", "./no"], "model ./no does not exist"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str],
    message: str,
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": []}, "squad.json: data is missing or not a list"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "paragraphs[0].context is missing or not"),
        (squad({"question": "where"}), "qas[0].id is missing or not a text"),
    ],
)
def test_a_file_that_is_not_squad_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    source = tmp_path / "squad.json"
    source.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        list(read_questions(source))
    assert message in str(caught.value)


def test_a_question_of_a_squad_file_that_is_too_long_is_named(
    tmp_path: Path, qa: QuestionAnsweringPipeline
) -> None:
    source = tmp_path / "squad.json"
    source.write_text(json.dumps(squad({"id": "q1", "question": "where " * 60})))
    with pytest.raises(UserError, match=r"squad.json:q1: its 60 tokens leave room"):
        list(answered(read_questions(source), QuestionAnswerer(qa)))


@pytest.mark.parametrize(("batch_size", "ahead"), [(1, 1), (4, 64)])
def test_no_more_than_16_batches_are_held_however_long_the_stream(
    batch_size: int, ahead: int, qa: QuestionAnsweringPipeline
) -> None:
    read = written = 0

    def lines() -> Iterator[Line]:
        nonlocal read
        for number in range(500):
            read += 1
            assert read - written <= ahead + 1
            yield Line(f"{number}", {"id": number, **ROW})

    batched = QuestionAnsweringPipeline(qa.model, qa.tokenizer, batch_size=batch_size)
    for written, record in enumerate(answered(lines(), QuestionAnswerer(batched)), start=1):
        assert record["id"] == written - 1
    assert read == written == 500


def test_a_file_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(1000)))

    monkeypatch.setattr(sys, "stdin", Stdin)
    questions = read_questions("-")
    first = next(questions)
    assert first == Line("stdin:1", ROW)
    assert Stdin.buffer.tell() < 200


def test_a_pipe_is_answered_line_by_line_before_it_ends(model: Path) -> None:
    arguments = ["predict", "--model", str(model), "--device", "cpu", "--input", "-"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from itrd_nlp.cli.main import main; main()", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for number in range(20):
            process.stdin.write(json.dumps({**ROW, "id": number}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number  # before the next is sent
        process.stdin.write("no JSON\n")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "")
        assert err.splitlines()[-1].startswith("error: stdin:21: the line is not JSON")
    finally:
        process.kill()
        process.wait()


def test_answers_that_nobody_reads_end_the_command_as_the_signal_would(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        code, _, err = run("--question", "where", "--context", CONTEXT)
    assert code == 128 + signal.SIGPIPE
    assert "rror" not in err
