"""What an operator's own machine has seen of each device's director metadata.

Whoever holds the store could show the director an older set of one device, honestly signed, whose
assignment was since withdrawn; the next refresh would sign it anew. So the newest verified set of
each device is kept in the workspace, and every later reading starts from it, as the device's does:
older is refused (``metadata-rollback``), and what is unchanged is not fetched again.

One SQLite file for all devices, because a hundred thousand of them would be four hundred thousand
files. A commit that a power cut takes back leaves an older memory, which is still true: commits
are whole (WAL) and not synced one by one.

>>> place = Place("director/gw-1", store.get, name, memory=DirectorMemory(path).of("gw-1"))
>>> repository.opened(place, root, now)
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from signing import durable, rootfile, strict
from signing.client.workflow import TufClient
from signing.errors import Malformed, NotPermitted, Outage
from signing.report import Versions

_ROLES = ("timestamp", "snapshot", "targets")
_SCHEMA = 1
REMEDY = "ota repo verify; then remove that file"
_TABLES = """
CREATE TABLE root (digest TEXT PRIMARY KEY, version INTEGER NOT NULL, data BLOB NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE device (id TEXT PRIMARY KEY, root TEXT NOT NULL REFERENCES root,
    version INTEGER NOT NULL, snapshot_version INTEGER NOT NULL, targets_version INTEGER NOT NULL,
    timestamp BLOB NOT NULL, snapshot BLOB NOT NULL, targets BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""


class DirectorMemory:
    """The memory of one workspace, in one file; it may be shared by threads and processes.

    Raises ``Malformed`` for a file that is none of ours, ``Outage`` when the disk says no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._sound: set[bytes] = set()

    def of(self, device: str) -> DeviceMemory:
        """What was seen of one device."""
        return DeviceMemory(self, device)

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            db, self._db = self._db, None
        if db is not None:
            db.close()

    def check_root(self, root: bytes) -> None:
        """``Refusal`` that names our file for a root that a disk has damaged; asked once of each."""
        if root not in self._sound:
            rootfile.check(root, self.path, REMEDY)
            self._sound.add(root)

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        """One transaction, kept when the block ends well."""
        with self._lock, self._seam():
            if self._db is None:
                self._db = self._opened()
            self._db.execute(begin)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        durable.folder(self.path.parent)
        if not self.path.exists():
            # whole under its name, never opened beside SQLite: closing a file drops every lock
            # that this process holds on it (POSIX), those of other connections too
            with contextlib.suppress(NotPermitted):
                durable.create(self.path, b"", mode=0o600)
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if _form(db) == 0:
            db.execute("BEGIN IMMEDIATE")
            if _form(db) == 0:  # nobody else made them meanwhile
                for statement in filter(str.strip, _TABLES.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_SCHEMA}")
            db.execute("COMMIT")
        found = _form(db)
        if found != _SCHEMA:
            db.close()
            raise self._damaged(f"its form is {found}, this program writes {_SCHEMA}")
        return db

    @contextlib.contextmanager
    def _seam(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            full = e.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise Outage(
                f"{self.path}: {e}",
                code="no-space" if full else "io",
                subject=str(self.path),
                remedy="df -h",
            ) from e
        except sqlite3.DatabaseError as e:
            raise self._damaged(str(e)) from e

    def _damaged(self, why: str) -> Malformed:
        return Malformed(
            f"remembered director metadata: {self.path}: {why}",
            subject=str(self.path),
            remedy=REMEDY,
        )


def _form(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@dataclass(frozen=True)
class DeviceMemory:
    """What was seen of one device's director metadata, as a ``repository.Remembers``."""

    _memory: DirectorMemory
    _device: str

    def load(self, root: bytes | None = None) -> Mapping[str, bytes]:
        """The newest verified set by plain names; without one, ``root`` alone."""
        with self._memory.transaction() as db:
            row = db.execute(
                "SELECT r.data, timestamp, snapshot, targets"
                " FROM device JOIN root r ON r.digest = root WHERE id = ?",
                (self._device,),
            ).fetchone()
        if row is None:
            return {} if root is None else {"root.json": root}
        self._memory.check_root(row[0])
        return {f"{name}.json": data for name, data in zip(("root", *_ROLES), row, strict=True)}

    def versions(self) -> Versions:
        """Versions of the newest verified set; 0 where there is none."""
        with self._memory.transaction() as db:
            row = db.execute(
                "SELECT r.version, d.version, snapshot_version, targets_version"
                " FROM device d JOIN root r ON r.digest = root WHERE id = ?",
                (self._device,),
            ).fetchone()
        if row is None:
            return Versions()
        root, timestamp, snapshot, targets = row
        return Versions(root=root, timestamp=timestamp, snapshot=snapshot, targets=targets)

    def keep(self, client: TufClient) -> None:
        """Remember what this client verified, unless something newer is remembered already.

        Under the same root newer is what has the higher timestamp; a newer root always is.
        """
        new = client.cache()
        if dict(self.load()) == dict(new):
            return
        digest = strict.digest(new["root.json"])
        with self._memory.transaction("BEGIN IMMEDIATE") as db:
            known = self._known(db)
            if known is not None and known > (client.root.version, client.timestamp.version):
                return
            db.execute(
                "INSERT OR IGNORE INTO root VALUES (?, ?, ?)",
                (digest, client.root.version, new["root.json"]),
            )
            db.execute(
                "INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._device,
                    digest,
                    client.timestamp.version,
                    client.snapshot.version,
                    client.targets.version,
                    *(new[f"{name}.json"] for name in _ROLES),
                ),
            )

    def note(self, name: str, data: bytes) -> None:
        """Roles are kept together; a director has no hash bins to be noted one by one."""

    def _known(self, db: sqlite3.Connection) -> tuple[int, int] | None:
        """Versions of root and timestamp that are remembered."""
        row = db.execute(
            "SELECT r.version, d.version FROM device d JOIN root r ON r.digest = root WHERE id = ?",
            (self._device,),
        ).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))
