"""Certificate requests and certificates, checked: the private key never leaves the device.

Rules of a request (PKCS#10, RFC 2986):

1. It is signed by the key it carries: the device holds the private half.
2. Its common name is the thing's name. Over HTTPS AWS IoT knows no thing, and the policy of
   devices goes by the common name; a request that names another thing would aim.
3. ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits: what AWS IoT takes.
4. The key is no report key of any device: one key, one purpose.

A certificate must hold exactly the request's key and name, whoever issued it.

>>> read(pem, "press-07").digest
'8b1f...'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID
from securesystemslib.signer import Key

from ota.errors import Malformed, NotPermitted, Refusal
from signing import strict

LIMIT: Final = 16 * 1024
"""Largest request or certificate in bytes."""
_RSA: Final = range(2048, 4097)


@dataclass(frozen=True)
class Request:
    """A checked request. ``key`` is the public key as DER, ``digest`` the SHA-256 of that."""

    pem: str
    thing: str
    key: bytes

    @property
    def digest(self) -> str:
        """Names the key in records and for people."""
        return strict.digest(self.key)


def read(pem: bytes, thing: str) -> Request:
    """Check a request for ``thing``; ``Malformed`` or ``NotPermitted`` (``csr-name``...)."""
    if len(pem) > LIMIT:
        raise Malformed(f"certificate request: longer than {LIMIT} bytes", subject=thing)
    try:
        found = x509.load_pem_x509_csr(pem)
        key = found.public_key()
        signed = found.is_signature_valid
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Malformed(
            f"certificate request: not a PEM PKCS#10 request: {e!s:.100}", subject=thing
        ) from e
    if not signed:  # (1)
        raise Malformed("certificate request: not signed by its own key", subject=thing)
    if [name.value for name in names] != [thing]:  # (2)
        said = ", ".join(str(name.value) for name in names) or "nothing"
        raise NotPermitted(
            f"certificate request: its common name is {said[:140]!r}, the thing is {thing}",
            code="csr-name",
            subject=thing,
            remedy=f"make it on the device: openssl req -new -key tls.pem -subj /CN={thing}",
        )
    _strong(key, thing)  # (3)
    return Request(pem.decode("ascii"), thing, _der(key))


def _strong(key: object, thing: str) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in {"secp256r1", "secp384r1"}:
            return
        what = key.curve.name
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size in _RSA:
            return
        what = f"RSA of {key.key_size} bits"
    else:
        what = type(key).__name__
    raise NotPermitted(
        f"certificate request: {what} is not taken; P-256, P-384 or RSA of 2048 bits",
        code="csr-key",
        subject=thing,
        remedy="openssl ecparam -name prime256v1 -genkey -noout",
    )


def not_for_reports(request: Request, keys: Iterable[tuple[str, Key]]) -> None:
    """Rule 4, against (device, report key); ``NotPermitted`` names the device."""
    for device, key in keys:
        try:
            der = _der(load_pem_public_key(key.keyval["public"].encode()))
        except (ValueError, KeyError, UnsupportedAlgorithm):
            continue  # a raw Ed25519 key, which no certificate of AWS IoT can hold
        if der == request.key:
            raise NotPermitted(
                f"certificate request: its key signs the reports of {device}",
                code="csr-key",
                subject=request.thing,
                remedy="make another key on the device for TLS: one key, one purpose",
            )


def holds(certificate: str, request: Request) -> None:
    """Compare a certificate with the request it answers; ``Refusal("certificate-key")``."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode()[: LIMIT + 1])
        key = _der(found.public_key())
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Refusal("certificate-key", f"not a certificate: {e!s:.100}") from e
    if key != request.key:
        raise Refusal("certificate-key", "the certificate holds another key", subject=request.thing)
    if [name.value for name in names] != [request.thing]:
        raise Refusal(
            "certificate-key", "the certificate names another thing", subject=request.thing
        )


def _der(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every public key has it
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
