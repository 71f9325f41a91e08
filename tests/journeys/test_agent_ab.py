"""A device with two slots and U-Boot's boot counter, through the whole agent and its reboots.

The vendor's updater is ``tests/simulators/ab_device.py`` behind the ``exec`` installer; its
environment is written by the real ``fw_setenv``. A reboot is what it is on a device: the process
ends, the boot loader chooses a slot, the boot id changes, a new process starts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from simulators.agentcli import Device

from signing import enrolment, report, statement
from signing.report import Report
from signing.strict import digest

UPDATER = Path(__file__).parents[1] / "simulators" / "ab_device.py"
BOARD = ["gw-rev-b", "ab-rev-1"]


class Board(Device):
    """Factory image in slot a; ``boot()`` restarts it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ab = folder / "ab"
        self.ab.mkdir()
        self.boots = 0
        self.boot_id = folder / "boot-id"
        self.asked = folder / "reboot-asked"
        argv = [sys.executable, "-I", "-S", str(UPDATER), str(self.ab)]
        super().__init__(
            folder,
            top=f'reboot = ["/usr/bin/touch", "{self.asked}"]',
            installer=f'installer = "exec"\noptions = {{ argv = {argv!r} }}'.replace("'", '"'),
        )
        (folder / "factory.img").write_bytes(b"factory")
        self._updater("factory", str(folder / "factory.img"))
        monkeypatch.setenv("OTA_AGENT_BOOT_ID_FILE", str(self.boot_id))
        self.boot()
        self.provision()

    def _updater(self, *words: str) -> None:
        subprocess.run([sys.executable, str(UPDATER), str(self.ab), *words], check=True)

    def boot(self) -> None:
        """Restart: the boot loader chooses, and the boot id is another."""
        self._updater("boot")
        self.boots += 1
        self.boot_id.write_text(f"boot-{self.boots}")
        self.asked.unlink(missing_ok=True)

    def runs(self, data: bytes) -> bool:
        """Whether the booted slot holds ``data``."""
        slot = (self.ab / "running").read_text()
        return (self.ab / f"slot-{slot}.img").read_bytes()[: len(data)] == data

    def env(self, name: str) -> str:
        """A variable of the boot loader, read by the real tool."""
        argv = ["fw_printenv", "-c", "fw_env.config", "-n", name]
        done = subprocess.run(argv, cwd=self.ab, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def ship_two(self, **custom: Any) -> None:
        self.ship("app/os-2.img", b"two", hardware_ids=BOARD, order="o-2", **custom)

    def reports(self) -> list[Report]:
        key = enrolment.verify((self.state / "identity" / "enrolment.json").read_bytes())
        files = sorted((self.folder / "spool" / "reports").iterdir())
        return [
            report.read(statement.verify("report", f.read_bytes(), [key.public_key])) for f in files
        ]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


def test_update_through_a_reboot(board: Board) -> None:
    """Staged, switched, rebooted, tried, committed; the factory slot is the way back."""
    board.ship_two()
    assert board.call("once").code == 8
    assert board.asked.exists()
    assert board.runs(b"factory")
    assert board.call("once").code == 8
    board.boot()
    assert board.call("once").code == 0
    assert board.runs(b"two")
    assert board.env("upgrade_available") == "0"
    last = board.reports()[-1].components["app"]
    assert last.current is not None
    assert last.previous is not None
    assert (last.current.sha256, last.previous.sha256) == (digest(b"two"), digest(b"factory"))
    board.boot()
    assert board.runs(b"two")


def test_image_that_never_gets_as_far_as_the_agent(board: Board) -> None:
    """The boot loader falls back past its limit, and the agent finds that out and reports it."""
    board.ship_two()
    board.call("once")
    for _ in range(3):
        board.boot()
    assert board.runs(b"factory")
    said = board.call("once")
    assert (said.code, "fell-back" in said.out) == (1, True)
    outcome = [r for r in board.reports() if r.event == "outcome"][-1]
    assert outcome.update is not None
    assert (outcome.update.outcome, outcome.code) == ("reverted", "fell-back")
    assert board.call("once").code == 0
    assert not board.asked.exists()


def test_unhealthy_image_is_taken_back_through_a_reboot(board: Board) -> None:
    """The probe fails in the new slot: the way back is switched, rebooted and reported."""
    board.ship_two()
    board.call("once")
    board.boot()
    board.healthy.unlink()
    assert board.call("once").code == 8
    assert board.asked.exists()
    board.boot()
    assert board.runs(b"factory")
    assert board.call("once").code == 1
    outcome = [r for r in board.reports() if r.event == "outcome"][-1]
    assert outcome.update is not None
    assert (outcome.update.outcome, outcome.code) == ("reverted", "unhealthy")
    assert board.env("upgrade_available") == "0"


@pytest.mark.parametrize("verb_effects", [1, 2, 3, 4])
def test_power_cut_in_the_updater(board: Board, verb_effects: int) -> None:
    """Power is cut inside the vendor's updater: the next cycles complete the update."""
    board.ship_two()
    (board.ab / "die-at").write_text(str(verb_effects))
    board.call("once")
    (board.ab / "die-at").unlink()
    board.boot()
    for _ in range(3):
        board.call("once")
        board.boot()
    outcomes = [r for r in board.reports() if r.event == "outcome" and r.update]
    assert len(outcomes) == 1
    assert board.call("verify").out == "sound\n"
    ended = outcomes[0].update
    assert ended is not None
    assert board.runs(b"two" if ended.outcome == "committed" else b"factory")
    assert ended.outcome in {"committed", "reverted"}
