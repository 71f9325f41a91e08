"""The trust room: what this device shall run now, and proof that some bytes are that.

Two TUF repositories must agree before anything is installed (Uptane 2.1, 5.4.4.2): the *image
repository* says what may run, with offline keys; the *director* says what this device shall run
now, with an online key. A courier can show us old, foreign or broken copies of either; a thief of
the director key can choose among listed releases at or above the floor for that component and
hardware, or withhold updates, and nothing else; a thief of an image key can not aim.

:meth:`TrustRoom.cycle` is the whole argument, its steps numbered. It works on copies in memory;
each repository's new set is adopted on disk only when every check of that repository has passed.
:meth:`TrustRoom.verify` makes the only thing an installer takes, a :class:`VerifiedImage`, and
:meth:`TrustRoom.playbook` the only thing a runner of playbooks takes, a :class:`VerifiedPlaybook`.

The caller must still: persist ``Cycle.clock_floor``; ask :meth:`still_assigned` once more just
before it makes a slot active, and :meth:`VerifiedImage.recheck` once the slot is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Signed, Targets

from ota.agent import agreement
from ota.agent import time as trusted_time
from ota.agent.following import Follower
from ota.agent.proof import SEAL, VerifiedImage, seen
from ota.agent.trustfolder import TrustFolder
from ota.agent.verdict import Cycle, Held, Known, Wanted, WantedRun
from signing import bins, distinct, durable, strict
from signing.assignment import Assignment
from signing.client.stored import check_stored
from signing.client.workflow import Fetch, Found, Limits, TufClient
from signing.errors import Malformed, OtaError, Refusal
from signing.layout import PLAYBOOKS
from signing.playbooks.playbook import Playbook
from signing.playbooks.run import Assigned, PlaybookRun, read_assigned
from signing.release import Release
from signing.report import Versions

_OF_ONE_DEVICE = Limits(snapshot=65_536, targets=500_000)
"""A director's files name a few orders; its online key must not make a device read more."""


class VerifiedPlaybook:
    """Proof: the director ordered this run here, and its text and values are the signed ones.

    Only :meth:`TrustRoom.playbook` can make one.
    """

    __slots__ = ("playbook", "wanted")

    def __init__(self, seal: object, wanted: WantedRun, playbook: Playbook) -> None:
        if seal is not SEAL:
            raise TypeError("only TrustRoom.playbook makes a VerifiedPlaybook")
        self.wanted = wanted
        self.playbook = playbook


@dataclass
class _Progress:
    """Moves through one cycle: the used time, and the floor as it rises."""

    now: datetime
    floor: datetime
    director: TufClient = field(init=False)


