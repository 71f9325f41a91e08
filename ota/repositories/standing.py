"""Where each target of the image repository stands, beside a change that waits.

>>> standing({"app/app-1.bin": one}, set(), {"app/app-2.bin": two})
{'app/app-1.bin': (one, 'to be yanked'), 'app/app-2.bin': (two, 'waiting')}
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TypeVar

T = TypeVar("T")


def standing(
    published: Mapping[str, T], current: Container[str], after: Mapping[str, T]
) -> dict[str, tuple[T, str]]:
    """Path -> what is there, and its state in one word or three.

    ``current``: paths of what has not expired. ``after``: what will be listed once the change that
    waits is published; where none waits, ``published``.
    """
    found = {path: (item, _now(path, current, after)) for path, item in published.items()}
    return found | {p: (item, "waiting") for p, item in after.items() if p not in published}


def _now(path: str, current: Container[str], after: Container[str]) -> str:
    if path not in after:
        return "to be yanked"
    return "published" if path in current else "expired"
