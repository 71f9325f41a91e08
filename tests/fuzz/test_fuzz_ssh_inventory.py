"""ssh.toml: every host with its way and its pins, or ``Malformed`` that names the file."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, mutated, toml

from ota.couriers.ssh_inventory import Inventory, read
from ota.errors import Malformed

PIN = "SHA256:" + "a" * 43
DOCUMENT: dict[str, Any] = {
    "defaults": {"user": "plant", "key": "file:keys/ssh", "command": ["ota-agent"]},
    "limits": {"parallel": 10},
    "sites": {"lyon": {"parallel": 2, "via": ["outer", "inner"]}},
    "hops": {
        "outer": {"address": "jump.example", "fingerprints": [PIN]},
        "inner": {"address": "10.0.0.1", "port": 2222, "user": "inner", "fingerprints": [PIN]},
    },
    "hosts": {
        "press-07": {"site": "lyon", "address": "10.0.0.7", "fingerprints": [PIN]},
        "a:b": {"address": "fe80::1%eth0", "via": [], "key": "agent", "fingerprints": []},
    },
}
TEXT = toml(DOCUMENT)


def inventory(data: bytes) -> Inventory | None:
    """The inventory and everything that is asked of it; None when refused by name."""
    try:
        found = read(data, "ssh.toml")
    except Malformed as error:
        assert str(error).startswith("ssh.toml")
        return None
    for name, host in found.hosts.items():
        assert all(hop.name in found.hops for hop in found.chain(name))
        assert found.parallel(host.site) >= 1
    return found


def test_the_example_is_read() -> None:
    """What the examples begin with is whole."""
    found = inventory(TEXT)
    assert found is not None
    assert [hop.name for hop in found.chain("press-07")] == ["outer", "inner"]


@budget(1)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Keys and values of every kind, in every place."""
    inventory(toml(document))


@budget(0.7)
@given(damaged(TEXT) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """A file that was cut, edited by accident, or is another one."""
    inventory(data)
