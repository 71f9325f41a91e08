"""The SSH courier over real servers: broken visits made again, liars named, pace and memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.identities import START, Identity, update
from simulators.sshd import Server, commands
from simulators.sshfleet import AGENT, SshFleet
from simulators.stopping import Killed, kill_at

from ota.agent.feeds.spool import SpoolFeed
from ota.couriers import ssh as ssh_courier
from ota.couriers import visiting
from ota.couriers.visit_memory import State
from ota.ports import Order

ROLLOUT = "app-2-x7k2m9"
ORDER = f"ota-{ROLLOUT}-u1-w0-b0"
WRONG = "SHA256:" + "A" * 43


def order(*devices: str, name: str = ORDER, days: int = 7) -> Order:
    return Order(name, ROLLOUT, devices, START + timedelta(days=days))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshFleet, Server]]:
    fleet = SshFleet(tmp_path_factory.mktemp("courier"))
    yield fleet, fleet.serve()
    fleet.close()


@pytest.fixture
def far(served: tuple[SshFleet, Server]) -> Server:
    return served[1]


@pytest.fixture
def fleet(served: tuple[SshFleet, Server], tmp_path: Path) -> SshFleet:
    """Two devices, nothing remembered."""
    fleet, far = served
    fleet.folder = tmp_path
    fleet.hosts.clear()
    fleet.now = START
    fleet.limits |= {"visit": 0.0}
    for device in ("gw-1", "gw-2"):
        fleet.join(device, far)
    return fleet


def hints(fleet: SshFleet, device: str) -> list[str]:
    folder = fleet.home(device) / "spool" / "orders"
    return sorted(p.stem for p in folder.glob("[!.]*.json"))


def take(fleet: SshFleet, device: str) -> None:
    """The agent looks at its hint."""
    for name in hints(fleet, device):
        (fleet.home(device) / "spool" / "orders" / f"{name}.json").unlink()


def tell(fleet: SshFleet, device: str, counter: int, data: bytes) -> None:
    SpoolFeed(fleet.home(device) / "spool", device).send(counter, data)


def outcome(device: str, counter: int, said: str = "committed") -> bytes:
    """A signed report that the order has ended, or goes on."""
    return Identity(device).report(counter, update=update(ROLLOUT, outcome=said))


def state(fleet: SshFleet, device: str) -> State:
    return fleet.memory.load(device)


# -- visits that break off -------------------------------------------------------------------------
def test_a_device_that_comes_back_gets_its_order(fleet: SshFleet, far: Server) -> None:
    """Unreachable at dispatch, with the reason; visited again, until it has the hint."""
    port = fleet.hosts["gw-1"]["port"]
    fleet.hosts["gw-1"]["port"] = 1
    found = fleet.courier().dispatch(order("gw-1", "gw-2"))
    assert list(found) == ["gw-1"]
    assert found["gw-1"].startswith("ssh-unreachable: gw-1 (127.0.0.1:1): ")
    assert fleet.courier().follow(order("gw-1"), ["gw-1"], close=False).lost == found
    fleet.hosts["gw-1"]["port"] = port
    fleet.now += timedelta(hours=1)
    courier = fleet.courier()
    courier.collect(9)
    assert hints(fleet, "gw-1") == [ORDER]
    assert courier.follow(order("gw-1"), ["gw-1"], close=False).lost == {}


def test_an_answer_that_is_lost_repeats_nothing(fleet: SshFleet) -> None:
    """The hint is there when the connection breaks; the next visit leaves no second one."""
    fleet.hosts["gw-1"]["command"] = ["sh", "-c", f'{" ".join(AGENT)} "$@"; sleep 60', "sh"]
    fleet.limits["total"] = 1.5
    assert "ssh-time-limit" in fleet.courier().dispatch(order("gw-1"))["gw-1"]
    fleet.limits.pop("total")
    assert hints(fleet, "gw-1") == [ORDER]
    take(fleet, "gw-1")
    fleet.hosts["gw-1"]["command"] = list(AGENT)
    assert fleet.courier().dispatch(order("gw-1")) == {}
    assert hints(fleet, "gw-1") == []


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_while_dispatching(
    fleet: SshFleet, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """Dying at any write and doing it again gives each device exactly one hint."""
    owner: object = os if call == "fsync" else Path
    taken: list[str] = []
    with monkeypatch.context() as patch:
        kill_at(patch, owner, call, at)
        try:
            fleet.courier().dispatch(order("gw-1", "gw-2"))
        except Killed:
            taken = hints(fleet, "gw-1") + hints(fleet, "gw-2")
            take(fleet, "gw-1")
            take(fleet, "gw-2")
    assert fleet.courier().dispatch(order("gw-1", "gw-2")) == {}
    assert len(taken + hints(fleet, "gw-1") + hints(fleet, "gw-2")) == 2


def test_a_withdrawn_order_does_not_arrive_late(fleet: SshFleet) -> None:
    """Unreachable when it was withdrawn: the device learns of the withdrawal and of no order."""
    port = fleet.hosts["gw-1"].pop("port")
    fleet.hosts["gw-1"]["port"] = 1
    courier = fleet.courier()
    courier.dispatch(order("gw-1"))
    courier.cancel(order("gw-1"))
    fleet.hosts["gw-1"]["port"] = port
    fleet.now += timedelta(hours=1)
    fleet.courier().collect(9)
    assert hints(fleet, "gw-1") == []
    assert (fleet.home("gw-1") / "spool" / ".relayed.json").exists()
    fleet.courier().collect(9)
    assert state(fleet, "gw-1").orders == {}


def test_an_order_that_has_ended_is_not_delivered(fleet: SshFleet) -> None:
    """Its time is over: no hint any more; a day later it is forgotten."""
    fleet.now += timedelta(days=7)
    assert fleet.courier().dispatch(order("gw-1")) == {}
    assert hints(fleet, "gw-1") == []
    fleet.now += timedelta(days=2)
    fleet.courier().collect(9)
    assert state(fleet, "gw-1").orders == {}


# -- what may answer over there ----------------------------------------------------------------------
LIARS = {
    "garbage": ("echo not json", "ssh-output"),
    "empty": (":", "ssh-output"),
    "half": ("""printf '{"schema":1,"device":"gw-1"'""", "ssh-output"),
    "twice": ("""echo '{"schema":1,"device":"x","device":"gw-1"}'""", "ssh-output"),
    "other-schema": ("""echo '{"schema":9,"device":"gw-1"}'""", "ssh-output"),
    "deep": ("yes '[' | head -c 100000 | tr -d '\\n'", "ssh-output"),
    "endless": ("yes", "ssh-output"),
    "other-device": ("""echo '{"schema":1,"device":"gw-2"}'""", "hint-wrong-device"),
    "missing": ("exit 127", "agent-missing"),
    "old": ("echo 'invalid choice: relay' >&2; exit 2", "ssh-command"),
    "killed": ("kill -9 $$", "ssh-killed"),
    "control": ("printf '\\033]0;owned\\007' >&2; exit 1", "ssh-command"),
}


@pytest.mark.parametrize(("script", "code"), LIARS.values(), ids=LIARS)
def test_liars_are_named_and_stop_nobody(fleet: SshFleet, script: str, code: str) -> None:
    """Each its own reason, nothing of it believed or printed raw; the neighbour gets its order."""
    fleet.hosts["gw-1"]["command"] = ["sh", "-c", f"{script}", "sh"]
    found = fleet.courier().dispatch(order("gw-1", "gw-2"))
    assert {device: reason.partition(":")[0] for device, reason in found.items()} == {"gw-1": code}
    assert found["gw-1"].isprintable()
    assert hints(fleet, "gw-2") == [ORDER]
    assert fleet.courier().collect(9) == []


def test_the_agents_own_error_is_told(fleet: SshFleet) -> None:
    """Its code and words, as the device's relay prints them."""
    path = fleet.home("gw-1") / "agent.toml"
    path.write_text(path.read_text().replace('"spool"', '"none"'))
    found = fleet.courier().dispatch(order("gw-1"))["gw-1"]
    assert found == "usage: gw-1: gw-1 has no spool to relay for"


