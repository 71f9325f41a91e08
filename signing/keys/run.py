"""Running a foreign program within limits: its time, its output, and what it started.

The program runs in a session of its own, which is killed whole when it ends, when the time is up
or when it prints too much; what it leaves behind can not hold us up by keeping a pipe open.

>>> run(["/usr/bin/sign-it"], b"payload", {"PATH": "/usr/bin"}, time_limit=120, limit=16384)
Ran(code=0, out=b"3045...", err=b"", problem="")
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Problem = Literal["", "time", "output"]
_TICK = 0.02
_CHUNK = 8192


@dataclass(frozen=True)
class Ran:
    """How it ended. ``out`` and ``err`` hold at most the limit; ``problem`` is "" when in bounds."""

    code: int
    out: bytes
    err: bytes
    problem: Problem


def run(
    argv: Sequence[str], stdin: bytes, env: Mapping[str, str], *, time_limit: float, limit: int
) -> Ran:
    """Run ``argv`` with exactly ``env``; raises OSError where it can not be started."""
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            list(argv),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    streams = _Streams(process, limit)
    with process:
        try:
            problem = streams.pump(time.monotonic() + time_limit)
        finally:
            _kill(process)
        code = process.wait()
    return Ran(code, bytes(streams.out[:limit]), bytes(streams.err), problem)


class _Streams:
    """What a program says on both streams, of stderr the end."""

    def __init__(self, process: subprocess.Popen[bytes], limit: int) -> None:
        assert process.stdout is not None  # noqa: S101 - both are pipes, opened in run()
        assert process.stderr is not None  # noqa: S101 - the same
        self.out, self.err = bytearray(), bytearray()
        self._process = process
        self._limit = limit
        self._open = {process.stdout.fileno(): self.out, process.stderr.fileno(): self.err}

    def pump(self, until: float) -> Problem:
        """Read until the program ends."""
        with selectors.DefaultSelector() as selector:
            for descriptor in self._open:
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ended = self._ended()
                heard = self._hear(selector, 0 if ended else _TICK)
                if len(self.out) > self._limit:
                    return "output"
                if ended and not heard:
                    return ""
                if time.monotonic() > until:
                    return "time"

    def _hear(self, selector: selectors.BaseSelector, wait: float) -> bool:
        if not selector.get_map():
            time.sleep(min(wait, 0.005))
            return False
        heard = False
        for key, _ in selector.select(wait):
            data = os.read(key.fd, _CHUNK)
            self._open[key.fd].extend(data)
            del self.err[: -self._limit]
            heard = heard or bool(data)
            if not data:
                selector.unregister(key.fd)
        return heard

    def _ended(self) -> bool:
        """Whether it has ended, without reaping it: its group id stays ours to kill."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
