"""Health probes: does the component work? Asked after activation, before commit.

``command``  exit status 0                      ``{kind="command", argv=[...]}``
``http``     status 200-299, optional text      ``{kind="http", url="http://127.0.0.1:8080/", contains="ok"}``
``tcp``      the port accepts a connection      ``{kind="tcp", host="127.0.0.1", port=8080}``
``none``     says healthy; asked for by name    ``{kind="none"}``

Common options, in seconds: ``start_delay`` (0), ``interval`` between tries (1), ``timeout`` of
one try (5), ``deadline`` of the whole probe (60); ``successes`` in a row (1). A probe is healthy
only if the successes are complete *before* the deadline. Plain ``http`` is for loopback only;
redirects are never followed, no proxy is used, at most 64 KiB are read, and a server that drips
its answer does not outlive the try.

>>> create({"kind": "tcp", "host": "127.0.0.1", "port": 9}).check(1.0)
Unhealthy(reason='...')
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ota.agent import command, probes
from ota.agent import options as reading
from ota.ports_device import Healthy, Unhealthy
from signing.errors import Malformed

REASON_LIMIT = 300
_Delay = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of every kind of probe but ``none``."""

    kind: str
    start_delay: _Delay = 0.0
    interval: _Delay = 1.0
    timeout: reading.Seconds = 5.0
    deadline: reading.Seconds = 60.0
    successes: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class CommandOptions(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``env`` names the variables passed on besides the usual ones."""

    argv: reading.Argv
    env: tuple[str, ...] = ()


class HttpOptions(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``contains`` is looked for in the first 64 KiB of the body."""

    url: str
    contains: str = ""


class TcpOptions(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``host`` is an address or a name."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class NoneOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to configure."""

    kind: str


@dataclass(frozen=True)
class NoProbe:
    """Healthy without a look; the owner asked for it by name."""

    deadline: float = 0.0

    def check(self, deadline: float) -> Healthy:  # noqa: ARG002 - the port's signature
        """Healthy."""
        return Healthy()


@dataclass(frozen=True)
class Probe:
    """Implements ``ota.ports_device.HealthProbe``: repeats one ``attempt`` until it is believed.

    ``attempt(seconds)`` returns "" or a reason. ``deadline`` is the configured one, in seconds.
    """

    attempt: Callable[[float], str]
    options: Common
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def deadline(self) -> float:
        """The configured deadline, in seconds."""
        return self.options.deadline

    def check(self, deadline: float) -> Healthy | Unhealthy:
        """Try until ``successes`` in a row, or until the lesser of both deadlines."""
        options = self.options
        until = self.monotonic() + min(deadline, options.deadline)
        reason, row = "no try fitted before the deadline", 0
        pause = options.start_delay
        while (left := until - self.monotonic()) > pause:
            self.sleep(pause)
            found = self.attempt(min(options.timeout, left - pause))
            late = self.monotonic() > until
            row = 0 if found else row + 1
            reason = found or f"only {row} of {options.successes} successes before the deadline"
            if row >= options.successes and not late:
                return Healthy()
            pause = options.interval
        return Unhealthy(command.printable(reason)[:REASON_LIMIT])


def create(
    options: Mapping[str, Any],
    where: str = "health",
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Probe | NoProbe:
    """Make a probe from ``[components.NAME.health]``; ``Malformed`` names ``where`` and the key."""
    kind = options.get("kind")
    if kind == "none":
        reading.read(NoneOptions, options, where)
        return NoProbe()
    attempt: Callable[[float], str]
    found: Common
    if kind == "command":
        found = asked = reading.read(CommandOptions, options, where)
        attempt = probes.Command(asked.argv, asked.env)
    elif kind == "http":
        found = page = reading.read(HttpOptions, options, where)
        attempt = probes.Http.create(page.url, page.contains, where)
    elif kind == "tcp":
        found = port = reading.read(TcpOptions, options, where)
        attempt = probes.Tcp(port.host, port.port)
    else:
        raise Malformed(
            f"{where}: kind: {kind!r:.60} is none of command, http, tcp, none",
            subject=where,
            remedy='correct agent.toml; to go without a probe, say kind = "none"',
        )
    return Probe(attempt, found, monotonic, sleep)
