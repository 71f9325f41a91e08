"""Where the time of one process goes: exclusive wall-clock time by category.

A call into another category stops the clock of the one that made it, so the parts add up to the
whole. It wraps functions for as long as it is entered, in this process and this thread only.

>>> with Meter() as meter:
...     meter.wrap("signing", CryptoSigner, "sign")
...     work()
>>> meter.seconds["signing"], meter.calls["signing"]
"""

from __future__ import annotations

import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Self, TypeVar

Result = TypeVar("Result")
REST = "everything else"


class Meter:
    """See the module. ``seconds`` and ``calls`` are by category, ``spans`` inclusive by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.spans: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._stack = [REST]
        self._since = 0.0
        self._undo: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._turn()
        for owner, name, original in reversed(self._undo):
            setattr(owner, name, original)

    def wrap(self, category: str, owner: Any, *names: str) -> None:
        """Count the time inside ``owner.name`` as ``category``; inner categories take theirs."""
        for name in names:
            original = vars(owner)[name]
            bare = (
                original.__func__ if isinstance(original, (classmethod, staticmethod)) else original
            )
            made: Any = self._timed(category, bare)
            if bare is not original:
                made = type(original)(made)
            self._undo.append((owner, name, original))
            setattr(owner, name, made)

    def measured(self, span: str, work: Callable[[], Result]) -> Callable[[], Result]:
        """``work``, with its inclusive time added to ``spans[span]``."""

        def inner() -> Result:
            began = time.perf_counter()
            try:
                return work()
            finally:
                self.spans[span] += time.perf_counter() - began

        return inner

    def _timed(self, category: str, function: Any) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._stack.append(category)
            self.calls[category] += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._stack.pop()

        return timed

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
