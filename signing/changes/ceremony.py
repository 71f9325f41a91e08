"""A change that waits for signatures: one file per repository, ``state/pending/<repo>.json``.

It holds the roles to be signed, the versions they are built on, whose signatures are needed and
those that are there. Nothing in it is trusted: each signature is verified when it is added and
again whenever the file is read, and what is published is proven from the trusted root.

>>> pending = load(path)
>>> pending, roles = add_signature(pending, signer)   # ("targets", "app")
>>> pending.missing()
{"root": Missing(have=1, need=2, keyids=(...))}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Targets

from signing import durable, repository, shapes, strict
from signing.edition import Upload
from signing.enrolment import key_from_dict, key_to_dict
from signing.errors import Malformed, NeedsHuman, NotPermitted

Repository = Literal["image", "director"]
_LIMIT = 256 * 1024 * 1024


class Needs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``threshold`` of these public keys must sign."""

    threshold: int
    keys: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, keys: list[Key], threshold: int) -> Needs:
        """From key objects."""
        return cls(threshold=threshold, keys=tuple(key_to_dict(k) for k in keys))

    def by_id(self) -> dict[str, Key]:
        """Key id -> key; ids are recomputed, never believed."""
        found = [key_from_dict(k) for k in self.keys]
        return {key.keyid: key for key in found}


@dataclass(frozen=True)
class Missing:
    """What one role still lacks: ``keyids`` may sign and have not."""

    have: int
    need: int
    keyids: tuple[str, ...]


class Waiting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One role: its signed part, the version it replaces (0: none), and signatures so far.

    A root needs the keys of the old and of the new root: two entries in ``needs``.
    """

    signed: dict[str, Any]
    base: int
    needs: tuple[Needs, ...]
    signatures: dict[str, str] = {}

    def metadata(self) -> Metadata[Any]:
        """The role with its signatures; ``Malformed`` if it is not TUF metadata."""
        body = {
            "signed": self.signed,
            "signatures": [{"keyid": k, "sig": s} for k, s in self.signatures.items()],
        }
        try:
            # from_dict consumes its argument
            return Metadata.from_dict(msgspec.json.decode(msgspec.json.encode(body)))
        except (RepositoryError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise Malformed(f"pending change: not TUF metadata: {e!r:.120}") from e

    def missing(self) -> Missing | None:
        """What is lacking, or None; only signatures that verify are counted, each key once."""
        metadata = self.metadata()
        payload = metadata.signed_bytes
        for need in self.needs:
            keys = need.by_id()
            good = {
                keyid
                for keyid, signature in metadata.signatures.items()
                if keyid in keys and _holds(keys[keyid], signature, payload)
            }
            if len(good) < need.threshold:
                open_keys = tuple(sorted(set(keys) - good))
                return Missing(len(good), need.threshold, open_keys)
        return None

    def signed_by(self, keyid: str) -> bool:
        """Whether this key belongs to the role, has signed, and its signature holds."""
        metadata = self.metadata()
        keys = {k: v for need in self.needs for k, v in need.by_id().items()}
        signature = metadata.signatures.get(keyid)
        if signature is None or keyid not in keys:
            return False
        return _holds(keys[keyid], signature, metadata.signed_bytes)


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image to upload with the change; the file stays where it is until then."""

    name: str
    source: str
    sha256: str
    length: int


