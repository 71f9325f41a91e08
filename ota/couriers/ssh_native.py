"""Commands on hosts that may have no agent: pushed files first, then one command, each host once.

A connection that ends in the middle is made again with the same command; that command is written
to be repeated (``ota/playbook/loader.py``).

>>> for answered in SshShells(tools).each(["box-1"], Errand(("uname",), b"", 10.0, 1024)):
...     print(answered.device, answered.status)
"""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from ota.couriers import ssh_push
from ota.couriers.ssh_links import Done, Link
from ota.couriers.ssh_run import Ran
from ota.couriers.ssh_tools import Tools
from ota.errors import Malformed, NotFound, Outage
from ota.ports import Answered, Errand, MirrorFile

_TRIES: Final = 3
_SLACK: Final = 60.0
_LOST: Final = "ssh-lost"


class SshShells:
    """Implements ``ports.Shells``."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def each(self, devices: Iterable[str], errand: Errand) -> Iterator[Answered]:
        """One answer for each device, as they come; see the module."""
        files = [_file(*push) for push in errand.pushes]
        limits = self._tools.inventory.limits
        total = errand.timeout + _SLACK + (limits.push if files else 0.0)
        with self._tools.links() as links:
            waiting = list(dict.fromkeys(devices))
            for attempt in range(_TRIES):
                again: list[str] = []
                for done in links.each(waiting, lambda link: _do(link, errand, files), total=total):
                    if _lost(done) and attempt < _TRIES - 1:
                        again.append(done.device)
                        continue
                    yield _answered(done)
                waiting = again


def _lost(done: Done[Ran]) -> bool:
    """Whether the connection ended in the middle; one that never began is not tried again."""
    return isinstance(done.error, Outage) and done.error.code == _LOST


def _answered(done: Done[Ran]) -> Answered:
    if done.value is None:
        return Answered(done.device, -1, b"", b"", done.error)
    return Answered(done.device, done.value.status, done.value.out, done.value.err, None)


def _do(link: Link, errand: Errand, files: list[tuple[Path, str, MirrorFile]]) -> Ran:
    for source, folder, file in files:
        host = msgspec.structs.replace(link.host, mirror=folder)
        over = dataclasses.replace(link, host=host)
        until = time.monotonic() + link.inventory.limits.push
        ssh_push.push(over, [file], partial(_piece, source), until=until)
    return link.run(errand.argv, timeout=errand.timeout, stdin=errand.stdin, limit=errand.limit)


def _file(source: Path, target: str) -> tuple[Path, str, MirrorFile]:
    """Local file, far folder, and what the push must make of it."""
    folder, name = posixpath.split(target)
    if not folder.startswith("/") or not name:
        raise Malformed(f"{target!r:.80} is not an absolute path of a file", subject=target)
    if not source.is_file():
        raise NotFound(f"{source}: there is no such file", subject=str(source))
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return source, folder, MirrorFile(name, source.stat().st_size, sha256, None)


def _piece(source: Path, _name: str, offset: int, length: int) -> bytes:
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(length)
