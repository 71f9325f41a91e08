"""Pushing a mirror of the store to a device: SFTP, pipelined, resumed, hashed over there.

    <mirror>/image/targets/<component>/<sha256>.<file>    and all else as in the store
    <mirror>/**/.part-<16 hex digits>                     unfinished; continued next time

The procedure:

1. ask ``sha256sum`` over there what is right already;
2. ask ``df`` whether the rest fits, before anything is written;
3. write parts, an unfinished image from where it stopped;
4. let ``sha256sum`` hash the parts; a wrong one is removed, and pushed once more from its start;
5. rename the parts into their places, in the order in which they may be seen;
6. remove images that this device is not assigned any more.

Nothing of this is believed by the device: its agent verifies what lies in the mirror as it does
whatever any store gives it.

>>> push(link, mirror.files("press-07"), mirror.piece, until=time.monotonic() + 3600)
Pushed(files=5, sent=1048576, kept=2, removed=1)
"""

from __future__ import annotations

import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

import paramiko

from ota.couriers.ssh_links import Link
from ota.errors import Malformed, OtaError, Outage
from ota.ports import MirrorFile

Piece = Callable[[str, int, int], bytes]
Progress = Callable[[int, int], None]
"""Bytes of this push that are there, and bytes of all of it."""

_NAME: Final = re.compile(r"[A-Za-z0-9:_%+~-][A-Za-z0-9:_%+~.-]{0,254}")
_SUM: Final = re.compile(r"([0-9a-f]{64}) [ *](/.*)")
_WRITE: Final = 32_640
"""Bytes of one request: with its head it fits one SSH packet of 32 KiB, which every server takes."""
_LARGE: Final = 8 * _WRITE
"""The same for OpenSSH, which takes requests of up to 256 KiB."""
_READ: Final = 32 * _LARGE
_SPARE: Final = 1024 * 1024
_COMMAND: Final = 60_000
_HASH: Final = (
    'if command -v openssl >/dev/null; then exec openssl dgst -sha256 -r "$@"; '
    'else exec sha256sum -- "$@"; fi'
)
"""Both print the same lines; the first is up to four times as fast. Each path begins with ``/``."""
_TARGETS: Final = "image/targets"


@dataclass(frozen=True)
class Pushed:
    """What came of it: files written and bytes sent for them, files that were right already."""

    files: int
    sent: int
    kept: int
    removed: int


def push(
    link: Link,
    files: Sequence[MirrorFile],
    piece: Piece,
    *,
    until: float,
    progress: Progress | None = None,
) -> Pushed:
    """Make the device's mirror hold exactly these; ``until`` is in monotonic seconds.

    Raises ``Outage``: ``no-space``, ``ssh-push`` (it says no), ``ssh-hash`` (it holds other bytes
    than were sent), ``ssh-lost``, ``ssh-time-limit``; parts stay, to be continued.
    """
    for file in files:
        if not all(_NAME.fullmatch(part) for part in file.name.split("/")):
            raise Malformed(f"{file.name!r:.140} is not a name in a store")
    with _Pushing(link, piece, until, progress) as pushing:
        return pushing.all(files)


