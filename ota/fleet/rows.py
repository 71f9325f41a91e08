"""Rows of the devices table and the ``Device`` of the port, converted in both directions.

Reading is the hot path of planning (100,000 rows), so the JSON columns are decoded straight
into their types, and a key is built only when somebody asks for it, without hashing it again:
its id was checked at registration, and reports are verified with a key whose id is recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec
from securesystemslib.signer import Key

from ota.errors import Malformed
from ota.fleet import tables
from ota.ports import Device
from signing.report import ComponentState, Report

Components = Mapping[str, ComponentState]

_labels = msgspec.json.Decoder(dict[str, str])
_components = msgspec.json.Decoder(dict[str, ComponentState])
_key = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder(order="sorted")


class _Envelope(msgspec.Struct):
    """The part of a DSSE envelope that holds the body; msgspec decodes the base64."""

    payload: bytes


_envelope = msgspec.json.Decoder(_Envelope)
_report = msgspec.json.Decoder(Report)

_d = tables.devices.c
COLUMNS = (
    _d.id,
    _d.key,
    _d.state,
    _d.state_id,
    _d.counter,
    _d.courier,
    _d.labels,
    _d.components,
    _d.last_seen,
    _d.held_state_id,
)
"""What :func:`device` takes, in this order."""


class _Row(Device):
    """A ``Device`` whose key is built when it is asked for: planning never asks."""

    _key_text: str

    @cached_property
    def key(self) -> Key:
        try:
            data = _key.decode(self._key_text)
            return Key.from_dict(data.pop("keyid"), data)
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as e:
            raise _damaged(self.id, e) from e


def device(row: Any) -> Device:
    """A row of :data:`COLUMNS` as a ``Device``; ``Malformed`` when the database was edited."""
    name, key, state, state_id, counter, courier, labels, components, seen, held = row
    made = _Row.__new__(_Row)
    try:
        made.__dict__.update(  # the frozen dataclass's own way costs four times as much
            id=name,
            _key_text=key,
            state=state,
            state_id=state_id,
            counter=counter,
            courier=courier,
            labels=_labels.decode(labels),
            components=_components.decode(components),
            last_seen=_moment(seen) if seen else None,
            held_state_id=held,
        )
    except (msgspec.MsgspecError, ValueError, TypeError) as e:
        raise _damaged(name, e) from e
    return made


def _damaged(name: object, why: Exception) -> Malformed:
    return Malformed(
        f"registry: the row of device {name!r:.80} is damaged: {why}",
        subject=str(name),
        remedy="restore the registry from a backup",
    )


def _moment(text: str) -> datetime:
    # ten times as fast as strptime; the text is our own, and ends in Z
    return datetime.fromisoformat(text)


def components_text(components: Components) -> str:
    """The column's text, keys sorted."""
    return _encode.encode(dict(components)).decode()


def json_text(value: Any) -> str:
    """Compact JSON with sorted keys."""
    return _encode.encode(value).decode()


def report(envelope: bytes) -> Report:
    """The body of an envelope that was verified when it was stored; quick. ``Malformed``."""
    try:
        return _report.decode(_envelope.decode(envelope).payload)
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise Malformed(
            f"registry: a stored report is damaged: {e}", remedy="restore it from a backup"
        ) from e
