"""Damage for property tests: what can be done to bytes, and to the structure of a document.

Two strategies, both drawn from something valid, because random bytes stop at the first check:

* :func:`damaged` changes bytes: a flip, a cut, an insertion, a piece twice, a piece of another;
* :func:`mutated` changes a parsed document: keys and items removed, repeated, added, moved, and
  values replaced by :data:`NASTY` ones or by values from elsewhere in the document.

:func:`dumps` writes what ``json`` would not: one key twice (:class:`Twice`).

>>> @given(mutated({"schema": 1, "device": "gw-1"}))
... def test(document): ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st


class Raw(str):
    """Text that is written as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Short: it stands in messages about a failing example."""
        return f"<{len(self)} characters {self[:4]!s}...>"


DEEP = Raw("[" * 100_000 + "]" * 100_000)

NASTY: tuple[Any, ...] = (
    DEEP,
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**40),
    *(0.5, 1e300, float("nan"), float("inf")),
    *("", "x", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a/b/c", "x" * 300),
    *("\x00", "a\nb", "\x1b[2J", "\u2028", "\ud800", "é", "\U0001f600", "=1+1", "%00", "1%"),
    *("0" * 64, "f" * 64, "F" * 64, "0" * 63, "1", "-1", "1e3", "true", "null"),
    *("2026-11-23T08:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("2026-02-30T00:00:00Z", "2026-11-23T08:00:00+00:00", "2026-11-23 08:00:00"),
    *([], {}, [[]], [None], {"": ""}, {"x": 1}, [1, "a", {}], [[[[[[[[[[]]]]]]]]]]),
)
"""Values that readers trip over: other types, borders of numbers, texts that are not names."""

_WORDS = st.sampled_from(["keyid", "sig", "x", "", "device", "schema", "\ud800", "__class__"])


class Twice(dict[str, Any]):
    """An object whose first key is written a second time, with ``again`` as its value."""

    again: Any = None


def budget(share: float) -> settings:
    """A share of half the profile's examples, at least three: ``make fuzz`` scales each test."""
    examples = max(3, round(settings.default.max_examples * share / 2))
    return settings(settings.default, max_examples=examples)


