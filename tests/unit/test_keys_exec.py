"""Signing commands: any vendor's, in bounds, without a shell, and with none of our secrets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from signing.errors import Malformed, NotFound, NotPermitted, OtaError, Outage
from signing.keys import exec as keys_exec
from signing.keys import keys
from tests.simulators import kms

ENV = {"PATH": os.environ["PATH"]}


def script(folder: Path, text: str, name: str = "sign-it") -> str:
    """A command; its URI."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return f"exec:{path}"


def sign(
    uri: str, public: SSlibKey, env: dict[str, str] | None = None, payload: bytes = b"payload"
) -> str:
    return keys.load(uri, public, no_secret, env=env or ENV).sign(payload).signature


def no_secret() -> bytes:
    raise AssertionError("a command asked for a passphrase")


@pytest.fixture
def vendor(tmp_path: Path) -> CryptoSigner:
    """A P-256 key that only the command has; its file is ``key.pem``."""
    made = CryptoSigner.generate_ecdsa()
    (tmp_path / "key.pem").write_bytes(
        made._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return made


@pytest.mark.parametrize(
    "form",
    [
        "",
        "| od -An -v -tx1 | tr -d ' \\n'",
        "| od -An -v -tx1",
        "| od -An -v -tx1 | tr a-f A-F",
    ],
    ids=["raw", "hex", "hex in lines", "upper case"],
)
def test_raw_and_hex_are_read(tmp_path: Path, vendor: CryptoSigner, form: str) -> None:
    """A signature may come as it is or in hex, with whatever white space the tool puts there."""
    uri = script(tmp_path, f"openssl dgst -sha256 -sign {tmp_path}/key.pem {form}")
    assert sign(uri, vendor.public_key)


def test_a_tool_as_it_is(tmp_path: Path, vendor: CryptoSigner) -> None:
    """OpenSSL alone is a signer: no wrapper is needed where a tool signs its stdin."""
    uri = f"exec:/usr/bin/openssl dgst -sha256 -sign '{tmp_path}/key.pem'"
    assert sign(uri, vendor.public_key)
    keys.check(uri, vendor.public_key, env=ENV)
    with pytest.raises(NotPermitted) as caught:
        keys.public(uri, no_secret, env=ENV)
    assert (caught.value.code, caught.value.remedy) == ("signer-output", "--public PEM")


def test_environment_is_an_allow_list(tmp_path: Path, vendor: CryptoSigner) -> None:
    """Locale, path and ``OTA_SIGNER_`` variables are handed on; passphrases and clouds are not."""
    uri = script(tmp_path, f"env >{tmp_path}/seen; openssl dgst -sha256 -sign {tmp_path}/key.pem")
    env = {
        **ENV,
        **kms.environment("http://127.0.0.1:1"),
        "OTA_PASSPHRASE": "hunter2",
        "OTA_PASSPHRASE_ROOT_1": "hunter2",
        "SSH_AUTH_SOCK": "/run/agent",
        "LD_PRELOAD": "/tmp/evil.so",
        "OTA_SIGNER_SLOT": "3",
    }
    sign(uri, vendor.public_key, env)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    ours = {"PATH", "OTA_SIGNER_SLOT", "OTA_SIGNER_REQUEST"}
    assert set(seen) <= ours | {"PWD", "SHLVL", "_", "OLDPWD"}
    assert (seen["OTA_SIGNER_SLOT"], seen["OTA_SIGNER_REQUEST"]) == ("3", "sign")


def test_no_shell_reads_the_words(tmp_path: Path, vendor: CryptoSigner) -> None:
    """What would be a command to a shell is an argument here; the payload is on stdin alone."""
    text = (
        f'printf "%s\\n" "$@" >{tmp_path}/words; cat >{tmp_path}/got;'
        f" openssl dgst -sha256 -sign {tmp_path}/key.pem {tmp_path}/got"
    )
    uri = script(tmp_path, text) + f" --slot '3 4' ;touch {tmp_path}/pwned $(id) *"
    payload = os.urandom(2_000_000)
    assert sign(uri, vendor.public_key, payload=payload)
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["--slot", "3 4", ";touch", f"{tmp_path}/pwned", "$(id)", "*"]
    assert (tmp_path / "got").read_bytes() == payload
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "words",
    ["", " ", "sign-it", "./sign-it", "~/sign-it", "'/usr/bin/x", "/x\0y", "/" + "x" * 5000],
)
def test_a_command_that_is_none(vendor: CryptoSigner, words: str) -> None:
    """Only an absolute path with words that a shell could split; nothing is searched on PATH."""
    with pytest.raises(Malformed):
        sign(f"exec:{words}", vendor.public_key)


