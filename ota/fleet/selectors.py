"""Label selectors in the Kubernetes syntax, evaluated on mappings.

Grammar (a comma is AND; an empty selector matches everything)::

    selector    = [ requirement { "," requirement } ]
    requirement = key | "!" key | key ("=" | "==" | "!=") value
                | key ("in" | "notin") "(" value { "," value } ")"

As in Kubernetes, ``!=`` and ``notin`` also match a device that lacks the key. The pseudo-keys
``id``, ``state`` and ``courier`` are always there. Errors are ``Malformed`` and point at the
column. Source: Kubernetes documentation, "Labels and Selectors".

>>> parse("site=lyon, line in (a,b), !spare").matches({"site": "lyon", "line": "a"})
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NoReturn

from ota.errors import Malformed
from ota.fleet.entries import PSEUDO

Operator = Literal["exists", "missing", "in", "notin"]

MAX_LENGTH = 8192
_TOKEN = re.compile(
    r"\s*(?:(?P<op>==|!=|=|!|,|\(|\))|(?P<word>[A-Za-z0-9_][A-Za-z0-9_.:/-]*|-[A-Za-z0-9_.:/-]*)|$)"
)
_WORDS = {"in", "notin"}


@dataclass(frozen=True)
class Requirement:
    """One condition; ``values`` is empty for ``exists`` and ``missing``."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet the condition."""
        value = labels.get(self.key)
        if self.operator == "in":
            return value in self.values
        if self.operator == "notin":
            return value not in self.values
        return (value is not None) == (self.operator == "exists")


@dataclass(frozen=True)
class Selector:
    """A parsed selector: every requirement must hold."""

    text: str
    requirements: tuple[Requirement, ...]

    @cached_property
    def _pseudo(self) -> bool:
        return any(requirement.key in PSEUDO for requirement in self.requirements)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels (pseudo-keys included) meet every requirement."""
        for requirement in self.requirements:  # noqa: SIM110 - half the time of all(), per device
            if not requirement.matches(labels):
                return False
        return True

    def matches_device(
        self, device: str, state: str, courier: str, labels: Mapping[str, str]
    ) -> bool:
        """The same, with the pseudo-keys given beside the labels; they win over labels."""
        if self._pseudo:
            labels = {**labels, "id": device, "state": state, "courier": courier}
        return self.matches(labels)


def parse(text: str) -> Selector:
    """Parse a selector; ``Malformed`` names the column (from 1) and what was expected."""
    if len(text) > MAX_LENGTH:
        raise Malformed(f"selector: {len(text)} characters, the limit is {MAX_LENGTH}")
    return _Parser(text).selector()


class _Parser:
    """Recursive descent over tokens ``(kind, text, column)``; the last one is ``end``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan()
        self._next = 0

    def _scan(self) -> list[tuple[str, str, int]]:
        tokens: list[tuple[str, str, int]] = []
        at = 0
        while True:
            found = _TOKEN.match(self._text, at)
            if found is None:
                rest = self._text[at:].lstrip()
                column = len(self._text) - len(rest)
                self._fail(column, f"{rest[0]!r} does not belong in a selector")
            if not found.lastgroup:
                return [*tokens, ("end", "", len(self._text))]
            tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            at = found.end()

    def selector(self) -> Selector:
        requirements: list[Requirement] = []
        if self._peek()[0] != "end":
            requirements.append(self._requirement())
        while self._peek()[0] != "end":
            self._expect(",")
            requirements.append(self._requirement())
        return Selector(self._text, tuple(requirements))

    def _requirement(self) -> Requirement:
        if self._take("!"):
            return Requirement(self._word("a key"), "missing")
        key = self._word("a key")
        if self._take("=") or self._take("=="):
            return Requirement(key, "in", frozenset([self._value()]))
        if self._take("!="):
            return Requirement(key, "notin", frozenset([self._value()]))
        kind, text, _ = self._peek()
        if kind == "word" and text in _WORDS:
            self._next += 1
            return Requirement(key, "in" if text == "in" else "notin", self._values())
        return Requirement(key, "exists")

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = [self._word("a value")]
        while self._take(","):
            values.append(self._word("a value"))
        self._expect(")")
        return frozenset(values)

    def _value(self) -> str:
        """A value after ``=``: may be empty, as in ``site=``."""
        kind, text, _ = self._peek()
        if kind == "word":
            self._next += 1
            return text
        if kind == "end" or text == ",":
            return ""
        return self._word("a value")

    def _word(self, expected: str) -> str:
        kind, text, column = self._peek()
        if kind != "word":
            self._fail(column, f"expected {expected}, found {text or 'the end'!r}")
        self._next += 1
        return text

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next]

    def _take(self, operator: str) -> bool:
        kind, text, _ = self._peek()
        if kind == "op" and text == operator:
            self._next += 1
            return True
        return False

    def _expect(self, operator: str) -> None:
        if not self._take(operator):
            _, text, column = self._peek()
            self._fail(column, f"expected {operator!r}, found {text or 'the end'!r}")

    def _fail(self, column: int, problem: str) -> NoReturn:
        raise Malformed(
            f"selector {self._text!r:.120}: column {column + 1}: {problem}",
            subject=self._text[:120],
            remedy="write it like: site=lyon,line in (a,b),!spare",
        )
