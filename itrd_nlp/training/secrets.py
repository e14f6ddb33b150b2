"""Secret arguments, and a text that no pickle holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import SHORTEST_SECRET

_ENDINGS = ("token", "password", "secret")


def is_secret_name(name: str) -> bool:
    """Return whether an argument, an option or a key of this name holds a secret.

    Example:
        >>> is_secret_name("hub_token"), is_secret_name("--hub-token"), is_secret_name("max_tokens")
        (True, True, False)
    """
    return name.lower().endswith(_ENDINGS)


class Secret(str):
    """A text that becomes None when it is pickled.

    Trainers of transformers pickle their arguments into ``training_args.bin``, beside every model and checkpoint.
    """

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __repr__(self) -> str:
        return "'***'"


def secret_fields(arguments: Any) -> Iterator[tuple[str, str]]:
    """Name and value of each secret that is given in an instance of a dataclass."""
    for f in fields(arguments):
        value = getattr(arguments, f.name, None)
        if is_secret_name(f.name) and isinstance(value, str):
            yield f.name, value


def refuse_copies(arguments: Any) -> None:
    """Refuse a secret that is the value of another argument, too, such as a name in YAML that both refer to.

    Args:
        arguments: an instance of a dataclass.

    Raises:
        UserError: names both arguments, and not the secret.
    """
    for name, secret in secret_fields(arguments):
        if len(secret) < SHORTEST_SECRET:
            continue
        for f in fields(arguments):
            value = getattr(arguments, f.name, None)
            if not is_secret_name(f.name) and isinstance(value, str) and secret in value:
                raise UserError(
                    f"{f.name} holds the value of {name}, which files and trackers would then show; give {f.name} a "
                    "value of its own."
                )


def hide_secrets(arguments: Any) -> None:
    """Make every secret of an instance of a dataclass a `Secret`, in place."""
    for name, value in list(secret_fields(arguments)):
        setattr(arguments, name, Secret(value))
