"""One refresh of one TUF repository: the client workflow without any I/O of its own.

python-tuf's ``TrustedMetadataSet`` does every check of signatures, versions, hashes and expiry;
this module feeds it in the order of the TUF specification, section 5, and adds what a device
needs beyond it:

* the time is an argument, so that a wrong wall clock can not decide (``reference_time``);
* the cache goes in as bytes and comes out as bytes: nothing is stored unless the caller, after
  checks of its own, adopts it. New roots are the exception: ``keep_root`` gets each one as soon
  as it is verified, so that a device which slept through hundreds of them arrives;
* one version number with two contents is refused as equivocation, once the signature holds;
* version memory is dropped for roles whose keys the root replaced (section 5.3.11), compared
  with the root under which that memory was made;
* every object is limited in size, and a missing one is an outage, never "nothing to do".

The trusted set is a private module of python-tuf; this is the only place that imports it, and
``tests/test_architecture.py`` sees that it is there.

>>> client = TufClient(cache, fetch, now)     # cache["root.json"] is the trust anchor
>>> client.refresh()
>>> client.find("app/app-1.0.0.tar").target.length
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tuf.api import exceptions as tuf
from tuf.api.metadata import Key, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from signing import distinct, layout, strict
from signing.client.beyond import stands
from signing.client.cache import Cache
from signing.client.errors import BROKEN, signed_bytes, translated
from signing.errors import Outage, Refusal, Stale

Fetch = Callable[[str, int], bytes | None]
"""(file name, limit in bytes) -> bytes; None when the store says 403 or 404; raises Outage."""

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """Bytes of each file, roots per refresh, roles visited per look-up.

    Whoever lists a file says how long it is, and need not sign what stands there; reading JSON
    takes up to forty times its length. So these hold whatever length is listed.
    """

    root: int = 512_000
    timestamp: int = 16_384
    snapshot: int = 2_000_000
    targets: int = 4_000_000
    rotations: int = 1024
    delegations: int = 32


@dataclass(frozen=True)
class Found:
    """A target, the chain of roles that vouches for it, ``("targets", "app")``, and the last one.

    ``target`` is what that role, ``by``, lists of it; see ``signing/shared.py`` for a whole one.
    """

    target: TargetFile
    roles: tuple[str, ...]
    by: Targets


class TufClient:
    """Loads and verifies one repository; see the module for the rules.

    ``cache`` maps plain names (``root.json``, ``timestamp.json``, ``snapshot.json``,
    ``<role>.json``) to bytes; ``root.json`` is required. ``bootstrap`` is a newer root that was
    verified before, if the cache is older than it. ``check_role`` is asked about each targets role
    (its name, and what was verified) and may raise; ``keep_role`` gets each that was fetched and
    stands (plain name, bytes). ``check_expiry=False`` is for publishers,
    who must open what has expired in order to renew it. ``two_contents=True`` tolerates one
    version with two contents as the TUF specification does (5.4.3.1: keep the old one).

    ``served`` is the store's own copy of the timestamp, which may differ from the known one in what
    is not signed (a signature more, a space): whoever replaces it must name it as it is.

    Raises ``Refusal`` (codes of ``signing.refusals``), ``Stale`` or ``Outage``.
    """

    def __init__(
        self,
        cache: Mapping[str, bytes],
        fetch: Fetch,
        now: datetime,
        *,
        bootstrap: bytes | None = None,
        keep_root: Callable[[int, bytes], None] | None = None,
        keep_role: Callable[[str, bytes], None] | None = None,
        check_role: Callable[[str, Targets], None] | None = None,
        limits: Limits | None = None,
        check_expiry: bool = True,
        two_contents: bool = False,
    ) -> None:
        self._two_contents = two_contents
        self._cache = Cache(cache)
        self._new = self._cache.new
        self._fetch = fetch
        self._keep_root = keep_root
        self._keep_role = keep_role
        self._check_role = check_role
        self._limits = limits or Limits()
        self._time = now if check_expiry else _BEFORE_ALL
        self.served: bytes | None = None
        self._new["root.json"] = bootstrap if bootstrap is not None else cache["root.json"]
        with translated("root"):
            self._set = TrustedMetadataSet(self._new["root.json"], EnvelopeType.METADATA)
            self._memory_root = self._set.root
            memory = cache.get("root.json")
            if memory is not None and memory != self._new["root.json"]:
                self._memory_root = Metadata[Root].from_bytes(memory).signed
        self._set.reference_time = self._time

    # -- what is trusted now -------------------------------------------------------------------
    @property
    def root(self) -> Root:
        """The newest verified root."""
        return self._set.root

    @property
    def timestamp(self) -> Timestamp:
        """The verified timestamp."""
        return self._set.timestamp

    @property
    def snapshot(self) -> Snapshot:
        """The verified snapshot."""
        return self._set.snapshot

    @property
    def targets(self) -> Targets:
        """The verified top-level targets."""
        return self._set.targets

    def keys(self) -> list[Key]:
        """Every key that the root names, and top-level targets once it is read."""
        top = self._set.get(Targets.type)
        delegations = top.delegations if isinstance(top, Targets) else None
        return [*self.root.keys.values(), *(delegations.keys.values() if delegations else ())]

    def verified(self) -> dict[str, bytes]:
        """What this refresh has verified so far, by plain name."""
        return dict(self._new)

    def cache(self, *, every_bin: bool = True) -> Mapping[str, bytes]:
        """What to keep for the next refresh: verified bytes, and older ones still listed.

        Without ``every_bin``, hash bins that nobody visited are left out where their delegator
        was visited: a device would collect them, a release at a time.
        """
        listed = self.snapshot.meta if Snapshot.type in self._set._trusted_set else None  # noqa: SLF001 - Mapping.__contains__ of the set calls __getitem__; same module boundary
        loaded = [] if every_bin else [r for r in self._set if isinstance(r, Targets)]
        return self._cache.view(
            frozenset(
                name
                for name in self._cache.older()
                if (listed is None or name in listed or name in _TOP)
                and not any(is_bin_of(role, name.removesuffix(".json")) for role in loaded)
            )
        )

    def kept(self, name: str) -> bytes | None:
        """The bytes of one role, verified in this refresh or before."""
        return self._new.get(f"{name}.json") or self._cache.old(f"{name}.json")

    # -- the workflow, TUF specification section 5 ---------------------------------------------
    def refresh(self) -> None:
        """Do root, timestamp, snapshot and targets, in this order."""
        self.update_root()
        self.update_timestamp()
        self.update_snapshot()
        self.update_targets()

    def update_root(self) -> Root:
        """5.3: follow ``N+1.root.json`` until there is none; each one is kept at once."""
        for _ in range(self._limits.rotations):
            version = self.root.version + 1
            data = self._get(layout.versioned(version, Root.type), self._limits.root)
            if data is None:
                self._forget_replaced()
                return self.root
            before = self.root
            with translated(f"root version {version}"):
                self._set.update_root(data)
            distinct.counted(before, Root.type, data)
            stands(self.root, self.root, data)
            self._new["root.json"] = data
            if self._keep_root is not None:
                self._keep_root(version, data)
        raise Outage(
            f"{self._limits.rotations} new roots in one refresh; the next one goes on from here",
            code="root-rotations",
        )

    def _forget_replaced(self) -> None:
        """5.3.11: a replaced timestamp or snapshot key ends the memory of both roles."""
        if _replaced(self._memory_root, self.root, Timestamp.type) or _replaced(
            self._memory_root, self.root, Snapshot.type
        ):
            self._cache.forget("timestamp.json", "snapshot.json")

    def update_timestamp(self) -> Timestamp:
        """5.4: newest timestamp, not older than the known one, not expired."""
        known = self._cache.old("timestamp.json")
        if known is not None:
            with contextlib.suppress(tuf.RepositoryError, *BROKEN):
                self._set.update_timestamp(known)
        data = self._required("timestamp.json", self._limits.timestamp)
        try:
            with translated("timestamp"):
                self._set.update_timestamp(data)
            stands(self.root, self.timestamp, data)
            self._new["timestamp.json"] = data
        except tuf.EqualVersionNumberError:
            version = self.timestamp.version
            if known is None:
                raise _equivocation("timestamp", version) from None
            self._refuse_two_contents("timestamp", version, known, data)
            self._new["timestamp.json"] = known
        self.served = data
        if self.timestamp.is_expired(self._time):
            raise Stale(f"timestamp expired at {strict.stamp(self.timestamp.expires)}")
        return self.timestamp

    def update_snapshot(self) -> Snapshot:
        """5.5: the snapshot that the timestamp lists; no role older or dropped."""
        meta = self.timestamp.snapshot_meta
        known = self._cache.old("snapshot.json")
        if known is not None:
            with contextlib.suppress(tuf.RepositoryError, *BROKEN):
                self._set.update_snapshot(known, trusted=True)
                meta.verify_length_and_hashes(known)
                self._new["snapshot.json"] = known
                return self.snapshot
        loaded = self._set.get(Snapshot.type)
        before = loaded.version if isinstance(loaded, Snapshot) else 0
        if isinstance(loaded, Snapshot) and _replaced(self._memory_root, self.root, Targets.type):
            loaded.meta.pop("targets.json", None)
        data = self._required(
            self._name(Snapshot.type, meta.version),
            self._capped(meta.length, self._limits.snapshot),
        )
        with translated("snapshot"):
            self._set.update_snapshot(data)
        stands(self.root, self.snapshot, data)
        if known is not None and before == self.snapshot.version:
            self._refuse_two_contents("snapshot", before, known, data)
        self._new["snapshot.json"] = data
        return self.snapshot

    def update_targets(self) -> Targets:
        """5.6: the top-level targets that the snapshot lists."""
        return self.role(Targets.type, Root.type)

    def role(self, name: str, parent: str) -> Targets:
        """5.6, 5.7: one targets role, verified against ``parent``."""
        file = f"{name}.json"
        if file in self._new and self._set.contains(name, parent):
            return self._loaded(name)
        known = self._cache.old(file)
        if known is not None:
            with contextlib.suppress(tuf.RepositoryError, Refusal, *BROKEN):
                self._set.update_delegated_targets(known, name, parent)
                found = self._checked(name)
                self._new[file] = known
                return found
        meta = self.snapshot.meta.get(file)
        if meta is None:
            raise Refusal("metadata-mismatch", f"the snapshot does not list {name!r:.140}")
        limit = self._capped(meta.length, self._limits.targets)
        data = self._required(self._name(name, meta.version), limit)
        with translated(name):
            self._set.update_delegated_targets(data, name, parent)
        stands(self._delegator(parent), self._loaded(name), data, name)
        found = self._checked(name)
        if known is not None and self._still_signed(known, name, parent) == meta.version:
            self._refuse_two_contents(name, meta.version, known, data)
        self._new[file] = data
        if self._keep_role is not None:
            self._keep_role(file, data)
        return found

    def find(self, path: str) -> Found | None:
        """5.6.7: preorder walk through the delegations; None when nobody lists ``path``.

        Raises ``Refusal("delegations")`` rather than giving up silently past the limit.
        """
        visit: list[tuple[str, str, tuple[str, ...]]] = [(Targets.type, Root.type, ())]
        seen: set[str] = set()
        while visit:
            name, parent, chain = visit.pop()
            if name in seen:
                continue
            if len(seen) > self._limits.delegations:
                raise Refusal(
                    "delegations", f"more than {self._limits.delegations} roles for {path}"
                )
            role = self.role(name, parent)
            seen.add(name)
            if path in role.targets:
                return Found(role.targets[path], (*chain, name), role)
            if role.delegations is None:
                continue
            children: list[tuple[str, str, tuple[str, ...]]] = []
            for child, terminating in role.delegations.get_roles_for_target(path):
                children.append((child, name, (*chain, name)))
                if terminating:
                    visit.clear()
                    break
            visit.extend(reversed(children))
        return None

    # -- helpers -------------------------------------------------------------------------------
    def _refuse_two_contents(self, role: str, version: int, known: bytes, data: bytes) -> None:
        if not self._two_contents and signed_bytes(known) != signed_bytes(data):
            raise _equivocation(role, version)

    def _checked(self, name: str) -> Targets:
        role = self._loaded(name)
        if self._check_role is not None:
            self._check_role(name, role)
        return role

    def _loaded(self, name: str) -> Targets:
        role = self._set[name]
        if not isinstance(role, Targets):
            raise Refusal("metadata-mismatch", f"{name!r:.140} is not a targets role")
        return role

    def _delegator(self, name: str) -> Root | Targets:
        return self.root if name == Root.type else self._loaded(name)

    def _still_signed(self, data: bytes, name: str, parent: str) -> int:
        """Version of known bytes whose signature still holds, else 0."""
        try:
            known = Metadata[Targets].from_bytes(data)
            self._delegator(parent).verify_delegate(name, known.signed_bytes, known.signatures)
        except (tuf.RepositoryError, *BROKEN):
            return 0
        return known.signed.version

    def _name(self, role: str, version: int) -> str:
        if self.root.consistent_snapshot:
            return layout.versioned(version, role)
        return layout.versioned(version, role).partition(".")[2]

    @staticmethod
    def _capped(listed: int | None, most: int) -> int:
        return min(listed, most) if listed else most

    def _required(self, name: str, limit: int) -> bytes:
        data = self._get(name, limit)
        if data is None:
            raise Outage(
                f"{name} is not there",
                code="missing",
                subject=name,
                remedy="is the store complete, and this device registered? ota fleet register",
            )
        return data

    def _get(self, name: str, limit: int) -> bytes | None:
        data = self._fetch(name, limit)
        if data is not None and len(data) > limit:
            raise Refusal("oversize", f"{name} is longer than {limit} bytes", subject=name)
        return data


_TOP = frozenset({"root.json", "timestamp.json", "snapshot.json", "targets.json"})


def _replaced(before: Root, after: Root, role: str) -> bool:
    """Whether a key of ``role`` in ``before`` is no longer one of its keys in ``after``."""
    return not set(before.roles[role].keyids) <= set(after.roles[role].keyids)


def _equivocation(role: str, version: int) -> Refusal:
    return Refusal("equivocation", f"{role} version {version} was signed with two contents")


def is_bin_of(role: Targets, name: str) -> bool:
    """Whether ``role`` delegates to ``name`` as to one of its hash bins."""
    found = role.delegations
    return bool(found and found.succinct_roles and found.succinct_roles.is_delegated_role(name))
