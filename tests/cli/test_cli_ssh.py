"""``ota ssh``: what each verb prints and how it exits, against a real server on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.sshd import USER, Server, keygen
from simulators.sshfleet import AGENT

from tests.cli.conftest import Ota

WRONG = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ssh")
    with Server(folder / "far", keygen(folder / "operator")) as server:
        yield server


class Hosts:
    """Three devices at one server; a test changes their rows and writes them."""

    def __init__(self, ota: Ota, far: Server) -> None:
        self._ota = ota
        toml = ota.folder / "ota.toml"
        toml.write_text(toml.read_text() + '\n[couriers.ssh]\ninventory = "ssh.toml"\n')
        self.rows: dict[str, dict[str, Any]] = {}
        self.key = far.folder.parent / "operator"
        ota.words |= {str(far.port): "PORT", far.fingerprint: "PIN", sys.executable: "PYTHON"}
        for device in ("gw-1", "gw-2", "gw-3"):
            home = ota.folder.parent / device
            home.mkdir()
            spool = home / "spool"
            (home / "agent.toml").write_text(
                f'device = "{device}"\nstate_dir = "{home}/state"\n'
                f'[feed]\nkind = "spool"\npath = "{spool}"\n'
            )
            self.rows[device] = {
                "address": far.address,
                "port": far.port,
                "fingerprints": [far.fingerprint],
                "config": f"{home}/agent.toml",
            }

    def write(self) -> None:
        text = f'[defaults]\nuser = "{USER}"\nkey = "file:{self.key}"\nlook = false\n'
        text += f"command = {json.dumps(list(AGENT))}\n[limits]\nconnect = 5.0\n"
        for device, words in self.rows.items():
            text += f"[hosts.{device}]\n"
            text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in words.items())
        (self._ota.folder / "ssh.toml").write_text(text)


@pytest.fixture
def hosts(ota: Ota, far: Server) -> Hosts:
    made = Hosts(ota, far)
    made.write()
    return made


def test_check_shows_what_works(ota: Ota, hosts: Hosts) -> None:
    """One row for each host, the same every time; exit 0, and nothing changed anywhere."""
    before = ota.files()
    said = ota("ssh", "check", "--limit", "gw-2,gw-1")
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["DEVICE", "RESULT", "AGENT", "HOST", "KEY", "REASON"]
    assert [line[:2] + line[3:] for line in lines[1:]] == [
        [device, "ok", "ssh-ed25519", "PIN", "-"] for device in ("gw-1", "gw-2")
    ]
    assert said.err == ""
    assert ota.files() == before


def test_check_names_each_trouble_and_the_retry(ota: Ota, hosts: Hosts) -> None:
    """The gravest decides the exit code; --limit tries just those again."""
    hosts.rows["gw-1"]["port"] = 1
    hosts.rows["gw-2"]["user"] = "nobody"
    hosts.write()
    said = ota("ssh", "check", "-o", "json")
    assert {row["device"]: row["result"] for row in said.json} == {
        "gw-1": "ssh-unreachable",
        "gw-2": "ssh-auth",
        "gw-3": "ok",
    }
    assert said.code == 4
    assert said.err.splitlines()[0] == (
        "error: 2 of 3 devices: gw-2 does not take the key of user nobody"
    )
    assert said.err.splitlines()[-1].endswith("; then ota ssh check --limit gw-1,gw-2")


@pytest.mark.parametrize(
    ("pins", "result", "code"), [([WRONG], "host-key-changed", 3), ([], "host-key-unpinned", 4)]
)
def test_check_shows_the_key_that_it_saw(
    ota: Ota, hosts: Hosts, pins: list[str], result: str, code: int
) -> None:
    """To be compared at the machine; nothing is pinned by itself."""
    hosts.rows["gw-1"]["fingerprints"] = pins
    hosts.write()
    text = (ota.folder / "ssh.toml").read_text()
    said = ota("ssh", "check", "--limit", "gw-1", "-o", "json")
    (row,) = said.json
    assert (said.code, row["result"]) == (code, result)
    assert ota.normal(row["host_key"]) == "ssh-ed25519 PIN"
    assert (ota.folder / "ssh.toml").read_text() == text


def test_push_brings_a_mirror_up_to_date(ota: Ota, hosts: Hosts) -> None:
    """Only devices that have one; what is there already is kept."""
    mirror = ota.folder.parent / "mirror"
    mirror.mkdir()
    hosts.rows["gw-1"]["mirror"] = str(mirror)
    hosts.write()
    (first,) = ota.ok("ssh", "push", "-o", "json").json
    assert (first["device"], first["result"], first["kept"]) == ("gw-1", "ok", 0)
    pushed = {p.relative_to(mirror) for p in mirror.rglob("*") if p.is_file()}
    assert {str(p) for p in pushed} == {
        "director/devices/gw-1/1.snapshot.json",
        "director/devices/gw-1/1.targets.json",
        "director/devices/gw-1/timestamp.json",
    }
    for path in pushed:
        assert (mirror / path).read_bytes() == (ota.folder / "store" / path).read_bytes()
    (second,) = ota.ok("ssh", "push", "-o", "json").json
    assert (second["files"], second["sent"], second["kept"]) == (0, 0, 3)
    said = ota("ssh", "push", "--limit", "gw-2")
    assert (said.code, "code: ssh-no-mirror" in said.err) == (1, True)


def test_visit_and_status(ota: Ota, hosts: Hosts) -> None:
    """A device that was mended is visited by name; status says how the last visit went."""
    hosts.rows["gw-1"]["port"] = 1
    hosts.write()
    said = ota("ssh", "visit", "--limit", "gw-1,gw-2")
    assert said.code == 1
    assert said.out.splitlines()[2].split() == ["gw-2", "ok", "-"]
    assert said.err.splitlines()[-1] == "next: ota ssh visit --limit gw-1"
    rows = {row["device"]: row for row in ota.ok("ssh", "status", "-o", "json").json}
    assert rows["gw-1"]["code"] == "ssh-unreachable"
    assert rows["gw-2"]["seen"] == "2026-11-23T08:00:00Z"
    assert rows["gw-3"]["seen"] == ""
    hosts.rows["gw-1"]["port"] = hosts.rows["gw-2"]["port"]
    hosts.write()
    assert ota.ok("ssh", "visit", "--limit", "gw-1").out.splitlines()[1].split()[1] == "ok"


def test_words_that_are_wrong(ota: Ota, hosts: Hosts) -> None:
    """A device that is not listed, an inventory that is missing or wrong: exit 2, and where."""
    said = ota("ssh", "check", "--limit", "gw-9")
    assert (said.code, "code: ssh-unlisted" in said.err) == (2, True)
    (ota.folder / "ssh.toml").write_text("[hosts.gw-1]\naddress = 5\n")
    said = ota("ssh", "check")
    assert said.code == 2
    assert said.err.startswith("error: ssh.toml: hosts.gw-1: ")
    (ota.folder / "ssh.toml").unlink()
    assert ota("ssh", "status").code == 2


def test_a_workspace_without_ssh(ota: Ota) -> None:
    """Says what to write, and its rollouts never load the library."""
    said = ota("ssh", "check")
    assert said.code == 2
    assert "next: [couriers.ssh] in ota.toml" in said.err


def test_a_key_that_others_can_read(ota: Ota, hosts: Hosts, tmp_path: Path) -> None:
    """Not permitted, and how to mend it; nobody is contacted."""
    key = keygen(tmp_path / "open")
    key.chmod(0o644)
    hosts.key = key
    hosts.write()
    said = ota("ssh", "check", "--limit", "gw-1")
    assert (said.code, "code: secret-mode" in said.err, "chmod 600" in said.err) == (4, True, True)
