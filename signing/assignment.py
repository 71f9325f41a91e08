"""An assignment: one component of one device -> one release, a target of its director.

The director repeats, signed, what the image repository says (counter, hashes) and adds what
only operations know (order, wave, kind, the least image snapshot that lists it, its end).
The device compares both; see ``ota/agent/trust.py``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from tuf.api.metadata import TargetFile

from signing import strict
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.release import check_numbers, custom_of, split_path

ORDER = strict.ORDER
"""``ota-<rollout>-<u|r><attempt>-w<wave>-b<batch>`` (DESIGN section 9)."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order's content for one component, as the director signs it.

    ``least_image_snapshot`` is the smallest image snapshot version that lists the release: a
    device that sees an older one is behind (``image-stale``), not attacked. ``not_after`` is
    RFC 3339 UTC. ``clear_denial`` lifts this device's own denial of exactly this release.
    """

    path: str
    length: int
    hashes: dict[str, str]
    component: str
    hardware_id: str
    release_counter: int
    rollout: str
    wave: int
    order: str
    kind: Literal["update", "rollback"]
    least_image_snapshot: int
    not_after: str
    clear_denial: bool = False

    @property
    def sha256(self) -> str:
        """The hash of the assigned image."""
        return self.hashes["sha256"]

    @property
    def ends(self) -> datetime:
        """``not_after`` as an aware datetime."""
        return strict.instant(self.not_after, "not_after")

    def __post_init__(self) -> None:
        """Refuse a malformed assignment (``Malformed``)."""
        split_path(self.path, self.component)
        if self.component == PLAYBOOKS:
            raise Malformed("component: a playbook is run, not installed", subject=self.path)
        strict.identifier(self.hardware_id, "hardware_id")
        strict.identifier(self.rollout, "rollout")
        check_numbers(self.path, self.release_counter, self.length, self.hashes)
        if not ORDER.fullmatch(self.order):
            raise Malformed(f"order: {self.order!r:.80} is not an order id", subject=self.path)
        if self.wave < 0 or self.least_image_snapshot < 1:
            raise Malformed("wave or least_image_snapshot is out of range", subject=self.path)
        strict.instant(self.not_after, "not_after")

    def to_target(self) -> TargetFile:
        """The director target that signs this assignment."""
        custom = msgspec.to_builtins(self)
        for name in ("path", "length", "hashes"):
            del custom[name]
        return TargetFile(self.length, dict(self.hashes), self.path, {"custom": custom})

    @classmethod
    def from_target(cls, target: TargetFile) -> Assignment:
        """Read a verified director target; unknown fields or types raise ``Malformed``."""
        body = custom_of(target) | {
            "path": target.path,
            "length": target.length,
            "hashes": target.hashes,
        }
        try:
            return msgspec.convert(body, cls, strict=True)
        except msgspec.ValidationError as e:
            raise Malformed(f"{target.path}: {e}", subject=target.path) from e
