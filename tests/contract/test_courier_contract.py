"""Couriers: idempotent orders, reports that are never lost, foreign files that are never trusted.

The first part runs on every courier (``simulators/courierbench.py``); what follows is about the
spool's own folders.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.courierbench import Bench, IotJobsBench, SpoolBench, SshBench, SsmBench
from simulators.identities import START
from simulators.stopping import Killed, kill_at

from ota.agent import hints
from ota.couriers.spool import MAX_REPORT, Spool
from ota.errors import Malformed, Outage
from ota.ports import Courier, Order
from signing import strict

ORDER = "ota-app-2-x7k2m9-u1-w0-b0"


def order(*devices: str, name: str = ORDER) -> Order:
    return Order(name, "app-2-x7k2m9", devices, START + timedelta(days=7))


FOLDERS: dict[str, Any] = {"spool": SpoolBench, "ssh": SshBench, "ssm": SsmBench}
COURIERS = ["spool", "ssh", "ssm", "iot-jobs"]
DEVICES = ("gw-1", "gw-2", "gw-9", "a:b", "other", "chatty", "quiet")


@pytest.fixture(params=COURIERS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """One courier and its world."""
    made: Bench
    if request.param == "iot-jobs":
        patch = request.getfixturevalue("monkeypatch")
        made = IotJobsBench(request.getfixturevalue("aws"), tmp_path, patch)
    else:
        made = FOLDERS[request.param](tmp_path)
    made.join(*DEVICES)
    yield made
    made.close()


@pytest.fixture(params=["spool", "ssh"])
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SpoolBench | SshBench]:
    """A courier whose both ends are folders."""
    made: SpoolBench | SshBench = {"spool": SpoolBench, "ssh": SshBench}[request.param](tmp_path)
    made.join(*DEVICES)
    yield made
    made.close()


@pytest.fixture
def courier(bench: Bench) -> Courier:
    return bench.courier()


# -- every courier: out ----------------------------------------------------------------------------
def test_a_hint_arrives_at_each_device(bench: Bench, courier: Courier) -> None:
    """At the devices of the order and nowhere else, and their own reader takes it."""
    assert courier.dispatch(order("gw-1", "a:b")) == {}
    assert (bench.hints("gw-1"), bench.hints("a:b"), bench.hints("other")) == ([ORDER],) * 2 + ([],)
    for device in ("gw-1", "a:b"):
        body = hints.read(bench.take(device), device)
        assert (body.order, body.rollout) == (ORDER, "app-2-x7k2m9")
    assert bench.hints("gw-1") == []


def test_an_order_arrives_once(bench: Bench, courier: Courier) -> None:
    """A repetition, by the same process or by a new one, brings no consumed hint back."""
    courier.dispatch(order("gw-1", "gw-2"))
    bench.take("gw-1")
    for again in (courier, bench.courier()):
        assert again.dispatch(order("gw-1", "gw-2")) == {}
        assert (bench.hints("gw-1"), bench.hints("gw-2")) == ([], [ORDER])


def test_a_device_that_can_not_be_reached_has_a_reason(bench: Bench) -> None:
    """It is named, now and when repeated; the others get their hints and report."""
    bench.lose("gw-1")
    courier = bench.courier()
    for _ in range(2):
        found = courier.dispatch(order("gw-1", "gw-2"))
        assert list(found) == ["gw-1"]
        assert found["gw-1"]
    assert bench.hints("gw-2") == [ORDER]
    bench.put("gw-2", 1, b"one")
    assert [d.data for d in courier.collect(9)] == [b"one"]


def test_a_cancelled_order_is_taken_back(bench: Bench, courier: Courier) -> None:
    """Only for the devices named; twice is once; what never was is fine; it is not sent again."""
    courier.dispatch(order("gw-1", "gw-2"))
    for _ in range(2):
        courier.cancel(order("gw-1", "gw-9"))
    courier.collect(9)
    assert (bench.hints("gw-1"), bench.hints("gw-2")) == ([], [ORDER])
    courier.dispatch(order("gw-1", "gw-2"))
    assert (bench.hints("gw-1"), bench.hints("gw-2")) == ([], [ORDER])
    courier.cancel(order("gw-2", name=f"{ORDER}9"))
    assert bench.hints("gw-2") == [ORDER]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 65, "a b", "ota-ü", "$(id)"])
def test_what_is_no_order_id_goes_nowhere(bench: Bench, courier: Courier, name: str) -> None:
    """Refused before a path, a command or a request is built from it."""
    with pytest.raises(Malformed):
        courier.dispatch(order("gw-1", name=name))
    with pytest.raises(Malformed):
        courier.cancel(order("gw-1", name=name))
    assert bench.hints("gw-1") == []


@pytest.mark.parametrize("device", ["", "..", "a/b", "x" * 129, "ü", "a;b"])
def test_what_is_no_device_id_goes_nowhere(bench: Bench, courier: Courier, device: str) -> None:
    """Rule 14: checked before any path is built, and nobody else gets the order either."""
    with pytest.raises(Malformed):
        courier.dispatch(order("gw-1", device))
    assert bench.hints("gw-1") == []


# -- every courier: in -----------------------------------------------------------------------------
def test_reports_stay_until_they_are_acknowledged(bench: Bench, courier: Courier) -> None:
    """The same again, also for a new process; afterwards gone, at the device too. Twice is once."""
    courier.dispatch(order("a:b"))
    bench.put("a:b", 1, b"one")
    assert [d.data for d in courier.collect(9)] == [b"one"]
    bench.later()
    courier = bench.courier()
    first = courier.collect(9)
    assert [d.data for d in courier.collect(9)] == [d.data for d in first] == [b"one"]
    assert bench.waiting("a:b") == 1
    courier.acknowledge(first)
    courier.acknowledge(first)
    assert courier.collect(9) == bench.courier().collect(9) == []
    assert bench.waiting("a:b") == 0


def test_what_is_refused_is_kept_and_named(bench: Bench, courier: Courier) -> None:
    """With its reason, never offered again, and the second does not replace the first."""
    courier.dispatch(order("gw-1"))
    for reason in ("report-replayed: one", "again"):
        bench.put("gw-1", 1, b"one")
        courier.quarantine(courier.collect(1)[0], reason)
        assert courier.collect(9) == []
    found = sorted(bench.quarantine("gw-1"))
    assert found == [(b"one", "again"), (b"one", "report-replayed: one")]


# -- couriers that meet devices in a folder --------------------------------------------------------
def test_the_agreed_document(folders: SpoolBench | SshBench) -> None:
    """A hint for one device names it, and says nothing else."""
    folders.courier().dispatch(order("gw-1"))
    found = json.loads(folders.take("gw-1"))
    assert found == {"schema": 1, "device": "gw-1", "order": ORDER, "rollout": "app-2-x7k2m9"}


def test_reports_come_in_turns_oldest_first(folders: SpoolBench | SshBench) -> None:
    """A chatty device does not starve a quiet one."""
    courier = folders.courier()
    courier.dispatch(order("chatty", "quiet"))
    for counter in (2, 1, 3):
        folders.put("chatty", counter, b"c%d" % counter)
    folders.put("quiet", 7, b"q7")
    assert [d.data for d in courier.collect(3)] == [b"c1", b"q7", b"c2"]
    assert [d.data for d in courier.collect(99)] == [b"c1", b"q7", b"c2", b"c3"]


def test_an_honest_report_passes_foreign_ones(folders: SpoolBench | SshBench) -> None:
    """What is no plain file whose bytes fit its name is never delivered."""
    courier = folders.courier()
    courier.dispatch(order("gw-1"))
    folder = folders.put_file("gw-1", 2, b"honest").parent
    (folder / "hello.txt").write_bytes(b"x")
    (folder / _name(b"whole")).write_bytes(b"who")
    (folder / _name(b"folder")).mkdir()
    (folder / _name(b"link")).symlink_to("/etc/passwd")
    os.mkfifo(folder / _name(b"pipe"))
    huge = b"x" * (MAX_REPORT + 1)
    (folder / _name(huge)).write_bytes(huge)
    (folder / ".tmp-x").write_bytes(b"half")
    assert [d.data for d in courier.collect(9)] == [b"honest"]
    assert (folder / ".tmp-x").exists()


# == the spool ===================================================================================
def put_file(root: Path, device: str, counter: int, data: bytes) -> Path:
    """What a device's feed writes."""
    return SpoolBench(root.parent).put_file(device, counter, data)


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def hint_files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.glob("*/orders/*.json"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Spool:
    return Spool(root)


# -- out -----------------------------------------------------------------------------------------
def test_a_hint_for_each_device(root: Path, spool: Spool) -> None:
    """Exactly the agreed document, below the percent-encoded device, and nothing unfinished."""
    assert spool.dispatch(order("gw-1", "a:b")) == {}
    assert hint_files(root) == [f"a%3Ab/orders/{ORDER}.json", f"gw-1/orders/{ORDER}.json"]
    found = json.loads((root / "gw-1/orders" / f"{ORDER}.json").read_bytes())
    assert found == {"schema": 1, "device": "gw-1", "order": ORDER, "rollout": "app-2-x7k2m9"}
    assert not [n for n in files(root) if ".tmp-" in n]


@pytest.mark.parametrize("at", range(1, 16))
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_killed_while_dispatching(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """Dying at any sync or rename and doing it again gives each device exactly one hint."""
    kill_at(monkeypatch, os, call, at)
    taken = []
    try:
        spool.dispatch(order("gw-1", "gw-2"))
    except Killed:
        taken = hint_files(root)
        for name in taken:
            (root / name).unlink()
        Spool(root).dispatch(order("gw-1", "gw-2"))
    assert sorted(taken + hint_files(root)) == [f"gw-{n}/orders/{ORDER}.json" for n in (1, 2)]


def test_one_folder_that_can_not_be_written_is_unreachable(root: Path, spool: Spool) -> None:
    """Its reason comes back, now and when repeated; the others get their hints."""
    root.mkdir()
    (root / "gw-1").write_text("not a folder")
    for _ in range(2):
        found = spool.dispatch(order("gw-1", "gw-2"))
        assert list(found) == ["gw-1"]
        assert "spool" in found["gw-1"]
    assert hint_files(root) == [f"gw-2/orders/{ORDER}.json"]


def test_a_link_to_another_device_is_not_followed(root: Path, spool: Spool) -> None:
    """A device that points its orders elsewhere gets nothing, and nor does anybody else."""
    (root / "gw-1").mkdir(parents=True)
    (root / "gw-2/orders").mkdir(parents=True)
    (root / "gw-1/orders").symlink_to(root / "gw-2/orders")
    assert list(spool.dispatch(order("gw-1"))) == ["gw-1"]
    assert hint_files(root) == []


def test_a_damaged_record_is_an_outage(root: Path, spool: Spool) -> None:
    """It can not tell whether the order went out, so it does not send it again."""
    spool.dispatch(order("gw-1"))
    (root / ".sent" / f"{ORDER}.json").write_text("{")
    with pytest.raises(Outage):
        spool.dispatch(order("gw-1"))


# -- in ------------------------------------------------------------------------------------------
def test_quarantine_keeps_and_names(root: Path, spool: Spool) -> None:
    """Moved with its reason beside it, never offered again, never overwritten."""
    for data in (b"one", b"two"):
        path = put_file(root, "gw-1", 1, data)
        spool.quarantine(spool.collect(1)[0], f"report-replayed: {data.decode()}")
        aside = root / ".quarantine/gw-1" / path.name
        assert aside.read_bytes() == data
        assert aside.with_name(f"{path.name}.reason").read_text() == (
            f"report-replayed: {data.decode()}\n"
        )
    assert spool.collect(9) == []


def _name(data: bytes) -> str:
    return f"0000000001-{strict.digest(data)[:8]}.json"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: (f / "hello.txt").write_bytes(b"x"), "not the name"),
        (lambda f: (f / "0000000001-XXXXXXXX.json").write_bytes(b"x"), "not the name"),
        (lambda f: (f / _name(b"whole")).write_bytes(b"who"), "partial"),
        (lambda f: (f / _name(b"")).mkdir(), "not a plain file"),
        (lambda f: (f / _name(b"")).symlink_to("/etc/passwd"), "not a plain file"),
        (lambda f: os.mkfifo(f / _name(b"")), "not a plain file"),
        (
            lambda f: (f / _name(b"x" * (MAX_REPORT + 1))).write_bytes(b"x" * (MAX_REPORT + 1)),
            "limit",
        ),
    ],
    ids=["name", "hash", "partial", "folder", "link", "pipe", "oversize"],
)
def test_foreign_entries_are_set_aside(root: Path, spool: Spool, make: object, reason: str) -> None:
    """Never trusted, never lost, and the honest report beside them still arrives."""
    put_file(root, "gw-1", 2, b"honest")
    make(root / "gw-1/reports")  # type: ignore[operator]  # a lambda of the table above
    assert [d.data for d in spool.collect(9)] == [b"honest"]
    reasons = list((root / ".quarantine/gw-1").glob("*.reason"))
    assert len(reasons) == 1
    assert reason in reasons[0].read_text()
    assert os.path.lexists(str(reasons[0]).removesuffix(".reason"))