class _Pushing:
    """One connection's SFTP session."""

    def __init__(self, link: Link, piece: Piece, until: float, progress: Progress | None) -> None:
        self._link = link
        self._root = link.host.mirror
        self._piece = piece
        self._until = until
        self._progress = progress
        openssh = link.transport.remote_version.startswith("SSH-2.0-OpenSSH_")
        self._write_size = _LARGE if openssh else _WRITE
        self._sent = 0
        self._there = 0
        self._total = 0

    def __enter__(self) -> Self:
        with self._told("SFTP"):
            self._sftp = self._opened()
        return self

    def _opened(self) -> paramiko.SFTPClient:
        transport, name = self._link.transport, self._link.host.name
        try:
            made = transport.open_sftp_client()
        except (paramiko.SSHException, EOFError):
            made = None
            if not transport.is_active():
                raise
        channel = made.get_channel() if made is not None else None
        if made is None or channel is None:
            raise Outage(
                f"{name} has no SFTP",
                code="ssh-sftp",
                subject=name,
                remedy="Subsystem sftp internal-sftp, in its sshd_config",
            )
        channel.settimeout(self._link.inventory.limits.channel)
        return made

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._sftp.close()

    def all(self, files: Sequence[MirrorFile]) -> Pushed:
        """The procedure."""
        # (1)
        sums = self._hashed([self._path(file.name) for file in files])
        todo = [file for file in files if sums.get(self._path(file.name)) != file.sha256]
        # (2)
        self._total = sum(file.length for file in todo)
        if todo:
            for folder in dict.fromkeys(posixpath.dirname(self._path(f.name)) for f in todo):
                self._folder(folder)
            self._room(todo)
        # (3), (4)
        wrong = self._write(todo)
        if wrong and self._write(wrong):
            raise Outage(
                f"{self._link.host.name} holds other bytes than were sent: {wrong[0].name}",
                code="ssh-hash",
                subject=self._link.host.name,
                remedy="look at its disk",
            )
        # (5)
        with self._told("rename"):
            for file in todo:
                self._sftp.posix_rename(self._part(file), self._path(file.name))
        # (6)
        removed = self._prune(files)
        return Pushed(len(todo), self._sent, len(files) - len(todo), removed)

    # -- names -----------------------------------------------------------------------------------
    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _part(self, file: MirrorFile) -> str:
        path = self._path(file.name)
        return posixpath.join(posixpath.dirname(path), f".part-{file.sha256[:16]}")

    # -- writing -----------------------------------------------------------------------------------
    def _write(self, files: Sequence[MirrorFile]) -> list[MirrorFile]:
        """Write the parts; returns those that came out wrong, removed."""
        for file in files:
            with self._told(f"write {file.name}"):
                self._write_one(file)
        sums = self._hashed([self._part(file) for file in files])
        wrong = [file for file in files if sums.get(self._part(file)) != file.sha256]
        for file in wrong:
            with self._told(f"remove {file.name}"):
                self._sftp.remove(self._part(file))
        return wrong

    def _write_one(self, file: MirrorFile) -> None:
        offset = self._begun(file)
        self._there += offset
        with self._sftp.open(self._part(file), "r+b" if offset else "wb") as remote:
            remote.MAX_REQUEST_SIZE = size = self._write_size
            remote.set_pipelined(pipelined=True)
            remote.seek(offset)
            for data in self._pieces(file, offset):
                offset += len(data)
                view = memoryview(data)
                for start in range(0, len(view), size):
                    if offset == file.length and start + size >= len(view):
                        # the last write waits for the answers to all of them: else a full disk
                        # would not be noticed here
                        remote.set_pipelined(pipelined=False)
                    remote.write(bytes(view[start : start + size]))
                self._sent += len(view)
                self._there += len(view)
                self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._there, self._total)
        if time.monotonic() > self._until:
            raise TimeoutError

    def _begun(self, file: MirrorFile) -> int:
        """Where to go on: what lies there of an image, up to whole writes."""
        if file.data is not None:
            return 0
        try:
            found = self._sftp.lstat(self._part(file))
        except FileNotFoundError:
            return 0
        size = found.st_size or 0
        if not stat.S_ISREG(found.st_mode or 0) or size > file.length:
            self._sftp.remove(self._part(file))
            return 0
        return size - size % _WRITE if size < file.length else size

    def _pieces(self, file: MirrorFile, offset: int) -> Iterator[bytes]:
        if file.data is not None:
            yield file.data
            return
        while offset < file.length:
            data = self._piece(file.name, offset, min(_READ, file.length - offset))
            if not data:
                raise Outage(f"{file.name} is shorter in the store than it is signed", code="store")
            offset += len(data)
            yield data

    def _folder(self, path: str) -> None:
        """Make a folder below the mirror's root, which must be there."""
        made = self._root
        for part in path.removeprefix(self._root).strip("/").split("/"):
            made = posixpath.join(made, part)
            with self._told(f"make {made}"):
                try:
                    self._sftp.stat(made)
                except FileNotFoundError:
                    self._sftp.mkdir(made, 0o755)

    def _prune(self, files: Sequence[MirrorFile]) -> int:
        """Remove images and parts that nothing here needs."""
        keep = {self._path(file.name) for file in files}
        removed = 0
        with self._told("clean up"):
            for component in self._listed(self._path(_TARGETS)):
                folder = posixpath.join(self._path(_TARGETS), component)
                for name in self._listed(folder):
                    path = posixpath.join(folder, name)
                    if path not in keep:
                        self._sftp.remove(path)
                        removed += 1
        return removed

    def _listed(self, path: str) -> list[str]:
        try:
            return [name for name in self._sftp.listdir(path) if "/" not in name]
        except FileNotFoundError:
            return []

    # -- commands over there -------------------------------------------------------------------------
    def _hashed(self, paths: Sequence[str]) -> dict[str, str]:
        """Path -> SHA-256 as the far side computes it; missing files are left out."""
        found: dict[str, str] = {}
        for some in _bundles(paths):
            left = max(1.0, self._until - time.monotonic())
            ran = self._link.run(["sh", "-c", _HASH, "sh", *some], timeout=left)
            if ran.status not in {0, 1}:
                raise self._no(f"sha256sum: exit status {ran.status}: {ran.last_words()}")
            for line in ran.out.decode(errors="replace").splitlines():
                match = _SUM.fullmatch(line)
                if match and match[2] in some:
                    found[match[2]] = match[1]
        return found

    def _room(self, todo: Sequence[MirrorFile]) -> None:
        """``no-space`` before anything is written; where ``df`` tells nothing, writing will."""
        ran = self._link.run(["df", "-Pk", "--", self._root])
        fields = ran.out.decode(errors="replace").splitlines()[-1:] or [""]
        free = re.search(r" (\d+) +\d+% ", fields[0])
        if ran.status or free is None:
            return
        with self._told("look at parts"):
            begun = sum(self._begun(file) for file in todo)
        need = sum(file.length for file in todo) - begun + _SPARE
        if int(free[1]) * 1024 < need:
            raise self._full(f"{need} bytes are needed, {int(free[1]) * 1024} are free")

    # -- errors --------------------------------------------------------------------------------------
    @contextmanager
    def _told(self, step: str) -> Iterator[None]:
        try:
            yield
        except OtaError:
            raise
        except TimeoutError as e:
            raise Outage(
                f"{self._link.host.name}: push: {step}: not done in time",
                code="ssh-time-limit",
                subject=self._link.host.name,
                remedy="ota ssh push goes on where it stopped",
            ) from e
        except (OSError, EOFError, paramiko.SSHException) as e:
            if not self._link.transport.is_active() or isinstance(e, (EOFError, ConnectionError)):
                raise Outage(
                    f"{self._link.host.name}: push: {step}: the connection ended",
                    code="ssh-lost",
                    subject=self._link.host.name,
                    remedy="ota ssh push goes on where it stopped",
                ) from e
            if str(e) == "Failure":  # all that SFTP version 3 says of a full disk
                raise self._full(step) from e
            raise self._no(f"{step}: {e}") from e

    def _no(self, why: str) -> Outage:
        return Outage(
            f"{self._link.host.name}: push: {why}",
            code="ssh-push",
            subject=self._link.host.name,
            remedy=f"look at {self._root} there, and at who may write to it",
        )

    def _full(self, why: str) -> Outage:
        return Outage(
            f"{self._link.host.name}: no space for the push: {why}",
            code="no-space",
            subject=self._link.host.name,
            remedy=f"df -h {self._root} there",
        )


def _bundles(paths: Sequence[str]) -> Iterator[list[str]]:
    """As many paths as one command bears."""
    some: list[str] = []
    for path in paths:
        if some and sum(len(p) + 3 for p in some) + len(path) > _COMMAND:
            yield some
            some = []
        some.append(path)
    if some:
        yield some
