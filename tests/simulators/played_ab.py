"""An A/B device in memory: two slots, a boot loader that can fall back, and faults on demand.

>>> ab = PlayedAB(running=b"one")
>>> ab.activate(sha)            # "reboot"
>>> ab.boot()                   # now the other slot runs, on trial
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from ota.ports_device import Activation, Slots, VerifiedBytes
from signing.errors import Outage
from signing.release import Release


@dataclass
class PlayedAB:
    """Implements ``ota.ports_device.Installer``; ``fails[verb]`` is a number of failures to come."""

    running: bytes = b""
    other: bytes = b""
    needs_reboot: bool = True
    trial: bool = False
    pending: str = ""
    fails: dict[str, int] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    def _call(self, verb: str) -> None:
        self.called.append(verb)
        left = self.fails.get(verb, 0)
        if left:
            self.fails[verb] = left - 1
            raise Outage(f"{verb} failed", code="installer")

    def boot(self, *, falls_back: bool = False) -> None:
        """Restart the device; a fall-back boots the old slot and forgets the trial."""
        if self.pending == "forward":
            self.pending = ""
            if not falls_back:
                self.running, self.other, self.trial = self.other, self.running, True
        elif self.pending == "back" or (self.trial and falls_back):
            self.pending, self.trial = "", False
            self.running, self.other = self.other, self.running

    def precheck(self, release: Release) -> None:
        self._call("precheck")

    def stage(self, image: VerifiedBytes) -> None:
        self._call("stage")
        self.other = image.path.read_bytes()

    def activate(self, sha256: str) -> Activation:
        self._call("activate")
        if sha(self.running) == sha256:
            return "active"
        if sha(self.other) != sha256:
            raise Outage("it is not staged", code="installer")
        self.pending = "forward"
        if self.needs_reboot:
            return "reboot"
        self.boot()
        return "active"

    def verify_active(self, sha256: str) -> bool:
        self._call("verify_active")
        return sha(self.running) == sha256

    def commit(self, sha256: str) -> None:
        self._call("commit")
        self.trial = False

    def rollback(self) -> Activation:
        self._call("rollback")
        if self.pending == "forward":
            self.pending = ""
            return "active"
        if not self.trial:
            return "active"
        self.pending = "back"
        if self.needs_reboot:
            return "reboot"
        self.boot()
        return "active"

    def cleanup(self, keep: Iterable[str]) -> None:
        self._call("cleanup")
        if not self.trial and sha(self.other) not in set(keep):
            self.other = b""

    def inspect(self) -> Slots:
        self._call("inspect")
        return Slots(sha(self.running), sha(self.other), "", trial=self.trial)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if data else ""
