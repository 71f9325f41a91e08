"""What the image repository signs of a playbook: a target beside its name, version and platforms.

A playbook is never a release and a release never a playbook: their kinds, paths and roles differ,
and each side checks all three.

>>> describe(playbook).path
'playbooks/restart-service-1.0.0.json'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from tuf.api.metadata import TargetFile, Targets

from signing import strict
from signing.described import Described
from signing.errors import Malformed, Refusal
from signing.layout import PLAYBOOKS
from signing.playbooks import playbook as playbooks
from signing.playbooks.playbook import LIMIT, Playbook, Road
from signing.release import check_numbers, split_path


class PlaybookTarget(Described, frozen=True, kw_only=True):
    """The signed description (``custom`` of the image target) plus path, length and hashes."""

    name: str
    version: str
    summary: str
    platforms: tuple[str, ...]
    roads: tuple[Road, ...]
    component: str = PLAYBOOKS
    kind: Literal["playbook"] = "playbook"

    @property
    def short(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    def __post_init__(self) -> None:
        """Refuse a description whose path, name, version and component disagree (``Malformed``)."""
        split_path(self.path, self.component)
        if self.component != PLAYBOOKS or self.path != playbooks.path_of(self.name, self.version):
            raise Malformed(f"{self.path}: is not where {self.short} belongs", subject=self.path)
        check_numbers(self.path, 0, self.length, self.hashes)
        if self.length > LIMIT:
            raise Malformed(f"{self.path}: longer than {LIMIT} bytes", subject=self.path)

    @classmethod
    def from_target(cls, target: TargetFile) -> Self:
        """Read a verified target; ``Malformed`` when the description is not one of a playbook.

        Unknown ``custom`` fields are allowed, as in releases.
        """
        return cls._known(target)


def describe(playbook: Playbook) -> PlaybookTarget:
    """The description of a playbook as it is signed."""
    data = playbooks.encode(playbook)
    return PlaybookTarget(
        path=playbook.path,
        name=playbook.name,
        version=playbook.version,
        summary=playbook.summary,
        platforms=playbook.platforms,
        roads=playbook.roads,
        length=len(data),
        hashes={"sha256": strict.digest(data)},
    )


def playbooks_of(role: Targets) -> dict[str, PlaybookTarget]:
    """Everything that the role of playbooks lists; ``Refusal`` for what is no playbook."""
    found = {}
    for path, playbook in _judged(role):
        if isinstance(playbook, Refusal):
            raise playbook
        found[path] = playbook
    return found


def fitting(role: Targets) -> dict[str, PlaybookTarget]:
    """The same, without what is refused: one bad description stops no other playbook."""
    return {path: found for path, found in _judged(role) if not isinstance(found, Refusal)}


def _judged(role: Targets) -> Iterator[tuple[str, PlaybookTarget | Refusal]]:
    for path, target in role.targets.items():
        try:
            yield path, PlaybookTarget.from_target(target)
        except Malformed as e:
            yield path, Refusal("playbook-malformed", str(e), subject=path)


def content(target: PlaybookTarget, data: bytes) -> Playbook:
    """The playbook that these bytes are, if they are the signed ones and say the same.

    Raises ``Refusal`` ``image-mismatch`` or ``playbook-malformed``.
    """
    if len(data) != target.length or strict.digest(data) != target.sha256:
        raise Refusal("image-mismatch", f"{target.path}: not the signed bytes", subject=target.path)
    try:
        found = playbooks.read(data, target.path)
    except Malformed as e:
        raise Refusal("playbook-malformed", str(e), subject=target.path) from e
    said: Mapping[str, object] = {n: getattr(target, n) for n in _SAID}
    if said != {n: getattr(found, n) for n in _SAID}:
        raise Refusal("playbook-malformed", f"{target.path}: content and description differ")
    return found


_SAID = ("path", "name", "version", "summary", "platforms", "roads")
