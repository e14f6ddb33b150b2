"""The files around the package agree with it and with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import itrd_nlp

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))


def pins() -> dict[str, Version]:
    result = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{line} is no exact version"
            result[canonicalize_name(requirement.name)] = Version(specifier.version)
    return result


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == itrd_nlp.__version__


def test_the_tested_versions_lie_in_the_ranges_and_none_is_missing() -> None:
    tested = pins()
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras.values() for text in extra)]
    for requirement in map(Requirement, [*texts, *PYPROJECT["build-system"]["requires"]]):
        assert requirement.specifier.contains(tested[canonicalize_name(requirement.name)]), (
            f"requirements.txt does not satisfy {requirement}"
        )


def test_every_folder_with_code_or_configs_is_installed() -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "itrd_nlp").rglob("*.py")}
    expected = {".".join(folder.parts) for folder in folders}
    configs = {Path("itrd_nlp") / path.parent.relative_to(ROOT) for path in CONFIGS}
    data = {".".join(folder.parts) for folder in configs} | {"itrd_nlp.configs"}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == expected | data


def test_importing_the_package_is_cheap() -> None:
    code = """
import sys, time
start = time.process_time()
import itrd_nlp
print(time.process_time() - start)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    seconds, modules = run(code).splitlines()
    assert float(seconds) < 0.3
    assert {"transformers", "datasets", "evaluate"}.isdisjoint(modules.split())


def test_every_public_name_can_be_imported() -> None:
    for name in itrd_nlp.__all__:
        assert getattr(itrd_nlp, name).__name__ == name
    assert set(itrd_nlp.__all__) <= set(dir(itrd_nlp))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = itrd_nlp.absent


def test_commands_are_a_part_of_the_package() -> None:
    code = "import itrd_nlp.cli.commands.fetch_offline_assets as command; print(command.__file__)"
    assert Path(run(code).strip()) == ROOT / "itrd_nlp/cli/commands/fetch_offline_assets.py"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_mapping(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    assert content


def test_the_entry_of_continuous_integration_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_workflow_tests_every_python_that_is_allowed_by_the_command_of_this_machine() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    pythons = jobs["pinned"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert jobs["pinned"]["steps"][-1]["run"] == "make test PYTHON=python"
    assert not jobs["pinned"].get("continue-on-error")
    (extras,) = re.findall(r"\[([\w,]+)\]", jobs["newest"]["steps"][2]["run"])
    assert set(extras.split(",")) == PROJECT["optional-dependencies"].keys()


def test_before_a_commit_ruff_is_the_one_that_is_tested() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    packages = [package for hook in hooks for package in hook["additional_dependencies"]]
    assert {p for p in packages if p.startswith("ruff")} == {f"ruff=={pins()['ruff']}"}
    assert all(Requirement(package).specifier for package in packages)


def test_what_may_fail_in_the_workflow_is_the_future_alone() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    may_fail = {name for name, job in jobs.items() if job.get("continue-on-error")}
    assert may_fail == {"newest", "transformers-main"}
    lowest = jobs["lowest"]["steps"]
    assert any("--resolution lowest-direct" in step.get("run", "") for step in lowest)
    python = lowest[1]["with"]["python-version"]
    assert PROJECT["requires-python"] == f">={python}"


def test_the_changelog_has_a_section_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert itrd_nlp.__version__ in headings[0]


def test_the_citation_is_that_of_the_readme_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == itrd_nlp.__version__
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    paper = citation["preferred-citation"]
    assert f"title     = {{{paper['title']}}}" in readme
    authors = (f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert f"author    = {{{' and '.join(authors)}}}" in readme
