"""The device's identity: one ECDSA P-256 key, made here, never leaving this folder.

It is stored unencrypted, mode 0600 in a folder of mode 0700: a passphrase beside it would
protect nothing on a device that must start unattended. The stronger form is a key on a PKCS#11
token, or in a TPM with such a library, made there by the device's owner and named by
``[identity]`` of agent.toml (``signing/keys/hsm.py``). The key signs reports and the enrolment,
and nothing else (one key, one purpose).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from ota.agent import secret
from ota.agent.config import IdentityConfig
from ota.agent.feeds.options import ON_TOKEN
from signing import durable
from signing.errors import Malformed, NotFound, NotPermitted

_LIMIT = 16 * 1024
_REMEDY = "restore it from backup, or provision the device anew and replace it"
IN_FILE = IdentityConfig()


def make(folder: Path, config: IdentityConfig = IN_FILE) -> Signer:
    """Make the key, or load the one that an interrupted provisioning left, or find the token's."""
    if config.key:
        durable.folder(folder, 0o700)
        return _on_token(config)
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


def load(folder: Path, config: IdentityConfig = IN_FILE) -> Signer:
    """The device's signer; ``NotFound`` before provisioning, ``Malformed`` if it is damaged.

    For a key on a token also ``Outage`` while the token is not there, ``NotPermitted`` for its PIN.
    """
    if config.key:
        return _on_token(config)
    path = folder / "key.pem"
    pem = durable.read(path, _LIMIT, "identity key")
    if pem is None:
        raise NotFound(
            f"no identity key at {path}", subject=str(path), remedy="ota-agent provision"
        )
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as e:
        raise Malformed(f"{path}: not a private key", subject=str(path), remedy=_REMEDY) from e
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Malformed(f"{path}: not an ECDSA key", subject=str(path), remedy=_REMEDY)
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def check(folder: Path, config: IdentityConfig = IN_FILE) -> None:
    """The key loads and nobody but its owner can read it; ``NotPermitted`` otherwise."""
    load(folder, config)
    if config.key:
        return
    path = folder / "key.pem"
    if path.stat().st_mode & 0o077:
        raise NotPermitted(
            f"{path} can be read by others",
            code="key-readable",
            subject=str(path),
            remedy=f"chmod 600 {path}",
        )


def _on_token(config: IdentityConfig) -> Signer:
    from signing.keys.hsm import HsmSource  # noqa: PLC0415 - only for keys on tokens

    rest = config.key.removeprefix(ON_TOKEN)
    source = HsmSource(rest, lambda: secret.read(config.pin, "identity.pin"), os.environ)
    return source.signer(source.public())
