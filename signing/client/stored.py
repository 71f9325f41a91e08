"""A stored set of trusted metadata, verified against itself: a look without a network.

Expiry is not asked. Roles that are older than the stored snapshot lists were not needed when it
was adopted; they are what is remembered of them, and are left alone.

>>> check_stored(folder.load())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from tuf.api.metadata import Metadata, Targets

from signing import bins
from signing.client.errors import translated
from signing.client.workflow import TufClient, is_bin_of

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def check_stored(stored: Mapping[str, bytes]) -> None:
    """Raise ``Refusal`` unless everything in the set holds.

    A set without a timestamp is a device that has not looked yet: its root alone is checked.
    """

    def fetch(name: str, _limit: int) -> bytes | None:
        return stored.get(_plain(name))

    trusted = {"root.json": stored["root.json"]}
    client = TufClient(
        trusted, fetch, _ANY_TIME, check_role=bins.refuse_misnamed, check_expiry=False
    )
    if "timestamp.json" not in stored:
        return
    client.update_timestamp()
    client.update_snapshot()
    waiting = [(Targets.type, client.update_targets())]
    seen = {Targets.type}
    while waiting:
        parent, role = waiting.pop()
        for name in sorted(set(_under(role, stored)) - seen):
            seen.add(name)
            if _listed(client, name, stored[f"{name}.json"]):
                waiting.append((name, client.role(name, parent)))


def _under(role: Targets, stored: Mapping[str, bytes]) -> Iterator[str]:
    """Stored roles that ``role`` delegates to, by name or as hash bins."""
    found = role.delegations
    for name in (file.removesuffix(".json") for file in stored):
        named = found and found.roles and name in found.roles
        if named or is_bin_of(role, name):
            yield name


def _listed(client: TufClient, name: str, data: bytes) -> bool:
    """Whether these bytes are what the snapshot lists of a role, or should be."""
    meta = client.snapshot.meta.get(f"{name}.json")
    if meta is None:
        return False
    with translated(name):
        return Metadata[Targets].from_bytes(data).signed.version >= meta.version


def _plain(name: str) -> str:
    """``3.snapshot.json`` -> ``snapshot.json``."""
    number, _, plain = name.partition(".")
    return plain if number.isdigit() else name
