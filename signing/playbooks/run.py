"""A run: one playbook, with its parameters, for one device; a target of its director.

The director says, signed, which device runs which playbook now, and with which values. Whoever
carries the news can neither start a signed playbook elsewhere nor change a value, and a run that
was done is not done again: its order is remembered until it has ended (``not_after``).

A device has at most one run at a time, beside the assignments of its components.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from tuf.api.metadata import TargetFile

from signing import strict
from signing.assignment import ORDER, Assignment
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.playbooks.playbook import LIMIT
from signing.playbooks.values import MAX_VALUE, NAME
from signing.release import check_numbers, custom_of, split_path


class PlaybookRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order to run a playbook, as the director signs it; see :class:`Assignment`.

    ``parameters`` has one value for each parameter of the playbook, defaults and computed ones
    included: a device chooses nothing.
    """

    path: str
    length: int
    hashes: dict[str, str]
    parameters: dict[str, str]
    rollout: str
    wave: int
    order: str
    least_image_snapshot: int
    not_after: str
    kind: Literal["playbook"] = "playbook"
    component: str = PLAYBOOKS

    @property
    def sha256(self) -> str:
        """The hash of the playbook's text."""
        return self.hashes["sha256"]

    @property
    def ends(self) -> datetime:
        """``not_after`` as an aware datetime."""
        return strict.instant(self.not_after, "not_after")

    def __post_init__(self) -> None:
        """Refuse a malformed order (``Malformed``)."""
        split_path(self.path, PLAYBOOKS)
        strict.identifier(self.rollout, "rollout")
        check_numbers(self.path, 0, self.length, self.hashes)
        if self.component != PLAYBOOKS or self.length > LIMIT:
            raise Malformed("component or length is not a playbook's", subject=self.path)
        if not ORDER.fullmatch(self.order):
            raise Malformed(f"order: {self.order!r:.80} is not an order id", subject=self.path)
        if self.wave < 0 or self.least_image_snapshot < 1:
            raise Malformed("wave or least_image_snapshot is out of range", subject=self.path)
        strict.instant(self.not_after, "not_after")
        if len(self.parameters) > 64:
            raise Malformed("parameters: more than 64", subject=self.path)
        for name, value in self.parameters.items():
            if not NAME.fullmatch(name) or len(value) > MAX_VALUE:
                raise Malformed(f"parameters: {name!r:.60} or its value", subject=self.path)

    def to_target(self) -> TargetFile:
        """The director target that signs this order."""
        custom = msgspec.to_builtins(self)
        for name in ("path", "length", "hashes"):
            del custom[name]
        return TargetFile(self.length, dict(self.hashes), self.path, {"custom": custom})


Assigned = Assignment | PlaybookRun
"""What a director's targets list for one device, by component or as the run."""


def read_assigned(target: TargetFile) -> Assigned:
    """A verified director target by its kind; ``Malformed`` for unknown fields, types or kinds."""
    custom = custom_of(target)
    if custom.get("kind") != "playbook":
        return Assignment.from_target(target)
    body = custom | {"path": target.path, "length": target.length, "hashes": target.hashes}
    try:
        return msgspec.convert(body, PlaybookRun, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{target.path}: {e}", subject=target.path) from e