# -- bytes -------------------------------------------------------------------------------------
@st.composite
def damaged(draw: st.DrawFn, data: bytes, *, others: bytes = b"") -> bytes:
    """One to three changes of bytes; ``others`` is where foreign pieces come from."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 64)))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat", "swap"]))
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[end:]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(max_size=16)) + data[at:]
        elif kind == "repeat":
            data = data[:end] + data[at:end] * draw(st.integers(1, 3)) + data[end:]
        else:
            start = draw(st.integers(0, len(others)))
            data = data[:at] + others[start : start + (end - at)] + data[end:]
    return data


# -- documents ---------------------------------------------------------------------------------
@st.composite
def mutated(draw: st.DrawFn, document: Any, *, changes: int = 3) -> Any:
    """A copy of a JSON document with one to ``changes`` changes of its structure or values."""
    document = copied(document)
    for _ in range(draw(st.integers(1, changes))):
        document = _changed(draw, document)
    return document


def copied(value: Any) -> Any:
    """A deep copy as JSON has it, lists for tuples; objects that are written twice stay so."""
    if isinstance(value, dict):
        new = Twice() if isinstance(value, Twice) else {}
        new.update({k: copied(v) for k, v in value.items()})
        if isinstance(value, Twice):
            new.again = value.again  # type: ignore[attr-defined]  # a Twice, as just made
        return new
    return [copied(v) for v in value] if isinstance(value, (list, tuple)) else value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a document, outermost first."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(pairs) if isinstance(value, (dict, list)) else ():
        yield value, key
        if isinstance(item, (dict, list)):
            yield from places(item)


def _changed(draw: st.DrawFn, document: Any) -> Any:
    found = list(places(document))
    if not found:
        return draw(st.sampled_from(NASTY))
    holder, key = found[draw(st.integers(0, len(found) - 1))]
    kinds = ["nasty", "nasty", "nasty", "remove", "move", "add", "twice", "near", "deep"]
    kind = draw(st.sampled_from(kinds))
    if kind == "nasty":
        holder[key] = copied(draw(st.sampled_from(NASTY)))
    elif kind == "remove":
        del holder[key]
    elif kind == "move":
        other, name = found[draw(st.integers(0, len(found) - 1))]
        holder[key] = copied(other[name])
    elif kind == "add":
        _add(draw, holder, key)
    elif kind == "twice":
        return _twice(draw, document, holder, key)
    elif kind == "near":
        holder[key] = _near(draw, holder[key])
    else:
        for _ in range(draw(st.sampled_from([1, 3, 40]))):
            holder[key] = [holder[key]]
    return document


def _add(draw: st.DrawFn, holder: Any, key: Any) -> None:
    value = draw(st.sampled_from(NASTY))
    if isinstance(holder, list):
        holder.insert(key, copied(value if draw(st.booleans()) else holder[key]))
    else:
        holder[draw(_WORDS)] = copied(value)


def _twice(draw: st.DrawFn, document: Any, holder: Any, key: Any) -> Any:
    """The same document with one of its objects written with a key twice."""
    if not isinstance(holder, dict) or key not in holder:
        return document
    again = Twice({key: holder[key], **holder})
    again.again = holder[key] if draw(st.booleans()) else draw(st.sampled_from(NASTY))
    if holder is document:
        return again
    for outer, name in places(document):
        if outer[name] is holder:
            outer[name] = again
            break
    return document


def _near(draw: st.DrawFn, value: Any) -> Any:
    """A value of the same type close to this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw(st.sampled_from([-1, 1, 2, 1000, 2**32]))
    if isinstance(value, str) and value:
        at = draw(st.integers(0, len(value) - 1))
        return value[:at] + draw(st.sampled_from(["", "0", "a", " ", "/", "\n"])) + value[at + 1 :]
    if isinstance(value, list):
        return value * 2 if draw(st.booleans()) else value[::-1]
    return [value]


def dumps(value: Any) -> bytes:
    """JSON with everything that a hostile writer may write: NaN, lone surrogates, a key twice."""
    return _text(value).encode()


def _text(value: Any) -> str:
    parts: list[str] = []
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Raw):
            parts.append(item)
        elif isinstance(item, dict):
            pairs = list(item.items())
            if isinstance(item, Twice) and pairs:
                pairs.append((pairs[0][0], item.again))
            stack.append(Raw("}"))
            for number, (key, inner) in reversed(list(enumerate(pairs))):
                stack += [inner, Raw(("," if number else "") + json.dumps(key) + ":")]
            stack.append(Raw("{"))
        elif isinstance(item, list):
            stack.append(Raw("]"))
            for number, inner in reversed(list(enumerate(item))):
                stack += [inner, Raw("," if number else "")]
            stack.append(Raw("["))
        else:
            parts.append(json.dumps(item))
    return "".join(parts)


def toml(document: Any) -> bytes:
    """A document as TOML: tables for objects, inline tables within lists; null is left out.

    What TOML can not say (a document that is no table) is written as the value itself, which no
    reader takes.
    """
    if not isinstance(document, dict):
        return _toml_value(document).encode("utf-8", "surrogatepass")
    lines: list[str] = []
    _toml_table(lines, document, "")
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _toml_table(lines: list[str], table: dict[str, Any], path: str) -> None:
    pairs = list(table.items())
    if isinstance(table, Twice) and pairs:
        pairs.append((pairs[0][0], table.again))
    later = []
    for key, value in pairs:
        if isinstance(value, dict):
            later.append((key, value))
        elif value is not None:
            lines.append(f"{_toml_text(key)} = {_toml_value(value)}")
    for key, value in later:
        name = f"{path}.{_toml_text(key)}".lstrip(".")
        lines.append(f"[{name}]")
        _toml_table(lines, value, name)


def _toml_value(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(v) for v in value if v is not None) + "]"
    if isinstance(value, dict):
        pairs = (f"{_toml_text(k)} = {_toml_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    return '""' if value is None else repr(value)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
