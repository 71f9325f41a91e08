"""Take a verified file into a slot: by a hard link, or by a copy that is hashed while written.

The trust room hashed the file in full; between then and now only the agent could write it,
because its folder is the agent's alone. That is checked again here. A copy goes to a temporary
name and gets its final one only when the very bytes written have the signed hash.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from ota.agent.installers import durable
from ota.ports_device import VerifiedBytes
from signing.errors import Outage, Refusal

_CHUNK = 1 << 20


def take(image: VerifiedBytes, target: Path) -> None:
    """Give the image the name ``target``, which must not exist; the caller syncs the folder.

    Raises ``Refusal("image-mismatch")`` when it changed since it was verified, ``Outage`` when
    others could have changed it.
    """
    _check(image)
    if not durable.link(image.path, target):
        copy(image.path, target, image.release.sha256)


def _check(image: VerifiedBytes) -> None:
    found, folder = os.lstat(image.path), os.lstat(image.path.parent)
    ours = found.st_uid == folder.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode)
    if not ours or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Outage(
            "the verified file is not the agent's alone",
            code="installer",
            subject=str(image.path),
            remedy="make the agent's state_dir its own, mode 0700",
        )
    if found.st_size != image.release.length:
        raise Refusal(
            "image-mismatch", "its length changed after it was verified", subject=image.path.name
        )


def copy(source: Path, target: Path, sha256: str) -> None:
    """Copy to a temporary name, sync, compare the hash, rename; mode 0600."""
    temporary = target.with_name(f".tmp-{target.name}")
    durable.remove(temporary)
    done = False
    try:
        if _copied(source, temporary) != sha256:
            raise Refusal(
                "image-mismatch", "its bytes changed after it was verified", subject=target.name
            )
        temporary.rename(target)
        done = True
    finally:
        if not done:
            durable.remove(temporary)


def _copied(source: Path, target: Path) -> str:
    """Copy ``source`` to the new file ``target``, synced; the hash of what was written."""
    hasher = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with (
        source.open("rb", buffering=0) as taken,
        os.fdopen(os.open(target, flags, 0o600), "wb", buffering=_CHUNK) as given,
    ):
        while data := taken.read(_CHUNK):
            hasher.update(data)
            given.write(data)
        given.flush()
        os.fsync(given.fileno())
    return hasher.hexdigest()
