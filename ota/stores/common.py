"""What every store has in common: names, sources of images, and the errors of a lost race.

>>> check_name("image/metadata/1.root.json")
['image', 'metadata', '1.root.json']
"""

from __future__ import annotations

import io
import re

from ota.errors import Busy, Malformed, NotFound
from signing.edition import Upload

_SEGMENT = re.compile(r"[A-Za-z0-9:_%+~-][A-Za-z0-9:_%+~.-]{0,254}")
_DEEPEST = 16


def is_name(name: str) -> bool:
    """Whether ``name`` may stand in a store: relative, no hidden segment, at most 16 of them."""
    segments = name.split("/")
    return len(segments) <= _DEEPEST and all(_SEGMENT.fullmatch(s) for s in segments)


def check_name(name: str) -> list[str]:
    """The segments of a name; ``Malformed`` before anything is made of it."""
    if not is_name(name):
        raise Malformed(f"{name!r:.140} is not a name in a store", subject=name[:140])
    return name.split("/")


def open_source(item: Upload) -> io.FileIO:
    """The image's file, unbuffered; ``NotFound`` (code ``source-gone``)."""
    try:
        return item.source.open("rb", buffering=0)
    except OSError as e:
        raise NotFound(
            f"{item.source}: {e.strerror}",
            code="source-gone",
            subject=str(item.source),
            remedy="bring the file back, or ota repo discard image",
        ) from e


def source_changed(item: Upload) -> Malformed:
    """The file is not what was signed any more."""
    return Malformed(
        f"{item.source} has changed since it was signed",
        code="source-changed",
        subject=str(item.source),
        remedy="ota release add it again, as it is now",
    )


def taken(name: str) -> Busy:
    """Another publisher has put other bytes there."""
    return Busy(
        f"{name} was published by another publisher",
        code="lost-race",
        subject=name,
        remedy="run the command again",
    )


def lost_race(name: str) -> Busy:
    """Another publisher has changed it first."""
    return Busy(
        f"{name} was changed by another publisher",
        code="lost-race",
        subject=name,
        remedy="run the command again",
    )
