"""Reading the image repository of one workspace, verified from its own roots.

With a memory, nothing is older than what was seen before. While its timestamp is the same bytes,
what a process has verified once it does not verify again.

>>> ImageReads(policy, store.get, root, memory).state(now).releases()
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tuf.api.metadata import Root, Targets

from signing import layout, repository
from signing.edition import Reader
from signing.errors import Outage, Refusal, Stale
from signing.given import Given
from signing.image.state import Latest, State
from signing.memory import Memory
from signing.policy import Policy
from signing.repository import Place

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Expiry is not asked of operators, so the time of a plain read decides nothing."""


class ImageReads:
    """The image repository of one workspace, for reading.

    ``root`` is the operator's own newest root, or None before the first one is signed;
    ``memory`` is what this workspace has seen of the repository, ``given`` whose version numbers
    are taken, ``latest`` what this process has verified last. ``salvage``: where thieves of
    online keys have made the store unreadable, that memory is what is read.
    """

    def __init__(
        self,
        policy: Policy,
        reader: Reader,
        root: bytes | None,
        memory: Memory | None = None,
        *,
        given: Given | None = None,
        latest: Latest | None = None,
        salvage: bool = False,
    ) -> None:
        self._policy = policy
        self._place = Place("image", reader, layout.image_metadata, memory)
        if given is not None:
            self._place = replace(self._place, taken=given.highest)
        self._root = root
        self._latest = Latest() if latest is None else latest
        self._salvage = salvage

    def state(self, now: datetime, *, check_expiry: bool = False) -> State | None:
        """The verified repository, or None before the first publish."""
        if self._root is None:
            return None
        try:
            return self._verified(self._root, now, check_expiry=check_expiry)
        except (Refusal, Outage, Stale):
            client = repository.remembered(self._place) if self._salvage else None
            if client is None:
                raise
        return State.of(client)

    def _verified(self, root: bytes, now: datetime, *, check_expiry: bool) -> State | None:
        known = None if check_expiry else self._known(root)
        if known is not None:
            return known
        client = repository.opened(self._place, root, now, check_expiry=check_expiry)
        if client is None:
            return None
        state = State.of(client)
        if not check_expiry:
            self._latest.put(root, state)
        return state

    def _known(self, root: bytes) -> State | None:
        """What was verified last, if the store and the memory still say the same."""
        there = self._place.fetch("timestamp.json", repository.TIMESTAMP)
        memory = self._place.memory
        if memory is not None and memory.load().get("timestamp.json") != there:
            return None
        return self._latest.get(root, there)

    def targets(self) -> tuple[Root, Targets] | None:
        """Verified root and top-level targets, or None before the first publish."""
        state = self.state(_ANY_TIME)
        return None if state is None else (state.client.root, state.targets)
