"""The single values of a spec: names, numbers, durations, budgets, releases, strictly read.

Each function takes a node and returns a checked value, or raises ``Malformed`` that names file,
line, key and what was expected.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from ota.errors import Malformed
from ota.fleet import selectors
from ota.fleet.entries import check_key
from ota.rollout.strict_yaml import Node
from signing import strict
from signing.release import split_path

When = int | datetime
"""Seconds after the plan's creation, or a moment."""

_SLUG = re.compile(r"[a-z0-9-]{1,20}")
_INT = re.compile(r"[0-9]{1,9}")
_SHARE = re.compile(r"([0-9]{1,3})%")
_DURATION = re.compile(r"(?:[0-9]{1,6}[wdhms])+")
_PART = re.compile(r"([0-9]+)([wdhms])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MAX_SECONDS = 10 * 365 * 86400


def scalar(node: Node, expected: str) -> str:
    """The text of a scalar that is not null."""
    if node.text is None or (node.plain and node.text in {"", "~", "null"}):
        node.fail(f"expected {expected}, found {node.shown}")
    return node.text


def slug(node: Node) -> str:
    """A rollout's name: 1 to 20 of [a-z0-9-]."""
    text = scalar(node, "a name")
    if not _SLUG.fullmatch(text) or text.startswith("-"):
        node.fail(f"expected 1 to 20 of [a-z0-9-], found {node.shown}")
    return text


def identifier(node: Node) -> str:
    """An identifier (rule 14)."""
    text = scalar(node, "a name")
    if not strict.IDENTIFIER.fullmatch(text):
        node.fail(f"expected {strict.IDENTIFIER.pattern}, found {node.shown}")
    return text


def names(node: Node | None) -> tuple[str, ...]:
    """A list of identifiers; none when the key is missing."""
    return tuple(identifier(row) for row in node.sequence()) if node is not None else ()


def integer(node: Node, low: int, high: int) -> int:
    """A whole number within these bounds, unquoted."""
    expected = f"a whole number from {low} to {high}"
    text = scalar(node, expected)
    if not node.plain or not _INT.fullmatch(text) or not low <= int(text) <= high:
        node.fail(f"expected {expected}, found {node.shown}")
    return int(text)


def budget(node: Node) -> int | str:
    """A count, or a share such as ``"5%"``, in its shortest form."""
    expected = "a count such as 2 or a share such as 5%"
    text = scalar(node, expected)
    share = _SHARE.fullmatch(text)
    if share and int(share[1]) <= 100:
        return f"{int(share[1])}%"
    if not _INT.fullmatch(text):
        node.fail(f"expected {expected}, found {node.shown}")
    return int(text)


def duration(node: Node) -> int:
    """Whole seconds."""
    expected = "a duration such as 90s, 10m, 1h30m or 7d"
    text = scalar(node, expected)
    if not _DURATION.fullmatch(text):
        node.fail(f"expected {expected}, found {node.shown}")
    seconds = sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(text))
    if seconds > _MAX_SECONDS:
        node.fail("expected at most ten years")
    return seconds


def when(node: Node | None, default: int) -> When:
    """Seconds after creation, or a moment."""
    if node is None:
        return default
    if node.text is not None and _DURATION.fullmatch(node.text):
        return duration(node)
    try:
        return strict.instant(node.text)
    except Malformed:
        node.fail(f"expected a duration or a time like 2026-11-23T08:00:00Z, found {node.shown}")


def switch(node: Node) -> bool:
    """``true`` or ``false``, unquoted."""
    if node.text not in {"true", "false"} or not node.plain:
        node.fail(f"expected true or false, found {node.shown}")
    return node.text == "true"


def on_failure(node: Node | None) -> Literal["rollback", "hold"]:
    """``rollback`` (the default) or ``hold``."""
    if node is None or node.text == "rollback":
        return "rollback"
    if node.text != "hold":
        node.fail(f"expected rollback or hold, found {node.shown}")
    return "hold"


def selector(node: Node) -> str:
    """The text of a label selector that parses."""
    text = scalar(node, "a label selector")
    try:
        return selectors.parse(text).text
    except Malformed as e:
        raise Malformed(f"{node.where}: {e}", subject=node.source, remedy=e.remedy) from e


def label_key(node: Node) -> str:
    """A label key."""
    text = scalar(node, "a label key")
    try:
        return check_key(text, node.where)
    except Malformed as e:
        raise Malformed(str(e), subject=node.source) from e


def releases(node: Node) -> tuple[str, ...]:
    """One release or a list of them."""
    listed = tuple(release(row) for row in node.sequence())
    if not listed:
        node.fail("expected at least one release")
    return listed


def release(node: Node) -> str:
    """``COMPONENT@VERSION`` or a target path."""
    expected = "COMPONENT@VERSION or a target path such as app/app-2.0.0.tar.gz"
    text = scalar(node, expected)
    component, mark, version = text.partition("@")
    try:
        if mark:
            strict.identifier(component, "component")
            strict.version_text(version, "version")
        else:
            split_path(text)
    except Malformed as e:
        raise Malformed(
            f"{node.where}: expected {expected}, found {node.shown}", subject=node.source
        ) from e
    return text
