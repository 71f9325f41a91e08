"""The director repositories, one per device: what it *shall* run now, signed online.

All devices share ``director/root/N.root.json``, signed by a threshold offline; timestamp,
snapshot and targets are each device's own and name it in a signed field ``device``. One targets
file merges the assignments of all components; there are no delegations.

The key is online, so what it signs is bound twice: :meth:`Director.assign` takes an
:class:`~signing.approval.Authorisation` and refuses whatever the approved plan does not say (rule
15), and devices compare with the image repository whatever this key signs (rule 12).

Every method reads and verifies the device's metadata from the root up, and returns an edition
that was proven to verify, or None when there is nothing to change.

>>> edition = Director(policy, store.get, root, signer).assign(authorisation, "gw-1", a, now)
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Targets

from signing import authority, closing, layout, repository, strict
from signing.approval import Authorisation
from signing.client.workflow import TufClient
from signing.closing import Closing, Online
from signing.director.memory import DirectorMemory
from signing.edition import Edition, Reader
from signing.errors import Malformed, NotFound, Outage, Refusal, Stale
from signing.playbooks.run import Assigned, read_assigned
from signing.policy import Policy
from signing.report import Versions
from signing.repository import Place

ONLINE_ROLES = ("timestamp", "snapshot", "targets")
_NONE = Versions()
_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class DirectorState:
    """One device's director metadata as verified; ``expires`` is its timestamp's.

    Until ``expires`` a courier can replay this state to the device.
    """

    device: str
    versions: Versions
    assignments: Mapping[str, Assigned]
    expires: datetime


class Director:
    """Builds editions for one device at a time.

    ``root`` is the operator's own director root (any verified version). ``online`` and ``more``
    reach the online threshold together. ``memory``: what this workspace has seen of each device;
    without one a store could show an older state, and this would sign it anew.
    """

    def __init__(
        self,
        policy: Policy,
        reader: Reader,
        root: bytes,
        online: Signer,
        *more: Signer,
        memory: DirectorMemory | None = None,
    ) -> None:
        self._memory = memory
        self._policy = policy.director
        self._reader = reader
        self._root = root
        self._signers = (online, *more)

    # -- reading -------------------------------------------------------------------------------
    def read(self, device: str, now: datetime) -> DirectorState:
        """What the device's current metadata says, verified; expiry is not asked.

        Raises ``NotFound`` for a device without metadata, ``Refusal`` for tampered or older ones.
        """
        return _state(device, self._unchanged(device) or self._open(device, now))

    def check(self, device: str, now: datetime) -> None:
        """Read every byte that the device would, as a new one does, and not older than was seen.

        Raises as :meth:`read` does, and ``Stale``.
        """
        place = replace(self._place(device), memory=None)
        client = repository.opened(place, self._root, now, check_expiry=True)
        if client is not None:
            _state(device, client)
        self._open(device, now)

    def _unchanged(self, device: str) -> TufClient | None:
        """The remembered set, if the store's timestamp is still the same bytes: one request.

        A memory that a disk has damaged is not the store's fault: then all of it is read again.
        """
        place = self._place(device)
        known = place.memory.load() if place.memory else {}
        if known.get("root.json") != self._root or "timestamp.json" not in known:
            return None
        if place.fetch("timestamp.json", repository.TIMESTAMP) != known["timestamp.json"]:
            return None
        with contextlib.suppress(Refusal, Outage):
            return repository.remembered(place)
        return None

    def _place(self, device: str) -> Place:
        strict.identifier(device, "device")
        return Place(
            f"director/{device}",
            self._reader,
            lambda file: layout.director_metadata(device, file),
            self._memory.of(device) if self._memory else None,
        )

    def _open(self, device: str, now: datetime) -> TufClient:
        client = repository.opened(self._place(device), self._root, now)
        if client is None:
            raise NotFound(
                f"device {device} has no director metadata",
                subject=device,
                remedy="ota fleet register",
            )
        return client

    # -- editing -------------------------------------------------------------------------------
    def register(self, device: str, now: datetime) -> Edition | None:
        """First metadata of a device: empty targets. None when it has some."""
        place = self._place(device)
        if repository.opened(place, self._root, now) is not None:
            return None
        return self._edition(device, None, {}, now)

    def assign(
        self, authorisation: Authorisation, device: str, assignment: Assigned, now: datetime
    ) -> Edition | None:
        """Assign one component; other components stay. None when exactly this is assigned.

        Raises ``Refusal`` ``outside-plan`` or ``approval-expired`` before anything is signed.
        """
        authority.check(authorisation, device, assignment, now)
        client = self._open(device, now)
        assigned = dict(_state(device, client).assignments)
        if assigned.get(assignment.component) == assignment:
            return None
        assigned[assignment.component] = assignment
        return self._edition(device, client, assigned, now)

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> Edition | None:
        """Take the assignments of these orders back. None when there is none of them."""
        client = self._open(device, now)
        assigned = _state(device, client).assignments
        kept = {c: a for c, a in assigned.items() if a.order not in orders}
        return None if len(kept) == len(assigned) else self._edition(device, client, kept, now)

    def refresh(self, device: str, now: datetime) -> Edition:
        """A new timestamp; targets and snapshot, too, when they would end before it."""
        client = self._open(device, now)
        state = _state(device, client)
        life = self._online(device, state.assignments.values(), now).timestamp_life
        ends = min(client.targets.expires, client.snapshot.expires)
        if ends < now + life:
            return self._edition(device, client, state.assignments, now)
        return self._close(device, client, Closing({}, {}), state.assignments.values(), now)

    # -- new keys, lost versions -----------------------------------------------------------------
    def holds_under(self, device: str, root: Root, now: datetime) -> bool:
        """Whether the device's metadata, as it is, would verify under this root, too."""
        cache = self._open(device, now).cache()
        return all(repository.holds(root, name, cache[f"{name}.json"]) for name in ONLINE_ROLES)

    def resign(self, device: str, now: datetime, trust: bytes | None = None) -> Edition:
        """The same assignments, signed again by all of this director's keys.

        ``trust``: a root from before its online keys were replaced, for metadata that nothing
        newer holds for.
        """
        if trust is None:
            client = self._open(device, now)
            return self._edition(device, client, _state(device, client).assignments, now)
        place, root = self._place(device).under(trust)
        old = repository.opened(place, root, now)
        assigned = _state(device, old).assignments if old is not None else {}
        return self._edition(device, old, assigned, now, recover=True)

    def recover(self, device: str, now: datetime) -> Edition | None:
        """Metadata for a device after its online keys were stolen: nothing is assigned any more.

        What lies in the store is the thief's word and is not read; devices forget its versions with
        its keys. None when the metadata is signed by the new keys already.
        """
        place = self._place(device)
        try:
            if repository.opened(place, self._root, now) is not None:
                return None
        except (Refusal, Outage, Stale):
            pass
        return self._edition(device, None, {}, now, recover=True)

    def bump(self, device: str, by: int, seen: Versions, now: datetime) -> Edition:
        """The same assignments, ``by`` versions above what is here and what was ``seen``.

        A device whose metadata is lost gets new ones, assigning nothing.
        """
        place = replace(self._place(device), memory=None)
        client = repository.opened(place, self._root, now)
        state = _state(device, client) if client is not None else None
        here = state.versions if state else _NONE
        known = self._memory.of(device).versions() if self._memory else _NONE
        above = Versions(
            timestamp=max(here.timestamp, seen.timestamp, known.timestamp) + by,
            snapshot=max(here.snapshot, seen.snapshot, known.snapshot) + by,
            targets=max(here.targets, seen.targets, known.targets) + by,
        )
        return self._edition(device, client, state.assignments if state else {}, now, above=above)

    def _edition(
        self,
        device: str,
        client: TufClient | None,
        assigned: Mapping[str, Assigned],
        now: datetime,
        *,
        recover: bool = False,
        above: Versions = _NONE,
    ) -> Edition:
        after = max(client.targets.version if client else 0, above.targets)
        targets = Targets(
            closing.next_version(self._place(device), "targets", after),
            repository.SPEC,
            repository.until(now, self._policy.listed),
            {a.path: a.to_target() for _, a in sorted(assigned.items())},
        )
        targets.unrecognized_fields["device"] = device
        closed = Closing(
            {"targets": repository.signed_by(targets, self._signers)},
            {},
            recover=recover,
            above=(above.snapshot, above.timestamp),
        )
        return self._close(device, client, closed, assigned.values(), now)

    def _close(
        self,
        device: str,
        client: TufClient | None,
        closed: Closing,
        assigned: Iterable[Assigned],
        now: datetime,
    ) -> Edition:
        return closing.close(
            self._place(device),
            client,
            self._root,
            closed,
            online=self._online(device, assigned, now),
            now=now,
        )

    def _online(self, device: str, assigned: Iterable[Assigned], now: datetime) -> Online:
        live = any(a.ends > now for a in assigned)
        return Online(
            snapshot=self._signers,
            timestamp=self._signers,
            snapshot_life=self._policy.listed,
            timestamp_life=self._policy.open if live else self._policy.idle,
            extra={"device": device},
        )


def _state(device: str, client: TufClient) -> DirectorState:
    for signed in (client.timestamp, client.snapshot, client.targets):
        if signed.unrecognized_fields.get("device") != device:
            raise Refusal("director-wrong-device", f"metadata of {device} names another device")
    if client.targets.delegations is not None:
        raise Refusal("director-delegates", f"director targets of {device} delegate")
    assigned: dict[str, Assigned] = {}
    for target in client.targets.targets.values():
        try:
            assignment = read_assigned(target)
        except Malformed as e:
            raise Refusal("assignment-malformed", str(e), subject=device) from e
        if assignment.component in assigned:
            raise Refusal("component-repeated", f"{device}: {assignment.component} twice")
        assigned[assignment.component] = assignment
    versions = Versions(
        root=client.root.version,
        timestamp=client.timestamp.version,
        snapshot=client.snapshot.version,
        targets=client.targets.version,
    )
    return DirectorState(device, versions, assigned, client.timestamp.expires)
