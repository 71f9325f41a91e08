"""A folder that is carried to devices, and that strangers have had in their hands meanwhile.

A store in a folder, but nothing in it is written, read or removed through a link: a stick that
comes back from a plant could hold links to the operator's own files.

>>> CarriedFolder(Path("/media/stick")).fill(file, [data])
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ota.errors import NotPermitted, Outage
from ota.stores.directory import DirectoryStore

_OWN = ("image", "director", ".tmp", ".lock")
"""What a store makes at its top; whatever else lies there is left alone and not looked at."""


class CarriedFolder(DirectoryStore):
    """Implements ``ports.Carrier``.

    Raises ``NotPermitted`` (``link``) where anything but files and folders stands among a store's
    own, ``Outage`` for a folder that can not be read.
    """

    def __init__(self, root: Path) -> None:
        try:
            for path in _all(root):
                kind = path.lstat().st_mode
                if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                    raise NotPermitted(
                        f"{path} is neither a file nor a folder",
                        code="link",
                        subject=str(path),
                        remedy="look at who made it, and begin with an empty folder",
                    )
        except OSError as e:
            raise Outage(
                f"{root}: {e.strerror}", code="io", subject=str(root), remedy=f"ls -l {root}"
            ) from e
        super().__init__(root)


def _all(root: Path) -> Iterator[Path]:
    """Everything of ours below, links not followed."""
    for name in _OWN:
        top = root / name
        if top.is_symlink() or top.exists():
            yield top
        if top.is_symlink() or not top.is_dir():
            continue
        for folder, folders, files in os.walk(top, onerror=_stop):
            yield from (Path(folder) / found for found in (*folders, *files))


def _stop(error: OSError) -> None:
    raise error
