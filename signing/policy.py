"""The role policies of a workspace: ``repo-metadata/{image,director,rollout}.toml``.

Who holds which role, how many of them must sign, and for how long it lasts. Public keys of
keyholders lie beside them in ``keyholders/<name>.json`` and are read when they are needed.

Rules: unknown keys, thresholds that can not be reached, keyholders named twice, and a keyholder
of both repositories are errors that name file and key. A component without a table of its own
inherits ``[targets]``.

>>> policy = load(Path("repo-metadata"))
>>> policy.image.component("app").threshold
2
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
from securesystemslib.signer import Key

from signing import bins, durable, policy_file, strict
from signing.approval import Approvers
from signing.enrolment import key_from_dict, key_to_dict
from signing.errors import Malformed, NotFound
from signing.layout import PLAYBOOKS
from signing.policy_file import Role

RESERVED = frozenset({"workspace", "root", "targets", "snapshot", "timestamp"})
"""Names that no component may have: top-level roles, and the folder of signed settings."""


class ImagePolicy(msgspec.Struct, frozen=True):
    """The image repository: what *may* run.

    ``spread`` is component -> bins where that differs from ``bins``. ``removed`` components are
    delegated to no longer.
    """

    root: Role
    targets: Role
    snapshot: Role
    timestamp: Role
    components: dict[str, Role]
    bins: int = 1
    spread: dict[str, int] = {}
    removed: frozenset[str] = frozenset()

    def bins_of(self, name: str) -> int:
        """Over how many hash bins a component's releases are spread; 1 for none, as playbooks."""
        return 1 if name == PLAYBOOKS else self.spread.get(name, self.bins)

    def component(self, name: str) -> Role:
        """The role of one component, ``[targets]`` when it has no table of its own."""
        return self.components.get(name, self.targets)

    def roles(self) -> Iterator[tuple[str, Role]]:
        """Every role with its name."""
        yield from (("root", self.root), ("targets", self.targets))
        yield from (("snapshot", self.snapshot), ("timestamp", self.timestamp))
        yield from self.components.items()


class DirectorPolicy(msgspec.Struct, frozen=True):
    """The director: ``online`` signs timestamp, snapshot and targets; its ``expires`` is ``idle``.

    ``open`` is the life of a timestamp while any assignment in it is live.
    """

    root: Role
    online: Role
    open: timedelta

    @property
    def idle(self) -> timedelta:
        """Life of a timestamp without live assignments."""
        return self.online.expires

    @property
    def listed(self) -> timedelta:
        """Life of snapshot and targets: twice ``idle``, so that a refresh signs a timestamp only."""
        return 2 * self.online.expires


class RolloutPolicy(msgspec.Struct, frozen=True):
    """Who authors and who approves plans."""

    authors: tuple[str, ...]
    approvers: tuple[str, ...]
    threshold: int


class Policy(msgspec.Struct, frozen=True):
    """All three policies and the folder they came from."""

    folder: Path
    image: ImagePolicy
    director: DirectorPolicy
    rollout: RolloutPolicy

    def key(self, name: str) -> Key:
        """Public key of one keyholder; ``NotFound`` when it was never generated or copied in."""
        return read_key(self.folder, name)

    def keys(self, names: Iterable[str]) -> list[Key]:
        """Public keys of several keyholders; two names with one key are ``Malformed``.

        One key under two names would count once against a threshold that expects two people.
        """
        found: dict[str, str] = {}
        result = []
        for name in names:
            key = self.key(name)
            if key.keyid in found:
                raise Malformed(f"keyholders {found[key.keyid]} and {name} share one key")
            found[key.keyid] = name
            result.append(key)
        return result

    def names(self) -> dict[str, str]:
        """Key id -> keyholder, of every public key at hand, in no role any more or not.

        For words and for finding a signer; a file that is no key is left out.
        """
        found: dict[str, str] = {}
        for path in sorted((self.folder / "keyholders").glob("*.json")):
            with contextlib.suppress(Malformed, NotFound):
                found.setdefault(self.key(path.stem).keyid, path.stem)
        return found

    def approvers(self) -> Approvers:
        """What the image repository signs as ``workspace/approvers.json``."""
        return Approvers(
            schema=1,
            threshold=self.rollout.threshold,
            authors=tuple(key_to_dict(k) for k in self.keys(self.rollout.authors)),
            approvers=tuple(key_to_dict(k) for k in self.keys(self.rollout.approvers)),
        )

    def holders(self) -> dict[str, tuple[str, ...]]:
        """Keyholder -> the roles it stands for, as ``image root`` or ``director online``."""
        result: dict[str, list[str]] = {}
        for role, item in self.image.roles():
            for name in item.keyholders:
                result.setdefault(name, []).append(f"image {role}")
        for role, item in (("root", self.director.root), ("online", self.director.online)):
            for name in item.keyholders:
                result.setdefault(name, []).append(f"director {role}")
        for name in self.rollout.authors:
            result.setdefault(name, []).append("rollout author")
        for name in self.rollout.approvers:
            result.setdefault(name, []).append("rollout approver")
        return {name: tuple(roles) for name, roles in result.items()}


