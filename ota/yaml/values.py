"""Single values of a YAML file that people write: text, names, numbers, durations, switches.

Each function takes a node and returns a checked value, or raises ``Malformed`` that names file,
line, key and what was expected.
"""

from __future__ import annotations

import re

from ota.yaml.strict import Node
from signing import strict

_INT = re.compile(r"-?[0-9]{1,9}")
DURATION = re.compile(r"(?:[0-9]{1,6}[wdhms])+")
_PART = re.compile(r"([0-9]+)([wdhms])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MAX_SECONDS = 10 * 365 * 86400


def scalar(node: Node, expected: str) -> str:
    """The text of a scalar that is not null."""
    if node.text is None or (node.plain and node.text in {"", "~", "null"}):
        node.fail(f"expected {expected}, found {node.shown}")
    return node.text


def identifier(node: Node) -> str:
    """An identifier (rule 14)."""
    text = scalar(node, "a name")
    if not strict.IDENTIFIER.fullmatch(text):
        node.fail(f"expected {strict.IDENTIFIER.pattern}, found {node.shown}")
    return text


def integer(node: Node, low: int, high: int) -> int:
    """A whole number within these bounds, unquoted."""
    expected = f"a whole number from {low} to {high}"
    text = scalar(node, expected)
    if not node.plain or not _INT.fullmatch(text) or not low <= int(text) <= high:
        node.fail(f"expected {expected}, found {node.shown}")
    return int(text)


def duration(node: Node) -> int:
    """Whole seconds."""
    expected = "a duration such as 90s, 10m, 1h30m or 7d"
    text = scalar(node, expected)
    if not DURATION.fullmatch(text):
        node.fail(f"expected {expected}, found {node.shown}")
    seconds = sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(text))
    if seconds > _MAX_SECONDS:
        node.fail("expected at most ten years")
    return seconds


def switch(node: Node) -> bool:
    """``true`` or ``false``, unquoted."""
    if node.text not in {"true", "false"} or not node.plain:
        node.fail(f"expected true or false, found {node.shown}")
    return node.text == "true"
