"""Whether director and image repository agree on one assignment for one component.

Pure: a verified assignment, what the verified image repository lists under its path, and what
this component is. TUF alone can not tell wrong hardware, another component's role, or an older
*listed* release; those checks are ours (Uptane 2.1, 5.4.4.2; rules 1, 3, 4, 16).

>>> agree(item, found, snapshot_version=7, hardware_id="gw-rev-b", floor=1, now=now)
Release(path='app/app-2.0.0.tar', ...)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from ota.agent.verdict import WantedRun
from signing import bins, shared
from signing.assignment import Assignment
from signing.client.workflow import Found, TufClient
from signing.errors import Malformed, Outage, Refusal, Stale
from signing.playbooks import target as playbook_target
from signing.playbooks.playbook import Playbook
from signing.playbooks.run import Assigned, PlaybookRun
from signing.playbooks.target import PlaybookTarget
from signing.release import Release, split_path

_CHUNK = 4 * 1024 * 1024
_DEEPEST = 3
"""targets, component, bin."""
_HASHES = frozenset({"sha256", "sha384", "sha512"})


def agree(
    item: Assignment,
    found: Found | None,
    *,
    snapshot_version: int,
    hardware_id: str,
    floor: int,
    now: datetime,
) -> Release:
    """Return the release that both repositories mean, or raise the reason against it.

    1. Behind the snapshot that lists it: ``image-stale``, an outage, retried (rule 16).
    2. Past its end: stale.
    3. Listed, under the same path, with the same length and every hash the same.
    4. Path, component and delegating role agree; the kind is a release.
    5. Its hardware ids and the assignment's are this component's.
    6. Counters equal in both, and not below the floor (rules 3, 4).
    """
    # (1), (2), (3)
    listing = _listed_alike(item, found, snapshot_version, now)
    # (4)
    release = _described(listing)
    _check_role(release.path, listing)
    # (5)
    if item.hardware_id != hardware_id or hardware_id not in release.hardware_ids:
        raise Refusal(
            "hardware-mismatch",
            f"{item.path} is for {', '.join(release.hardware_ids)}; this is {hardware_id}",
        )
    # (6)
    if release.release_counter != item.release_counter:
        raise Refusal("counter-mismatch", f"{item.path}: counters differ")
    if release.release_counter < floor:
        raise Refusal(
            "below-floor", f"{item.path}: counter {release.release_counter} < floor {floor}"
        )
    return release


def agree_on_run(
    item: PlaybookRun, found: Found | None, *, snapshot_version: int, now: datetime
) -> PlaybookTarget:
    """Return the playbook that both repositories mean, or raise the reason against it.

    Steps 1 to 3 are those of :func:`agree`; then:

    4. The kind is a playbook, and path and delegating role are those of playbooks.
    """
    listing = _listed_alike(item, found, snapshot_version, now)
    target = listing.target
    custom = target.unrecognized_fields.get("custom")
    kind = custom.get("kind") if isinstance(custom, dict) else None
    if kind != "playbook":
        raise Refusal("kind-mismatch", f"{target.path} is {kind!r:.80}, not a playbook")
    _check_role(target.path, listing)
    try:
        return PlaybookTarget.from_target(target)
    except Malformed as e:
        raise Refusal("playbook-malformed", str(e), subject=target.path) from e


def fitting(wanted: WantedRun, data: bytes, platform: Collection[str]) -> Playbook:
    """The playbook in these bytes, if they are the signed ones and it may run here.

    1. Length and hash are the signed ones; the text is canonical; it says what its target says.
    2. It is written for the agent, and for this platform.
    3. There is one good value for each parameter, and no other.

    Raises ``Refusal``.
    """
    # (1)
    run = wanted.assignment
    playbook = playbook_target.content(wanted.target, data)
    # (2)
    if "agent" not in playbook.roads:
        raise Refusal("playbook-platform", f"{run.path} is for machines without an agent only")
    if not set(playbook.platforms) & set(platform):
        words = ", ".join(playbook.platforms)
        here = ", ".join(sorted(platform))
        raise Refusal("playbook-platform", f"{run.path} is for {words}; this is {here}")
    # (3)
    try:
        playbook.check_values(run.parameters)
    except Malformed as e:
        raise Refusal("playbook-parameter", f"{run.path}: {e}", subject=run.path) from e
    return playbook


def _listed_alike(
    item: Assigned, found: Found | None, snapshot_version: int, now: datetime
) -> Found:
    """Steps 1 to 3 of :func:`agree`, the same for releases and playbooks."""
    if snapshot_version < item.least_image_snapshot:
        raise Outage(
            f"image snapshot {snapshot_version} is behind {item.least_image_snapshot}",
            code="image-stale",
            subject=item.path,
        )
    if now >= item.ends:
        raise Stale(f"order {item.order} ended at {item.not_after}", code="assignment-expired")
    if found is None:
        raise Refusal("not-listed", f"{item.path} is not in the image repository")
    if found.target.length != item.length or found.target.hashes != item.hashes:
        raise Refusal("target-mismatch", f"{item.path}: director and image repository differ")
    return found


def _described(listing: Found) -> Release:
    try:
        target = shared.whole(listing.by, listing.target)
    except Malformed as e:
        raise Refusal("release-malformed", str(e), subject=listing.target.path) from e
    custom = target.unrecognized_fields.get("custom")
    kind = custom.get("kind") if isinstance(custom, dict) else None
    if kind != "release":
        raise Refusal("kind-mismatch", f"{target.path} is {kind!r:.80}, not a release")
    if isinstance(custom, dict) and custom.get("component") != target.path.partition("/")[0]:
        raise Refusal("component-mismatch", f"{target.path} says {custom.get('component')!r:.80}")
    if not set(target.hashes) <= _HASHES:
        raise Refusal("release-malformed", f"{target.path}: unknown hash in {list(target.hashes)}")
    try:
        return Release.from_target(target)
    except Malformed as e:
        raise Refusal("release-malformed", str(e), subject=target.path) from e


def _check_role(path: str, listing: Found) -> None:
    component, _ = split_path(path)
    delegated = listing.roles[1] if len(listing.roles) > 1 else ""
    if component != delegated:
        raise Refusal("component-mismatch", f"{path} is signed by role {delegated or 'targets'!r}")


def refuse_detour(found: Found, image: TufClient) -> None:
    """A release is vouched for by its component's keyholders, in its role or a bin of it.

    Raises ``Refusal("bin-keyholders")`` when that role hands releases on to anybody else.
    """
    for component in found.roles[1:2]:
        bins.refuse_others(component, image.role(component, Targets.type), image.targets)
    if len(found.roles) > _DEEPEST:
        raise Refusal("bin-keyholders", f"{found.target.path}: a bin delegates further")


def hash_file(
    path: Path, names: tuple[str, ...], limit: int, progress: Callable[[int], None] | None
) -> tuple[dict[str, str], int]:
    """Digests by name, and the length read: at most one chunk past ``limit``. No links."""
    hashers = {name: hashlib.new(name) for name in names}
    length = 0
    buffer = memoryview(bytearray(_CHUNK))
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb", buffering=0) as source:
        while length <= limit and (count := source.readinto(buffer)):
            for hasher in hashers.values():
                hasher.update(buffer[:count])
            length += count
            if progress is not None:
                progress(count)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}, length
