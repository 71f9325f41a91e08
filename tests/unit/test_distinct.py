"""One key in every way in which it can be written, and two keys that are two."""

from __future__ import annotations

import base64
import textwrap

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from signing import distinct, strict

EC = ec.generate_private_key(ec.SECP256R1()).public_key()
RSA = rsa.generate_private_key(65537, 2048).public_key()
ED = CryptoSigner.generate_ed25519().public_key


def of(keytype: str, public: str) -> Key:
    """A key as metadata lists it, under an id of its own."""
    scheme = {"ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsassa-pss-sha256"}.get(keytype, keytype)
    return SSlibKey(strict.digest(public.encode()), keytype, scheme, {"public": public})


def pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def rewrapped(text: str) -> str:
    """The same base64 in shorter lines, with a word before it."""
    head, *body, tail = text.strip().splitlines()
    return "\n".join(["a note", head, *textwrap.wrap("".join(body), 40), tail, "", ""])


def compressed() -> str:
    """The same point by one coordinate and a sign, in SubjectPublicKeyInfo (RFC 5480, 2.2)."""
    point = EC.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    whole = EC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = bytearray(whole[:-65])  # SEQUENCE, its length; the algorithm; BIT STRING, its length
    head[1] -= 32
    head[-2] -= 32
    return _armoured(bytes(head) + point)


def _armoured(data: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(data).decode(), 64)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


FORMS = {
    "ed25519 in capitals": (ED, of("ed25519", ED.keyval["public"].upper())),
    "ed25519 in pairs": (ED, of("ed25519", bytes.fromhex(ED.keyval["public"]).hex(" "))),
    "PEM in other lines": (of("ecdsa", pem(EC)), of("ecdsa", rewrapped(pem(EC)))),
    "PEM with returns": (of("rsa", pem(RSA)), of("rsa", pem(RSA).replace("\n", "\r\n"))),
    "a compressed point": (of("ecdsa", pem(EC)), of("ecdsa", compressed())),
    "RSA as PKCS #1": (
        of("rsa", pem(RSA)),
        of("rsa", RSA.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_key(form: str) -> None:
    """Another text, another id, the same key."""
    one, other = FORMS[form]
    assert one.keyid != other.keyid
    assert distinct.shared([one], [other]) == [one.keyid]


def test_two_keys() -> None:
    """What is another key, or none at all, is shared with nobody."""
    others = [
        of("ecdsa", pem(EC)),
        of("rsa", pem(RSA)),
        of("ed25519", "none"),
        of("rsa", "nothing"),
    ]
    assert distinct.shared([ED], others) == []
    assert distinct.shared(others[:3], [ED, others[3]]) == []
