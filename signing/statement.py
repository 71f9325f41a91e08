"""DSSE statements: what devices and people sign outside of TUF metadata.

Source: DSSE 1.0 (secure-systems-lab). One payload type for each purpose, compared exactly, so
that no statement can stand for another; one key, one purpose. Payloads are strict JSON.

>>> data = sign("report", body, signer)             # bytes of a DSSE envelope
>>> verify("report", data, [key], threshold=1).body  # the parsed payload
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from signing import strict
from signing.errors import Malformed, Refusal

Kind = Literal["report", "plan", "approval", "enrolment", "receipt"]

LIMITS: dict[str, int] = {
    "report": 64 * 1024,
    "plan": 256 * 1024 * 1024,
    "approval": 16 * 1024,
    "enrolment": 64 * 1024,
    "receipt": 64 * 1024,
}
"""Largest payload in bytes; the envelope may be 1.5 times as long."""
_MAX_SIGNATURES = 32
_REMEDY: dict[Kind, str] = {
    "plan": "ota rollout plan SPEC --out PLAN, or have its author send it again",
    "approval": "ota rollout approve PLAN --key APPROVER --out FILE",
    "enrolment": "fetch enrolment.json from the device again",
    "receipt": "fetch the receipt from the device again; without it: ota fleet retire DEVICE",
}
"""What to do about one that is malformed or not signed as it must be; reports have their own."""


@dataclass(frozen=True)
class Statement:
    """A parsed envelope. ``signers`` is empty until :func:`verify` has filled it."""

    kind: Kind
    body: Any
    payload: bytes
    signers: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the exact payload bytes: what approvals bind."""
        return strict.digest(self.payload)


def longest(kind: Kind) -> int:
    """Bytes of the longest envelope that is read at all."""
    return LIMITS[kind] + LIMITS[kind] // 2 + 16384


def payload_type(kind: Kind) -> str:
    """The exact DSSE payload type of one kind of statement."""
    return f"application/vnd.ota.{kind}.v1+json"


def sign(kind: Kind, body: Any, *signers: Signer) -> bytes:
    """Sign ``body`` (JSON without floats) and return the envelope's bytes."""
    payload = body if isinstance(body, bytes) else strict.compact(body)
    envelope = Envelope(payload, payload_type(kind), {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":")).encode()


def peek(kind: Kind, data: bytes) -> Statement:
    """Parse without trusting: for finding out which key must verify it.

    Raises ``Refusal("statement-malformed")`` for any other form, type or size.
    """
    return _parse(kind, data)[0]


def verify(kind: Kind, data: bytes, keys: Iterable[Key], threshold: int = 1) -> Statement:
    """Return the statement if at least ``threshold`` distinct ``keys`` signed it.

    Raises ``Refusal`` ``statement-malformed`` or ``statement-signature``.
    """
    statement, envelope = _parse(kind, data)
    try:
        accepted = envelope.verify(list(keys), threshold)
    except (VerificationError, ValueError) as e:
        raise _refusal("statement-signature", kind, str(e)) from e
    return Statement(kind, statement.body, statement.payload, tuple(sorted(accepted)))


def _parse(kind: Kind, data: bytes) -> tuple[Statement, Envelope]:
    limit = LIMITS[kind]
    try:
        outer = strict.loads(data, limit=longest(kind), what=kind)
        if not isinstance(outer, dict) or set(outer) != {"payload", "payloadType", "signatures"}:
            raise Malformed(f"{kind}: not a DSSE envelope")
        if outer["payloadType"] != payload_type(kind):
            raise Malformed(f"{kind}: payload type is {outer['payloadType']!r:.80}")
        if not isinstance(outer["signatures"], list) or len(outer["signatures"]) > _MAX_SIGNATURES:
            raise Malformed(f"{kind}: too many signatures, or no list of them")
        envelope = Envelope.from_dict(outer)
        body = strict.loads(envelope.payload, limit=limit, what=kind)
    except Malformed as e:
        raise _refusal("statement-malformed", kind, str(e)) from e
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise _refusal("statement-malformed", kind, f"{e!r:.200}") from e
    return Statement(kind, body, envelope.payload), envelope


def _refusal(code: str, kind: Kind, why: str) -> Refusal:
    text = why if why.startswith(kind) else f"{kind}: {why}"
    return Refusal(code, text, remedy=_REMEDY.get(kind, ""))