def load(folder: Path) -> Policy:
    """Read and check all three files; ``Malformed`` names file and key, ``NotFound`` the file."""
    image = _image(folder / "image.toml")
    director = _director(folder / "director.toml")
    rollout = _rollout(folder / "rollout.toml")
    ours = {name for _, role in image.roles() for name in role.keyholders}
    both = ours & {*director.root.keyholders, *director.online.keyholders}
    if both:
        raise Malformed(
            f"director.toml: {min(both)} is a keyholder of both repositories",
            subject="director.toml",
            remedy="give each repository keyholders of its own",
        )
    return Policy(folder, image, director, rollout)


def read_key(folder: Path, name: str) -> Key:
    """Public key of a keyholder from ``<folder>/keyholders/<name>.json``."""
    path = key_path(folder, name)
    data = durable.read(path, 64 * 1024, "keyholder")
    if data is None:
        raise NotFound(
            f"no public key of keyholder {name!r}: {path} is not there",
            subject=name,
            remedy=f"ota key generate {name}, or copy the keyholder's public file there",
        )
    body = strict.loads(data, limit=64 * 1024, what=str(path))
    if not isinstance(body, dict):
        raise Malformed(f"{path}: not a public key", subject=str(path))
    try:
        return key_from_dict(body)
    except Malformed as e:
        raise Malformed(f"{path}: {e}", subject=str(path)) from e


def key_path(folder: Path, name: str) -> Path:
    """Where the public key of a keyholder lies; ``Malformed`` for a name with a path in it."""
    return folder / "keyholders" / f"{strict.identifier(name, 'keyholder')}.json"


def _image(path: Path) -> ImagePolicy:
    raw = policy_file.read(path, policy_file.ImageTable)
    base = raw.targets
    components = {}
    _check_bins(path, "bins", raw.bins)
    for name, part in raw.components.items():
        where = f"components.{name}"
        if name in RESERVED or not strict.IDENTIFIER.fullmatch(name):
            raise policy_file.bad(path, where, "is not a name that a component can have")
        _check_bins(path, f"{where}.bins", part.bins)
        if part.removed:
            continue
        table = policy_file.Table(
            part.keyholders if part.keyholders is not None else base.keyholders,
            part.threshold if part.threshold is not None else base.threshold,
            part.expires if part.expires is not None else base.expires,
        )
        components[name] = policy_file.role(path, where, table)
    _own_keyholders(path, raw, components)
    return ImagePolicy(
        root=policy_file.role(path, "root", raw.root),
        targets=policy_file.role(path, "targets", raw.targets),
        snapshot=policy_file.role(path, "snapshot", raw.snapshot),
        timestamp=policy_file.role(path, "timestamp", raw.timestamp),
        components=components,
        bins=raw.bins,
        spread={n: part.bins for n, part in raw.components.items() if part.bins is not None},
        removed=frozenset(n for n, part in raw.components.items() if part.removed),
    )


def _own_keyholders(path: Path, raw: policy_file.ImageTable, components: dict[str, Role]) -> None:
    """Who signs procedures that run programs must not be who signs images, nor inherited."""
    if PLAYBOOKS not in components:
        return
    where = f"components.{PLAYBOOKS}.keyholders"
    if raw.components[PLAYBOOKS].keyholders is None:
        raise policy_file.bad(path, where, "must be named")
    if raw.components[PLAYBOOKS].bins not in {None, 1}:
        raise policy_file.bad(path, f"components.{PLAYBOOKS}.bins", "is not for playbooks")
    top = (raw.root, raw.targets, raw.snapshot, raw.timestamp)
    others = {name for table in top for name in table.keyholders}
    others |= {n for c, role in components.items() if c != PLAYBOOKS for n in role.keyholders}
    both = others.intersection(components[PLAYBOOKS].keyholders)
    if both:
        raise policy_file.bad(path, where, f"names {min(both)}, who holds another role")


def _check_bins(path: Path, where: str, count: int | None) -> None:
    if count is not None and not bins.possible(count):
        raise policy_file.bad(
            path, where, f"is {count}; 1 (none) or a power of two up to {bins.MOST} is possible"
        )


def _director(path: Path) -> DirectorPolicy:
    raw = policy_file.read(path, policy_file.DirectorTable)
    online = raw.online
    role = policy_file.Table(online.keyholders, online.threshold, online.idle)
    policy = DirectorPolicy(
        root=policy_file.role(path, "root", raw.root),
        online=policy_file.role(path, "online", role, expires="idle"),
        open=policy_file.duration(online.open, f"{path.name}: online.open"),
    )
    if policy.open > policy.idle:
        raise policy_file.bad(path, "online.open", "is longer than online.idle")
    return policy


def _rollout(path: Path) -> RolloutPolicy:
    raw = policy_file.read(path, policy_file.RolloutTable)
    authors = policy_file.names(path, "authors", raw.authors)
    approvers = policy_file.names(path, "approvers", raw.approvers)
    others = min(len(set(approvers) - {author}) for author in authors)
    if not 1 <= raw.threshold <= others:
        raise policy_file.bad(
            path,
            "threshold",
            f"is {raw.threshold}; {others} approvers can sign a plan that they did not write",
        )
    return RolloutPolicy(authors, approvers, raw.threshold)
