"""Condition operators of IAM and AWS IoT, as far as the shipped policies use them.

Source: IAM JSON policy elements, condition operators. An operator that is not here raises: an
evaluator that guesses is worse than none. Values in a request are texts; a key that the request
lacks is absent. Operators of one statement and keys of one operator must all hold; of a key's
values one must. A *negated* operator holds for an absent key, ``...IfExists`` as well.

>>> holds({"StringEquals": {"aws:SourceVpce": ("vpce-1",)}}, {"aws:SourceVpce": "vpce-1"}, str)
True
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from ota.errors import Malformed
from ota.infra.statements import Conditions

Context = Mapping[str, str]
Fill = Callable[[str], str]
"""Replaces policy variables of one text by the request's values."""


@cache
def pattern(text: str) -> re.Pattern[str]:
    """IAM's wildcards: ``*`` any run of characters, ``?`` one."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text)
    return re.compile("".join(parts), re.DOTALL)


def like(wanted: str, found: str) -> bool:
    """Whether ``found`` fits a pattern with wildcards."""
    return pattern(wanted).fullmatch(found) is not None


def _equal(wanted: str, found: str) -> bool:
    return wanted == found


def _same_case(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower()


def _less(wanted: str, found: str) -> bool:
    return float(found) < float(wanted)


_TESTS: Final[dict[str, tuple[Callable[[str, str], bool], bool]]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringLike": (like, False),
    "StringNotLike": (like, True),
    "ArnEquals": (like, False),
    "ArnNotEquals": (like, True),
    "ArnLike": (like, False),
    "ArnNotLike": (like, True),
    "Bool": (_same_case, False),
    "NumericLessThan": (_less, False),
}
"""Operator -> (test of one wanted and one found value, whether it is negated)."""


def holds(conditions: Conditions, context: Context, fill: Fill) -> bool:
    """Whether every operator holds; ``Malformed`` for one that is not known here."""
    return all(
        _key(operator, key, [fill(w) for w in wanted], context)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _key(operator: str, key: str, wanted: list[str], context: Context) -> bool:
    found = _lookup(context, key)
    if operator == "Null":
        return (found is None) == (wanted == ["true"])
    name = operator.removesuffix("IfExists")
    if name not in _TESTS:
        raise Malformed(f"condition operator {operator} is not understood here", subject=operator)
    test, negated = _TESTS[name]
    if found is None:
        return negated or operator != name
    return any(test(w, found) for w in wanted) != negated


def _lookup(context: Context, key: str) -> str | None:
    """Keys are compared without regard to case."""
    lowered = key.lower()
    return next((v for k, v in context.items() if k.lower() == lowered), None)
