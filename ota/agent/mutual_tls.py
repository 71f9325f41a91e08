"""A device's side of mutual TLS: its certificate, its key in a file, whom it trusts, what can fail.

Files are read for every context, so that a renewed certificate needs no restart. Callers say how
a fault of a file is told (their own code and table); faults of a connection come as a kind, which
they put behind their own prefix.

>>> made = context(Files("/etc/ota/device.pem", "/etc/ota/device.key", ca=""), fail)
>>> classify(error)
('clock', "its certificate is not valid yet at this device's time")
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from signing.errors import Outage

Fail = Callable[[str, str, str], Outage]
"""(words, the file, a remedy or "") -> the error to raise."""
_ALERTS: Final = {
    "CERTIFICATE_REVOKED": ("certificate-revoked", "certificate revoked"),
    "CERTIFICATE_EXPIRED": ("certificate-expired", "certificate expired"),
    "UNKNOWN_CA": ("certificate-refused", "it does not know who signed the certificate"),
    "BAD_CERTIFICATE": ("certificate-refused", "bad certificate"),
    "CERTIFICATE_UNKNOWN": ("certificate-refused", "it does not take the certificate"),
    "CERTIFICATE_REQUIRED": ("certificate-refused", "it got no certificate"),
    "DECRYPT_ERROR": ("certificate-refused", "it can not verify the certificate"),
    "ACCESS_DENIED": ("certificate-refused", "access denied"),
}
_NOT_THEN: Final = {9: "is not valid yet", 10: "has expired"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_BROKEN: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


@dataclass(frozen=True)
class Files:
    """PEM files; ``ca`` "": the system's own."""

    certificate: str
    key: str
    ca: str = ""


def context(files: Files, fail: Fail) -> ssl.SSLContext:
    """A context that verifies the other side and shows the certificate; what ``fail`` makes."""
    made = ssl.create_default_context(cafile=readable("ca", files.ca, fail) or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = readable("certificate", files.certificate, fail)
    key = readable("key", files.key, fail)
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as e:
        words = f"{certificate} and {key} are no certificate with its key"
        raise fail(words, certificate, "") from e
    return made


def readable(name: str, path: str, fail: Fail) -> str:
    """The same path, if it can be read; the key's by its owner and group only."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if name == "ca":
            ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as e:
        words = "" if isinstance(e, ssl.SSLError | ValueError) else e.strerror
        raise fail(f"{name}: {path}: {words or 'no PEM file'}", path, "") from e
    if name == "key" and mode & stat.S_IRWXO:
        raise fail(f"{name}: {path} can be read by everybody", path, f"chmod 600 {path}")
    return path


def classify(error: OSError) -> tuple[str, str]:
    """Kind and words for a connection that did not come about, or that broke.

    Kinds: ``clock``, ``tls``, ``closed``, ``certificate-revoked``, ``certificate-expired``,
    ``certificate-refused``, ``unreachable``.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, *_BROKEN)):
        return "closed", "closed without a word"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or type(error).__name__
        alert = next((a for a in _ALERTS if a in reason), "")
        kind, words = _ALERTS.get(alert, ("", ""))
        return (kind, f"it says: {words}") if kind else ("tls", f"no TLS with it: {reason}")
    if isinstance(error, TimeoutError):
        return "unreachable", "nobody answers"
    if isinstance(error, socket.gaierror):
        return "unreachable", "the name is not known"
    return "unreachable", error.strerror or str(error)[:200] or type(error).__name__


def _unverified(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    if error.verify_code in _NOT_THEN:
        return "clock", f"its certificate {_NOT_THEN[error.verify_code]} at this device's time"
    return "tls", f"its certificate is not to be trusted: {error.verify_message}"


def _no_password() -> bytes:
    """An encrypted key is an error, never a prompt at the console."""
    raise ValueError("the key is encrypted")
