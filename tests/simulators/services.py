"""Services of a test, kept by ``servicectl.sh``: real processes, ended with the test.

>>> with Services(tmp_path / "services") as services:
...     services.add("web", "exec sleep 60")
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Self

SCRIPT = Path(__file__).with_name("servicectl.sh")


class Services:
    """One folder of services; ``argv`` is what agent.toml calls ``service_manager``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.argv = ["sh", str(SCRIPT), str(folder)]

    def add(self, name: str, script: str) -> None:
        """A service whose program is this shell script."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def pid(self, name: str) -> int:
        """The process that runs it; 0 for none."""
        path = self.folder / f"{name}.pid"
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text and _alive(int(text)) else 0

    def asked(self) -> list[str]:
        """Everything that the manager was asked to change, in order."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] not in {"status", "enabled"}]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self.folder.glob("*.pid"):
            number = self.pid(path.stem)
            if number:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                until = time.monotonic() + 5
                while _alive(number) and time.monotonic() < until:
                    time.sleep(0.01)


def _alive(number: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False
