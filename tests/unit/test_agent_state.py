"""The agent's journal: durable, private, one writer, and never quietly made anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulators.agentbox import Box

from ota.agent.runs.journal import MOST, Ended
from ota.agent.state import State
from signing import statement
from signing.errors import NotFound, OtaError, Outage
from signing.playbooks.run import PlaybookRun


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State.open(tmp_path, create=True)
    yield made
    made.close()


def damaged(tmp_path: Path) -> str:
    """The code of the error that opening and reading gives."""
    try:
        found = State.open(tmp_path)
        found.floors(), found.updates(), found.outbox(), found.denials()
    except OtaError as e:
        return e.code
    return "sound"


def test_journal_is_private_and_durable(state: State, tmp_path: Path) -> None:
    """Mode 0600, write-ahead log, every commit synced."""
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert state._db.execute("PRAGMA journal_mode") == [("wal",)]
    assert state._db.execute("PRAGMA synchronous") == [(2,)]


def test_missing_journal_is_not_made(tmp_path: Path) -> None:
    """Opening what is not there says so and leaves nothing behind."""
    with pytest.raises(NotFound):
        State.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_damaged_journal_is_named(tmp_path: Path, content: bytes) -> None:
    """Garbage, an empty file, a torn header: a named error, and the file stays as it is."""
    State.open(tmp_path, create=True).close()
    (tmp_path / "state.db").write_bytes(content)
    assert damaged(tmp_path) == "state-damaged"
    assert (tmp_path / "state.db").read_bytes() == content


def test_torn_pages_are_named(tmp_path: Path) -> None:
    """A page in the middle that is not what it was is found by the check."""
    made = State.open(tmp_path, create=True)
    for number in range(400):
        made.put(f"key {number}", "x" * 100)
    made._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()
    data = bytearray((tmp_path / "state.db").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 6000] = b"\xaa" * 6000
    (tmp_path / "state.db").write_bytes(data)
    faults = []
    try:
        faults.append(State.open(tmp_path).damage())
    except Outage as e:
        faults.append(e.code)
    assert len(faults[0]) > 0


def test_other_schema_is_not_touched(tmp_path: Path) -> None:
    """A journal of a later version is not opened by this one."""
    State.open(tmp_path, create=True).close()
    db = sqlite3.connect(tmp_path / "state.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert damaged(tmp_path) == "state-damaged"


def test_damaged_update_is_named(tmp_path: Path) -> None:
    """A row that does not parse is damage, not a crash."""
    box = Box(tmp_path)
    box.machine.busy = "no"
    box.ship()
    box.cycle()
    with box.opened() as state:
        state._db.execute("UPDATE updates SET assignment = ?", b"{")
    assert damaged(box.own) == "state-damaged"


def test_transactions_are_all_or_nothing(state: State) -> None:
    """An error in the middle, also of an inner transaction, leaves nothing behind."""

    def fill() -> None:
        with state.transaction():
            state.raise_floor("app", 4)
            with state.transaction():
                state.queue(lambda _counter: b"report")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fill()
    assert state.floors() == {}
    assert state.outbox() == []
    assert state.queue(lambda _counter: b"report") == 1


def test_full_disk_is_an_outage_and_changes_nothing(state: State) -> None:
    """No space for the journal: named, and what stood there stands."""
    state.put("key", "before")
    pages = state._db.execute("PRAGMA page_count")[0][0]
    state._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Outage) as caught:
        state.put("key", "x" * 10**6)
    assert caught.value.code == "no-space"
    assert state.get("key") == "before"


def test_clock_floor_only_rises(state: State) -> None:
    """No earlier time lowers what was proven (rule 11)."""
    high = datetime(2026, 11, 23, tzinfo=UTC)
    state.raise_clock_floor(high)
    state.raise_clock_floor(high - timedelta(days=3650))
    assert state.clock_floor == high


def test_counters_survive_a_restart(tmp_path: Path) -> None:
    """No counter is used twice, also when the report that had it is long gone (rule 13)."""
    made = State.open(tmp_path, create=True)
    assert [made.queue(lambda n: b"%d" % n) for _ in range(3)] == [1, 2, 3]
    for counter, _ in made.outbox():
        made.sent(counter)
    made.close()
    again = State.open(tmp_path)
    assert again.queue(lambda n: b"%d" % n) == 4
    assert again.outbox() == [(4, b"4")]


def test_report_and_change_are_one(tmp_path: Path) -> None:
    """When a report can not be signed, the change it tells of did not happen either."""
    box = Box(tmp_path)
    box.ship()
    signed = statement.sign
    calls = []

    def fails_at_the_outcome(*args: object) -> bytes:
        calls.append(1)
        if len(calls) == 3:
            raise Outage("the key is gone", code="io")
        return signed(*args)  # type: ignore[arg-type]  # passed through

    statement.sign = fails_at_the_outcome  # type: ignore[assignment]  # for this test
    try:
        assert [(r.outcome, r.code) for r in box.cycle()] == [("", "io")]
    finally:
        statement.sign = signed
    with box.opened() as state:
        assert [u.state for u in state.updates()] == ["COMMITTING"]
        assert state.floors() == {}
    assert box.cycle()[0].outcome == "committed"
    outcomes = [r for r in box.reports() if r.event == "outcome"]
    assert len(outcomes) == 1
    assert [r.counter for r in box.reports()] == sorted({r.counter for r in box.reports()})


def test_a_thief_of_orders_fills_no_disk(state: State) -> None:
    """Runs that end in the year 9999 are not remembered without end; others are."""
    now = datetime(2026, 11, 26, tzinfo=UTC)

    def ended(order: str, not_after: str) -> None:
        run = PlaybookRun(
            path="playbooks/tidy-1.json",
            length=1,
            hashes={"sha256": "0" * 64},
            parameters={},
            rollout="tidy-aaaaaa",
            wave=0,
            order=order,
            least_image_snapshot=1,
            not_after=not_after,
        )
        state.runs.end(run, Ended("committed", ""))

    honest = {f"honest-{number}" for number in range(20)}
    with state.transaction():
        for number in range(MOST + 200):
            ended(f"evil-{number}", "9999-12-31T23:59:59Z")
        for order in honest:
            ended(order, "2026-12-01T00:00:00Z")
        ended("past", "2026-11-01T00:00:00Z")
    state.runs.forget("evil-1199", now)
    left = state.runs.finished()
    assert len(left) == MOST + 1
    assert honest | {"evil-1199"} <= left
    assert "past" not in left
