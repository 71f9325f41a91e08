"""``hsm:[ID][?label=TOKEN][&module=PATH]``: a key on a PKCS#11 token.

``ID`` is the key's CKA_ID as a decimal number, 2 where it is left out (the signature slot of a
PIV card); ``label`` names the token where there are several; ``module`` is the vendor's library,
else the variable ``PYKCS11LIB`` names it. This is securesystemslib's form of URI, with
``module`` added. The PIN is a secret by reference, as a passphrase is; a URI that holds one is
refused, without repeating it.

The token hashes nothing: ECDSA and RSA-PSS sign the digest, Ed25519 the payload. A session lasts
for one operation, so a card that is pulled is missed at once, and the PIN is tried once: three
wrong ones lock a card.

>>> HsmSource("1?label=plant", lambda: b"1234", env).signer(public).sign(b"payload")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib import parse

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.signer import Signer, SSlibKey

from signing.errors import Malformed, Misuse, NotFound, NotPermitted, Outage
from signing.keys.source import Secret, SourceSigner, digest, hash_name, key_of, require_same, shown

if TYPE_CHECKING:
    import pkcs11

_DEFAULT_ID = 2
_LONGEST_PIN = 256
_SALTS = {"sha256": 32, "sha384": 48, "sha512": 64}
_WRONG_PIN = ("PinIncorrect", "PinInvalid", "PinLenRange")
_LOCKED = ("PinLocked", "PinExpired", "UserPinNotInitialized")
_GONE = ("TokenNotPresent", "TokenNotRecognised", "DeviceRemoved", "SlotIDInvalid")
_UNFIT = ("MechanismInvalid", "MechanismParamInvalid", "KeyTypeInconsistent", "KeySizeRange")


class HsmSource:
    """One key on one token; ``secret`` is the user's PIN."""

    def __init__(self, rest: str, secret: Secret, env: Mapping[str, str]) -> None:
        self._id, self._label, module = _parse(rest)
        self._module = module or env.get("PYKCS11LIB", "")
        self._secret = secret

    @property
    def _where(self) -> str:
        return f"key {self._id} on token {self._label!r}" if self._label else f"key {self._id}"

    def public(self) -> SSlibKey:
        """The public half, with the PIN only where the token hides it without."""
        with self._session(None) as session:
            found = self._public(session)
        if found is None:
            with self._session(self._pin()) as session:
                found = self._public(session)
        if found is None:
            raise self._no_key("public key", 'give it as a file: "--public PEM"')
        return found

    def check(self, public: SSlibKey) -> None:
        """Module and token are there, and the token shows no other key under this id."""
        with self._session(None) as session:
            found = self._public(session)
        if found is not None:
            require_same(found, public, self._where)

    def signer(self, public: SSlibKey) -> Signer:
        """A signer; the PIN is tried now, and the key found and compared."""
        pin = self._pin()
        with self._session(pin) as session:
            found = self._public(session)
            if found is not None:
                require_same(found, public, self._where)
            self._private(session)
        return SourceSigner(public, lambda payload: self._sign(public, pin, payload))

    def _sign(self, public: SSlibKey, pin: str, payload: bytes) -> bytes:
        import pkcs11  # noqa: PLC0415 - an optional install
        from pkcs11.util.ec import encode_ecdsa_signature  # noqa: PLC0415 - the same

        with self._session(pin) as session:
            key = self._private(session)
            if public.keytype == "ed25519":
                return bytes(key.sign(payload, mechanism=pkcs11.Mechanism.EDDSA))
            hashed = digest(public, payload)
            if public.keytype == "rsa":
                name = hash_name(public)
                upper = name.upper()
                param = (
                    getattr(pkcs11.Mechanism, upper),
                    getattr(pkcs11.MGF, upper),
                    _SALTS[name],
                )
                mechanism = pkcs11.Mechanism.RSA_PKCS_PSS
                return bytes(key.sign(hashed, mechanism=mechanism, mechanism_param=param))
            raw = key.sign(hashed, mechanism=pkcs11.Mechanism.ECDSA)
            return bytes(encode_ecdsa_signature(raw))

    def _pin(self) -> str:
        secret = self._secret()
        try:
            pin = secret.decode()
        except UnicodeDecodeError as e:
            raise self._wrong_pin() from e
        if not 0 < len(pin) <= _LONGEST_PIN:
            raise self._wrong_pin()
        return pin

    # -- the token ------------------------------------------------------------------------------
    @contextmanager
    def _session(self, pin: str | None) -> Iterator[pkcs11.Session]:
        library = self._library()
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an optional install

        try:
            token = library.get_token(token_label=self._label or None, token_flags=_initialized())
            with token.open(user_pin=pin) as session:
                yield session
        except PKCS11Error as e:
            self._translate(e)

    def _library(self) -> Any:
        try:
            import pkcs11  # noqa: PLC0415 - an optional install
        except ImportError as e:
            raise Misuse(
                "hsm: keys need python-pkcs11",
                code="missing-library",
                subject="hsm:",
                remedy="pip install 'ota-orchestrator[hsm]'",
            ) from e
        if not Path(self._module).is_absolute() or not Path(self._module).is_file():
            raise self._no_module("names no file" if self._module else "is not named")
        try:
            return pkcs11.lib(self._module)
        except (pkcs11.exceptions.PKCS11Error, OSError) as e:
            raise self._no_module(f"does not load: {shown(e)}") from e

    def _public(self, session: pkcs11.Session) -> SSlibKey | None:
        import pkcs11  # noqa: PLC0415 - an optional install

        found = self._objects(session, pkcs11.ObjectClass.PUBLIC_KEY)
        if not found:
            return None
        try:
            return key_of(_crypto(found[0]), self._where)
        except ValueError as e:
            raise Outage(f"{self._where}: the token shows a broken public key", code="hsm") from e

    def _private(self, session: pkcs11.Session) -> Any:
        import pkcs11  # noqa: PLC0415 - an optional install

        found = self._objects(session, pkcs11.ObjectClass.PRIVATE_KEY)
        if not found:
            raise self._no_key("private key", "pkcs11-tool --list-objects --login")
        return found[0]

    def _objects(self, session: pkcs11.Session, kind: pkcs11.ObjectClass) -> list[Any]:
        import pkcs11  # noqa: PLC0415 - an optional install

        raw = self._id.to_bytes(max(1, (self._id.bit_length() + 7) // 8), "big")
        wanted = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.ID: raw}
        found = list(session.get_objects(wanted))
        if len(found) > 1:
            raise self._no_key("single key", "give each key on the token an id of its own")
        return found

    # -- what went wrong --------------------------------------------------------------------------
    def _translate(self, error: Exception) -> NoReturn:
        name = type(error).__name__
        if name in _WRONG_PIN:
            raise self._wrong_pin() from error
        if name in _LOCKED:
            raise NotPermitted(
                f"{self._where}: the PIN is locked or not set",
                code="pin-locked",
                subject=self._where,
                remedy="unlock it with the security officer's PIN",
            ) from error
        if name in {"NoSuchToken", "MultipleTokensReturned"}:
            what = "no such token" if name == "NoSuchToken" else "several tokens fit"
            raise NotFound(
                f"{self._where}: {what}",
                code="hsm-token",
                subject=self._where,
                remedy="pkcs11-tool --list-token-slots; name it: hsm:ID?label=TOKEN",
            ) from error
        if name in _UNFIT:
            raise NotPermitted(
                f"{self._where}: the token can not sign with this scheme",
                code="key-scheme",
                subject=self._where,
                remedy="pkcs11-tool --list-mechanisms",
            ) from error
        code = "hsm-token" if name in _GONE else "hsm"
        raise Outage(
            f"{self._where}: the token says {name} {shown(error)}".rstrip(),
            code=code,
            subject=self._where,
            remedy="see that it is plugged in; pkcs11-tool --list-token-slots",
        ) from error

    def _wrong_pin(self) -> NotPermitted:
        return NotPermitted(
            f"{self._where}: the PIN is wrong",
            code="pin",
            subject=self._where,
            remedy="try again with care: after some wrong ones a token locks itself",
        )

    def _no_key(self, what: str, remedy: str) -> NotFound:
        return NotFound(
            f"{self._where}: the token has no {what} with this id",
            code="hsm-key",
            subject=self._where,
            remedy=remedy,
        )

    def _no_module(self, what: str) -> NotFound:
        return NotFound(
            f"the PKCS#11 module {self._module} {what}".replace("  ", " "),
            code="hsm-module",
            subject=self._module,
            remedy="export PYKCS11LIB=/usr/lib/.../VENDOR.so, or hsm:ID?module=PATH",
        )


def _parse(rest: str) -> tuple[int, str, str]:
    path, _, query = rest.partition("?")
    try:
        words = parse.parse_qs(query, strict_parsing=bool(query), max_num_fields=2)
        if set(words) <= {"label", "module"} and all(len(v) == 1 for v in words.values()):
            key_id = int(path) if path else _DEFAULT_ID
            if path.isdecimal() == bool(path) and key_id < 1 << 160:
                return key_id, words.get("label", [""])[0], words.get("module", [""])[0]
    except ValueError:
        pass  # said below, without the URI: it may hold a PIN
    raise Malformed(
        "hsm: URI is not hsm:[ID][?label=TOKEN][&module=PATH]; a PIN never stands in it",
        subject="hsm:",
        remedy='the PIN by reference: [passphrases] NAME = "prompt", "env:..." or "file:..."',
    )


def _initialized() -> Any:
    import pkcs11  # noqa: PLC0415 - an optional install

    return pkcs11.TokenFlag.TOKEN_INITIALIZED


def _crypto(key: Any) -> PublicKeyTypes:
    """A token's public key for cryptography; ``ValueError`` where it is none."""
    import pkcs11  # noqa: PLC0415 - an optional install
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415 - the same

    if key.key_type == pkcs11.KeyType.RSA:
        modulus = int.from_bytes(key[pkcs11.Attribute.MODULUS], "big")
        exponent = int.from_bytes(key[pkcs11.Attribute.PUBLIC_EXPONENT], "big")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if key.key_type == pkcs11.KeyType.EC_EDWARDS:
        point = bytes(key[pkcs11.Attribute.EC_POINT])
        return ed25519.Ed25519PublicKey.from_public_bytes(point.removeprefix(b"\x04\x20")[:32])
    if key.key_type == pkcs11.KeyType.EC:
        return load_der_public_key(encode_ec_public_key(key))
    raise ValueError("neither RSA nor an elliptic curve")
