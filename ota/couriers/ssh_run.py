r"""Running one program on a far host: bounded in time and bytes, both streams drained.

The far side gets ``timeout -k``, so that what runs there ends although nobody listens any more;
this side gives up a little later. Output past its limit is counted and dropped, and an endless
one ends the command. SSH hands the far side one text for its shell, so an argument list is quoted
here; no part of it is ever taken from outside without a pattern.

>>> run(transport, ["uname", "-m"], limits, timeout=10)
Ran(status=0, out=b'x86_64\n', err=b'', dropped=0)
"""

from __future__ import annotations

import select
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import paramiko

from ota.errors import Outage

OUTPUT: Final = 1024 * 1024
ERRORS: Final = 16 * 1024
FLOOD: Final = 64 * 1024 * 1024
"""Bytes of both streams together at which a command is ended as endless."""
_KILL: Final = 10
_SLACK: Final = 15.0
_PIECE: Final = 256 * 1024
_LINGER: Final = 1.0


@dataclass(frozen=True)
class Ran:
    """What came of it; ``dropped`` bytes of stderr were not kept."""

    status: int
    out: bytes
    err: bytes
    dropped: int = 0

    def last_words(self) -> str:
        """At most 200 printable characters of its stderr, or else its stdout."""
        text = (self.err or self.out)[-400:].decode(errors="replace")
        plain = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(plain.split())[-200:]


@dataclass
class _Streams:
    name: str
    limit: int
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    total: int = 0

    def drain(self, channel: paramiko.Channel) -> bool:
        """Take what is there; whether anything was. Raises ``Outage`` (``ssh-output``)."""
        moved = False
        while channel.recv_ready() and (data := channel.recv(_PIECE)):
            moved = True
            self.out += data
            self._count(data)
            if len(self.out) > self.limit:
                raise self._flood(f"more than {self.limit} bytes on its stdout")
        while channel.recv_stderr_ready() and (data := channel.recv_stderr(_PIECE)):
            moved = True
            room = max(0, ERRORS - len(self.err))
            self.err += data[:room]
            self.dropped += max(0, len(data) - room)
            self._count(data)
        return moved

    def _count(self, data: bytes) -> None:
        self.total += len(data)
        if self.total > FLOOD:
            raise self._flood(f"more than {FLOOD} bytes")

    def _flood(self, what: str) -> Outage:
        return Outage(f"{self.name} printed {what}", code="ssh-output", remedy="look at the device")


def run(
    transport: paramiko.Transport,
    argv: Sequence[str],
    *,
    timeout: float,
    channel_timeout: float = 15.0,
    stdin: bytes = b"",
    limit: int = OUTPUT,
) -> Ran:
    """Run ``argv`` for at most ``timeout`` seconds and ``limit`` bytes of stdout.

    A status of its own, also a bad one, is an answer. Raises ``Outage``: ``ssh-time-limit``,
    ``ssh-output`` (too much of it), ``ssh-killed`` (by a signal over there), ``ssh-lost`` (the
    connection ended first).
    """
    until = time.monotonic() + timeout + _SLACK
    words = ["timeout", "-k", str(_KILL), f"{timeout:g}", *argv]
    name = argv[0]
    try:
        with transport.open_session(timeout=channel_timeout) as channel:
            channel.settimeout(channel_timeout)
            channel.exec_command(shlex.join(words))
            if stdin:
                channel.sendall(stdin)
            channel.shutdown_write()
            streams = _Streams(name, limit)
            _pump(channel, streams, until)
            status = channel.recv_exit_status() if channel.exit_status_ready() else -1
    except TimeoutError as e:
        raise _over(name, timeout) from e
    except (OSError, EOFError, paramiko.SSHException) as e:
        raise Outage(f"{name}: the connection ended: {e}", code="ssh-lost") from e
    late = time.monotonic() >= until - _SLACK
    killed = status == 137 or (status < 0 and transport.is_active())
    if status == 124 or (killed and late):
        raise _over(name, timeout)
    if killed:
        raise Outage(f"{name}: something killed it over there", code="ssh-killed")
    if status < 0:
        raise Outage(f"{name}: the connection ended before it did", code="ssh-lost")
    return Ran(status, bytes(streams.out), bytes(streams.err), streams.dropped)


def _pump(channel: paramiko.Channel, streams: _Streams, until: float) -> None:
    """Read until it has ended and both streams are empty; ``TimeoutError`` at ``until``."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    ended: float | None = None
    while True:
        moved = streams.drain(channel)
        now = time.monotonic()
        if channel.exit_status_ready() or channel.closed:
            ended = ended or now
            over = channel.closed or channel.eof_received or now - ended > _LINGER
            if over and not moved and not streams.drain(channel):
                return
        elif channel.eof_received:
            channel.status_event.wait(0.5)
        if now > until:
            raise TimeoutError
        if not moved:
            poll.poll(50 if ended or channel.eof_received else 500)


def _over(name: str, timeout: float) -> Outage:
    return Outage(f"{name}: not done after {timeout:g} s", code="ssh-time-limit")