def test_a_full_disk_over_there(fleet: SshFleet) -> None:
    """The hint can not be written: named, nothing half-written is left, the neighbour gets its own."""
    spool = fleet.home("gw-1") / "spool"
    spool.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(spool)]
    subprocess.run(words, check=True, timeout=60)
    try:
        with contextlib.suppress(OSError), (spool / "full").open("wb", buffering=0) as full:
            while full.write(b"x" * 4096):
                pass
        found = fleet.courier().dispatch(order("gw-1", "gw-2"))
        assert list(found) == ["gw-1"]
        assert found["gw-1"].startswith("no-space: gw-1: ")
        assert (hints(fleet, "gw-1"), hints(fleet, "gw-2")) == ([], [ORDER])
        (spool / "full").unlink()
        assert fleet.courier().dispatch(order("gw-1")) == {}
        assert hints(fleet, "gw-1") == [ORDER]
    finally:
        subprocess.run(["umount", "-l", str(spool)], check=True, timeout=60)


def test_a_host_that_is_another_device(fleet: SshFleet) -> None:
    """Two rows of the inventory mixed up: refused by the relay there, and no hint is left."""
    one, two = fleet.hosts["gw-1"]["config"], fleet.hosts["gw-2"]["config"]
    fleet.hosts["gw-1"]["config"], fleet.hosts["gw-2"]["config"] = two, one
    found = fleet.courier().dispatch(order("gw-1", "gw-2"))
    assert {reason.partition(":")[0] for reason in found.values()} == {"hint-wrong-device"}
    assert hints(fleet, "gw-1") == hints(fleet, "gw-2") == []


