"""``exec:PROGRAM ARGUMENT...``: a command that signs, so that any vendor's signer fits.

The words are split as a shell splits them, but no shell runs; ``PROGRAM`` is an absolute path.
``OTA_SIGNER_REQUEST`` tells the command what is wanted:

* ``sign``: the payload comes on stdin; the signature goes to stdout, raw or in hex. Ed25519 as 64
  bytes, ECDSA in DER, RSA-PSS with a salt as long as the hash.
* ``public-key``: nothing comes; the public key goes to stdout, in PEM. Only importing and checking
  ask this; a command that does not know it is imported with ``--public PEM``.

It is given ``PATH``, ``HOME``, locale and time zone, the variables that begin with ``OTA_SIGNER_``,
and nothing else: passphrases and cloud credentials of this process stay here. A secret that the
command needs, it finds by itself. It has 120 s and 16 KiB of output. A signature that does not
verify is not passed on.

>>> ExecSource("/usr/bin/openssl dgst -sha256 -sign key.pem", env).signer(public)
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature, Signer, SSlibKey

from signing.errors import Malformed, NotFound, NotPermitted, OtaError, Outage
from signing.keys import run as keys_run
from signing.keys.source import SourceSigner, read_public, require_same, shown, wrong_key

TIME_LIMIT = 120.0
"""Seconds that a command may take: somebody may have to touch a key or to confirm."""
OUTPUT_LIMIT = 16 * 1024
_URI_LIMIT = 4096
_HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_PREFIX = "OTA_SIGNER_"
REQUEST = "OTA_SIGNER_REQUEST"


class ExecSource:
    """One signing command."""

    def __init__(self, words: str, env: Mapping[str, str]) -> None:
        self._argv = _split(words)
        self._env = {k: v for k, v in env.items() if k in _HANDED_ON or k.startswith(_PREFIX)}

    @property
    def _where(self) -> str:
        return f"signing command {self._argv[0]}"

    def public(self) -> SSlibKey:
        """The public half, as the command prints it."""
        out = self._run("public-key", b"")
        try:
            return read_public(out, self._where)
        except Malformed as e:
            raise self._garbage("what it prints is not a public key", "--public PEM") from e

    def check(self, public: SSlibKey) -> None:
        """The program can be run; where it knows its public key, it is this keyholder's."""
        if not os.access(self._argv[0], os.X_OK):
            raise self._missing("is not a program that can be run")
        try:
            found = self.public()
        except OtaError as e:
            if e.code in {"signer-failed", "signer-output"}:
                return  # it does not know this request
            raise
        require_same(found, public, self._where)

    def signer(self, public: SSlibKey) -> Signer:
        """A signer; whether the program is there is seen now."""
        if not os.access(self._argv[0], os.X_OK):
            raise self._missing("is not a program that can be run")
        return SourceSigner(public, lambda payload: self._sign(public, payload))

    def _sign(self, public: SSlibKey, payload: bytes) -> bytes:
        out = self._run("sign", payload)
        formed = [s for s in _readings(out) if _formed(public, s)]
        for signature in formed:
            if _holds(public, signature, payload):
                return signature
        if formed:
            raise wrong_key(self._where, public)
        raise self._garbage("what it prints is not a signature", "run it by hand on a file")

    def _run(self, request: str, payload: bytes) -> bytes:
        env = {**self._env, REQUEST: request}
        try:
            ran = keys_run.run(self._argv, payload, env, time_limit=TIME_LIMIT, limit=OUTPUT_LIMIT)
        except OSError as e:
            raise self._missing(f"does not start: {e.strerror}") from e
        if ran.problem == "time":
            raise self._outage(
                "signer-timeout",
                f"not done within {TIME_LIMIT:g} s",
                "does it wait for somebody? Run it by hand on a file",
            )
        if ran.problem == "output":
            raise self._garbage("it prints without end", "run it by hand on a file")
        if ran.code:
            raise self._outage(
                "signer-failed", f"exit {ran.code}: {_last(ran.err)}", "run it by hand on a file"
            )
        return ran.out

    def _outage(self, code: str, what: str, remedy: str) -> Outage:
        return Outage(f"{self._where}: {what}", code=code, subject=self._argv[0], remedy=remedy)

    def _missing(self, what: str) -> NotFound:
        return NotFound(
            f"{self._where} {what}",
            code="signer-missing",
            subject=self._argv[0],
            remedy="correct [keys] in ota.toml: exec:/ABSOLUTE/PATH ARGUMENT...",
        )

    def _garbage(self, what: str, remedy: str) -> NotPermitted:
        return NotPermitted(
            f"{self._where}: {what}", code="signer-output", subject=self._argv[0], remedy=remedy
        )


def _split(words: str) -> list[str]:
    try:
        argv = shlex.split(words) if len(words) <= _URI_LIMIT and "\0" not in words else []
    except ValueError:
        argv = []
    if not argv or not argv[0].startswith("/"):
        raise Malformed(
            f"exec:{words!r:.80} is not exec:/ABSOLUTE/PATH ARGUMENT...", subject="exec:"
        )
    return argv


def _readings(out: bytes) -> list[bytes]:
    """What the output can mean: hex, or the bytes themselves."""
    found = [out]
    with contextlib.suppress(ValueError):
        found.insert(0, bytes.fromhex(out.decode("ascii")))
    return found


def _formed(public: SSlibKey, signature: bytes) -> bool:
    """Whether these bytes have the shape of a signature of this scheme."""
    if public.keytype == "ed25519":
        return len(signature) == 64
    if public.keytype == "rsa":
        return 256 <= len(signature) <= 512
    return (
        8 <= len(signature) <= 110 and signature[0] == 0x30 and signature[1] == len(signature) - 2
    )


def _holds(public: SSlibKey, signature: bytes, payload: bytes) -> bool:
    try:
        public.verify_signature(Signature(public.keyid, signature.hex()), payload)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def _last(err: bytes) -> str:
    """The last line that it said, bounded."""
    lines = err.decode(errors="replace").strip().splitlines()
    return shown(lines[-1]) if lines else "it says nothing"
