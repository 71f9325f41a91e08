"""The Protocols between operators' use cases and adapters. Few methods, in the caller's words.

Use cases and adapters never import each other; ``ota/wiring/wiring.py`` introduces them. One contract
suite per port (``tests/contract/``) runs on every adapter. The device's: ``ota/ports_device.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from securesystemslib.signer import Key

from signing.approval import Approvers, Authorisation
from signing.edition import Upload
from signing.errors import OtaError, Refusal
from signing.playbooks.run import Assigned
from signing.playbooks.target import PlaybookTarget
from signing.release import Release
from signing.report import ComponentState, Report

Clock = Callable[[], datetime]
"""Time is always an argument: returns an aware UTC datetime."""


# -- stores ------------------------------------------------------------------------------------
class ArtifactStore(Protocol):
    """Where signed bytes lie for devices to fetch. Names are relative, ``/``-separated."""

    def get(self, name: str, limit: int) -> bytes | None:
        """Bytes of ``name`` or None; ``Refusal("oversize")`` past limit; ``Outage``."""

    def put(self, name: str, data: bytes) -> None:
        """Create an immutable object. The same bytes again: nothing. Others: ``Busy``."""

    def upload(self, item: Upload, progress: Callable[[int], None] | None = None) -> None:
        """Copy an image in, hashing it; ``Malformed`` if the source changed. Idempotent."""

    def swap(self, name: str, data: bytes, expected: bytes | None) -> None:
        """Replace ``name`` if it still holds ``expected`` (None: absent); else ``Busy``."""

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes of an object from ``offset`` on; ``NotFound``, ``Outage``."""

    def digest(self, name: str) -> tuple[int, str] | None:
        """Length in bytes and SHA-256 of an object, streamed; None when it is not there."""

    def size(self, name: str) -> int | None:
        """Length in bytes of an object, without reading it; None when it is not there."""

    def remove(self, name: str) -> None:
        """Remove an object durably (``ota repo gc`` alone does); a missing one is nothing."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names below ``prefix``, sorted."""


# -- mirrors on devices that can not reach the store ---------------------------------------------
@dataclass(frozen=True)
class MirrorFile:
    """One object that a device must be able to read; ``data`` is None for an image."""

    name: str
    length: int
    sha256: str
    data: bytes | None


class Mirror(Protocol):
    """Says what a device reads in its next cycle, and hands it out."""

    def files(self, device: str) -> Sequence[MirrorFile]:
        """In the order in which they must appear; ``NotFound``, ``Outage``, ``Refusal``."""

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes of an image from ``offset`` on."""


class Carrier(Protocol):
    """A folder that somebody carries to devices, as a stick or through a diode."""

    def digest(self, name: str) -> tuple[int, str] | None:
        """Length in bytes and SHA-256 of an object, streamed; None when it is not there."""

    def fill(self, file: MirrorFile, pieces: Iterable[bytes]) -> Iterator[int]:
        """Write an object whole, over whatever is there; yields the bytes of each piece.

        ``Refusal`` (``image-mismatch``) for other bytes than the file's, which are not kept.
        """

    def remove(self, name: str) -> None:
        """Remove an object durably; a missing one is nothing."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names below ``prefix``, sorted."""


# -- fleet -------------------------------------------------------------------------------------
DeviceState = Literal["active", "restored", "retired"]


@dataclass(frozen=True)
class Device:
    """One registered device as use cases see it.

    ``components`` is the last *signed* state of each component (enrolment or report).
    ``held_state_id`` is an unaccepted new incarnation when ``state`` is ``restored``.
    """

    id: str
    key: Key
    state: DeviceState
    state_id: str
    counter: int
    courier: str
    labels: Mapping[str, str] = field(default_factory=dict)
    components: Mapping[str, ComponentState] = field(default_factory=dict)
    last_seen: datetime | None = None
    held_state_id: str = ""


@dataclass(frozen=True)
class Received:
    """A report after verification: ``accepted`` new, ``duplicate`` seen before, or held."""

    report: Report
    status: Literal["accepted", "duplicate", "held"]


class Fleet(Protocol):
    """The registry of devices and of what they signed."""

    def devices(self, selector: str = "") -> Iterator[Device]:
        """Devices matching a Kubernetes label selector, ordered by id; ``Malformed``."""

    def device(self, device_id: str) -> Device:
        """One device, or ``NotFound``."""

    def record(self, envelope: bytes, now: datetime) -> Received:
        """Verify and store one report (rule 13); ``Refusal`` ``report-*``/``statement-*``."""

    def record_all(self, envelopes: Sequence[bytes], now: datetime) -> list[Received | Refusal]:
        """Many at once, each judged by itself; answers in the same order."""

    def latest(self, rollout: str) -> Mapping[str, Report]:
        """Device -> its newest accepted report about an order of this rollout."""


