"""What can be wrong between a device and AWS, each with a code and what to do about it.

All of them are outages: what runs is not touched, and the agent looks again. The last column of the
README's table comes from here.

>>> raise outage("aws-alias", "role alias ota-device does not exist")
"""

from __future__ import annotations

import re
import ssl
from typing import Final, NamedTuple

from ota.agent import mutual_tls
from ota.agent.aws_options import AwsOptions, partition
from signing.errors import Outage


class Trouble(NamedTuple):
    """One row of the README's table."""

    cause: str
    remedy: str


TROUBLES: Final[dict[str, Trouble]] = {
    "aws-unreachable": Trouble("no route, no name, nobody listens", "allow 443 to the endpoint"),
    "aws-closed": Trouble(
        "hung up without a word: an inactive certificate, or a firewall in between",
        "aws iot describe-certificate; look for a proxy that opens TLS",
    ),
    "aws-slow": Trouble("no answer in time", "nothing: it is tried again"),
    "aws-tls": Trouble(
        "not whom [aws] ca vouches for, or no TLS", "compare [aws] endpoints and ca"
    ),
    "aws-clock": Trouble("this device's clock is wrong", "timedatectl; set the device's clock"),
    "aws-identity": Trouble(
        "certificate or key is missing, does not load, or can be read by everybody",
        "[aws] certificate and key: files of mode 0600 that belong together",
    ),
    "aws-certificate-refused": Trouble(
        "AWS IoT does not know this certificate, or it is not active, or the endpoint's name is wrong",
        "aws iot describe-certificate; aws iot describe-endpoint --endpoint-type iot:CredentialProvider",
    ),
    "aws-certificate-expired": Trouble(
        "the device's certificate has expired", "give the device a new certificate"
    ),
    "aws-certificate-revoked": Trouble(
        "the device's certificate was revoked", "a new certificate, if this device is to go on"
    ),
    "aws-thing": Trouble(
        "the certificate is not attached to this thing",
        "aws iot list-principal-things; aws iot attach-thing-principal",
    ),
    "aws-denied": Trouble(
        "a policy does not allow it: the message names action, resource and policy",
        "allow what the message names",
    ),
    "aws-alias": Trouble("there is no such role alias", "aws iot describe-role-alias"),
    "aws-role": Trouble(
        "the role behind the alias can not be assumed, or not for so long",
        "let credentials.iot.amazonaws.com assume it; compare its longest session with the alias's",
    ),
    "aws-answer": Trouble("an answer that nobody can read", "suspect what stands in between"),
    "aws-credentials": Trouble(
        "S3 does not take fresh credentials", "compare [aws] region and s3_endpoint"
    ),
    "aws-region": Trouble("the bucket is in another region", "correct [aws] region"),
    "aws-throttled": Trouble("too many requests", "nothing: it is tried again"),
    "aws-bucket": Trouble("there is no such bucket", "correct store in agent.toml"),
    "aws-kms": Trouble(
        "the bucket's KMS key can not be used", "aws kms describe-key; allow the role kms:Decrypt"
    ),
    "aws": Trouble("AWS failed, or said something that nobody knows", "nothing: it is tried again"),
}


_STATUSES: Final = {
    400: "aws-role",
    404: "aws-alias",
    429: "aws-throttled",
    503: "aws-throttled",
}
"""What the provider means by a status, as far as that is known; it documents none."""


def outage(code: str, message: str, *, subject: str = "", remedy: str = "") -> Outage:
    """An outage with the remedy of its row."""
    return Outage(message, code=code, subject=subject, remedy=remedy or TROUBLES[code].remedy)


def unreachable(error: BaseException, where: str, *, late: bool) -> Outage:
    """A request that got no answer; ``late``: its whole time was up."""
    if late:
        return outage("aws-slow", f"{where}: took too long in all", subject=where)
    found = _socket_error(error)
    if found is None:
        words = f"{where}: {shown(str(error))}"
        return outage("aws-answer", words, subject=where)
    if isinstance(found, TimeoutError):
        return outage("aws-slow", f"{where}: no answer in time", subject=where)
    kind, words = mutual_tls.classify(found)
    return outage(f"aws-{kind}", f"{where}: {words}", subject=where)


def tls_outage(error: BaseException, where: str) -> Outage | None:
    """The same for what TLS alone can say: a clock, or somebody else; None for anything else."""
    found = _socket_error(error)
    if not isinstance(found, ssl.SSLError):
        return None
    kind, words = mutual_tls.classify(found)
    return outage(f"aws-{kind}", f"{where}: {words}", subject=where)


def fault(words: str, path: str, remedy: str) -> Outage:
    """A file of ``[aws]`` that can not be used."""
    return outage("aws-identity", f"[aws] {words}", subject=path, remedy=remedy)


def _socket_error(error: BaseException | None) -> OSError | None:
    """The error of socket or TLS inside one of urllib3's."""
    for _ in range(8):
        if error is None or isinstance(error, OSError):
            return error
        inner = [a for a in error.args if isinstance(a, BaseException)]
        error = inner[-1] if inner else error.__cause__ or error.__context__
    return None


def from_provider(status: int, message: str, options: AwsOptions) -> Outage:
    """The credentials provider said no; by status and words, since it has no codes."""
    words = f"{options.url}: {status}: {shown(message)}"
    if status == 403:
        return _refused(words, message.lower(), options)
    code = _STATUSES.get(status, "aws" if status >= 500 else "aws-answer")
    about = options.role_alias if status in {400, 404} else options.url
    return outage(code, f"{words}: {about}", subject=about)


def _refused(words: str, message: str, options: AwsOptions) -> Outage:
    if "thing" in message:
        return outage("aws-thing", f"{words}: {options.thing}", subject=options.thing)
    if "certificate" in message:
        return outage("aws-certificate-refused", words, subject=options.certificate)
    alias = f"arn:{partition(options.region)}:iot:{options.region}:ACCOUNT:rolealias"
    action = f"iot:AssumeRoleWithCertificate on {alias}/{options.role_alias}"
    return outage(
        "aws-denied",
        f"{words}: this device's certificate may not {action}",
        subject=options.role_alias,
        remedy=f"allow {action} in the IoT policy of the device's certificate",
    )


def shown(text: str, limit: int = 160) -> str:
    """Foreign text on one line, bounded, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()


_ELEMENT: Final = re.compile(rb"<(Code|Message|Region)>([^<]{0,400})</")


def elements(body: bytes) -> dict[str, str]:
    """``Code``, ``Message`` and ``Region`` of an error of S3, without an XML parser."""
    return {k.decode(): shown(v.decode("utf-8", "replace")) for k, v in _ELEMENT.findall(body)}
