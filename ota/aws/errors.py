"""Errors of AWS in our words, translated once: which action, on what, in which role's policy.

Every call is described before it is made, by the permission it needs; ``translated`` turns
whatever botocore raises into the error tree:

========================  ============================================================
``aws-denied``            the role may not do this: action, resource and role are named
``aws-expired``           credentials that have ended; renew them
``aws-credentials``       none found, or none that AWS knows
``aws-clock``             this machine's clock is wrong
``aws-region``            no region, or not this resource's
``aws-endpoint``          the endpoint that is set is none
``aws-not-found``         not there in this account and region
``aws-throttled``         too many calls; the same call may succeed later
``aws-limit``             a quota of the account
``aws-invalid``           AWS does not take the request
``aws-unreachable``       no answer, or half of one
``aws``                   AWS failed, or said something that nobody knows
========================  ============================================================

An adapter that can go on after some answers (a job that exists) catches ``ClientError`` itself,
inside, and asks ``code_of``.

>>> with translated(Call("iot:CreateJob", "arn:aws:iot:eu-west-1:1:job/x", "rollout"), "eu-west-1"):
...     iot.create_job(jobId="x", ...)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from ota.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError, Outage

_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedException", "AuthorizationError"}
    | {"NotAuthorized", "AuthorizationErrorException", "UnauthorizedOperation", "Forbidden", "403"}
)
_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
)
_STRANGER: Final = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken"}
    | {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
    | {"MissingAuthenticationToken", "MissingAuthenticationTokenException", "AuthFailure"}
)
_CLOCK: Final = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_REGION: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_ABSENT: Final = frozenset(
    {"ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "NotFoundException", "404"}
    | {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NotFound"}
)
_THROTTLED: Final = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "SlowDown"}
    | {"RequestThrottledException", "TooManyRequestsException", "RequestLimitExceeded"}
    | {
        "ProvisionedThroughputExceededException",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
    }
)
_LIMIT: Final = frozenset(
    {"LimitExceededException", "ServiceQuotaExceededException", "LimitExceeded", "OverLimit"}
)
_INVALID: Final = frozenset(
    {"InvalidRequestException", "ValidationException", "ValidationError", "InvalidParameterValue"}
    | {"InvalidArgument", "InvalidRequest", "MalformedXML", "SerializationException"}
    | {"InvalidQueryException"}
)
_SIGN_IN: Final = frozenset(
    {
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "LoginRefreshRequired",
        "LoginTokenLoadError",
    }
)
_USER: Final = re.compile(r"User: (arn:[!-~]{1,300}) is not authorized")
_SKEW: Final = re.compile(r"Signature (expired|not yet current)")


@dataclass(frozen=True)
class Call:
    """One call, as a policy names it: ``iot:CreateJob`` on an ARN, needed by ``role``."""

    action: str
    resource: str
    role: str

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


@contextmanager
def translated(call: Call, region: str = "") -> Iterator[None]:
    """Raise what botocore raises as an error of ours; ``region`` is the client's."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an optional install
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - the same

    try:
        yield
    except ClientError as e:
        raise answered(e, call, region) from e
    except BotoCoreError as e:
        raise unanswered(e, str(call)) from e
    except ResponseParserError as e:
        raise stranger(call, shown(e)) from e
    except RuntimeError as e:  # botocore has no class for this one
        if "still expired" in str(e):
            raise expired(f"{call}: {shown(e)}") from e
        raise


@contextmanager
def asking(call: Call, region: str = "") -> Iterator[None]:
    """The same, and an answer of another kind is none of AWS: for what reads fields of it too."""
    with translated(call, region):
        try:
            yield
        except (KeyError, AttributeError, TypeError) as e:
            raise stranger(call, shown(e)) from e


