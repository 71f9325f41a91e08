"""AWS Signature Version 4 for requests without a body: what reading a private bucket takes.

Pure: a request and a moment go in, the headers to send come out. The path is signed as it stands in
the request (S3 encodes it once and does not normalise it), without a query.

Source: AWS IAM user guide, "Create a signed AWS API request"; Amazon S3 API reference,
"Authenticating Requests (AWS Signature Version 4)".

>>> asked = Asked("GET", "updates.s3.eu-west-1.amazonaws.com", path_of("a/1.json"))
>>> signed(asked, keys, Scope("eu-west-1"), datetime.now(UTC))
{'Host': ..., 'x-amz-content-sha256': ..., 'x-amz-date': ..., 'Authorization': ...}
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

_NOTHING = hashlib.sha256(b"").hexdigest()
_KIND = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Keys:
    """Temporary credentials; only their id may be shown."""

    id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Scope:
    """What a signature is good for."""

    region: str
    service: str = "s3"


@dataclass(frozen=True)
class Asked:
    """A request; ``host`` as it is sent, with a port that is not the scheme's; ``path`` encoded.

    ``headers``: further ones, with names in lower case; all of them are signed.
    """

    method: str
    host: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


def path_of(key: str) -> str:
    """The path of an object's key, encoded as S3 wants it: all but ``A-Za-z0-9-._~/``."""
    return "/" + quote(key, safe="/~")


def signed(asked: Asked, keys: Keys, scope: Scope, moment: datetime) -> dict[str, str]:
    """The headers of a signed request."""
    stamp = moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": asked.host, "x-amz-content-sha256": _NOTHING, "x-amz-date": stamp}
    headers |= asked.headers
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{asked.method}\n{asked.path}\n\n{lines}\n{names}\n{_NOTHING}"
    credential = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_KIND}\n{stamp}\n{credential}\n{digest}"
    signature = hmac.new(_key(keys.secret, credential), text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (
        f"{_KIND} Credential={keys.id}/{credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _key(secret: str, credential: str) -> bytes:
    """The key of one day, region and service, derived step by step."""
    key = f"AWS4{secret}".encode()
    for step in credential.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key
