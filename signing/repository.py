"""Writing TUF, the part that both repositories share: open verified, edit, close, prove.

1. Open: everything that is read back from a store is verified from the operator's own root,
   with the same client that devices use; only expiry is not asked, since what has expired must
   be opened in order to be renewed.
2. Edit: a changed role gets the next *free* version. A file that another publisher left under
   that number (it lost the race, or it died) is skipped, never overwritten.
3. Close and prove: ``closing.py``. The timestamp and every root carry ``issued``.

Metadata files are JSON with sorted keys and no spaces: the same content is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from securesystemslib.signer import Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import CanonicalJSONSerializer, JSONSerializer

from signing import bins, layout, strict
from signing.client.workflow import TufClient
from signing.edition import Reader
from signing.errors import Busy, Outage, Refusal

AnyRole = Root | Timestamp | Snapshot | Targets
SPEC = "1.0.31"
TIMESTAMP = 1024 * 1024
"""Bytes of a timestamp that operators read."""
_SKIPPED = 1000
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


class Remembers(Protocol):
    """What was seen of one repository before: by plain names, newest verified bytes."""

    def load(self, root: bytes | None = None) -> Mapping[str, bytes]:
        """What is remembered; ``root`` stands in for the root of a memory that has none yet."""

    def keep(self, client: TufClient) -> None:
        """Remember what this client verified, unless something newer is remembered already."""

    def note(self, name: str, data: bytes) -> None:
        """Keep one role that was fetched by itself."""


@dataclass(frozen=True)
class Place:
    """Where one repository lies in a store: a reader, its names, and its editions' key.

    ``memory`` keeps what was seen of it, so that a store can not show something older later.
    ``taken`` says up to which version a role's numbers belong to some content already.
    """

    key: str
    reader: Reader
    name: Callable[[str], str]
    memory: Remembers | None = None
    taken: Callable[[str], int] = lambda _role: 0

    def fetch(self, file: str, limit: int) -> bytes | None:
        """A metadata file by its plain name (a ``client.Fetch``)."""
        return self.reader(self.name(file), limit)

    def free_version(self, role: str, after: int) -> int:
        """The next version whose file name is not taken; ``Busy`` after 1000 taken ones."""
        after = max(after, self.taken(role))
        for version in range(after + 1, after + 1 + _SKIPPED):
            if not self._taken(layout.versioned(version, role)):
                return version
        raise Busy(f"{_SKIPPED} versions of {role} lie in the store and none is listed")

    def free_above(self, role: str) -> int:
        """A free version above all that were counted, whatever was wound forward.

        Versions are counted without gaps, so the first free power of two lies above them.
        """
        for power in range(31):
            if not self._taken(layout.versioned(2**power, role)):
                return self.free_version(role, 2**power - 1)
        raise Busy(f"no free version of {role} below 2^31")

    def under(self, root: bytes) -> tuple[Place, bytes]:
        """The place as it looks to somebody who never hears of a root after ``root``."""

        def reader(name: str, limit: int) -> bytes | None:
            return None if name.endswith(".root.json") else self.reader(name, limit)

        return replace(self, reader=reader), root

    def _taken(self, file: str) -> bool:
        try:
            return self.fetch(file, 1) is not None
        except Refusal as e:
            if e.code != "oversize":
                raise
            return True


def opened(
    place: Place, root: bytes, now: datetime, *, check_expiry: bool = False
) -> TufClient | None:
    """The verified repository, or None when nothing was published there yet.

    Every role but hash bins has been read; a bin is when it is asked for, and remembered then.

    Raises ``Refusal`` when the store was tampered with; ``Stale`` only with ``check_expiry``.
    """
    known = place.memory.load(root) if place.memory else {"root.json": root}
    there = place.fetch("timestamp.json", TIMESTAMP)
    if there is None:
        if "timestamp.json" in known:
            raise Outage(
                f"{place.key}: timestamp.json is not there any more",
                code="missing",
                subject=place.key,
                remedy="restore the store, then ota repo recover --bump 100",
            )
        return None

    def fetch(file: str, limit: int) -> bytes | None:
        return there if file == "timestamp.json" else place.fetch(file, limit)

    client = TufClient(
        known,
        fetch,
        now,
        bootstrap=root,
        keep_role=place.memory.note if place.memory else None,
        check_role=bins.refuse_misnamed,
        check_expiry=check_expiry,
    )
    client.refresh()
    for name in delegated(client.targets):
        client.role(name, Targets.type)
    if place.memory is not None:
        place.memory.keep(client)
    return client


def remembered(place: Place) -> TufClient | None:
    """The newest state that this workspace has seen, verified by itself, without a store."""
    known = place.memory.load() if place.memory else {}
    if "timestamp.json" not in known or "root.json" not in known:
        return None

    def fetch(file: str, _limit: int) -> bytes | None:
        number, _, plain = file.partition(".")
        return None if plain == "root.json" else known.get(plain if number.isdigit() else file)

    client = TufClient(
        {"root.json": known["root.json"]},
        fetch,
        _ANY_TIME,
        check_role=bins.refuse_misnamed,
        check_expiry=False,
    )
    client.refresh()
    return client


def delegated(targets: Targets) -> tuple[str, ...]:
    """Names of the roles that top-level targets delegates to."""
    return tuple((targets.delegations.roles if targets.delegations else None) or ())


def holds(parent: Root | Targets, role: str, data: bytes) -> bool:
    """Whether these bytes are signed as ``parent`` says of ``role``."""
    try:
        body: Metadata[Any] = Metadata.from_bytes(data)
        parent.verify_delegate(role, body.signed_bytes, body.signatures)
    except (RepositoryError, ValueError):
        return False
    return True


def newest_root(place: Place, root: bytes, now: datetime) -> bytes:
    """The newest root that is reached from ``root`` by verified steps."""
    client = TufClient({"root.json": root}, place.fetch, now, check_expiry=False)
    client.update_root()
    return client.cache()["root.json"]


def encoded(signed: AnyRole, signatures: Mapping[str, Signature]) -> bytes:
    """The bytes of one finished metadata file."""
    body: Metadata[Any] = Metadata(signed, dict(signatures))
    return body.to_bytes(JSONSerializer(compact=True))


def signed_by(signed: AnyRole, signers: Iterable[Signer]) -> bytes:
    """Sign now with online keys and return the finished bytes."""
    payload = CanonicalJSONSerializer().serialize(signed)
    made = [signer.sign(payload) for signer in signers]
    return encoded(signed, {signature.keyid: signature for signature in made})


def until(now: datetime, life: timedelta) -> datetime:
    """An expiry in whole seconds."""
    return (now + life).replace(microsecond=0)


def meta_of(version: int, data: bytes) -> MetaFile:
    """How a snapshot or timestamp lists a file."""
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})


def meta_of_role(name: str, version: int, data: bytes) -> MetaFile:
    """How a snapshot lists a targets role: of a hash bin the version alone.

    A thousand hashes would make every snapshot three times as long; TUF 4.4 allows to leave them
    out where a version alone says which file is meant, which ``signing/given.py`` sees to.
    """
    return MetaFile(version) if bins.is_bin(name) else meta_of(version, data)


def make_root(
    version: int,
    life: timedelta,
    now: datetime,
    roles: Mapping[str, tuple[Sequence[Key], int]],
) -> Root:
    """A root for these roles, ``name -> (keys, threshold)``; ``issued`` is signed with it."""
    root = Root(
        version,
        SPEC,
        until(now, life),
        keys={key.keyid: key for keys, _ in roles.values() for key in keys},
        roles={name: Role([k.keyid for k in keys], n) for name, (keys, n) in roles.items()},
        consistent_snapshot=True,
    )
    root.unrecognized_fields["issued"] = strict.stamp(now)
    return root


def refuse_other_root(root: Root, roles: Mapping[str, tuple[Sequence[Key], int]]) -> None:
    """A first root has no older one to vouch for it: it must be what the policy says.

    Raises ``Refusal("signature")`` when keys or thresholds of any role differ.
    """
    said = {name: (sorted(role.keyids), role.threshold) for name, role in root.roles.items()}
    meant = {name: (sorted(k.keyid for k in keys), n) for name, (keys, n) in roles.items()}
    if said != meant or not root.consistent_snapshot:
        raise Refusal("signature", "the first root does not name the policy's keyholders")


def key_ids(root: Root | None, targets: Targets | None = None) -> frozenset[str]:
    """Every key id that one repository names, delegations included."""
    delegated = targets.delegations.keys if targets and targets.delegations else {}
    return frozenset({*(root.keys if root else ()), *delegated})


def store_names(roles: Iterable[Targets]) -> dict[str, TargetFile]:
    """Store name -> target, for every target of these roles."""
    return {
        layout.image_target(path, target.hashes.get("sha256", "")): target
        for role in roles
        for path, target in role.targets.items()
    }


def refuse_shared(ours: frozenset[str], theirs: Iterable[str]) -> None:
    """No key id stands in both repositories; ``Refusal("shared-key")``."""
    both = ours & frozenset(theirs)
    if both:
        raise Refusal("shared-key", f"key {min(both)[:16]} stands in both repositories")
