"""A receipt: a device's last word, signed before its keys and state were destroyed.

>>> read(statement.verify("receipt", data, [device_key])).order
'ota-retire-x7k2m9-u1-w0-b0'
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from signing import strict
from signing.errors import Malformed, Refusal
from signing.statement import Statement


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ended, under which order, and what was about to be destroyed (names of files)."""

    schema: Literal[1]
    device: str
    state_id: str
    order: str
    rollout: str
    time: str
    keyid: str
    destroyed: tuple[str, ...]


def to_body(receipt: Receipt) -> Any:
    """As it is signed."""
    return msgspec.to_builtins(receipt)


def read(statement: Statement) -> Receipt:
    """The typed body of a verified receipt; ``Refusal("statement-malformed")`` otherwise."""
    try:
        found = msgspec.convert(statement.body, Receipt, strict=True)
        strict.identifier(found.device, "device")
        strict.instant(found.time)
    except (msgspec.ValidationError, Malformed) as e:
        raise Refusal("statement-malformed", f"receipt: {e}") from e
    return found
