"""Private keys: made, loaded, and used by nothing but a signer that checks itself.

The only room that touches private keys of repositories, authors and approvers. A key is named by
a URI that says where it lives, and nothing secret; every source serves every role:

| URI | where | secret |
|---|---|---|
| ``file:PATH`` | an encrypted PKCS#8 file, see ``file.py`` | passphrase |
| ``hsm:ID?label=TOKEN`` | a PKCS#11 token, see ``hsm.py`` | PIN |
| ``awskms:KEY`` | AWS KMS, see ``kms.py`` | boto3's own chain |
| ``exec:/PROGRAM ARGUMENT...`` | a signing command, see ``exec.py`` | the command's own |

``gcpkms:``, ``azurekms:`` and ``hv:`` go to securesystemslib as they are, with its libraries and
its errors; ``exec:`` suits them too. Every signature is verified with the public key the moment it
is made, so a faulty chip or the wrong key shows here and not on ten thousand devices.

>>> key = generate(Path("keys/root-1.pem"), b"correct horse", "ed25519")
>>> signer = load("file:keys/root-1.pem", key, lambda: b"correct horse")
>>> signer = load("hsm:1?label=plant", key, lambda: b"1234", env=os.environ)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from securesystemslib.exceptions import (
    UnsupportedLibraryError,
    UnverifiedSignatureError,
    VerificationError,
)
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from signing.errors import Malformed, Misuse, NotPermitted, Outage, Refusal
from signing.keys.exec import ExecSource
from signing.keys.file import SCHEMES, FileSource, generate
from signing.keys.hsm import HsmSource
from signing.keys.kms import KmsSource
from signing.keys.source import Secret, Source, read_public, same, shown, wrong_key

__all__ = [
    "SCHEMES",
    "CheckedSigner",
    "check",
    "generate",
    "load",
    "prove",
    "public",
    "read_public",
    "same",
]


class CheckedSigner(Signer):
    """Wraps any signer; a signature that its own public key does not accept is an error."""

    def __init__(self, inner: Signer) -> None:
        self._inner = inner

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._inner.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> CheckedSigner:
        """As securesystemslib's registry asks for it."""
        return cls(Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler))

    def sign(self, payload: bytes) -> Signature:
        """Sign and verify; ``Refusal("signature")`` when what came out does not hold."""
        signature = self._inner.sign(payload)
        try:
            self.public_key.verify_signature(signature, payload)
        except (UnverifiedSignatureError, VerificationError) as e:
            raise Refusal(
                "signature", "a signature just made does not verify: suspect the signing device"
            ) from e
        return signature


def load(
    uri: str,
    public: Key,
    passphrase: Secret,
    *,
    base: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Signer:
    """A signer for the keyholder whose public key is ``public``.

    ``passphrase`` is asked for a passphrase or PIN where there is one; ``file:`` paths count from
    ``base``; ``env`` is what ``hsm:`` and ``exec:`` know of the environment.

    Raises ``Malformed`` (the URI), ``NotFound``, ``NotPermitted`` and ``Outage`` with the codes of
    ``signing.keys.source``.
    """
    source = _source(uri, passphrase, base, env)
    if not isinstance(public, SSlibKey):
        raise wrong_key(uri.partition(":")[0], public)
    return CheckedSigner(source.signer(public))


def public(
    uri: str,
    passphrase: Secret,
    *,
    base: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> SSlibKey:
    """The public half of the key that a URI names, read from where it lives; errors of ``load``."""
    return _source(uri, passphrase, base, env).public()


def check(
    uri: str,
    public: Key,
    *,
    base: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Raise what can be seen to be wrong without a secret; errors of ``load``."""
    if isinstance(public, SSlibKey):
        _source(uri, _nothing, base, env).check(public)


def prove(signer: Signer) -> None:
    """Let a key show that it signs. What is signed can never be metadata or a statement.

    Raises what the signer raises, and ``Refusal("signature")``.
    """
    CheckedSigner(signer).sign(b"ota key proof v1\n" + secrets.token_bytes(16).hex().encode())


def _nothing() -> bytes:
    raise NotPermitted(
        "only its PIN or passphrase tells", code="secret-needed", remedy="ota repo sign --key NAME"
    )


def _source(uri: str, secret: Secret, base: Path | None, env: Mapping[str, str] | None) -> Source:
    scheme, colon, rest = uri.partition(":")
    if scheme == "hsm" and colon:
        return HsmSource(rest, secret, env or {})
    if not colon or not rest:
        raise Malformed(f"key URI {uri!r:.80} is not SCHEME:...", subject=uri[:80])
    if scheme == "file":
        return FileSource((base or Path()) / rest, secret)
    if scheme == "file2":
        raise NotPermitted("file2: keys lie unencrypted; use file:", code="unencrypted")
    if scheme == "awskms":
        return KmsSource(rest)
    if scheme == "exec":
        return ExecSource(rest, env or {})
    return _OtherSource(uri, secret)


class _OtherSource:
    """Any other signer that securesystemslib knows; it can sign, and that is all."""

    def __init__(self, uri: str, secret: Secret) -> None:
        self._uri = uri
        self._secret = secret

    def public(self) -> SSlibKey:
        """These do not tell: ``Misuse``."""
        raise Misuse(
            f"the public key of {self._uri.partition(':')[0]}: keys is not read from here",
            code="public-key-needed",
            subject=self._uri[:80],
            remedy="give it as a file: --public PEM",
        )

    def check(self, public: SSlibKey) -> None:
        """Only signing tells: ``NotPermitted`` (``secret-needed``)."""
        del public
        _nothing()

    def signer(self, public: SSlibKey) -> Signer:
        """As securesystemslib makes it; ``Malformed``, ``Misuse`` or ``Outage``."""
        try:
            return Signer.from_priv_key_uri(self._uri, public, lambda _: self._secret().decode())
        except UnsupportedLibraryError as e:
            raise Misuse(
                shown(e),
                code="missing-library",
                subject=self._uri[:80],
                remedy="install it, or use exec: with the vendor's own signer",
            ) from e
        except ValueError as e:
            raise Malformed(f"key URI {self._uri!r:.80}: {shown(e)}", subject=self._uri[:80]) from e
        except OSError as e:
            raise Outage(f"key URI {self._uri!r:.80}: {shown(e)}", subject=self._uri[:80]) from e
