"""What a change says, in words, computed from signed bytes and never from a file's own words.

Pure. ``names`` maps key id -> keyholder, from the reader's own folder of public keys; a key that
is not in it is shown as ``unknown key 1a2b...``.

>>> root(before, after, names)
['root: keyholder root-2 removed, root-4 added; threshold 2 stays']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import DelegatedRole, Role, Root, Signed, TargetFile, Targets

from signing import bins, shared, strict
from signing.changes import lifting

Names = Mapping[str, str]
_SAID = frozenset({"issued", lifting.LIFTED})


def root(before: Root | None, after: Root, names: Names) -> list[str]:
    """Keyholders, thresholds and ways of a new root; roles that change alike share a line."""
    lines: dict[str, list[str]] = {}
    for name in (*after.roles, *(set(before.roles if before else ()) - set(after.roles))):
        old = before.roles.get(name) if before else None
        text = role(old, after.roles.get(name), names)
        if text:
            lines.setdefault(text, []).append(name)
    words = [] if before else ["first root"]
    words += [f"{', '.join(same)}: {text}" for text, same in lines.items()]
    if not after.consistent_snapshot:
        words.append("root: consistent snapshots are switched OFF")
    words += _fields("root", before, after)
    return [*words, _until("root", [after])] if words else [_renewed("root", before, after)]


def role(before: Role | None, after: Role | None, names: Names) -> str:
    """``keyholder b removed, c added; threshold 2 stays``; "" when nothing differs."""
    if after is None:
        return "removed"
    if before is None:
        who = _who(after.keyids, names)
        if after.threshold == len(after.keyids) == 1:
            return f"{who} signs"
        number = "all" if after.threshold == len(after.keyids) else f"any {after.threshold}"
        return f"{number} of these sign: {who}"
    gone = [k for k in before.keyids if k not in after.keyids]
    new = [k for k in after.keyids if k not in before.keyids]
    same = before.threshold == after.threshold
    if same and not gone and not new:
        return ""
    moved = [f"{_who(gone, names)} removed"] if gone else []
    moved += [f"{_who(new, names)} added"] if new else []
    threshold = f"threshold {before.threshold} stays"
    if not same:
        threshold = f"threshold {before.threshold} becomes {after.threshold}"
    return f"keyholder {', '.join(moved)}; {threshold}" if moved else threshold


def targets(name: str, before: Targets | None, after: Targets, names: Names) -> list[str]:
    """What a role's new version lists, takes off, delegates and says besides."""
    words = _listing(name, before.targets if before else {}, after.targets)
    words += _delegations(name, before, after, names)
    words += _fields(name, before, after) if before else []
    return [*words, _until(name, [after])] if words else [_renewed(name, before, after)]


@dataclass(frozen=True)
class Component:
    """A component on one side of a change: its role, and the parts of it that are compared.

    ``parts`` are roles by name: the component's own, bins of it, or both.
    """

    role: Targets
    parts: Mapping[str, Targets]

    def targets(self) -> dict[str, TargetFile]:
        """Everything that these parts list."""
        return {path: t for part in self.parts.values() for path, t in shared.listed(part).items()}


def component(name: str, before: Component | None, after: Component) -> list[str]:
    """The same of a component that may be spread over hash bins: what moves is not new."""
    if before is None:
        number = bins.count(after.role)
        words = [f"{name}: a new component, spread over {number} bins"] if number > 1 else []
        words += _listing(name, {}, after.targets())
        ends = _until(name, after.parts.values())
        return [*words, ends] if words else [_renewed(name, None, after.role)]
    old, new = before.targets(), after.targets()
    words = _listing(name, old, new)
    had, has = bins.count(before.role), bins.count(after.role)
    if had != has:
        stay = sum(path in new for path in old)
        spread = "1 bin becomes" if had == 1 else f"{had} bins become"
        moved = "1 release moves" if stay == 1 else f"{stay} releases move"
        words.append(f"{name}: {spread} {has}; {moved}, unchanged")
    words += _fields(name, before.role, after.role)
    return [*words, _until(name, after.parts.values())] if words else [_again(name, before, after)]


