"""A native playbook on many hosts over SSH, against ansible-core doing the same three steps.

Every host is a real sshd on loopback with a mount namespace of its own, so that each has its own
``/var/tmp``. Both sides write a file, run a command and read the file back, 20 hosts at a time,
with keys alone; ansible-core (in a virtual environment that is made here) gathers no facts and
does not compare host keys, and is measured as installed and with pipelining. Each run writes
another content, so nobody finds the work done already.

``python tests/benchmarks/bench_playbook.py [-o json] [--hosts N] [--runs N] [--ansible FOLDER]``
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import figures
from figures import Figure
from simulators.sshd import USER, Server
from simulators.sshfleet import SshFleet

from ota.couriers.ssh_native import SshShells
from ota.playbook import compute, native, source
from ota.playbook.running import Native, NativeRuns

ANSIBLE = "ansible-core==2.19.*"
AT_ONCE = 20
OWN = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /var/tmp && exec "$@"', "sh")
OURS = b"""\
name: bench
version: 1.0.0
summary: Three steps
platforms: [linux]
parameters:
  word: {type: string, pattern: "^[a-z0-9-]{1,32}$", description: the content}
steps:
  - name: write
    file: {path: /var/tmp/bench.conf, content: "${word}\\n", mode: "0644"}
  - name: check
    exec: {argv: [test, -s, /var/tmp/bench.conf]}
  - name: read
    collect: {argv: [cat, /var/tmp/bench.conf]}
"""
THEIRS = """\
- hosts: all
  gather_facts: false
  tasks:
    - copy: {dest: /var/tmp/bench.conf, content: "{{ word }}\\n", mode: "0644"}
    - command: {argv: [test, -s, /var/tmp/bench.conf]}
    - command: {argv: [cat, /var/tmp/bench.conf]}
"""


class Hosts:
    """``count`` servers, known to both sides."""

    def __init__(self, folder: Path, count: int, ansible: Path) -> None:
        self.fleet = SshFleet(folder)
        self.fleet.sites = {"all": {"parallel": AT_ONCE}}
        self.fleet.limits = {"parallel": AT_ONCE}
        self.servers = []
        self.words = (f"run-{n}" for n in itertools.count())
        self.ansible = ansible
        lines = []
        for number in range(count):
            name = f"h{number}"
            server = Server(folder / name, self.fleet.key, prefix=OWN).start()
            self.servers.append(server)
            self.fleet.join(name, server, site="all")
            lines.append(f"{name} ansible_host={server.address} ansible_port={server.port}")
        own = f"ansible_user={USER} ansible_ssh_private_key_file={self.fleet.key}"
        own += f" ansible_python_interpreter={sys.executable}"
        (folder / "inventory").write_text("\n".join([*lines, "[all:vars]", *own.split(), ""]))
        (folder / "bench.yaml").write_text(THEIRS)
        self.playbook = source.read(OURS)
        self.rendered = native.script(self.playbook)

    def close(self) -> None:
        for server in self.servers:
            server.stop()

    def ours(self) -> float:
        """Seconds for all hosts, from the order to the record of the last answer."""
        values = compute.bind(self.playbook, {"word": next(self.words)})
        order = Native(self.rendered, values, signed=False)
        runs = NativeRuns(self.fleet.folder / "native", SshShells(self.fleet.tools()))
        began = time.perf_counter()
        rows = list(runs.run(order, list(self.fleet.hosts), self.fleet.now))
        seconds = time.perf_counter() - began
        bad = [row for row in rows if row["outcome"] != "done"]
        assert not bad, bad[0]
        return seconds

    def theirs(self, *, pipelining: bool) -> float:
        """Seconds of ``ansible-playbook``, its own start included as ours has none to speak of."""
        words = [str(self.ansible / "bin/ansible-playbook"), "-i", "inventory", "bench.yaml"]
        words += ["-f", str(AT_ONCE), "-e", f"word={next(self.words)}"]
        settings = {
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_PIPELINING": str(pipelining),
            "ANSIBLE_HOME": str(self.fleet.folder / "ansible"),
            "LC_ALL": "C.UTF-8",
        }
        began = time.perf_counter()
        done = subprocess.run(
            words,
            cwd=self.fleet.folder,
            env=os.environ | settings,
            check=False,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
        return seconds


def install(folder: Path) -> Path:
    """ansible-core in a virtual environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", ANSIBLE], check=True)
    return folder


def main() -> None:
    """Measure and print."""
    options = figures.arguments(
        __doc__,
        hosts={"type": int, "default": 100},
        runs={"type": int, "default": 3},
        ansible={"type": Path, "default": None, "help": "a virtual environment that has it"},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name:
        ansible = options.ansible or install(Path(name) / "ansible-core")
        place = Path(name) / "hosts"
        place.mkdir()
        hosts = Hosts(place, options.hosts, ansible)
        try:
            ours, plain, piped = figures.in_turn(
                options.runs,
                hosts.ours,
                lambda: hosts.theirs(pipelining=False),
                lambda: hosts.theirs(pipelining=True),
            )
        finally:
            hosts.close()
    rates = [options.hosts / figures.median(seconds) for seconds in (ours, plain, piped)]
    figures.show(
        "playbook",
        [
            Figure(f"{options.hosts} hosts, three steps, native over SSH", rates[0], "hosts/s"),
            Figure("ansible-core as installed", rates[1], "hosts/s"),
            Figure("ansible-core with pipelining", rates[2], "hosts/s"),
            Figure("against ansible-core", figures.ratio(plain, ours), "x",
                   bound=5.0, direction="at least", peer=f"{AT_ONCE} forks, as installed"),
            Figure("against ansible-core with pipelining", figures.ratio(piped, ours), "x",
                   bound=5.0, direction="at least", peer=f"{AT_ONCE} forks, pipelining"),
        ],
        options.output,
    )  # fmt: skip


if __name__ == "__main__":
    main()
