"""What SSH costs the operator: pushing an image by SFTP, and visiting many hosts.

One file is pushed into an empty mirror through ``ssh_push.push``, hashing over there included,
against OpenSSH's own ``sftp`` client putting the same file, and against it followed by the same
``sha256sum``; one server, in turn. Then hosts per second of the parallel runner: three commands
on each of many hosts at one server, directly and behind a jump host.

``python tests/benchmarks/bench_ssh.py [-o json] [--mib N] [--hosts N] [--runs N]``
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import figures
from figures import Figure
from simulators.sshd import USER, Server
from simulators.sshfleet import SshFleet

from ota.couriers import ssh_push
from ota.couriers.ssh_links import Link, Links
from ota.ports import MirrorFile

STEPS = (["true"], ["id", "-un"], ["cat", "/etc/hostname"])


def image(path: Path, mib: int) -> MirrorFile:
    """A file of ``mib`` MiB that no compression makes smaller."""
    with path.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(1 << 20))
    with path.open("rb") as source:
        sha = hashlib.file_digest(source, "sha256").hexdigest()
    return MirrorFile(f"image/targets/app/{sha}.app.bin", path.stat().st_size, sha, None)


class Push:
    """One server, one file, an empty mirror for each run."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.fleet = SshFleet(folder)
        self.server = self.fleet.serve()
        self.source = folder / "image.bin"
        self.file = image(self.source, mib)
        self.mirror = folder / "mirror"
        self.fleet.join("d", self.server, mirror=str(self.mirror))

    def _empty(self) -> None:
        shutil.rmtree(self.mirror, ignore_errors=True)
        self.mirror.mkdir()

    def ours(self) -> float:
        """Seconds of a push, its connection included."""
        self._empty()

        def piece(_name: str, offset: int, length: int) -> bytes:
            with self.source.open("rb", buffering=0) as source:
                source.seek(offset)
                return source.read(length)

        def push() -> None:
            with Links(self.fleet.inventory, self.fleet.keys) as links, links.opened("d", 900) as d:
                ssh_push.push(d, [self.file], piece, until=time.monotonic() + 900)

        return figures.timed(push)

    def sftp(self) -> float:
        """Seconds of the ``sftp`` client."""
        self._empty()
        return figures.timed(self._sftp)

    def sftp_and_sum(self) -> float:
        """The same, and hashing what arrived, as a push does."""
        self._empty()

        def both() -> None:
            self._sftp()
            subprocess.run(["sha256sum", self.mirror / "x"], check=True, capture_output=True)

        return figures.timed(both)

    def _sftp(self) -> None:
        words = ["sftp", "-q", "-b", "-", "-i", str(self.fleet.key), "-P", str(self.server.port)]
        words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        subprocess.run(
            [*words, f"{USER}@{self.server.address}"],
            input=f"put {self.source} {self.mirror}/x\n".encode(),
            check=True,
            capture_output=True,
        )


def work(link: Link) -> int:
    """Three commands over one connection."""
    return sum(link.run(list(step)).status for step in STEPS)


def hosts(folder: Path, count: int, runs: int) -> list[Figure]:
    """Hosts per second, directly and behind a jump host."""
    fleet = SshFleet(folder)
    far: Server = fleet.serve()
    fleet.hop("jump", fleet.serve("jump"))
    fleet.sites = {"direct": {"parallel": 20}, "behind": {"parallel": 20, "via": ["jump"]}}
    fleet.limits["parallel"] = 20
    found = []
    for site in fleet.sites:
        names = [f"{site}-{n}" for n in range(count)]
        for name in names:
            fleet.join(name, far, site=site)
        seconds = []
        for _ in range(runs):
            began = time.perf_counter()
            with Links(fleet.inventory, fleet.keys) as links:
                done = list(links.each(names, work))
            seconds.append(time.perf_counter() - began)
            assert not [d.error for d in done if d.error], done
        name = f"{count} hosts, three commands each, {site}"
        found.append(Figure(name, count / figures.median(seconds), "hosts/s"))
    fleet.close()
    return found


def main() -> None:
    """Measure and print."""
    options = figures.arguments(
        __doc__,
        mib={"type": int, "default": 256},
        hosts={"type": int, "default": 100},
        runs={"type": int, "default": 5},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name:
        push = Push(Path(name) / "push", options.mib)
        push.ours(), push.sftp()
        ours, plain, hashed = figures.in_turn(options.runs, push.ours, push.sftp, push.sftp_and_sum)
        push.fleet.close()
        found = [
            Figure("push, hashed over there", options.mib / figures.median(ours), "MiB/s"),
            Figure("sftp client", options.mib / figures.median(plain), "MiB/s"),
            Figure(
                "push against sftp and sha256sum",
                figures.ratio(hashed, ours),
                "x",
                bound=0.8,
                direction="at least",
                peer="sftp -b, then sha256sum of what arrived",
            ),
            Figure(
                "push, hashing included, against sftp alone",
                figures.ratio(plain, ours),
                "x",
                bound=0.8,
                direction="at least",
                peer="sftp -b",
            ),
        ]
        found += hosts(Path(name) / "hosts", options.hosts, options.runs)
    figures.show("ssh", found, options.output)


if __name__ == "__main__":
    main()
