"""Temporary credentials from the AWS IoT credentials provider: a certificate in, a role's keys out.

1. ``GET /role-aliases/ALIAS/credentials`` over mutual TLS, with the thing's name in a header, so
   that the role's policy may use ``${credentials-iot:ThingName}`` (AWS IoT developer guide,
   "Authorizing direct calls to AWS services").
2. The answer is at most 16 KiB of strict JSON within ``total`` seconds; every field is checked before
   it may stand in a header.
3. How long they live is measured by the provider's own clock (its ``Date``) and this machine's
   monotonic one, so that a wrong wall clock neither prolongs nor ends them; the difference is kept,
   and requests are signed with the right time.
4. They are renewed at a random moment in the third quarter of their life; while that fails the old
   ones serve until shortly before their end.

They are kept in memory only, and nothing of them is ever logged.

>>> provider = RoleCredentials(options, connect=10, read=30)
>>> provider.current().keys
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated
from urllib.parse import quote

import msgspec
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from ota.agent import mutual_tls
from ota.agent.aws_options import AwsOptions
from ota.agent.aws_trouble import fault, from_provider, outage, unreachable
from ota.agent.http_pool import Guard, finish, make_pool
from ota.agent.sigv4 import Keys
from signing import strict
from signing.errors import Malformed, Outage

_LIMIT = 16 * 1024
_SPARE = 30.0
"""Seconds before their end from which credentials are not used any more."""
_PAUSE = 30.0
"""Least seconds between two questions of a device whose credentials still serve."""
_LONGEST = timedelta(hours=13)
_SKEW = timedelta(seconds=30)


class _Fields(msgspec.Struct, frozen=True):
    accessKeyId: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{16,128}\Z")]  # noqa: N815 - AWS's
    secretAccessKey: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,256}\Z")]  # noqa: N815 - AWS's
    sessionToken: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,12000}\Z")]  # noqa: N815 - AWS's
    expiration: str


class _Answer(msgspec.Struct, frozen=True):
    credentials: _Fields


@dataclass(frozen=True)
class Session:
    """One set of credentials. ``ahead``: how far AWS's clock is ahead of this machine's."""

    keys: Keys
    ahead: timedelta
    begun: float
    renew_at: float
    ends_at: float


class RoleCredentials:
    """See the module; one request at a time."""

    def __init__(
        self,
        options: AwsOptions,
        *,
        connect: float,
        read: float,
        total: float = 30.0,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._timeout = urllib3.Timeout(connect=connect, read=read)
        self._total = total
        self._wall = wall
        self._monotonic = monotonic
        self._session: Session | None = None

    def current(self) -> Session:
        """Credentials that are good now; ``Outage`` (``aws-*``) when there are none to be had."""
        session, now = self._session, self._monotonic()
        if session is not None and now < session.renew_at:
            return session
        try:
            self._session = self._fetch()
        except Outage:
            if session is None or now >= session.ends_at:
                self._session = None
                raise
            later = now + _PAUSE * (1 + random.random())  # noqa: S311 - spreads load
            self._session = replace(session, renew_at=later)
        return self._session

    def renewed(self, refused: Session) -> Session:
        """Others than those that were refused; the same where they are brand-new themselves."""
        if self._monotonic() - refused.begun >= _PAUSE:
            self._session = None
        return self.current()

    # -- asking --------------------------------------------------------------------------------
    def _fetch(self) -> Session:
        status, date, body = self._ask()
        if status != 200:
            raise from_provider(status, _message(body), self._options)
        now, wall = self._monotonic(), self._wall()
        try:
            found = msgspec.convert(
                strict.loads(body, limit=_LIMIT, what="credentials"), _Answer, strict=True
            ).credentials
            ends = strict.instant(found.expiration, "expiration")
        except (Malformed, msgspec.ValidationError) as e:
            raise outage("aws-answer", f"{self._options.url}: not credentials: {e}") from e
        there = _moment(date) or wall
        life = ends - there
        if not timedelta(0) < life < _LONGEST:
            words = f"{self._options.url}: credentials that end {found.expiration}, at {date}"
            raise outage("aws-answer", words)
        ahead = there - wall
        seconds = life.total_seconds()
        share = 0.5 + 0.25 * random.random()  # noqa: S311 - spreads load
        return Session(
            Keys(found.accessKeyId, found.secretAccessKey, found.sessionToken),
            ahead if abs(ahead) > _SKEW else timedelta(0),
            now,
            now + share * seconds,
            now + max(seconds - _SPARE, 0.9 * seconds),
        )

    def _ask(self) -> tuple[int, str, bytes]:
        """Status, ``Date`` and body, within limits; every connection is made anew."""
        options, guard = self._options, Guard()
        pool = make_pool(options.url, guard, mutual_tls.context(options.files, fault))
        response: BaseHTTPResponse | None = None
        guard.arm(time.monotonic() + self._total)
        try:
            response = pool.request(
                "GET",
                f"{options.url}/role-aliases/{quote(options.role_alias, safe='')}/credentials",
                headers={"x-amzn-iot-thingname": options.thing},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=self._timeout,
            )
            body = bytearray()
            while chunk := response.read1(_LIMIT + 1 - len(body), decode_content=False):
                body += chunk
                if len(body) > _LIMIT:
                    raise outage("aws-answer", f"{options.url}: more than {_LIMIT} bytes")
            return response.status, response.headers.get("Date", ""), bytes(body)
        except (HTTPError, OSError, ValueError) as e:
            raise unreachable(e, options.url, late=guard.expired) from e
        finally:
            guard.disarm()
            if response is not None:
                finish(response)
            pool.clear()


def _message(body: bytes) -> str:
    """The words of an answer that is no success, fit to be shown."""
    found = re.search(rb'"message"\s*:\s*"([ -~]{1,200}?)"', body)
    return found[1].decode() if found else ""


def _moment(date: str) -> datetime | None:
    """An HTTP date, or None."""
    try:
        found = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
