"""What goes into a verified cycle, and what comes out of it. Data only; see ``trust.py``."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime

from signing.assignment import Assignment
from signing.errors import OtaError
from signing.playbooks.run import Assigned, PlaybookRun
from signing.playbooks.target import PlaybookTarget
from signing.release import Release
from signing.report import Versions


@dataclass(frozen=True)
class Known:
    """What the device knows from its own journal: the input of a cycle.

    ``committed``: component -> sha256 that runs and is committed, "" for nothing or unmanaged.
    ``denied``: (component, sha256) -> the order under which that release failed its health here.
    ``finished``: orders of playbooks that ended here, however they ended.
    """

    committed: Mapping[str, str]
    floors: Mapping[str, int]
    denied: Mapping[tuple[str, str], str]
    clock_floor: datetime
    finished: Container[str] = frozenset()


@dataclass(frozen=True)
class Wanted:
    """One component to be installed now: both repositories agree on it."""

    assignment: Assignment
    release: Release
    targets_version: int


@dataclass(frozen=True)
class WantedRun:
    """A playbook to be run now: both repositories agree on it. Its text is still to be verified."""

    assignment: PlaybookRun
    target: PlaybookTarget
    targets_version: int


@dataclass(frozen=True)
class Held:
    """An assignment that is not followed now: ``Refusal``, ``Stale`` or ``Outage`` says why.

    One component's refusal does not keep another component from its security fix.
    """

    assignment: Assigned
    error: OtaError
    targets_version: int


@dataclass(frozen=True)
class Cycle:
    """The outcome of a verified cycle."""

    wanted: tuple[Wanted, ...]
    held: tuple[Held, ...]
    denied: tuple[Assignment, ...]
    assigned: Mapping[str, Assigned]
    targets_version: int
    director: Versions
    image: Versions
    clock_floor: datetime
    run: WantedRun | None = None