# -- couriers ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Order:
    """One batch handed to a courier; ``id`` makes every dispatch idempotent.

    ``devices`` are those that a call is about, ``issued`` all that the order was recorded for.
    ``releases`` are what it sends out, as ``component@version``; ``deadline`` is the wave's, in
    seconds, 0 where it does not matter.
    """

    id: str
    rollout: str
    devices: tuple[str, ...]
    expires: datetime
    issued: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    deadline: int = 0


@dataclass(frozen=True)
class Delivery:
    """Something that came back: unverified bytes and where they came from.

    ``receipt`` is the courier's own handle for ``acknowledge`` and ``quarantine``.
    """

    data: bytes
    source: str
    receipt: Any


class Courier(Protocol):
    """Carries hints out and reports back. Useful and untrusted."""

    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Hand over; idempotent on ``order.id``. Returns device -> reason for unreachable ones."""

    def collect(self, limit: int) -> Sequence[Delivery]:
        """Up to ``limit`` deliveries that were not acknowledged yet, oldest first."""

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Called only after their content is durable on this side."""

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep it for a human, name it, never offer it again."""

    def cancel(self, order: Order) -> None:
        """Withdraw the hint where it still can be; idempotent."""


@dataclass(frozen=True)
class Followed:
    """What a courier's own books say about an order; never an outcome.

    ``lost``: device -> what they say of one that has not reported. ``note``: of the order itself.
    ``closed``: nothing of it is open there any more.
    """

    lost: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    closed: bool = False


@runtime_checkable
class Sized(Protocol):
    """A courier for which orders above a size cost more than several smaller ones."""

    @property
    def order_size(self) -> int:
        """Devices of one order at most; a plan may say fewer."""


@runtime_checkable
class Follower(Protocol):
    """A courier that keeps books of its own about orders, such as jobs with executions."""

    def follow(self, order: Order, waiting: Sequence[str], *, close: bool) -> Followed:
        """Look the order up; ``waiting`` devices have no outcome. ``close``: end what is open."""

    def tidy(self, order: Order) -> bool:
        """Remove what an order that is over has left there; True when nothing is left."""


# -- machines without an agent ------------------------------------------------------------------
@dataclass(frozen=True)
class Errand:
    """One command for many machines; repeated on one of them, it must do nothing twice.

    ``pushes``: files to bring there first, local path -> absolute path. ``timeout`` in seconds,
    ``limit`` in bytes of stdout.
    """

    argv: tuple[str, ...]
    stdin: bytes
    timeout: float
    limit: int
    pushes: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Answered:
    """What one machine answered: exit status and output, or the ``error`` for which it did not."""

    device: str
    status: int
    out: bytes
    err: bytes
    error: OtaError | None


class Shells(Protocol):
    """A way to run a command on machines, agent or not."""

    def each(self, devices: Iterable[str], errand: Errand) -> Iterator[Answered]:
        """One answer for each device, as they come; one machine's trouble stops no other."""


# -- what the rollout needs of both repositories ------------------------------------------------
class Catalogue(Protocol):
    """The image repository as verified just now on the operator's side."""

    def releases(self) -> Mapping[str, Release]:
        """Target path -> release, for every listed and unexpired release."""

    def playbooks(self) -> Mapping[str, PlaybookTarget]:
        """Target path -> playbook, for every listed and unexpired one."""

    def snapshot_version(self) -> int:
        """Version of the image snapshot that lists them."""

    def approvers(self) -> Approvers:
        """Who may author and approve plans, as the image repository says."""


class Desk(Protocol):
    """Writes director metadata of one device at a time; each call is durable and idempotent."""

    def assign(
        self, authorisation: Authorisation, device: str, assignment: Assigned, now: datetime
    ) -> None:
        """Publish; other components' assignments stay. ``Refusal("outside-plan")``, ``Busy``."""

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> datetime | None:
        """Remove assignments of these orders; returns until when the old ones can be replayed.

        None when there was nothing to remove.
        """

    def assignments(self, device: str) -> Mapping[str, Assigned]:
        """Component (or ``playbooks``) -> what the device's verified director metadata assigns."""


# -- journal -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Event:
    """One line of a rollout's history. ``version`` counts from 1 without gaps."""

    rollout: str
    version: int
    time: datetime
    kind: str
    body: Mapping[str, Any]


class Journal(Protocol):
    """Append-only, hash-chained history of rollouts."""

    def load(self, rollout: str) -> Sequence[Event]:
        """All events in order; ``Refusal("journal-broken")`` when the chain does not hold."""

    def append(self, event: Event) -> None:
        """Append if ``event.version`` is the next one, else ``Busy``. Durable on return."""

    def rollouts(self) -> Sequence[str]:
        """Ids of all rollouts, oldest first."""
