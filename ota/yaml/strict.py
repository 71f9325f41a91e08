r"""YAML as plain nodes with line numbers; no objects, anchors, tags or surprises.

A spec is written by people, so errors must name the line; and it may come from anywhere, so
nothing in it may expand. This reader works on YAML *events*: scalars stay text (``no`` and
``2.0`` are not turned into a boolean and a float), aliases, anchors, tags, duplicate keys,
second documents, deep nesting and long files are refused.

>>> read(b"waves:\n- name: canary\n", "spec.yaml").items["waves"].line
2
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from ota.errors import Malformed

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 8
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its parser is used: events, never constructed values."""


@dataclass
class Node:
    """One value. Exactly one of ``text`` (scalar), ``items`` and ``rows`` is not None.

    ``plain`` is true for an unquoted scalar; ``key`` is the dotted way to it, for messages.
    """

    source: str
    line: int
    key: str
    text: str | None = None
    plain: bool = False
    items: dict[str, Node] | None = None
    rows: list[Node] | None = None
    key_lines: dict[str, int] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """``spec.yaml:7: waves[0].count``."""
        return (
            f"{self.source}:{self.line}: {self.key}" if self.key else f"{self.source}:{self.line}"
        )

    def fail(self, expected: str) -> NoReturn:
        """Raise ``Malformed`` that names file, line, key and what was expected."""
        raise Malformed(f"{self.where}: {expected}", subject=self.source)

    @property
    def shown(self) -> str:
        """The value in a few words, for messages."""
        if self.text is not None:
            return repr(self.text[:60])
        return "a mapping" if self.items is not None else "a list"

    def mapping(self, known: frozenset[str]) -> dict[str, Node]:
        """The items of a mapping with known keys only; ``Malformed`` otherwise."""
        if self.items is None:
            self.fail(f"expected a mapping, found {self.shown}")
        for name in self.items:
            if name not in known:
                at = Node(self.source, self.key_lines[name], f"{self.key}.{name[:60]}".lstrip("."))
                at.fail(f"unknown key; known are {', '.join(sorted(known))}")
        return self.items

    def sequence(self) -> list[Node]:
        """The rows of a list; a scalar stands for a list of one."""
        if self.text is not None:
            return [self]
        if self.rows is None:
            self.fail(f"expected a list, found {self.shown}")
        return self.rows


def read(data: bytes, source: str) -> Node:
    """The document's root node; ``Malformed`` names file and line."""
    if len(data) > MAX_BYTES:
        raise Malformed(f"{source}: {len(data)} bytes, the limit is {MAX_BYTES}", subject=source)
    try:
        return _Composer(source).compose(data.decode("utf-8"))
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise Malformed(f"{source}:{line}: not UTF-8", subject=source) from e
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise Malformed(f"{source}:{line}: not YAML: {e.problem}", subject=source) from e
    except yaml.reader.ReaderError as e:  # its position counts bytes
        line = data.count(b"\n", 0, e.position) + 1
        raise Malformed(f"{source}:{line}: not YAML: {e.reason}", subject=source) from e
    except yaml.YAMLError as e:
        raise Malformed(f"{source}: not YAML: {' '.join(str(e).split())}", subject=source) from e


class _Composer:
    """Builds nodes from events with a stack of open collections; never recurses."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: list[tuple[Node, Node | None]] = []  # (collection, key waiting for a value)
        self._root: Node | None = None
        self._documents = 0

    def compose(self, text: str) -> Node:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            self._refuse(event, line)
            if isinstance(event, yaml.ScalarEvent):
                plain = event.implicit[0]
                self._add(Node(self._source, line, "", text=event.value, plain=plain))
            elif isinstance(event, yaml.MappingStartEvent):
                self._push(Node(self._source, line, "", items={}))
            elif isinstance(event, yaml.SequenceStartEvent):
                self._push(Node(self._source, line, "", rows=[]))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._open.pop()
        if self._root is None:
            raise Malformed(f"{self._source}: it is empty", subject=self._source)
        return self._root

    def _refuse(self, event: Any, line: int) -> None:
        at = Node(self._source, line, "")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            at.fail("anchors and aliases are not allowed here")
        if (tag := getattr(event, "tag", None)) not in {None, "!"}:
            at.fail(f"tags such as {tag!r:.40} are not allowed here")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                at.fail("a second document begins; one is allowed")

    def _push(self, node: Node) -> None:
        if len(self._open) >= MAX_DEPTH:
            node.fail(f"nested deeper than {MAX_DEPTH}")
        self._add(node)
        self._open.append((node, None))

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent, key = self._open[-1]
        if parent.rows is not None:
            node.key = f"{parent.key}[{len(parent.rows)}]"
            parent.rows.append(node)
        elif key is None:
            self._open[-1] = (parent, self._new_key(parent, node))
        else:
            node.key = f"{parent.key}.{key.text}".lstrip(".")
            assert parent.items is not None and key.text is not None  # noqa: S101, PT018 - by construction
            parent.items[key.text] = node
            parent.key_lines[key.text] = key.line
            self._open[-1] = (parent, None)

    @staticmethod
    def _new_key(parent: Node, node: Node) -> Node:
        if node.text is None:
            node.fail(f"expected a key, found {node.shown}")
        if parent.items is not None and node.text in parent.items:
            first = parent.key_lines[node.text]
            node.fail(f"the key {node.text[:60]!r} stands already in line {first}")
        return node
