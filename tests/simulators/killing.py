"""A process of its own, traced by strace: killed, or lied to, at its N-th system call.

The process is forked from the test, so that it does not import the world anew each time; what it
runs is ``ota``'s command line itself, or any function. strace attaches before the first step and
injects.

>>> calls = traced(words).calls                 # {"fsync": 18, "rename": 4}
>>> traced(words, "inject=fsync:signal=KILL:when=3").killed
True
>>> honest = doing(gateway.look, every=True)    # every system call is counted
>>> doing(gateway.look, "inject=read:signal=KILL:when=90", every=True).killed
True
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ota.cli.app import run

PERSISTING = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink")
_CALL = re.compile(r"(?:\d+ +)?([a-z][a-z0-9_]*)\(")
_INJECTED = re.compile(r"inject=(\w+)")
_SET_PTRACER = 0x59616D61
_ANYBODY = ctypes.c_ulong(-1)


@dataclass(frozen=True)
class Traced:
    """How it ended, and how often it made each call."""

    status: int
    calls: Counter[str]

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)

    def points(self, stride: int) -> Iterator[tuple[str, int]]:
        """Every ``stride``-th of all calls that persist something: (call, N)."""
        every = [(name, n) for name, most in sorted(self.calls.items()) for n in range(1, most + 1)]
        return iter(every[::stride])


def traced(words: Sequence[str], inject: str = "") -> Traced:
    """Run ``ota WORDS`` under strace; ``inject`` as in strace(1)."""
    return doing(lambda: run(list(words)), inject)


def doing(work: Callable[[], object], inject: str = "", *, every: bool = False) -> Traced:
    """Do ``work``, whose result is the exit code where it is a number, in a forked process.

    Counts :data:`PERSISTING` calls, or ``every`` system call.
    """
    with tempfile.TemporaryDirectory(prefix="strace-") as folder:
        log = Path(folder) / "log"
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(theirs)
            _child(ours, work)
        os.close(ours)
        command = ["strace", "-qq", "-f", "-o", str(log), "-e", "signal=none"]
        traced_calls = {*PERSISTING, *_INJECTED.findall(inject)}  # what is not traced is not hit
        command += ["-e", "trace=all" if every else f"trace={','.join(sorted(traced_calls))}"]
        command += ["-e", inject] if inject else []
        command += ["-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            _attached(pid, tracer)
            os.write(theirs, b"go")
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(theirs)
            tracer.communicate(timeout=20)
        return Traced(status, _count(log.read_text(errors="replace")))


def _child(gate: int, work: Callable[[], object]) -> None:
    """Wait for the tracer, work, and never come back."""
    code = 99
    try:
        ctypes.CDLL(None).prctl(_SET_PTRACER, _ANYBODY, 0, 0, 0)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        os.read(gate, 1)
        result = work()
        code = result if isinstance(result, int) else 0
    finally:
        os._exit(code)


def _attached(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
        assert tracer.poll() is None, tracer.communicate()
        assert time.monotonic() < until, "strace did not attach"
        time.sleep(0.005)


def _count(log: str) -> Counter[str]:
    """Calls by name: ``123 fsync(5) = 0``, without the ends of those that were interrupted."""
    return Counter(found[1] for line in log.splitlines() if (found := _CALL.match(line)))
