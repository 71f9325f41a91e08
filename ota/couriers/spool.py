"""The spool: orders and reports as files in a folder tree. The embedded default courier.

    <root>/<device>/orders/<order>.json                   a hint, at most 4 KiB
    <root>/<device>/reports/<counter>-<8 hex>.json        a signed report, at most 128 KiB
    <root>/.sent/<order>.json                             which devices an order was handed to
    <root>/.quarantine/<device>/<name>, <name>.reason     what was foreign, partial or refused

``<device>`` is percent-encoded. Files appear by rename, so a reader never sees half of one; names
beginning with ``.`` are somebody's unfinished business. A report's name repeats the first 8 hex
digits of its SHA-256: a partial copy (say over a data diode) does not match and is set aside.

An order is handed over exactly once: temporary hints first, then the ``.sent`` record, then the
renames. A repetition finds the record and only finishes the renames, even after devices have
consumed their hints.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from ota.couriers import spool_tree as tree
from ota.couriers import turns
from ota.couriers.orders import checked
from ota.errors import Malformed, Outage
from ota.ports import Delivery, Order
from signing import handles, strict

MAX_REPORT: Final = 128 * 1024
_REPORT: Final = re.compile(r"[0-9]{10}-([0-9a-f]{8})\.json")
_ROOT: Final = ".root"


class Receipt(NamedTuple):
    """Where a delivery lies."""

    device: str
    name: str


class Spool:
    """Implements ``ports.Courier`` on a folder; see the module's map of it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    # -- out -------------------------------------------------------------------------------------
    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Write one hint for each device; idempotent on the order's id.

        Returns device -> reason where its folder could not be written. Raises ``Outage`` when
        the spool itself can not, ``Malformed`` for an order id or device that is none.
        """
        checked(order)
        known = self._sent(order.id)
        if known is None:
            known = self._prepare(order)
        for device in order.devices:
            if device not in known:
                self._finish(order.id, device, known)
        return {d: r for d, r in known.items() if d in order.devices}

    def cancel(self, order: Order) -> None:
        """Remove hints that devices have not taken yet; idempotent."""
        checked(order)
        for device in order.devices:
            try:
                with handles.opened(self._root, tree.folder_name(device), "orders") as folder:
                    handles.remove(folder, _temporary(order.id))
                    handles.remove(folder, f"{order.id}.json")
                    os.fsync(folder)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._outage(f"cancel {order.id}", e) from e

    def _sent(self, order: str) -> dict[str, str] | None:
        """The record of an earlier dispatch: devices that were unreachable then."""
        try:
            with handles.opened(self._root, tree.SENT) as folder:
                data = handles.read(folder, f"{order}.json", 16 * 1024 * 1024)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise self._outage(f"dispatch {order}", e) from e
        if isinstance(data, str):
            if data == handles.GONE:
                return None
            raise Outage(f"spool: record of {order}: {data}", subject=str(self._root))
        try:
            found = strict.loads(data, limit=16 * 1024 * 1024, what="spool record")
            return {str(d): str(r) for d, r in found["unreachable"].items()}
        except (Malformed, KeyError, TypeError, AttributeError) as e:
            raise Outage(f"spool: record of {order} is damaged", subject=str(self._root)) from e

    def _prepare(self, order: Order) -> dict[str, str]:
        unreachable: dict[str, str] = {}
        for device in order.devices:
            hint = {"schema": 1, "device": device, "order": order.id, "rollout": order.rollout}
            try:
                name = tree.folder_name(device)
                with handles.opened(self._root, name, "orders", create=True) as folder:
                    handles.write(folder, _temporary(order.id), json.dumps(hint).encode())
            except OSError as e:
                unreachable[device] = f"spool: {e.strerror}"
        record = json.dumps({"devices": list(order.devices), "unreachable": unreachable})
        try:
            with handles.opened(self._root, tree.SENT, create=True) as folder:
                handles.write(folder, _temporary(order.id), record.encode())
                handles.publish(folder, _temporary(order.id), f"{order.id}.json")
        except OSError as e:
            raise self._outage(f"dispatch {order.id}", e) from e
        return unreachable

    def _finish(self, order: str, device: str, unreachable: dict[str, str]) -> None:
        try:
            with handles.opened(self._root, tree.folder_name(device), "orders") as folder:
                handles.publish(folder, _temporary(order), f"{order}.json")
        except OSError as e:
            unreachable[device] = f"spool: {e.strerror}"

    # -- in --------------------------------------------------------------------------------------
    def collect(self, limit: int) -> Sequence[Delivery]:
        """Reports not acknowledged yet: oldest of each device first, round-robin over devices.

        Foreign, partial and oversized entries are set aside on the way and never returned.
        """
        try:
            with handles.opened(self._root, create=True) as root:
                found = handles.names(root)
                devices = [d for d in (self._device(root, n) for n in found) if d is not None]
        except OSError as e:
            raise self._outage("collect", e) from e
        return list(islice(turns.round_robin([self._reports(d) for d in devices]), limit))

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Delete reports whose content is durable on this side."""
        piles: dict[str, list[str]] = {}
        for delivery in deliveries:
            receipt: Receipt = delivery.receipt
            piles.setdefault(receipt.device, []).append(receipt.name)
        for device, pile in piles.items():
            try:
                with handles.opened(self._root, tree.folder_name(device), "reports") as folder:
                    for name in pile:
                        handles.remove(folder, name)
                    os.fsync(folder)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._outage("acknowledge", e) from e

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        """Move a report to ``.quarantine`` with the reason beside it."""
        receipt: Receipt = delivery.receipt
        try:
            with handles.opened(self._root, tree.folder_name(receipt.device), "reports") as folder:
                name = tree.folder_name(receipt.device)
                tree.set_aside(self._root, folder, receipt.name, name, reason)
        except FileNotFoundError:
            return
        except OSError as e:
            raise self._outage("quarantine", e) from e

    def _device(self, root: int, name: str) -> str | None:
        device = tree.device_of(name)
        if device is None:
            tree.set_aside(self._root, root, name, _ROOT, "not the folder of a device")
            return None
        try:
            os.close(os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root))
        except OSError as e:
            tree.set_aside(self._root, root, name, _ROOT, f"not a folder: {e.strerror}")
            return None
        return device

    def _reports(self, device: str) -> Iterator[Delivery]:
        name = tree.folder_name(device)
        try:
            with handles.opened(self._root, name) as parent:
                if "reports" not in handles.names(parent):
                    return
                try:
                    with handles.opened(self._root, name, "reports") as folder:
                        entries = handles.names(folder)
                except NotADirectoryError:
                    tree.set_aside(self._root, parent, "reports", name, "not a folder")
                    return
            for entry in entries:
                with handles.opened(self._root, name, "reports") as folder:
                    found = self._read(folder, device, entry)
                if found is not None:
                    yield found
        except FileNotFoundError:
            return
        except OSError as e:
            raise self._outage(f"reports of {device}", e) from e

    def _read(self, folder: int, device: str, name: str) -> Delivery | None:
        match = _REPORT.fullmatch(name)
        data = handles.read(folder, name, MAX_REPORT) if match else "not the name of a report"
        if match and isinstance(data, bytes) and strict.digest(data)[:8] != match[1]:
            data = "its content does not match its name: partial or changed"
        if isinstance(data, bytes):
            return Delivery(data, f"spool:{device}/{name}", Receipt(device, name))
        if data != handles.GONE:
            tree.set_aside(self._root, folder, name, tree.folder_name(device), data)
        return None

    def _outage(self, what: str, error: OSError) -> Outage:
        return Outage(f"spool: {what}: {error.strerror}", subject=str(self._root))


def _temporary(order: str) -> str:
    return f".tmp-{order}"
