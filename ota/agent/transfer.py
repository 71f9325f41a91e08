"""What a store answers, in the downloader's words, and the bounded copy of it.

Two sources implement it: ``transfer_http.HttpSource`` and ``transfer_file.FileSource``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from signing.errors import Outage

CHUNK = 1024 * 1024


class Answer(Protocol):
    """One opened object. ``offset`` is where ``read`` starts; ``total`` its length if known."""

    missing: bool
    offset: int
    total: int | None
    tag: str

    def read(self, amount: int) -> bytes:
        """At most ``amount`` bytes, as soon as there are some; b"" at the end. ``Outage``."""


class Source(Protocol):
    """Opens objects by store name."""

    def open(
        self, name: str, offset: int, tag: str, deadline: float
    ) -> AbstractContextManager[Answer]:
        """Start at ``offset`` if the object still has ``tag``, else at 0.

        ``deadline`` is ``time.monotonic()``; reading past it raises ``Outage("slow")``.
        """


class Rate(Protocol):
    """The part of the limits that a copy needs."""

    @property
    def minimum_rate(self) -> int:
        """Bytes per second."""

    @property
    def window(self) -> float:
        """Seconds over which the rate is judged."""


def copy(
    answer: Answer,
    handle: int,
    length: int,
    limits: Rate,
    progress: Callable[[int], None] | None,
) -> None:
    """Copy exactly ``length`` bytes to an open file, or raise ``Outage``.

    Slower than ``minimum_rate`` over any ``window`` is ``slow``; ending early is ``cut``.
    """
    left = length
    since, arrived = time.monotonic(), 0
    while left:
        chunk = answer.read(min(CHUNK, left))
        if not chunk:
            raise Outage(f"the store ended {left} bytes early", code="cut")
        _write_all(handle, chunk)
        left -= len(chunk)
        arrived += len(chunk)
        if progress is not None:
            progress(len(chunk))
        now = time.monotonic()
        if now - since >= limits.window:
            if arrived < limits.minimum_rate * (now - since):
                raise Outage(f"{arrived} bytes in {now - since:.0f} s", code="slow")
            since, arrived = now, 0


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
