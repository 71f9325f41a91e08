"""The owner's restart command, run after the slot was switched: forward and back.

Its failure is the activation's failure (``Outage`` with code ``restart``): the agent then goes
back. It must be safe to repeat, because a step cut short by a power failure is redone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ota.agent import command
from signing.errors import Outage


@dataclass(frozen=True)
class Restart:
    """``argv`` may be empty: nothing to restart."""

    argv: Sequence[str] = ()
    timeout: float = 60.0

    def __call__(self) -> None:
        """Run it; ``Outage("restart")`` when it fails or outlives its ``timeout`` (seconds)."""
        if not self.argv:
            return
        ran = command.run(self.argv, timeout=self.timeout, keep_children=True)
        if not ran.succeeded:
            raise Outage(
                f"the restart command failed: {ran.why()}", code="restart", subject=self.argv[0]
            )

    def back(self, *, to_nothing: bool) -> None:
        """After a rollback. Where nothing ran before, there is nothing that could start."""
        if not to_nothing:
            self()
            return
        with suppress(Outage):
            self()
