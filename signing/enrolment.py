"""An enrolment: a device's self-signed statement of its identity key and its components.

Made by ``ota-agent provision``, taken by ``ota fleet register`` against an allow-list. The
signature shows that the device holds the private key; that the device may join is for the
operator's allow-list to say. Reports never register keys (rule 13).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from securesystemslib.signer import Key, Signer

from signing import statement, strict
from signing.errors import Malformed, Refusal
from signing.report import ComponentState


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key`` is the TUF form of the public key plus ``keyid``; roots are SHA-256 of the files."""

    schema: Literal[1]
    device: str
    state_id: str
    created: str
    key: dict[str, Any]
    components: dict[str, ComponentState]
    director_root: str
    image_root: str

    @property
    def public_key(self) -> Key:
        """The identity key; its key id is recomputed by the caller's registry, never believed."""
        return key_from_dict(self.key)


def key_to_dict(key: Key) -> dict[str, Any]:
    """A public key with its id, as statements and the registry keep it."""
    return {"keyid": key.keyid, **key.to_dict()}


def key_from_dict(data: dict[str, Any]) -> Key:
    """Inverse of :func:`key_to_dict`; the id must be the digest of the canonical key."""
    body = dict(data)
    keyid = body.pop("keyid", "")
    expected = strict.digest(strict.canonical(body)) if isinstance(keyid, str) else ""
    if keyid != expected:
        raise Malformed("key: its id is not the digest of the key")
    try:
        return Key.from_dict(keyid, body)
    except (ValueError, KeyError, TypeError) as e:
        raise Malformed(f"key: {e}") from e


def sign(body: Enrolment, signer: Signer) -> bytes:
    """The self-signed enrolment's bytes."""
    return statement.sign("enrolment", msgspec.to_builtins(body), signer)


def verify(data: bytes) -> Enrolment:
    """Check form and self-signature; ``Refusal`` ``statement-malformed`` or ``-signature``."""
    seen = statement.peek("enrolment", data)
    try:
        body = msgspec.convert(seen.body, Enrolment, strict=True)
        key = body.public_key
        strict.identifier(body.device, "device")
        strict.identifier(body.state_id, "state_id")
        for name in body.components:
            strict.identifier(name, "components")
    except (msgspec.ValidationError, Malformed) as e:
        raise Refusal("statement-malformed", f"enrolment: {e}") from e
    statement.verify("enrolment", data, [key])
    return body
