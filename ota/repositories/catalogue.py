"""The image repository as the operator's side sees it: verified on every change of its timestamp.

Implements ``ports.Catalogue``. Expired timestamps do not blind the operator; releases whose
role has expired are not offered, since devices would not install them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ota.errors import Malformed, NotFound, Refusal
from ota.ports import ArtifactStore, Clock
from signing import layout, strict
from signing.approval import APPROVERS_PATH, Approvers
from signing.changes import approving
from signing.described import custom_of
from signing.image.change import APPROVERS_KIND
from signing.image.repository import Image
from signing.image.state import State
from signing.memory import Memory
from signing.playbooks.target import PlaybookTarget
from signing.policy import Policy
from signing.release import Release

_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class _Seen:
    timestamp: bytes
    state: State
    approvers: Approvers


class StoreCatalogue:
    """Reads through a store; ``anchor`` gives the operator's own newest image root.

    ``memory`` is what this workspace has seen: approvers who were removed do not come back.
    """

    def __init__(
        self,
        policy: Policy,
        store: ArtifactStore,
        anchor: Callable[[], bytes | None],
        clock: Clock,
        memory: Memory | None = None,
    ) -> None:
        self._memory = memory
        self._policy = policy
        self._store = store
        self._anchor = anchor
        self._clock = clock
        self._seen: _Seen | None = None

    def releases(self) -> Mapping[str, Release]:
        """Target path -> release, for every listed and unexpired release."""
        return self._read().state.releases(self._clock())

    def playbooks(self) -> Mapping[str, PlaybookTarget]:
        """Target path -> playbook, for every listed and unexpired one."""
        return self._read().state.playbooks(self._clock())

    def snapshot_version(self) -> int:
        """Version of the image snapshot that lists them."""
        return self._read().state.client.snapshot.version

    def approvers(self) -> Approvers:
        """Who may author and approve plans, as the image repository's targets role says."""
        return self._read().approvers

    def _read(self) -> _Seen:
        timestamp = self._store.get(layout.image_metadata("timestamp.json"), _LIMIT)
        if self._seen is not None and self._seen.timestamp == timestamp:
            return self._seen
        image = Image(self._policy, self._store.get, self._anchor(), self._memory)
        state = image.state(self._clock())
        if state is None:
            raise NotFound(
                "the image repository was never published",
                subject="image",
                remedy="ota repo create, sign and publish",
            )
        read = state.client.cache()["timestamp.json"]
        self._seen = _Seen(read, state, _approvers(state, self._store))
        return self._seen


def _approvers(state: State, store: ArtifactStore) -> Approvers:
    """The content of ``workspace/approvers.json``; only top-level targets may list it."""
    target = state.targets.targets.get(APPROVERS_PATH)
    if target is None or custom_of(target).get("kind") != APPROVERS_KIND:
        raise Refusal("not-listed", f"{APPROVERS_PATH} is not listed as approvers")
    name = layout.image_target(APPROVERS_PATH, target.hashes.get("sha256", ""))
    data = store.get(name, target.length)
    if data is None or len(data) != target.length or strict.digest(data) != target.hashes["sha256"]:
        raise Refusal("image-mismatch", f"{APPROVERS_PATH} is missing or has other bytes")
    try:
        return approving.read(data)
    except Malformed as e:
        raise Refusal("release-malformed", str(e)) from e
