"""An image on disk and the release that describes it, as the trust room would hand them on.

>>> one = image(tmp_path / "1.part", "os/one.img", b"one" * 1000, hardware_ids=("ab-rev-1",))
>>> one.sha256 == one.release.sha256
True
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signing import strict
from signing.release import Release


@dataclass(frozen=True)
class Image:
    """What installers take: verified bytes at ``path``, and what they are."""

    path: Path
    release: Release

    @property
    def sha256(self) -> str:
        return self.release.sha256


@dataclass(frozen=True)
class Item:
    """What downloads take: a release, not yet fetched."""

    release: Release


def release(path: str = "app/app-1.bin", data: bytes = b"x", **changes: Any) -> Release:
    """A sound release of ``data`` under ``path``; ``changes`` are fields of it."""
    fields: dict[str, Any] = {
        "component": path.partition("/")[0],
        "version": "1",
        "hardware_ids": ("gw",),
        "release_counter": 1,
        "format": "file",
        "length": len(data),
        "hashes": {"sha256": strict.digest(data)},
    }
    return Release(path=path, **fields | changes)


def image(file: Path, path: str, data: bytes, **changes: Any) -> Image:
    """The bytes in a file that only its owner reads, as downloads are, and their release."""
    file.write_bytes(data)
    file.chmod(0o600)
    return Image(file, release(path, data, **changes))


def tar(data: bytes, name: str) -> bytes:
    """An archive of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
