"""Changes on their way between people and machines: one file, all waiting changes in it.

A bundle is a courier like any other: nothing in it is trusted. Every signature in it must hold,
and it merges only with the very same change, byte for byte in every signed part.

>>> data = dump([pending])                   # carried to another machine, signed there
>>> merged = merge(ours, load(data)[0])      # signatures of both
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from signing import strict
from signing.changes import ceremony
from signing.changes.ceremony import Pending, Waiting
from signing.errors import Busy, Malformed

LIMIT = 256 * 1024 * 1024


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: at most one change for each repository."""

    schema: Literal[1]
    changes: tuple[Pending, ...]


def dump(changes: Sequence[Pending]) -> bytes:
    """The bytes of a bundle; paths of images stay behind, they mean nothing elsewhere."""
    packed = Bundle(schema=1, changes=tuple(changes))
    return msgspec.json.format(msgspec.json.encode(packed), indent=1) + b"\n"


def load(data: bytes) -> tuple[Pending, ...]:
    """Changes of a bundle, or the one of a bare ``state/pending`` file; ``Malformed``.

    Every signature has been verified when this returns.
    """
    body = strict.loads(data, limit=LIMIT, what="bundle")
    if isinstance(body, dict) and "changes" not in body:
        body = {"schema": 1, "changes": [body]}
    try:
        changes = msgspec.convert(body, Bundle, strict=True).changes
    except msgspec.ValidationError as e:
        raise Malformed(f"bundle: {e}", subject="bundle") from e
    if not changes or len({c.repository for c in changes}) < len(changes):
        raise Malformed("bundle: no change, or two of one repository", subject="bundle")
    for change in changes:
        ceremony.check(change)
        for name, role in change.roles.items():
            _check_signatures(name, role)
    return changes


def merge(ours: Pending | None, theirs: Pending) -> Pending:
    """One change with the signatures of both; ``Busy`` (``another-change``) if they differ."""
    if ours is None:
        return theirs
    if _core(ours) != _core(theirs):
        raise Busy(
            f"another change of the {ours.repository} repository waits here",
            code="another-change",
            subject=ours.repository,
            remedy="ota repo status; if that one is done with: ota repo import FILE --replace",
        )
    roles = {}
    for name, role in ours.roles.items():
        both = theirs.roles[name].signatures | _good(role)
        merged = msgspec.structs.replace(role, signatures=both)
        roles[name] = msgspec.structs.replace(merged, signatures=_good(merged))
    return msgspec.structs.replace(ours, roles=roles)


def _core(change: Pending) -> dict[str, tuple[bytes, int]]:
    return {n: (role.metadata().signed_bytes, role.base) for n, role in change.roles.items()}


def _good(role: Waiting) -> dict[str, str]:
    """Signatures of who may sign, that hold; one that does not must not hide one that does."""
    return {k: s for k, s in role.signatures.items() if role.signed_by(k)}


def _check_signatures(name: str, role: Waiting) -> None:
    for keyid in role.signatures:
        if not role.signed_by(keyid):
            raise Malformed(
                f"bundle: the signature of {name} by key {keyid[:12]} does not hold",
                subject=name,
                remedy="export it again, and carry it another way",
            )
