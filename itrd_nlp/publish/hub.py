"""Push a model to the Hub: checked before, alone, in one commit, and refused with a sentence."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    constants,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import get_session, parse_ratelimit_headers, validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from itrd_nlp import __version__
from itrd_nlp.errors import UserError
from itrd_nlp.files import keep_out
from itrd_nlp.models.loading import LoadingArguments, load_model, load_tokenizer
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.publish.model_card import is_generated, model_card
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.publish.privacy import (
    holds_token,
    public_file,
    public_value,
    without_tokens,
    without_tokens_in_use,
)
from itrd_nlp.training.record import RESULTS_NAME, RunRecord

LONGEST_WAIT = 60  # seconds that a rate limit may ask for before it is left to the user
TRIES = 3  # of a request that the rate limit refused
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
LARGEST_TEXT = (
    10_000_000  # bytes; a larger file is pushed without a look for tokens, as weights are
)
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
_AGAIN = "run the same command again"
_NOT_TWICE = "what has arrived is not sent twice"
_LOG_IN = "log in by `hf auth login` with a token that may write"

T = TypeVar("T")


@dataclass(frozen=True)
class HubFile:
    """A file as it lies on the Hub.

    Attributes:
        name: in the repository.
        content: a file to be sent as it is, or the bytes.
    """

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def is_same(self, remote: RepoFile | None) -> bool:
        """Whether the Hub has it already, by the sha256 of a large file or git's hash of a small one."""
        if remote is None or remote.size != self.size:
            return False
        if remote.lfs is None:
            return remote.blob_id == git_hash(self.read())
        with (
            self.content.open("rb")
            if isinstance(self.content, Path)
            else BytesIO(self.content) as file
        ):
            return remote.lfs.sha256 == sha_fileobj(file).hex()

    def read(self) -> bytes:
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True)
class PushReport:
    """What a push did.

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


# ---- what is pushed ----


def check_model(
    folder: str | Path,
    *,
    head: type,
    page: TaskPage,
    record: RunRecord | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> list[HubFile]:
    """Check that a folder holds a model that somebody else can use, and list the files of it that are pushed.

    These are the configuration, the weights in safetensors, the tokenizer, the card and ``results.json``; other files
    in the folder stay there. Nothing is written: the card is made from the record where README.md is missing or is
    still as this package wrote it; one that somebody edited is taken as it is.

    Args:
        folder: of the model.
        head: a class of transformers such as ``AutoModelForTokenClassification``.
        page: how the task is shown.
        record: of the run; default: the ``results.json`` of the folder.
        repo_id: where it goes, for the card.
        license: for the card, if it is not an edited one.

    Raises:
        UserError: the model, its tokenizer or its metrics are missing or cannot be read, the weights hold more than the
            model, or the card is not valid.
    """
    folder = Path(folder)
    record = record or measured_record(folder)
    weights = _weights(folder)
    model = load_model(str(folder), role="model", args=LoadingArguments(), head=head)
    tokenizer = load_tokenizer(str(folder), LoadingArguments())
    vocabulary = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((folder / name).is_file() for name in vocabulary):  # it loads, as an empty one
        raise UserError(
            f"{folder} has no tokenizer, such as tokenizer.json; save it by save_pretrained."
        )
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and the model {model.config.vocab_size}, so it is "
            "not the model's."
        )
    _check_weights(weights, set(model.state_dict()))
    return model_files(folder, record, tokenizer, page=page, repo_id=repo_id, license=license)


def measured_record(folder: Path, scores: str = "scores") -> RunRecord:
    """The record of a folder with a model, whose scores are all there.

    Args:
        folder: of the model.
        scores: names of the scores, for the sentence.

    Raises:
        UserError: there is no folder, no record, or a score is missing.
    """
    if not folder.is_dir():
        raise UserError(f"model {folder} does not exist, but must be a folder with a model.")
    record = RunRecord.read(folder)
    if record is None:
        raise UserError(
            f"{folder} has no {RESULTS_NAME} with the {scores} of the model; the commands that train write it at their "
            "end."
        )
    missing = record.missing_score()
    if missing is not None:
        raise UserError(
            f"{folder / RESULTS_NAME}: {missing} is None, but must be the measured percentage."
        )
    return record


def _check_weights(weights: list[Path], expected: set[str]) -> None:
    """Refuse tensors that are no part of the model."""
    for path in weights:
        if path.suffix != ".safetensors":
            continue
        with safe_open(path, framework="pt") as tensors:
            foreign = [name for name in tensors.keys() if name not in expected]  # noqa: SIM118
        foreign = [name for name in foreign if not name.endswith(".position_ids")]  # old BERTs
        if foreign:
            raise UserError(
                f"{path} holds {foreign[0]}, which is no part of the model; save the student alone, as "
                "ITRDTrainer.save_model does."
            )


def model_files(
    folder: str | Path,
    record: RunRecord,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    page: TaskPage | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> list[HubFile]:
    """The files of a model that go to the Hub, by their names; the model is not loaded. See `check_model`.

    Args:
        folder: of the model.
        record: the card is made from it. Pushed as ``results.json`` if the model's scores are in it.
        tokenizer: the model's; its vocabulary may lie in files of its own.
        page: how the task is shown; default: by the class of the head.
        repo_id: where it goes.
        license: for the card.

    Raises:
        UserError: there are no weights in safetensors, or the card is not valid.
    """
    folder = Path(folder)
    names = list(TOKENIZER_FILES)
    if tokenizer is not None:
        names += [name for name in tokenizer.vocab_files_names.values() if name not in names]
    present = [folder / name for name in names if (folder / name).is_file()]
    files = [_public(path) for path in (folder / CONFIG_NAME, *_weights(folder), *present)]
    card = card_text(folder, record, page=page, repo_id=repo_id, license=license)
    files.append(HubFile(CARD_NAME, card.encode()))
    if record.scores:
        text = json.dumps(public_value(record.as_json()), indent=2) + "\n"
        files.append(HubFile(RESULTS_NAME, text.encode()))
    return files


def _weights(folder: Path) -> list[Path]:
    """The weights in safetensors: one file, or an index and what it names."""
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        raise UserError(
            f"{folder} has no {SAFE_WEIGHTS_NAME}, and other formats are not pushed; save the model by "
            "save_pretrained."
        )
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in shards:
        if not (folder / name).is_file():
            raise UserError(f"{index} names {name}, but {folder} does not have it.")
    return [index, *(folder / name for name in shards)]


def _public(path: Path) -> HubFile:
    """A file as it is; a configuration without folders, and a text without the tokens that are in use."""
    if path.suffix == ".safetensors" or path.stat().st_size > LARGEST_TEXT:
        return HubFile(path.name, path)
    before = path.read_bytes()
    content = before
    if path.name in (CONFIG_NAME, "tokenizer_config.json"):
        values = json.loads(before)
        if public_file(values) != values:
            content = (json.dumps(public_file(values), indent=2) + "\n").encode()
    content = without_tokens_in_use(content)
    return HubFile(path.name, path if content == before else content)


def card_text(
    folder: str | Path,
    record: RunRecord,
    *,
    page: TaskPage | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> str:
    """The card of a model: README.md of its folder if somebody edited it, else one made from the record.

    Raises:
        UserError: the edited card is not valid, or ``license`` is given and it is edited.
    """
    folder = Path(folder)
    path = folder / CARD_NAME
    written = path.read_text(encoding="utf-8") if path.is_file() else None
    if written is None or is_generated(written):
        return str(model_card(record, folder, page=page, repo_id=repo_id, license=license))
    if license is not None:
        raise UserError(
            f"license is given, but {path} was edited and is pushed as it is; write the license there."
        )
    if holds_token(written):
        raise UserError(f"{path} holds what looks like an access token; take it out.")
    try:
        ModelCard(written)
    except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no valid model card: {_one_line(error)}.") from None
    return written


# ---- pushing ----


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


def open_repo(api: HfApi, repo_id: str, *, private: bool | None = False) -> str:
    """Create a model repository where there is none.

    Args:
        api: of the Hub.
        repo_id: ``USER/NAME``, or a name below the account of the token.
        private: create it so.

    Returns:
        The whole id.

    Raises:
        UserError: it is to be private and is there in public, or the Hub refuses.
    """
    with hub_errors():
        url = _patiently(
            lambda: api.create_repo(repo_id, private=True if private else None, exist_ok=True)
        )
        if private and not _patiently(lambda: api.model_info(url.repo_id)).private:
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

    Weights of an earlier push that have no part in this one are deleted in the same commit, because transformers would
    read them.

    Raises:
        UserError: the Hub refused, or could not be reached.
    """
    branch = revision or constants.DEFAULT_REVISION
    with hub_errors():
        if revision is not None:
            _patiently(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True))
        head = _patiently(lambda: api.model_info(repo_id, revision=branch)).sha
        listed = _patiently(lambda: list(api.list_repo_tree(repo_id, revision=branch)))
        remote = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.content)
            for file in files
            if not file.is_same(remote.get(file.name))
        ]
        stale = {name for name in remote if _WEIGHTS.fullmatch(name)} - {f.name for f in files}
        operations += [CommitOperationDelete(path_in_repo=name) for name in sorted(stale)]
        if not operations:
            return _report(api, repo_id, revision, files, commit=head, changed=False)
        commit = _patiently(
            lambda: api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message,
                revision=branch,
                parent_commit=head,
            )
        )
    return _report(api, repo_id, revision, files, commit=commit.oid, changed=True)


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


