"""What is the registry's own on SQLite: its file, its pragmas, its refusals to open."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from simulators.identities import START, Identity

from ota.errors import Busy, Malformed, Misuse, NotFound, Outage
from ota.fleet import tables
from ota.fleet.registry import Registry


def url(folder: Path, name: str = "registry.db") -> str:
    return f"sqlite:///{folder / name}"


def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    """Mode 0600 from the first moment, WAL, synchronous=FULL, foreign keys on."""
    registry = Registry(url(tmp_path))
    registry.register(Identity("dev-1").enrol(), None, {}, "", START)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    with tables.reading(registry.engine) as conn:
        found = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_it_survives_being_closed(tmp_path: Path) -> None:
    """What was registered is there when the registry is opened again."""
    first = Registry(url(tmp_path))
    first.register(Identity("dev-1").enrol(), None, {}, "spool", START)
    first.close()
    assert Registry(url(tmp_path)).device("dev-1").courier == "spool"


@pytest.mark.parametrize("text", ["", "registry.db", "mysql://host/x", "sqlite+aiosqlite:///x"])
def test_other_urls_are_misuse(text: str) -> None:
    """Neither SQLite nor PostgreSQL: named, exit 2, without echoing a possible password."""
    with pytest.raises(Misuse) as caught:
        Registry(text)
    assert caught.value.code == "registry-url"


def test_a_password_is_never_shown() -> None:
    """An unreachable server is an outage whose message and subject hide the password."""
    with pytest.raises(Outage) as caught:
        Registry("postgresql://ota:s3cret@127.0.0.1:9/ota?connect_timeout=2")
    shown = f"{caught.value} {caught.value.subject}"
    assert "s3cret" not in shown
    assert "127.0.0.1" in caught.value.subject


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The folder is not made up; its absence is told."""
    with pytest.raises(NotFound, match="no/such"):
        Registry(f"sqlite:///{tmp_path}/no/such/registry.db")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """Foreign bytes are malformed, and stay as they are."""
    file = tmp_path / "registry.db"
    file.write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    before = file.read_bytes()
    with pytest.raises(Malformed, match="not a database") as caught:
        Registry(url(tmp_path))
    assert "backup" in caught.value.remedy
    assert file.read_bytes() == before


def test_another_schema_is_refused(tmp_path: Path) -> None:
    """A registry of a later version is not touched."""
    registry = Registry(url(tmp_path))
    with tables.writing(registry.engine) as conn:
        conn.execute(tables.meta.update().values(value="99"))
    registry.close()
    with pytest.raises(Misuse, match="99") as caught:
        Registry(url(tmp_path))
    assert caught.value.code == "registry-schema"


def test_a_held_lock_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process holds it for too long: Busy, exit 7, and nothing is written."""
    monkeypatch.setattr(tables, "_WAIT_MS", 50)
    registry = Registry(url(tmp_path))
    holder = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy) as caught:
        registry.register(Identity("dev-1").enrol(), None, {}, "", START)
    assert caught.value.exit_code == 7
    assert list(registry.devices()) == []  # reading goes on while another writes
    holder.execute("ROLLBACK")
    holder.close()


def test_a_reader_between_pages_blocks_no_writer(tmp_path: Path) -> None:
    """Reports are recorded while somebody iterates over the fleet."""
    registry = Registry(url(tmp_path))
    device = Identity("dev-1")
    registry.register(device.enrol(), None, {}, "", START)
    reading = registry.devices()
    next(reading)
    assert registry.record(device.report(1), START).status == "accepted"


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    """An error in the middle of a write undoes it whole."""
    registry = Registry(url(tmp_path))
    device = Identity("dev-1")
    registry.register(device.enrol(), None, {}, "", START)

    def interrupted() -> None:
        with tables.writing(registry.engine) as conn:
            conn.execute(tables.devices.update().values(courier="x"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert registry.device("dev-1").courier == ""


def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    """No room for another page: Outage, the registry reads on."""
    registry = Registry(url(tmp_path))
    device = Identity("dev-1")
    registry.register(device.enrol(), None, {}, "", START)

    @tables.sa.event.listens_for(registry.engine, "checkout")
    def _no_room(raw: sqlite3.Connection, *_: object) -> None:
        raw.execute("PRAGMA max_page_count=1")

    with pytest.raises(Outage, match="full"):
        registry.record_all([device.report(n, detail="x" * 900) for n in range(1, 50)], START)
    assert registry.device("dev-1").counter == 0
