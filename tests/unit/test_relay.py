"""The relay: idempotent hints, whole answers of bounded size, nothing believed in the folder."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from pathlib import Path

import pytest
from simulators.stopping import Killed, kill_at

from ota.agent import hints, relay
from ota.agent.feeds.spool import SpoolFeed
from ota.agent.relay import LEAST, REMEMBERED, Answer, Visit
from signing import durable, strict
from signing.errors import Busy, OtaError, Outage

DEVICE = "press-07"
ORDER = "ota-app-2-x7k2m9-u1-w0-b0"


def visit(folder: Path, device: str, asked: Visit) -> Answer:
    """The whole of one, without a look in between."""
    return relay.give(folder, relay.take(folder, device, asked), asked)


def hint(order: str = ORDER) -> hints.Body:
    return hints.Body(device=DEVICE, order=order, rollout="app-2-x7k2m9")


def put(folder: Path, counter: int, data: bytes) -> str:
    """What the device's own feed leaves; its name."""
    SpoolFeed(folder, DEVICE).send(counter, data)
    return f"{counter:010d}-{strict.digest(data)[:8]}.json"


def orders(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "orders").glob("[!.]*"))


def reports(answer: Answer) -> list[bytes]:
    return [base64.b64decode(entry["data"]) for entry in answer.reports]


def test_a_hint_is_what_the_agent_reads(tmp_path: Path) -> None:
    """The relayed file is a hint for this device, byte for byte as any courier's."""
    answer = visit(tmp_path, DEVICE, Visit(hint()))
    assert (answer.hint, orders(tmp_path)) == ("new", [f"{ORDER}.json"])
    found = SpoolFeed(tmp_path, DEVICE).next(0)
    assert found is not None
    assert hints.read(found.data, DEVICE) == hint()


def test_an_order_is_relayed_once(tmp_path: Path) -> None:
    """Delivered again, before or after the agent has taken it, it leaves nothing more."""
    visit(tmp_path, DEVICE, Visit(hint()))
    assert visit(tmp_path, DEVICE, Visit(hint())).hint == "known"
    assert orders(tmp_path) == [f"{ORDER}.json"]
    feed = SpoolFeed(tmp_path, DEVICE)
    found = feed.next(0)
    assert found is not None
    feed.done(found)
    assert visit(tmp_path, DEVICE, Visit(hint())).hint == "known"
    assert orders(tmp_path) == []


def test_a_withdrawn_order_is_not_relayed_late(tmp_path: Path) -> None:
    """Withdrawn before it is taken: gone. Withdrawn before it came: it never lands."""
    visit(tmp_path, DEVICE, Visit(hint()))
    for _ in range(2):
        visit(tmp_path, DEVICE, Visit(cancels=(ORDER, "ota-late")))
    assert orders(tmp_path) == []
    assert visit(tmp_path, DEVICE, Visit(hint("ota-late"))).hint == "known"
    assert orders(tmp_path) == []


def test_the_memory_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    """After many more orders only the oldest are forgotten."""
    visit(tmp_path, DEVICE, Visit(cancels=tuple(f"o{n}" for n in range(REMEMBERED))))
    visit(tmp_path, DEVICE, Visit(hint("newest")))
    known = json.loads((tmp_path / ".relayed.json").read_bytes())["orders"]
    assert (len(known), known[0], known[-1]) == (REMEMBERED, "o1", "newest")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"orders":5}', b'{"orders":[5]}', b"x" * 90_000])
def test_a_damaged_memory_locks_nobody_out(tmp_path: Path, damage: bytes) -> None:
    """It is begun anew: the worst that comes of it is one more look."""
    visit(tmp_path, DEVICE, Visit(hint()))
    (tmp_path / ".relayed.json").write_bytes(damage)
    assert visit(tmp_path, DEVICE, Visit(hint("another"))).hint == "new"
    assert visit(tmp_path, DEVICE, Visit(hint("another"))).hint == "known"


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("at", range(1, 7))
def test_killed_anywhere_it_leaves_one_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """Dying at any sync or rename and being called again leaves exactly one hint, once."""
    put(tmp_path, 1, b"one")
    with monkeypatch.context() as patch:
        kill_at(patch, os, call, at)
        taken = 0
        try:
            visit(tmp_path, DEVICE, Visit(hint()))
        except Killed:
            taken = len(orders(tmp_path))
            for name in orders(tmp_path):
                (tmp_path / "orders" / name).unlink()
    answer = visit(tmp_path, DEVICE, Visit(hint()))
    assert taken + len(orders(tmp_path)) == 1
    assert reports(answer) == [b"one"]


# -- reports -------------------------------------------------------------------------------------
def test_reports_stay_until_they_are_acknowledged(tmp_path: Path) -> None:
    """Oldest first, the same again until the courier names them; twice is once."""
    names = [put(tmp_path, n, b"report %d" % n) for n in (10, 2, 3)]
    first = visit(tmp_path, DEVICE, Visit())
    assert reports(first) == [b"report 2", b"report 3", b"report 10"]
    assert visit(tmp_path, DEVICE, Visit()) == first
    for _ in range(2):
        left = visit(tmp_path, DEVICE, Visit(acks=(names[1], names[2])))
        assert (reports(left), left.more) == ([b"report 10"], False)


