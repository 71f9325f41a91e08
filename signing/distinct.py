"""One key is one key, under however many ids it is listed, and however it is written.

A threshold counts key ids, and an id is only a name: whoever writes a role's list of keys could
give one key two ids and meet a threshold of two alone. So signatures are counted by the public
keys that made them (TUF specification 6.1: a threshold of *keys*), and two repositories share a
key when its public half stands in both, whatever it is called there (rule "no key in both").

>>> counted(root, "targets", data)          # Refusal("signature") when one key signed twice
>>> shared(director.keys.values(), image.keys())
[]
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from signing.client.errors import translated
from signing.errors import Refusal


def counted(delegator: Root | Targets, role: str, data: bytes) -> None:
    """Raise ``Refusal("signature")`` unless enough different keys signed; verified before."""
    with translated(role):
        wanted = delegator.get_delegated_role(role)
        listed = [delegator.get_key(keyid) for keyid in wanted.keyids if keyid in _keys(delegator)]
        if len({_public(key) for key in listed}) == len(listed):
            return
        signed = Metadata.from_bytes(data)
        found = delegator.get_verification_result(role, signed.signed_bytes, signed.signatures)
        distinct = {_public(key) for key in found.signed.values()}
    if len(distinct) < wanted.threshold:
        raise Refusal(
            "signature",
            f"{role}: {len(distinct)} keys signed, under {len(found.signed)} ids; "
            f"{wanted.threshold} must",
            subject=role,
        )


def shared(first: Iterable[Key], second: Iterable[Key]) -> list[str]:
    """Ids of keys in ``first`` whose id or public half stands in ``second`` too, sorted."""
    there = [(key.keyid, _public(key)) for key in second]
    ids, publics = {i for i, _ in there}, {p for _, p in there}
    return sorted(k.keyid for k in first if k.keyid in ids or _public(k) in publics)


def _keys(delegator: Root | Targets) -> Mapping[str, Key]:
    if isinstance(delegator, Root):
        return delegator.keys
    return delegator.delegations.keys if delegator.delegations is not None else {}


def _public(key: Key) -> str:
    """The public half in the one form that it has: hex digits and PEM can be written in many.

    The id and the scheme are only said about it. What is no key verifies nothing: it is told by
    its text.
    """
    return _plain(key.keytype, str(key.keyval.get("public", "")))


@functools.lru_cache(maxsize=1024)
def _plain(keytype: str, text: str) -> str:
    try:
        if keytype == "ed25519":
            return bytes.fromhex(text).hex()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return load_pem_public_key(text.encode()).public_bytes(*form).hex()
    except (ValueError, UnsupportedAlgorithm):
        return text.strip()
