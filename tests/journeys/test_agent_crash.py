"""The agent killed at every step that it persists: the device always ends where it should.

A child process does one cycle and is killed, really, by SIGKILL, just before or just after its
N-th change of the journal, or at its N-th change of the file system; then new processes go on.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from simulators.agentbox import Box, sha
from simulators.dying import keep, killed, kills, settle

DISK = ("state", "slots", "spool")
STRIDE = int(os.environ.get("STRIDE", "5"))
"""Of the file system's changes every fifth is tried (``STRIDE=1``: each); of the journal's every one."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Release one is committed; release two is assigned; the disk is kept for later."""
    box = Box(tmp_path)
    box.ship()
    box.cycle()
    box.ship("app/app-2.bin", b"two", release_counter=2, security_fix=False, order="o-2")
    keep(box, DISK)
    return box


def check_reports(box: Box, ends: tuple[str, str]) -> None:
    """Every counter once, the outcome once, and the signed state is the real one."""
    reports = box.reports()
    assert [r.counter for r in reports] == sorted({r.counter for r in reports})
    outcomes = [r for r in reports if r.update and r.update.order == "o-2" and r.event == "outcome"]
    assert [(r.update.outcome, r.code) for r in outcomes if r.update] == [ends]
    state = reports[-1].components["app"]
    assert state.current is not None
    assert box.running is not None
    assert state.current.sha256 == sha(box.running)
    with box.opened() as journal:
        assert journal.updates() == journal.outbox() == []


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", STRIDE)])
def test_killed_update_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, the update is committed by the next processes, and reported once."""
    for at in kills(box, watch, stride, DISK):
        assert box.running in {b"one", b"two"}, f"killed at {at}: neither old nor new runs"
        settle(box)
        assert box.running == b"two"
        check_reports(box, ("committed", ""))
        slots = box.installer.inspect()
        assert (slots.previous, slots.staged, slots.trial) == (sha(b"one"), "", False)
        with box.opened() as journal:
            assert journal.floors() == {"app": 1}
            assert journal.denials() == {}


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", STRIDE)])
def test_killed_way_back_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, an unhealthy release ends up taken back, denied and reported once."""
    box.probe.sick = "no"
    for at in kills(box, watch, stride, DISK):
        assert box.running in {b"one", b"two"}, f"killed at {at}: neither old nor new runs"
        settle(box)
        assert box.running == b"one"
        check_reports(box, ("reverted", "unhealthy"))
        slots = box.installer.inspect()
        assert (slots.current, slots.staged, slots.trial) == (sha(b"one"), "", False)
        with box.opened() as journal:
            assert journal.denials() == {("app", sha(b"two")): "o-2"}


def test_killed_again_and_again_in_one_trial(box: Box) -> None:
    """A device that dies in every trial stops trying: taken back, and told why."""

    class Probe:
        def check(self, _deadline: float) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    honest, box.probe = box.probe, Probe()  # type: ignore[assignment]  # it dies when asked
    for _ in range(3):
        assert killed(box, "watch_files", 10**9)
    box.probe = honest
    settle(box)
    assert box.running == b"one"
    check_reports(box, ("reverted", "trial-loop"))
