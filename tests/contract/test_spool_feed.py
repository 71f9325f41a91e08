"""The spool, device side: hostile folders, and the form of what it leaves behind."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.agentbox import sha
from simulators.identities import START

from ota.agent import hints
from ota.agent.feeds.spool import SpoolFeed
from ota.couriers.spool import Spool
from ota.ports import Order
from signing.errors import Refusal

ORDER = "ota-app-1-aaaaaa-u1-w1-b1"


def hint(**changes: object) -> bytes:
    body = {"schema": 1, "device": "press-07", "order": ORDER, "rollout": "app-1-aaaaaa"}
    return json.dumps(body | changes).encode()


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "own" / "orders"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def feed(orders: Path) -> SpoolFeed:
    return SpoolFeed(orders.parent, "press-07")


def test_hint_is_removed_once_looked_at(feed: SpoolFeed, orders: Path) -> None:
    """What was a hint leaves nothing behind."""
    (orders / f"{ORDER}.json").write_bytes(hint())
    found = feed.next(0.0)
    assert found is not None
    feed.done(found)
    assert list(orders.iterdir()) == []
    assert not (orders.parent / "quarantine").exists()


def test_unfinished_names_are_nobodys_business(feed: SpoolFeed, orders: Path) -> None:
    """A file that is still being written is neither read nor moved."""
    (orders / ".tmp-x").write_bytes(hint())
    assert feed.next(0.0) is None
    assert [p.name for p in orders.iterdir()] == [".tmp-x"]


def test_missing_folder_is_no_hint(tmp_path: Path) -> None:
    """A spool that nobody has written to yet is empty, not broken."""
    assert SpoolFeed(tmp_path / "none", "press-07").next(0.0) is None


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def too_long(path: Path) -> None:
    path.write_bytes(hint(order=ORDER) + b" " * hints.LIMIT)


def bytes_of(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "folder": (a_folder, "not a plain file"),
    "pipe": (a_pipe, "not a plain file"),
    "link": (a_link, "not a plain file"),
    "socket": (a_socket, "not a plain file"),
    "long": (too_long, "longer than 4096 bytes"),
    "empty": (bytes_of(b""), "hint-malformed"),
    "cut": (bytes_of(hint()[:-9]), "hint-malformed"),
    "list": (bytes_of(b"[]"), "hint-malformed"),
    "foreign": (bytes_of(hint(device="press-08")), "hint-wrong-device"),
    "extra": (bytes_of(hint(url="https://evil.example")), "hint-malformed"),
    "schema": (bytes_of(hint(schema=2)), "hint-malformed"),
    "order": (bytes_of(hint(order="../../etc")), "hint-malformed"),
    "twice": (bytes_of(b'{"schema":1,' + hint()[1:]), "hint-malformed"),
    "binary": (bytes_of(bytes(range(256))), "hint-malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_are_offered_then_set_aside(
    feed: SpoolFeed, orders: Path, name: str
) -> None:
    """What is no hint for this device is offered as a bad one, kept with its reason, once."""
    make, reason = HOSTILE[name]
    make(orders / f"{ORDER}.json")
    found = feed.next(0.0)
    assert found is not None
    with pytest.raises(Refusal) as caught:
        hints.read(found.data, "press-07")
    assert caught.value.code == ("hint-wrong-device" if name == "foreign" else "hint-malformed")
    feed.done(found)
    feed.done(found)
    assert feed.next(0.0) is None
    assert list(orders.iterdir()) == []
    aside = orders.parent / "quarantine"
    assert os.path.lexists(aside / f"{ORDER}.json")
    assert reason in (aside / f"{ORDER}.json.reason").read_text()


def test_quarantine_overwrites_nothing(feed: SpoolFeed, orders: Path) -> None:
    """A second bad hint of the same name stands beside the first."""
    for text in (b"one", b"two"):
        (orders / "x.json").write_bytes(text)
        found = feed.next(0.0)
        assert found is not None
        feed.done(found)
    aside = orders.parent / "quarantine"
    kept = {p.read_bytes() for p in aside.iterdir() if not p.name.endswith(".reason")}
    assert kept == {b"one", b"two"}


def test_report_is_one_whole_file(feed: SpoolFeed, orders: Path) -> None:
    """Sending again leaves the same single file; names carry counter and digest."""
    feed.send(7, b"statement")
    feed.send(7, b"statement")
    (only,) = (orders.parent / "reports").iterdir()
    assert only.name == f"0000000007-{sha(b'statement')[:8]}.json"
    assert only.read_bytes() == b"statement"


def test_both_sides_of_the_spool_agree(tmp_path: Path) -> None:
    """What the operator's courier writes the device reads, and the other way round."""
    courier = Spool(tmp_path)
    courier.dispatch(Order(ORDER, "app-1-aaaaaa", ("press-07",), START))
    feed = SpoolFeed(tmp_path / "press-07", "press-07")
    found = feed.next(0.0)
    assert found is not None
    assert hints.read(found.data, "press-07").order == ORDER
    feed.done(found)
    feed.send(1, b'{"any":"envelope"}')
    (delivery,) = courier.collect(10)
    assert delivery.data == b'{"any":"envelope"}'
    assert not (tmp_path / ".quarantine").exists()
