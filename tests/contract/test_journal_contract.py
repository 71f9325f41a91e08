"""Every journal, on SQLite and on PostgreSQL: append-only, chained, one winner in a race."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from simulators.identities import START

from ota.errors import Busy, OtaError, Refusal
from ota.fleet.registry import Registry
from ota.ports import Event
from ota.rollout.journal import SqlJournal, chain

ROLLOUT = "app-2-x7k2m9"


@pytest.fixture
def journal(registry: Registry) -> SqlJournal:
    return SqlJournal(registry.engine)


def event(version: int, rollout: str = ROLLOUT, **body: object) -> Event:
    return Event(rollout, version, START, "notice", body)


def run(journal: SqlJournal, *statements: str) -> None:
    with journal._engine.begin() as connection:
        for text in statements:
            connection.exec_driver_sql(text)


def unlocked(registry: Registry, table: str) -> list[str]:
    """What an owner of the database would type to get round the triggers."""
    if registry.engine.dialect.name == "sqlite":
        return [f"DROP TRIGGER {table}_UPDATE", f"DROP TRIGGER {table}_DELETE"]
    return [f"DROP TRIGGER {table}_frozen ON {table}"]


def test_what_is_appended_is_loaded(journal: SqlJournal) -> None:
    """Events come back equal and in order, rollouts by age."""
    events = [event(1, a=1), event(2, text="ü\n", deep={"x": [1, True, None]})]
    for item in events:
        journal.append(item)
    journal.append(event(1, "zzz"))
    journal.append(event(1, "aaa"))
    assert journal.load(ROLLOUT) == events
    assert journal.rollouts() == [ROLLOUT, "zzz", "aaa"]
    assert journal.verify(ROLLOUT) == 2
    assert journal.load("unknown") == []


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_version_that_is_not_the_next_is_busy(journal: SqlJournal, version: int) -> None:
    """Somebody else was first, or an event is missing: nothing is written."""
    journal.append(event(1))
    with pytest.raises(Busy):
        journal.append(event(version))
    assert len(journal.load(ROLLOUT)) == 1


def test_one_winner(registry: Registry) -> None:
    """Eight writers of the same version: one succeeds, the others get ``Busy``."""
    results: list[str] = []
    barrier = threading.Barrier(8, timeout=20)

    def write(number: int) -> None:
        mine = SqlJournal(registry.engine)
        barrier.wait()
        try:
            mine.append(event(1, number=number))
        except OtaError as e:
            results.append(e.code)
        else:
            results.append("won")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["busy"] * 7 + ["won"]
    assert SqlJournal(registry.engine).verify(ROLLOUT) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rollout_journal SET line = '{}'",
        "DELETE FROM rollout_journal",
        "UPDATE rollout_documents SET kind = 'x'",
        "DELETE FROM rollout_documents",
    ],
)
def test_rows_can_not_be_changed(journal: SqlJournal, statement: str) -> None:
    """The database itself refuses to update or delete history."""
    journal.append(event(1))
    journal.keep("plan", b"bytes")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(journal, statement)
    assert journal.verify(ROLLOUT) == 1


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE rollout_journal SET line = replace(line, '22', '23') WHERE version = 2", 2),
        ("UPDATE rollout_journal SET digest = repeat_zero WHERE version = 3", 3),
        ("DELETE FROM rollout_journal WHERE version = 2", 2),
        ("DELETE FROM rollout_journal WHERE version = 1", 1),
        ("UPDATE rollout_journal SET version = 9 WHERE version = 3", 3),
    ],
)
def test_the_chain_names_the_first_broken_row(
    registry: Registry, journal: SqlJournal, statement: str, row: int
) -> None:
    """Who gets past the triggers is found out by the chain."""
    for version in (1, 2, 3):
        journal.append(event(version, number=version * 11))
    text = statement.replace("repeat_zero", f"'{'0' * 64}'")
    run(journal, *unlocked(registry, "rollout_journal"), text)
    with pytest.raises(Refusal) as caught:
        journal.verify(ROLLOUT)
    assert caught.value.code == "journal-broken"
    assert f"row {row} " in str(caught.value)


def test_a_row_of_another_rollout_is_found(registry: Registry, journal: SqlJournal) -> None:
    """Copying a whole, consistent row into another rollout does not work either."""
    journal.append(event(1, number=1))
    run(journal, *unlocked(registry, "rollout_journal"))
    run(journal, "UPDATE rollout_journal SET rollout = 'other'")
    with pytest.raises(Refusal, match="belongs elsewhere"):
        journal.load("other")


def test_a_line_that_is_no_event(registry: Registry, journal: SqlJournal) -> None:
    """Even with a fitting digest."""
    journal.append(event(1))
    digest = chain("0" * 64, "[]")
    run(journal, *unlocked(registry, "rollout_journal"))
    with registry.engine.begin() as connection:
        query = sa.text("UPDATE rollout_journal SET line = '[]', digest = :digest")
        connection.execute(query, {"digest": digest})
    with pytest.raises(Refusal, match="is not an event"):
        journal.load(ROLLOUT)


def test_documents_are_their_digest(registry: Registry, journal: SqlJournal) -> None:
    """The same bytes twice are one document; changed or missing bytes are refused."""
    digest = journal.keep("plan", b"\x00plan")
    assert journal.keep("plan", b"\x00plan") == digest
    assert journal.fetch(digest) == b"\x00plan"
    with pytest.raises(Refusal, match="is missing"):
        journal.fetch("0" * 64)
    run(journal, *unlocked(registry, "rollout_documents"))
    with registry.engine.begin() as connection:
        connection.execute(sa.text("UPDATE rollout_documents SET data = :x"), {"x": b"other"})
    with pytest.raises(Refusal, match="differs"):
        journal.fetch(digest)


def test_verify_reads_the_documents_too(registry: Registry, journal: SqlJournal) -> None:
    """A plan that is gone is named although the chain itself holds."""
    journal.append(Event(ROLLOUT, 1, START, "drafted", {"plan": "1" * 64, "digest": "2" * 64}))
    with pytest.raises(Refusal, match="is missing"):
        journal.verify(ROLLOUT)


def test_the_heartbeat_is_overwritten(journal: SqlJournal) -> None:
    """The last step's time is not history."""
    assert journal.touched(ROLLOUT) is None
    journal.touch(ROLLOUT, START)
    journal.touch(ROLLOUT, START)
    assert journal.touched(ROLLOUT) == START


def test_opening_twice_keeps_everything(registry: Registry, journal: SqlJournal) -> None:
    """Creating tables again changes nothing."""
    journal.append(event(1))
    assert SqlJournal(registry.engine).verify(ROLLOUT) == 1
