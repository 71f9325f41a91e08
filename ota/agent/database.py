"""The agent's one database: SQLite, WAL, synchronous=FULL, one writer.

Measured on a file system that was shut down under it: this combination keeps the last commit;
DELETE+FULL and WAL+NORMAL lose it. A damaged database is a named error and is never quietly
made anew, because the floors in it are what keeps old releases out.

>>> with database.transaction(): database.execute("INSERT ...")
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ota.agent import damage
from signing.errors import NotFound, Outage

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE floors (component TEXT PRIMARY KEY, floor INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE denials (component TEXT, sha256 TEXT, order_id TEXT NOT NULL,
    PRIMARY KEY (component, sha256)) STRICT, WITHOUT ROWID;
CREATE TABLE images (component TEXT, sha256 TEXT, path TEXT NOT NULL, version TEXT NOT NULL,
    release_counter INTEGER NOT NULL, length INTEGER NOT NULL, security_fix INTEGER NOT NULL,
    committed_at TEXT NOT NULL, PRIMARY KEY (component, sha256)) STRICT, WITHOUT ROWID;
CREATE TABLE updates (component TEXT PRIMARY KEY, state TEXT NOT NULL, assignment BLOB NOT NULL,
    release BLOB NOT NULL, targets_version INTEGER NOT NULL, attempts INTEGER NOT NULL,
    code TEXT NOT NULL, detail TEXT NOT NULL, boot_id TEXT NOT NULL, since REAL NOT NULL,
    kept INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE closed (order_id TEXT, component TEXT, code TEXT NOT NULL,
    PRIMARY KEY (order_id, component)) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (order_id TEXT, component TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (order_id, component)) STRICT, WITHOUT ROWID;
CREATE TABLE told (topic TEXT PRIMARY KEY, what TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (counter INTEGER PRIMARY KEY, weight INTEGER NOT NULL,
    envelope BLOB NOT NULL) STRICT;
"""
_RUNS = """
CREATE TABLE runs (order_id TEXT PRIMARY KEY, state TEXT NOT NULL, assignment BLOB NOT NULL,
    target BLOB NOT NULL, targets_version INTEGER NOT NULL, text BLOB NOT NULL,
    step INTEGER NOT NULL, tries INTEGER NOT NULL, boot_id TEXT NOT NULL, since REAL NOT NULL,
    code TEXT NOT NULL, detail TEXT NOT NULL, steps BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE runs_ended (order_id TEXT PRIMARY KEY, path TEXT NOT NULL, outcome TEXT NOT NULL,
    code TEXT NOT NULL, steps BLOB NOT NULL, not_after TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_SCHEMAS = (_FIRST, _RUNS)
"""What each version adds to the one before it."""
VERSION = len(_SCHEMAS)
RUNS_SINCE = 2
"""The version that brought the tables of runs."""


class Database:
    """An open database; ``create`` makes the tables, otherwise they must be there."""

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False) -> None:
        self.path = path
        if not create and not path.exists():
            raise NotFound(f"no state at {path}", subject=str(path), remedy="ota-agent provision")
        self._depth = 0
        with self.seam():
            self._db = self._open(create=create, read_only=read_only)
            self.version = int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _open(self, *, create: bool, read_only: bool) -> sqlite3.Connection:
        if create:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        mode = "ro" if read_only else "rw"
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=10,
        )
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if not (create or found > 0) or found > VERSION:
            db.close()
            raise sqlite3.DatabaseError(f"schema version is {found}, not {VERSION}")
        if not read_only:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            self._upgrade(db, found)
        return db

    @staticmethod
    def _upgrade(db: sqlite3.Connection, found: int) -> None:
        """Add what newer versions of this agent keep; all of it or nothing."""
        added = " ".join(_SCHEMAS[found:])
        if added:
            db.executescript(f"BEGIN IMMEDIATE; {added} PRAGMA user_version={VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement with bound values and return its rows."""
        with self.seam():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, durable when it returns; inner transactions join the outer."""
        if self._depth == 0:
            self.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self.execute("COMMIT")
            except Outage:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def damage(self) -> str:
        """What SQLite's own check says, "" when the file is sound."""
        rows = self.execute("PRAGMA integrity_check")
        return "" if rows == [("ok",)] else "; ".join(str(r[0]) for r in rows[:5])

    @contextlib.contextmanager
    def seam(self) -> Iterator[None]:
        """Translate SQLite's errors: a full disk, a damaged file, anything else."""
        try:
            yield
        except sqlite3.Error as e:
            name = getattr(e, "sqlite_errorname", "") or ""
            if name.startswith("SQLITE_FULL"):
                code, remedy = "no-space", "free some space"
            elif name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
                code, remedy = "disk", "df -h; dmesg; ls -l"
            elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                code, remedy = "busy", "is another ota-agent running?"
            else:
                code, remedy = damage.CODE, damage.REMEDY
            raise Outage(
                f"{self.path}: {e}", code=code, subject=str(self.path), remedy=remedy
            ) from e
