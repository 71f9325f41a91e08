"""Use case: remove from the store what nobody can be led to any more, after a time of grace.

1. Look (``needed.py``): which names does anything still lead to?
2. A name that is unneeded for the first time is noted, with the time; one that is needed again is
   forgotten. The notes are durable before anything is removed.
3. What has been unneeded for longer than the grace time is removed: metadata first, then images, so
   that nothing ever names what is not there. Before each, the timestamp must be the one that was
   looked at: whoever publishes meanwhile ends the run.

So the first run removes nothing, and a timer runs it every day. Killed anywhere, the next run goes
on: what is gone is not listed. Nothing depends on the notes but how long something stays.

The past that is removed here is what ``ota repo suspects`` reads: the grace time is how late a
theft may be noticed without suspecting everything.

>>> collect(repos, campaign.named, now, timedelta(days=30)).tallies["images"]
Tally(kept=812, waiting=4, due=2, bytes=41943040)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from ota.errors import Busy, Malformed, OtaError
from ota.repositories import needed
from ota.repositories.needed import Needed
from ota.repositories.repo import Repositories
from signing import durable, layout, strict

Kind = Literal["image metadata", "director metadata", "images"]
KINDS: tuple[Kind, ...] = ("image metadata", "director metadata", "images")
LEAST = timedelta(hours=1)
"""A reader's cycle may last so long; less would cut it off."""
_LIMIT = 512 * 1024 * 1024
_TIMESTAMP = 1024 * 1024


class _Notes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a name was first found unneeded: time -> names."""

    schema: Literal[1]
    since: dict[str, list[str]]


@dataclass
class Tally:
    """Objects of one kind: needed, unneeded but in grace, due to go; ``bytes`` of those."""

    kept: int = 0
    waiting: int = 0
    due: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Survey:
    """What a run found. ``due`` are names to remove, in order; ``since`` when each was noted."""

    tallies: Mapping[Kind, Tally]
    due: tuple[str, ...]
    since: Mapping[str, datetime]
    next_due: datetime | None
    problems: Mapping[str, OtaError]
    timestamp: bytes = field(repr=False)


def survey(
    repos: Repositories, opened: Callable[[], Iterable[str]], now: datetime, grace: timedelta
) -> Survey:
    """Look, and change nothing; see the module. ``opened``: paths that open rollouts name.

    Raises ``Malformed`` for a grace time under an hour or broken notes, ``Refusal``, ``Outage``.
    """
    if grace < LEAST:
        raise Malformed(
            f"grace: {grace} is too short for readers; an hour is the least", subject="grace"
        )
    look = Needed(repos, opened, now)
    listing = [
        n
        for p in (f"{layout.IMAGE}/", f"{layout.TARGETS}/", f"{layout.DEVICES}/")
        for n in repos.store.list(p)
    ]
    found = look.unneeded(listing)
    noted = _load(_path(repos))
    since = {name: min(noted.get(name, now), now) for name in found}
    due = [name for name in found if now - since[name] >= grace]
    tallies = {kind: Tally() for kind in KINDS}
    for name in listing:
        tallies[kind_of(name)].kept += name not in since
    for name in found:
        tallies[kind_of(name)].waiting += 1
    for name in due:
        tally = tallies[kind_of(name)]
        tally.waiting -= 1
        tally.due += 1
        tally.bytes += repos.store.size(name) or 0
    late = [moment + grace for name, moment in since.items() if now - moment < grace]
    last = set(needed.images(due))
    return Survey(
        tallies,
        (*(n for n in due if n not in last), *(n for n in due if n in last)),
        since,
        min(late, default=None),
        look.problems,
        look.timestamp,
    )


def collect(
    repos: Repositories,
    opened: Callable[[], Iterable[str]],
    now: datetime,
    grace: timedelta,
) -> Survey:
    """Note what is unneeded, remove what is due; what was removed is the answer's ``due``.

    Raises ``Busy`` (``lost-race``) when something is published meanwhile: run it again. Else as
    :func:`survey`; then nothing was removed.
    """
    with repos.locked():
        found = survey(repos, opened, now, grace)
        path = _path(repos)
        _save(path, found.since)
        for name in found.due:
            _still(repos, found.timestamp)
            repos.store.remove(name)
        gone = set(found.due)
        _save(path, {name: moment for name, moment in found.since.items() if name not in gone})
        return found


def kind_of(name: str) -> Kind:
    """What an object is, by its name."""
    if name.startswith(f"{layout.TARGETS}/"):
        return "images"
    return "image metadata" if name.startswith(f"{layout.IMAGE}/") else "director metadata"


def _still(repos: Repositories, timestamp: bytes) -> None:
    if repos.store.get(layout.image_metadata("timestamp.json"), _TIMESTAMP) != timestamp:
        raise Busy(
            "the image repository was published meanwhile",
            code="lost-race",
            subject="image",
            remedy="ota repo gc again",
        )


def _path(repos: Repositories) -> Path:
    return repos.state_path("gc.json")


def _load(path: Path) -> dict[str, datetime]:
    data = durable.read(path, _LIMIT, "notes of gc")
    if data is None:
        return {}
    try:
        notes = msgspec.json.decode(data, type=_Notes, strict=True)
        return {
            name: strict.instant(stamp, "since")
            for stamp, names in notes.since.items()
            for name in names
        }
    except (msgspec.MsgspecError, Malformed) as e:
        raise Malformed(
            f"{path}: {e}", subject=str(path), remedy=f"rm {path}: the grace time begins anew"
        ) from e


def _save(path: Path, since: Mapping[str, datetime]) -> None:
    notes: dict[str, list[str]] = {}
    for name, moment in since.items():
        notes.setdefault(strict.stamp(moment), []).append(name)
    durable.replace(path, msgspec.json.encode(_Notes(schema=1, since=notes)))
