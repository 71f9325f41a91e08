"""The Protocols of the device: how it hears, installs and asks whether all is well.

The agent knows these and none of the operators' (``ota/ports.py``). One contract suite per port
(``tests/contract/``) runs on every feed and installer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from signing.release import Release


@dataclass(frozen=True)
class Hint:
    """Says "look now"; nothing in it is believed; it only wakes the agent."""

    data: bytes
    receipt: Any


class Feed(Protocol):
    """The device's side of a courier."""

    def next(self, timeout: float) -> Hint | None:
        """Wait up to ``timeout`` seconds for a hint; ``Outage`` while none can come."""

    def done(self, hint: Hint) -> None:
        """The hint was looked at; do not offer it again."""

    def send(self, counter: int, report: bytes) -> None:
        """Hand over one signed report; raises ``Outage`` and may be repeated byte for byte."""

    def close(self) -> None:
        """Let go of connections; may be called twice."""


class VerifiedBytes(Protocol):
    """What an installer may take: built by the trust room only (``ota/agent/trust.py``)."""

    @property
    def path(self) -> Path:
        """The verified file, inside the agent's own folder."""

    @property
    def release(self) -> Release:
        """Its signed description."""


Activation = Literal["active", "reboot"]


@dataclass(frozen=True)
class Slots:
    """What is really there: SHA-256 of the image in each slot, or "" for none or unknown.

    ``trial`` is true while ``current`` runs uncommitted (after activate, before commit).
    """

    current: str
    previous: str
    staged: str
    trial: bool


class Installer(Protocol):
    """Puts one component's images into slots. Every method may be repeated after a crash."""

    def precheck(self, release: Release) -> None:
        """Raise ``Outage`` (code ``no-space`` ...) or ``Refusal`` before anything is written."""

    def stage(self, image: VerifiedBytes) -> None:
        """Write the image to the inactive slot, synced. Nothing that runs changes."""

    def activate(self, sha256: str) -> Activation:
        """Make the staged image the one that runs, on trial; ``reboot`` if a reboot is needed."""

    def verify_active(self, sha256: str) -> bool:
        """Whether the running slot holds this image."""

    def commit(self, sha256: str) -> None:
        """End the trial: keep the image; keep at most one previous."""

    def rollback(self) -> Activation:
        """Go back to the slot that ran before the trial."""

    def cleanup(self, keep: Iterable[str]) -> None:
        """Remove everything staged or kept whose hash is not in ``keep``."""

    def inspect(self) -> Slots:
        """Ask the medium itself, never a memory of it."""


@dataclass(frozen=True)
class Healthy:
    """The probe succeeded as often in a row as asked."""


@dataclass(frozen=True)
class Unhealthy:
    """The probe's last word before its deadline."""

    reason: str


class HealthProbe(Protocol):
    """Asks the component whether it works."""

    def check(self, deadline: float) -> Healthy | Unhealthy:
        """Block until healthy or until ``deadline`` seconds have passed."""
