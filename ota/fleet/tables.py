"""The registry's tables, and the only way to open them: SQLite by default, PostgreSQL by URL.

Rules:

* SQLite runs in WAL with ``synchronous=FULL`` (measured: nothing less keeps the last commit),
  foreign keys on, and a busy timeout, so that a second process waits instead of failing. The
  file is created with mode 0600.
* Every transaction on SQLite starts as ``BEGIN IMMEDIATE``: whoever reads in order to write
  holds the write lock from the start. :func:`reading` opts out and never blocks a writer.
* Driver errors are translated here, once: ``Busy`` when another process holds it, ``Outage``
  when it can not be reached, ``Malformed`` when the file is no database.
* Times are RFC 3339 text, JSON is text, envelopes are the exact bytes that arrived.

>>> engine = connect("sqlite:////srv/ota/registry.db")
>>> with writing(engine) as conn:
...     conn.execute(devices.update().values(courier="spool"))
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from ota.errors import Busy, Malformed, Misuse, NotFound, Outage

SCHEMA = "1"
_WAIT_MS = 30_000
_SETUP_LOCK = 0x6F7461  # "ota": one PostgreSQL session at a time creates tables

metadata = sa.MetaData()
_Id = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

meta = sa.Table(
    "registry_meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("keyid", sa.String(64), nullable=False, unique=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("state_id", _Id, nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("held_state_id", _Id, nullable=False),
    sa.Column("courier", sa.String(128), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("components", sa.Text, nullable=False),
    sa.Column("last_seen", sa.String(20)),
    sa.Column("registered", sa.String(20), nullable=False),
)
incarnations = sa.Table(  # every state_id a device ever signed with: current, held or former
    "incarnations",
    metadata,
    sa.Column("device", _Id, sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("state_id", _Id, primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
)
reports = sa.Table(
    "reports",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("device", _Id, sa.ForeignKey("devices.id"), nullable=False),
    sa.Column("state_id", _Id, nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("payload_sha256", sa.String(64), nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("received", sa.String(20), nullable=False),
    sa.Column("rollout", sa.String(128), nullable=False),
    sa.Column("order_id", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("targets_version", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("device", "state_id", "counter"),
)
standings = sa.Table(  # the newest counted report of each device about each rollout
    "standings",
    metadata,
    sa.Column("rollout", sa.String(128), primary_key=True),
    sa.Column("device", _Id, sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("report", _Serial, sa.ForeignKey("reports.id"), nullable=False),
)
evidence = sa.Table(  # signed bytes that contradict signed bytes; never counted, never deleted
    "evidence",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("device", _Id, sa.ForeignKey("devices.id"), nullable=False, index=True),
    sa.Column("state_id", _Id, nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("payload_sha256", sa.String(64), nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("received", sa.String(20), nullable=False),
)
retirements = sa.Table(  # one for each end of a device; ``key`` is the one that it had then
    "retirements",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("device", _Id, sa.ForeignKey("devices.id"), nullable=False, index=True),
    sa.Column("keyid", sa.String(64), nullable=False, index=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("since", sa.String(20), nullable=False),
    sa.Column("receipt", sa.LargeBinary),
    sa.Column("verified", sa.String(20)),
)


def connect(url: str) -> sa.Engine:
    """Engine for ``sqlite:///FILE`` or ``postgresql://...`` (psycopg 3); nothing is created yet.

    Raises ``Misuse`` for a URL that is none of these, or a driver that is not installed.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as e:
        raise Misuse("registry: not a database URL", code="registry-url") from e
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise Misuse(
            f"registry: {parsed.drivername!r} is neither sqlite nor postgresql", code="registry-url"
        )
    try:
        engine = sa.create_engine(parsed)
    except ModuleNotFoundError as e:
        raise Misuse(
            f"registry: the driver {e.name!r} is not installed",
            code="registry-driver",
            remedy="pip install 'psycopg[binary]'",
        ) from e
    if parsed.drivername == "sqlite":
        _tune_sqlite(engine)
    return engine


def prepare(engine: sa.Engine) -> None:
    """Create what is missing; refuse tables of another schema (``Misuse``)."""
    if engine.dialect.name == "sqlite" and engine.url.database not in {None, "", ":memory:"}:
        _create_file(Path(str(engine.url.database)))
    with writing(engine) as conn:
        if engine.dialect.name == "postgresql":
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
        metadata.create_all(conn)
        found = conn.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
        if found is None:
            conn.execute(meta.insert().values(name="schema", value=SCHEMA))
        elif found != SCHEMA:
            raise Misuse(
                f"registry: its schema is {found!r:.40}, this version reads {SCHEMA}",
                code="registry-schema",
                subject=where(engine),
            )


def where(engine: sa.Engine) -> str:
    """The URL without its password, for messages."""
    return engine.url.render_as_string(hide_password=True)


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: all of it durable at the end, or nothing; errors translated."""
    with _translated(engine), engine.begin() as conn:
        yield conn


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent read that takes no write lock; errors translated."""
    with _translated(engine), engine.connect() as conn:
        yield conn.execution_options(ota_read=True)


def _tune_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _pragmas(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # the driver starts no transactions of its own
        for pragma in (
            f"busy_timeout={_WAIT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            raw.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        deferred = conn.get_execution_options().get("ota_read", False)
        conn.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def _create_file(path: Path) -> None:
    """Make the file with its mode, unless it is there; one that is there is never opened here.

    SQLite holds POSIX locks, and closing *any* descriptor of a file drops all locks that this
    process holds on it: another process would then take itself for the last one, remove the
    write-ahead log under us, and what we commit afterwards would be lost (measured).
    """
    if path.exists():
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        return  # another process was quicker
    except FileNotFoundError as e:
        raise NotFound(
            f"registry: the folder {path.parent} does not exist", subject=str(path)
        ) from e
    except OSError as e:
        raise Outage(f"registry: {path}: {e.strerror}", subject=str(path)) from e


@contextlib.contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except exc.OperationalError as e:
        text = str(e.orig)
        contended = ("database is locked", "deadlock detected", "could not serialize")
        if any(sign in text for sign in contended):
            raise Busy("registry: another process holds it", subject=where(engine)) from e
        code = "no-space" if "is full" in text else "registry"
        remedy = "df -h, ls -l" if engine.dialect.name == "sqlite" else "is the database up?"
        raise Outage(
            f"registry: {text:.300}", code=code, subject=where(engine), remedy=remedy
        ) from e
    except exc.IntegrityError as e:
        raise Busy(
            "registry: another process entered the same at the same time", subject=where(engine)
        ) from e
    except exc.DatabaseError as e:
        if "not a database" in str(e.orig) or "malformed" in str(e.orig):
            raise Malformed(
                f"registry: {e.orig}", subject=where(engine), remedy="restore it from a backup"
            ) from e
        raise Outage(f"registry: {e.orig!s:.300}", code="registry", subject=where(engine)) from e
