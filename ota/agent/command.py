r"""Run one program of the owner's configuration, bounded in time and output.

Rules:

* an argv list, never a shell string; input travels on stdin, never in the arguments, and is
  held in memory: the agent writes nowhere but into its own folder, not into ``/tmp`` either;
* the environment is an allow-list, so that the agent's own secrets do not leak;
* a session of its own: at the time limit, and on too much output, the whole group is killed;
* waits for the program, not for the end of its pipes, because a restarted daemon inherits them.

>>> run(["/bin/echo", "hello"], timeout=5).out
b'hello\n'
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME")
PLAIN = {"LC_ALL": "C"}
OUTPUT_LIMIT = 65_536
_TICK = 0.05


@dataclass(frozen=True)
class Ran:
    """What came of it. ``problem`` is "" when it ended by itself within its limits."""

    status: int | None
    out: bytes
    err: bytes
    problem: str = ""

    @property
    def succeeded(self) -> bool:
        """Ended by itself with status 0."""
        return not self.problem and self.status == 0

    def why(self) -> str:
        """One printable line of at most 300 characters that explains a failure."""
        head = self.problem or f"exit status {self.status}"
        text = (self.err or self.out).decode(errors="replace")
        tail = printable(text[-240:])
        more = "..." if len(text) > 240 else ""
        return f"{head}: {more}{tail}"[:300] if tail else head[:300]


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes = b"",
    limit: int = OUTPUT_LIMIT,
    names: Iterable[str] = (),
    keep_children: bool = False,
    plain: bool = False,
) -> Ran:
    """Run ``argv`` for at most ``timeout`` seconds and ``limit`` bytes per stream.

    ``names`` are environment variables allowed besides :data:`ENVIRONMENT`. ``plain``: in the
    root folder, with umask 022 and the locale C, whatever the agent itself has. Children left
    behind are killed, unless ``keep_children`` (a restart command starts what must stay).
    Never raises for what the program does; see :attr:`Ran.problem`.
    """
    allowed = {*ENVIRONMENT, *names}
    with os.fdopen(os.memfd_create("stdin"), "w+b") as request:
        request.write(stdin)
        request.seek(0)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={k: v for k, v in os.environ.items() if k in allowed}
                | (PLAIN if plain else {}),
                start_new_session=True,
                umask=0o022 if plain else -1,
                cwd="/" if plain else None,
            )
        except (OSError, ValueError) as e:
            return Ran(None, b"", b"", f"can not start {argv[0]}: {e}")
    with process:
        return _watch(process, time.monotonic() + timeout, limit, keep_children)


def _watch(process: subprocess.Popen[bytes], until: float, limit: int, keep: bool) -> Ran:
    assert process.stdout is not None  # noqa: S101 - both are pipes, opened in run()
    assert process.stderr is not None  # noqa: S101 - the same
    streams: dict[IO[bytes], bytearray] = {
        process.stdout: bytearray(),
        process.stderr: bytearray(),
    }
    problem = "interrupted"
    try:
        problem = _pump(process, streams, until, limit)
    finally:
        if problem or not keep:
            _kill_group(process)
        status = process.wait()
    out, err = (bytes(data[:limit]) for data in streams.values())
    return Ran(None if problem else status, out, err, problem)


def _pump(
    process: subprocess.Popen[bytes], streams: dict[IO[bytes], bytearray], until: float, limit: int
) -> str:
    """Read until the program ends; "" or what went wrong."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = _ended(process)
            _drain(selector, streams, 0 if ended else _TICK)
            if any(len(data) > limit for data in streams.values()):
                return f"more than {limit} bytes of output"
            if ended:
                return ""
            if time.monotonic() > until:
                return "time limit reached"


def _drain(
    selector: selectors.BaseSelector, streams: dict[IO[bytes], bytearray], wait: float
) -> None:
    if not selector.get_map():
        time.sleep(min(wait, 0.005))
        return
    for key, _ in selector.select(wait):
        stream = key.fileobj
        assert not isinstance(stream, int)  # noqa: S101 - registered as a file above
        data = os.read(key.fd, OUTPUT_LIMIT + 1)
        if data:
            streams[stream] += data  # type: ignore[index]  # the same object as in streams
        else:
            selector.unregister(stream)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, without reaping it: its group id stays ours to kill."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, flags) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def printable(text: str) -> str:
    """``text`` on one line without control characters."""
    plain = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(plain).split())
