"""What was done for a device at AWS so far: one small file, durable before the next call.

A certificate that was made and not yet written down is found again by its key; everything else is
written down first. States only go forward:

``begun -> made -> active -> revoked``; a revoked device may begin again.

>>> keeper.load("press-07").state
'active'
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from ota.errors import Outage
from signing import durable, strict

State = Literal["begun", "made", "active", "revoked"]
_LIMIT: Final = 64 * 1024


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key`` is the SHA-256 of the TLS key's DER; ``begun`` when the first call was made."""

    schema: Literal[1] = 1
    device: str
    thing: str
    key: str
    begun: str
    state: State
    certificate_id: str = ""
    certificate_arn: str = ""


class Keeper:
    """Records in a folder, one file a device."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, device: str) -> Record | None:
        """The record, or None; ``Outage`` when it is damaged."""
        path = self._path(device)
        data = durable.read(path, _LIMIT, "record of a device")
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=Record)
        except msgspec.DecodeError as e:
            raise Outage(
                f"{path}: {e}",
                code="state-damaged",
                subject=str(path),
                remedy="restore it from backup, or revoke the thing's certificates by hand",
            ) from e

    def keep(self, record: Record) -> Record:
        """Make it durable; returns it."""
        durable.replace(self._path(record.device), msgspec.json.encode(record), mode=0o600)
        return record

    def lock(self, device: str) -> durable.Lock:
        """One procedure at a time for a device; ``Busy``."""
        return durable.locked(self._path(device).with_suffix(".lock"))

    def _path(self, device: str) -> Path:
        strict.identifier(device, "device")
        return self._folder / f"{quote(device, safe='')}.json"