def _again(name: str, before: Component, after: Component) -> str:
    """Nothing but new versions of the same content."""
    parts = [part for part in after.parts if bins.is_bin(part)]
    if not parts:
        return _renewed(name, before.role, after.role)
    what = bins.words(parts, bins.count(after.role))
    return f"{name}: {what} signed again, {_ends(after.parts.values())}; nothing else changes"


def _listing(name: str, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> list[str]:
    words = [f"{name}: {_target(path, new[path])}" for path in new if path not in old]
    words += [
        f"{name}: CHANGES {path}: {_otherwise(old[path], target)}"
        for path, target in new.items()
        if path in old and old[path].to_dict() != target.to_dict()
    ]
    return words + [f"{name}: takes off {path}" for path in old if path not in new]


def _otherwise(before: TargetFile, after: TargetFile) -> str:
    """Each field of a target, and of what it says of itself, that differs."""
    old, new = _flat(before), _flat(after)
    return ", ".join(
        f"{key} {old.get(key, 'nothing')!s:.80} becomes {new.get(key, 'nothing')!s:.80}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def _flat(target: TargetFile) -> dict[str, Any]:
    said = target.to_dict()
    custom = said.pop("custom", {})
    return said | (custom if isinstance(custom, dict) else {"custom": custom})


def _delegations(name: str, before: Targets | None, after: Targets, names: Names) -> list[str]:
    if after.delegations is not None and after.delegations.roles is None:
        return [f"{name}: delegates to hash bins at the top"]
    had = before.delegations.roles or {} if before and before.delegations else {}
    has = after.delegations.roles or {} if after.delegations else {}
    words = []
    for child, item in has.items():
        text = role(had.get(child), item, names)
        words += [f"{name}: component {child}, {text}"] if text else []
        words += _ways(name, had.get(child), item)
    return words + [f"{name}: component {child} removed" for child in had if child not in has]


def _ways(name: str, before: DelegatedRole | None, after: DelegatedRole) -> list[str]:
    """Anything but terminating and ``<component>/*`` is unusual, and said."""
    ways = (after.paths, after.terminating, after.path_hash_prefixes)
    usual = ([f"{after.name}/*"], True, None)
    if ways == usual or (before is not None and before.paths == after.paths and ways == usual):
        return []
    ends = "terminating" if after.terminating else "not terminating"
    return [f"{name}: component {after.name} may list {after.paths}, {ends}"]


def _fields(name: str, before: Signed | None, after: Signed) -> list[str]:
    old: Mapping[str, Any] = before.unrecognized_fields if before else {}
    new = after.unrecognized_fields
    return [
        f"{name}: {key} {old.get(key, 'nothing')} becomes {new.get(key, 'nothing')}"
        for key in sorted({*old, *new} - _SAID)
        if old.get(key) != new.get(key)
    ]


def _renewed(name: str, before: Signed | None, after: Signed) -> str:
    number = f"version {before.version} -> {after.version}" if before else f"{after.version}"
    return f"{name}: {number}, {_ends([after])}; nothing else changes"


def _until(name: str, roles: Iterable[Signed]) -> str:
    return f"{name}: signed {_ends(roles)}"


def _ends(roles: Iterable[Signed]) -> str:
    """Until when the signatures of these roles hold: one that ends early, or never, is seen."""
    ends = sorted(role.expires for role in roles)
    last = f", some until {strict.stamp(ends[-1])}" if ends[-1] != ends[0] else ""
    return f"until {strict.stamp(ends[0])}{last}"


def _target(path: str, target: TargetFile) -> str:
    custom = target.unrecognized_fields.get("custom", {})
    if not isinstance(custom, dict) or custom.get("kind") != "release":
        kind = custom.get("kind", "unknown") if isinstance(custom, dict) else "unknown"
        return f"lists {path} ({kind}), sha256 {target.hashes.get('sha256', '')[:16]}"
    fix = ", security fix" if custom.get("security_fix") else ""
    hardware = custom.get("hardware_ids")
    boards = ", ".join(map(str, hardware)) if isinstance(hardware, list) else "no hardware"
    return (
        f"lists {path}, version {custom.get('version')} for {boards}, "
        f"counter {custom.get('release_counter')}{fix}, {target.length} bytes, sha256 {target.hashes.get('sha256', '')[:16]}"
    )


def _who(keyids: Iterable[str], names: Names) -> str:
    return ", ".join(names.get(k, f"unknown key {str(k)[:12]}") for k in keyids)
