"""A process that ends in the middle, played in this one: no handler of the product may catch it.

Where a real process must die, see ``dying.py`` (SIGKILL) and ``killing.py`` (strace).

>>> with monkeypatch.context() as patch:
...     kill_at(patch, os, "fsync", 3)
...     with pytest.raises(Killed):
...         courier.dispatch(order)
"""

from __future__ import annotations

import pytest


class Killed(BaseException):
    """The process died here."""


def kill_at(patch: pytest.MonkeyPatch, owner: object, call: str, at: int) -> None:
    """``owner.call`` raises ``Killed`` in place of its ``at``-th time, from 1."""
    real, count = getattr(owner, call), iter(range(1, 10_000))

    def dying(*args: object, **kwargs: object) -> object:
        if next(count) == at:
            raise Killed
        return real(*args, **kwargs)

    patch.setattr(owner, call, dying)
