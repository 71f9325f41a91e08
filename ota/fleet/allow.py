"""The allow-list: which devices may join, and with which key.

An enrolment only shows that a device holds its key. That it may join is said here, in a CSV or
JSON file of the operator's: ``id``, optionally ``key`` (the fingerprint that
``ota-agent provision`` prints), ``courier`` and labels. See :mod:`ota.fleet.exchange` for the
file's form.

>>> AllowList.load(Path("allowed.csv")).entry("dev-1", keyid).courier
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ota.errors import Malformed, NotPermitted
from ota.fleet import exchange
from ota.fleet.entries import Entry


class AllowList:
    """Entries by device id."""

    def __init__(self, entries: Iterable[Entry], source: str = "allow-list") -> None:
        self._source = source
        self._entries: dict[str, Entry] = {entry.id: entry for entry in entries}

    @classmethod
    def load(cls, path: Path) -> AllowList:
        """Read a CSV or JSON file; ``Malformed``, ``NotFound``, ``Outage``."""
        entries = exchange.read(path)
        if not entries:
            raise Malformed(f"{path}: it lists no device", subject=str(path))
        return cls(entries, str(path))

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, device: str, keyid: str) -> Entry:
        """The device's entry; ``NotPermitted`` when it is not listed, or with another key."""
        entry = self._entries.get(device)
        if entry is None:
            raise NotPermitted(
                f"{device}: not in the allow-list {self._source}",
                code="not-allowed",
                subject=device,
                remedy=f"if it may join, add it to {self._source}",
            )
        if entry.key and entry.key != keyid:
            raise NotPermitted(
                f"{device}: its key {keyid[:12]} is not the {entry.key[:12]} of {self._source}",
                code="not-allowed",
                subject=device,
                remedy="compare with what ota-agent provision printed on the device",
            )
        return entry
