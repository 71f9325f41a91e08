"""Hash bins: the releases of one component spread over many small roles (TAP 15). Pure.

A component with ``bins = 1`` lists its releases itself. With ``bins = 1024`` its role delegates,
succinctly, to 1,024 bins ``<component>.-000`` to ``<component>.-3ff``; the first bits of a
path's SHA-256 say which bin lists it. One release then touches one bin, however many there are.

Rules:

* bins are signed by the *same* offline keyholders, with the same threshold, as their component:
  a component's role can not hand its releases on to anybody else (DESIGN section 3);
* a role's name is a component's or holds a point, which no component's name does, so a bin is
  never taken for a component, nor one component's bin for another's;
* each bin holds its own name, signed (:data:`NAME`): bins of one component are signed by the same
  keys, and a snapshot lists their versions without hashes, so nothing else would tell one bin from
  another of the same version;
* names are short, because a snapshot lists every one of them: 31 bytes for ``app.-3ff``.

>>> bins.home("app", role, "app/app-1.0.0.tar")
'app.-2b7'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tuf.api.metadata import Delegations, Role, SuccinctRoles, TargetFile, Targets

from signing.errors import Refusal

MOST = 4096
"""From about here on, the snapshot's list of bins outweighs what they save (FACTS)."""
NAME = "role"
"""Signed field of a bin: its own name."""
_MARK = "."


def possible(count: int) -> bool:
    """Whether a component can have so many bins: 1 (none), or a power of two up to 4,096."""
    return 1 <= count <= MOST and count.bit_count() == 1


def is_bin(name: str) -> bool:
    """Whether a role's name is a bin's."""
    return _MARK in name


def component_of(name: str) -> str:
    """The component whose releases a role lists: its own name, or the one before the point."""
    return name.partition(_MARK)[0]


def of(role: Targets | None) -> SuccinctRoles | None:
    """The bins that a component's role delegates to, or None."""
    return role.delegations.succinct_roles if role and role.delegations else None


def count(role: Targets | None) -> int:
    """How many bins a component has; 1 when it lists its releases itself."""
    found = of(role)
    return found.number_of_bins if found else 1


def names(role: Targets | None) -> tuple[str, ...]:
    """Names of all bins of a component; none when it has none, or more than are possible."""
    found = of(role)
    return tuple(found.get_roles()) if found and found.number_of_bins <= MOST else ()


def home(component: str, role: Targets, path: str) -> str:
    """Name of the role that lists ``path``: one of the bins, or the component itself."""
    found = of(role)
    return found.get_role_for_target(path) if found else component


def delegate(component: str, role: Targets, by: Delegations, number: int) -> None:
    """Make ``role`` delegate to so many bins, with the keyholders that ``by`` names for it."""
    if number == 1:
        role.delegations = None
        return
    own = (by.roles or {})[component]
    keys = {keyid: by.keys[keyid] for keyid in own.keyids}
    bits = number.bit_length() - 1
    succinct = SuccinctRoles(list(own.keyids), own.threshold, bits, f"{component}{_MARK}")
    role.delegations = Delegations(keys, succinct_roles=succinct)


def spread(
    component: str, role: Targets, listed: Mapping[str, TargetFile]
) -> dict[str, dict[str, TargetFile]]:
    """Role name -> targets: where these releases stand under the delegations of ``role``."""
    found: dict[str, dict[str, TargetFile]] = {n: {} for n in names(role) or (component,)}
    for path, target in listed.items():
        found[home(component, role, path)][path] = target
    return found


def refuse_others(component: str, role: Targets, by: Targets) -> None:
    """``Refusal("bin-keyholders")`` unless this role keeps its releases, or its bins do.

    ``by`` is top-level targets. A role that delegates to anybody but bins of its own name, signed
    by as many of the same keyholders as itself, is refused; so is one that names another key.
    """
    if role.delegations is None:
        return
    own = by.get_delegated_role(component)
    named = by.delegations.keys if by.delegations else {}
    theirs = of(role)
    if (
        theirs is None
        or theirs.number_of_bins > MOST
        or theirs.name_prefix != f"{component}{_MARK}"
        or not _same(own, theirs)
        or role.delegations.keys != {k: named.get(k) for k in own.keyids}
    ):
        raise Refusal(
            "bin-keyholders",
            f"{component} delegates to other keyholders than its own",
            subject=component,
        )


def refuse_misnamed(name: str, part: Targets) -> None:
    """``Refusal("metadata-mismatch")`` for a bin that was signed as something else."""
    said = part.unrecognized_fields.get(NAME)
    if is_bin(name) and said != name:
        raise Refusal("metadata-mismatch", f"{name} was signed as {said!r:.140}", subject=name)


def _same(one: Role, other: Role) -> bool:
    return set(one.keyids) == set(other.keyids) and one.threshold == other.threshold


def words(numbers: Iterable[str], of_all: int) -> str:
    """``bin 2b7``, or ``12 of 1024 bins``."""
    found = sorted(numbers)
    if len(found) == 1:
        return f"bin {found[0].rpartition('-')[2]}"
    return f"{len(found)} of {of_all} bins"
