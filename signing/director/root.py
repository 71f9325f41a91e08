"""The director's root, which all devices share: who signs what each device shall run.

Made and changed like the image repository's, by a waiting change; every device follows it from
the version that it knows, one by one.

>>> pending = change_root(policy, newest, now)       # None when the policy says the same
>>> edition = close_root(policy, pending, store.get, foreign, anchor)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root

from signing import layout, repository, strict
from signing.changes import ceremony, rotation
from signing.changes.ceremony import Needs, Pending
from signing.client.workflow import TufClient
from signing.director.repository import ONLINE_ROLES
from signing.edition import Edition, Reader
from signing.errors import Busy, NotPermitted, Refusal
from signing.policy import Policy
from signing.repository import Place

_LIMIT = 512_000
Roles = dict[str, tuple[list[Key], int]]


def place(reader: Reader) -> Place:
    """Where the roots lie."""
    return Place("director-root", reader, lambda file: f"{layout.DIRECTOR_ROOT}/{file}")


def roles(policy: Policy) -> Roles:
    """Keys and threshold of each role, as the policy says; the online roles share theirs."""
    director = policy.director
    online = (policy.keys(director.online.keyholders), director.online.threshold)
    root = (policy.keys(director.root.keyholders), director.root.threshold)
    return {"root": root} | dict.fromkeys(ONLINE_ROLES, online)


def create_root(policy: Policy, now: datetime) -> Pending:
    """The first director root, waiting for its threshold."""
    meant = roles(policy)
    root = repository.make_root(1, policy.director.root.expires, now, meant)
    return _pending(root, 0, [Needs.of(*meant["root"])], now)


def change_root(
    policy: Policy, newest: bytes, pending: Pending | None, now: datetime, *, renew: bool = False
) -> Pending | None:
    """The root that follows, when the policy differs from it (or ``renew``); else None.

    A waiting change that says just this keeps its signatures. Raises ``Busy`` (``stale-base``).
    """
    root = Metadata[Root].from_bytes(newest).signed
    meant = roles(policy)
    if pending is not None and not _is(pending, root):
        refuse_stale(pending, root)
        waits = pending.signed("root")
        if isinstance(waits, Root) and not rotation.differs(waits, meant):
            return pending
    if not renew and not rotation.differs(root, meant):
        return None
    new, needs = rotation.next_root(root, policy.director.root, meant, now)
    return _pending(new, root.version, needs, now)


def _pending(root: Root, base: int, needs: list[Needs], now: datetime) -> Pending:
    return Pending(
        schema=1,
        repository="director",
        created=strict.stamp(now),
        roles={"root": ceremony.waiting(root, base, *needs)},
        summary=("root",),
    )


def refuse_stale(pending: Pending, newest: Root) -> None:
    """``Busy`` (``stale-base``) when another root was published since the change was made."""
    if pending.roles["root"].base != newest.version and not _is(pending, newest):
        raise Busy(
            f"the director root is at version {newest.version}, the change is built on "
            f"{pending.roles['root'].base}",
            code="stale-base",
            subject="root",
            remedy="ota repo discard director, and make the change again",
        )


def _is(pending: Pending, root: Root) -> bool:
    """Whether the change is this root: published, and the publisher was killed."""
    return pending.roles["root"].metadata().signed_bytes == Metadata(root).signed_bytes


def close_root(
    policy: Policy,
    pending: Pending,
    reader: Reader,
    foreign: Iterable[str],
    anchor: bytes | None = None,
) -> Edition | None:
    """A signed director root as an edition; None when the store has it, byte for byte.

    ``foreign``: key ids of the image repository. ``anchor``: our own root, None before the
    first. Raises ``NeedsHuman`` (unsigned), ``Busy`` (``stale-base``), ``Refusal``
    (``shared-key``; ``signature`` when the root before it, or for a first one the policy, does
    not vouch for it), ``NotPermitted`` when another root has this version.
    """
    data = pending.finished()["root"]
    root = Metadata[Root].from_bytes(data).signed
    repository.refuse_shared(repository.key_ids(root), foreign)
    name = f"{layout.DIRECTOR_ROOT}/{layout.versioned(root.version, 'root')}"
    there = reader(name, _LIMIT)
    if there == data:
        return None
    if there is not None and anchor is None:
        raise NotPermitted(f"the store has another {name}", code="exists", subject=name)
    if anchor is None:
        repository.refuse_other_root(root, roles(policy))
        anchor = data
    else:
        newest = repository.newest_root(place(reader), anchor, root.expires)
        refuse_stale(pending, Metadata[Root].from_bytes(newest).signed)
        anchor = newest
    _prove(anchor, root, data)
    return Edition("director-root", (), (name, data, None))


def _prove(anchor: bytes, root: Root, data: bytes) -> None:
    """Follow the new root as a device would; ``Refusal`` when it does not hold."""
    file = layout.versioned(root.version, "root")
    client = TufClient(
        {"root.json": anchor},
        lambda name, _limit: data if name == file else None,
        root.expires,
        check_expiry=False,
    )
    client.update_root()
    if client.root.version != root.version:
        raise Refusal("signature", f"root {root.version} does not follow {client.root.version}")
