"""The argument ``peer_losses``: dotted paths of classes, and their weights."""

from __future__ import annotations

from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json
from itrd_nlp.losses.peers import load_peer, term_name


def parsed_peer_losses(value: Any) -> dict[str, float]:
    """Return the argument ``peer_losses`` as a mapping.

    Args:
        value: a mapping from dotted paths to weights, the same as JSON, or None for no losses.

    Raises:
        UserError: it is no such mapping, a class does not exist, or a weight is no number above 0.
    """
    given = value
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            value = None
    elif value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(
            f"peer_losses is {given!r}, but must map dotted paths of classes to weights, on the command line as a JSON "
            "object such as '{\"itrd_nlp.losses.peers.PatientKD\": 10}'."
        )
    paths: dict[str, str] = {}
    for path, weight in value.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < float("inf"):
            raise UserError(
                f"peer_losses gives {path} the weight {weight!r}, but it must be a finite number > 0."
            )
        name = term_name(load_peer(str(path)))
        if name in paths:
            raise UserError(
                f"peer_losses names {paths[name]} and {path}, which would both be {name} in the log; one needs another "
                "name."
            )
        paths[name] = path
    return {path: float(weight) for path, weight in value.items()}
