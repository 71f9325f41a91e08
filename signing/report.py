"""The body of a device's signed report: what is installed, what happened, what it refused.

Rule 13: a report counts only if signed by the device's registered key, repeating the signed
order and the director targets version, with a counter that rises within one incarnation
(``state_id``). All lengths in bytes, all times RFC 3339 UTC, versions are TUF metadata versions.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from signing import strict
from signing.errors import Malformed, Refusal
from signing.statement import Statement

Outcome = Literal["in_progress", "committed", "failed", "reverted", "refused", "stale"]
"""What a gate counts. ``failed``: before the old version was touched; ``reverted``: the new
version ran and was taken back; ``refused``: evidence of tampering; ``stale``: counted as
unreachable."""

_STEPS = 64
_OUTPUT = 16 * 1024
Event = Literal["inventory", "progress", "outcome", "refusal", "stale", "outage"]


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One bootable slot. ``path`` is the image target, or "" for unmanaged content."""

    sha256: str
    length: int
    path: str = ""
    version: str = ""
    release_counter: int = 0


class ComponentState(msgspec.Struct, frozen=True, kw_only=True):
    """One component: what runs, what it could go back to, and its floor."""

    hardware_id: str
    floor: int
    current: Slot | None = None
    previous: Slot | None = None


class UpdateState(msgspec.Struct, frozen=True, kw_only=True):
    """The signed order this report is about; ``phase`` is a state of the agent's machine.

    ``targets_version`` is the version of the director's targets metadata that carried the order.
    """

    order: str
    rollout: str
    wave: int
    component: str
    kind: Literal["update", "rollback", "playbook"]
    path: str
    sha256: str
    targets_version: int
    phase: str
    outcome: Outcome


class StepState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a playbook. ``output`` is what ``collect`` printed, cut where it grew long.

    ``output_sha256`` and ``output_length`` are of all that it printed.
    """

    name: str
    outcome: Literal["done", "skipped", "failed"]
    code: str = ""
    detail: str = ""
    output: str = ""
    output_sha256: str = ""
    output_length: int = 0


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Trusted metadata versions of one repository; 0 means never seen."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One report. ``code`` is a refusal code or an error code, "" when all is well.

    ``steps``: of the playbook that ``update`` is about, as far as it came.
    """

    schema: Literal[1]
    device: str
    state_id: str
    counter: int
    event: Event
    time: str
    components: dict[str, ComponentState]
    director: Versions
    image: Versions
    update: UpdateState | None = None
    code: str = ""
    detail: str = ""
    health: str = ""
    hint: str = ""
    steps: tuple[StepState, ...] = ()


def read(statement: Statement) -> Report:
    """The typed body of a report statement; ``Refusal("statement-malformed")`` otherwise."""
    try:
        report = msgspec.convert(statement.body, Report, strict=True)
        strict.identifier(report.device, "device")
        strict.identifier(report.state_id, "state_id")
        strict.instant(report.time)
    except (msgspec.ValidationError, Malformed) as e:
        raise Refusal("statement-malformed", f"report: {e}") from e
    if report.counter < 1 or len(report.components) > 64 or len(report.detail) > 1024:
        raise Refusal("statement-malformed", "report: counter, components or detail out of range")
    if len(report.steps) > _STEPS or sum(len(s.output) for s in report.steps) > _OUTPUT:
        raise Refusal("statement-malformed", "report: steps or their output out of range")
    return report
