"""The page of `itrd_nlp.tasks.demo` as a Space of the Hub."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from huggingface_hub import SpaceCardData

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_text
from itrd_nlp.publish.hub import check_repo_id, hub_api, open_repo
from itrd_nlp.publish.hub_errors import hub_errors

PYTHON = "3.11"
"""The lowest Python of this package. A Space that names none runs on an older one, for which no package is found."""

APP = '''"""Answers of {models} side by side."""

from itrd_nlp.tasks.demo import build_demo
from itrd_nlp.tasks.question_answering.pipeline import load_pipeline

demo = build_demo({arguments})

if __name__ == "__main__":
    demo.launch()
'''


def push_space(
    repo_id: str,
    student_repo: str,
    teacher_repo: str | None = None,
    *,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload the page as a Space, in one commit, or in none where the Hub has it already.

    The Space loads its models from the Hub. It brings this package along, so that it needs nothing that is not on
    PyPI.

    Args:
        repo_id: `USER/NAME` of the Space. It is created where it is missing.
        student_repo: model id of the student.
        teacher_repo: model id of the teacher, if it is to be there.
        private: create it so. A public Space of that name is refused.
        token: default: that of `hf auth login` or HF_TOKEN.

    Returns:
        Address of the Space.

    Raises:
        UserError: a name is not of the form USER/NAME, Gradio is not installed, or the Hub refused or could not be
            reached.
    """
    for name in (repo_id, student_repo, *filter(None, [teacher_repo])):
        check_repo_id(name)
    api = hub_api(token)
    with tempfile.TemporaryDirectory() as folder:
        write_space(Path(folder), student_repo, teacher_repo)
        open_repo(api, repo_id, private=private, space=True)
        with hub_errors():
            api.upload_folder(
                repo_id=repo_id,
                repo_type="space",
                folder_path=folder,
                commit_message=f"Page of {student_repo}",
            )
    return f"{api.endpoint}/spaces/{repo_id}"


def write_space(folder: Path, student_repo: str, teacher_repo: str | None = None) -> None:
    """Write the files of the Space: app.py, requirements.txt, README.md with the header, and this package.

    Raises:
        UserError: gradio or this package is not installed.
    """
    models = [student_repo, *filter(None, [teacher_repo])]
    arguments = ", ".join(f'load_pipeline("{model}")' for model in models)
    app = APP.format(models=" and ".join(models), arguments=arguments)
    write_text(folder / "app.py", app)
    requirements = "\n".join(_requirements()) + "\n"
    write_text(folder / "requirements.txt", requirements)
    write_text(folder / "README.md", _readme(models))
    package = Path(__file__).parents[1]
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))


def _readme(models: list[str]) -> str:
    """The header that tells the Hub how to run the Space, and two sentences."""
    try:
        gradio = version("gradio")
    except PackageNotFoundError:
        raise UserError(
            "the package gradio is not installed, but its version belongs into the Space; pip install itrd_nlp[demo]."
        ) from None
    header = SpaceCardData(
        title=models[0].partition("/")[2],
        sdk="gradio",
        sdk_version=gradio,
        python_version=PYTHON,
        app_file="app.py",
        license="apache-2.0",
        models=models,
        short_description="Questions about your own text",
    )
    return (
        f"---\n{header.to_yaml()}\n---\n\n# {models[0].partition('/')[2]}\n\n"
        f"Type a question about a text of your own: {' and '.join(models)} highlight the answer in it, with its score "
        "and the milliseconds it took.\n"
    )


def _requirements() -> list[str]:
    """The packages that this one needs, without its extras. Gradio comes with the Space."""
    try:
        needed = requires("itrd_nlp") or []
    except PackageNotFoundError:
        raise UserError(
            "itrd_nlp is not installed, so its requirements are unknown; pip install -e ."
        ) from None
    return sorted(requirement for requirement in needed if "extra ==" not in requirement)
