"""From edited policy files to a change: who may sign what, as published and as it shall be.

Each step only touches what really differs, so that nobody is asked for a signature in vain:

1. A new root when keys or thresholds of any top-level role differ from the policy; it needs the
   threshold of the old and of the new root (TUF 5.3.4).
2. Top-level targets again, when their signatures do not reach the new root's threshold.
3. Delegations of components whose keyholders or threshold differ; a component's role again, when
   its signatures do not reach the new threshold; its bins likewise, and all of them when the
   policy says another number. Components that the policy adds, and those that it removes.
4. The list of authors and approvers.

>>> edit = rotate(Change(policy, place, state, pending, now), policy, state, now)
>>> edit.done().roles
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from signing import repository
from signing.changes.ceremony import Needs
from signing.image.change import Change
from signing.image.state import State
from signing.policy import Policy
from signing.policy_file import Role

Roles = Mapping[str, tuple[Sequence[Key], int]]
"""Top-level role -> keys and threshold, as the policy says."""


def differs(root: Root, roles: Roles) -> bool:
    """Whether any role's keys or threshold are not the policy's."""
    said = {name: (frozenset(role.keyids), role.threshold) for name, role in root.roles.items()}
    return said != {n: (frozenset(k.keyid for k in keys), t) for n, (keys, t) in roles.items()}


def next_root(root: Root, policy: Role, roles: Roles, now: datetime) -> tuple[Root, list[Needs]]:
    """The root that follows this one, and whose signatures it needs."""
    new = repository.make_root(root.version + 1, policy.expires, now, roles)
    old = root.roles[Root.type]
    return new, [
        Needs.of([root.keys[k] for k in old.keyids], old.threshold),
        Needs.of(list(roles[Root.type][0]), roles[Root.type][1]),
    ]


def rotate(
    edit: Change,
    policy: Policy,
    state: State,
    roles: Roles,
    now: datetime,
    *,
    renew: Sequence[str] = (),
) -> Change:
    """Put every difference between policy and published roles into the change.

    ``renew`` names roles to be signed again for their expiry, whatever differs.
    """
    root = state.client.root
    # (1)
    if not differs(root, roles) and Root.type not in renew:
        edit.drop(Root.type)
    elif not edit.waits(Root.type) or differs(edit.trusted_root(), roles):
        new, needs = next_root(root, policy.image.root, roles, now)
        edit.put(Root.type, new, root.version, *needs)
    # (2)
    edit.reconsider(Targets.type)
    # (3)
    for name in sorted({*edit.components(), *policy.image.components}):
        if name in policy.image.removed:
            edit.remove(name)
        elif name not in edit.components():
            edit.component(name)
        else:
            if edit.delegate(name):
                edit.reconsider(name)
            edit.lay_out(name)
    # (4)
    edit.approvers()
    for name in renew:
        if name != Root.type and edit.live(name) and not edit.waits(name):
            edit.changed(name, edit.role(name))
    return edit
