"""The wheel, as a user gets it: its metadata, what is in it, and its commands in an empty folder.

`make release-check` runs these tests on a wheel whose dependencies were installed with it. Then RELEASE_PYTHON names
the interpreter. Else the wheel is built and installed here, beside the packages of this environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from packaging.metadata import Metadata
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("itrd_nlp", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def build(folder: Path) -> Path:
    """Build the wheel of a copy of the sources, because a build leaves folders beside them."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel alone into an environment that sees the packages of this one, but not this repository."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "-q", "--no-deps", wheel)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, and an interpreter that has it. The test processes share them."""
    if "RELEASE_PYTHON" in os.environ:
        (wheel,) = (ROOT / "dist").glob("*.whl")
        return wheel, Path(os.environ["RELEASE_PYTHON"]).absolute()
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "release"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "venv").exists():
            install(build(folder), folder / "venv")
        (wheel,) = (folder / "dist").glob("*.whl")
    return wheel, folder / "venv" / "bin" / "python"


@pytest.fixture
def itrd_nlp(built: tuple[Path, Path], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the console command of the wheel in an empty folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [built[1].parent / "itrd-nlp", *arguments],
            cwd=tmp_path,
            env={**environment, "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, err
    return out


# ---- what is in it ----


@pytest.fixture
def metadata(built: tuple[Path, Path]) -> bytes:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return wheel.read(name)


def test_the_metadata_is_valid_and_says_what_pyproject_says(metadata: bytes) -> None:
    found = Metadata.from_email(metadata)  # raises where a field is none of the standard
    assert found.name == PROJECT["name"]
    assert str(found.version) == PROJECT["version"]
    assert found.classifiers == PROJECT["classifiers"]
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= (
        found.project_urls or {}
    ).keys()
    assert found.description_content_type == "text/markdown"
    required = {str(r) for r in found.requires_dist or [] if r.marker is None}
    assert required == {str(Requirement(text)) for text in PROJECT["dependencies"]}


def test_every_python_that_is_classified_is_tested_by_the_workflow() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    classified = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert f"python: {json.dumps(classified)}" in text


def test_the_description_is_the_readme_with_links_that_lead_somewhere(metadata: bytes) -> None:
    description = str(message_from_bytes(metadata).get_payload(decode=True), "utf-8")
    tag = f"v{PROJECT['version']}"
    repository = PROJECT["urls"]["Repository"]
    raw = repository.replace("github.com", "raw.githubusercontent.com")
    links = [*re.findall(r"\]\(([^)]+)\)", description), *re.findall(r'src="([^"]+)"', description)]
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8").strip()
    relative = description.replace(f"{raw}/{tag}/", "").replace(f"{repository}/blob/{tag}/", "")
    assert relative.strip() == readme
    own = [link.partition(f"/{tag}/")[2].partition("#")[0] for link in links if f"/{tag}/" in link]
    assert own
    assert [name for name in own if not (ROOT / name).exists()] == []


def test_the_wheel_has_every_config_and_module_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    kinds = (".py", ".typed", ".jinja", ".css", ".js")
    modules = (
        p for p in (ROOT / "itrd_nlp").rglob("*") if p.suffix in kinds or p.name == "py.typed"
    )
    expected = {str(path.relative_to(ROOT)) for path in modules}
    expected |= {f"itrd_nlp/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert names == expected


# ---- what it does in an empty folder ----


def test_the_commands_are_listed_and_configs_are_found_by_name(
    itrd_nlp: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    processes = [itrd_nlp("--version"), itrd_nlp("--help"), itrd_nlp("show-config", "quickstart")]
    version, listed, config = map(ended, processes)
    assert version == f"itrd-nlp {PROJECT['version']}\n"
    assert "quickstart" in listed and "train-squad" in listed
    assert "teacher: runs/quickstart/teacher" in config
    assert list(tmp_path.iterdir()) == []


WORDS = ["the", "river", "rhine", "flows", "past", "basel", "and", "bonn", "it", "meets", "sea"]


def squad(path: Path, questions: int) -> None:
    paragraphs = []
    for i in range(questions):
        words = [WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(25)]
        at = 3 + i % 20
        answer = {"text": words[at], "answer_start": len(" ".join(words[:at])) + 1}
        question = {"id": f"q{i}", "question": f"what {words[at - 1]}", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [question]})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))


@pytest.fixture
def small(tmp_path: Path, make_reader: Any) -> tuple[str, ...]:
    """The options of a quickstart that needs no network and little time."""
    for part in make_reader([*WORDS, "what"], 4, initializer_range=0.02):
        part.save_pretrained(tmp_path / "encoder")
    squad(tmp_path / "train.json", 24)
    squad(tmp_path / "dev.json", 8)
    files = ("--train_file", "train.json", "--validation_file", "dev.json")
    return ("quickstart", "--model_name_or_path", "encoder", *files)


def results(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (folder / "runs" / "quickstart" / name / "results.json").read_text()
    )
    return content


def test_the_quickstart_makes_a_teacher_and_a_student_and_a_second_call_says_that_it_is_done(
    itrd_nlp: Callable[..., subprocess.Popen[str]], small: tuple[str, ...], tmp_path: Path
) -> None:
    out = ended(itrd_nlp(*small))
    assert "minutes" not in out  # of sizes whose time nobody knows
    assert "2/3 Fine-tune the teacher: itrd-nlp train-teacher quickstart_teacher --model" in out
    assert "3/3 Distil the student: itrd-nlp train-squad quickstart --train_file" in out
    student = results(tmp_path, "student")
    assert student["layers"] == 3
    assert student["teacher"]["f1"] == results(tmp_path, "teacher")["f1"]
    end = out[out.index("Distilled: runs/quickstart/student") :]
    assert [line.partition(":")[0] for line in end.splitlines()[-4:]] == [
        *("Report", "Evaluate", "Predict", "Push"),
    ]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = ended(itrd_nlp(*small))
    assert "Finished already: runs/quickstart/student" in again
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == made


@pytest.mark.slow
def test_a_quickstart_that_was_told_to_stop_goes_on_and_ends_as_an_undisturbed_one(
    itrd_nlp: Callable[..., subprocess.Popen[str]], small: tuple[str, ...], tmp_path: Path
) -> None:
    squad(tmp_path / "train.json", 400)
    ended(itrd_nlp(*small))
    undisturbed = [results(tmp_path, name)["f1"] for name in ("teacher", "student")]
    folder = tmp_path / "runs" / "quickstart"
    shutil.rmtree(folder)

    process = itrd_nlp(*small)
    assert process.stdout is not None
    lines = iter(process.stdout)
    next(line for line in lines if line.startswith("3/3 Distil the student"))
    next(line for line in lines if line.startswith("step "))  # before it there is nothing to save
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert err.splitlines()[-1] == (
        f"The quickstart goes on by the same command: itrd-nlp {' '.join(small)}"
    )
    assert list((folder / "student").glob("checkpoint-*"))
    out = ended(itrd_nlp(*small))
    assert "Finished already: runs/quickstart/teacher" in out
    assert "--resume_from_checkpoint true" in out
    assert [results(tmp_path, name)["f1"] for name in ("teacher", "student")] == undisturbed
