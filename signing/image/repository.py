"""The image repository: what *may* run. Edited offline by thresholds, closed online.

:class:`Image` reads and edits as ``edits.py`` says, and closes: a signed change becomes an
edition, proven to verify before anyone may publish it. With a new root, :meth:`Image.bridge` goes
first, so that a device finds everything in order under the root that it knows.

>>> image = Image(policy, store.get, root, memory)
>>> edition = image.close(pending, {"snapshot": [key], "timestamp": [key]}, now)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from signing import closing, repository
from signing.changes.ceremony import Pending
from signing.changes.founded import refuse_unfounded
from signing.closing import Closing, Online
from signing.edition import Edition
from signing.errors import Malformed, NotFound
from signing.image.change import Change
from signing.image.edits import ImageEdits, unpublished
from signing.image.state import State

Signers = Mapping[str, Sequence[Signer]]
"""Online role (``snapshot``, ``timestamp``) -> its signers."""


class Image(ImageEdits):
    """The image repository of one workspace; see :class:`~signing.image.edits.ImageEdits`."""

    def refresh(self, online: Signers, now: datetime, *, renew: bool | None = None) -> Edition:
        """A fresh timestamp; the snapshot, too, past two thirds of its life (or ``renew``).

        ``online``: role (``snapshot``, ``timestamp``) -> its signers.
        """
        state = self.state(now)
        if state is None:
            raise unpublished()
        renewed = self._due(state, now) if renew is None else renew
        return self._finish(state, self._trust(), Closing({}, {}, renewed), online, now)

    def close(
        self,
        pending: Pending,
        online: Signers,
        now: datetime,
        foreign: Iterable[str] = (),
        *,
        stolen: bool = False,
    ) -> Edition | None:
        """A signed change as an edition, proven to verify; None when all of it is published.

        ``foreign``: key ids of the director's root. ``stolen``: the online keys that the change
        replaces are a thief's, so that what lies in the store may be unreadable.
        Raises ``NeedsHuman`` (unsigned), ``Busy`` (``stale-base``), ``Refusal``, ``Stale``.
        """
        state = self.state(now)
        edit = Change(self._policy, self._place, state, pending, now)
        done = edit.published()
        if done == set(pending.roles):
            return None
        finished = self._finished(edit, pending, state, foreign)
        root = finished.pop("root", None)
        anchor = self._root if self._root is not None else root
        if anchor is None:
            raise Malformed("pending change: a first change without a root", subject="image")
        closed = Closing(
            finished,
            {edit.trusted_root().version: root} if root is not None else {},
            renew=root is not None,
            uploads=pending.to_upload() if finished else (),
            files=_files(pending) if finished else (),
            recover=stolen,
            above=pending.above,
            dormant=pending.dormant,
        )
        return self._finish(state, anchor, closed, online, now)

    def bridge(
        self, pending: Pending, online: Signers, now: datetime, foreign: Iterable[str] = ()
    ) -> Edition | None:
        """What can be public before the new root of a change is, so that no reader is stranded.

        Signed by old and new online keys, with those roles that hold under both roots. None
        when the published metadata hold under the new root as they are.
        """
        state = self.state(now)
        if state is None or "root" not in pending.roles:
            return None
        edit = Change(self._policy, self._place, state, pending, now)
        done = edit.published()
        finished = self._finished(edit, pending, state, foreign)
        if "root" in done:
            return None
        finished.pop("root")
        data = finished.get(Targets.type)
        if data is not None and not repository.holds(state.client.root, Targets.type, data):
            finished = {}
        cache, root = state.client.verified(), edit.trusted_root()
        if not finished and all(
            repository.holds(root, n, cache[f"{n}.json"]) for n in ("snapshot", "timestamp")
        ):
            return None
        closed = Closing(
            finished,
            {},
            renew=True,
            uploads=pending.to_upload() if finished else (),
            files=_files(pending) if finished else (),
        )
        return self._finish(state, self._trust(), closed, online, now)

    def _finished(
        self, edit: Change, pending: Pending, state: State | None, foreign: Iterable[str]
    ) -> dict[str, bytes]:
        """Bytes of the roles that are not public yet, after every check that needs no proof."""
        edit.refuse_stale()
        finished = pending.finished()
        refuse_unfounded(edit, pending, state)
        root, targets = edit.trusted_root(), edit.standing(Targets.type)
        if self._root is None:
            self.refuse_other_root(root)
        repository.refuse_shared(repository.key_ids(root, targets), foreign)
        done = edit.published()
        return {name: data for name, data in finished.items() if name not in done}

    def _trust(self) -> bytes:
        if self._root is None:
            raise NotFound("the image repository does not exist yet", remedy="ota repo create")
        return self._root

    def _finish(
        self,
        state: State | None,
        anchor: bytes,
        closed: Closing,
        signers: Signers,
        now: datetime,
    ) -> Edition:
        policy = self._policy.image
        online = Online(
            snapshot=signers["snapshot"],
            timestamp=signers["timestamp"],
            snapshot_life=policy.snapshot.expires,
            timestamp_life=policy.timestamp.expires,
            extra={},
        )
        before = state.client if state else None
        return closing.close(self._place, before, anchor, closed, online=online, now=now)

    def _due(self, state: State, now: datetime) -> bool:
        """Whether the snapshot is past two thirds of its life."""
        return state.client.snapshot.expires - now < self._policy.image.snapshot.expires / 3


def _files(pending: Pending) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, text.encode()) for name, text in sorted(pending.files.items()))