def test_unfinished_files_are_left_alone(root: Path, spool: Spool) -> None:
    """A name that begins with a dot is somebody's temporary file."""
    folder = put_file(root, "gw-1", 1, b"one").parent
    (folder / ".tmp-x").write_bytes(b"half")
    assert len(spool.collect(9)) == 1
    assert (folder / ".tmp-x").exists()


@pytest.mark.parametrize("name", ["bad name", "a%2fb", "ü", "a:b"])
def test_foreign_folders_at_the_top(root: Path, spool: Spool, name: str) -> None:
    """Not the percent-encoding of an identifier: set aside as a whole."""
    put_file(root, "gw-1", 1, b"one")
    (root / name / "reports").mkdir(parents=True)
    (root / name / "reports/x").write_bytes(b"x")
    assert [d.data for d in spool.collect(9)] == [b"one"]
    assert not (root / name).exists()
    assert len(list((root / ".quarantine/.root").glob("*.reason"))) == 1


@pytest.mark.parametrize("part", ["device", "reports"])
def test_links_instead_of_folders(root: Path, spool: Spool, part: str) -> None:
    """A device can not make the operator read another folder."""
    victim = put_file(root, "victim", 1, b"secret").parent.parent
    if part == "device":
        (root / "thief").symlink_to(victim)
    else:
        (root / "thief").mkdir()
        (root / "thief/reports").symlink_to(victim / "reports")
    assert [d.source.split("/")[0] for d in spool.collect(9)] == ["spool:victim"]
    assert spool.collect(9)[0].data == b"secret"


def test_an_unwritable_spool_is_an_outage(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "spool").write_text("x")
    with pytest.raises(Outage):
        Spool(tmp_path / "spool").collect(1)
    with pytest.raises(Outage):
        Spool(tmp_path / "spool").dispatch(order("gw-1"))
