r"""Regular expressions that mean the same to a device, to Systems Manager and to their reader.

A value from outside is let in by a signed pattern, so the pattern must not surprise anybody:

* anchored on both sides, ``^...$``, with no alternative that escapes the anchors;
* printable ASCII; no look-around, back-reference, flag, or class that differs between engines;
* ``*``, ``+`` and ``{n,}`` on one character or class only and at most twice, and groups in groups
  three deep at most; all ways through a pattern are followed at once (``fitting.py``), so that no
  value can make a device search for long.

>>> matches(r"^[a-z]{1,8}$", "nginx")
True
"""

from __future__ import annotations

import re

from signing import fitting
from signing.errors import Malformed

LIMIT = 256
"""Characters of a pattern."""
_UNBOUNDED = 2
_ESCAPED = frozenset(r"\.+*?()[]{}|^$/-") | frozenset("dwDW")
_SET_WORDS = frozenset({"&&", "||", "--", "~~"})
_DEEPEST = 3


def check(pattern: str, what: str) -> str:
    """Return the pattern if it is one of this kind; ``Malformed`` names ``what`` and the reason."""
    if not 2 <= len(pattern) <= LIMIT or not (pattern[0] == "^" and pattern[-1] == "$"):
        raise _bad(what, pattern, f"a pattern reads ^...$, at most {LIMIT} characters")
    if not (pattern.isascii() and pattern.isprintable()) or pattern.endswith("\\$"):
        raise _bad(what, pattern, "printable ASCII only, and an end that is not escaped")
    _Scanner(pattern[1:-1], pattern, what).scan()
    try:
        re.compile(pattern[1:-1], re.ASCII)
    except (re.error, OverflowError) as e:
        raise _bad(what, pattern, str(e)) from e
    return pattern


def matches(pattern: str, value: str) -> bool:
    """Whether the whole value fits, newline and all; ``pattern`` was checked."""
    return fitting.fits(fitting.parse(pattern[1:-1]), value)


class _Scanner:
    """Walks over a pattern once, left to right."""

    def __init__(self, body: str, pattern: str, what: str) -> None:
        self._body = body
        self._pattern = pattern
        self._what = what
        self._depth = 0
        self._unbounded = 0

    def scan(self) -> None:
        """Raise for anything that this kind of pattern does not have."""
        at = 0
        before = ""  # what a quantifier would repeat: "", "one" character or class, or "group"
        while at < len(self._body):
            repeat = fitting.REPEAT.match(self._body, at)
            if repeat:
                self._quantifier(repeat, before)
                before, at = "", repeat.end()
                continue
            before, at = self._atom(at)
        if self._depth:
            self._fail("groups are unbalanced")

    def _atom(self, at: int) -> tuple[str, int]:
        char = self._body[at]
        if char == "\\":
            self._escape(at)
            return "one", at + 2
        if char == "[":
            return "one", self._class(at + 1)
        if char == "(":
            if self._body.startswith("(?", at):
                self._fail("no (?...) groups")
            self._depth += 1
            if self._depth > _DEEPEST:
                self._fail(f"groups stand in groups more than {_DEEPEST} deep")
            return "", at + 1
        if char == ")":
            self._depth -= 1
            return "group", at + 1
        if char == "|":
            if self._depth <= 0:
                self._fail("an alternative must stand in a group, or it escapes the anchors")
            return "", at + 1
        if char in "^${}]":
            self._fail(f"{char!r} must be escaped")
        return "one", at + 1

    def _quantifier(self, repeat: re.Match[str], before: str) -> None:
        if not before:
            self._fail(f"nothing for {repeat[0]} to repeat")
        open_ended = repeat[0] in "*+" or (repeat[2] is not None and repeat[3] is None)
        if open_ended:
            self._unbounded += 1
            if before == "group":
                self._fail(f"a group with {repeat[0]}; write {{0,n}}")
            if self._unbounded > _UNBOUNDED:
                self._fail(f"more than {_UNBOUNDED} of *, + and {{n,}}")

    def _class(self, at: int) -> int:
        """The place after a class that begins at ``at``."""
        at = start = at + self._body.startswith("^", at)
        while at < len(self._body) and self._body[at] != "]":
            if self._body[at] == "[" or self._body[at : at + 2] in _SET_WORDS:
                self._fail("'[', '&&', '||', '--' and '~~' in a class differ between engines")
            if self._body[at] == "\\":
                self._escape(at)
                at += 1
            at += 1
        if at >= len(self._body) or at == start:
            self._fail("a class is empty or not closed")
        return at + 1

    def _escape(self, at: int) -> None:
        if self._body[at + 1 : at + 2] not in _ESCAPED or at + 1 >= len(self._body):
            self._fail(f"{self._body[at : at + 2]} is not an escape of this kind of pattern")

    def _fail(self, why: str) -> None:
        raise _bad(self._what, self._pattern, why)


def _bad(what: str, pattern: str, why: str) -> Malformed:
    return Malformed(f"{what}: {pattern!r:.80}: {why}", subject=what)