class TrustRoom:
    """Both repositories of one device. ``components`` maps component -> hardware id."""

    def __init__(
        self,
        device: str,
        components: Mapping[str, str],
        folder: Path,
        director: Fetch,
        image: Fetch,
    ) -> None:
        self._device = strict.identifier(device, "device")
        self._components = dict(components)
        self._director = TrustFolder(folder / "director")
        self._image = TrustFolder(folder / "image")
        self._fetch_director = director
        self._fetch_image = image

    def provision(self, director_root: bytes, image_root: bytes) -> None:
        """Take both first roots from files whose fingerprints the caller has shown.

        Raises ``Refusal`` when a file is no self-signed root, or when a key stands in both.
        """
        epoch = trusted_time.EPOCH
        director = TufClient({"root.json": director_root}, _nothing, epoch)
        image = TufClient({"root.json": image_root}, _nothing, epoch)
        _no_shared_keys(director, image)
        self._director.provision(director_root)
        self._image.provision(image_root)

    def versions(self) -> tuple[Versions, Versions]:
        """Trusted metadata versions of director and image repository, from what is stored."""
        return self._director.versions(), self._image.versions()

    def check(self) -> None:
        """Verify what is stored, without the network and whatever the time; ``Refusal``."""
        for folder in (self._director, self._image):
            # The adopted set is judged by its own root: a newer one, kept the moment it was
            # verified, may have replaced the keys of what is not fetched anew yet.
            try:
                check_stored(folder.load())
                newest = folder.newest_root()
                if newest is not None:
                    check_stored({"root.json": newest})
            except Refusal as e:
                raise Refusal(e.code, f"{folder.path.name}: {e}", subject=str(folder.path)) from e

    # -- the cycle -----------------------------------------------------------------------------
    def cycle(self, known: Known, clock: datetime) -> Cycle:
        """Verify both repositories and say what is to be installed.

        1. Trusted time: the later of ``clock`` and the clock floor.
        2. Director root, timestamp, snapshot, targets (:meth:`_read_director`): signed, newest,
           unexpired, and each naming this device; no delegations; every component known and
           named once; adopted.
        3. Image root; no key in both repositories, here and again with the keyholders of
           components in (5), whose own roles name nobody else.
        4. Nothing to install, because each assigned component is committed at those hashes or
           denied here: stop. An idle device has asked for two roots and one timestamp.
        5. Image timestamp, snapshot, targets and the delegations towards each path; adopted.
        6. For every component still to be installed: :func:`ota.agent.agreement.agree`.

        Raises ``Refusal``, ``Stale`` or ``Outage``; then nothing but newer roots was kept.
        """
        # (1)
        step = _Progress(trusted_time.used(clock, known.clock_floor), known.clock_floor)
        # (2)
        assigned = self._read_director(step)
        version = step.director.targets.version
        # (3)
        image, cached = self._open(self._image, self._fetch_image, step.now)
        image.update_root()
        step.floor = trusted_time.after_root(step.floor, image.root, step.director.timestamp)
        _no_shared_keys(step.director, image)
        # (4)
        denied = tuple(
            a for a in assigned.values() if isinstance(a, Assignment) and _is_denied(a, known)
        )
        todo = [a for a in assigned.values() if a not in denied and not _is_done(a, known)]
        wanted: list[Wanted] = []
        held: list[Held] = []
        run: WantedRun | None = None
        versions: Versions | None = None
        if todo:
            # (5)
            image.update_timestamp()
            image.update_snapshot()
            image.update_targets()
            _no_shared_keys(step.director, image)
            found = {a.component: _look_up(image, a.path) for a in todo}
            if not any(isinstance(f, OtaError) for f in found.values()):
                versions = _adopt(self._image, image, cached)
            step.floor = trusted_time.after_timestamp(step.floor, image.timestamp, step.now)
            # (6)
            for item in todo:
                listed = found[item.component]
                try:
                    if isinstance(item, PlaybookRun):
                        run = _agreed_run(item, listed, image, step.now, version)
                    else:
                        release = self._agreed(item, listed, image, known, step.now)
                        wanted.append(Wanted(item, release, version))
                except OtaError as e:
                    held.append(Held(item, e, version))
        return Cycle(
            wanted=tuple(wanted),
            held=tuple(held),
            denied=denied,
            assigned=assigned,
            targets_version=version,
            director=_versions(step.director),
            image=versions or self._image.versions(),
            clock_floor=step.floor,
            run=run,
        )

    def _agreed(
        self,
        item: Assignment,
        found: Found | OtaError | None,
        image: TufClient,
        known: Known,
        now: datetime,
    ) -> Release:
        if isinstance(found, OtaError):
            raise found
        return agreement.agree(
            item,
            found,
            snapshot_version=image.snapshot.version,
            hardware_id=self._components[item.component],
            floor=known.floors.get(item.component, 0),
            now=now,
        )

    def still_assigned(self, wanted: Wanted | WantedRun, known: Known, clock: datetime) -> bool:
        """Read the director once more: whether exactly this order is still this device's.

        Raises as :meth:`cycle` does; a director that can not be reached is not a yes.
        """
        step = _Progress(trusted_time.used(clock, known.clock_floor), known.clock_floor)
        assigned = self._read_director(step)
        return assigned.get(wanted.assignment.component) == wanted.assignment

    def _read_director(self, step: _Progress) -> dict[str, Assigned]:
        """Refresh the director repository of this device, check it, adopt it."""
        client, cached = self._open(self._director, self._fetch_director, step.now, _OF_ONE_DEVICE)
        step.director = client
        client.update_root()
        client.update_timestamp()
        self._is_ours(client.timestamp)
        step.floor = trusted_time.after_root(step.floor, client.root, client.timestamp)
        client.update_snapshot()
        self._is_ours(client.snapshot)
        client.update_targets()
        self._is_ours(client.targets)
        if client.targets.delegations is not None:
            raise Refusal("director-delegates", "director targets contain delegations")
        assigned = self._assignments(client.targets)
        step.floor = trusted_time.after_timestamp(step.floor, client.timestamp, step.now)
        _adopt(self._director, client, cached)
        return assigned

    def _is_ours(self, signed: Signed) -> None:
        named = signed.unrecognized_fields.get("device")
        if named != self._device:
            raise Refusal(
                "director-wrong-device",
                f"director {signed.type} is for {named!r:.140}, this is {self._device}",
            )

    def _assignments(self, targets: Targets) -> dict[str, Assigned]:
        assigned: dict[str, Assigned] = {}
        for target in targets.targets.values():
            try:
                item = read_assigned(target)
            except Malformed as e:
                raise Refusal("assignment-malformed", str(e), subject=target.path) from e
            if item.component not in {*self._components, PLAYBOOKS}:
                raise Refusal("component-unknown", f"no component {item.component!r} here")
            if item.component in assigned:
                raise Refusal("component-repeated", f"two assignments for {item.component!r}")
            assigned[item.component] = item
        return assigned

    def _open(
        self, folder: TrustFolder, fetch: Fetch, now: datetime, limits: Limits | None = None
    ) -> tuple[TufClient, dict[str, bytes]]:
        cached = folder.load()
        try:
            client = TufClient(
                cached,
                fetch,
                now,
                bootstrap=folder.newest_root(),
                keep_root=folder.keep_root,
                check_role=bins.refuse_misnamed,
                limits=limits,
            )
        except Refusal as e:  # of roots that were verified before they were kept
            raise folder.damaged(str(e)) from e
        return client, cached

    # -- bytes ---------------------------------------------------------------------------------
    def verify(
        self,
        wanted: Wanted,
        path: Path,
        progress: Callable[[int], None] | None = None,
        follower: Follower | None = None,
    ) -> VerifiedImage:
        """Hash the file in full against every signed hash; raise ``Refusal("image-mismatch")``.

        Links are not followed. ``progress`` is told each number of bytes hashed. A ``follower``
        has read and hashed this very file in full already, as it was written; a file that is
        not the one it saw, or was touched since, is hashed here like any other.
        """
        release = wanted.release
        names = tuple(release.hashes)
        try:
            before = seen(path)
            digests, length = _followed(follower, path, names) or agreement.hash_file(
                path, names, release.length, progress
            )
        except OSError as e:
            raise durable.outage(path, e) from e
        if length != release.length or digests != release.hashes:
            raise Refusal("image-mismatch", f"{release.path}: not the signed bytes")
        image = VerifiedImage(SEAL, path, release, before)
        image.recheck()
        return image

    @staticmethod
    def playbook(wanted: WantedRun, data: bytes, platform: Collection[str]) -> VerifiedPlaybook:
        """The playbook of a run, if it is what was signed and fits this device and its values.

        ``platform``: the words for this device. Raises ``Refusal`` ``image-mismatch`` and
        ``playbook-*``.
        """
        return VerifiedPlaybook(SEAL, wanted, agreement.fitting(wanted, data, platform))


