"""What the Jobs service and a device say to each other, as bytes. Pure.

Shapes are those of the AWS IoT developer guide, "Jobs device MQTT and HTTPS API operations and
data types". Everything the service says is read with limits and with the fields that are used;
AWS may add others. The job document is kept as the bytes it came as, and is judged elsewhere
(``ota/agent/hints.py``): over MQTT it is a JSON object within the answer, over HTTPS a string.

>>> answer = read(b'{"execution":{"jobId":"j","versionNumber":2,"jobDocument":{"schema":1}}}')
>>> answer.execution.job, answer.execution.version, document(answer.execution)
('j', 2, b'{"schema":1}')
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from signing.errors import Malformed, Outage

LIMIT: Final = 128 * 1024
"""Largest message in bytes that AWS IoT carries; a job document has at most 32 KiB."""
JOB: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A job id."""
OPEN: Final = frozenset({"QUEUED", "IN_PROGRESS"})
"""States of an execution that can still change."""

THROTTLED: Final = "RequestThrottled"

State = Literal["IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"]
"""What a device may say of an execution."""
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]


class Execution(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One job for this thing. ``version`` counts its updates, ``number`` its tries."""

    job: str = msgspec.field(name="jobId")
    status: _Text = "IN_PROGRESS"
    version: _Number = msgspec.field(name="versionNumber")
    number: _Number = msgspec.field(name="executionNumber", default=1)
    raw: msgspec.Raw = msgspec.field(name="jobDocument", default=msgspec.Raw(b""))


class ExecutionState(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution stands."""

    status: _Text
    version: _Number = msgspec.field(name="versionNumber")


@dataclass(frozen=True)
class Answer:
    """Any answer or notification; ``code`` and ``message`` of one that rejects."""

    execution: Execution | None = None
    state: ExecutionState | None = None
    token: str = ""
    code: str = ""
    message: str = ""


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """As it comes: "no execution" is a missing field, or an empty object."""

    execution: msgspec.Raw = msgspec.Raw(b"{}")
    state: ExecutionState | None = msgspec.field(name="executionState", default=None)
    token: _Text = msgspec.field(name="clientToken", default="")
    code: _Text = ""
    message: str = ""


class Rejected(Outage):
    """The Jobs service said no; ``reason`` is its word, ``state`` how the execution stands."""

    code = "feed-jobs"

    def __init__(self, what: str, answer: Answer, *, reason: str = "") -> None:
        self.reason = reason or answer.code or "unknown"
        self.state = answer.state
        text = "".join(c if c.isprintable() else " " for c in answer.message[:200])
        super().__init__(
            f"{what}: the Jobs service says {self.reason[:64]!a} {text}".rstrip(),
            code="feed-throttled" if self.reason == THROTTLED else None,
            subject=what,
            remedy="nothing: it is tried again" if self.transient else "",
        )

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.reason in {THROTTLED, "InternalError"}

    @property
    def gone(self) -> bool:
        """Whether the execution is not there, or has ended."""
        return self.reason in {"ResourceNotFound", "TerminalStateReached"}


def standing(ask: Callable[[], Answer]) -> ExecutionState | None:
    """How the execution that ``ask`` asks for stands; None for one that is gone or has ended."""
    try:
        found = ask().execution
    except Rejected as e:
        if e.gone:
            return None
        raise
    return None if found is None else ExecutionState(status=found.status, version=found.version)


def read(data: bytes) -> Answer:
    """An answer; ``Malformed`` for anything that is none, for too many bytes, for a foreign id."""
    if len(data) > LIMIT:
        raise Malformed(f"Jobs service: {len(data)} bytes, the limit is {LIMIT}")
    try:
        found = msgspec.json.decode(data, type=_Message)
        execution = _execution(found.execution)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise Malformed(f"Jobs service: {e!s:.200}") from e
    return Answer(execution, found.state, found.token, found.code, found.message)


def _execution(raw: msgspec.Raw) -> Execution | None:
    if not msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | None):
        return None
    found = msgspec.json.decode(raw, type=Execution)
    if not JOB.fullmatch(found.job):
        raise msgspec.ValidationError("jobId: not a job id")
    return found


def document(execution: Execution) -> bytes:
    """The job document as bytes; what is no text within a string is no document: empty."""
    raw = bytes(execution.raw)
    if not raw.startswith(b'"'):
        return raw
    try:
        return msgspec.json.decode(raw, type=str).encode()
    except (msgspec.MsgspecError, UnicodeError):
        return b""


def start_next(token: str) -> bytes:
    """Ask for the next execution; one that is IN_PROGRESS comes again, unchanged."""
    return _body(token, {})


def describe(token: str) -> bytes:
    """Ask how an execution stands, without its document."""
    return _body(token, {"includeJobDocument": False})


def update(token: str, execution: Execution, state: State, details: Mapping[str, str]) -> bytes:
    """Say how an execution stands, if nobody else has said so since ``execution.version``."""
    return _body(
        token,
        {
            "status": state,
            "statusDetails": dict(details),
            "expectedVersion": execution.version,
            "executionNumber": execution.number,
            "includeJobExecutionState": True,
        },
    )


def _body(token: str, fields: dict[str, Any]) -> bytes:
    if token:
        fields["clientToken"] = token
    return msgspec.json.encode(fields)