def test_a_forged_answer_delivers_only_whole_reports(fleet: SshFleet) -> None:
    """Names that are none, bytes that do not fit, base64 that is none: left where they are."""
    script = (
        """echo '{"schema":1,"device":"gw-1","reports":["""
        """{"name":"../../etc/passwd","data":"eA=="},"""
        """{"name":"0000000001-00000000.json","data":"eA=="},"""
        """{"name":"0000000002-2d711642.json","data":"e*A="},"""
        """{"name":"0000000003-2d711642.json","data":"eA=="}]}'"""
    )
    fleet.hosts["gw-1"]["command"] = ["sh", "-c", script, "sh"]
    courier = fleet.courier()
    courier.dispatch(order("gw-1"))
    assert [(d.data, d.source) for d in courier.collect(9)] == [
        (b"x", "ssh:gw-1/0000000003-2d711642.json")
    ]


def test_a_node_that_dies_in_a_visit(fleet: SshFleet, far: Server) -> None:
    """Only what ran there is lost; the other host is served, and the first the next time."""
    fleet.hosts["gw-1"]["command"] = ["sh", "-c", "sleep 30", "sh"]
    cut = threading.Timer(0.6, far.cut)
    cut.start()
    assert "ssh-lost" in fleet.courier().dispatch(order("gw-1"))["gw-1"]
    cut.join()
    fleet.hosts["gw-1"]["command"] = list(AGENT)
    assert fleet.courier().dispatch(order("gw-1", "gw-2")) == {}


# -- pace and memory -------------------------------------------------------------------------------
def test_reports_are_acknowledged_at_the_next_visit(fleet: SshFleet) -> None:
    """Then the device drops them; once all is said, nobody goes there any more."""
    courier = fleet.courier()
    courier.dispatch(order("gw-1"))
    tell(fleet, "gw-1", 1, outcome("gw-1", 1, "in_progress"))
    courier.acknowledge(courier.collect(9))
    assert not state(fleet, "gw-1").orders[ORDER].ended
    tell(fleet, "gw-1", 2, outcome("gw-1", 2))
    courier.acknowledge(courier.collect(9))
    assert state(fleet, "gw-1").orders[ORDER].ended
    reports = fleet.home("gw-1") / "spool" / "reports"
    assert len(list(reports.iterdir())) == 1
    assert courier.collect(9) == []
    assert list(reports.iterdir()) == []
    assert courier.collect(9) == []
    assert state(fleet, "gw-1").orders == {}
    before = state(fleet, "gw-1")
    courier.collect(9)
    assert state(fleet, "gw-1") == before


