"""``file:PATH``: a private key as PKCS#8, encrypted with a passphrase.

The file is made with mode 0600 in a folder of mode 0700, and is never overwritten. A key without
a passphrase is not taken, even if it is the right one.

>>> generate(Path("keys/root-1.pem"), b"correct horse", "ed25519")
>>> FileSource(Path("keys/root-1.pem"), lambda: b"correct horse").signer(public).sign(b"payload")
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from signing import durable
from signing.errors import Malformed, Misuse, NotFound, NotPermitted
from signing.keys.source import Secret, key_of, wrong_key

SCHEMES = ("ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-3072")
_LIMIT = 64 * 1024

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def generate(path: Path, passphrase: bytes, scheme: str = "ed25519") -> Key:
    """Make a key, store it encrypted at ``path``, and return its public half.

    Raises ``Misuse`` for an unknown scheme or an empty passphrase, ``NotPermitted`` (code
    ``exists``) if the file is there, ``Outage`` if the disk says no.
    """
    if not passphrase:
        raise Misuse("the passphrase is empty", subject=str(path), code="passphrase")
    private = _new(scheme)
    pem = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
    )
    durable.folder(path.parent, mode=0o700)
    durable.create(path, pem, mode=0o600)
    return SSlibKey.from_crypto(private.public_key())


def _new(scheme: str) -> PrivateKey:
    if scheme == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if scheme == "ecdsa-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if scheme == "ecdsa-p384":
        return ec.generate_private_key(ec.SECP384R1())
    if scheme == "rsa-3072":
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    raise Misuse(
        f"scheme {scheme!r:.40} is unknown", subject="scheme", remedy=f"one of {', '.join(SCHEMES)}"
    )


class FileSource:
    """One encrypted file; ``secret`` is its passphrase."""

    def __init__(self, path: Path, secret: Secret) -> None:
        self._path = path
        self._secret = secret

    def public(self) -> SSlibKey:
        """The public half; needs the passphrase."""
        return key_of(self._private().public_key(), str(self._path))

    def signer(self, public: SSlibKey) -> Signer:
        """A signer; ``NotFound``, ``NotPermitted`` (``passphrase``, ``unencrypted``, ``wrong-key``)."""
        try:
            return CryptoSigner(self._private(), public)
        except ValueError as e:
            raise wrong_key(str(self._path), public) from e

    def check(self, public: SSlibKey) -> None:
        """The file is there and is an encrypted key; whose, only the passphrase tells."""
        del public
        self._pem()

    def _private(self) -> PrivateKeyTypes:
        pem = self._pem()
        secret = self._secret()
        if not secret:
            raise _wrong_passphrase(self._path)
        try:
            return load_pem_private_key(pem, secret)
        except ValueError as e:
            if _undecrypted(e) or _sound(pem, secret):
                raise _wrong_passphrase(self._path) from e
            raise Malformed(f"{self._path}: not a PKCS#8 key", subject=str(self._path)) from e
        except (TypeError, UnsupportedAlgorithm) as e:
            raise Malformed(f"{self._path}: not a PKCS#8 key", subject=str(self._path)) from e

    def _pem(self) -> bytes:
        pem = durable.read(self._path, _LIMIT, "private key")
        if pem is None:
            raise NotFound(
                f"private key {self._path} is not there",
                subject=str(self._path),
                remedy="ota key list; the file lies with its keyholder",
            )
        if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in pem:
            what = "is not encrypted" if b"PRIVATE KEY-----" in pem else "is not a PEM private key"
            raise NotPermitted(
                f"{self._path} {what}; only PKCS#8 with a passphrase is taken",
                code="unencrypted",
                subject=str(self._path),
                remedy=f"openssl pkcs8 -topk8 -v2 aes-256-cbc -in {self._path} -out NEW",
            )
        return pem


def _undecrypted(error: ValueError) -> bool:
    return "password" in str(error).lower() or "decrypt" in str(error).lower()


def _sound(pem: bytes, secret: bytes) -> bool:
    """Whether the file is one that a passphrase could open.

    One wrong passphrase in about 256 decrypts to something whose padding looks right and which is no
    key: that alone does not tell a wrong passphrase from a damaged file. Others say which.
    """
    for other in (secret + b"1", secret + b"2", secret + b"3"):
        try:
            load_pem_private_key(pem, other)
        except ValueError as e:
            if _undecrypted(e):
                return True
        except (TypeError, UnsupportedAlgorithm):
            return False
    return False


def _wrong_passphrase(path: Path) -> NotPermitted:
    return NotPermitted(
        f"the passphrase does not open {path}",
        code="passphrase",
        subject=str(path),
        remedy="try again; there is no way to recover a forgotten passphrase",
    )
