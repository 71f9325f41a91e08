"""What a TUF target says of itself: path, length and hashes, and the rest, signed, in ``custom``.

Releases and playbooks (image repository), assignments and runs (director) are written and read
here alike. Unknown fields are ``Malformed`` unless a kind says otherwise.

>>> Release.from_target(release.to_target()) == release
True
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

import msgspec
from tuf.api.metadata import TargetFile

from signing import strict
from signing.errors import Malformed

_OUTSIDE = ("path", "length", "hashes")
"""What TUF itself says of a target; never in ``custom``."""


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One target; a kind of it adds its fields."""

    path: str
    length: int
    hashes: dict[str, str]

    @property
    def sha256(self) -> str:
        """The hash that names its bytes, in slots and stores."""
        return self.hashes["sha256"]

    def to_target(self) -> TargetFile:
        """The TUF target that signs it."""
        custom = msgspec.to_builtins(self)
        for name in _OUTSIDE:
            del custom[name]
        return TargetFile(self.length, dict(self.hashes), self.path, {"custom": custom})

    @classmethod
    def from_target(cls, target: TargetFile) -> Self:
        """Read a verified target; unknown fields or types raise ``Malformed``."""
        return cls._read(target, custom_of(target))

    @classmethod
    def _known(cls, target: TargetFile) -> Self:
        """The same, but fields that only later versions know are left out."""
        custom = custom_of(target)
        return cls._read(target, {n: custom[n] for n in cls.__struct_fields__ if n in custom})

    @classmethod
    def _read(cls, target: TargetFile, custom: dict[str, Any]) -> Self:
        body = custom | {name: getattr(target, name) for name in _OUTSIDE}
        try:
            return msgspec.convert(body, cls, strict=True)
        except msgspec.ValidationError as e:
            raise Malformed(f"{target.path}: {e}", subject=target.path) from e


class Ordered(Described, frozen=True, kw_only=True):
    """What a director lists: an order of a rollout's wave for one device.

    ``least_image_snapshot`` is the smallest image snapshot version that lists the target: a
    device that sees an older one is behind (``image-stale``), not attacked. ``not_after`` is
    RFC 3339 UTC.
    """

    rollout: str
    wave: int
    order: str
    least_image_snapshot: int
    not_after: str

    @property
    def ends(self) -> datetime:
        """``not_after`` as an aware datetime."""
        return strict.instant(self.not_after, "not_after")

    def check_order(self) -> None:
        """Order id (DESIGN section 9), rollout, wave and times (``Malformed``)."""
        strict.identifier(self.rollout, "rollout")
        if not strict.ORDER.fullmatch(self.order):
            raise Malformed(f"order: {self.order!r:.80} is not an order id", subject=self.path)
        if self.wave < 0 or self.least_image_snapshot < 1:
            raise Malformed("wave or least_image_snapshot is out of range", subject=self.path)
        strict.instant(self.not_after, "not_after")


def custom_of(target: TargetFile) -> dict[str, Any]:
    """The target's ``custom`` object, or ``Malformed`` when it has none."""
    custom = target.unrecognized_fields.get("custom")
    if not isinstance(custom, dict):
        raise Malformed(f"{target.path}: no custom description", subject=target.path)
    return custom