# ---- errors ----


@contextlib.contextmanager
def hub_errors() -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into one sentence that says what to do.

    A rate limit that asks for up to 60 seconds is waited for by huggingface_hub; a longer one is refused at once.

    Raises:
        UserError: no permission, no such repository, a conflict, a rate limit, a fault of the server or of the network,
            a file that arrived damaged, or HF_HUB_OFFLINE. Without the cause, which holds the token in its headers.
    """
    hooks = get_session().event_hooks["response"]
    hooks.append(_refuse_long_wait)
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from None
    finally:
        hooks.remove(_refuse_long_wait)


def _refuse_long_wait(response: Any) -> None:
    """Called with every response. huggingface_hub itself would sleep for as long as it is told."""
    if response.status_code == 429 and (_wait(response.headers) or 0) > LONGEST_WAIT:
        raise UserError(_rate_limited(response))


def _wait(headers: Mapping[str, str]) -> int | None:
    """Seconds after which a rate limit lets the next request through, None where it does not say."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    text = headers.get("retry-after", "").strip()
    return int(text) if text.isdigit() else None


def _patiently(call: Callable[[], T]) -> T:
    """Make a call, and again after the seconds that a rate limit asks for.

    huggingface_hub does so itself for some requests, not for those that create something.
    """
    for _ in range(TRIES - 1):
        try:
            return call()
        except HfHubHTTPError as error:
            seconds = _wait(error.response.headers) if error.response.status_code == 429 else None
            if seconds is None:
                raise
        time.sleep(seconds + 1)
    return call()


