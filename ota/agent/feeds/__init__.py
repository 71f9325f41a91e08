"""The device's side of couriers: how hints come in and how signed reports go out.

``spool``     files in a folder, carried by whatever carries files (``spool.py``)
``iot-jobs``  jobs of AWS IoT, over MQTT 5 or HTTPS with mutual TLS (``iot_jobs.py``)
``none``      no courier: the agent polls, and its reports wait in the outbox

>>> create(SpoolOptions(path="/var/spool/ota/press-07"), "press-07").next(0.0)
"""

from __future__ import annotations

import time
from pathlib import Path

from ota.agent.feeds.options import IotJobsOptions, Options, SpoolOptions
from ota.ports_device import Feed, Hint
from signing.errors import Outage


class NoFeed:
    """Implements ``ota.ports_device.Feed`` for a device without a courier."""

    def next(self, timeout: float) -> Hint | None:
        """Nothing ever comes; waits ``timeout`` seconds."""
        time.sleep(timeout)
        return None

    def done(self, hint: Hint) -> None:
        """There was none."""

    def send(self, counter: int, report: bytes) -> None:
        """Nobody takes it: ``Outage``, so that it waits in the outbox."""
        raise Outage(f"report {counter} ({len(report)} bytes): no feed is configured", code="feed")

    def close(self) -> None:
        """Nothing is open."""


def create(options: Options, device: str) -> Feed:
    """The feed that ``[feed]`` in agent.toml describes."""
    if isinstance(options, SpoolOptions):
        from ota.agent.feeds.spool import SpoolFeed  # noqa: PLC0415 - a device loads what it uses

        return SpoolFeed(Path(options.path), device)
    if isinstance(options, IotJobsOptions):
        from ota.agent.feeds.iot_jobs import IotJobsFeed  # noqa: PLC0415 - the same

        return IotJobsFeed(options, device)
    return NoFeed()
