"""Use case: a folder that is carried to devices: a USB stick, this side of a one-way diode.

1. What each device reads in its next cycle is found as for any mirror (``mirror.py``): verified, in
   the order in which it must appear. One device's trouble does not stop the others.
2. What the folder holds already stays; everything else, torn files too, is written whole or not at
   all: images, versioned metadata, each repository's timestamp after all that it leads to.
3. With ``prune``, what none of these devices needs goes, after everything else.

Killed anywhere, the next run goes on. Nobody who carries the folder is believed: devices verify what
arrives as they would anywhere, and what is missing or torn is an outage until it is complete.

>>> carry(mirror, CarriedFolder(Path("/media/stick")), ["press-07"], prune=True)
Carried(written=9, bytes=20411, unchanged=0, removed=0, problems={}, ends=...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Metadata, Timestamp

from ota.errors import OtaError, Outage
from ota.ports import Carrier, Mirror, MirrorFile
from signing import layout

_PIECE = 4 * 1024 * 1024
_OURS = ("image/", "director/")
"""Folders of a store; whatever else lies beside them is somebody else's."""


@dataclass(frozen=True)
class Carried:
    """What was done, or would be. ``problems``: device -> why nothing of its own is there.

    ``ends``: when the first timestamp in it expires; what is carried later than that is stale.
    """

    written: int
    bytes: int
    unchanged: int
    removed: int
    problems: dict[str, OtaError]
    ends: datetime | None


def carry(
    mirror: Mirror,
    there: Carrier,
    devices: Iterable[str],
    *,
    prune: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Carried:
    """See the module. ``progress`` is told bytes written, of how many.

    Raises ``Outage`` when the folder or the store says no; what is in the folder by then is whole.
    """
    wanted, problems = _wanted(mirror, devices)
    todo = [file for file in wanted if there.digest(file.name) != (file.length, file.sha256)]
    total = sum(file.length for file in todo)
    done = 0
    for file in () if dry_run else todo:
        for count in there.fill(file, _pieces(mirror, file)):
            done += count
            if progress:
                progress(done, total)
    needed = {file.name for file in wanted}
    spare = [name for place in _OURS for name in there.list(place) if name not in needed]
    if not prune or problems:  # what a device that could not be read needs is not known
        spare = []
    for name in () if dry_run else spare:
        there.remove(name)
    ends = min((_end(f.data) for f in wanted if f.data and _is_timestamp(f)), default=None)
    return Carried(len(todo), total, len(wanted) - len(todo), len(spare), problems, ends)


def _wanted(mirror: Mirror, devices: Iterable[str]) -> tuple[list[MirrorFile], dict[str, OtaError]]:
    """Every file once, in the order in which they must appear."""
    found: dict[str, MirrorFile] = {}
    problems: dict[str, OtaError] = {}
    for device in devices:
        try:
            found |= {file.name: file for file in mirror.files(device)}
        except OtaError as e:
            problems[device] = e
    return sorted(found.values(), key=_order), problems


def _order(file: MirrorFile) -> tuple[int, bool]:
    """Images, then the image repository, then directors; timestamps last in each."""
    director = file.name.startswith("director/")
    stage = 0 if file.name.startswith(f"{layout.TARGETS}/") else 2 if director else 1
    return stage, _is_timestamp(file)


def _is_timestamp(file: MirrorFile) -> bool:
    return file.name.endswith("/timestamp.json")


def _end(timestamp: bytes) -> datetime:
    """When verified bytes of a timestamp expire."""
    return Metadata[Timestamp].from_bytes(timestamp).signed.expires


def _pieces(mirror: Mirror, file: MirrorFile) -> Iterator[bytes]:
    if file.data is not None:
        yield file.data
        return
    for offset in range(0, file.length, _PIECE):
        data = mirror.piece(file.name, offset, min(_PIECE, file.length - offset))
        if not data:
            raise Outage(f"{file.name} is shorter than signed", code="missing", subject=file.name)
        yield data
