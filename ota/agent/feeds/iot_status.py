"""From a signed report to what the Jobs service is told of an execution. Pure.

AWS counts jobs by these words and retries by them; nobody else does: a gate counts signed reports
only. So they are chosen by what AWS makes of them.

=============  ==============================================================
``SUCCEEDED``  committed
``REJECTED``   refused; failed its health check here; withdrawn; no such hint
``FAILED``     may be tried again: another order, or the same one later
=============  ==============================================================

>>> of(report, digest)
Status(job='ota-app-1-aaaaaa-u1-w0-b0', state='SUCCEEDED', details={'phase': 'DONE', ...})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ota.agent.feeds.iot_messages import State
from ota.agent.report import NOT_ASSIGNED
from signing.report import Report

PAIRS: Final = 10
"""Most pairs of status details (AWS IoT quotas)."""
VALUE: Final = 1024
"""Most characters of one value; older documentation said 128, and ours stay below that too."""
_ENDS: Final[Mapping[str, State]] = {
    "committed": "SUCCEEDED",
    "refused": "REJECTED",
    "reverted": "REJECTED",
    "failed": "FAILED",
}
_FOR_GOOD: Final = frozenset({"denied", "superseded", "withdrawn"})
"""Codes of failures that no other try of this order changes."""


@dataclass(frozen=True)
class Status:
    """What to say of the execution of ``job``."""

    job: str
    state: State
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether the execution ends with it."""
        return self.state != "IN_PROGRESS"

    @property
    def lasting(self) -> bool:
        """Whether the order itself has ended: a refusal, for one, may be followed by a commit."""
        return self.final and self.details.get("outcome") in {"committed", "reverted", "failed"}


def of(report: Report, digest: str, unreadable: str = "") -> Status | None:
    """What this report says of a job, or None; ``digest`` is the SHA-256 of its envelope.

    An order is one job of the same id. A report that names no order still speaks of the job whose
    hint led to it: it refuses, or finds that the director assigns nothing of the kind. One that
    refuses a hint as such speaks of ``unreadable``, the job whose document was no hint.
    """
    update = report.update
    details = {"code": report.code, "report": digest, "counter": str(report.counter)}
    if update is not None:
        state = _ENDS.get(update.outcome, "IN_PROGRESS")
        if state == "FAILED" and report.code in _FOR_GOOD:
            state = "REJECTED"
        return _status(update.order, state, update.phase, update.outcome, details)
    if report.event == "refusal":
        job = unreadable if report.code.startswith("hint-") else report.hint
        return _status(job, "REJECTED", "", "refused", details)
    if report.code == NOT_ASSIGNED:
        return _status(report.hint, "FAILED", "", "", details)
    if report.event in {"stale", "outage"}:
        return _status(report.hint, "IN_PROGRESS", "", report.event, details)
    return None


def _status(
    job: str, state: State, phase: str, outcome: str, details: Mapping[str, str]
) -> Status | None:
    return (
        Status(job, state, _fit({"phase": phase, "outcome": outcome, **details})) if job else None
    )


def _fit(details: Mapping[str, str]) -> dict[str, str]:
    """Within AWS's limits: no empty value, no control character, so many, so long."""
    found = {k: "".join(c for c in v if c.isprintable())[:VALUE] for k, v in details.items()}
    return dict([(k, v) for k, v in found.items() if v][:PAIRS])