def test_the_pace_follows_what_happens(fleet: SshFleet) -> None:
    """Soon while reports come, ever more seldom while none does, within the limits."""
    fleet.limits |= {"visit": 2.0, "visit_max": 5.0}
    courier = fleet.courier()
    courier.dispatch(order("gw-1"))
    pauses = []
    for _ in range(5):
        pauses.append(state(fleet, "gw-1").pause)
        fleet.now += timedelta(seconds=pauses[-1] + 1)
        courier.collect(9)
    assert pauses[0] == 2.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    tell(fleet, "gw-1", 1, b"news")
    fleet.now += timedelta(seconds=6)
    courier.collect(9)
    assert state(fleet, "gw-1").pause == 2.0
    fleet.hosts["gw-1"]["port"] = 1
    courier = fleet.courier()
    for _ in range(10):
        fleet.now += timedelta(hours=1)
        courier.collect(9)
    assert state(fleet, "gw-1").pause == 75.0


def test_a_device_that_never_ends_is_paused(
    fleet: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says each time that more waits: heard at once a few times, then at the usual pace."""
    monkeypatch.setattr(visiting, "HURRY", 3)
    fleet.limits |= {"visit": 2.0}
    script = """echo '{"schema":1,"device":"gw-1","more":true}'"""
    fleet.hosts["gw-1"]["command"] = ["sh", "-c", script, "sh"]
    courier = fleet.courier()
    courier.dispatch(order("gw-1"))
    due = []
    for _ in range(6):
        due.append(state(fleet, "gw-1").is_due(fleet.now))
        courier.collect(9)
    assert due == [True, True, True, False, False, False]
    fleet.now += timedelta(seconds=2)
    assert state(fleet, "gw-1").is_due(fleet.now)


def test_dead_sites_do_not_stop_a_rollout(
    fleet: SshFleet, monkeypatch: pytest.MonkeyPatch, far: Server
) -> None:
    """After its budget of time a collection begins no more visits; the others come next time."""
    monkeypatch.setattr(ssh_courier, "BUDGET", 0.0)
    fleet.limits["parallel"] = 1
    for n in range(5):
        fleet.join(f"d-{n}", far)
    courier = fleet.courier()
    courier.want([f"d-{n}" for n in range(5)])
    began = time.monotonic()
    courier.collect(9)
    seen = [f"d-{n}" for n in range(5) if state(fleet, f"d-{n}").seen]
    assert len(seen) <= 1
    assert time.monotonic() - began < 10
    monkeypatch.setattr(ssh_courier, "BUDGET", 60.0)
    courier.collect(9)
    assert all(state(fleet, f"d-{n}").seen for n in range(5))
    fleet.limits.pop("parallel")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"[]",
        lambda data: data.replace(b'"due":"', b'"due":"x'),
        lambda data: data.replace(ORDER.encode(), b"../x"),
        lambda data: data + b" " * 2_000_000,
    ],
    ids=["empty", "half", "list", "time", "order", "huge"],
)
def test_a_damaged_memory_is_begun_anew(fleet: SshFleet, damage: Callable[[bytes], bytes]) -> None:
    """It costs a visit: the device knows the order, and there is one hint."""
    fleet.courier().dispatch(order("gw-1"))
    take(fleet, "gw-1")
    path = fleet.memory.folder / "gw-1.json"
    path.write_bytes(damage(path.read_bytes()))
    assert fleet.courier().dispatch(order("gw-1")) == {}
    assert hints(fleet, "gw-1") == []
    assert list(state(fleet, "gw-1").orders) == [ORDER]


def test_tidy_forgets(fleet: SshFleet) -> None:
    """What is over leaves nothing behind."""
    fleet.courier().dispatch(order("gw-1", "gw-2"))
    assert fleet.courier().tidy(order("gw-1", "gw-2"))
    assert [state(fleet, d).orders for d in ("gw-1", "gw-2")] == [{}, {}]


def test_a_changed_host_key_is_a_reason(fleet: SshFleet) -> None:
    """Counted as unreachable, with the word that a person must see."""
    fleet.hosts["gw-1"]["fingerprints"] = [WRONG]
    found = fleet.courier().dispatch(order("gw-1", "gw-2"))
    assert list(found) == ["gw-1"]
    assert found["gw-1"].startswith("host-key-changed: gw-1 shows ssh-ed25519 SHA256:")


def test_no_process_is_left_behind(fleet: SshFleet) -> None:
    """After a visit nothing of it runs over there."""
    fleet.courier().dispatch(order("gw-1"))
    assert [line for line in commands() if str(fleet.home("gw-1")) in line] == []
