"""Versions that a change lifts beyond its own roles, signed by the keyholders of targets. Pure.

After a store was restored from a backup, snapshot and timestamp must exceed what devices have seen
(``above``), and names that are delegated to no more must stay listed (``dormant``). Neither is in
any role, and the online keys sign what the change says of them: whoever carries the change could
wind the repository so far forward that nobody could publish after it. So top-level targets, which
such a change always replaces, holds their digest in a signed field, :data:`LIFTED`.

>>> seal(targets, (12, 40), {"old": 7})             # before anybody signs
>>> refuse_unsealed(pending, targets)               # before anybody signs, and before publishing
"""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import Targets

from signing import strict
from signing.changes.ceremony import Pending
from signing.errors import Malformed

LIFTED = "lifted"
"""Signed field of top-level targets: SHA-256 of ``above`` and ``dormant`` in canonical JSON."""
NOTHING = (0, 0)


def seal(targets: Targets, above: tuple[int, int], dormant: Mapping[str, int]) -> None:
    """Sign what is lifted with top-level targets; nothing, in a change that lifts nothing."""
    digest = _digest(above, dormant)
    if digest is None:
        targets.unrecognized_fields.pop(LIFTED, None)
    else:
        targets.unrecognized_fields[LIFTED] = digest


def refuse_unsealed(pending: Pending, targets: Targets | None) -> None:
    """``Malformed`` unless the change's own ``targets`` says what it lifts, and that alone."""
    said = targets.unrecognized_fields.get(LIFTED) if targets is not None else None
    if said != _digest(pending.above, pending.dormant):
        raise Malformed(
            "pending change: it lifts other versions than targets says",
            subject=Targets.type,
            remedy="ota repo discard image, and get the change from its maker anew",
        )


def words(pending: Pending) -> list[str]:
    """What is lifted, for people."""
    snapshot, timestamp = pending.above
    found = []
    if pending.above != NOTHING:
        found.append(f"snapshot: goes on above version {snapshot}, timestamp above {timestamp}")
    if pending.dormant:
        highest = max(pending.dormant.values())
        found.append(
            f"snapshot: keeps listing {len(pending.dormant)} roles that are no more, "
            f"up to version {highest}"
        )
    return found


def _digest(above: tuple[int, int], dormant: Mapping[str, int]) -> str | None:
    if above == NOTHING and not dormant:
        return None
    return strict.digest(strict.canonical({"above": list(above), "dormant": dict(dormant)}))
