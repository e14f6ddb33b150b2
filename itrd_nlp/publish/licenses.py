"""The license of a model: read from the card of the model that it comes from, and written as the Hub spells it.

A license is read before a training of hours and written after it. So nothing here refuses what somebody else's card
says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.repocard import REGEX_YAML_BLOCK
from transformers.utils import cached_file

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_text
from itrd_nlp.training.yaml_files import parse_yaml

CARD_NAME = "README.md"
OTHER = "other"
"""The Hub's identifier of every license that it does not list. The field ``license_name`` then has the name."""

# https://huggingface.co/docs/hub/repositories-licenses
_LISTED = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr
    llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw
    openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unlicense wtfpl zlib
"""
IDENTIFIERS = frozenset(_LISTED.split())
_FORM = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_SAYS_NOTHING = re.compile(r"(?:^|(?<=-))(?:the|licen[sc]e|version)(?:-|$)")  # MIT License


class License(NamedTuple):
    """A license as the metadata of a card name it.

    Attributes:
        identifier: of the Hub, ``other`` for a license that it does not list.
        name: the name of such a license; None for all others.
    """

    identifier: str
    name: str | None = None


def license_of(model: str | Path, revision: str | None = None) -> str | None:
    """The license that the card of a model names.

    Args:
        model: folder or model id.
        revision: branch, tag or commit of a model id. Default: its main branch.

    Returns:
        The license as an identifier of the Hub where it is one, else as the card has it. Several licenses are one text,
        separated by commas. None where the card is missing, cannot be read or fetched, or names no license.
    """
    path: str | Path | None = Path(model) / CARD_NAME
    try:
        if not Path(model).exists():
            path = cached_file(str(model), CARD_NAME, revision=revision)
        block = REGEX_YAML_BLOCK.search(read_text(path)) if path is not None else None
        metadata = parse_yaml(block[2]) if block else None
    except (
        Exception
    ):  # no training ends for want of a card, and a broken connection has many errors
        return None
    if not isinstance(metadata, dict):
        return None
    found = _texts(metadata.get("license"))
    if found == [OTHER]:  # the name says more
        found = _texts(metadata.get("license_name")) or found
    return ", ".join(_known(text) or text for text in found) or None


def recorded_license(text: str | None) -> License | None:
    """The license of a record, which may be of any spelling.

    Example:
        >>> recorded_license("CC BY-SA 4.0"), recorded_license("Our Own License")
        (License(identifier='cc-by-sa-4.0', name=None), License(identifier='other', name='our-own-license'))
    """
    if text is None or not text.strip():
        return None
    known = _known(text)
    if known is not None:
        return License(known)
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
    return License(OTHER, name[:96] or None)


def chosen_license(text: str) -> License:
    """The license that somebody asks for. The Hub has the last word on an identifier that is not in the list above.

    Raises:
        UserError: the text does not have the form of an identifier.
    """
    if not _FORM.fullmatch(text.lower()):
        known = _known(text)
        meant = f"; did you mean {known}?" if known else " such as apache-2.0, mit or other."
        raise UserError(f"license is {text!r}, but must be an identifier of the Hub{meant}")
    return License(text.lower())


def _known(text: str) -> str | None:
    """The identifier that a text means, None where it means none."""
    words = re.sub(r"[\s,_-]+", "-", text.strip().lower())
    return next(
        (w for w in (words, _SAYS_NOTHING.sub("", words).strip("-")) if w in IDENTIFIERS), None
    )


def _texts(value: Any) -> list[str]:
    """A text, or a list of texts, as texts of one line."""
    values = value if isinstance(value, list) else [value]
    lines = [" ".join(text.split()) for text in values if isinstance(text, str)]
    return [line[:200] for line in lines[:20] if line]
