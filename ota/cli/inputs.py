"""What commands take from the line: files with limits, labels, durations.

>>> labels(["site=lyon", "spare-"])
{'site': 'lyon', 'spare': None}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import typer

from ota.errors import Malformed, Misuse, NotFound, Refusal
from signing import durable

_DURATION = re.compile(r"(?:[0-9]{1,6}[smhdw]){1,5}")
_PART = re.compile(r"([0-9]+)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=3650)


def keyholders(ctx: typer.Context, incomplete: str) -> list[str]:
    """For a shell's completion: keyholders of the workspace whose names begin so."""
    workspace = Path(str(ctx.find_root().params.get("workspace") or "."))
    files = (workspace / "repo-metadata" / "keyholders").glob("*.json")
    return sorted(path.stem for path in files if path.stem.startswith(incomplete))


def repositories(incomplete: str) -> list[str]:
    """The same for both repositories."""
    return [name for name in ("image", "director") if name.startswith(incomplete)]


def read(path: Path, limit: int, what: str) -> bytes:
    """At most ``limit`` bytes of a file; ``NotFound``, ``Malformed``, ``Outage``."""
    data = durable.read(path, limit, what)
    if data is None:
        raise NotFound(f"{path}: there is no such {what}", subject=str(path), remedy="ls -l")
    return data


@contextmanager
def about(path: Path | None) -> Iterator[None]:
    """What is wrong with the content of a file is said with the file's name."""
    try:
        yield
    except (Malformed, Refusal) as e:
        if path is not None and str(path) not in str(e):
            e.args = (f"{path}: {e}",)
        raise


def labels(words: Iterable[str]) -> dict[str, str | None]:
    """``KEY=VALUE`` sets, ``KEY-`` removes; ``Misuse`` for anything else."""
    result: dict[str, str | None] = {}
    for word in words:
        key, mark, value = word.partition("=")
        if not mark and not word.endswith("-"):
            raise Misuse(f"label {word!r:.80}: neither KEY=VALUE nor KEY-", subject=word[:80])
        name = key if mark else word[:-1]
        if name in result:
            raise Misuse(f"label {name!r:.80} stands twice", subject=name[:80])
        result[name] = value if mark else None
    return result


def spoken(seconds: float) -> str:
    """Seconds as a spec writes them.

    >>> spoken(5400), spoken(2)
    ('1h30m', '2s')
    """
    left, words = int(seconds), ""
    for unit in "dhms":
        size = _UNITS[unit]
        if left >= size:
            words += f"{left // size}{unit}"
            left %= size
    return words or "0s"


def duration(text: str, where: str) -> timedelta:
    """``90s``, ``1h30m``, ``7d``, ``2w``, as in a spec; ``Malformed`` for anything else."""
    if not _DURATION.fullmatch(text):
        raise Malformed(f"{where}: {text!r:.40} is not a duration such as 90s, 10m, 1h30m or 7d")
    found = timedelta(seconds=sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(text)))
    if found > _LONGEST:
        raise Malformed(f"{where}: {text!r:.40} is more than ten years")
    return found
