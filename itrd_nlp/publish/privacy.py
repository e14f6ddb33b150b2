"""The one place that knows private data and takes them out.

Private are

- **secrets**: tokens, passwords and whatever else an option or a key names that ends in ``token``, ``password`` or
  ``secret``. They are not recorded: an option of such a name is masked, a key of such a name is left out. Behind that
  is a net by value, `tokens_in_use`, and one by shape for the tokens of the Hub that nobody gave to this process;
- **folders** above a file, because they name users, machines and projects. Of an absolute path, or one that leads
  upwards through other folders, the last part is kept, so that a reader knows which file is meant;
- the **name of this host**, and folders below one of this **user's** name. A host whose name is a plain word, such as
  dev or bert, is not meant in the names of files, models and commands.

Paths below the current folder stay, because a command does not work without them, and so do URLs and ids of the Hub.

Secrets are taken out of everything, also of what stays on this machine (`local_command`, `local_config`, and
`itrd_nlp.files.write_text` after `keep_tokens_out`). Folders and names are taken out of what others read: cards,
results that are pushed, reports (`public_text`, `public_command`, `public_config`, `public_value`, `public_file`).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants

from itrd_nlp.errors import UserError
from itrd_nlp.files import (
    MASK,
    SHORTEST_SECRET,
    keep_out,
    kept_out,
    parse_json,
    read_text,
    without,
)
from itrd_nlp.training.secrets import is_secret_name, secret_fields
from itrd_nlp.training.yaml_files import dump_yaml, parse_yaml

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# Where libraries note the folder that something was loaded from.
PATH_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")

# Tokens of users and of organisations; those of OAuth and of single jobs, which hold more than letters.
_TOKEN = re.compile(
    r"\b(?:(?:hf|api_org)_[A-Za-z0-9]{16,}|hf_(?:oauth|jwt)_[\w.-]{15,}[\w-])", re.ASCII
)
_NAME = r"[\w-]*(?:token|password|secret)"
_SECRETS_IN_TEXT = (
    # --hub_token VALUE
    re.compile(rf"(?i)(?P<before>--{_NAME}(?:=|[ \t]+))(?:'[^'\n]*'|\"[^\"\n]*\"|\S+)"),
    # hub_token: VALUE as a line of its own, and {"hub_token": VALUE} within one
    re.compile(rf"(?im)(?P<before>^[ \t]*(?:-[ \t]+)?[\"']?{_NAME}[\"']?[ \t]*:[ \t]*)[^\n]+$"),
    re.compile(
        rf"(?i)(?P<before>[{{,][ \t]*[\"']?{_NAME}[\"']?[ \t]*:[ \t]*)"
        r"(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s,}]+)"
    ),
)

# A path from the root, from a home, from a drive or a server, or upwards, be it after a folder or two.
_START = r"(?:~(?:[A-Za-z_][\w.-]*)?/|/|[A-Za-z]:[\\/]|\\\\|(?:[\w.-]+/)*\.\./)"
_PATHS = (
    # in quotes, where it may hold spaces
    re.compile(rf"(?P<before>[\"'])(?P<path>{_START}[^\"'\n]+)(?=[\"'])"),
    # the value of a line of YAML, likewise
    re.compile(
        rf"(?m)(?P<before>(?::|^[ \t]*-)[ \t]+)(?P<path>{_START}(?=\S)[^\n]*?)(?=[ \t]+#|[ \t]*$)"
    ),
    # Anywhere else. What follows a letter, or the scheme of a URL, is a quotient, a relative path or the URL.
    re.compile(
        r"(?<![\w/.~<\\-])(?!(?<=:)//)(?P<before>)"
        rf"(?P<path>(?:\w+://)?{_START}[^\s\"'`,;|<>\])}}]+)"
    ),
)
_WHOLE_PATH = re.compile(rf"{_START}[^\n]*\Z")


# ---- secrets ----


def tokens_in_use(*arguments: Any) -> frozenset[str]:
    """The values of the tokens that this process could use. Nobody is asked for them, least of all a network.

    They are those of HF_TOKEN and HUGGING_FACE_HUB_TOKEN, of ``hf auth login``, of the arguments, and all that
    `itrd_nlp.files.keep_out` was told. A token of less than 8 characters is none, for it could be a part of any word.

    Args:
        *arguments: dataclasses, whose secret fields are read.
    """
    found = {os.environ.get(name, "") for name in TOKEN_VARIABLES}
    # get_token() of huggingface_hub would renew a token that ends soon, and ask a notebook for leave.
    with contextlib.suppress(UserError):  # missing; or a pipe, which would never end
        found.add(read_text(constants.HF_TOKEN_PATH))
    found.update(value for group in arguments for _, value in secret_fields(group))
    stripped = (token.strip() for token in found)
    return kept_out() | {token for token in stripped if len(token) >= SHORTEST_SECRET}


def keep_tokens_out(*arguments: Any) -> None:
    """From now on no file that `itrd_nlp.files.write_text` writes holds a token that is in use now.

    Args:
        *arguments: as those of `tokens_in_use`.
    """
    keep_out(*tokens_in_use(*arguments))


def keep_secrets_out(config: Mapping[str, Any]) -> None:
    """From now on neither a file nor a sentence of a command holds the values of the secret keys of a configuration."""
    keep_out(*(value.strip() for value in _secret_values(config)))


def without_tokens(text: str) -> str:
    """A text without tokens: those in use by their value, others by their shape."""
    return _TOKEN.sub(MASK, without(text, tokens_in_use()))


def holds_token(text: str) -> bool:
    """Whether `without_tokens` would change a text."""
    return without_tokens(text) != text


def without_tokens_in_use(content: bytes) -> bytes:
    """The content of a file without the tokens in use. Shapes are not looked for: a vocabulary holds all kinds."""
    for token in sorted(tokens_in_use(), key=len, reverse=True):
        content = content.replace(token.encode(), MASK.encode())
    return content


def _secret_values(value: Any) -> Iterator[str]:
    """The values of secret keys, at any depth of a JSON value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if is_secret_name(str(key)):
                yield str(item)
            else:
                yield from _secret_values(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_values(item)


def _without_secrets(value: Any, secrets: frozenset[str]) -> Any:
    """A JSON value without secret keys, and without these secrets anywhere else."""
    if isinstance(value, Mapping):
        return {
            key: _without_secrets(item, secrets)
            for key, item in value.items()
            if not is_secret_name(str(key))
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(item, secrets) for item in value]
    return without_tokens(without(value, secrets)) if isinstance(value, str) else value


def _long_enough(values: Iterator[str]) -> frozenset[str]:
    return frozenset(value for value in values if len(value) >= SHORTEST_SECRET)


# ---- what stays on this machine ----


def local_command(words: Sequence[str]) -> str:
    """A command as results.json keeps it, quoted for a shell: without secrets.

    Absolute paths below the current folder are written relative to it, and a script elsewhere loses its folder.

    Args:
        words: as in ``sys.argv``.

    Example:
        >>> local_command(["/opt/train.py", "a b.yaml", "--hub-token", "api_org_abc"])
        "train.py 'a b.yaml' --hub-token '***'"
    """
    script, *arguments = map(_below_here, _without_secret_options(words))
    if os.path.isabs(script):
        script = os.path.basename(script)
    # A sub-command, such as `itrd-nlp distil`, is two words.
    first = script.split(" ") if script.startswith("itrd-nlp ") else [script]
    return shlex.join([*first, *arguments])


def local_config(config: Mapping[str, Any]) -> str:
    """A configuration as results.json keeps it: the YAML of its values, without secrets.

    The text of the file is not kept. A secret has many spellings there, and its comments may hold another.
    """
    return dump_yaml(without_secrets(config))


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration without its secret keys, and without their values anywhere else."""
    cleaned: dict[str, Any] = _without_secrets(config, _long_enough(_secret_values(config)))
    return cleaned


def _without_secret_options(words: Sequence[str]) -> list[str]:
    """The words of a command, with `MASK` for the value of every secret option, however it is spelled."""
    secrets, masked = _secret_options(words)
    again = _long_enough(iter(secrets))
    return [without_tokens(without(word, again)) for word in masked]


def _secret_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of the secret options of a command, and its words with `MASK` in their places."""
    secrets, masked = [], []
    follows = False
    for word in words:
        flag, equals, value = word.partition("=")
        if follows:
            secrets.append(word)
            masked.append(MASK)
            follows = False
        elif equals and is_secret_name(flag):
            secrets.append(value)
            masked.append(f"{flag}={MASK}")
        else:
            masked.append(_without_secrets_in_json(word))
            follows = word.startswith("-") and is_secret_name(word)
    return secrets, masked


def secrets_of_command(words: Sequence[str]) -> list[str]:
    """The values of the secret options of a command, as it was typed and before it is parsed.

    Example:
        >>> secrets_of_command(["train.py", "--hub-token", "abc", "--other_token=d", "--seed", "1"])
        ['abc', 'd']
    """
    return _secret_options(words)[0]


def _without_secrets_in_json(word: str) -> str:
    """A word that is a JSON object, as options with a mapping take it, without its secret keys."""
    try:
        content = parse_json(word) if word.startswith("{") else None
    except ValueError:
        return word
    secrets = _long_enough(_secret_values(content))
    cleaned = _without_secrets(content, secrets)
    return word if cleaned == content else json.dumps(cleaned)


def _below_here(word: str) -> str:
    if not os.path.isabs(word):
        return word
    path = os.path.normpath(word)
    here = os.getcwd()
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else word


# ---- what others read ----


def public_text(text: str) -> str:
    """A text without secrets, folders above a file, and the names of this user and this host.

    Example:
        >>> public_text("see /home/ada/teacher and runs/t3")
        'see teacher and runs/t3'
    """
    text = without_tokens(text)
    for pattern in _SECRETS_IN_TEXT:
        text = pattern.sub(lambda match: match["before"] + MASK, text)
    if _WHOLE_PATH.match(text):
        text = last_part(text)  # a path as a whole, which may contain spaces
    for pattern in _PATHS:
        text = pattern.sub(lambda match: match["before"] + last_part(match["path"]), text)
    user = os.path.basename(os.path.expanduser("~"))
    if user:
        user, end = re.escape(user), r"[^\s'\"`,;]"
        # A path that begins with the name has three parts or more; of two parts it may be an id of the Hub.
        below = rf"[^\s'\"`=,;]*/{user}/{end}*|(?<![\w./-]){user}/{end}+/{end}+"
        text = re.sub(below, lambda match: last_part(match[0]), text)
    host = platform.node()
    if len(host) > 2 and host != "localhost":
        before, after = r"(?<!\w)", r"(?!\w)"
        if host.isalpha():  # dev-v1.1.json, models/bert and train-teacher are no hosts
            before, after = r"(?<![\w./-])", r"(?![\w/-]|\.\w)"
        text = re.sub(before + re.escape(host) + after, "host", text)
    return text


def public_command(command: str) -> str:
    """A command that was quoted for a shell, each of its words as `public_text` has it.

    A word in quotes keeps them, also where they are needed no longer.

    Example:
        >>> public_command("train.py --teacher /home/ada/teacher --output_dir runs/t3")
        'train.py --teacher teacher --output_dir runs/t3'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return public_text(command)
    return " ".join(
        _quoted(_public_word(word), was=before)
        for word, before in zip(_without_secret_options(words), words, strict=True)
    )


def _public_word(word: str) -> str:
    flag, equals, argument = word.partition("=")
    if equals and flag.startswith("--"):
        return flag + equals + public_text(argument)
    return public_text(word)


def _quoted(word: str, was: str) -> str:
    quoted = shlex.quote(word)
    return f"'{word}'" if quoted == word and shlex.quote(was) != was else quoted


def public_config(text: str) -> str:
    """The text of a configuration without anything private.

    One that this package wrote is read, cleaned by value, and written again. Of any other, such as an earlier version
    kept with its comments, the text stays as it is but for what is private in it.
    """
    try:
        content = parse_yaml(text)
    except yaml.YAMLError:
        return public_text(text)
    if not isinstance(content, dict):
        return public_text(text)
    if dump_yaml(content) == text:
        return dump_yaml(public_value(content))
    return public_text(without(text, _long_enough(_secret_values(content))))


def public_value(value: Any) -> Any:
    """A JSON value, such as the content of results.json, without anything private.

    Keys of secrets are left out. Texts are as `public_text` has them, a ``command`` as `public_command` and the text of
    a ``config`` as `public_config`.

    Example:
        >>> public_value({"command": "train.py --teacher /home/ann/models/teacher"})
        {'command': 'train.py --teacher teacher'}
    """
    if isinstance(value, Mapping):
        return {
            key: _public_item(str(key), item)
            for key, item in value.items()
            if not is_secret_name(str(key))
        }
    if isinstance(value, list | tuple):
        return [public_value(item) for item in value]
    return public_text(value) if isinstance(value, str) else value


def _public_item(key: str, item: Any) -> Any:
    if key == "command" and isinstance(item, str):
        return public_command(item)
    if key == "config" and isinstance(item, Mapping) and isinstance(item.get("text"), str):
        return public_value({**item, "text": ""}) | {"text": public_config(item["text"])}
    return public_value(item)


def public_file(content: Any) -> Any:
    """The configuration of a model or tokenizer without the folders that older libraries note in it, at any depth."""
    if isinstance(content, Mapping):
        return {k: public_file(value) for k, value in content.items() if k not in PATH_KEYS}
    if isinstance(content, list):
        return [public_file(item) for item in content]
    return content


def last_part(path: str) -> str:
    """The last part of a path. One upwards that passes through no folder by its name has nothing to hide.

    Example:
        >>> last_part("/home/ada/teacher/"), last_part("../ada/teacher"), last_part("../teacher")
        ('teacher', 'teacher', '../teacher')
    """
    parts = [part for part in re.split(r"[\\/]", path) if part]
    if ".." in parts and path[0] not in "/~\\":
        upwards = posixpath.normpath(path)  # a/../b is b, and a/../../b is ../b
        if upwards.replace("../", "").count("/") == 0:
            return upwards
    return parts[-1] if parts else "."
