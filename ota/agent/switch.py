"""From ACTIVATING on: the running slot may have changed, so it is finished or taken back.

Nothing here needs the network, and nothing here believes a memory: after every restart the
installer is asked what is there, and the current step is redone.

1. ACTIVATING: the installer switches; -> TRIAL, or -> PENDING_REBOOT until another boot.
2. PENDING_REBOOT: the new slot runs: TRIAL; another boot and the old one runs: it fell back.
3. TRIAL: the slot must hold the image, and the probe must be healthy before its deadline, which
   is counted in monotonic time of one boot, never by the wall clock.
4. COMMITTING -> DONE: the trial ends; the floor rises to the lowest bootable counter (rule 5).
5. Any failure from 1 to 3: ROLLING_BACK -> ROLLED_BACK, and a release that failed is denied
   here (rule 8). If even that fails: NEEDS_HUMAN.

Every step is counted before it is taken: what is cut short more than :data:`TRIES` times, by
reboots or crashes, is taken back, so no image can keep a device in a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ota.agent import floors, states
from ota.agent.endings import DETAIL, Endings, Result, waiting
from ota.agent.facts import Image
from ota.agent.machine import Machine
from ota.agent.parts import Component
from ota.agent.report import Reporter
from ota.agent.state import State, Update
from ota.ports_device import Unhealthy
from signing.errors import OtaError, Outage

TRIES: Final = 3
"""Starts of one activation or trial, and tries of one commit or way back."""
GRACE: Final = 10.0
"""Seconds that a probe gets at least when the agent itself was away during the trial."""
KEPT_UNUSABLE: Final = "kept-unusable"
"""The previous slot did not hold what it should: the image is fetched instead."""
_OF_THE_DEVICE: Final = frozenset({"no-space", "disk", "io", KEPT_UNUSABLE})
"""Failures that say nothing about the release: it is not denied for them."""


@dataclass
class Switch:
    """Works on one component at a time. ``flush`` hands over reports where it can."""

    state: State
    reporter: Reporter
    endings: Endings
    machine: Machine
    flush: Callable[[], object]

    def go_on(self, update: Update, part: Component) -> Result:
        """Redo the current step and go on; from ACTIVATING on."""
        steps: dict[states.State, Callable[[Update, Component], Result]] = {
            "ACTIVATING": self._activate,
            "PENDING_REBOOT": self._booted,
            "TRIAL": self._trial,
            "COMMITTING": self._commit,
            "ROLLING_BACK": self._roll_back,
        }
        return steps[update.state](update, part)

    # -- (1), (2) ------------------------------------------------------------------------------
    def _activate(self, update: Update, part: Component) -> Result:
        update = self._count(update)
        if update.attempts > TRIES:
            return self._revert(update, part, "activation-loop", "cut short too often")
        try:
            activation = part.installer.activate(update.release.sha256)
        except OtaError as e:
            code = self._blame(update, part, e)
            return self._revert(update, part, code, str(e))
        if activation == "reboot":
            boot = self.machine.boot_id()
            update = self.state.move(update, "reboot", boot_id=boot, attempts=0)
            return self._wait_for_boot(update)
        return self._trial(self._begin_trial(update), part)

    def _blame(self, update: Update, part: Component, error: OtaError) -> str:
        """A kept slot that could not even be switched to is fetched anew, and nobody's fault."""
        if not update.kept:
            return error.code
        try:
            slots = part.installer.inspect()
        except OtaError:
            return error.code
        touched = slots.trial or slots.current == update.release.sha256
        return error.code if touched else KEPT_UNUSABLE

    def _booted(self, update: Update, part: Component) -> Result:
        try:
            runs = part.installer.inspect().current == update.release.sha256
        except OtaError as e:
            return self._again(update, part, e)
        if runs:
            return self._trial(self._begin_trial(update), part)
        if self.machine.boot_id() == update.boot_id:
            return self._wait_for_boot(update)
        return self._revert(update, part, "fell-back", "after the reboot the old image runs")

    def _again(self, update: Update, part: Component, error: OtaError) -> Result:
        """An installer that can not say what runs is asked again, but not for ever."""
        update = self._count(update)
        if update.attempts > TRIES:
            return self._revert(update, part, error.code, str(error))
        return waiting(update, error.code, str(error))

    def _wait_for_boot(self, update: Update) -> Result:
        self.flush()
        self.machine.reboot()
        return waiting(update, "pending-reboot", "waiting for a reboot")

    # -- (3) -----------------------------------------------------------------------------------
    def _begin_trial(self, update: Update) -> Update:
        boot, now = self.machine.boot_id(), self.machine.monotonic()
        return self.state.move(update, "active", attempts=0, boot_id=boot, since=now)

    def _trial(self, update: Update, part: Component) -> Result:
        update = self._count(update)
        if update.attempts > TRIES:
            return self._revert(update, part, "trial-loop", "the trial was cut short too often")
        fault = self._not_active(update, part)
        if fault:
            return self._revert(update, part, *fault)
        if self.machine.boot_id() != update.boot_id:
            boot, now = self.machine.boot_id(), self.machine.monotonic()
            update = self.state.note(update, boot_id=boot, since=now)
        health = part.probe.check(self._seconds(update, part))
        if isinstance(health, Unhealthy):
            return self._revert(update, part, "unhealthy", health.reason)
        return self._commit(self.state.move(update, "healthy", attempts=0), part)

    def _not_active(self, update: Update, part: Component) -> tuple[str, str] | None:
        sha256 = update.release.sha256
        try:
            if part.installer.inspect().current != sha256:
                return "fell-back", "the image that was tried does not run any more"
            if not part.installer.verify_active(sha256):
                code = KEPT_UNUSABLE if update.kept else "not-active"
                return code, "the running slot does not hold the image as it was signed"
        except OtaError as e:
            return e.code, str(e)
        return None

    def _seconds(self, update: Update, part: Component) -> float:
        """What is left of the deadline in this boot; an agent that was away gets a last look."""
        left = part.deadline - (self.machine.monotonic() - update.since)
        return max(left, min(part.deadline, GRACE))

    # -- (4) -----------------------------------------------------------------------------------
    def _commit(self, update: Update, part: Component) -> Result:
        sha256 = update.release.sha256
        update = self._count(update)
        try:
            if part.installer.inspect().current != sha256:
                return self._revert(update, part, "fell-back", "it stopped before its commit")
            part.installer.commit(sha256)
            slots = part.installer.inspect()
        except OtaError as e:
            if update.attempts < TRIES:
                return waiting(update, e.code, str(e))
            return self._stuck(update, e)
        with self.state.transaction():
            self.state.remember_image(update.component, sha256, self._image(update))
            self.state.forget_images(update.component, {slots.current, slots.previous})
            self.state.clear_denial(update.component, sha256)
            floors.rise(self.state, part.name, slots)
            floors.begin_soak(self.state, part.name, slots, self.machine)
            update = self.state.move(update, "committed", code="", detail="")
            result = self.endings.end(update, "committed", health="healthy")
        self.endings.downloader.discard(sha256)
        return result

    def _image(self, update: Update) -> Image:
        r, now = update.release, self.reporter.now()
        return Image(r.path, r.version, r.release_counter, r.length, r.security_fix, now)

    # -- (5) -----------------------------------------------------------------------------------
    def _revert(self, update: Update, part: Component, code: str, detail: str) -> Result:
        changes = {"code": code, "detail": detail[:DETAIL], "attempts": 0, "boot_id": ""}
        with self.state.transaction():
            if code not in _OF_THE_DEVICE:
                self.state.deny(update.component, update.release.sha256, update.assignment.order)
            update = self.state.move(update, "revert", **changes)
        return self._roll_back(update, part)

    def _roll_back(self, update: Update, part: Component) -> Result:
        """``boot_id`` is set once the way back needs a reboot: it names the boot before it."""
        if update.boot_id and update.boot_id == self.machine.boot_id():
            return self._wait_for_boot(update)
        update = self._count(update)
        try:
            if update.attempts > TRIES:
                raise Outage("going back was cut short too often", code="rollback-loop")
            if part.installer.rollback() == "reboot":
                update = self.state.note(update, boot_id=self.machine.boot_id())
                return self._wait_for_boot(update)
            slots = part.installer.inspect()
            if slots.current == update.release.sha256:
                raise Outage("the new image still runs after going back", code="rollback-failed")
            part.installer.cleanup([slots.current, slots.previous])
        except OtaError as e:
            if update.attempts < TRIES:
                return self._roll_back(update, part)
            return self._stuck(update, e)
        self.endings.downloader.discard(update.release.sha256)
        with self.state.transaction():
            update = self.state.move(update, "back")
            if update.code == KEPT_UNUSABLE:
                return self.endings.put_off(update)
            self.state.close_order(update.assignment, update.code)
            return self.endings.end(update, "reverted", update.detail)

    def _stuck(self, update: Update, error: OtaError) -> Result:
        with self.state.transaction():
            before = f"{update.code}: {update.detail}; then " if update.code else ""
            detail = f"{before}{error.code}: {error}"[:DETAIL]
            update = self.state.move(update, "stuck", code="needs-human", detail=detail)
            self.state.close_order(update.assignment, "needs-human")
            return self.endings.end(update, "failed")

    def _count(self, update: Update) -> Update:
        return self.state.note(update, attempts=update.attempts + 1)
