"""Proof turned into a type: a file that was hashed in full, and is still that very file.

Only the trust room has the seal (``ota/agent/trust.py``); an installer takes nothing else. Between
the hash and the slot stands time: whatever an installer has read is worth what was verified only
if the file was not touched meanwhile, so the applier asks :meth:`VerifiedImage.recheck` once a
slot is written, before it is made active.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ota.agent.following import mark
from signing import durable
from signing.errors import Refusal
from signing.release import Release

SEAL: Final = object()
"""The trust room's; ``tests/test_architecture.py`` sees to it that nobody else imports it."""


class VerifiedImage:
    """Proof: ``path`` holds, in full, the bytes that both repositories signed.

    Only :meth:`TrustRoom.verify` can make one. It is a proof about one file as it was then:
    whoever has read it asks :meth:`recheck` before anything is made active.
    """

    __slots__ = ("_seen", "path", "release")

    def __init__(self, seal: object, path: Path, release: Release, found: os.stat_result) -> None:
        if seal is not SEAL:
            raise TypeError("only TrustRoom.verify makes a VerifiedImage")
        self.path = path
        self.release = release
        self._seen = found

    def recheck(self) -> None:
        """Raise ``Refusal("image-mismatch")`` unless the file is the one verified, untouched.

        An installer that took it by a hard link has touched its time of change and nothing else;
        such a slot is hashed in full again when it runs.
        """
        found = seen(self.path)
        same = 4 if found.st_nlink > 1 else 5
        if mark(found)[:same] != mark(self._seen)[:same]:
            raise Refusal("image-mismatch", f"{self.release.path}: changed after it was verified")


def seen(path: Path) -> os.stat_result:
    """What a file is now, links not followed; ``Outage`` when it is not there."""
    try:
        return os.lstat(path)
    except OSError as e:
        raise durable.outage(path, e) from e
