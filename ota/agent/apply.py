"""One update from its first byte to the moment its slot is switched. Nothing that runs changes.

The procedure, under the numbers in the code; each step is stored before it is taken:

1. REFRESHED -> DOWNLOADING: fetch the image, resumed; -> VERIFIED: hash it in full. What the
   previous slot already holds, verified when it was staged, is not fetched again.
2. The interlock is asked; VERIFIED -> STAGING -> STAGED: the inactive slot is written, from a
   file that nobody has touched since it was hashed.
3. The interlock is asked again, then the director once more; STAGED -> ACTIVATING, and
   ``switch.py`` goes on.

An outage here is tried again by the next cycle, what was fetched is kept; a failure of this
device itself (disk, installer) ends the order after :data:`TRIES` tries. A refusal ends the
update and changes nothing. A restarted process begins at 1 again: what is on the disk is hashed
again before it is used, so nobody gains by swapping it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ota.agent import states
from ota.agent.download import Downloader
from ota.agent.endings import Endings, Result, waiting
from ota.agent.following import Follower
from ota.agent.machine import Machine
from ota.agent.parts import Component
from ota.agent.report import Reporter
from ota.agent.state import State, Update
from ota.agent.switch import Switch
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Known, Wanted
from signing.errors import OtaError, Outage, Refusal, Stale

TRIES: Final = 5
"""Local failures (disk, installer) of one order before it is given up."""
STOPPING: Final = "stopping"
"""Code of the outage by which a stopping agent leaves a download."""
_LOCAL: Final = frozenset({"no-space", "disk", "io", "installer", "restart", "too-large"})
_INTERLOCK: Final = "interlock"


@dataclass
class Applier:
    """Works on one device's components.

    ``clock`` is the wall clock, ``known`` the journal's view; ``stopping`` is asked while bytes
    arrive.
    """

    state: State
    trust: TrustRoom
    downloader: Downloader
    components: Mapping[str, Component]
    reporter: Reporter
    machine: Machine
    known: Callable[[], Known]
    clock: Callable[[], datetime]
    flush: Callable[[], object]
    stopping: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        self._endings = Endings(self.state, self.reporter, self.downloader)
        self._switch = Switch(self.state, self.reporter, self._endings, self.machine, self.flush)

    # -- entry points --------------------------------------------------------------------------
    def apply(self, wanted: Wanted) -> Result:
        """Start, or start again, the update of one component. Every trouble becomes a Result."""
        update = self.state.update(wanted.assignment.component)
        if update is not None and update.assignment != wanted.assignment:
            self.fail(update, "superseded", "the director assigns something else now")
            update = None
        if update is None:
            update = self.state.begin(wanted)
        elif update.code == _INTERLOCK and (blocked := self._interlocked(update)):
            return blocked
        else:
            update = self.state.move(update, "restart", kept=False, code="", detail="")
        part = self.components[update.component]
        try:
            return self._before(update, part)
        except Refusal as e:
            return self._endings.refuse(self._latest(update), part, e)
        except (Outage, Stale) as e:
            return self._outage(self._latest(update), part, e)

    def resume(self, update: Update) -> Result:
        """Finish an update whose slot may be active: from ACTIVATING on."""
        return self._switch.go_on(update, self.components[update.component])

    def fail(self, update: Update, code: str, detail: str) -> Result:
        """End an update that has not touched what runs."""
        return self._endings.fail(update, self.components.get(update.component), code, detail)

    # -- the procedure -------------------------------------------------------------------------
    def _before(self, update: Update, part: Component) -> Result:
        self._settle_strangers(part)
        part.installer.precheck(update.release)
        tries = self.state.attempts(update.assignment)
        kept = part.installer.inspect().previous == update.release.sha256
        if part.keeps and kept and not tries:
            update = self.state.move(update, "kept", kept=True)
        else:
            staged = self._fetch_and_stage(update, part)
            if isinstance(staged, Result):
                return staged
            update = staged
        # (3)
        if blocked := self._interlocked(update):
            return blocked
        if not self.trust.still_assigned(update.wanted, self.known(), self.clock()):
            return self.fail(update, "withdrawn", "the director withdrew it before activation")
        with self.state.transaction():
            update = self.state.move(update, "activate", attempts=0, code="", detail="")
            self.reporter.progress(update)
        self.flush()
        return self._switch.go_on(update, part)

    def _settle_strangers(self, part: Component) -> None:
        """A trial that no journal knows of was never found healthy: it is taken back first."""
        if part.installer.inspect().trial and part.installer.rollback() == "reboot":
            raise Outage("an unknown trial needs a reboot to be taken back", code="installer")

    def _fetch_and_stage(self, update: Update, part: Component) -> Update | Result:
        # (1)
        with self.state.transaction():
            update = self.state.move(update, "download")
            self.reporter.progress(update)
        self.flush()
        follower = Follower(tuple(update.release.hashes))
        path = self.downloader.image(update.wanted, self._arrived, follower)
        image = self.trust.verify(update.wanted, path, self._arrived, follower)
        update = self.state.move(update, "verified")
        # (2)
        if blocked := self._interlocked(update):
            return blocked
        update = self.state.move(update, "stage")
        part.installer.stage(image)
        image.recheck()
        return self.state.move(update, "staged")

    def _arrived(self, _count: int) -> None:
        if self.stopping():
            raise Outage("the agent is stopping; it goes on from here", code=STOPPING)

    def _interlocked(self, update: Update) -> Result | None:
        why = self.machine.may_install()
        if not why:
            return None
        with self.state.transaction():
            update = self.state.note(update, code=_INTERLOCK, detail=why)
            self.reporter.progress(update, _INTERLOCK, why)
        return waiting(update, _INTERLOCK, why)

    # -- trouble -------------------------------------------------------------------------------
    def _latest(self, update: Update) -> Update:
        found = self.state.update(update.component)
        assert found is not None  # noqa: S101 - begun by apply, ended only with a Result
        return found

    def _outage(self, update: Update, part: Component, error: OtaError) -> Result:
        if update.state not in states.BEFORE:
            return waiting(update, error.code, str(error))  # the journal itself said no
        if error.code in _LOCAL and self.state.count_attempt(update.assignment) >= TRIES:
            return self._endings.fail(update, part, error.code, str(error))
        if error.code != STOPPING:
            self.reporter.progress(update, error.code, str(error))
        return waiting(update, error.code, str(error))
