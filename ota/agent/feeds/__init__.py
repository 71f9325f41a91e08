"""The device's side of couriers: how hints come in and how signed reports go out.

``spool``  files in a folder, carried by whatever carries files (``spool.py``)
``none``   no courier: the agent polls, and its reports wait in the outbox

>>> create("spool", "/var/spool/ota/press-07", "press-07").next(0.0)
"""

from __future__ import annotations

import time
from pathlib import Path

from ota.ports import Feed, Hint
from signing.errors import Malformed, Outage


class NoFeed:
    """Implements ``ota.ports.Feed`` for a device without a courier."""

    def next(self, timeout: float) -> Hint | None:
        """Nothing ever comes; waits ``timeout`` seconds."""
        time.sleep(timeout)
        return None

    def done(self, hint: Hint) -> None:
        """There was none."""

    def send(self, counter: int, report: bytes) -> None:
        """Nobody takes it: ``Outage``, so that it waits in the outbox."""
        raise Outage(f"report {counter} ({len(report)} bytes): no feed is configured", code="feed")


def create(kind: str, path: str, device: str) -> Feed:
    """The feed that ``[feed]`` in agent.toml names; ``Malformed`` for an unknown one."""
    if kind == "none":
        return NoFeed()
    if kind == "spool":
        from ota.agent.feeds.spool import SpoolFeed  # noqa: PLC0415 - a device loads what it uses

        return SpoolFeed(Path(path), device)
    raise Malformed(f"feed.kind: {kind!r:.60} is none of spool, none", remedy="correct agent.toml")