@pytest.mark.parametrize("kind", ["nothing", "a folder", "no mode", "no interpreter"])
def test_a_program_that_can_not_be_run(tmp_path: Path, vendor: CryptoSigner, kind: str) -> None:
    """It is named, with where to correct it; checking says the same as signing."""
    uri = script(tmp_path, "exit 0")
    path = tmp_path / "sign-it"
    if kind == "nothing":
        path.unlink()
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "no mode":
        path.chmod(0o600)
    else:
        path.write_text("#!/no/such/interpreter\n")
    for act in (lambda: sign(uri, vendor.public_key), lambda: check(uri, vendor)):
        with pytest.raises(NotFound) as caught:
            act()
        assert caught.value.code == "signer-missing"
        assert "ota.toml" in caught.value.remedy


def check(uri: str, vendor: CryptoSigner) -> None:
    keys.check(uri, vendor.public_key, env=ENV)


def test_what_it_says_when_it_fails_is_passed_on_in_bounds(
    tmp_path: Path, vendor: CryptoSigner
) -> None:
    """The last line of stderr, without control characters, however much there is of it."""
    text = r"yes noise | head -c 3000000 >&2; printf '\nno \033[31mcard\n' >&2; exit 3"
    with pytest.raises(Outage) as caught:
        sign(script(tmp_path, text), vendor.public_key)
    assert caught.value.code == "signer-failed"
    assert str(caught.value).endswith("exit 3: no  [31mcard")


def test_time_ends_it_and_what_it_started(
    tmp_path: Path, vendor: CryptoSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time is up the whole session is killed, children too, and nobody waits longer."""
    monkeypatch.setattr(keys_exec, "TIME_LIMIT", 0.4)
    uri = script(tmp_path, f"sleep 47 & echo $! >{tmp_path}/child; sleep 47")
    start = time.monotonic()
    with pytest.raises(Outage) as caught:
        sign(uri, vendor.public_key)
    assert caught.value.code == "signer-timeout"
    assert time.monotonic() - start < 5
    assert gone(int((tmp_path / "child").read_text()))


def test_a_child_that_stays_holds_nobody_up(tmp_path: Path, vendor: CryptoSigner) -> None:
    """A helper left in the background with our pipe open: the signature is taken at once."""
    text = f"sleep 47 & echo $! >{tmp_path}/child; openssl dgst -sha256 -sign {tmp_path}/key.pem"
    start = time.monotonic()
    assert sign(script(tmp_path, text), vendor.public_key)
    assert time.monotonic() - start < 5
    assert gone(int((tmp_path / "child").read_text()))


def gone(pid: int) -> bool:
    """Whether a process ends shortly."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "text",
    [
        "exit 0",
        "echo",
        "echo deadbeef",
        "head -c 64 /dev/zero",
        "printf 0\\\\0 | head -c 72",
        "exec yes",
        "exec cat /dev/zero",
        "echo '-----BEGIN CERTIFICATE-----'",
    ],
)
def test_garbage_is_no_signature(tmp_path: Path, vendor: CryptoSigner, text: str) -> None:
    """Nothing, too short, too long, without end: named, and nothing of it is passed on."""
    with pytest.raises(NotPermitted) as caught:
        sign(script(tmp_path, text), vendor.public_key)
    assert caught.value.code == "signer-output"


@pytest.mark.parametrize("what", ["another key", "another payload"])
def test_a_signature_that_does_not_hold(tmp_path: Path, vendor: CryptoSigner, what: str) -> None:
    """A well-formed signature by another key, or over something else, is refused at once."""
    public = vendor.public_key
    text = f"openssl dgst -sha256 -sign {tmp_path}/key.pem"
    if what == "another key":
        public = CryptoSigner.generate_ecdsa().public_key
    else:
        text = f"echo other | {text}"
    with pytest.raises(NotPermitted) as caught:
        sign(script(tmp_path, text), public)
    assert caught.value.code == "wrong-key"


@pytest.mark.parametrize("known", [True, False], ids=["its own", "another"])
def test_check_compares_the_public_key(tmp_path: Path, vendor: CryptoSigner, known: bool) -> None:
    """A command that knows its public key is compared with the keyholder's."""
    shown = (vendor if known else CryptoSigner.generate_ecdsa()).public_key
    pem = shown._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(pem)
    uri = script(tmp_path, f"cat {tmp_path}/public.pem")
    assert keys.same(keys.public(uri, no_secret, env=ENV), shown)
    if known:
        check(uri, vendor)
        return
    with pytest.raises(OtaError) as caught:
        check(uri, vendor)
    assert caught.value.code == "wrong-key"
