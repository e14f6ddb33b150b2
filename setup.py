"""The description that a package index shows: README.md with links that lead somewhere from there.

pyproject.toml says all the rest. An index has no files beside the description, so relative links and images would be
broken.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def description() -> str:
    """README.md with absolute links, those to files and images of this version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository, tag = project["urls"]["Repository"], f"v{project['version']}"
    raw = repository.replace("//github.com", "//raw.githubusercontent.com")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r'(?<=src=")(?=[\w.])(?!https?:)', f"{raw}/{tag}/", text)
    text = re.sub(r"(?<=!\[)([^\]]*\]\()(?=[\w.])(?!https?:)", rf"\1{raw}/{tag}/", text)
    return re.sub(r"(?<=\]\()(?=[\w.])(?!https?:)", f"{repository}/blob/{tag}/", text)


setup(long_description=description(), long_description_content_type="text/markdown")
