"""A private bucket, read with a role's temporary credentials. Implements ``transfer.Source``.

1. Each request is signed (``sigv4.py``) with credentials that are good now
   (``role_credentials.py``).
2. What S3 does not take because of who asks (ended, revoked or unknown credentials, a moment that
   is not now, access denied) is asked once more with fresh credentials; a download that was cut
   goes on from where it was, since the range is asked for again.
3. A range is asked for under ``If-Match``: an object that was replaced is read from its beginning
   (S3 has no ``If-Range``).
4. Without ``s3:ListBucket`` S3 answers 403 for what is not there. That is ordinary for one name, the
   next root: it counts as absent if these credentials may read the first root beside it.
   Everything else that is denied is an outage that names action, resource and policy, so that a
   forgotten permission never looks like "nothing new".

No URL is ever presigned: whoever has one could hand it on.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from ota.agent import mutual_tls
from ota.agent.aws_options import AwsOptions, bucket
from ota.agent.aws_trouble import elements, fault, outage, shown, tls_outage
from ota.agent.http_pool import finish
from ota.agent.role_credentials import RoleCredentials, Session
from ota.agent.sigv4 import Asked, Scope, path_of, signed
from ota.agent.transfer_http import HttpSource
from signing.errors import Outage

_LIMIT = 8 * 1024
_FINE = {200, 206}
_CHANGED = {412, 416}
_ROOT = re.compile(r"(.*/)(\d+)\.root\.json")
_STRANGE = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "AccessDenied", "RequestTimeTooSkewed"),
}
_CODES = {
    **dict.fromkeys(_STRANGE, "aws-credentials"),
    "RequestTimeTooSkewed": "aws-clock",
    "NoSuchBucket": "aws-bucket",
    **dict.fromkeys(
        ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"), "aws-region"
    ),
    **dict.fromkeys(("SlowDown", "ServiceUnavailable", "RequestLimitExceeded"), "aws-throttled"),
}
_STATUSES = {301: "aws-region", 307: "aws-region", 429: "aws-throttled"}
_ACTION = re.compile(
    r"not authorized to perform: ([a-z0-9-]{1,30}:\w{1,60})(?: on resource: (\S+))?"
)


class _No(NamedTuple):
    """S3 said no."""

    status: int
    code: str
    message: str
    region: str


class S3Source(HttpSource):
    """See the module. ``wall`` is the machine's own clock, right or wrong."""

    def __init__(
        self,
        url: str,
        options: AwsOptions,
        credentials: RoleCredentials,
        *,
        connect: float,
        read: float,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bucket = bucket(url, options)
        self._options = options
        self._credentials = credentials
        self._wall = wall
        self._readable: set[tuple[str, float]] = set()
        super().__init__(self._bucket.base, connect=connect, read=read, context=self._trusting)

    def _trusting(self) -> ssl.SSLContext:
        """Whom it believes to be S3."""
        ca = mutual_tls.readable("ca", self._options.ca, fault)
        return ssl.create_default_context(cafile=ca or None)

    # -- asking --------------------------------------------------------------------------------
    def _respond(self, name: str, offset: int, tag: str) -> tuple[BaseHTTPResponse, int]:
        """An open response, or a drained one of status 403 or 404 for what is not there."""
        # (1)
        session, again = self._credentials.current(), False
        while True:
            response = self._ask("GET", name, session, offset, tag)
            if response.status in _FINE:
                return response, offset
            no = self._no(name, response)
            if no.status in _CHANGED and offset:
                offset = 0  # (3)
            elif self._absent(name, no, session):
                return response, 0
            elif no.code in _STRANGE and not again:
                # (2)
                refused, session = session, self._credentials.renewed(session)
                again = True
                if session is refused:
                    raise self._trouble(name, no)
            else:
                raise self._trouble(name, no)

    def _ask(
        self, method: str, name: str, session: Session, offset: int = 0, tag: str = ""
    ) -> BaseHTTPResponse:
        path = path_of(self._bucket.path + self._bucket.key(name))
        base, moment = self._bucket.base, self._wall() + session.ahead
        part = {"range": f"bytes={offset}-", "if-match": tag} if offset else {}
        asked = Asked(method, urlsplit(base).netloc, path, part)
        headers = signed(asked, session.keys, Scope(self._options.region), moment)
        return self._request(method, name, f"{base}{path}", headers)

    def _no(self, name: str, response: BaseHTTPResponse) -> _No:
        """Read what S3 says of itself, a little of it, and let go of the response."""
        body = b""
        try:
            while len(body) < _LIMIT and (chunk := response.read1(_LIMIT - len(body))):
                body += chunk
        except (HTTPError, OSError, ValueError) as e:
            raise self._outage(name, e) from e
        finally:
            finish(response)
        found = elements(body)
        region = found.get("Region") or shown(response.headers.get("x-amz-bucket-region", ""), 40)
        code = found.get("Code") or {403: "AccessDenied", 503: "SlowDown"}.get(response.status, "")
        return _No(response.status, code, found.get("Message", ""), region)

    # -- what is not there -----------------------------------------------------------------------
    def _absent(self, name: str, no: _No, session: Session) -> bool:
        """Whether this is an answer for what does not exist."""
        if no.status == 404:
            return no.code in {"NoSuchKey", ""}
        root = _ROOT.fullmatch(name)
        if root is None or (no.status, no.code) != (403, "AccessDenied"):
            return False
        # (4)
        place = (root[1], session.begun)
        if place not in self._readable and root[2] != "1":
            response = self._ask("HEAD", f"{root[1]}1.root.json", session)
            finish(response)
            if response.status == 200:
                self._readable = {p for p in self._readable if p[1] == session.begun} | {place}
        return place in self._readable

    # -- what is wrong -------------------------------------------------------------------------
    def _trouble(self, name: str, no: _No) -> Outage:
        where = f"s3://{self._bucket.name}/{self._bucket.key(name)}"
        words = f"{where}: S3 says {no.status} {no.code}: {no.message}".rstrip(": ")
        if no.code == "AccessDenied":
            return self._denied(name, where, no)
        code = _CODES.get(no.code) or _STATUSES.get(no.status, "aws")
        if no.code.startswith("KMS."):
            code = "aws-kms"
        if code == "aws-region":
            words += f"; it is in {no.region}" if no.region else "; it is elsewhere"
        return outage(code, words, subject=where)

    def _denied(self, name: str, where: str, no: _No) -> Outage:
        told = _ACTION.search(no.message)
        action = told[1] if told else "s3:GetObject"
        resource = (told[2] or "").strip('"') if told else ""
        if not resource and action == "s3:GetObject":
            resource = self._bucket.arn(name, self._options.region)
        what = f"{action} on {resource}" if resource else action
        role = f"the role behind alias {self._options.role_alias}"
        return outage(
            "aws-denied",
            f"{where}: {role} may not {what}, or the object is not there",
            subject=where,
            remedy=f"allow {what} in the policy of {role}",
        )

    def _outage(self, name: str, error: BaseException) -> Outage:
        """A fault of TLS, the clock among them, under its own code."""
        return tls_outage(error, self._bucket.base) or super()._outage(name, error)
