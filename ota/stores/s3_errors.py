"""What S3 says, in our own errors; what all of AWS says alike is told by ``ota/aws/errors.py``.

Pure: an exception of botocore and what was attempted go in, an error comes out. Four answers are no
trouble but part of the protocol, and adapters catch them: :class:`Absent`, :class:`Unmet`,
:class:`Conflict` and :class:`NoUpload`.

A missing permission is named as IAM names it: the action, the resource, and whose policy lacks it,
from the message where AWS tells, else from the table of operations below and
``sts:GetCallerIdentity``.

Sources: Amazon S3 API reference, "Error responses"; S3 user guide, "Conditional write behavior"
(404, 409, 412); IAM user guide, "Troubleshoot access denied error messages".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as boto

from ota.aws import errors as aws
from ota.aws.errors import Call, code_of, shown
from ota.errors import Busy, Malformed, Misuse, NotFound, NotPermitted, OtaError, Outage


class Absent(Outage):
    """404: no such object, or its current version is a delete marker."""


class Unmet(Busy):
    """412: If-Match or If-None-Match did not hold."""


class Conflict(Busy):
    """409: another conditional write to this key was under way; read again and try again."""


class NoUpload(Outage):
    """404: this multipart upload was completed or aborted."""


ACTIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "list_parts": "s3:ListMultipartUploadParts",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_objects_v2": "s3:ListBucket",
}
"""Operation -> the IAM action that it needs (service authorization reference, Amazon S3)."""
_READS = {"get_object", "head_object"}
_ELSEWHERE = {
    *("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"),
    *("IllegalLocationConstraintException", "IncorrectEndpoint"),
}
_SLOW = {"SlowDown", "ServiceUnavailable", "503", "429"}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_TOLD = re.compile(
    r"User: (?P<who>\S{1,300}) is not authorized to perform: (?P<action>[a-z0-9-]{1,30}:\w{1,60})"
    r"(?: on resource: \"?(?P<resource>[^\s\"]{1,400})\"?)?(?P<why>.{0,200})"
)
_NAMED = re.compile(
    r"arn:[\w-]+:(?:sts::\d*:assumed-(?P<a>role)/(?P<b>[\w+=,.@-]+)/.*"
    r"|iam::\d*:(?P<c>role|user)/(?:[!-~]*/)?(?P<d>[\w+=,.@-]+))"
)
_MAYBE_ABSENT = "; without s3:ListBucket S3 says the same of what is not there"


@dataclass(frozen=True)
class Attempt:
    """What was tried: the client's method, where, and who asks ``sts`` when nobody says."""

    operation: str
    bucket: str
    key: str
    partition: str
    identity: Callable[[], str]

    @property
    def subject(self) -> str:
        """As people write it."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def call(self) -> Call:
        """As a policy names it. Image repository and director are written by two roles."""
        arn = f"arn:{self.partition}:s3:::{self.bucket}"
        listing = self.operation == "list_objects_v2"
        role = "rollout" if "director/" in self.key else "publisher"
        if self.operation == "delete_object":
            role = "gc"
        return Call(ACTIONS[self.operation], arn if listing else f"{arn}/{self.key}", role)


def answered(error: Any, attempt: Attempt) -> OtaError:
    """The error for what S3 answered."""
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    special = _protocol(code, status, attempt) or _placed(code, error, attempt)
    if special is not None:
        return special
    if code in _SLOW:
        return Outage(
            f"{attempt.subject}: S3 asks to slow down ({code})",
            code="aws-throttled",
            subject=attempt.subject,
            remedy="the command again, later; or AWS_RETRY_MODE=adaptive AWS_MAX_ATTEMPTS=10",
        )
    if code in _DAMAGED:
        return damaged(f"S3 got other bytes than were sent ({code})", attempt.subject)
    if code in {"AccessDenied", "403"}:
        return _denied(str(error.response.get("Error", {}).get("Message", "")), attempt)
    return _kept(aws.answered(error, attempt.call, ""))


def _protocol(code: str, status: object, attempt: Attempt) -> OtaError | None:
    """What adapters reckon with; and a bucket that is not there, which they do not."""
    where = attempt.subject
    if code == "NoSuchBucket":
        return Misuse(
            f"{where}: there is no such bucket",
            code="s3-bucket",
            subject=attempt.bucket,
            remedy="correct [store] url in ota.toml, or make the bucket",
        )
    if code == "NoSuchUpload":
        return NoUpload(f"{where}: the upload is gone", subject=where)
    if status == 404:
        return Absent(f"{where}: is not there", code="missing", subject=where)
    if status == 412:
        return Unmet(f"{where}: was changed by another publisher", code="lost-race", subject=where)
    if code in {"ConditionalRequestConflict", "OperationAborted"}:
        return Conflict(
            f"{where}: another publisher writes it at this moment",
            code="lost-race",
            subject=where,
            remedy="run the command again",
        )
    return None


def _placed(code: str, error: Any, attempt: Attempt) -> OtaError | None:
    """A bucket elsewhere; a key that can not be used."""
    where, said = attempt.subject, error.response.get("Error", {})
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = shown(said.get("Region") or headers.get("x-amz-bucket-region", ""), 40)
    if code in _ELSEWHERE or (code == "400" and region):
        return NotPermitted(
            f"{where}: the bucket is in {region or 'another region'}",
            code="aws-region",
            subject=where,
            remedy=f"export AWS_DEFAULT_REGION={region or 'REGION'}, and no endpoint elsewhere",
        )
    if code.startswith("KMS."):
        return NotPermitted(
            f"{where}: the KMS key can not be used ({shown(code, 60)}: {shown(said.get('Message'))})",
            code="s3-kms",
            subject=where,
            remedy="aws kms describe-key --key-id KEY; look at [store] kms_key in ota.toml",
        )
    return None


def _denied(message: str, attempt: Attempt) -> NotPermitted:
    """A missing permission: which, on what, in whose policy."""
    told = _TOLD.search(message)
    who = told["who"] if told else attempt.identity()
    call = attempt.call
    action = told["action"] if told else call.action
    resource = (told["resource"] if told else "") or (
        call.resource if action == call.action else "the key of these objects"
    )
    why = shown(told["why"], 200) if told else ""
    named = _NAMED.fullmatch(who)
    whose = " ".join(filter(None, ("the", *named.groups()))) if named else f"the {call.role} role"
    return NotPermitted(
        f"{attempt.subject}: {whose} may not {action} on {resource}"
        f"{f' ({why})' if why else ''}{_MAYBE_ABSENT if attempt.operation in _READS else ''}",
        code="aws-denied",
        subject=attempt.subject,
        remedy=f"allow {action} on {resource} in the policy of {whose}; aws sts get-caller-identity",
    )


def unanswered(error: Any, attempt: Attempt) -> OtaError:
    """The error for what was not sent, or not answered."""
    if isinstance(error, boto.FlexibleChecksumError):
        return damaged("what S3 sent is not what it has stored", attempt.subject)
    return _kept(aws.unanswered(error, attempt.subject))


def _kept(error: OtaError) -> OtaError:
    """Never what a publisher drops an edition for: the bucket is wrong, the edition is not."""
    if isinstance(error, (Malformed, NotFound)):
        return Misuse(str(error), code=error.code, subject=error.subject, remedy=error.remedy)
    return error


def damaged(what: str, where: str) -> Outage:
    """Bytes changed on their way; nothing was stored or believed."""
    return Outage(f"{where}: {what}", code="s3-damaged", subject=where, remedy="the command again")


def told(answer: Mapping[str, Any], field: str, where: str) -> Any:
    """A field of an answer; ``Outage`` when what answered is no S3."""
    if answer.get(field) is None:
        raise Outage(
            f"{where}: the answer is not one of S3: it has no {field}",
            code="aws-unreachable",
            subject=where,
            remedy="look at what stands between here and S3: a proxy, AWS_ENDPOINT_URL_S3",
        )
    return answer[field]
