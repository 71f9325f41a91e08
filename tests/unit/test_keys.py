"""Private keys: encrypted at rest, never overwritten, checked at every signature."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer

from signing.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError, Refusal
from signing.keys import keys

SECRET = b"correct horse battery staple"


def secret() -> bytes:
    return SECRET


@pytest.mark.parametrize("scheme", keys.SCHEMES)
def test_every_scheme_signs_what_its_public_key_verifies(tmp_path: Path, scheme: str) -> None:
    """Generate, load, sign and verify, for each scheme offered."""
    path = tmp_path / "keys" / "k.pem"
    public = keys.generate(path, SECRET, scheme)
    signature = keys.load(f"file:{path}", public, secret).sign(b"payload")
    public.verify_signature(signature, b"payload")
    with pytest.raises(UnverifiedSignatureError):
        public.verify_signature(signature, b"payloae")


def test_a_key_at_rest_is_encrypted_and_private(tmp_path: Path) -> None:
    """PKCS#8 with a passphrase, 0600 in a folder 0700, whatever the umask; nothing beside it."""
    path = tmp_path / "keys" / "k.pem"
    keys.generate(path, SECRET)
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["k.pem"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """A second key under the same name is refused and the first one stays, byte for byte."""
    path = tmp_path / "k.pem"
    keys.generate(path, SECRET)
    before = path.read_bytes()
    with pytest.raises(NotPermitted) as caught:
        keys.generate(path, SECRET)
    assert caught.value.code == "exists"
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["k.pem"]


@pytest.mark.parametrize(
    ("passphrase", "scheme"), [(b"", "ed25519"), (SECRET, "dsa"), (SECRET, "")]
)
def test_misuse_of_generate_writes_nothing(tmp_path: Path, passphrase: bytes, scheme: str) -> None:
    """An empty passphrase or an unknown scheme leaves no file and no folder."""
    with pytest.raises(Misuse):
        keys.generate(tmp_path / "keys" / "k.pem", passphrase, scheme)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [b"", b"correct horse", SECRET + b" ", b"\x00" * 4096])
def test_a_wrong_passphrase_is_named_and_never_shown(tmp_path: Path, wrong: bytes) -> None:
    """The error says which file does not open, and repeats no passphrase."""
    path = tmp_path / "k.pem"
    public = keys.generate(path, SECRET)
    with pytest.raises(NotPermitted) as caught:
        keys.load(f"file:{path}", public, lambda: wrong)
    assert caught.value.code == "passphrase"
    assert str(path) in str(caught.value)
    assert not wrong or wrong.decode() not in str(caught.value)


def test_a_wrong_passphrase_that_almost_fits_is_named_too(tmp_path: Path) -> None:
    """One in about 256 decrypts to something that looks whole: still a passphrase, not a bad file."""
    path = tmp_path / "k.pem"
    public = keys.generate(path, SECRET)
    pem, fits = path.read_bytes(), 0
    for number in range(4000):
        wrong = b"wrong %d" % number
        try:
            load_pem_private_key(pem, wrong)
        except ValueError as e:
            if "password" not in str(e):
                fits += 1
                with pytest.raises(NotPermitted) as caught:
                    keys.load(f"file:{path}", public, lambda wrong=wrong: wrong)
                assert caught.value.code == "passphrase"
        if fits == 3:
            break
    assert fits == 3
    path.write_bytes(pem[:60] + pem[80:])
    with pytest.raises(Malformed):
        keys.load(f"file:{path}", public, lambda: SECRET)


def test_the_key_of_another_keyholder_is_refused(tmp_path: Path) -> None:
    """The private half must belong to the public key that the policy names."""
    keys.generate(tmp_path / "a.pem", SECRET)
    other = keys.generate(tmp_path / "b.pem", SECRET)
    ecdsa = keys.generate(tmp_path / "c.pem", SECRET, "ecdsa-p256")
    for public in (other, ecdsa):
        with pytest.raises(NotPermitted) as caught:
            keys.load(f"file:{tmp_path}/a.pem", public, secret)
        assert caught.value.code == "wrong-key"


def test_an_unencrypted_key_is_refused(tmp_path: Path) -> None:
    """A private key without a passphrase is not taken, even if it is the right one."""
    private = Ed25519PrivateKey.generate()
    path = tmp_path / "k.pem"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = CryptoSigner(private).public_key
    for uri in (f"file:{path}", f"file2:{path}"):
        with pytest.raises(NotPermitted) as caught:
            keys.load(uri, public, secret)
        assert caught.value.code == "unencrypted"


def broken(path: Path, how: str) -> None:
    pem = path.read_bytes()
    lines = pem.splitlines(keepends=True)
    path.write_bytes(
        {
            "empty": b"",
            "garbage": b"\x00\xff" * 500,
            "truncated": pem[: len(pem) // 2],
            "no end": b"".join(lines[:-1]),
            "not base64": lines[0] + b"!!!!\n" + lines[-1],
            "empty body": lines[0] + lines[-1],
            "oversize": pem + b"x" * 70_000,
        }[how]
    )


@pytest.mark.parametrize(
    "how", ["empty", "garbage", "truncated", "no end", "not base64", "empty body", "oversize"]
)
def test_a_broken_key_file_is_a_named_error(tmp_path: Path, how: str) -> None:
    """Whatever stands in the file, the error is ours and names the file."""
    path = tmp_path / "k.pem"
    public = keys.generate(path, SECRET)
    broken(path, how)
    with pytest.raises(OtaError) as caught:
        keys.load(f"file:{path}", public, secret)
    assert caught.value.code in {"malformed", "unencrypted", "passphrase"}
    assert str(path) in str(caught.value)


def test_a_missing_key_file_is_not_found(tmp_path: Path) -> None:
    """The keyholder may be elsewhere with it: the error says so, and asks no passphrase."""
    public = keys.generate(tmp_path / "k.pem", SECRET)

    def asked() -> bytes:
        raise AssertionError("a passphrase was asked for nothing")

    with pytest.raises(NotFound, match=r"no\.pem"):
        keys.load("file:no.pem", public, asked, base=tmp_path)


@pytest.mark.parametrize("uri", ["", "file", "file:", "/abs/path", "nonsense:x", ":x"])
def test_a_key_uri_that_is_none_is_malformed(tmp_path: Path, uri: str) -> None:
    """Only SCHEME:... with a scheme that exists is a key URI."""
    public = keys.generate(tmp_path / "k.pem", SECRET)
    with pytest.raises(Malformed):
        keys.load(uri, public, secret)


class Faulty(Signer):
    """A signing device that flips a bit now and then."""

    def __init__(self, inner: CryptoSigner) -> None:
        self._inner = inner

    @property
    def public_key(self) -> Key:
        return self._inner.public_key

    @classmethod
    def from_priv_key_uri(cls, *args: object) -> Faulty:
        raise AssertionError("tests make it from a key, never from a URI")

    def sign(self, payload: bytes) -> Signature:
        good = self._inner.sign(payload)
        first = "0" if good.signature[0] != "0" else "1"
        return Signature(good.keyid, first + good.signature[1:])


def test_a_signature_that_does_not_hold_never_leaves_the_signer() -> None:
    """A faulty signing device is found when it signs, not on the devices of the fleet."""
    good = CryptoSigner.generate_ed25519()
    assert keys.CheckedSigner(good).sign(b"x").keyid == good.public_key.keyid
    with pytest.raises(Refusal) as caught:
        keys.CheckedSigner(Faulty(good)).sign(b"x")
    assert caught.value.code == "signature"
