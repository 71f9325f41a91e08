"""PKCS#11 tokens, with a real one in software: PINs, ids, modules, and what a URI may hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey

from signing.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError
from signing.keys import keys
from tests.simulators import softhsm

PUBLIC = CryptoSigner.generate_ecdsa().public_key


@pytest.fixture(scope="module")
def token() -> softhsm.Token:
    """One token; tests put keys of their own ids on it."""
    return softhsm.new_token("4711")


def load(token: softhsm.Token, uri: str, public: SSlibKey = PUBLIC, pin: bytes = b"4711") -> object:
    return keys.load(uri, public, lambda: pin, env=token.env)


@pytest.mark.parametrize(
    "rest",
    [
        "1?label=a&pin-value=4711",
        "1?pin=4711",
        "x",
        "-1",
        "1.5",
        "1?label=a&label=b",
        "1?label",
        "9" * 60,
        "9" * 9000,
        "1?label=a&module=/x&serial=4711",
        "²",
    ],
)
def test_a_uri_holds_an_id_a_token_and_a_module(token: softhsm.Token, rest: str) -> None:
    """Nothing else, above all no PIN; the error does not repeat what it was given."""
    with pytest.raises(Malformed) as caught:
        load(token, f"hsm:{rest}")
    error = caught.value
    assert "4711" not in f"{error} {error.subject} {error.remedy}"


@pytest.mark.parametrize("pin", [b"", b"\xff\xfe", b"4" * 5000, b"4712", b"471", b"4711 "])
def test_a_wrong_pin(token: softhsm.Token, pin: bytes) -> None:
    """Too short, too long, no text, another: one code, before any key is looked at."""
    with pytest.raises(NotPermitted) as caught:
        load(token, token.uri(99), pin=pin)
    assert caught.value.code == "pin"


def test_the_pin_is_tried_once(token: softhsm.Token) -> None:
    """Three wrong ones lock a card, so opening asks for it once and never guesses again."""
    asked = []

    def ask() -> bytes:
        asked.append(1)
        return b"0000"

    with pytest.raises(NotPermitted):
        keys.load(token.uri(1), PUBLIC, ask, env=token.env)
    assert len(asked) == 1


def test_the_public_half_needs_no_pin(token: softhsm.Token) -> None:
    """Reading and checking a key whose public half lies open asks nothing."""
    token.make("ecdsa-p256", 11)

    def nobody() -> bytes:
        raise AssertionError("asked for the PIN")

    public = keys.public(token.uri(11), nobody, env=token.env)
    keys.check(token.uri(11), public, env=token.env)
    with pytest.raises(NotPermitted) as caught:
        keys.check(token.uri(11), PUBLIC, env=token.env)
    assert caught.value.code == "wrong-key"


def test_a_token_without_the_public_half(token: softhsm.Token) -> None:
    """It signs for the right public key, given by a file; another one is found when it signs."""
    token.make("ecdsa-p256", 12)
    public = keys.public(token.uri(12), lambda: b"", env=token.env)
    token.make("ecdsa-p256", 13, hide=True)
    with pytest.raises(NotFound) as caught:
        keys.public(token.uri(13), lambda: b"4711", env=token.env)
    assert (caught.value.code, caught.value.remedy) == (
        "hsm-key",
        'give it as a file: "--public PEM"',
    )
    signer = keys.load(token.uri(13), public, lambda: b"4711", env=token.env)
    with pytest.raises(OtaError) as found:
        signer.sign(b"payload")
    assert found.value.code == "signature"


def test_two_keys_of_one_id_are_not_chosen_from(token: softhsm.Token) -> None:
    """Nobody guesses which of them is meant."""
    for _ in range(2):
        token.make("ecdsa-p256", 14)
    with pytest.raises(NotFound) as caught:
        load(token, token.uri(14))
    assert caught.value.code == "hsm-key"


def test_several_tokens_need_a_label(token: softhsm.Token) -> None:
    """With two tokens and no label nobody guesses which; a label that no token has is named."""
    softhsm.new_token()
    for uri in ("hsm:1", "hsm:", "hsm:1?label=nobody"):
        with pytest.raises(NotFound) as caught:
            load(token, uri)
        assert caught.value.code == "hsm-token"


@pytest.mark.parametrize("module", ["", "softhsm2.so", "/no/such.so", "/etc/passwd", "/usr/lib"])
def test_a_module_that_is_none(token: softhsm.Token, module: str) -> None:
    """No module, a relative one, no file, no library: named, with how to name the right one."""
    with pytest.raises(NotFound) as caught:
        keys.load(token.uri(1), PUBLIC, lambda: b"4711", env={"PYKCS11LIB": module})
    assert caught.value.code == "hsm-module"
    assert "PYKCS11LIB" in caught.value.remedy


def test_a_library_that_is_no_token_module(token: softhsm.Token) -> None:
    """A library of something else is refused by name, and nothing crashes."""
    other = next(Path("/").glob("lib*/**/libz.so*"), None) or next(
        Path("/usr/lib").rglob("lib*.so*")
    )
    with pytest.raises(NotFound) as caught:
        keys.load(token.uri(1), PUBLIC, lambda: b"4711", env={"PYKCS11LIB": str(other)})
    assert caught.value.code == "hsm-module"


def test_the_module_may_stand_in_the_uri(token: softhsm.Token) -> None:
    """Two vendors in one workspace: each key names its module, whatever the variable says."""
    token.make("ecdsa-p256", 15)
    uri = f"{token.uri(15)}&module={softhsm.module()}"
    public = keys.public(uri, lambda: b"", env={"PYKCS11LIB": "/no/such.so"})
    signer = keys.load(uri, public, lambda: b"4711", env={})
    public.verify_signature(signer.sign(b"payload"), b"payload")


def test_without_the_library_the_install_is_named(
    token: softhsm.Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base install has no python-pkcs11: the error says what to install."""
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Misuse) as caught:
        load(token, token.uri(1))
    assert caught.value.code == "missing-library"
    assert "[hsm]" in caught.value.remedy


def test_a_token_that_goes_away_is_an_outage_not_a_signature(token: softhsm.Token) -> None:
    """A key that is deleted between opening and signing: named, and nothing comes out."""
    import pkcs11  # noqa: PLC0415 - this claim only

    token.make("ecdsa-p256", 16)
    public = keys.public(token.uri(16), lambda: b"", env=token.env)
    signer = keys.load(token.uri(16), public, lambda: b"4711", env=token.env)
    found = pkcs11.lib(softhsm.module()).get_token(token_label=token.label)
    with found.open(rw=True, user_pin="4711") as session:
        for item in list(session.get_objects({pkcs11.Attribute.ID: bytes([16])})):
            item.destroy()
    with pytest.raises(NotFound) as caught:
        signer.sign(b"payload")
    assert caught.value.code == "hsm-key"
