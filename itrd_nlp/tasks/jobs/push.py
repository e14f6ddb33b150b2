"""Push a model to the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from itrd_nlp.distillation.arguments import fill_in_objective
from itrd_nlp.files import keep_out
from itrd_nlp.publish.hub import PushReport, check_repo_id, check_revision, hub_api, push_model
from itrd_nlp.publish.hub_files import HubFile, check_model, measured_record
from itrd_nlp.tasks import task_of
from itrd_nlp.tasks.task import architecture_of


def check_student(
    folder: str | Path, *, repo_id: str | None = None, license: str | None = None
) -> list[HubFile]:
    """Check that a folder holds a model of any task that somebody else can use, and list the files that are pushed.

    See `itrd_nlp.publish.hub_files.check_model`.
    """
    task = task_of(folder)
    names = " and ".join(task.metrics.values())
    record = fill_in_objective(measured_record(Path(folder), names))
    return check_model(
        folder,
        head=task.head_for(architecture_of(folder) or ""),
        page=task.page,
        record=record,
        repo_id=repo_id,
        license=license,
    )


def push_student(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    commit_message: str = "Upload model",
    api: HfApi | None = None,
) -> PushReport:
    """Check a model and push it alone, in one commit, or in none where the Hub has all of it already.

    Args:
        folder: of the model, of any task; it is not written to.
        repo_id: ``USER/NAME``. The repository is created where it is missing.
        private: create it so. A public repository of that name is refused.
        revision: branch to push to, made from ``main`` where it is missing; default: ``main``.
        license: an identifier of the Hub, for the card; default: the teacher's, where it is known.
        token: default: that of ``hf auth login`` or HF_TOKEN.
        dry_run: check and list, without a network.
        commit_message: of the commit.
        api: in place of one for HF_ENDPOINT and ``token``.

    Raises:
        UserError: the folder is not fit to be pushed, or the Hub refused or could not be reached.

    Example:
        >>> push_student("runs/student", "me/minilm-t3-squad", private=True)  # doctest: +SKIP
    """
    check_repo_id(repo_id)
    check_revision(revision)
    api = api or hub_api(token)
    if isinstance(api.token, str):
        keep_out(api.token)
    files = check_student(folder, repo_id=repo_id, license=license)
    return push_model(
        files,
        repo_id,
        private=private,
        revision=revision,
        dry_run=dry_run,
        commit_message=commit_message,
        api=api,
    )
