"""Push the files of a model to the Hub, in one commit."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from itrd_nlp import __version__
from itrd_nlp.errors import UserError
from itrd_nlp.files import keep_out
from itrd_nlp.models.embedder import SENTENCE_FILES
from itrd_nlp.publish.hub_errors import hub_errors, patiently
from itrd_nlp.publish.hub_files import TOKENIZER_FILES, HubFile
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.training.record import RESULTS_NAME

_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")


@dataclass(frozen=True)
class PushReport:
    """The outcome of a push.

    Attributes:
        repo_id: of the repository.
        url: of the repository, or of its branch.
        revision: the branch.
        commit: the newest commit of the branch; None after a dry run.
        files: name to bytes, all that the model consists of.
        changed: whether a commit was made.
        card: the text of README.md.
    """

    repo_id: str
    url: str
    revision: str
    commit: str | None
    files: dict[str, int]
    changed: bool
    card: str


def push_model(
    files: list[HubFile],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    commit_message: str = "Upload model",
    api: HfApi | None = None,
) -> PushReport:
    """Push the files of a model, in one commit, or in none where the Hub has all of them already.

    Args:
        files: see `check_model`.
        repo_id: ``USER/NAME``. The repository is created where it is missing.
        private: create it so. A public repository of that name is refused.
        revision: branch to push to, made from ``main`` where it is missing; default: ``main``.
        token: default: that of ``hf auth login`` or HF_TOKEN.
        dry_run: list the files and make no request.
        commit_message: of the commit.
        api: in place of one for HF_ENDPOINT and ``token``.

    Raises:
        UserError: the Hub refused or could not be reached.
    """
    check_repo_id(repo_id)
    check_revision(revision)
    api = api or hub_api(token)
    if dry_run:
        return _report(api, repo_id, revision, files, commit=None, changed=False)
    open_repo(api, repo_id, private=private)
    return push_files(api, repo_id, files, revision=revision, commit_message=commit_message)


def hub_api(token: str | None = None) -> HfApi:
    """The Hub at HF_ENDPOINT. Default of ``token``: that of ``hf auth login`` or HF_TOKEN."""
    if token is not None:
        keep_out(token)
    return HfApi(token=token, library_name="itrd_nlp", library_version=__version__)


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be the name of a repository.

    Raises:
        UserError: says what a name looks like.
    """
    with contextlib.suppress(HFValidationError):
        validate_repo_id(repo_id)
        if repo_id.count("/") == 1:
            return
    raise UserError(
        f"repo_id is {repo_id!r}, but must be USER/NAME with letters, digits, '-', '_' and '.' in both, at most 96 "
        "characters."
    )


def check_revision(revision: str | None, argument: str = "revision") -> None:
    """Refuse what cannot be the name of a branch, by the rules of git.

    Args:
        revision: the name; None, where none was given, is fine.
        argument: its name in the sentence.

    Raises:
        UserError: says what a name looks like.
    """
    parts = [] if revision is None else revision.split("/")
    if all(
        re.fullmatch(r"\w[\w.-]*", part) and ".." not in part and not part.endswith((".", ".lock"))
        for part in parts
    ):
        return
    raise UserError(
        f"{argument} is {revision!r}, but must be the name of a branch: letters, digits, '-', '_' and '.', with '/' "
        "between its parts."
    )


def open_repo(
    api: HfApi, repo_id: str, *, private: bool | None = False, space: bool = False
) -> str:
    """Create a model repository, or a Space of Gradio, where there is none.

    Args:
        api: of the Hub.
        repo_id: ``USER/NAME``, or a name below the account of the token.
        private: create it so.
        space: a Space in place of a model.

    Returns:
        The whole id.

    Raises:
        UserError: it is to be private and is there in public, or the Hub refuses.
    """
    with hub_errors():
        kind: dict[str, Any] = {"repo_type": "space", "space_sdk": "gradio"} if space else {}
        url = patiently(
            lambda: api.create_repo(
                repo_id, private=True if private else None, exist_ok=True, **kind
            )
        )
        # The Hub passes over the wish for a repository that it has already.
        info: Any = patiently(lambda: api.repo_info(url.repo_id, repo_type=kind.get("repo_type")))
        if private and not info.private:
            raise UserError(
                f"{url.repo_id} exists and is public, but is to be private; make it private in its settings on "
                f"{api.endpoint}, or choose another name."
            )
    return url.repo_id


def push_files(
    api: HfApi,
    repo_id: str,
    files: list[HubFile],
    *,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> PushReport:
    """Commit to a model repository those files that it does not have as they are.

    Files of an earlier push that have no part in this one are deleted in the same commit, because they would be read
    with this model: weights, results.json, the modules of sentence-transformers, and files of another tokenizer.

    Raises:
        UserError: the Hub refused, or could not be reached.
    """
    branch = revision or constants.DEFAULT_REVISION
    with hub_errors():
        if revision is not None:
            patiently(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True))
        before = patiently(lambda: api.model_info(repo_id, revision=branch)).sha
        # Each try looks again at what is there: an answer that is lost may be that to a commit.
        commit = patiently(lambda: _commit(api, repo_id, files, branch, commit_message))
    return _report(api, repo_id, revision, files, commit=commit, changed=commit != before)


def _commit(
    api: HfApi, repo_id: str, files: list[HubFile], branch: str, message: str
) -> str | None:
    """Make the commit, where one is needed. Return the newest commit of the branch."""
    head = api.model_info(repo_id, revision=branch).sha
    listed = api.list_repo_tree(repo_id, revision=branch, recursive=True)
    remote = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.content)
        for file in files
        if not file.is_same(remote.get(file.name))
    ]
    stale = _stale(set(remote), {file.name for file in files})
    operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
    if not operations:
        return head
    commit = api.create_commit(
        repo_id, operations, commit_message=message, revision=branch, parent_commit=head
    )
    return commit.oid


def _stale(remote: set[str], pushed: set[str]) -> list[str]:
    """The files of another model, which this package pushes by these names and a loader would read."""
    names = {RESULTS_NAME, *SENTENCE_FILES}
    # A model without its tokenizer is used with the one that is there.
    if not pushed.isdisjoint(TOKENIZER_FILES):
        names.update(TOKENIZER_FILES)
    return sorted({n for n in remote if n in names or _WEIGHTS.fullmatch(n)} - pushed)


def _report(
    api: HfApi,
    repo_id: str,
    revision: str | None,
    files: list[HubFile],
    *,
    commit: str | None,
    changed: bool,
) -> PushReport:
    (card,) = (file.read().decode() for file in files if file.name == CARD_NAME)
    branch = revision or constants.DEFAULT_REVISION
    return PushReport(
        repo_id=repo_id,
        url=f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else ""),
        revision=branch,
        commit=commit,
        files={file.name: file.size for file in files},
        changed=changed,
        card=card,
    )