@pytest.mark.parametrize("limit", [LEAST, 3000, 20_000])
def test_an_answer_is_whole_within_its_limit(tmp_path: Path, limit: int) -> None:
    """However many reports wait, it is one JSON object of at most so many bytes, and all come."""
    sent = [os.urandom(500 + 7 * n) for n in range(1, 30)]
    for counter, data in enumerate(sent, 1):
        put(tmp_path, counter, data)
    acks: tuple[str, ...] = ()
    came: list[bytes] = []
    for _ in range(40):
        answer = visit(tmp_path, DEVICE, Visit(acks=acks, limit=limit))
        data = answer.encoded()
        assert len(data) <= limit
        assert strict.loads(data, limit=limit)["schema"] == 1
        came += reports(answer)
        acks = tuple(entry["name"] for entry in answer.reports)
        if not answer.more:
            break
    assert came == sent


def test_a_report_that_can_not_fit_is_named(tmp_path: Path) -> None:
    """It stops nobody else, and comes with a larger limit."""
    big = put(tmp_path, 1, os.urandom(9000))
    put(tmp_path, 2, b"small")
    answer = visit(tmp_path, DEVICE, Visit(limit=3000))
    assert (reports(answer), answer.oversize, answer.more) == ([b"small"], [big], False)
    assert len(reports(visit(tmp_path, DEVICE, Visit(limit=20_000)))) == 2


def test_many_oversize_reports_still_fit_the_answer(tmp_path: Path) -> None:
    """Their names are bounded too."""
    for counter in range(1, 60):
        put(tmp_path, counter, os.urandom(4000))
    answer = visit(tmp_path, DEVICE, Visit(limit=LEAST))
    assert len(answer.encoded()) <= LEAST
    assert answer.more


def test_waiting_ends_when_a_report_appears(tmp_path: Path) -> None:
    """And at its time otherwise."""
    began = time.monotonic()
    assert visit(tmp_path, DEVICE, Visit(wait=0.3)).reports == []
    assert time.monotonic() - began >= 0.3
    timer = threading.Timer(0.3, put, (tmp_path, 1, b"late"))
    timer.start()
    assert reports(visit(tmp_path, DEVICE, Visit(wait=60))) == [b"late"]
    timer.join()


@pytest.mark.parametrize(
    "make",
    [
        lambda f, name: (f / "hello.txt").write_bytes(b"x"),
        lambda f, name: (f / name).write_bytes(b"part"),
        lambda f, name: (f / name).mkdir(),
        lambda f, name: (f / name).symlink_to("/etc/passwd"),
        lambda f, name: os.mkfifo(f / name),
        lambda f, name: (f / name).write_bytes(b"x" * (relay.MAX_REPORT + 1)),
    ],
    ids=["name", "partial", "folder", "link", "pipe", "oversize"],
)
def test_foreign_entries_are_not_answered_with(tmp_path: Path, make: object) -> None:
    """Nor followed, nor waited for; the honest report beside them comes."""
    put(tmp_path, 2, b"honest")
    make(tmp_path / "reports", "0000000001-0a0b0c0d.json")  # type: ignore[operator]  # of the table
    assert reports(visit(tmp_path, DEVICE, Visit())) == [b"honest"]


@pytest.mark.parametrize("folder", ["orders", "reports"])
def test_links_instead_of_folders_are_an_outage(tmp_path: Path, folder: str) -> None:
    """Nothing is written or removed elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    name = "0000000001-0a0b0c0d.json"
    (elsewhere / name).write_bytes(b"mine")
    own = tmp_path / "own"
    own.mkdir()
    (own / folder).symlink_to(elsewhere)
    with pytest.raises(Outage):
        visit(own, DEVICE, Visit(hint(), acks=(name,)))
    assert [p.name for p in elsewhere.iterdir()] == [name]


def test_two_visits_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits for the other, and says so when it takes too long."""
    monkeypatch.setattr(relay, "_PATIENCE", 0.05)
    with durable.locked(tmp_path / ".relay.lock"), pytest.raises(Busy):
        visit(tmp_path, DEVICE, Visit(hint()))
    assert not (tmp_path / "orders").exists()


@pytest.mark.parametrize(
    "words",
    [
        {"acks": ("../../etc/passwd",)},
        {"acks": ("0000000001-0A0B0C0D.json",)},
        {"acks": ("",)},
        {"cancels": ("a/b",)},
        {"hint": hint(), "cancels": (ORDER,)},
        {"wait": -1.0},
        {"wait": float("nan")},
        {"wait": 1e9},
        {"limit": 10},
        {"limit": 2**40},
    ],
    ids=str,
)
def test_every_word_is_checked(words: dict[str, object]) -> None:
    """Before anything is read or written."""
    with pytest.raises(OtaError) as caught:
        Visit(**words)  # type: ignore[arg-type]  # the table's wrong words
    assert caught.value.exit_code == 2
