"""Chains of hops: far hosts in network namespaces of their own, which only a jump host reaches."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from simulators.sshd import Door, Network, Server
from simulators.sshfleet import SshFleet

from ota.couriers.ssh_links import Done, Link, Links

WRONG = "SHA256:" + "A" * 43


@dataclass
class World:
    """A jump host before two cells, with a server in each, and an inner one behind the first."""

    fleet: SshFleet
    jump: Door
    north: Server
    south: Server
    inner: Server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hops")
    fleet = SshFleet(folder)
    with Network("north", "south") as network:
        jump = network.door(folder / "jump", fleet.key).start()
        north = network.far("north", folder / "north", fleet.key)
        south = network.far("south", folder / "south", fleet.key)
        inner = Server(
            folder / "inner",
            fleet.key,
            prefix=network.prefix("north"),
            address="127.0.0.1",
            port=99,
        )
        with north, south, inner:
            yield World(fleet, jump, north, south, inner)


@pytest.fixture
def world(servers: World) -> World:
    """The inventory as it should be."""
    fleet = servers.fleet
    fleet.hosts.clear()
    fleet.hops.clear()
    fleet.limits["connect"] = 5.0
    fleet.hop("jump", servers.jump)
    fleet.hop("north", servers.north)
    fleet.sites = {"north": {"via": ["jump"]}, "south": {"via": ["jump"]}}
    fleet.join("n", servers.north, site="north")
    fleet.join("s", servers.south, site="south")
    fleet.join("i", servers.inner, via=["jump", "north"])
    return servers


def addresses(link: Link) -> str:
    return link.run(["ip", "-br", "addr"]).out.decode()


def everyone(world: World, *devices: str) -> dict[str, Done[str]]:
    with Links(world.fleet.inventory, world.fleet.keys) as links:
        names = devices or tuple(world.fleet.hosts)
        return {done.device: done for done in links.each(names, addresses)}


def codes(found: dict[str, Done[str]]) -> dict[str, str]:
    return {device: done.error.code if done.error else "" for device, done in found.items()}


def connections(server: Server) -> int:
    """Logins that a server has seen."""
    return (server.folder / "log").read_text().count("Accepted publickey")


def test_through_one_hop_and_through_two(world: World) -> None:
    """Each host answers from its own network, which this machine has no way into."""
    found = everyone(world)
    assert codes(found) == {"n": "", "s": "", "i": ""}
    assert "10.77.1.2" in (found["n"].value or "")
    assert "10.77.2.2" in (found["s"].value or "")
    assert "10.77.1.2" in (found["i"].value or "")
    here = subprocess.run(["ip", "-br", "addr"], check=True, capture_output=True, text=True)
    assert "10.77." not in here.stdout
    world.fleet.hosts["i"]["via"] = []
    assert codes(everyone(world, "i")) == {"i": "ssh-unreachable"}


def test_a_jump_host_is_shared(world: World) -> None:
    """Twenty hosts behind it are twenty logins over there, and one at the jump host."""
    for n in range(20):
        world.fleet.join(f"s-{n}", world.south, site="south")
    text = world.jump.config.read_text().replace("LogLevel ERROR", "LogLevel VERBOSE")
    world.jump.config.write_text(text)
    before = connections(world.jump)
    found = everyone(world, *(f"s-{n}" for n in range(20)))
    assert codes(found) == {f"s-{n}": "" for n in range(20)}
    assert connections(world.jump) == before + 1


@pytest.mark.parametrize(
    ("table", "name", "hit"),
    [
        ("hops", "jump", {"n", "s", "i"}),
        ("hops", "north", {"i"}),
        ("hosts", "s", {"s"}),
    ],
)
def test_every_hop_is_pinned_by_itself(world: World, table: str, name: str, hit: set[str]) -> None:
    """A changed key anywhere on the way stops what goes through it, and names the hop."""
    getattr(world.fleet, table)[name]["fingerprints"] = [WRONG]
    found = everyone(world)
    assert codes(found) == {d: "host-key-changed" if d in hit else "" for d in "nsi"}
    for device in hit:
        assert str(found[device].error).startswith(f"{name} shows")


def test_a_far_key_does_not_open_the_hop(world: World) -> None:
    """The pin of one hop is no pin of another."""
    fleet = world.fleet
    pins = fleet.hops["jump"]["fingerprints"], fleet.hosts["n"]["fingerprints"]
    fleet.hops["jump"]["fingerprints"], fleet.hosts["n"]["fingerprints"] = pins[::-1]
    assert codes(everyone(world, "n")) == {"n": "host-key-changed"}


def test_a_jump_host_that_can_not_be_reached(world: World) -> None:
    """Those behind it have its name in their reason; others are unaffected."""
    world.fleet.hop("gone", world.jump, port=1)
    world.fleet.sites["south"]["via"] = ["gone"]
    for n in range(10):
        world.fleet.join(f"s-{n}", world.south, site="south")
    found = everyone(world)
    away = {"s", *(f"s-{n}" for n in range(10))}
    assert codes(found) == {d: "ssh-jump" if d in away else "" for d in world.fleet.hosts}
    assert all("gone (127.0.0.1:1)" in str(found[d].error) for d in away)


def test_a_host_that_the_jump_host_can_not_reach(world: World) -> None:
    """Its own fault, told by the hop before it."""
    world.fleet.hosts["n"]["port"] = 1
    found = everyone(world, "n", "i")
    assert codes(found) == {"n": "ssh-unreachable", "i": ""}
    assert "the hop before it says" in str(found["n"].error)


def test_a_jump_host_that_forwards_nothing(world: World) -> None:
    """It was locked down: named as it says it."""
    text = world.jump.config.read_text()
    world.jump.config.write_text(f"AllowTcpForwarding no\n{text}")
    found = everyone(world, "n")
    world.jump.config.write_text(text)
    assert codes(found) == {"n": "ssh-unreachable"}
    assert "prohibited" in str(found["n"].error)


def test_a_jump_host_that_dies_is_connected_again(world: World) -> None:
    """Who was on the way is lost; who comes after gets through."""
    with Links(world.fleet.inventory, world.fleet.keys) as links:
        (first,) = links.each(["n"], addresses)
        assert first.error is None

        def cut(link: Link) -> str:
            world.jump.cut()
            return addresses(link)

        (lost,) = links.each(["n"], cut)
        assert lost.error is not None
        assert lost.error.code == "ssh-lost"
        (again,) = links.each(["s"], addresses)
        assert again.error is None
