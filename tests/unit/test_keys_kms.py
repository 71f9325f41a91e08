"""AWS KMS: what is sent, and what is made of every answer, honest or not."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner, SSlibKey

from signing.errors import Malformed, Misuse, NotPermitted, OtaError, Outage, Refusal
from signing.keys import keys
from signing.keys.kms import KmsSource
from tests.simulators import kms

ARN = "arn:aws:kms:eu-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
Body = dict[str, Any] | bytes


class Endpoint:
    """A service that answers as a test wants, and keeps what it was asked."""

    def __init__(self) -> None:
        self.key = CryptoSigner.generate_ecdsa()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, Body]] = {"GetPublicKey": (200, self.public(self.key))}

    @staticmethod
    def public(key: CryptoSigner) -> dict[str, Any]:
        """What GetPublicKey answers."""
        crypto = key.public_key._crypto_key()
        return {
            "PublicKey": b64(crypto.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
            "KeyUsage": "SIGN_VERIFY",
        }

    def __call__(self, operation: str, request: dict[str, Any]) -> tuple[int, Body]:
        self.asked.append((operation, request))
        return self.answers[operation]


def b64(data: bytes) -> str:
    import base64  # noqa: PLC0415 - here only

    return base64.b64encode(data).decode()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lying endpoint that boto3 is led to."""
    made = Endpoint()
    with kms.lying(made) as url:
        for name, value in kms.environment(url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        yield made


def load(public: SSlibKey, uri: str = "awskms:alias/x") -> Any:
    return keys.load(uri, public, no_secret)


def no_secret() -> bytes:
    raise AssertionError("KMS has no passphrase")


def test_only_a_digest_is_sent(endpoint: Endpoint) -> None:
    """A payload of any length goes as its hash, with MessageType DIGEST; the rest stays here."""
    payload = b"x" * 100_000
    good = endpoint.key.sign(payload).signature
    endpoint.answers["Sign"] = (200, {"Signature": b64(bytes.fromhex(good))})
    assert load(endpoint.key.public_key).sign(payload).signature == good
    operation, request = endpoint.asked[-1]
    assert operation == "Sign"
    assert request == {
        "KeyId": "alias/x",
        "Message": b64(hashlib.sha256(payload).digest()),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }


def test_a_signature_that_does_not_hold_is_refused(endpoint: Endpoint) -> None:
    """KMS answers with a signature over something else: found the moment it is made."""
    bad = endpoint.key.sign(b"something else").signature
    endpoint.answers["Sign"] = (200, {"Signature": b64(bytes.fromhex(bad))})
    with pytest.raises(Refusal) as caught:
        load(endpoint.key.public_key).sign(b"payload")
    assert caught.value.code == "signature"


CODES = {
    "AccessDeniedException": ("kms-denied", NotPermitted),
    "NotFoundException": ("kms-key", Misuse),
    "DisabledException": ("kms-state", NotPermitted),
    "KMSInvalidStateException": ("kms-state", NotPermitted),
    "InvalidKeyUsageException": ("key-scheme", NotPermitted),
    "UnrecognizedClientException": ("kms-credentials", NotPermitted),
    "InvalidSignatureException": ("kms-credentials", NotPermitted),
    "ExpiredTokenException": ("kms-expired", NotPermitted),
    "DependencyTimeoutException": ("kms", Outage),
    "SomethingNew\x1b[31m": ("kms", Outage),
}


@pytest.mark.parametrize("operation", ["GetPublicKey", "Sign"])
@pytest.mark.parametrize("answer", CODES)
def test_every_no_has_its_code(endpoint: Endpoint, answer: str, operation: str) -> None:
    """What AWS refuses is told apart by what its reader must do, at looking and at signing."""
    endpoint.answers[operation] = kms.error(answer)
    code, kind = CODES[answer]
    with pytest.raises(OtaError) as caught:
        load(endpoint.key.public_key).sign(b"payload")
    assert (caught.value.code, isinstance(caught.value, kind)) == (code, True)
    assert caught.value.remedy
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("words", ["expired: 2026 is now earlier", "not yet current: 2026"])
def test_a_clock_that_is_wrong_is_called_so(endpoint: Endpoint, words: str) -> None:
    """KMS calls it a bad signature; what its reader must do is set the clock."""
    status, body = kms.error("InvalidSignatureException")
    endpoint.answers["Sign"] = (status, dict(body) | {"message": f"Signature {words}"})
    with pytest.raises(NotPermitted) as caught:
        load(endpoint.key.public_key).sign(b"payload")
    assert caught.value.code == "kms-clock"
    assert "timedatectl" in caught.value.remedy


@pytest.mark.parametrize(
    "body",
    [
        b"<html>not KMS</html>",
        b"{}",
        b'{"PublicKey": "AAAA"}',
        b'{"PublicKey": "!"}',
        b"",
        b"[" * 5000,
        b"[]",
        b"null",
        b'"x"',
        b'{"PublicKey": 7}',
        b'{"PublicKey": {"a": []}}',
        b"\xff\xfe",
    ],
)
def test_a_garbled_public_key_is_an_outage(endpoint: Endpoint, body: bytes) -> None:
    """A proxy's page, an empty answer, bytes that are no key: try again, nothing is believed."""
    endpoint.answers["GetPublicKey"] = (200, body)
    with pytest.raises(Outage) as caught:
        load(endpoint.key.public_key)
    assert caught.value.code in {"kms", "kms-unreachable"}


@pytest.mark.parametrize("body", [{}, b"<html>", {"Signature": ""}, {"Signature": b64(b"x" * 70)}])
def test_a_garbled_signature_never_leaves(endpoint: Endpoint, body: Body) -> None:
    """An answer without a signature, or with something else in its place, is an error."""
    endpoint.answers["Sign"] = (200, body)
    with pytest.raises(OtaError) as caught:
        load(endpoint.key.public_key).sign(b"payload")
    assert caught.value.code in {"kms", "signature"}


def test_an_encryption_key_is_no_signer(endpoint: Endpoint) -> None:
    """A key made for another use is refused before anything is signed."""
    endpoint.answers["GetPublicKey"] = (
        200,
        {**Endpoint.public(endpoint.key), "KeyUsage": "ENCRYPT_DECRYPT"},
    )
    with pytest.raises(NotPermitted) as caught:
        load(endpoint.key.public_key)
    assert caught.value.code == "key-scheme"


def test_another_key_is_seen_before_it_signs(endpoint: Endpoint) -> None:
    """The keyholder's public half is compared when the signer is opened; nothing is signed."""
    with pytest.raises(NotPermitted) as caught:
        load(CryptoSigner.generate_ecdsa().public_key)
    assert caught.value.code == "wrong-key"
    assert [operation for operation, _ in endpoint.asked] == ["GetPublicKey"]


def test_an_arn_brings_its_region(endpoint: Endpoint) -> None:
    """The region of an ARN is used; elsewhere boto3's own."""
    assert KmsSource(ARN)._client().meta.region_name == "eu-north-1"
    assert KmsSource("alias/x")._client().meta.region_name == kms.REGION


@pytest.mark.parametrize("key", ["", "x y", "x\n", "é", "x" * 3000])
def test_a_key_id_that_is_none(key: str) -> None:
    """Malformed, before boto3 sees it."""
    with pytest.raises(Malformed):
        load(CryptoSigner.generate_ecdsa().public_key, f"awskms:{key}")


def test_without_boto3_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device's install has no boto3: the error says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Misuse) as caught:
        load(CryptoSigner.generate_ecdsa().public_key)
    assert caught.value.code == "missing-library"
    assert "[ops]" in caught.value.remedy


@pytest.mark.parametrize("url", ["not a url", "http://[::", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_none(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A wrong AWS_ENDPOINT_URL_KMS is a named error."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
    with pytest.raises(OtaError) as caught:
        load(endpoint.key.public_key)
    assert caught.value.code in {"kms-endpoint", "kms-unreachable", "kms"}
