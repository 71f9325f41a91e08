"""A release: one image plus its signed description, a target in the image repository.

Three numbers, never mixed (DESIGN rule 1): the *metadata version* belongs to TUF; the
*release counter* is this release's security epoch and is compared with the device's floor;
the *display version* is for people and is never compared.

>>> Release(path="app/app-1.0.0.tar.gz", component="app", version="1.0.0",
...         hardware_ids=("gw-rev-b",), release_counter=1, format="tar",
...         length=3, hashes={"sha256": "..."})
"""

from __future__ import annotations

from typing import Any, Literal, Self

from tuf.api.metadata import TargetFile

from signing import strict
from signing.described import Described
from signing.errors import Malformed
from signing.layout import PLAYBOOKS

Format = Literal["file", "tar", "zip"]
"""``file``: opaque bytes; ``tar``: tar, plain or gz/xz/bz2; ``zip``: zip, wheels included."""

MAX_COUNTER = 2**31 - 1


class Release(Described, frozen=True, kw_only=True):
    """The signed description (``custom`` of the image target) plus path, length and hashes."""

    component: str
    version: str
    hardware_ids: tuple[str, ...]
    release_counter: int
    format: Format
    security_fix: bool = False
    notes: str = ""
    kind: str = "release"

    @property
    def short(self) -> str:
        """``COMPONENT@VERSION``."""
        return f"{self.component}@{self.version}"

    def __post_init__(self) -> None:
        """Refuse a description that breaks DESIGN rules 3 and 14 (``Malformed``)."""
        split_path(self.path, self.component)
        if self.component == PLAYBOOKS:
            raise Malformed(f"component: {PLAYBOOKS} lists playbooks only", subject=self.path)
        strict.version_text(self.version, "version")
        if not self.hardware_ids:
            raise Malformed("hardware_ids: at least one is needed", subject=self.path)
        for item in self.hardware_ids:
            strict.identifier(item, "hardware_ids")
        check_numbers(self.path, self.release_counter, self.length, self.hashes)
        if len(self.notes) > 4096:
            raise Malformed("notes: longer than 4096 characters", subject=self.path)

    def to_target(self) -> TargetFile:
        """The TUF target that signs this description; of what is usual, nothing is said.

        Where nothing is said there are no notes, and it is no security fix: a hundred thousand
        releases are a tenth smaller so, and with them what a device fetches.
        """
        custom: dict[str, Any] = {
            "kind": self.kind,
            "component": self.component,
            "version": self.version,
            "hardware_ids": list(self.hardware_ids),
            "release_counter": self.release_counter,
            "format": self.format,
        }
        if self.security_fix:
            custom["security_fix"] = True
        if self.notes:
            custom["notes"] = self.notes
        return TargetFile(self.length, dict(self.hashes), self.path, {"custom": custom})

    @classmethod
    def from_target(cls, target: TargetFile) -> Self:
        """Read a verified target; raise ``Malformed`` when the description is incomplete.

        Unknown ``custom`` fields are kept out but allowed: later versions sign more
        (``sbom``, ``provenance``, ``deltas``) and older devices must still update.
        """
        return cls._known(target)


def split_path(path: str, component: str | None = None) -> tuple[str, str]:
    """``app/x.bin`` -> ``("app", "x.bin")``; exactly two safe segments, else ``Malformed``."""
    head, slash, tail = path.partition("/")
    if not slash:
        raise Malformed(f"path: {path!r:.80} is not <component>/<file>", subject=path)
    strict.identifier(head, "path")
    strict.file_name(tail, "path")
    if component is not None and head != component:
        raise Malformed(f"path: {path!r:.80} is not in component {component!r}", subject=path)
    return head, tail


def check_numbers(path: str, counter: int, length: int, hashes: dict[str, str]) -> None:
    """Counter in 0..2^31-1, length in 1..2^50, sha256 present and every hash lower-case hex."""
    if not 0 <= counter <= MAX_COUNTER:
        raise Malformed(f"release_counter: {counter} is out of range", subject=path)
    if not 1 <= length <= 2**50:
        raise Malformed(f"length: {length} is out of range", subject=path)
    if not strict.SHA256.fullmatch(hashes.get("sha256", "")):
        raise Malformed("hashes: sha256 is missing or malformed", subject=path)
