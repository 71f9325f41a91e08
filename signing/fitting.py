r"""Whether a text fits a pattern of ``patterns.py``, in a time that no text can stretch. Pure.

A backtracking engine tries one way after the other: ``([a-z]{1,20} ?){1,20}`` takes it years to
refuse forty letters, and whoever may choose a value could stop a device for ever. Here all ways are
followed at once: a set of places in the text, one bit each, goes into a piece of the pattern, and
the set of places where that piece can end comes out. A repetition ends when it brings no new place,
so each one goes at most as often round as the text has characters.

>>> fits(parse("(a?){0,30}b"), "aaab")
True
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

REPEAT = re.compile(r"[*+?]|\{([0-9]{1,4})(,([0-9]{1,4})?)?\}")


class One(NamedTuple):
    """One character: a literal, an escape, a class or ``.``, as it is written."""

    text: str


class Row(NamedTuple):
    """One piece after the other."""

    pieces: tuple[Piece, ...]


class Either(NamedTuple):
    """One of these."""

    ways: tuple[Piece, ...]


class Times(NamedTuple):
    """A piece at least ``low`` times, at most ``high`` (None: any number)."""

    piece: Piece
    low: int
    high: int | None


Piece = One | Row | Either | Times


@functools.lru_cache(maxsize=256)
def parse(body: str) -> Piece:
    """The pieces of a pattern without its anchors, which ``patterns.check`` has accepted."""
    return _Reader(body).either()


def fits(piece: Piece, text: str) -> bool:
    """Whether all of the text fits."""
    return bool(_ends(piece, text, {}, 1) >> len(text) & 1)


def _ends(piece: Piece, text: str, masks: dict[str, int], starts: int) -> int:
    """Places where ``piece`` can end if it begins at one of these; a bit for each place."""
    if not starts:
        return 0
    if isinstance(piece, One):
        return (starts & _mask(piece.text, text, masks)) << 1
    if isinstance(piece, Row):
        for part in piece.pieces:
            starts = _ends(part, text, masks, starts)
        return starts
    if isinstance(piece, Either):
        found = 0
        for way in piece.ways:
            found |= _ends(way, text, masks, starts)
        return found
    return _repeated(piece, starts, lambda at: _ends(piece.piece, text, masks, at))


def _repeated(piece: Times, starts: int, step: Callable[[int], int]) -> int:
    """``low`` rounds, then as many more as bring a new place, ``high`` at most."""
    for _ in range(piece.low):
        after = step(starts)
        if after == starts:
            break  # every further round is the same
        starts = after
    found = new = starts
    rounds = 0
    while new and (piece.high is None or rounds < piece.high - piece.low):
        new = step(new) & ~found
        found |= new
        rounds += 1
    return found


def _mask(one: str, text: str, masks: dict[str, int]) -> int:
    """Places whose character is this one."""
    if one not in masks:
        fit = re.compile(one, re.ASCII).fullmatch
        known = {char: fit(char) is not None for char in set(text)}
        masks[one] = sum(1 << at for at, char in enumerate(text) if known[char])
    return masks[one]


class _Reader:
    """Reads a pattern once, left to right."""

    def __init__(self, body: str) -> None:
        self._body = body
        self._at = 0

    def either(self) -> Piece:
        ways = [self._row()]
        while self._body.startswith("|", self._at):
            self._at += 1
            ways.append(self._row())
        return ways[0] if len(ways) == 1 else Either(tuple(ways))

    def _row(self) -> Piece:
        pieces: list[Piece] = []
        while self._at < len(self._body) and self._body[self._at] not in "|)":
            pieces.append(self._times(self._piece()))
        return Row(tuple(pieces))

    def _piece(self) -> Piece:
        start = self._at
        char = self._body[start]
        if char == "(":
            self._at += 1
            inner = self.either()
            self._at += 1  # the closing bracket
            return inner
        self._at += 2 if char == "\\" else 1
        if char == "[":
            self._at = _class_end(self._body, self._at)
        return One(self._body[start : self._at])

    def _times(self, piece: Piece) -> Piece:
        found = REPEAT.match(self._body, self._at)
        if found is None:
            return piece
        self._at = found.end()
        if found[1] is None:
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
            return Times(piece, low, high)
        low = int(found[1])
        if found[2] is None:
            return Times(piece, low, low)
        return Times(piece, low, int(found[3]) if found[3] else None)


def _class_end(body: str, at: int) -> int:
    """The place after a class whose first character, or its ``^``, is at ``at``."""
    while body[at] != "]":
        at += 2 if body[at] == "\\" else 1
    return at + 1
