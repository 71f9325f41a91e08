"""Many devices' director metadata, looked at side by side; one's trouble is not the others'.

What is unchanged since this workspace saw it last costs one request, and the time of that is
waiting: a store far away answers eight as soon as one.

>>> for device, found in states(desk, ["gw-1", "gw-2"]): ...
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ota.errors import OtaError
from ota.repositories.director import DirectorDesk
from signing.director.repository import DirectorState

_WORKERS = 8
_AT_ONCE = 256
"""Looks that are handed out before one of them is asked for."""


def states(
    desk: DirectorDesk, devices: Iterable[str]
) -> Iterator[tuple[str, DirectorState | OtaError]]:
    """Each device and its verified state, or why there is none; in the order of ``devices``."""

    def look(device: str) -> tuple[str, DirectorState | OtaError]:
        try:
            return device, desk.state(device)
        except OtaError as e:
            return device, e

    waiting = iter(devices)
    with ThreadPoolExecutor(_WORKERS, "look") as pool:
        while batch := list(itertools.islice(waiting, _AT_ONCE)):
            yield from pool.map(look, batch)


def uses(
    desk: DirectorDesk, paths: Collection[str], devices: Iterable[str]
) -> dict[str, list[str]]:
    """Path -> devices whose current director metadata names it (rule 9), in words; one look at each.

    Raises for a device of which nobody can say what it is assigned.
    """
    found: dict[str, list[str]] = {path: [] for path in paths}
    for device, state in states(desk, devices):
        if isinstance(state, OtaError):
            raise state
        for assignment in state.assignments.values():
            if assignment.path in found:
                why = f"the director assigns it to {device} (order {assignment.order})"
                found[assignment.path].append(why)
    return found
