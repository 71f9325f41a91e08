"""What every key source shares: public keys read strictly, schemes by name, keys compared."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner, SSlibKey

from signing.errors import Malformed, NotPermitted, OtaError
from signing.keys import keys
from signing.keys import source as keys_source

P256 = CryptoSigner.generate_ecdsa()


def spki(public: object, form: Encoding = Encoding.PEM) -> bytes:
    return public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize(
    ("private", "scheme"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ecdsa-sha2-nistp256"),
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa-sha2-nistp384"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "rsassa-pss-sha256"),
    ],
    ids=["p256", "p384", "ed25519", "rsa"],
)
def test_good_keys_are_read(form: Encoding, private: object, scheme: str) -> None:
    """PEM and DER of each kind, white space around PEM allowed; one key, one key id."""
    data = spki(private.public_key(), form)
    padded = b"\n " + data + b"\n\n" if form is Encoding.PEM else data
    key = keys.read_public(padded, "a file")
    assert key.scheme == scheme
    assert key.keyid == SSlibKey.from_crypto(private.public_key()).keyid


@pytest.mark.parametrize(
    "private",
    [
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        x25519.X25519PrivateKey.generate(),
        dsa.generate_private_key(1024),  # noqa: S505 - the same
    ],
    ids=["rsa-1024", "p521", "secp256k1", "x25519", "dsa"],
)
def test_weak_and_strange_keys_are_not_taken(private: object) -> None:
    """A kind or size that is not used here is told from a file that holds no key."""
    with pytest.raises(NotPermitted) as caught:
        keys.read_public(spki(private.public_key()), "a file")
    assert caught.value.code == "key-scheme"


@pytest.mark.parametrize("kind", range(8))
def test_what_is_no_public_key(kind: int) -> None:
    """Nothing, noise, half a key, a private key, a signature: ``malformed``, never a key."""
    der = spki(P256.public_key._crypto_key(), Encoding.DER)
    data = (
        b"",
        b"\x00" * 400,
        der[:-1],
        der + b"\x00",
        P256.private_bytes,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )[kind]
    with pytest.raises(Malformed, match="a file"):
        keys.read_public(data, "a file")


def test_a_signature_is_never_read_as_a_key() -> None:
    """Two numbers in DER are an ECDSA signature, and a bare RSA key too: neither is taken."""
    for n in range(64):
        with pytest.raises(Malformed):
            keys.read_public(bytes.fromhex(P256.sign(bytes([n])).signature), "a command")


def test_keys_are_compared_by_what_they_are() -> None:
    """White space and the name of a scheme do not make another key; another key is one."""
    public = P256.public_key
    spaced = SSlibKey(
        public.keyid, public.keytype, "x", {"public": f"\n{public.keyval['public']}\n"}
    )
    assert keys.same(public, spaced)
    assert not keys.same(public, CryptoSigner.generate_ecdsa().public_key)


def test_only_hashed_schemes_have_a_digest() -> None:
    """Ed25519 signs the payload itself: a source that needs a digest says so."""
    assert len(keys_source.digest(P256.public_key, b"x")) == 32
    with pytest.raises(NotPermitted) as caught:
        keys_source.digest(CryptoSigner.generate_ed25519().public_key, b"x")
    assert caught.value.code == "key-scheme"


@pytest.mark.parametrize("uri", ["gcpkms:x", "azurekms:x", "hv:x", "nonsense:x"])
def test_other_schemes_do_not_tell_their_public_key(uri: str) -> None:
    """They go to securesystemslib for signing; importing asks for the public key as a file."""
    for act in (
        lambda: keys.public(uri, lambda: b""),
        lambda: keys.check(uri, P256.public_key),
        lambda: keys.load(uri, P256.public_key, lambda: b"").sign(b"x"),
    ):
        with pytest.raises(OtaError):
            act()


def test_foreign_text_is_shown_on_one_line() -> None:
    """No control characters, no line breaks, bounded."""
    assert keys_source.shown("a\x1b[31m\nb\u202e" + "x" * 500) == "a [31m b " + "x" * 151
