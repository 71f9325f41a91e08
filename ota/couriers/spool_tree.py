"""The spool's folder tree, reached by folder handles only, so that no link is ever followed.

A device may own its folder below the root, so everything in it is hostile: a link, a pipe, a
folder or a huge file under any name. It is reached as ``signing/handles.py`` does; what is not a
plain file of the right size and name is moved aside as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from ota.errors import Outage
from signing import strict
from signing.handles import opened, write

QUARANTINE: Final = ".quarantine"
SENT: Final = ".sent"


def folder_name(device: str) -> str:
    """The folder of a device; ``Malformed`` unless it is an identifier (rule 14)."""
    return quote(strict.identifier(device, "device"), safe="")


def device_of(name: str) -> str | None:
    """The device of a folder name, or None for a foreign name."""
    device = unquote(name)
    known = strict.IDENTIFIER.fullmatch(device) and quote(device, safe="") == name
    return device if known else None


def set_aside(root: Path, folder: int, name: str, device: str, reason: str) -> None:
    """Move an entry, whatever it is, to ``.quarantine/<device>/`` with its reason beside it."""
    try:
        with opened(root, QUARANTINE, device, create=True) as aside:
            free = _free(aside, name)
            write(aside, f"{free}.reason", f"{reason}\n".encode("utf-8", "replace")[:4096])
            os.rename(name, free, src_dir_fd=folder, dst_dir_fd=aside)
            os.fsync(aside)
    except FileNotFoundError:
        return
    except OSError as e:
        raise Outage(f"spool: can not set {name!r} aside: {e.strerror}", subject=str(root)) from e


def keep(root: Path, device: str, name: str, data: bytes, reason: str) -> None:
    """Write what never lay in a folder to ``.quarantine/<device>/``, with its reason beside it."""
    try:
        with opened(root, QUARANTINE, device, create=True) as aside:
            free = _free(aside, name)
            write(aside, f"{free}.reason", f"{reason}\n".encode("utf-8", "replace")[:4096])
            write(aside, free, data)
            os.fsync(aside)
    except OSError as e:
        raise Outage(f"can not set {name!r} aside: {e.strerror}", subject=str(root)) from e


def _free(folder: int, name: str) -> str:
    """A name that is not taken, so that nothing in quarantine is ever overwritten."""
    safe = quote(name, safe="~")[:180]
    taken = set(os.listdir(folder))
    free, number = safe, 0
    while free in taken or f"{free}.reason" in taken:
        number += 1
        free = f"{safe}.{number}"
    return free
