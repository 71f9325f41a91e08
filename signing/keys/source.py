"""What every source of private keys has in common: one protocol, one set of schemes.

A source is where a private key lives: an encrypted file, a token, a cloud service, a command. It
can read the public half, make a signer for it, and say whether the key can be reached. It never
shows a private key or a secret, not in an error either. Each fault has a code of its own:

| code | source | meaning |
|---|---|---|
| ``wrong-key`` | all | it holds another key than the keyholder's |
| ``key-scheme`` | all | the kind of key is not one that is used here, or not there |
| ``passphrase``, ``unencrypted`` | ``file:`` | it does not open; it lies open |
| ``pin``, ``pin-locked`` | ``hsm:`` | the PIN is wrong; too many were |
| ``hsm-module``, ``hsm-token``, ``hsm-key``, ``hsm`` | ``hsm:`` | which part is not there |
| ``kms-credentials``, ``kms-expired``, ``kms-clock`` | ``awskms:`` | who asks, and when |
| ``kms-denied``, ``kms-key``, ``kms-state`` | ``awskms:`` | may, what |
| ``kms-region``, ``kms-endpoint``, ``kms-unreachable``, ``kms`` | ``awskms:`` | where; no answer; a strange one |
| ``signer-missing``, ``signer-failed``, ``signer-timeout``, ``signer-output`` | ``exec:`` | command |
| ``missing-library`` | ``hsm:``, ``awskms:`` | the optional install is not there |

>>> digest(public, payload)            # what a token or a service signs
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from signing.errors import Malformed, NotPermitted

Secret = Callable[[], bytes]
"""Asks for the passphrase or PIN of a key, when it is needed and not before."""

SMALLEST_RSA, LARGEST_RSA = 2048, 4096
HASHES: Mapping[str, str] = MappingProxyType(
    {
        "ecdsa-sha2-nistp256": "sha256",
        "ecdsa-sha2-nistp384": "sha384",
        "rsassa-pss-sha256": "sha256",
        "rsassa-pss-sha384": "sha384",
        "rsassa-pss-sha512": "sha512",
    }
)
"""TUF scheme -> hash of the payload. Ed25519 is absent: it signs the payload itself."""


class Source(Protocol):
    """Where one private key lives."""

    def public(self) -> SSlibKey:
        """The public half, read from there; may ask for the secret."""

    def signer(self, public: SSlibKey) -> Signer:
        """A signer for ``public``; asks for the secret, and tries it where that is possible."""

    def check(self, public: SSlibKey) -> None:
        """Raise what is wrong, as far as can be told without the secret."""


class SourceSigner(Signer):
    """A signer made of a public key and a function from payload to signature bytes."""

    def __init__(self, public: SSlibKey, sign: Callable[[bytes], bytes]) -> None:
        self._public = public
        self._sign = sign

    @property
    def public_key(self) -> SSlibKey:
        """The public half."""
        return self._public

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """As securesystemslib's registry asks for it."""
        return Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        """Sign; nothing is verified here, see ``signing.keys.keys.CheckedSigner``."""
        return Signature(self._public.keyid, self._sign(payload).hex())


def digest(public: Key, payload: bytes) -> bytes:
    """The hash of ``payload`` that a key of this scheme signs; ``NotPermitted`` for Ed25519."""
    return hashlib.new(hash_name(public), payload).digest()


def hash_name(public: Key) -> str:
    """``sha256`` and the like; ``NotPermitted`` (``key-scheme``) where there is none."""
    if public.scheme not in HASHES:
        raise NotPermitted(
            f"a key of scheme {public.scheme!r:.40} can not be used from this source",
            code="key-scheme",
            subject=public.keyid[:16],
            remedy="a key of P-256, P-384 or RSA",
        )
    return HASHES[public.scheme]


def key_of(public: PublicKeyTypes, where: str) -> SSlibKey:
    """The TUF form of a public key; ``NotPermitted`` (``key-scheme``) for other kinds."""
    if isinstance(public, rsa.RSAPublicKey):
        fits = SMALLEST_RSA <= public.key_size <= LARGEST_RSA
    elif isinstance(public, ec.EllipticCurvePublicKey):
        fits = isinstance(public.curve, (ec.SECP256R1, ec.SECP384R1))
    else:
        fits = isinstance(public, ed25519.Ed25519PublicKey)
    if not fits:
        raise NotPermitted(
            f"{where}: a key of this kind or size is not used here",
            code="key-scheme",
            subject=where,
            remedy="Ed25519, ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits",
        )
    return SSlibKey.from_crypto(public)


def read_public(data: bytes, where: str) -> SSlibKey:
    """A public key in PEM or DER (SubjectPublicKeyInfo); ``Malformed`` for anything else."""
    try:
        if data.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
            public = load_pem_public_key(data.strip())
        else:
            public = load_der_public_key(data)
            # two bare numbers, such as an ECDSA signature, would also be read as an RSA key
            if public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != data:
                raise ValueError("not a SubjectPublicKeyInfo")
    except (ValueError, UnsupportedAlgorithm) as e:
        raise Malformed(f"{where}: not a public key in PEM or DER", subject=where) from e
    return key_of(public, where)


def same(one: Key, other: Key) -> bool:
    """Whether two TUF keys are one key, whatever they call their scheme."""
    return _value(one) == _value(other)


def _value(key: Key) -> str:
    return str(key.keyval.get("public", "")).strip()


def require_same(found: Key, public: Key, where: str) -> None:
    """Raise ``NotPermitted`` (``wrong-key``) unless ``where`` holds this keyholder's key."""
    if not same(found, public):
        raise wrong_key(where, public)


def wrong_key(where: str, public: Key) -> NotPermitted:
    """What is raised when a source holds another key."""
    return NotPermitted(
        f"{where} is not the private half of key {public.keyid[:16]}",
        code="wrong-key",
        subject=where,
        remedy="compare it with repo-metadata/keyholders/",
    )


def shown(text: object, limit: int = 160) -> str:
    """Foreign text on one line, bounded, without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:limit].strip()
