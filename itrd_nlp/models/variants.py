"""Classes of transformers with a forward of our own, under their own names.

A model of such a class has the weights and the configuration of an ordinary one, so that its files are ordinary, too.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

from transformers import MODEL_MAPPING, PreTrainedModel
from transformers.utils.generic import ModelOutput

from itrd_nlp.errors import UserError


def class_of(mapping: Any, config: Any, name: str, part: str) -> Any:
    """Return the class of transformers for a configuration, the first of several.

    Args:
        mapping: from configurations to classes, such as ``MODEL_MAPPING``.
        config: of the model.
        name: folder or id of the model, for the sentence.
        part: what the architecture must have, such as ``encoder``.

    Raises:
        UserError: it has none.
    """
    if type(config) not in mapping:
        raise UserError(f"{name} is a {config.model_type}, which has no {part} in transformers.")
    found = mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def encoder_class_of(config: Any, name: str) -> Any:
    """Return the class of transformers for an encoder without a head.

    Args:
        config: of the model.
        name: folder or id of the model, for the sentence.

    Raises:
        UserError: there is none, or the model has a decoder, too, whose states are of the text that it writes.
    """
    found = class_of(MODEL_MAPPING, config, name, "encoder")
    if config.is_encoder_decoder:
        raise UserError(
            f"{name} is a {config.model_type}, which writes text by a decoder, but must be an encoder alone."
        )
    return found


def variant(base: type[PreTrainedModel], part: type, added: str) -> type[PreTrainedModel]:
    """Return a subclass whose forward is that of ``part``, which calls the one of ``base``.

    Args:
        base: a class of transformers such as ``BertModel``.
        part: a class with the forward.
        added: name of the argument that this forward has beside those of ``base``.
    """
    made = cast(type[PreTrainedModel], type(base.__name__, (part, base), {}))
    own: Any = part.__dict__["forward"]
    signature = inspect.signature(base.forward)
    kept = [
        p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD and p.name != added
    ]
    argument = inspect.Parameter(added, inspect.Parameter.KEYWORD_ONLY, default=None)

    @functools.wraps(own)
    def forward(self: Any, *args: Any, **kwargs: Any) -> ModelOutput:
        bound = dict(zip([p.name for p in kept[1:]], args, strict=False))
        found: ModelOutput = super(made, self).forward(**bound, **kwargs)
        return found

    # Collators, trainers and exporters ask the signature what a model reads.
    forward.__signature__ = signature.replace(parameters=[*kept, argument])  # type: ignore[attr-defined]
    made.forward = forward
    return made
