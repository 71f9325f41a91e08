"""Tables of the journal, and the triggers that keep it append-only.

The triggers stop accidents and careless scripts, not an owner of the database: that is what the
hash chain and the signatures inside the documents are for. Works on SQLite and PostgreSQL.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    select,
)

metadata = MetaData()

journal = Table(
    "rollout_journal",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("rollout", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("line", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    UniqueConstraint("rollout", "version"),
)
"""``line`` is canonical JSON of the event; ``digest`` covers the previous digest and the line."""

documents = Table(
    "rollout_documents",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

heartbeat = Table(
    "rollout_heartbeat",
    metadata,
    Column("rollout", String(128), primary_key=True),
    Column("time", String(20), nullable=False),
)
"""Not history: overwritten at every step."""

_SETUP_LOCK: Final = 0x6F7461_6A
"""An arbitrary number of our own."""
_FROZEN: Final = (journal, documents)
_SQLITE: Final = (
    "CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
)
_FUNCTION: Final = (
    "CREATE OR REPLACE FUNCTION ota_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'table is append-only'; END $$"
)
_POSTGRES: Final = (
    "CREATE OR REPLACE TRIGGER {table}_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION ota_append_only()"
)


def create(engine: Engine) -> None:
    """Create tables and triggers where they are missing; two processes at once take turns."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_SETUP_LOCK)))
        metadata.create_all(connection, checkfirst=True)


def _freeze(target: Table, connection: Connection, **_: object) -> None:
    """Install the triggers in the transaction that creates the table."""
    if connection.dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(_SQLITE.format(table=target.name, verb=verb))
    else:
        connection.exec_driver_sql(_FUNCTION)
        connection.exec_driver_sql(_POSTGRES.format(table=target.name))


for _table in _FROZEN:
    event.listen(_table, "after_create", _freeze)
