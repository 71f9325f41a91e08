"""The device's identity: one ECDSA P-256 key, made here, never leaving this folder.

It is stored unencrypted, mode 0600 in a folder of mode 0700: a passphrase beside it would
protect nothing on a device that must start unattended. A key in a TPM or PKCS#11 token is the
stronger form. The key signs reports and the enrolment, and nothing else (one key, one purpose).
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from signing import durable
from signing.errors import Malformed, NotFound, NotPermitted

_LIMIT = 16 * 1024


def make(folder: Path) -> Signer:
    """Make the key, or load the one that an interrupted provisioning left."""
    path = folder / "key.pem"
    durable.folder(folder, 0o700)
    if not path.exists():
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        durable.create(path, pem, mode=0o600)
    return load(folder)


def load(folder: Path) -> Signer:
    """The device's signer; ``NotFound`` before provisioning, ``Malformed`` if it is damaged."""
    path = folder / "key.pem"
    pem = durable.read(path, _LIMIT, "identity key")
    if pem is None:
        raise NotFound(
            f"no identity key at {path}", subject=str(path), remedy="ota-agent provision"
        )
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as e:
        raise Malformed(f"{path}: not a private key", subject=str(path)) from e
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Malformed(f"{path}: not an ECDSA key", subject=str(path))
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def check(folder: Path) -> None:
    """The key loads and nobody but its owner can read it; ``NotPermitted`` otherwise."""
    load(folder)
    path = folder / "key.pem"
    if path.stat().st_mode & 0o077:
        raise NotPermitted(
            f"{path} can be read by others",
            code="key-readable",
            subject=str(path),
            remedy=f"chmod 600 {path}",
        )
