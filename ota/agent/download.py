"""Fetching from an untrusted store, within limits that hold whatever the other side does.

Every read is bounded in bytes, in time and in rate; nothing is believed because of where it
came from, so the only work here is to end: an endless file, a drip of a byte a second, a
connection cut in the middle, a full disk each end in a named error, and an image that was cut
continues where it stopped. Verification is the trust room's (``ota/agent/trust.py``).

Images go to ``<folder>/<sha256>.part``. A part is continued with ``Range`` and ``If-Range`` when
the store gave a strong entity tag; its prefix is re-hashed with all the rest before use. It is
never longer than the signed length.

>>> downloader = Downloader("https://updates.example", folder)
>>> downloader.metadata("image/metadata/timestamp.json", 16384)
>>> downloader.image(wanted)
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from ota.agent.following import Follower
from ota.agent.options import Seconds
from ota.agent.transfer import Source, copy
from signing import durable, layout
from signing.errors import Malformed, Outage, Refusal
from signing.release import Release

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**50)]


@dataclass(frozen=True)
class DownloadLimits:
    """Bytes per second over ``window`` seconds, seconds per request, seconds per image.

    The bounds hold where ``[limits]`` of agent.toml is read.
    """

    minimum_rate: _Bytes = 1024
    window: Seconds = 30.0
    connect: Seconds = 10.0
    read: Seconds = 30.0
    metadata_total: Seconds = 60.0
    image_total: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] = 6 * 3600.0
    max_image: _Bytes = 2**40
    spare_space: _Bytes = 1024 * 1024


class HasRelease(Protocol):
    """What an image is fetched for: ``ota.agent.trust.Wanted``."""

    @property
    def release(self) -> Release:
        """The verified description."""


class Downloader:
    """Reads names of a store: a URL (``https://``, loopback ``http://``, ``file://``) or a source."""

    def __init__(
        self, store: str | Source, folder: Path, limits: DownloadLimits | None = None
    ) -> None:
        self._limits = limits or DownloadLimits()
        self._source = _source(store, self._limits) if isinstance(store, str) else store
        self._folder = folder

    def metadata(self, name: str, limit: int) -> bytes | None:
        """Bytes of one small object; None when the store says it is not there (403, 404).

        Raises ``Refusal("oversize")`` past ``limit``, ``Outage`` for anything else.
        """
        return small(self._source, name, limit, self._limits.metadata_total)

    def image(
        self,
        wanted: HasRelease,
        progress: Callable[[int], None] | None = None,
        follower: Follower | None = None,
    ) -> Path:
        """Fetch, or finish fetching, one image; returns the file, of exactly the signed length.

        ``progress`` is told each number of bytes that arrived; ``follower`` hashes the file
        while it grows, unless it was whole already. Raises ``Outage`` (``no-space``,
        ``slow``, ``outage``, ``missing``) and keeps the part; ``Refusal("image-oversize")`` when
        the store offers more than was signed, and drops it.
        """
        release = wanted.release
        if release.length > self._limits.max_image:
            raise Outage(f"{release.path} is larger than this device takes", code="too-large")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f"{release.sha256}.part"
        if _size(part) > release.length:
            self.discard(release.sha256)
        if _size(part) < release.length:
            self._fetch(release, part, progress, follower)
        return part

    def discard(self, sha256: str) -> None:
        """Remove what is there of one image; for a part that proved to be wrong."""
        for suffix in (".part", ".tag"):
            (self._folder / f"{sha256}{suffix}").unlink(missing_ok=True)

    def sweep(self, keep: str = "") -> None:
        """Remove the parts of every image but ``keep``."""
        for path in self._folder.glob("*.part") if self._folder.is_dir() else ():
            if path.stem != keep:
                self.discard(path.stem)

    def _fetch(
        self,
        release: Release,
        part: Path,
        progress: Callable[[int], None] | None,
        follower: Follower | None,
    ) -> None:
        tag_file = part.with_suffix(".tag")
        tag = _read_tag(tag_file)
        have = _size(part) if tag else 0
        self._check_space(release.length - have)
        name = layout.image_target(release.path, release.sha256)
        deadline = time.monotonic() + self._limits.image_total
        with self._source.open(name, have, tag, deadline) as answer:
            if answer.missing:
                raise Outage(f"{release.path} is not in the store", code="missing", subject=name)
            if answer.total is not None and answer.total > release.length:
                self.discard(release.sha256)
                raise Refusal("image-oversize", f"{release.path}: {answer.total} bytes offered")
            mode = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            handle = os.open(part, mode | (0 if answer.offset else os.O_TRUNC), 0o600)
            try:
                os.ftruncate(handle, answer.offset)
                os.lseek(handle, answer.offset, os.SEEK_SET)
                _write_tag(tag_file, answer.tag)
                left = release.length - answer.offset
                if follower is None:
                    copy(answer, handle, left, self._limits, progress)
                else:
                    with follower.behind(part, handle, answer.offset):
                        told = _both(follower.grown, progress)
                        copy(answer, handle, left, self._limits, told)
            except OSError as e:
                raise durable.outage(part, e) from e
            finally:
                os.close(handle)
            if answer.read(1):
                self.discard(release.sha256)
                raise Refusal("image-oversize", f"{release.path}: longer than its signed length")

    def _check_space(self, needed: int) -> None:
        space = os.statvfs(self._folder)
        free = space.f_bavail * space.f_frsize
        if free < needed + self._limits.spare_space:
            raise Outage(
                f"{self._folder}: {needed} bytes needed, {free} free",
                code="no-space",
                subject=str(self._folder),
            )


def small(source: Source, name: str, limit: int, total: float) -> bytes | None:
    """Read one small object within ``total`` seconds; see :meth:`Downloader.metadata`."""
    with source.open(name, 0, "", time.monotonic() + total) as answer:
        if answer.missing:
            return None
        data = bytearray()
        while chunk := answer.read(min(65536, limit + 1 - len(data))):
            data += chunk
            if len(data) > limit:
                raise Refusal("oversize", f"{name} is longer than {limit} bytes", subject=name)
        if answer.total is not None and len(data) < answer.total:
            raise Outage(f"{name}: cut after {len(data)} bytes", code="cut", subject=name)
        return bytes(data)


def check_url(url: str) -> None:
    """Raise ``Malformed`` unless devices may read from ``url``: TLS, loopback or a folder."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as e:
        raise Malformed(f"store: {url!r:.200}: {e}", remedy="set store in agent.toml") from e
    allowed = (
        (parts.scheme == "https" and host)
        or parts.scheme == "file"
        or (parts.scheme == "http" and host in _LOOPBACK)
    )
    if not allowed or parts.query or parts.fragment or parts.username:
        raise Malformed(
            f"store: {url!r:.200} must be https://, s3://, file:// or loopback http://",
            remedy="set store in agent.toml",
        )


def _source(base_url: str, limits: DownloadLimits) -> Source:
    check_url(base_url)
    parts = urlsplit(base_url)
    if parts.scheme == "file":
        from ota.agent.transfer_file import FileSource  # noqa: PLC0415 - one of two is needed

        return FileSource(Path(unquote(parts.path)))
    from ota.agent.transfer_http import HttpSource  # noqa: PLC0415 - one of two is needed

    return HttpSource(base_url.rstrip("/"), connect=limits.connect, read=limits.read)


def _both(
    first: Callable[[int], None], second: Callable[[int], None] | None
) -> Callable[[int], None]:
    def tell(count: int) -> None:
        first(count)
        if second is not None:
            second(count)

    return tell


def _size(path: Path) -> int:
    try:
        return path.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


_TAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


def _read_tag(path: Path) -> str:
    """The strong entity tag of a part, or "" when it must be fetched anew."""
    try:
        text = path.read_text("ascii", "replace")[:256]
    except FileNotFoundError:
        return ""
    return text if _TAG.fullmatch(text) else ""


def _write_tag(path: Path, tag: str) -> None:
    if _TAG.fullmatch(tag):
        path.write_text(tag, "ascii")
    else:
        path.unlink(missing_ok=True)
