"""Both repositories of one device, in memory, able to lie.

Written on python-tuf's metadata API alone, so that the device is not tested against the code
that its own operators use. Everything is signed on ``publish_*``; a test edits ``director`` or
``image`` (name -> bytes) to lie, or passes ``lie`` to change the signed content before it is
signed with the real keys, as a thief of those keys would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from signing import strict

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
Lie = Callable[[Signed], None]


def key() -> CryptoSigner:
    """A fresh signing key."""
    return CryptoSigner.generate_ed25519()


class Repo:
    """One TUF repository: role -> signers, and its files by plain TUF name."""

    def __init__(self, device: str | None = None, now: datetime = NOW) -> None:
        self.device = device
        self.now = now
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.signers = {r: [key()] for r in ("root", "timestamp", "snapshot", "targets")}
        self.root = Root(consistent_snapshot=True, expires=now + timedelta(days=365))
        for role, signers in self.signers.items():
            for signer in signers:
                self.root.add_key(signer.public_key, role)
        self.targets = Targets(expires=now + timedelta(days=90))
        self.delegated: dict[str, Targets] = {}
        self.snapshot = Snapshot(expires=now + timedelta(days=30))
        self.timestamp = Timestamp(expires=now + timedelta(days=3))
        self.publish_root(bump=False)

    def fetch(self, name: str, limit: int) -> bytes | None:
        """A store that answers honestly with whatever lies in ``files``."""
        self.asked.append(name)
        return self.files.get(name)

    def sign(self, role: str, signed: Signed, lie: Lie | None = None) -> bytes:
        """Mark, lie if asked, and sign with all keys of ``role``."""
        signed = deepcopy(signed)
        if self.device is not None and role != "root":
            signed.unrecognized_fields["device"] = self.device
        if role in {"root", "timestamp"}:
            signed.unrecognized_fields["issued"] = strict.stamp(self.now)
        if lie is not None:
            lie(signed)
        metadata: Metadata[Any] = Metadata(signed)
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish_root(self, *, bump: bool = True, extra: CryptoSigner | None = None) -> bytes:
        """Sign and store the current root, also with the keys it replaces when given."""
        if bump:
            self.root.version += 1
        data = self.sign("root", self.root)
        if extra is not None:
            metadata = Metadata[Root].from_bytes(data)
            metadata.sign(extra, append=True)
            data = metadata.to_bytes()
        self.files[f"{self.root.version}.root.json"] = data
        return data

    def replace_keys(self, role: str) -> None:
        """Give ``role`` a new key and publish the root that says so."""
        old = self.signers[role][0]
        new = key()
        self.root.revoke_key(old.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.signers[role] = [new]
        self.publish_root(extra=old if role == "root" else None)

    def delegate(self, role: str, paths: list[str] | None = None) -> None:
        """Delegate ``<role>/*`` to a terminating role with a key of its own."""
        signer = key()
        self.signers[role] = [signer]
        if self.targets.delegations is None:
            self.targets.delegations = Delegations({}, {})
        roles = self.targets.delegations.roles
        assert roles is not None
        roles[role] = DelegatedRole(role, [], 1, True, paths or [f"{role}/*"])
        self.targets.add_key(signer.public_key, role)
        self.delegated[role] = Targets(expires=self.now + timedelta(days=90))

    def spread(self, role: str, bits: int, prefix: str | None = None) -> SuccinctRoles:
        """Spread a component's targets over ``2**bits`` bins, signed by its own keys."""
        part, signers = self.delegated[role], self.signers[role]
        keyids = [signer.public_key.keyid for signer in signers]
        found = SuccinctRoles(keyids, 1, bits, prefix or f"{role}.")
        keys = {signer.public_key.keyid: signer.public_key for signer in signers}
        part.delegations = Delegations(keys, succinct_roles=found)
        for name in found.get_roles():
            self.signers[name] = signers
            self.delegated[name] = Targets(expires=part.expires)
            self.delegated[name].unrecognized_fields["role"] = name
        for path, target in part.targets.items():
            self.delegated[found.get_role_for_target(path)].targets[path] = target
        part.targets = {}
        return found

    def home(self, path: str) -> Targets:
        """The role that lists a path, or shall."""
        component = path.split("/", maxsplit=1)[0]
        part = self.delegated[component]
        found = part.delegations.succinct_roles if part.delegations else None
        return self.delegated[found.get_role_for_target(path)] if found else part

    def publish(self, lies: dict[str, Lie] | None = None) -> None:
        """Sign targets, delegated roles, snapshot and timestamp at one version higher."""
        lies = lies or {}
        metas: dict[str, MetaFile] = {}
        for name, role in {"targets": self.targets, **self.delegated}.items():
            if self.files:
                role.version += 1
            data = self.sign(name, role, lies.get(name))
            version = Metadata[Targets].from_bytes(data).signed.version
            self.files[f"{version}.{name}.json"] = data
            metas[f"{name}.json"] = meta(version, data)
        self.snapshot.version += 1
        self.snapshot.meta = metas
        data = self.sign("snapshot", self.snapshot, lies.get("snapshot"))
        version = Metadata[Snapshot].from_bytes(data).signed.version
        self.files[f"{version}.snapshot.json"] = data
        self.timestamp.version += 1
        self.timestamp.snapshot_meta = meta(version, data)
        self.files["timestamp.json"] = self.sign("timestamp", self.timestamp, lies.get("timestamp"))


def meta(version: int, data: bytes) -> MetaFile:
    """What a parent lists of a file."""
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def release_target(path: str, data: bytes, **custom: Any) -> TargetFile:
    """An image target as the image repository lists it."""
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    body: dict[str, Any] = {
        "kind": "release",
        "component": path.split("/", maxsplit=1)[0],
        "version": "1.0.0",
        "hardware_ids": ["gw-rev-b"],
        "release_counter": 1,
        "format": "file",
        "security_fix": False,
        "notes": "",
    } | custom
    return TargetFile(len(data), hashes, path, {"custom": body})


def assignment_target(listed: TargetFile, **custom: Any) -> TargetFile:
    """The director's assignment of an image target."""
    body: dict[str, Any] = {
        "component": listed.path.split("/")[0],
        "hardware_id": "gw-rev-b",
        "release_counter": 1,
        "rollout": "app-1-aaaaaa",
        "wave": 1,
        "order": "ota-app-1-aaaaaa-u1-w1-b1",
        "kind": "update",
        "least_image_snapshot": 1,
        "not_after": strict.stamp(NOW + timedelta(days=7)),
        "clear_denial": False,
    } | custom
    return TargetFile(listed.length, dict(listed.hashes), listed.path, {"custom": body})


class World:
    """One device's two repositories, with one component ``app`` and honest content."""

    def __init__(self, device: str = "press-07") -> None:
        self.device = device
        self.image = Repo()
        self.director = Repo(device)
        self.image.delegate("app")
        self.images: dict[str, bytes] = {}
        self.image.publish()
        self.director.publish()

    def release(self, path: str = "app/app-1.bin", data: bytes = b"one", **custom: Any) -> str:
        """List a release and publish; returns its sha256."""
        target = release_target(path, data, **custom)
        self.image.home(path).targets[path] = target
        self.images[target.hashes["sha256"]] = data
        self.image.publish()
        return target.hashes["sha256"]

    def listed(self, path: str) -> TargetFile:
        """What the image repository lists."""
        return self.image.home(path).targets[path]

    def assign(self, path: str = "app/app-1.bin", **custom: Any) -> None:
        """Assign a listed release and publish."""
        self.director.targets.targets = {path: assignment_target(self.listed(path), **custom)}
        self.director.publish()

    # -- playbooks -------------------------------------------------------------------------------
    def playbook(self, body: dict[str, Any], **custom: Any) -> str:
        """List a playbook, signed by a role of its own, and publish; returns its path."""
        if "playbooks" not in self.image.delegated:
            self.image.delegate("playbooks")
        data = strict.compact(body)
        target = playbook_target(body, data, **custom)
        self.image.delegated["playbooks"].targets[target.path] = target
        self.images[target.hashes["sha256"]] = data
        self.image.publish()
        return target.path

    def run(self, body: dict[str, Any], parameters: dict[str, str], **custom: Any) -> str:
        """Order a listed playbook beside what else is assigned; returns the order."""
        path = f"playbooks/{body['name']}-{body['version']}.json"
        target = run_target(self.listed(path), parameters, **custom)
        kept = self.director.targets.targets.items()
        self.director.targets.targets = {
            p: t for p, t in kept if not p.startswith("playbooks/")
        } | {path: target}
        self.director.publish()
        return str(target.unrecognized_fields["custom"]["order"])


def playbook_target(body: dict[str, Any], data: bytes, **custom: Any) -> TargetFile:
    """A playbook as the image repository lists it."""
    said: dict[str, Any] = {
        "kind": "playbook",
        "component": "playbooks",
        **{name: body[name] for name in ("name", "version", "summary", "platforms", "roads")},
    } | custom
    path = f"playbooks/{body['name']}-{body['version']}.json"
    return TargetFile(
        len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path, {"custom": said}
    )


def run_target(listed: TargetFile, parameters: dict[str, str], **custom: Any) -> TargetFile:
    """The director's order to run a playbook."""
    body: dict[str, Any] = {
        "component": "playbooks",
        "parameters": parameters,
        "rollout": "tidy-1-aaaaaa",
        "wave": 0,
        "order": "ota-tidy-1-aaaaaa-u1-w0-b0",
        "kind": "playbook",
        "least_image_snapshot": 1,
        "not_after": strict.stamp(NOW + timedelta(days=7)),
    } | custom
    return TargetFile(listed.length, dict(listed.hashes), listed.path, {"custom": body})
