"""Strict YAML into msgspec structs, with the line of every mistake.

Scalars stay what people wrote until a field says what they are: ``no`` is text where text is
expected, and a whole number only where a number is. Values of the names in ``durations`` are
written ``90s`` or ``10m`` and read as seconds. ``defaults`` fill in what a file leaves out.

>>> read(strict_yaml.read(b"argv: [ls]", "a.yaml"), Exec)
Exec(argv=('ls',))
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from ota.errors import Malformed
from ota.yaml import values as yaml_values
from ota.yaml.strict import Node

_T = TypeVar("_T", bound=msgspec.Struct)
Defaults = Mapping[type, Mapping[str, Any]]
_INTEGERS = 999_999_999


def read(
    node: Node, kind: type[_T], *, durations: Container[str] = (), defaults: Defaults | None = None
) -> _T:
    """A struct from a mapping; ``Malformed`` names file, line, key and what was expected."""
    info = inspect.type_info(kind)
    return cast("_T", _Reader(durations, defaults or {}).value(node, info))


class _Reader:
    """Walks nodes and types together."""

    def __init__(self, durations: Container[str], defaults: Defaults) -> None:
        self._durations = durations
        self._defaults = defaults

    def value(self, node: Node, kind: inspect.Type) -> Any:
        if isinstance(kind, inspect.UnionType):
            return self._union(node, kind)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind)
        if isinstance(kind, inspect.VarTupleType):
            return tuple(self.value(row, kind.item_type) for row in _rows(node))
        if isinstance(kind, inspect.DictType):
            if node.items is None:
                node.fail(f"expected a mapping, found {node.shown}")
            return {name: self.value(item, kind.value_type) for name, item in node.items.items()}
        return _scalar(node, kind)

    def _union(self, node: Node, kind: inspect.UnionType) -> Any:
        """``X | None``: null where it is written so."""
        if node.plain and node.text in {"", "~", "null"}:
            return None
        (only,) = (t for t in kind.types if not isinstance(t, inspect.NoneType))
        return self.value(node, only)

    def _struct(self, node: Node, kind: inspect.StructType) -> Any:
        empty = node.plain and node.text in {"", "~", "null"}
        fields = {field.encode_name: field for field in kind.fields}
        items = {} if empty else node.mapping(frozenset(fields))
        given = dict(self._defaults.get(kind.cls, {}))
        for name, item in items.items():
            field = fields[name]
            seconds = name in self._durations
            given[field.name] = (
                yaml_values.duration(item) if seconds else self.value(item, field.type)
            )
        missing = [f.encode_name for f in kind.fields if f.required and f.name not in given]
        if missing:
            node.fail(f"the key {missing[0]!r} is missing")
        try:
            return kind.cls(**given)
        except Malformed as e:
            raise Malformed(f"{node.where}: {e}", subject=node.source) from e


def _rows(node: Node) -> list[Node]:
    if node.rows is None:
        node.fail(f"expected a list, found {node.shown}")
    return node.rows


def _scalar(node: Node, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.BoolType):
        return yaml_values.switch(node)
    if isinstance(kind, inspect.IntType):
        return yaml_values.integer(node, -_INTEGERS, _INTEGERS)
    if isinstance(kind, inspect.LiteralType):
        text = yaml_values.scalar(node, f"one of {', '.join(map(str, kind.values))}")
        found = next((v for v in kind.values if str(v) == text), None)
        if found is None:
            node.fail(f"expected one of {', '.join(map(str, kind.values))}, found {node.shown}")
        return found
    return yaml_values.scalar(node, "a text")
