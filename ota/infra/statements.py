"""One policy document, read strictly: an element that is not known here is an error.

Source: IAM JSON policy elements reference, and AWS IoT Core policies, which use the same form.

>>> read({"Version": "2012-10-17", "Statement": [...]}, "roles: Publisher")[0].actions
('s3:GetObject',)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ota.errors import Malformed

_KNOWN: Final = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
_ACTION: Final = re.compile(r"[a-z0-9-]+:[A-Za-z*?]+")
Conditions = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Statement:
    """``conditions`` is operator -> key -> values; ``principals`` "*", or kind and name."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...]
    conditions: Conditions


def read(document: Any, where: str) -> tuple[Statement, ...]:
    """The statements of a policy; ``Malformed`` names what is not understood."""
    if not isinstance(document, dict) or document.get("Version") != "2012-10-17":
        raise _bad(where, 'Version is not "2012-10-17"')
    found = document.get("Statement")
    rows = found if isinstance(found, list) else [found]
    return tuple(_statement(row, f"{where}, statement {n}") for n, row in enumerate(rows, 1))


def _statement(row: Any, where: str) -> Statement:
    if not isinstance(row, dict):
        raise _bad(where, "is not a mapping")
    unknown = set(row) - _KNOWN
    if unknown:
        raise _bad(where, f"{min(unknown)} is not understood here")
    if row.get("Effect") not in {"Allow", "Deny"}:
        raise _bad(where, "Effect is neither Allow nor Deny")
    actions = _texts(row.get("Action"), where, "Action")
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise _bad(where, f"{action!r:.80} is not an action")
    principals = _principals(row.get("Principal"), where)
    resources = (
        ("*",)
        if principals and "Resource" not in row
        else _texts(row.get("Resource"), where, "Resource")
    )
    sid = row.get("Sid", "")
    return Statement(
        sid if isinstance(sid, str) else "",
        row["Effect"] == "Allow",
        actions,
        resources,
        principals,
        _conditions(row.get("Condition", {}), where),
    )


def _texts(value: Any, where: str, what: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise _bad(where, f"{what} is not text or a list of texts")
    return tuple(items)


def _principals(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if value == "*":
        return ("*",)
    if not isinstance(value, dict) or not set(value) <= {"AWS", "Service"}:
        raise _bad(where, "Principal is neither *, AWS nor Service")
    return tuple(name for kind in value for name in _texts(value[kind], where, "Principal"))


def _conditions(value: Any, where: str) -> Conditions:
    if not isinstance(value, dict):
        raise _bad(where, "Condition is not a mapping")
    return {
        str(operator): {str(key): _texts(wanted, where, str(key)) for key, wanted in keys.items()}
        for operator, keys in value.items()
        if isinstance(keys, dict) or _fail(where, operator)
    }


def _fail(where: str, operator: object) -> bool:
    raise _bad(where, f"{operator} is not a mapping")


def _bad(where: str, what: str) -> Malformed:
    return Malformed(f"{where}: {what}", subject=where)
