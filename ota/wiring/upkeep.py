"""What keeps a workspace's repositories alive and whole, and takes them to those who can not come.

>>> Upkeep(settings, ask, clock).refresh(every=False)
Refreshed(image=True, devices=('gw-1',), problems={})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ota.errors import NotFound
from ota.repositories import refreshing, repostatus
from ota.repositories.refreshing import Refreshed
from ota.repositories.repostatus import Finding
from ota.wiring.parts import Parts
from signing.changes.ceremony import Repository
from signing.report import Versions

if TYPE_CHECKING:
    from ota.repositories.carrying import Carried
    from ota.repositories.expiry import Expiring
    from ota.repositories.mirror import Mirror
    from ota.repositories.restoring import Seen


class Upkeep(Parts):
    """Use cases that need repositories and registry, and no rollout."""

    def refresh(
        self,
        *,
        every: bool,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Refreshed:
        """Sign timestamps anew before they expire; ``dry_run`` only says which."""
        desk = self.desk
        if not dry_run:
            self.unlock_director()
        act = refreshing.due if dry_run else refreshing.refresh
        return act(
            self.repositories,
            desk,
            self.policy,
            self._clock(),
            every=every,
            retired=self._retired(),
            progress=progress,
        )

    def expiring(self, within: timedelta) -> list[Expiring]:
        """What ends within this time, or was not refreshed by its timer; retired devices not."""
        from ota.repositories import expiry  # noqa: PLC0415 - for one command

        return expiry.expiring(self.repositories, self._clock(), within, self._retired())

    def _retired(self) -> set[str]:
        """Devices that are left to expire; none where timers run far from the registry."""
        try:
            return {device.id for device in self.registry.devices("state=retired")}
        except NotFound:
            return set()

    def reported(self) -> dict[str, Seen]:
        """What each device that is not retired has last said of its trusted versions."""
        from ota.repositories.restoring import Seen  # noqa: PLC0415 - for one command

        found = {}
        for device in self.registry.devices("state!=retired"):
            newest = next((s.report for s in self.registry.history(device.id, 1)), None)
            none = Versions()
            found[device.id] = Seen(
                newest.director if newest else none, newest.image if newest else none
            )
        return found

    def verify(self) -> Iterator[Finding]:
        """Check every byte in the store from the operator's own roots."""
        return repostatus.verify(self.repositories, self.repositories.director(), self._clock())

    def mirror(self) -> Mirror:
        """What devices read that can not reach the store."""
        from ota.repositories.mirror import Mirror  # noqa: PLC0415 - only where a device has a mirror

        def first_root(name: Repository) -> bytes | None:
            return next((d for _, d in sorted(self.repositories.anchors(name).items())), None)

        return Mirror(self.store, first_root, self.desk.assignments)

    def carry(
        self,
        folder: Path,
        devices: Sequence[str],
        *,
        prune: bool,
        dry_run: bool,
        progress: Callable[[int, int], None] | None = None,
    ) -> Carried:
        """Bring a folder up to date that is carried to these devices."""
        from ota.repositories import carrying  # noqa: PLC0415 - for one command
        from ota.stores.carried import CarriedFolder  # noqa: PLC0415 - the same

        there = CarriedFolder(folder)
        return carrying.carry(
            self.mirror(), there, devices, prune=prune, dry_run=dry_run, progress=progress
        )
