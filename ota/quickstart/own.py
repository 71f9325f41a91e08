"""The road with a person's own files: signed, published, rolled out in waves, verified.

Each file becomes a release of one component, rolled out over the one before it. The devices are
real agents with ``single-file`` slots; what they have installed is compared, byte for byte by
its hash, with the person's file.

>>> Own(folder, [Path("firmware.bin")], 3, show).run()["rollouts"][0]["state"]
'COMPLETED'
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ota.quickstart.demo import Show, summary
from ota.quickstart.devices import HARDWARE, Devices
from ota.quickstart.stage import Stage
from ota.repositories.release import Build

_WAVES = ({"name": "canary", "count": 1}, {"name": "rest", "rest": True, "allow_empty": True})


class Own:
    """See the module."""

    def __init__(self, folder: Path, files: Sequence[Path], count: int, show: Show) -> None:
        self._stage = Stage(folder)
        self._files = [file.absolute() for file in files]
        self._ids = [f"gw-{n:02d}" for n in range(1, count + 1)]
        self._show = show

    def run(self) -> dict[str, Any]:
        """Roll out every file in turn; ``wrong`` lists devices that do not hold it."""
        began = time.monotonic()
        rollouts: list[dict[str, Any]] = []
        wrong: list[str] = []
        with self._stage as stage:
            devices = Devices(stage, self._ids, files=True)
            devices.provision(lambda _done: None)
            self._show.say(f"{len(self._ids)} devices provisioned in {stage.folder}")
            with devices:
                for number, file in enumerate(self._files, 1):
                    rollouts.append(self._one(file, f"{number}.0.0"))
                    wrong += self._differing(devices, file)
        return {
            "devices": len(self._ids),
            "rollouts": rollouts,
            "attacks": [],
            "seconds": round(time.monotonic() - began, 1),
            "workspace": str(stage.folder),
            "wrong": wrong,
        }

    def _one(self, file: Path, version: str) -> dict[str, Any]:
        self._show.say(f"{file.name}: signed and published as image@{version}")
        build = Build(file, "image", version, (HARDWARE,), format="file")
        self._stage.publish(build)
        limit = 120.0 + 3.0 * len(self._ids) * file.stat().st_size / 50e6
        rollout = self._stage.start(f"own-{version.partition('.')[0]}", f"image@{version}", _WAVES)
        return summary(self._stage.run(rollout, self._show.step, limit))

    def _differing(self, devices: Devices, file: Path) -> list[str]:
        with file.open("rb") as source:
            expected = hashlib.file_digest(source, "sha256").hexdigest()
        wrong = []
        for device in self._ids:
            try:
                with (devices.home(device) / "image").open("rb") as source:
                    found = hashlib.file_digest(source, "sha256").hexdigest()
            except FileNotFoundError:
                found = "nothing"
            if found != expected:
                wrong.append(f"{device} holds {found[:12]}, not {expected[:12]} of {file.name}")
        self._show.say(f"{file.name}: {len(self._ids) - len(wrong)} devices hold it")
        return wrong
