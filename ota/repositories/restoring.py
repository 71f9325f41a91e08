"""Use case: after a store was restored from a backup, lift every version above what was seen.

Devices refuse metadata that is older than what they have seen, so a restored store would strand
them. What this workspace has seen (``state/seen``), and what devices say in their signed reports,
is passed by ``by`` versions: offline roles in a change that waits for its keyholders, snapshot
and timestamp with it, director metadata at once. Roots are never lifted, they only follow one
another: those that the backup lacks are given back from our own copies.

>>> lift(repos, 10, {"gw-1": Seen(director=..., image=...)}, now).devices
('gw-1',)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api.metadata import Metadata

from ota.errors import Malformed, OtaError
from ota.repositories.director import DirectorDesk
from ota.repositories.opened import REPOSITORIES
from ota.repositories.repo import Repositories
from signing import layout
from signing.changes.ceremony import Pending
from signing.report import Versions

_MOST = 1_000_000


@dataclass(frozen=True)
class Seen:
    """Trusted metadata versions of one device, from its newest accepted report."""

    director: Versions
    image: Versions


@dataclass(frozen=True)
class Lifted:
    """What was done: roots given back, devices lifted, and the change that waits."""

    roots: tuple[str, ...]
    devices: tuple[str, ...]
    problems: dict[str, OtaError]
    pending: Pending


def lift(
    repos: Repositories,
    by: int,
    seen: Mapping[str, Seen],
    now: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> Lifted:
    """Give back lost roots, make the image repository's change, lift every device.

    ``seen``: registered device -> what it reported. Raises ``NotPermitted``
    (``another-change``), ``Refusal`` when the store holds something else than an older state.
    """
    if not 1 <= by <= _MOST:
        raise Malformed(f"bump: {by} is not between 1 and {_MOST}", subject="bump")
    roots = _give_back(repos)
    image = repos.image(remembered=False)
    pending = image.bump(by, _image_versions(repos, seen), now)
    waits = repos.pending("image")
    if waits is None or waits.above == (0, 0):
        repos.replace(pending)
    else:
        pending = waits
    desk = DirectorDesk(repos.director(), repos.publisher)
    done: list[str] = []
    problems: dict[str, OtaError] = {}
    devices = sorted({*seen, *layout.devices(repos.store.list)})
    for number, device in enumerate(devices, 1):
        known = seen[device].director if device in seen else Versions()
        try:
            desk.bump(device, by, known, now)
            done.append(device)
        except OtaError as e:
            problems[device] = e
        if progress:
            progress(number, len(devices))
    return Lifted(tuple(roots), tuple(done), problems, pending)


def _give_back(repos: Repositories) -> list[str]:
    """Put our own roots where the store lacks them; ``Busy`` where it has others."""
    given = []
    for name in REPOSITORIES:
        folder = layout.DIRECTOR_ROOT if name == "director" else layout.IMAGE
        for version, data in repos.anchors(name).items():
            file = f"{folder}/{layout.versioned(version, 'root')}"
            if repos.store.get(file, 512_000) is None:
                repos.store.put(file, data)
                given.append(file)
    return given


def _image_versions(repos: Repositories, seen: Mapping[str, Seen]) -> dict[str, int]:
    """Role -> the highest version that this workspace or any device has seen.

    All devices share this repository, so the word of one must not wind it forward: what is more
    than :data:`_MOST` above our own is no backup's lag, and is not believed.
    """
    found = _here(repos)
    top = {name: found.get(name, 0) + _MOST for name in ("timestamp", "snapshot", "targets")}
    for device in seen.values():
        for name, most in top.items():
            said = getattr(device.image, name)
            found[name] = max(found.get(name, 0), said if said <= most else 0)
    return found


def _here(repos: Repositories) -> dict[str, int]:
    """Role -> version, as this workspace has seen them."""
    found: dict[str, int] = {}
    known = repos.memory.load()
    for name in ("timestamp", "snapshot"):
        if f"{name}.json" in known:
            body: Metadata[Any] = Metadata.from_bytes(known[f"{name}.json"])
            found[name] = body.signed.version
            if name == "snapshot":
                found |= {f.removesuffix(".json"): m.version for f, m in body.signed.meta.items()}
    return found
