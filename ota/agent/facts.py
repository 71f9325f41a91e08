"""What the device knows of itself: floors, denials, trusted time, and what its slots hold.

>>> state.raise_floor("app", 4)      # only ever higher
>>> state.floors()
{'app': 4}
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ota.agent.database import Database
from ota.agent.time import EPOCH
from signing import strict


@dataclass(frozen=True)
class Image:
    """What is known of a slot's content beside its hash; ``path`` is "" when unmanaged."""

    path: str
    version: str
    release_counter: int
    length: int
    security_fix: bool
    committed_at: datetime


class Facts:
    """The half of :class:`ota.agent.state.State` that is not about one update."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- small facts ---------------------------------------------------------------------------
    def get(self, key: str, default: str = "") -> str:
        """A named fact."""
        rows = self._db.execute("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else default

    def put(self, key: str, value: str) -> None:
        """Remember a named fact."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    @property
    def clock_floor(self) -> datetime:
        """The least time that trusted metadata has proven (rule 11)."""
        text = self.get("clock_floor")
        return strict.instant(text) if text else EPOCH

    def raise_clock_floor(self, floor: datetime) -> None:
        """Only ever higher."""
        if floor > self.clock_floor:
            self.put("clock_floor", strict.stamp(floor))

    # -- floors and denials ---------------------------------------------------------------------
    def floors(self) -> dict[str, int]:
        """Component -> floor, also of components that the configuration no longer has."""
        return dict(self._db.execute("SELECT component, floor FROM floors"))

    def raise_floor(self, component: str, floor: int) -> None:
        """Only ever higher (rule 4)."""
        self._db.execute(
            "INSERT INTO floors VALUES (?, ?) ON CONFLICT (component) "
            "DO UPDATE SET floor = max(floor, excluded.floor)",
            component,
            floor,
        )

    def denials(self) -> dict[tuple[str, str], str]:
        """(component, sha256) -> the order under which it failed here (rule 8)."""
        rows = self._db.execute("SELECT component, sha256, order_id FROM denials")
        return {(component, sha256): order for component, sha256, order in rows}

    def deny(self, component: str, sha256: str, order: str) -> None:
        """Remember that a release failed on this device, and under which order."""
        self._db.execute(
            "INSERT OR REPLACE INTO denials VALUES (?, ?, ?)", component, sha256, order
        )

    def clear_denial(self, component: str, sha256: str) -> None:
        """It was committed after a signed assignment cleared it."""
        self._db.execute(
            "DELETE FROM denials WHERE component = ? AND sha256 = ?", component, sha256
        )

    # -- slots -------------------------------------------------------------------------------------
    def images(self, component: str) -> dict[str, Image]:
        """Every content that this component's slots are known to hold, by SHA-256."""
        rows = self._db.execute(
            "SELECT sha256, path, version, release_counter, length, security_fix, committed_at "
            "FROM images WHERE component = ?",
            component,
        )
        return {
            sha256: Image(path, version, counter, length, bool(fix), strict.instant(at))
            for sha256, path, version, counter, length, fix, at in rows
        }

    def image(self, component: str, sha256: str) -> Image | None:
        """What is known of this content."""
        return self.images(component).get(sha256)

    def remember_image(self, component: str, sha256: str, image: Image) -> None:
        """Remember what a slot's content is."""
        self._db.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            component,
            sha256,
            image.path,
            image.version,
            image.release_counter,
            image.length,
            int(image.security_fix),
            strict.stamp(image.committed_at),
        )

    def forget_images(self, component: str, keep: set[str]) -> None:
        """Forget contents that are in no slot any more."""
        rows = self._db.execute("SELECT sha256 FROM images WHERE component = ?", component)
        for (sha256,) in rows:
            if sha256 not in keep:
                self._db.execute(
                    "DELETE FROM images WHERE component = ? AND sha256 = ?", component, sha256
                )
