"""What can be wrong between a device and its broker, each with a code and what to do about it.

Sockets, TLS, MQTT 5 reason codes and HTTP status codes are translated here, once. All of them
are outages: nothing that was to be sent is lost, and the agent polls its store meanwhile.

>>> raise outage("feed-clock", "the broker's certificate is not valid yet", subject="broker:8883")
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

from signing.errors import Outage


class Trouble(NamedTuple):
    """One row of the README's table."""

    cause: str
    remedy: str


TROUBLES: Final[dict[str, Trouble]] = {
    "feed-unreachable": Trouble(
        "no route, no name, nobody listens, or a firewall", "allow 8883 or 443; [feed] fallback"
    ),
    "feed-slow": Trouble("no answer in time", "nothing: it is tried again"),
    "feed-offline": Trouble("not connected at the moment", "ota-agent status"),
    "feed-closed": Trouble(
        "the broker hung up without a word: on AWS an inactive certificate or no policy",
        "aws iot describe-certificate; aws iot list-attached-policies",
    ),
    "feed-tls": Trouble(
        "the broker is not whom [feed] ca vouches for, or speaks no TLS",
        "compare [feed] endpoint and ca; look for a proxy that opens TLS",
    ),
    "feed-clock": Trouble(
        "the broker's certificate is not valid at this device's time", "set the device's clock"
    ),
    "feed-certificate": Trouble(
        "certificate or key is missing, does not load, or can be read by everybody",
        "[feed] certificate and key: files of mode 0600 that belong together",
    ),
    "feed-certificate-refused": Trouble(
        "the broker does not know this certificate", "register and activate the certificate"
    ),
    "feed-certificate-expired": Trouble(
        "the device's certificate has expired", "give the device a new certificate"
    ),
    "feed-certificate-revoked": Trouble(
        "the device's certificate was revoked",
        "a new certificate, if this device is to go on; else ota device revoke",
    ),
    "feed-not-authorised": Trouble(
        "a policy forbids this connection, topic or path",
        "allow it in the certificate's policy: README, On AWS, The device",
    ),
    "feed-throttled": Trouble("a limit of the broker or of its Jobs service", "nothing: it waits"),
    "feed-taken-over": Trouble(
        "another connection has this client id", "give each agent its own [feed] client_id"
    ),
    "feed-rejected": Trouble("the broker refused a packet", "see the reason that it names"),
    "feed-jobs": Trouble("the Jobs service refused a request", "see the reason that it names"),
    "feed-job-gone": Trouble(
        "a job was deleted or cancelled by hand", "nothing: the signed report has arrived"
    ),
    "feed-message": Trouble("the broker sent what nobody can read", "suspect the broker"),
}

_ALERTS: Final = {
    "CERTIFICATE_REVOKED": ("feed-certificate-revoked", "the broker says: certificate revoked"),
    "CERTIFICATE_EXPIRED": ("feed-certificate-expired", "the broker says: certificate expired"),
    "UNKNOWN_CA": ("feed-certificate-refused", "the broker does not know who signed it"),
    "BAD_CERTIFICATE": ("feed-certificate-refused", "the broker says: bad certificate"),
    "CERTIFICATE_UNKNOWN": ("feed-certificate-refused", "the broker does not take it"),
    "CERTIFICATE_REQUIRED": ("feed-certificate-refused", "the broker got no certificate"),
    "ACCESS_DENIED": ("feed-certificate-refused", "the broker says: access denied"),
}
_NOT_THEN: Final = {9: "is not valid yet", 10: "has expired"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_BROKEN: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
_THROTTLED: Final = {0x89, 0x93, 0x96, 0x97, 0x9F}
"""Busy, receive maximum, message rate, quota, connection rate (MQTT 5.0, section 2.4)."""
FAILS: Final = 0x80
"""Reason codes from here on are failures."""
NOT_AUTHORISED: Final = 0x87
TAKEN_OVER: Final = 0x8E


def outage(code: str, message: str, *, subject: str = "", remedy: str = "") -> Outage:
    """An outage of the feed with the remedy of its row."""
    return Outage(message, code=code, subject=subject, remedy=remedy or TROUBLES[code].remedy)


def connection(error: OSError, where: str) -> Outage:
    """A connection that did not come about, or that broke; ``where`` is HOST:PORT."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code, words = _unverified(error)
    elif isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, *_BROKEN)):
        code, words = "feed-closed", "closed without a word"
    elif isinstance(error, ssl.SSLError):
        reason = error.reason or type(error).__name__
        alert = next((a for a in _ALERTS if a in reason), "")
        code, words = _ALERTS.get(alert, ("feed-tls", f"no TLS with it: {reason}"))
    elif isinstance(error, TimeoutError):
        code, words = "feed-unreachable", "nobody answers"
    elif isinstance(error, socket.gaierror):
        code, words = "feed-unreachable", "the name is not known"
    else:
        code = "feed-unreachable"
        words = error.strerror or str(error)[:200] or type(error).__name__
    return outage(code, f"{where}: {words}", subject=where)


def _unverified(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    if error.verify_code in _NOT_THEN:
        return "feed-clock", f"its certificate {_NOT_THEN[error.verify_code]} at this device's time"
    return "feed-tls", f"its certificate is not to be trusted: {error.verify_message}"


def reason(value: int, name: str, what: str, action: str) -> Outage:
    """A failing MQTT 5 reason code; ``action`` is what a policy has to allow for it."""
    text = f"{what}: the broker says {name[:80]} ({value})"
    if value == NOT_AUTHORISED:
        remedy = f"allow {action} in the certificate's policy"
        return outage("feed-not-authorised", text, subject=what, remedy=remedy)
    if value == TAKEN_OVER:
        return outage("feed-taken-over", text, subject=what)
    return outage("feed-throttled" if value in _THROTTLED else "feed-rejected", text, subject=what)
