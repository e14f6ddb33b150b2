"""One sentence for every way in which the Hub refuses a request or cannot be reached."""

from __future__ import annotations

import contextlib
import json
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import get_session, parse_ratelimit_headers

from itrd_nlp.errors import UserError
from itrd_nlp.publish.privacy import without_tokens

LONGEST_WAIT = 60
"""Seconds. A rate limit that asks for more is left to the user."""
TRIES = 3
"""Number of times that a request is sent which a rate limit refuses."""
_NO_HUB = (json.JSONDecodeError, LookupError, TypeError, AttributeError)
"""The errors of huggingface_hub about an answer that is no JSON, or JSON of another shape."""
_STATUS_OF_XET = re.compile(r"HTTP status \w+ error \((\d{3})\b")
_URL = re.compile(r"(\w+://)(?:[^\s/]*@)?([^\s/?#'\")]+)[^\s'\")]*")
_AGAIN = "run the same command again"
_NOT_TWICE = "what has arrived is not sent twice"
_LOG_IN = "log in by `hf auth login` with a token that may write"

T = TypeVar("T")


@contextlib.contextmanager
def hub_errors() -> Iterator[None]:
    """Turn an error between here and the Hub into one sentence that says what to do.

    A rate limit that asks for up to 60 seconds is waited for by huggingface_hub; a longer one is refused at once.

    Raises:
        UserError: no permission, no such repository, a conflict, a rate limit, a fault of the server or of the network,
            a file that arrived damaged, or HF_HUB_OFFLINE. Without the cause, which holds the token in its headers.
    """
    hooks = get_session().event_hooks["response"]
    answered: list[str] = []  # by whom, the last one at the end

    def look(response: Any) -> None:
        answered.append(str(response.request.url.host))
        _refuse_long_wait(response)

    hooks.append(look)
    try:
        yield
    except Exception as error:
        sentence = _sentence(error, answered[-1] if answered else None)
        if sentence is None:
            raise
        raise UserError(sentence) from None
    finally:
        hooks.remove(look)


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


def patiently(call: Callable[[], T]) -> T:
    """Make a call, and again after a fault that may pass.

    A rate limit is waited for as long as it asks, up to `TRIES` times in all. After a fault of the server, a broken
    connection or an answer that is no JSON, the call is made once more, a second later. huggingface_hub repeats some
    requests itself, not those that create something.
    """
    was_repeated = False
    for _ in range(TRIES - 1):
        try:
            return call()
        except OfflineModeIsEnabled:
            raise
        except (HTTPError, ConnectionError, TimeoutError, json.JSONDecodeError) as error:
            status = _status(error)
            if isinstance(error, HfHubHTTPError) and status == 429:
                seconds = _wait(error.response.headers)
            else:
                passes = not was_repeated and (status is None or status >= 500)
                seconds, was_repeated = 0 if passes else None, True
            if seconds is None:
                raise
        time.sleep(seconds + 1)
    return call()


def _sentence(error: BaseException, answered: str | None) -> str | None:
    """The sentence for the user, None for an error that has nothing to do with the Hub.

    Args:
        error: the error.
        answered: the host of the last answer, None where there was none.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so nothing can be sent; unset it and {_AGAIN}."
        status = _status(cause)
        if status is not None:
            uploading = next((c for c in causes if "Error while uploading" in str(c)), None)
            return _refused(cause, status, uploading)
        if isinstance(cause, HTTPError | ConnectionError | TimeoutError):
            # Links to a storage are signed, so of a URL its host alone is shown.
            reason = _URL.sub(r"\1\2", one_line(cause)) or type(cause).__name__
            return (
                f"the connection to {_host(cause)} failed ({reason}); check the network, "
                f"and HF_ENDPOINT if it is set, and {_AGAIN}: {_NOT_TWICE}."
            )
        if isinstance(cause, LocalTokenNotFoundError | PermissionError) and not _errno(cause):
            return f"the Hub wants to know who you are: {_LOG_IN}, and {_AGAIN}."
        if isinstance(cause, UnicodeEncodeError):  # of a header
            return f"the access token has characters that no token has: {_LOG_IN}, and {_AGAIN}."
        if answered and isinstance(cause, _NO_HUB) and _is_of_the_client(cause):
            return (
                f"{answered} answered with something that is no JSON of a Hub, so it is none or has a problem of its "
                f"own; check HF_ENDPOINT if it is set, and {_AGAIN} in some minutes."
            )
        if isinstance(cause, HFValidationError):
            return f"{one_line(cause)}."
        if isinstance(cause, ValueError) and "metadata in README.md" in str(cause):
            return f"the Hub refuses the card: {one_line(cause)}; correct it and {_AGAIN}."
        if isinstance(cause, ValueError) and "LFS batch API" in str(cause):
            return f"the Hub refuses to store the weights: {one_line(cause)}; {_AGAIN}."
    return None


def _status(error: BaseException) -> int | None:
    """The status with which the Hub, or its storage, refused a request. None where it did not answer at all."""
    if isinstance(error, HfHubHTTPError):
        return int(error.response.status_code)
    # Xet knows connection errors alone, and names the status in the text.
    found = _STATUS_OF_XET.search(str(error))
    return int(found[1]) if found else None


def _is_of_the_client(error: BaseException) -> bool:
    """Whether huggingface_hub, or the reader of its JSON, raised an error, and no code of this package."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    module = frames[-1].f_globals.get("__name__", "") if frames else ""
    return str(module).partition(".")[0] in ("huggingface_hub", "json")


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__


def _refused(error: Any, status: int, uploading: BaseException | None) -> str:
    """A sentence about a status that the Hub, or its storage, answered with."""
    where, message = _host(error), getattr(error, "server_message", None)
    said = f"{status}: {one_line(message)}" if message else f"{status}"
    if status == 401:
        return f"{where} does not know you ({said}): {_LOG_IN}, and {_AGAIN}."
    if status == 403:
        return (
            f"{where} does not let you do this ({said}): choose a name below your own account or an organisation of "
            f"yours, or {_LOG_IN}, and {_AGAIN}."
        )
    if status == 429:
        return _rate_limited(getattr(error, "response", None))
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


def _rate_limited(response: Any | None) -> str:
    seconds = None if response is None else _wait(response.headers)
    where = "the Hub" if response is None else response.request.url.host
    wait = "some minutes" if seconds is None else f"{seconds} seconds"
    return f"{where} allows no more requests for now (429): wait {wait} and {_AGAIN}."


def _host(error: Any) -> str:
    """The host of a request. The rest of its URL is never shown, because links to a storage are signed."""
    try:
        request = error.response.request if isinstance(error, HfHubHTTPError) else error.request
    except (AttributeError, RuntimeError):  # an error from elsewhere, or before there was a request
        return "the Hub"
    return str(request.url.host) or "the Hub"


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def one_line(text: object) -> str:
    """The text of an error in a line of at most 200 characters, without anything that looks like a token."""
    line = " ".join(without_tokens(str(text)).split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:200]}..."
