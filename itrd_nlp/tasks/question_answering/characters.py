"""The characters that a token stands for in an answer: no white space at its ends, no half of what a reader sees."""

from __future__ import annotations

import numpy as np
import regex
from numpy.typing import NDArray

_WHITE_SPACE = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)


def whole_characters(context: str, offsets: NDArray[np.int32]) -> NDArray[np.int32]:
    """Trim the offsets of tokens, and widen them to whole grapheme clusters.

    SentencePiece counts the space before a word to its token, and some tokenizers make a token of spaces alone. Others
    leave out what their normaliser takes away, such as a combining mark, or cut an emoji of several characters into
    tokens. A span of such offsets begins with a space, or loses its accent.

    Args:
        context: the text.
        offsets: ``(T, 2)``, first character and the one after the last of each token, in the order of the text.

    Returns:
        ``(T, 2)``. Both numbers are equal where a token has white space alone: no answer begins or ends there.

    Example:
        >>> whole_characters("a cafe\u0301", np.array([[0, 1], [1, 2], [1, 6]], np.int32)).tolist()
        [[0, 1], [2, 2], [2, 7]]
    """
    count = len(context)
    codes = np.frombuffer(context.encode("utf-32-le"), dtype="<u4")
    visible = ~np.isin(codes, _WHITE_SPACE)
    places = np.arange(count)
    # Of each place the next visible character from there on, and the end of the last one before.
    begins = np.append(np.where(visible, places, count), count)
    begins = np.minimum.accumulate(begins[::-1])[::-1]
    ends = np.maximum.accumulate(np.append(0, np.where(visible, places + 1, 0)))
    first, last = begins[offsets[:, 0]], ends[offsets[:, 1]]
    nothing = first >= last
    first, last = np.where(nothing, offsets[:, 1], first), np.where(nothing, offsets[:, 1], last)
    if not context.isascii():
        to_begin, to_end = np.arange(count + 1), np.arange(count + 1)
        for begin, end in (match.span() for match in regex.finditer(r"\X", context)):
            if end - begin > 1 and begins[begin] < ends[end]:
                begin, end = begins[begin], ends[end]  # a mark may stand on a space
                to_begin[begin:end] = begin
                to_end[begin + 1 : end] = end
        first, last = to_begin[first], to_end[last]
    return np.stack((first, last), axis=1).astype(np.int32)
