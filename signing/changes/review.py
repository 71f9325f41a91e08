"""Looking at a change before signing it: what it says, and that the file does not lie about it.

Nothing here needs a store, so it works on a machine without a network: the operator's own roots
vouch for what is replaced, the change carries the rest, and each of these is checked.

1. A root replaces a root of our own, byte for byte; a first root replaces nothing, and is only
   believed before there is one.
2. The targets of before are signed under our root; a component's role under those targets, and
   its bins under that role.
3. Whose signatures the file asks for is what the roles themselves say: a new root needs the
   thresholds of the old and of the new one, everything else its delegator's.
4. Then the difference, in words, from the bytes.

>>> review(pending, {1: root_1}, policy.names())
('root: keyholder root-2 removed, root-4 added; threshold 2 stays',)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from signing import bins
from signing.changes import approving, difference, lifting
from signing.changes.ceremony import Needs, Pending, Waiting
from signing.changes.difference import Component
from signing.errors import Malformed, NotFound, Refusal
from signing.playbooks import words as playbook_words
from signing.repository import holds

_LINES = 2000
_WIDE = 1000


def review(
    pending: Pending, anchors: Mapping[int, bytes], names: Mapping[str, str]
) -> tuple[str, ...]:
    """The change in words, at most 2000 lines of printable text; releases come last.

    ``anchors``: version -> our own roots of this repository. Raises ``Malformed`` when the file
    contradicts itself, ``Refusal("signature")`` when what it replaces is not signed, ``NotFound``
    when our own roots are older than the change.
    """
    case = _Case(pending, anchors)
    words: list[str] = []
    after_root = case.root_after()
    if after_root is not None:
        words += difference.root(case.root_before(), after_root, names)
    before, after = case.targets_before(), case.targets_after()
    lifting.refuse_unsealed(pending, after if Targets.type in pending.roles else None)
    for name, waits in pending.roles.items():
        case.check_needs(name, waits, after)
    if Targets.type in pending.roles:
        draft = case.draft(Targets.type)
        words += approving.words(pending.files, before, draft, names)
        words += difference.targets(Targets.type, before, draft, names)
    words += lifting.words(pending)
    changed = {bins.component_of(name) for name in pending.roles} - {Root.type, Targets.type}
    releases: list[str] = []
    playbooks: list[str] = []
    for name in sorted(changed):
        old, new = case.component(name, before, after)
        found = difference.component(name, old, new)
        lists = [line for line in found if line.startswith(f"{name}: lists ")]
        words += [line for line in found if line not in lists]
        releases += lists
        playbooks += playbook_words.of_change(pending.files, _new(old, new))
    lines = [*map(_plain, words), *map(_printable, playbooks), *map(_plain, releases)]
    more = len(lines) - _LINES
    return (*lines[:_LINES], f"... and {more} more") if more > 0 else tuple(lines)


def _plain(line: str) -> str:
    """One line that can neither look like several nor push the others off a screen."""
    line = "".join(c if c.isascii() and c.isprintable() else "?" for c in " ".join(line.split()))
    return line if len(line) <= _WIDE else f"{line[:_WIDE]}... ({len(line)} characters)"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)


def _new(before: Component | None, after: Component) -> dict[str, str]:
    """Target path -> SHA-256 of what a component did not list before, or listed with other bytes."""
    known = {path: t.hashes for path, t in before.targets().items()} if before else {}
    found = after.targets().items()
    return {path: t.hashes.get("sha256", "") for path, t in found if known.get(path) != t.hashes}


@dataclass(frozen=True)
class _Case:
    """One change beside our own roots; each method answers one question, verified, once."""

    pending: Pending
    anchors: Mapping[int, bytes]
    _drafts: dict[str, Targets] = field(default_factory=dict)
    _olds: dict[str, Targets | None] = field(default_factory=dict)

    def root_after(self) -> Root | None:
        """The new root of the change, if it has one; its version follows its base."""
        if Root.type not in self.pending.roles:
            return None
        signed = self.pending.signed(Root.type)
        if not isinstance(signed, Root):
            raise _lie(Root.type, "is not a root")
        if signed.version != self.pending.roles[Root.type].base + 1:
            raise _lie(Root.type, "does not follow the root that it replaces")
        return signed

    def root_before(self) -> Root | None:
        """The root that is replaced, or None for a first one."""
        waits = self.pending.roles.get(Root.type)
        base = waits.base if waits else max(self.anchors, default=0)
        if base == 0 and not self.anchors:
            return None
        if base not in self.anchors:
            raise NotFound(
                f"the change is built on version {base} of the {self.pending.repository} root; "
                f"the newest here is {max(self.anchors, default=0)}",
                subject=self.pending.repository,
                remedy=f"copy repo-metadata/roots/{self.pending.repository}/ here first",
            )
        if waits is not None and not self._follows(waits):
            raise _lie(
                Root.type,
                f"is built on version {base}; the newest here is {max(self.anchors)}",
            )
        return Metadata[Root].from_bytes(self.anchors[base]).signed

    def _follows(self, waits: Waiting) -> bool:
        """A new root follows the newest of our own, or is it: published, and not cleared away.

        A second root of one number would split those who follow the first one from the others.
        """
        newest = max(self.anchors)
        if waits.base == newest:
            return True
        own: Metadata[Root] = Metadata.from_bytes(self.anchors[newest])
        return waits.metadata().signed_bytes == own.signed_bytes

    def trusted(self) -> Root:
        """The root under which the change will stand."""
        found = self.root_after() or self.root_before()
        if found is None:
            raise _lie(Root.type, "is missing from a first change")
        return found

    def targets_before(self) -> Targets | None:
        """The published top-level targets, signed under the root of before."""
        root = self.root_before()
        return None if root is None else self._before(Targets.type, root)

    def targets_after(self) -> Targets | None:
        """Top-level targets under which components will stand."""
        if Targets.type in self.pending.roles:
            return self.draft(Targets.type)
        return self.targets_before()

    def draft(self, name: str) -> Targets:
        """A targets role of the change."""
        if name not in self._drafts:
            signed = self.pending.signed(name) if name in self.pending.roles else None
            if not isinstance(signed, Targets):
                raise _lie(name, "is not a targets role, or not there")
            bins.refuse_misnamed(name, signed)
            self._drafts[name] = signed
        return self._drafts[name]

    def _before(self, name: str, parent: Root | Targets) -> Targets | None:
        """What is published of a role, signed as its delegator of before says."""
        if name not in self._olds:
            self._olds[name] = self._read_before(name, parent)
        return self._olds[name]

    def _read_before(self, name: str, parent: Root | Targets) -> Targets | None:
        base = self.pending.roles[name].base if name in self.pending.roles else None
        text = self.pending.before.get(name)
        if text is None:
            if base:
                raise _lie(name, f"comes without version {base}, which it replaces")
            if base is not None and _delegates(parent, name):
                raise _lie(name, "comes without what it replaces")
            return None
        data = text.encode()
        known = _targets(name, data)
        if not holds(parent, name, data):
            raise Refusal("signature", f"{name}: what it replaces is not signed", subject=name)
        bins.refuse_misnamed(name, known)
        if base is not None and base != known.version:
            raise _lie(name, f"replaces version {base} and comes with {known.version}")
        return known

    def component(
        self, name: str, before: Targets | None, after: Targets | None
    ) -> tuple[Component | None, Component]:
        """A component before and after, as far as the change touches it.

        Where its number of bins differs, all of it: nothing can hide among what moves.
        """
        new = self._component_after(name, before)
        if after is None:
            raise _lie(name, "has no delegator")
        bins.refuse_others(name, new, after)
        had = None if before is None else self._before(name, before)
        mine = [part for part in self.pending.roles if bins.component_of(part) == name]
        if had is None:
            return None, Component(new, {part: self.draft(part) for part in mine})
        old, parts = mine, mine
        if bins.count(had) != bins.count(new):
            old, parts = [name, *bins.names(had)], [name, *bins.names(new)]
        known = {p: had if p == name else self._before(p, had) for p in old}
        for part, role in known.items():
            if role is None and old is not mine:
                raise _lie(part, "moves its releases, and comes without them")
        return (
            Component(had, {part: role for part, role in known.items() if role is not None}),
            Component(new, {part: self.draft(part) for part in parts}),
        )

    def _component_after(self, name: str, before: Targets | None) -> Targets:
        """A component's role under which the change will stand."""
        found = self.draft(name) if name in self.pending.roles else None
        if found is None and before is not None:
            found = self._before(name, before)
        if found is None:
            raise _lie(name, "comes without the role that delegates to its bins")
        return found

    def check_needs(self, name: str, waits: Waiting, targets: Targets | None) -> None:
        """Whose signatures the file asks for is what the metadata says."""
        if name == Root.type:
            before = self.root_before()
            parents: list[Root | Targets | None] = [before] if before else []
            parents.append(self.root_after())
        elif bins.is_bin(name):
            above = bins.component_of(name)
            parents = [self._component_after(above, self.targets_before())]
        else:
            parents = [self.trusted() if name == Targets.type else targets]
        meant = [_needs(parent, name) for parent in parents]
        said = [(need.threshold, frozenset(need.by_id())) for need in waits.needs]
        if said != meant:
            raise _lie(name, "asks for other signatures than its role needs")


