"""The frozen, signed form of a rollout (DESIGN rule 7); what approves it: ``signing/approval.py``.

A plan is the exact bytes of a DSSE payload signed by its author.

Devices are rows of small integers into tables, so that 100,000 of them fit in a few megabytes.
Durations are whole seconds; shares are whole percent of the wave, written ``"5%"``. Bounds stand
beside the fields and hold when a plan is read: an author who signs what can not be driven is
refused before anything begins, not in the middle of a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from securesystemslib.signer import Signer

from signing import statement, strict
from signing.errors import Malformed, Refusal
from signing.layout import PLAYBOOKS
from signing.playbooks.target import PlaybookTarget
from signing.release import Release

Name = Annotated[str, msgspec.Meta(pattern=rf"^{strict.IDENTIFIER.pattern}\Z")]
RolloutId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,27}\Z")]
"""20 characters of slug, a hyphen, 6 random ones: order ids stay within 64 (DESIGN section 9)."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86400)]
Cap = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Budget = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Share = Annotated[str, msgspec.Meta(pattern=r"^(100|[1-9]?[0-9])%\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1024)]


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """Names one installation of this product: SHA-256 of both first roots."""

    image_root: str
    director_root: str


class DeviceRow(msgspec.Struct, frozen=True, array_like=True):
    """One device in a wave; ``image`` and ``origin`` index the plan's tables.

    ``origin`` is -1 when what the device runs is unknown or unmanaged: it has no way back.
    """

    device: Name
    image: int
    origin: int
    courier: int = 0


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices of a wave may end badly: a count, or a share such as ``"5%"``."""

    min_sample: Budget | Share = 1
    failed: Budget | Share = 0
    reverted: Budget | Share = 0
    refused: Budget | Share = 0
    stale: Budget | Share = 0
    unreachable: Budget | Share = 0
    silent: Budget | Share = 0


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: ``deadline`` counts from its first order, ``soak`` from its last commit."""

    name: Name
    devices: tuple[DeviceRow, ...]
    soak: Seconds
    deadline: Seconds
    gate: Gate


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Caps on the engine: devices in flight at once, devices in one order, and per group."""

    in_flight: Cap = 100
    batch: Cap = 50
    order_lifetime: Seconds = 7 * 86400
    group_by: Text = ""
    max_unavailable: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class PlannedPlaybook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The playbook that every device of the plan runs, with one value for each parameter."""

    target: PlaybookTarget
    parameters: dict[str, str]


class Excluded(msgspec.Struct, frozen=True, array_like=True):
    """A device that the selector matched and the plan leaves out, with the reason."""

    device: Name
    reason: Text


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The plan. ``images`` are what devices get, ``origins`` what they run now (``from``).

    ``clear_denials``: devices try an image again that failed its health there before (rule 8).
    With a ``playbook`` there are no images, and there is no way back.
    """

    schema: Literal[1]
    rollout: RolloutId
    workspace: Workspace
    created: str
    expires: str
    component: Name
    images: tuple[Release, ...]
    origins: tuple[Release, ...]
    couriers: tuple[Name, ...]
    waves: tuple[Wave, ...]
    excluded: tuple[Excluded, ...]
    limits: Limits
    tail_until: str
    on_failure: Literal["rollback", "hold"] = "rollback"
    supersedes: tuple[Name, ...] = ()
    clear_denials: bool = False
    playbook: PlannedPlaybook | None = None
    groups: dict[Name, Text] = msgspec.field(default_factory=dict)

    @cached_property
    def rows(self) -> Mapping[str, tuple[int, DeviceRow]]:
        """Device id -> (wave index, row)."""
        return {r.device: (i, r) for i, wave in enumerate(self.waves) for r in wave.devices}

    def image(self, row: DeviceRow) -> Release:
        """What this device is to run."""
        return self.images[row.image]

    def target(
        self, row: DeviceRow, kind: Literal["update", "rollback"]
    ) -> Release | PlaybookTarget | None:
        """What this device's order names, forward or on the way back."""
        if kind == "rollback":
            return self.origin(row)
        return self.playbook.target if self.playbook is not None else self.image(row)

    @property
    def sends(self) -> tuple[Release | PlaybookTarget, ...]:
        """Everything that this plan sends out."""
        return self.images if self.playbook is None else (self.playbook.target,)

    def signs(
        self, kind: Literal["update", "rollback"]
    ) -> Literal["update", "rollback", "playbook"]:
        """The kind of what the director signs for an order forward or back."""
        return "playbook" if self.playbook is not None and kind == "update" else kind

    def origin(self, row: DeviceRow) -> Release | None:
        """What this device ran when the plan was made, the only way back (rule 7)."""
        return self.origins[row.origin] if row.origin >= 0 else None


def sign_plan(plan: Plan, author: Signer) -> bytes:
    """Freeze and sign: the returned bytes are the plan for ever."""
    return statement.sign("plan", msgspec.json.encode(plan), author)


def read_plan(found: statement.Statement) -> Plan:
    """Typed body of a plan statement; ``Refusal("statement-malformed")`` otherwise."""
    try:
        plan = msgspec.json.decode(found.payload, type=Plan, strict=True)
        for text in (plan.created, plan.expires, plan.tail_until):
            strict.instant(text)
    except (msgspec.MsgspecError, Malformed) as e:
        raise Refusal("statement-malformed", f"plan: {e}") from e
    _check_rows(plan)
    _check_playbook(plan)
    return plan


def _check_rows(plan: Plan) -> None:
    if len(plan.rows) != sum(len(w.devices) for w in plan.waves):
        raise Refusal("statement-malformed", "plan: a device stands in two waves")
    for device, (_, row) in plan.rows.items():
        in_tables = (
            0 <= row.image < (len(plan.images) if plan.playbook is None else 1)
            and -1 <= row.origin < len(plan.origins)
            and 0 <= row.courier < len(plan.couriers)
        )
        if not in_tables:
            raise Refusal("statement-malformed", f"plan: bad row for {device!r:.80}")
    for item in (*plan.images, *plan.origins):
        if item.kind != "release" or item.component != plan.component:
            what = f"{item.path} is a {item.kind} of {item.component}"
            raise Refusal(
                "statement-malformed", f"plan: {what!r:.300}; {plan.component} is updated"
            )


def _check_playbook(plan: Plan) -> None:
    """A plan of a playbook names no image and no way back, and the other way round."""
    runs = plan.playbook is not None
    if runs != (plan.component == PLAYBOOKS):
        raise Refusal("statement-malformed", f"plan: a playbook and component {plan.component}")
    if runs and (plan.images or plan.origins or plan.on_failure != "hold" or plan.clear_denials):
        raise Refusal("statement-malformed", "plan: a playbook with images, or with a way back")