def _look_up(image: TufClient, path: str) -> Found | OtaError | None:
    """One path in the image repository; a bad role of one component is that component's."""
    try:
        found = image.find(path)
        if found is not None:
            agreement.refuse_detour(found, image)
    except OtaError as e:
        return e
    return found


def _followed(
    follower: Follower | None, path: Path, names: tuple[str, ...]
) -> tuple[dict[str, str], int] | None:
    """What a follower knows of this very file: digests and length."""
    if follower is None or follower.names != names:
        return None
    digests = follower.digests_of(path)
    return None if digests is None else (digests, follower.length)


def _is_done(item: Assigned, known: Known) -> bool:
    if isinstance(item, PlaybookRun):
        return item.order in known.finished
    return known.committed.get(item.component, "") == item.sha256


def _agreed_run(
    item: PlaybookRun,
    found: Found | OtaError | None,
    image: TufClient,
    now: datetime,
    targets_version: int,
) -> WantedRun:
    if isinstance(found, OtaError):
        raise found
    snapshot = image.snapshot.version
    target = agreement.agree_on_run(item, found, snapshot_version=snapshot, now=now)
    return WantedRun(item, target, targets_version)


def _is_denied(item: Assignment, known: Known) -> bool:
    failed_under = known.denied.get((item.component, item.sha256))
    if failed_under is None:
        return False
    return not (item.clear_denial and item.order != failed_under)


def _no_shared_keys(director: TufClient, image: TufClient) -> None:
    """No key in both repositories, whatever its id: one stolen key must never speak for both."""
    shared = distinct.shared(director.keys(), image.keys())
    if shared:
        raise Refusal("shared-key", f"key {shared[0]} stands in both repositories")


def _adopt(folder: TrustFolder, client: TufClient, cached: Mapping[str, bytes]) -> Versions:
    """Make what was verified the trusted set, unless it is; its versions."""
    new = client.cache(every_bin=False)
    if new != cached:
        folder.adopt(new)
    return _versions(client)


def _versions(client: TufClient) -> Versions:
    return Versions(
        root=client.root.version,
        timestamp=client.timestamp.version,
        snapshot=client.snapshot.version,
        targets=client.targets.version,
    )


def _nothing(_name: str, _limit: int) -> bytes | None:
    """Answer every question with "not there": for judging a root by itself."""
    return None
