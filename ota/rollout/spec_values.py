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
from ota.yaml.strict import Node
from ota.yaml.values import DURATION, duration, identifier, scalar
from signing import strict
from signing.playbooks import playbook as playbooks
from signing.release import split_path

When = int | datetime
"""Seconds after the plan's creation, or a moment."""

_SLUG = re.compile(r"[a-z0-9-]{1,20}")
_INT = re.compile(r"[0-9]{1,9}")
_SHARE = re.compile(r"([0-9]{1,3})%")


def slug(node: Node) -> str:
    """A rollout's name: 1 to 20 of [a-z0-9-]."""
    text = scalar(node, "a name")
    if not _SLUG.fullmatch(text) or text.startswith("-"):
        node.fail(f"expected 1 to 20 of [a-z0-9-], found {node.shown}")
    return text


def names(node: Node | None) -> tuple[str, ...]:
    """A list of identifiers; none when the key is missing."""
    return tuple(identifier(row) for row in node.sequence()) if node is not None else ()


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


def when(node: Node | None, default: int) -> When:
    """Seconds after creation, or a moment."""
    if node is None:
        return default
    if node.text is not None and DURATION.fullmatch(node.text):
        return duration(node)
    try:
        return strict.instant(node.text)
    except Malformed:
        node.fail(f"expected a duration or a time like 2026-11-23T08:00:00Z, found {node.shown}")


def on_failure(node: Node | None, *, back: bool) -> Literal["rollback", "hold"]:
    """``rollback`` (the default where there is a way ``back``) or ``hold``."""
    if node is None:
        return "rollback" if back else "hold"
    if node.text == "rollback":
        return "rollback" if back else node.fail("a playbook has no way back: expected hold")
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


def playbook(node: Node) -> str:
    """``NAME@VERSION``."""
    text = scalar(node, "NAME@VERSION")
    try:
        playbooks.named(text)
    except Malformed as e:
        raise Malformed(f"{node.where}: {e}", subject=node.source) from e
    return text


def parameters(node: Node | None) -> dict[str, str]:
    """Values as texts, whatever they look like; the playbook says what they may be."""
    if node is None:
        return {}
    if node.items is None:
        node.fail(f"expected a mapping, found {node.shown}")
    return {name: scalar(item, "a value") for name, item in node.items.items()}


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
