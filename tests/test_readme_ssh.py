"""The README's road by SSH, word for word: from a bare machine to its first signed update.

The machine and the jump host are real OpenSSH servers; the machine stands in a network namespace
that only the jump host reaches. Their names, keys and folders take the place of the README's.
"""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from simulators.sshd import USER, Network

from ota.quickstart import stage
from ota.repositories.release import Build
from tests import test_readme

PORT = 2222


class Ground:
    """An operator's folder with a prepared workspace, a jump host, and a bare machine."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder / "operator"
        self.machine = folder / "machine"
        self.folder.mkdir()
        self._workspace()
        for name in ("etc/ota-agent", "opt", "var/lib", "var/spool"):
            (self.machine / name).mkdir(parents=True)
        key = self.folder / "plant" / "keys" / "ssh-plant"
        key.with_suffix(".pub").touch()
        self.jump = network.door(folder / "jump", key).start()
        self.far = network.far("lyon", folder / "far", key)
        for server in (self.jump, self.far):
            text = server.config.read_text()
            own = f"{server.folder}/authorized_keys"
            server.config.write_text(text.replace(own, f"{key}.pub"))
        self.key = key

    def _workspace(self) -> None:
        plant = stage.Stage(self.folder / "plant")
        plant.prepare()
        image = Path("/bin/ls").resolve()
        plant.publish(Build(image, "app", "1.0.0", ("gw-rev-b",)))
        plant.wiring.close()

    def words(self) -> Mapping[str, str]:
        """What stands in the README, and what is here."""
        pins = ("FWyt4T1ydCQS8tyVbQxRWwWFzdZHbJxRqXpFTvE3DHo", self.jump.fingerprint[7:])
        machine = str(self.machine)
        return {
            pins[0]: pins[1],
            "7M2xWmQmCjjhBh0KcEdhXJPYjz5nGkJLGx1P4hbbkHE": self.far.fingerprint[7:],
            'address = "jump.lyon.example"': f'address = "127.0.0.1"\nport = {self.jump.port}',
            'address = "10.20.0.7"': f'address = "{self.far.address}"\nport = {self.far.port}\n'
            f'config = "{machine}/etc/ota-agent/agent.toml"',
            'user = "ota"': f'user = "{USER}"',
            "install -d -o ota": f"install -d -o {USER}",
            '["/opt/ota/bin/ota-agent"]': f'["{sys.executable}", "-m", "ota.agent.main"]',
            "/opt/ota/bin/ota-agent provision": f"{sys.executable} -m ota.agent.main provision "
            f"--config {machine}/etc/ota-agent/agent.toml",
            "/opt/app": f"{machine}/opt/app",
            "/var/lib/": f"{machine}/var/lib/",
            "/var/spool/": f"{machine}/var/spool/",
            " /etc/ota-agent": f" {machine}/etc/ota-agent",
            ":/etc/ota-agent": f":{machine}/etc/ota-agent",
        }

    def programs(self, folder: Path) -> None:
        """``ssh`` and ``scp`` that know where both names are."""
        known = "StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR"
        (folder / "config").write_text(
            f"Host jump.lyon.example\n  HostName 127.0.0.1\n  Port {self.jump.port}\n"
            f"Host 10.20.0.7\n  HostName {self.far.address}\n  Port {self.far.port}\n"
            f"Host *\n  User {USER}\n  IdentityFile {self.key}\n  {known}\n"
        )
        for name in ("ssh", "scp"):
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec /usr/bin/{name} -F {folder}/config "$@"\n')
            script.chmod(0o755)


programs = test_readme.programs


def test_from_a_bare_machine_to_its_first_update(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine holds the release, says so signed, and nothing secret lies open."""
    with Network("lyon") as network:
        place = Ground(tmp_path, network)
        place.programs(programs)
        with place.far:
            _run(place, programs, monkeypatch)
    app = place.machine / "opt/app/app"
    assert app.read_bytes() == Path("/bin/ls").resolve().read_bytes()
    mirror = place.machine / "var/lib/ota-mirror"
    assert len(list((mirror / "image/targets/app").iterdir())) == 1
    words = [programs / "ota", "-C", place.folder / "plant", "fleet", "list"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert listed.splitlines()[1].split()[:4] == ["press-07", "active", "ssh", "app=1.0.0"]
    assert stat.S_IMODE(place.key.stat().st_mode) == 0o600


def _run(place: Ground, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = test_readme.script("ssh")
    for theirs, ours in place.words().items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    text = text.replace("set -eu\n", f"set -eu\nexport OTA_WORKSPACE={place.folder}/plant\n", 1)
    monkeypatch.setattr(test_readme, "script", lambda _name: text)
    out = test_readme.session("ssh", place.folder, programs)
    assert "COMPLETED" in out