class Pending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole change. ``files`` are small signed settings (store name -> text).

    ``before`` holds the published text of each role that the change replaces, so that a signer
    without a store sees the difference. ``above``: versions of snapshot and timestamp that must
    be exceeded, for a store that was restored from backup; ``dormant``: names that are delegated
    to no longer, and the version at which the snapshot must list them then.
    """

    schema: Literal[1]
    repository: Repository
    created: str
    roles: dict[str, Waiting]
    summary: tuple[str, ...]
    uploads: tuple[Image, ...] = ()
    files: dict[str, str] = {}
    before: dict[str, str] = {}
    above: tuple[int, int] = (0, 0)
    dormant: dict[str, int] = {}

    def missing(self) -> dict[str, Missing]:
        """Role -> what it still lacks; empty when the change can be published."""
        found = {name: role.missing() for name, role in self.roles.items()}
        return {name: lack for name, lack in found.items() if lack is not None}

    def signed(self, role: str) -> Signed:
        """The signed part of one role."""
        signed = self.roles[role].metadata().signed
        if not isinstance(signed, Signed):
            raise Malformed("pending change: not TUF metadata", subject=role)
        return signed

    def drafts(self) -> dict[str, Targets]:
        """The targets roles of the change, root left out."""
        found = {name: self.signed(name) for name in self.roles if name != Root.type}
        return {name: role for name, role in found.items() if isinstance(role, Targets)}

    def key_ids(self) -> frozenset[str]:
        """Every key id that the change names: of its root, its delegations and its signers."""
        found = {keyid for role in self.roles.values() for n in role.needs for keyid in n.by_id()}
        root = self.signed(Root.type) if Root.type in self.roles else None
        for targets in (None, *self.drafts().values()):
            found |= repository.key_ids(root if isinstance(root, Root) else None, targets)
        return frozenset(found)

    def finished(self) -> dict[str, bytes]:
        """Role -> finished bytes; ``NeedsHuman`` (code ``unsigned``) while any is missing."""
        lacking = self.missing()
        if lacking:
            words = ", ".join(f"{n} {m.have} of {m.need}" for n, m in sorted(lacking.items()))
            raise NeedsHuman(
                f"the change of the {self.repository} repository waits for signatures: {words}",
                code="unsigned",
                subject=self.repository,
                remedy="ota repo sign --key KEYHOLDER",
            )
        return {name: _finish(role.metadata()) for name, role in self.roles.items()}

    def to_upload(self) -> tuple[Upload, ...]:
        """Images that go with the change."""
        return tuple(Upload(i.name, Path(i.source), i.sha256, i.length) for i in self.uploads)


def _finish(metadata: Metadata[Any]) -> bytes:
    return repository.encoded(metadata.signed, metadata.signatures)


def waiting(signed: Signed, base: int, *needs: Needs) -> Waiting:
    """A role without signatures yet."""
    return Waiting(signed=signed.to_dict(), base=base, needs=needs)


def add_signature(pending: Pending, signer: Signer) -> tuple[Pending, tuple[str, ...]]:
    """Sign every role that this key may sign; returns the change and the roles just signed.

    Each signature is verified at once. Raises ``NotPermitted`` (code ``key-not-in-role``) when
    the key belongs to no waiting role. Signing twice changes nothing.
    """
    keyid = signer.public_key.keyid
    mine = {n: r for n, r in pending.roles.items() if any(keyid in x.by_id() for x in r.needs)}
    if not mine:
        raise NotPermitted(
            f"key {keyid[:16]} belongs to no role that waits: {', '.join(sorted(pending.roles))}",
            code="key-not-in-role",
            subject=keyid,
            remedy="ota repo status",
        )
    roles = dict(pending.roles)
    done = []
    for name, role in mine.items():
        if role.signed_by(keyid):
            continue
        payload = role.metadata().signed_bytes
        signature = signer.sign(payload)
        if not _holds(signer.public_key, signature, payload):
            raise NotPermitted(f"the signature of {name} does not verify", code="bad-signature")
        added = role.signatures | {keyid: signature.signature}
        roles[name] = msgspec.structs.replace(role, signatures=added)
        done.append(name)
    return msgspec.structs.replace(pending, roles=roles), tuple(sorted(done))


def _holds(key: Key, signature: Signature, payload: bytes) -> bool:
    try:
        key.verify_signature(signature, payload)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return signature.keyid == key.keyid


def load(path: Path) -> Pending | None:
    """The change that waits, or None; ``Malformed`` for a file that is not one."""
    data = durable.read(path, _LIMIT, "pending change")
    if data is None:
        return None
    try:
        body = strict.loads(data, limit=_LIMIT, what="pending change")
        pending = msgspec.convert(body, Pending, strict=True)
        check(pending)
    except (msgspec.ValidationError, Malformed) as e:
        raise Malformed(f"{path}: {e}", subject=str(path), remedy="ota repo discard") from e
    return pending


def check(pending: Pending) -> None:
    """Every role is TUF metadata and its keys are keys; a director's change is a root."""
    if pending.repository == "director" and set(pending.roles) != {Root.type}:
        raise Malformed("pending change: the director has a root and nothing else")
    for name, role in pending.roles.items():
        shapes.check(name, role.signed)
        _check_keys(name, role.signed)
        role.missing()
        wanted: type[Signed] = Root if name == Root.type else Targets
        if not isinstance(pending.signed(name), wanted):
            raise Malformed(f"pending change: {name!r:.80} is of another kind", subject=name[:80])


def _check_keys(name: str, signed: dict[str, Any]) -> None:
    """Each key that a role names is called by its own digest.

    A signer reads ids as names of keyholders. TUF lets an id be any text (specification 4.2), so
    that under a keyholder's id anybody's key could stand, and nothing would seem to have changed.
    """
    delegations = signed.get("delegations") or {}
    for keyid, body in {**signed.get("keys", {}), **delegations.get("keys", {})}.items():
        try:
            key_from_dict({**body, "keyid": keyid})
        except Malformed as e:
            raise Malformed(f"pending change: {name}: {keyid[:16]}: {e}", subject=name) from e


def save(path: Path, pending: Pending) -> None:
    """Write it, whole or not at all."""
    durable.replace(path, msgspec.json.format(msgspec.json.encode(pending), indent=1))