def _sentence(error: BaseException) -> str | None:
    """What to tell the user, None for an error that has nothing to do with the Hub."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so nothing can be sent; unset it and {_AGAIN}."
        if isinstance(cause, HfHubHTTPError):
            uploading = next((c for c in causes if "Error while uploading" in str(c)), None)
            return _refused(cause, uploading)
        if isinstance(cause, HTTPError | ConnectionError | TimeoutError):
            where = _host(cause)
            return (
                f"the connection to {where} failed ({_one_line(cause) or type(cause).__name__}); check the network, "
                f"and HF_ENDPOINT if it is set, and {_AGAIN}: {_NOT_TWICE}."
            )
        if isinstance(cause, LocalTokenNotFoundError | PermissionError) and not _errno(cause):
            return f"the Hub wants to know who you are: {_LOG_IN}, and {_AGAIN}."
        if isinstance(cause, json.JSONDecodeError):
            return (
                f"{constants.ENDPOINT} answered with something that is no JSON, so it is no Hub or has a problem of "
                f"its own; check HF_ENDPOINT if it is set, and {_AGAIN} in some minutes."
            )
        if isinstance(cause, HFValidationError):
            return f"{_one_line(cause)}."
        if isinstance(cause, ValueError) and "metadata in README.md" in str(cause):
            return f"the Hub refuses the card: {_one_line(cause)}; correct it and {_AGAIN}."
        if isinstance(cause, ValueError) and "LFS batch API" in str(cause):
            return f"the Hub refuses to store the weights: {_one_line(cause)}; {_AGAIN}."
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__


def _refused(error: HfHubHTTPError, uploading: BaseException | None) -> str:
    """A sentence about a status that the Hub, or its storage, answered with."""
    status, where = error.response.status_code, _host(error)
    said = f"{status}: {_one_line(error.server_message)}" if error.server_message else f"{status}"
    if status == 401:
        return f"{where} does not know you ({said}): {_LOG_IN}, and {_AGAIN}."
    if status == 403:
        return (
            f"{where} does not let you do this ({said}): choose a name below your own account or an organisation of "
            f"yours, or {_LOG_IN}, and {_AGAIN}."
        )
    if status == 429:
        return _rate_limited(error.response)
    if status >= 500:
        return f"{where} has a problem of its own ({said}); {_AGAIN} in some minutes: {_NOT_TWICE}."
    if uploading is not None:
        match = re.search(r"uploading '(.+)' to", str(uploading))
        return f"{match[1] if match else 'a file'} arrived damaged at {where} ({said}); {_AGAIN}."
    if status == 404:
        return (
            f"{where} has no such repository or branch ({said}); check the name, or {_LOG_IN} if it is private, and "
            f"{_AGAIN}."
        )
    if status in (409, 412):
        return f"{where} has a change in between or a name that is taken ({said}); {_AGAIN}, or choose another name."
    return f"{where} refuses the request ({said}); correct it and {_AGAIN}."


def _rate_limited(response: Any) -> str:
    seconds = _wait(response.headers)
    wait = "some minutes" if seconds is None else f"{seconds} seconds"
    return f"{response.request.url.host} allows no more requests for now (429): wait {wait} and {_AGAIN}."


def _host(error: Any) -> str:
    """Where a request went to: never more of a URL than that, for links to a storage are signed."""
    try:
        request = error.response.request if isinstance(error, HfHubHTTPError) else error.request
    except (AttributeError, RuntimeError):  # an error from elsewhere, or before there was a request
        return "the Hub"
    return str(request.url.host)


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _one_line(text: object) -> str:
    """The text of an error in a line of moderate length, without anything that looks like a token."""
    line = " ".join(without_tokens(str(text)).split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:200]}..."