def code_of(error: Any) -> str:
    """The code of a ``ClientError``; the HTTP status where the answer had no body."""
    answer = error.response if isinstance(getattr(error, "response", None), dict) else {}
    code = str(answer.get("Error", {}).get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return code.rpartition("#")[2].partition(":")[0] or str(status)


def is_throttle(error: Any) -> bool:
    """Whether this ``ClientError`` asks for patience."""
    return code_of(error) in _THROTTLED


def answered(error: Any, call: Call, region: str) -> OtaError:
    """AWS said no."""
    code, said = code_of(error), shown(error.response.get("Error", {}).get("Message", ""))
    return _caller(error, call, code, said) or _placed(call, code, said, region)


def _caller(error: Any, call: Call, code: str, said: str) -> OtaError | None:
    """What is wrong with who asks."""
    if code in _DENIED:
        return _denied(call, str(error), said)
    if code in _EXPIRED:
        return expired(f"{call}: the credentials have expired")
    if code in _CLOCK or (code in _STRANGER and _SKEW.search(str(error))):
        return NotPermitted(
            f"{call}: this machine's clock is too wrong for AWS: {said}",
            code="aws-clock",
            subject=call.resource,
            remedy="timedatectl; set the clock, then try again",
        )
    if code in _STRANGER:
        return misset(f"{call}: AWS does not take the credentials ({code})")
    return None


def _placed(call: Call, code: str, said: str, region: str) -> OtaError:
    """What is wrong with where, or with what is asked."""
    where = f" in {region}" if region else ""
    if code in _REGION:
        return Misuse(
            f"{call}: it does not live{where}: {said}",
            code="aws-region",
            subject=call.resource,
            remedy="aws configure list; compare the region with the resource's",
        )
    if code in _ABSENT:
        return NotFound(
            f"{call}: it is not there{where}: {said}",
            code="aws-not-found",
            subject=call.resource,
            remedy="aws sts get-caller-identity; compare account and region with the resource's",
        )
    return _other(call, code, said)


def _other(call: Call, code: str, said: str) -> OtaError:
    if code in _THROTTLED:
        return Outage(
            f"{call}: AWS asks for patience ({code})",
            code="aws-throttled",
            subject=call.resource,
            remedy="it is tried again; if it stays so, lower the rates or raise the quota",
        )
    if code in _LIMIT:
        return Outage(
            f"{call}: a quota of this account is used up: {said}",
            code="aws-limit",
            subject=call.resource,
            remedy="clean up, or raise it: aws service-quotas list-service-quotas",
        )
    if code in _INVALID:
        return Malformed(
            f"{call}: AWS does not take the request: {said}",
            code="aws-invalid",
            subject=call.resource,
        )
    return Outage(
        f"{call}: AWS says {shown(code, 60) or 'nothing'}: {said}",
        code="aws",
        subject=call.resource,
        remedy="try again",
    )


def unanswered(error: Exception, what: str) -> OtaError:
    """Nothing came back, or nothing was sent."""
    from botocore import exceptions as boto  # noqa: PLC0415 - an optional install

    name = type(error).__name__
    if isinstance(error, (boto.NoRegionError, boto.InvalidRegionError)):
        return Misuse(
            f"{what}: {shown(error)}",
            code="aws-region",
            subject="region",
            remedy="export AWS_DEFAULT_REGION=..., or name the region in ota.toml",
        )
    if isinstance(error, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)):
        return Outage(
            f"{what}: no answer: {shown(error)}",
            code="aws-unreachable",
            subject=what,
            remedy="look at network, region and AWS_ENDPOINT_URL; then try again",
        )
    if isinstance(error, boto.ParamValidationError):
        return Malformed(f"{what}: {shown(error, 300)}", code="aws-invalid", subject=what)
    if name in _SIGN_IN:
        return expired(f"{what}: {shown(error)}")
    if any(word in name for word in ("Credential", "Token", "Profile", "SSO", "Config", "Login")):
        return misset(f"{what}: no usable credentials ({name}: {shown(error)})")
    return Outage(f"{what}: {name}: {shown(error)}", code="aws", subject=what, remedy="try again")


def misset(what: str) -> NotPermitted:
    """Credentials or configuration that can not work."""
    return NotPermitted(
        what,
        code="aws-credentials",
        subject="credentials",
        remedy="aws configure list; aws sts get-caller-identity",
    )


def stranger(call: Call, why: str) -> Outage:
    """Something answered that is not AWS."""
    return Outage(
        f"{call}: the answer is not one of AWS: {why}",
        code="aws-unreachable",
        subject=call.resource,
        remedy="look at what stands between here and AWS: a proxy, AWS_ENDPOINT_URL",
    )


def shown(text: object, limit: int = 160) -> str:
    """Foreign text on one line, bounded, without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:limit].strip()


def expired(what: str) -> NotPermitted:
    """Credentials that have ended."""
    return NotPermitted(
        what,
        code="aws-expired",
        subject="credentials",
        remedy="renew them (aws sso login, or a new session of the role), then try again",
    )


def _denied(call: Call, whole: str, said: str) -> NotPermitted:
    user = _USER.search(whole)
    who = f"{user[1]} is not allowed {call}" if user else f"not allowed: {call}: {said}"
    explicit = "; a policy denies it explicitly" if "explicit deny" in whole else ""
    return NotPermitted(
        f"{who}{explicit}",
        code="aws-denied",
        subject=call.resource,
        remedy=f"allow {call.action} on {call.resource} in the policy of the {call.role} role",
    )
