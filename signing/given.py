"""Versions that were given to some content, once and for ever, as far as this workspace knows.

A snapshot lists a hash bin by its version alone, which TUF allows where the version says which file
is meant (TUF specification 4.4). Drafts travel: one that people signed and then discarded lies on
a stick, as well signed as its successor. Under one version number it could be served in its place.
So a number that ever carried signatures here, or was discarded here, is not given again; and
whoever signs here signs one content under one number (rule 2).

Root is left out: its numbers can not be skipped (TUF 5.3.5), and it stands in no snapshot.

>>> given = Given(Path("state/given/image.json"))
>>> given.refuse_other(pending, "targets-1"); given.note(pending)
>>> given.highest("app")
7
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from tuf.api.metadata import Root

from signing import durable, strict
from signing.changes.ceremony import Pending
from signing.errors import Malformed, NotPermitted

_LIMIT = 64 * 1024 * 1024
_KEPT = 8
"""Versions remembered of each role: those below were published over long ago."""


class Given:
    """The record of one repository in one file: role -> version -> SHA-256 of its signed bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[int, str]] | None = None

    def highest(self, role: str) -> int:
        """The highest version of a role that is taken, 0 when none is known."""
        return max(self._load().get(role, {}), default=0)

    def refuse_other(self, pending: Pending, keyid: str) -> None:
        """``NotPermitted`` (``signed-before``) when a key would sign a number's second content."""
        known = self._load()
        for name, version, digest in _contents(pending, _of_key(pending, keyid)):
            before = known.get(name, {}).get(version, digest)
            if before != digest:
                raise NotPermitted(
                    f"other content was signed here as version {version} of {name}",
                    code="signed-before",
                    subject=name,
                    remedy="where it was made: ota repo discard image, then make it again",
                )

    def note(self, pending: Pending, roles: Iterable[str] | None = None) -> None:
        """Remember these roles of a change, all of them by default; durable when it returns."""
        known = {name: dict(versions) for name, versions in self._load().items()}
        for name, version, digest in _contents(pending, pending.roles if roles is None else roles):
            mine = known.setdefault(name, {})
            mine.setdefault(version, digest)
            known[name] = {v: mine[v] for v in sorted(mine)[-_KEPT:]}
        if known != self._load():
            durable.replace(self._path, msgspec.json.encode(known))
            self._known = known

    def note_signed(self, pending: Pending, keyid: str = "") -> None:
        """Remember what is signed already, and what this key is about to sign."""
        signed = {name for name, role in pending.roles.items() if role.signatures}
        self.note(pending, signed | set(_of_key(pending, keyid)))

    def _load(self) -> dict[str, dict[int, str]]:
        if self._known is None:
            data = durable.read(self._path, _LIMIT, "versions given")
            try:
                read = msgspec.json.decode(data or b"{}", type=dict[str, dict[int, str]])
            except msgspec.MsgspecError as e:
                raise Malformed(f"{self._path}: {e}", subject=str(self._path)) from e
            self._known = read
        return self._known


def _of_key(pending: Pending, keyid: str) -> Iterator[str]:
    """Roles that this key may sign."""
    for name, role in pending.roles.items():
        if any(keyid in need.by_id() for need in role.needs):
            yield name


def _contents(pending: Pending, roles: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Role, version, digest of the bytes that signatures cover."""
    for name in roles:
        if name != Root.type:
            body = pending.roles[name].metadata()
            yield name, body.signed.version, strict.digest(body.signed_bytes)
