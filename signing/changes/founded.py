"""Whether a signed change is sound, asked before it is published: nothing it says is believed.

1. Each of its roles is delegated to, and components hand their releases to nobody but bins of
   their own, under their own keyholders.
2. Every role lists only releases of its component, in the bin where devices look for them, and
   with no higher counter than the component's role has signed (rule 3). Top-level targets lists
   none that it did not list before: what stands there by a mistake stops no other change.
3. Every target that is new comes with an upload or a file of exactly its hash, and nothing else
   comes along.
4. What it lifts beyond its roles is signed with top-level targets (``lifting.py``), and names no
   role that is in use.
"""

from __future__ import annotations

from tuf.api.metadata import TargetFile, Targets

from signing import bins, layout, repository, strict
from signing.changes import lifting
from signing.changes.ceremony import Pending
from signing.changes.drafts import Drafts
from signing.errors import Malformed, Refusal
from signing.image.state import State, newest_counter, refuse_above, releases_of


def refuse_unfounded(edit: Drafts, pending: Pending, state: State | None) -> None:
    """See the module. Raises ``Refusal`` or ``Malformed``."""
    roles = {name: role for name in pending.roles if (role := edit.draft(name)) is not None}
    for name, role in roles.items():
        if name != Targets.type:
            _check_role(edit, name, role)
    lifting.refuse_unsealed(pending, edit.draft(Targets.type))
    for name in pending.dormant:
        if edit.live(name):
            raise Malformed(f"pending change: {name} is delegated to, and not gone", subject=name)
    targets = edit.standing(Targets.type)
    if targets is not None:
        known = state.targets.targets if state else {}
        refuse_above(path for path in targets.targets if path not in known)
        for name in edit.components():
            bins.refuse_others(name, _standing(edit, name), targets)
    _check_bytes(pending, repository.store_names(roles.values()), state)


def _check_role(edit: Drafts, name: str, role: Targets) -> None:
    if not edit.live(name):
        raise Malformed(f"pending change: {name} is delegated to by nobody", subject=name)
    bins.refuse_misnamed(name, role)
    component = _standing(edit, bins.component_of(name))
    releases = releases_of(name, role, component)
    newest = newest_counter(bins.component_of(name), component)
    for path, release in releases.items():
        if release.release_counter > newest:
            raise Refusal(
                "counter-mismatch", f"{path}: its counter is above {newest}, the component's"
            )


def _standing(edit: Drafts, name: str) -> Targets:
    found = edit.standing(name)
    if found is None:
        raise Malformed(f"pending change: there is no role {name}", subject=name)
    return found


def _check_bytes(pending: Pending, listed: dict[str, TargetFile], state: State | None) -> None:
    bytes_of = {i.name: (i.length, i.sha256) for i in pending.uploads}
    for name, text in pending.files.items():
        data = text.encode()
        bytes_of[name] = (len(data), strict.digest(data))
    for name, found in bytes_of.items():
        target = listed.get(name)
        if target is None or found != (target.length, target.hashes.get("sha256")):
            raise Malformed(f"pending change: {name} is not what the roles list", subject=name)
    for name, target in listed.items():
        if name not in bytes_of and not _known(state, name, target.path):
            raise Malformed(f"pending change: {target.path} comes without its bytes")


def _known(state: State | None, name: str, path: str) -> bool:
    """Whether the published repository lists these bytes under this path."""
    target = state.target(path) if state else None
    return target is not None and name == layout.image_target(path, target.hashes.get("sha256", ""))
