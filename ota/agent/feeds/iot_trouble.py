"""What can be wrong between a device and its broker, each with a code and what to do about it.

Sockets, TLS, MQTT 5 reason codes and HTTP status codes are translated here, once. All of them
are outages: nothing that was to be sent is lost, and the agent polls its store meanwhile.

>>> raise outage("feed-clock", "the broker's certificate is not valid yet", subject="broker:8883")
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ota.agent import mutual_tls
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
        "allow it in the certificate's policy: README, The device's connection",
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
    "feed-fault": Trouble(
        "a fault of the agent itself, with its trace on stderr; it begins again", "report it to us"
    ),
    "feed-message": Trouble("the broker sent what nobody can read", "suspect the broker"),
}

_THROTTLED: Final = {0x89, 0x93, 0x96, 0x97, 0x9F}
"""Busy, receive maximum, message rate, quota, connection rate (MQTT 5.0, section 2.4)."""
FAILS: Final = 0x80
"""Reason codes from here on are failures."""
NOT_AUTHORISED: Final = 0x87
TAKEN_OVER: Final = 0x8E


def outage(code: str, message: str, *, subject: str = "", remedy: str = "") -> Outage:
    """An outage of the feed with the remedy of its row."""
    return Outage(message, code=code, subject=subject, remedy=remedy or TROUBLES[code].remedy)


def anew(error: Outage) -> Outage:
    """The same again: one that is raised twice would keep the traces of both."""
    return Outage(str(error), code=error.code, subject=error.subject, remedy=error.remedy)


def connection(error: OSError, where: str) -> Outage:
    """A connection that did not come about, or that broke; ``where`` is HOST:PORT."""
    kind, words = mutual_tls.classify(error)
    return outage(f"feed-{kind}", f"{where}: {words}", subject=where)


def reason(value: int, name: str, what: str, action: str) -> Outage:
    """A failing MQTT 5 reason code; ``action`` is what a policy has to allow for it."""
    text = f"{what}: the broker says {name[:80]} ({value})"
    if value == NOT_AUTHORISED:
        remedy = f"allow {action} in the certificate's policy"
        return outage("feed-not-authorised", text, subject=what, remedy=remedy)
    if value == TAKEN_OVER:
        return outage("feed-taken-over", text, subject=what)
    return outage("feed-throttled" if value in _THROTTLED else "feed-rejected", text, subject=what)
