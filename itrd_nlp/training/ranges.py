"""The allowed values of an argument. The metadata of its field says them once.

alpha: float = field(default=1.01, metadata={"help": "...", "range": Range(above=0)})
corr_view: str = field(default="tokens", metadata={"help": "...", "choices": ["tokens", "pooled"]})
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from itrd_nlp.errors import UserError

LARGEST = 2**31 - 1
"""The largest whole number where a range names none: libraries keep numbers in 32 bits, or make as many of a thing."""


@dataclass(frozen=True)
class Range:
    """The range of a number.

    Attributes:
        least: the smallest value, included.
        above: the values are larger than this one.
        most: the largest value, included.
        below: the values are smaller than this one.
        whole: the number is an integer, and no larger than `LARGEST` where ``most`` and ``below`` are None.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        try:
            finite = math.isfinite(value)
        except OverflowError:  # a whole number beyond every float
            return False
        return (
            finite
            and (not self.whole or value == int(value))
            and (not self.whole or self.is_bounded or abs(value) <= LARGEST)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    @property
    def is_bounded(self) -> bool:
        """Whether the range names a largest value."""
        return self.most is not None or self.below is not None

    def __str__(self) -> str:
        if self.below is not None:
            return f"at least {self.least:g} and below {self.below:g}"
        if self.most is not None:
            return f"from {self.least:g} to {self.most:.10g}"
        if self.above is not None:
            return f"a finite number > {self.above:g}"
        return f"at least {self.least:g}" if self.whole else f"a finite number >= {self.least:g}"


COUNT = Range(least=1, whole=True)
COUNT_FROM_0 = Range(least=0, whole=True)
SEED = Range(least=0, most=2**32 - 1, whole=True)  # numpy takes no other
BATCH = Range(least=1, most=2**20, whole=True)  # torch makes a list of this length
PROCESSES = Range(least=1, most=1024, whole=True)


def check_values(args: Any, more: Mapping[str, Range] | None = None) -> None:
    """Refuse a value outside of the range or the choices that its field names, also one in a list or a mapping.

    Args:
        args: an instance of a dataclass.
        more: name of a field to its range, for fields whose metadata cannot say it.

    Raises:
        UserError: names the argument, the value and what is allowed.
    """
    for f in fields(args):
        value = getattr(args, f.name)
        allowed = f.metadata.get("range", (more or {}).get(f.name))
        if allowed is not None:
            if value is None and f.default is not None and "range" in f.metadata:
                raise UserError(f"{f.name} is None, but must be {allowed}.")
            _check_number(f.name, value, allowed)
        choices = f.metadata.get("choices")
        if choices is None or value is None:  # None stands for a default that is found later
            continue
        if isinstance(value, list):
            for one in value:
                if one not in choices:
                    raise UserError(f"{f.name} name {one!r}, but must be of {', '.join(choices)}.")
        elif value not in choices:
            raise UserError(f"{f.name} is {value!r}, but must be one of {', '.join(choices)}.")


def _check_number(name: str, value: Any, allowed: Range) -> None:
    parts: Iterable[tuple[str, Any]] = [(f"{name} is", value)]
    if isinstance(value, list | tuple):
        parts = [(f"{name} has", one) for one in value]
    elif isinstance(value, Mapping):
        parts = [(f"{key} of {name} is", one) for key, one in value.items()]
    for said, one in parts:
        if isinstance(one, str):
            raise UserError(f"{said} {one!r}, but must be {allowed}.")
        if isinstance(one, int | float) and one not in allowed:
            bounds = str(allowed)
            if allowed.whole and not allowed.is_bounded and one > LARGEST:
                bounds += f" and at most {LARGEST}"
            raise UserError(f"{said} {_short(one)}, but must be {bounds}.")


def _short(number: float) -> str:
    """A number as a sentence quotes it: Python refuses to write whole numbers of thousands of digits."""
    try:
        return str(number)
    except ValueError:
        return "a number of thousands of digits"
