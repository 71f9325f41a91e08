"""The spool, device side: hints are files that appear, reports are files that are left behind.

    <own>/orders/<order>.json                     a hint, at most 4 KiB; removed once looked at
    <own>/reports/<counter>-<8 hex>.json          a signed report; 8 hex digits of its SHA-256
    <own>/quarantine/<name>, <name>.reason        what was no hint for this device

Names beginning with ``.`` are somebody's unfinished business. Whoever carries the folder may put
anything into it: every entry is opened without following links and without blocking, is read at
most to its limit, and what is not a plain file of a sane size is offered as an empty hint, so
that the agent refuses it, signed, and is set aside when the agent is done with it.

>>> feed = SpoolFeed(Path("/var/spool/ota/press-07"), "press-07")
>>> feed.send(7, envelope)
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from ota.agent import hints
from ota.ports_device import Hint
from signing import durable, strict
from signing.errors import OtaError, Outage, Refusal

_TICK: Final = 0.2
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Receipt(NamedTuple):
    """Which file a hint was, and why it can not be one ("" when it may be)."""

    name: str
    fault: str


class SpoolFeed:
    """Implements ``ota.ports_device.Feed`` on this device's own spool folder."""

    def __init__(self, folder: Path, device: str = "") -> None:
        self._orders = folder / "orders"
        self._reports = folder / "reports"
        self._quarantine = folder / "quarantine"
        self._device = device
        self._swept = False

    def next(self, timeout: float) -> Hint | None:
        """The first hint by name, waiting up to ``timeout`` seconds for one to appear."""
        until = time.monotonic() + timeout
        while True:
            for name in _names(self._orders):
                found = self._read(name)
                if found is not None:
                    return found
            left = until - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(_TICK, left))

    def done(self, hint: Hint) -> None:
        """Remove it, or set it aside with its reason when it was no hint for this device."""
        receipt: Receipt = hint.receipt
        fault = receipt.fault
        if not fault:
            try:
                hints.read(hint.data, self._device)
            except Refusal as e:
                fault = f"{e.code}: {e}"
        with _seam(self._orders):
            if fault:
                self._set_aside(receipt.name, fault)
            else:
                with contextlib.suppress(FileNotFoundError):
                    (self._orders / receipt.name).unlink()
                    durable.sync_folder(self._orders)

    def send(self, counter: int, report: bytes) -> None:
        """Leave one report behind; the same call again leaves the same file."""
        name = f"{counter:010d}-{strict.digest(report)[:8]}.json"
        try:
            self._sweep()
            durable.replace(self._reports / name, report)
        except (OtaError, OSError) as e:
            raise Outage(f"spool: {e}", code="feed", subject=str(self._reports)) from e

    def close(self) -> None:
        """Nothing stays open."""

    def _sweep(self) -> None:
        """Remove what a killed predecessor left half-written; nobody else writes reports here."""
        if not self._swept and self._reports.is_dir():
            for path in self._reports.glob(".tmp-*"):
                path.unlink(missing_ok=True)
        self._swept = True

    def _read(self, name: str) -> Hint | None:
        """One entry as a hint; None when it is gone."""
        with _seam(self._orders):
            try:
                handle = os.open(self._orders / name, _READ)
            except FileNotFoundError:
                return None
            except OSError as e:
                return Hint(b"", Receipt(name, f"not a plain file: {e.strerror}"))
            try:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    return Hint(b"", Receipt(name, "not a plain file"))
                data = os.read(handle, hints.LIMIT + 1)
            finally:
                os.close(handle)
        if len(data) > hints.LIMIT:
            return Hint(b"", Receipt(name, f"longer than {hints.LIMIT} bytes"))
        return Hint(data, Receipt(name, ""))

    def _set_aside(self, name: str, reason: str) -> None:
        """Move an entry, whatever it is, under a name that is still free."""
        durable.folder(self._quarantine)
        safe = quote(name, safe="~")[:180]
        free, number = safe, 0
        while os.path.lexists(self._quarantine / free):
            number += 1
            free = f"{safe}.{number}"
        durable.replace(self._quarantine / f"{free}.reason", f"{reason}\n".encode()[:4096])
        with contextlib.suppress(FileNotFoundError):
            (self._orders / name).rename(self._quarantine / free)
        durable.sync_folder(self._quarantine)
        durable.sync_folder(self._orders)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(n for n in os.listdir(folder) if not n.startswith("."))  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []
    except OSError as e:
        raise Outage(f"spool: {folder}: {e.strerror}", code="feed", subject=str(folder)) from e


class _seam(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a statement
    """What the folder says no to is an outage of the feed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Outage(
                f"spool: {self._folder}: {error.strerror}", code="feed", subject=str(self._folder)
            ) from error
