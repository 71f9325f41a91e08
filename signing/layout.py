"""Names of objects in a store, in one place for publishers and devices alike.

``image/metadata/``            N.root.json timestamp.json N.snapshot.json N.<role>.json
``image/targets/``             <component>/<sha256>.<file>
``director/root/``             N.root.json, shared by all devices
``director/devices/<id>/``     timestamp.json N.snapshot.json N.targets.json; id percent-encoded

>>> image_target("app/app-1.tar", "ab12")
'image/targets/app/ab12.app-1.tar'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote

from signing import strict

IMAGE = "image/metadata"
TARGETS = "image/targets"
DIRECTOR_ROOT = "director/root"
DEVICES = "director/devices"
PLAYBOOKS = "playbooks"
"""First segment of every playbook's path, and the role that signs them; no component's name."""


def image_metadata(file: str) -> str:
    """Store name of one metadata file of the image repository."""
    return f"{IMAGE}/{file}"


def image_target(path: str, sha256: str) -> str:
    """Store name of an image, prefixed by its hash (TUF consistent snapshots)."""
    component, _, file = path.partition("/")
    return f"{TARGETS}/{component}/{sha256}.{file}"


def director_metadata(device: str, file: str) -> str:
    """Store name of one director metadata file: shared roots, everything else per device."""
    strict.identifier(device, "device")
    if file.endswith(".root.json"):
        return f"{DIRECTOR_ROOT}/{file}"
    return f"{DEVICES}/{quote(device, safe='')}/{file}"


def devices(listing: Callable[[str], Iterable[str]]) -> list[str]:
    """Ids of all devices that have director metadata; ``listing`` is a store's ``list``."""
    start, end = f"{DEVICES}/", "/timestamp.json"
    return sorted(
        unquote(name.removeprefix(start).removesuffix(end))
        for name in listing(start)
        if name.endswith(end)
    )


def versioned(version: int, role: str) -> str:
    """``(3, "targets")`` -> ``3.targets.json``, the role percent-encoded."""
    return f"{version}.{quote(role, safe='')}.json"