def needs(parent: Root | Targets, name: str) -> Needs:
    """Who must sign ``name``, as its delegator says."""
    role = parent.get_delegated_role(name)
    return Needs.of([parent.get_key(k) for k in role.keyids], role.threshold)


def _needs(parent: Root | Targets | None, name: str) -> tuple[int, frozenset[str]]:
    if parent is None:
        raise _lie(name, "has no delegator")
    try:
        found = needs(parent, name)
    except (ValueError, KeyError, RepositoryError) as e:
        raise _lie(name, "is not delegated to") from e
    return found.threshold, frozenset(found.by_id())


def _delegates(parent: Root | Targets, name: str) -> bool:
    """Whether a published role delegates to ``name``: then that is published, too."""
    try:
        parent.get_delegated_role(name)
    except ValueError:
        return False
    return True


def _targets(name: str, data: bytes) -> Targets:
    try:
        body: Metadata[Any] = Metadata.from_bytes(data)
    except (RepositoryError, ValueError) as e:
        raise _lie(name, "comes with something else than what it replaces") from e
    if not isinstance(body.signed, Targets):
        raise _lie(name, "replaces something that is not a targets role")
    return body.signed


def _lie(name: str, what: str) -> Malformed:
    return Malformed(
        f"pending change: {name} {what}", subject=name, remedy="ota repo discard, or ask its maker"
    )
