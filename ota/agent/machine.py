"""The device around the agent: boots, monotonic time, the owner's interlock and reboot."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from ota.agent import command
from ota.agent.config import Config

BOOT_ID = "/proc/sys/kernel/random/boot_id"
_REBOOT_TIMEOUT = 60.0


class Machine(Protocol):
    """What the agent asks of the device around it."""

    def boot_id(self) -> str:
        """Changes with every boot."""

    def monotonic(self) -> float:
        """Seconds within one boot."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def may_install(self) -> str:
        """``""`` when it is a good time, else why not."""

    def reboot(self) -> None:
        """Ask for a reboot; returns when it was asked for, or when nobody can."""


class ThisMachine:
    """Implements :class:`Machine`. ``OTA_AGENT_BOOT_ID_FILE`` names another boot id file.

    In a container the kernel's boot id does not change when the container restarts; there the
    owner points the variable at a file that does.
    """

    def __init__(self, config: Config) -> None:
        self._may_install = config.may_install
        self._reboot = config.reboot
        self._boot_id = Path(os.environ.get("OTA_AGENT_BOOT_ID_FILE", BOOT_ID))

    def boot_id(self) -> str:
        """Changes with every boot; "unknown" where the system does not say."""
        try:
            return self._boot_id.read_text("ascii", "replace").strip()[:64] or "unknown"
        except OSError:
            return "unknown"

    def monotonic(self) -> float:
        """Seconds within one boot, the same for every process."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def may_install(self) -> str:
        """Ask the interlock: "" for yes, else its words. Anything but exit status 0 is a no."""
        if self._may_install is None:
            return ""
        ran = command.run(self._may_install.argv, timeout=self._may_install.timeout)
        return "" if ran.succeeded else ran.why()

    def reboot(self) -> None:
        """Run the owner's reboot command, if there is one; somebody else reboots otherwise."""
        if self._reboot is not None:
            command.run(self._reboot, timeout=_REBOOT_TIMEOUT)
