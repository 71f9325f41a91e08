"""What an operator says about a device: courier and labels, in files or on the command line.

Label keys and values follow the Kubernetes label syntax: an optional DNS prefix and a name of
at most 63 characters. ``id``, ``state`` and ``courier`` are reserved, because selectors read
them as properties of the device itself.

>>> Entry("dev-1", courier="spool", labels={"site": "lyon", "old": None})   # None removes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ota.errors import Malformed
from signing import strict

PSEUDO = ("id", "state", "courier")
"""Selector keys that are not labels."""
MAX_LABELS = 64
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Entry:
    """One row about one device. ``key`` is a key id (64 hex) or "", ``where`` names the row."""

    id: str
    key: str = ""
    courier: str = ""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    where: str = ""


def check_key(key: str, where: str = "label") -> str:
    """Return ``key`` if it is a label key, else raise ``Malformed`` naming ``where``."""
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise Malformed(f"{where}: {key!r:.80} is not a label key", subject=where)
    if key in PSEUDO:
        raise Malformed(f"{where}: {key!r} is a property of the device, not a label", subject=where)
    return key


def check_value(value: str, where: str = "label") -> str:
    """Return ``value`` if it is a label value (may be empty), else raise ``Malformed``."""
    if value and not _NAME.fullmatch(value):
        raise Malformed(f"{where}: {value!r:.80} is not a label value", subject=where)
    return value


def merged(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """``labels`` with ``changes`` checked and applied; ``None`` removes. Raises ``Malformed``."""
    result = dict(labels)
    for key, value in changes.items():
        check_key(key)
        if value is None:
            result.pop(key, None)
        else:
            result[key] = check_value(value, f"label {key}")
    if len(result) > MAX_LABELS:
        raise Malformed(f"labels: {len(result)} of them, the limit is {MAX_LABELS}")
    return result


def check_courier(name: str, where: str = "courier") -> str:
    """Return a courier's name, or ""; raises ``Malformed``."""
    return strict.identifier(name, where) if name else name
