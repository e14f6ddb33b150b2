"""The files of a model that go to the Hub: checked, and without anything private."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash, sha_fileobj
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from itrd_nlp.errors import UserError
from itrd_nlp.files import is_plain_name, read_bytes, read_json, read_text
from itrd_nlp.models.embedder import SENTENCE_FILES
from itrd_nlp.models.loading import fit_tokenizer, load_model, load_tokenizer
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.publish.hub_errors import one_line
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.publish.model_card import is_generated, model_card
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.publish.privacy import (
    holds_token,
    public_file,
    public_value,
    without_tokens_in_use,
)
from itrd_nlp.training.record import RESULTS_NAME, RunRecord

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""How the images of a model are read, where it reads images."""
_CONFIGURATIONS = (
    CONFIG_NAME,
    "tokenizer_config.json",
    "special_tokens_map.json",
    *PROCESSOR_FILES,
    *SENTENCE_FILES,
)
LARGEST_TEXT = 10_000_000
"""Bytes. A larger file is pushed without a search for tokens, as weights are."""


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
    fit_tokenizer(model, tokenizer, str(folder))
    _check_weights(weights, _stored_names(model))
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


def _stored_names(model: PreTrainedModel) -> set[str]:
    """The names of a model's tensors in a file. A weight of torchao lies there as several."""
    quantiser = getattr(model, "hf_quantizer", None)
    stored = None if quantiser is None else quantiser.get_state_dict_and_metadata(model)[0]
    return set(model.state_dict() if stored is None else stored)


def _check_weights(weights: list[Path], expected: set[str]) -> None:
    """Refuse tensors that are no part of the model."""
    for path in weights:
        if path.suffix != ".safetensors":
            continue
        try:
            tensors: Any = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise UserError(f"{path} cannot be read: {one_line(error)}.") from None
        with tensors:
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
    names = [*TOKENIZER_FILES, *PROCESSOR_FILES, *SENTENCE_FILES]
    if tokenizer is not None:
        names += [name for name in tokenizer.vocab_files_names.values() if name not in names]
    weights = [path.name for path in _weights(folder)]
    present = [name for name in names if (folder / name).is_file()]
    files = [_public(folder, name) for name in (CONFIG_NAME, *weights, *present)]
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
    content = read_json(index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named:
        raise UserError(f"{index}: weight_map must be an object, name of a tensor to its file.")
    for name in named.values():
        # Only a file of this folder belongs to the model; another one must not leave the machine with it.
        if not is_plain_name(name) or not name.endswith(".safetensors"):
            raise UserError(
                f"{index} names {name!r}, but must name files .safetensors that lie beside it."
            )
    shards = sorted(set(named.values()))
    for name in shards:
        if not (folder / name).is_file():
            raise UserError(f"{index} names {name}, but {folder} does not have it.")
    return [index, *(folder / name for name in shards)]


def _public(folder: Path, name: str) -> HubFile:
    """A file as it is; a configuration without folders, and a text without the tokens that are in use."""
    path = folder / name
    if path.suffix == ".safetensors" or path.stat().st_size > LARGEST_TEXT:
        return HubFile(name, path)
    before = content = read_bytes(path)
    if name in _CONFIGURATIONS:
        values = read_json(path)
        public = public_file(values)
        if public != values:
            content = (json.dumps(public, indent=2) + "\n").encode()
    content = without_tokens_in_use(content)
    return HubFile(name, path if content == before else content)


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
    written = read_text(path) if path.is_file() else None
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
        raise UserError(f"{path} is no valid model card: {one_line(error)}.") from None
    return written
