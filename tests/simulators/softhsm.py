"""Real PKCS#11 tokens in software: SoftHSM2 in a folder of its own.

The library reads its configuration once in a process, from ``SOFTHSM2_CONF``; so there is one
folder for a test process, and every test that needs a token takes a new one in it.

>>> token = new_token(pin="1234")
>>> token.make("ecdsa-p256", 1)
>>> token.uri(1)
'hsm:1?label=token-1a2b3c4d'
"""

from __future__ import annotations

import functools
import os
import secrets
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters

_CURVES = {"ecdsa-p256": "secp256r1", "ecdsa-p384": "secp384r1", "p521": "secp521r1"}
_ED25519 = "1.3.101.112"
_PLACES = ("/usr/lib/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib64/pkcs11")


def module() -> str:
    """The library's path; an error, not a skipped test, where SoftHSM2 is not installed."""
    for place in _PLACES:
        path = Path(place) / "libsofthsm2.so"
        if path.exists():
            return str(path)
    raise RuntimeError("SoftHSM2 is not installed: apt-get install softhsm2")


@functools.cache
def folder() -> Path:
    """Where the tokens of this test process lie."""
    made = Path(tempfile.mkdtemp(prefix="softhsm-"))
    (made / "tokens").mkdir(mode=0o700)
    config = made / "softhsm2.conf"
    config.write_text(
        f"directories.tokendir = {made}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(config)
    return made


@dataclass(frozen=True)
class Token:
    """One initialised token."""

    label: str
    pin: str

    def uri(self, key: int) -> str:
        return f"hsm:{key}?label={self.label}"

    @property
    def env(self) -> dict[str, str]:
        """What the product is told."""
        return {"PYKCS11LIB": module(), "SOFTHSM2_CONF": str(folder() / "softhsm2.conf")}

    def make(self, scheme: str, key: int, *, hide: bool = False) -> None:
        """Make a key pair on the token; ``hide`` leaves no public half there."""
        token = pkcs11.lib(module()).get_token(token_label=self.label)
        raw = bytes([key])
        with token.open(rw=True, user_pin=self.pin) as session:
            if scheme.startswith("rsa"):
                made = session.generate_keypair(
                    KeyType.RSA, int(scheme[4:]), store=True, id=raw, label=scheme
                )
            else:
                kind = KeyType.EC_EDWARDS if scheme == "ed25519" else KeyType.EC
                curve = encode_named_curve_parameters(_CURVES.get(scheme, _ED25519))
                words = {"mechanism": Mechanism.EC_EDWARDS_KEY_PAIR_GEN}
                made = session.create_domain_parameters(
                    kind, {Attribute.EC_PARAMS: curve}, local=True
                ).generate_keypair(
                    store=True, id=raw, label=scheme, **(words if scheme == "ed25519" else {})
                )
            if hide:
                made[0].destroy()


def new_token(pin: str = "1234") -> Token:
    """Initialise a token with a label of its own."""
    folder()
    label = f"token-{secrets.token_hex(4)}"
    words = ("--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", pin)
    done = subprocess.run(
        ["softhsm2-util", *words], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pkcs11.lib(module()).reinitialize()  # the library lists its slots when it starts
    return Token(label, pin)
