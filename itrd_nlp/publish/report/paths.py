"""Keep folders, which may name users and machines, out of a page that others will read."""

from __future__ import annotations

import re

_ABSOLUTE = r"(?:~(?:[A-Za-z_][\w.-]*)?/|/|[A-Za-z]:[\\/])"
_PATTERNS = (
    # in quotes, where it may hold spaces
    re.compile(rf"(?P<before>[\"']){_ABSOLUTE}(?P<path>[^\"'\n]*)(?=[\"'])"),
    # the value of a line of YAML, likewise
    re.compile(
        rf"(?m)(?P<before>(?::|^[ \t]*-)[ \t]+){_ABSOLUTE}(?P<path>[^\"'\n#]*?)(?=\s*(?:#|$))"
    ),
    # anywhere else; not within a relative path or behind the scheme of a URL
    re.compile(
        rf"(?<![\w/.~<\\-])(?!(?<=:)//)(?P<before>)(?:file://)?{_ABSOLUTE}(?P<path>[^\s\"',;\])}}]+)"
    ),
)


def base_names(text: str) -> str:
    """Replace every absolute path in a text by its last part. Relative paths and URLs stay.

    Example:
        >>> base_names("train.py --teacher /home/ada/teacher --output_dir runs/t3")
        'train.py --teacher teacher --output_dir runs/t3'
    """
    for pattern in _PATTERNS:
        text = pattern.sub(_last_part, text)
    return text


def _last_part(match: re.Match[str]) -> str:
    return match["before"] + re.split(r"[\\/]", match["path"].rstrip("\\/"))[-1]
