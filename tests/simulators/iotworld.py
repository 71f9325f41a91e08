"""A fleet behind the courier ``iot-jobs``: engine, registry, journal and reports are the real ones.

AWS is the strict one in memory (``awsfake``). A device that has a hint takes its job, sends what an
agent sends for one update (four signed reports: downloading, activating, the outcome, what is
installed now), and ends its execution.

>>> world = IotWorld(tmp_path, fake, devices=200)
>>> world.start(20, 180, limits=Limits(in_flight=200, batch=100))
>>> world.drive()
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from simulators.awsfake import FakeAws
from simulators.fleet_sim import SimDevice, World

REPORTS = 4
"""Signed reports of one update, counted on a real agent (``test_iot_jobs_counts``)."""


class IotWorld(World):
    """``lost`` devices' reports never arrive; with ``twice`` every message is delivered twice."""

    def __init__(self, folder: Path, fake: FakeAws, devices: int, **options: Any) -> None:
        self.fake = fake
        self.lost: set[str] = set()
        self.twice = False
        self._options = {"account": "111122223333", **options}
        self._folder = folder
        courier: Any = fake.courier(folder, **self._options)
        super().__init__(folder, devices, courier=courier)
        fake.things |= set(self.devices)

    def restart(self) -> None:
        """A new process: a new courier, a new engine; what the old one had taken comes again."""
        self.fake.offer_again()
        self.courier = self.fake.courier(self._folder, **self._options)
        self.campaign = self.fresh()

    def tick(self, seconds: float = 10) -> None:
        """Time passes, also for those who wait until AWS is well again."""
        super().tick(seconds)
        self.fake.passed += seconds

    def poll(self, *names: str) -> None:
        for name in names or self.devices:
            device = self.devices[name]
            wanted = self.desk.assignments(name).get("app")
            if wanted is None or wanted.order in device.done or device.mood == "off":
                continue
            reports = [] if device.mood != "ok" else self._progress(device, wanted)
            ended = device.poll(wanted, self.catalogue.listed)
            reports += [ended] if ended is not None else []
            if device.mood == "ok":
                reports.append(device.send(event="inventory"))
            self._end(name, wanted.order, device)
            if name not in self.lost:
                for report in reports:
                    self._publish(name, report)

    def _progress(self, device: SimDevice, wanted: Any) -> list[bytes]:
        return [
            device.about(wanted, phase, "in_progress") for phase in ("DOWNLOADING", "ACTIVATING")
        ]

    def _publish(self, name: str, report: bytes) -> None:
        body = json.dumps({"report": base64.b64encode(report).decode(), "thing": name})
        for _ in range(1 + self.twice):
            self.fake.send(body)

    def _end(self, name: str, order: str, device: SimDevice) -> None:
        job = self.fake.jobs.get(order)
        if job is not None and job.executions.get(name) in {"QUEUED", "IN_PROGRESS"}:
            job.executions[name] = {"sick": "FAILED", "broken": "FAILED"}.get(
                device.mood, "SUCCEEDED"
            )
