"""Real OpenSSH servers for tests: on loopback, or in network namespaces that only a hop reaches.

Every server has host keys, configuration and authorized keys of its own, in a temporary folder.
A :class:`Server` listens on a free loopback port. A :class:`Network` has servers in network
namespaces that nothing outside can connect to; :meth:`Network.door` is a jump host whose front is a
loopback port here and whose own connections start inside. ``SHLVL`` keeps bash from running the
``.bashrc`` of whoever runs the tests.

>>> with Server(tmp_path / "far", client) as far:
...     far.port, far.fingerprint
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

PROGRAM = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "sshd"
USER = "root"
_CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 200:30:400
MaxSessions 10
LogLevel ERROR
SetEnv SHLVL=3
{more}
"""


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", bits: str = "") -> Path:
    """A key pair ``path`` and ``path.pub``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(words + (["-b", bits] if bits else []), check=True, timeout=60)
    return path


def fingerprint(path: Path) -> str:
    """``SHA256:...`` of a public key file."""
    words = ["ssh-keygen", "-l", "-E", "sha256", "-f", str(path)]
    found = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return found.stdout.split()[1]


class Server:
    """``sshd -D`` on 127.0.0.1, or at an address inside of an island."""

    def __init__(
        self,
        folder: Path,
        client: Path,
        *,
        more: str = "",
        prefix: tuple[str, ...] = (),
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = port or free_port()
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log").touch()
        self.rekey()
        shutil.copy(client.with_name(f"{client.name}.pub"), folder / "authorized_keys")
        self.config = folder / "sshd_config"
        self.config.write_text(_CONFIG.format(folder=folder, more=more))

    def rekey(self, kind: str = "ed25519") -> None:
        """Another host key, from the next start on."""
        keygen(self.folder / "host_key", kind)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.folder / "host_key.pub")

    def start(self) -> Self:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        listen = ["-o", f"ListenAddress={self.address}:{self.port}"]
        self._process = subprocess.Popen(
            [*self._prefix, PROGRAM, "-D", "-e", "-f", str(self.config), *listen],
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        self._wait()
        return self

    def _wait(self) -> None:
        probe = [*self._prefix, "bash", "-c", f": < /dev/tcp/{self.address}/{self.port}"]
        until = time.monotonic() + 30
        while subprocess.run(probe, check=False, capture_output=True).returncode:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)

    def children(self) -> list[int]:
        """Processes that serve connections, and whatever they started."""
        if self._process is None:
            return []
        found, parents = [], [self._process.pid]
        while parents:
            path = Path(f"/proc/{parents.pop()}")
            for task in path.glob("task/*/children"):
                with contextlib.suppress(OSError):
                    news = [int(pid) for pid in task.read_text().split()]
                    found += news
                    parents += news
        return found

    def cut(self) -> None:
        """Kill every connection and what runs in it, as a power cut does; it still listens."""
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def commands() -> list[str]:
    """Command lines of everything that runs on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


class Network:
    """Namespaces joined by cables: ``cell`` names hang off the one in the middle.

    The middle reaches every cell, nobody outside reaches any: there is no cable to this machine's
    own network. Addresses are 10.77.N.1 in the middle and 10.77.N.2 in the Nth cell.
    """

    def __init__(self, *cells: str) -> None:
        self._tag = f"t{os.getpid()}x{id(self) % 10_000}"
        self.cells = {cell: f"10.77.{n}.2" for n, cell in enumerate(cells, 1)}
        self._doors: list[Door] = []

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name(""))
        for number, (cell, address) in enumerate(self.cells.items(), 1):
            _ip("netns", "add", self.name(cell))
            ends = f"{self._tag[-8:]}a{number}", f"{self._tag[-8:]}b{number}"
            _ip("link", "add", ends[0], "netns", self.name(""), "type", "veth", "peer", "name",
                ends[1], "netns", self.name(cell))  # fmt: skip
            for space, end, own in (
                (self.name(""), ends[0], f"10.77.{number}.1"),
                (self.name(cell), ends[1], address),
            ):
                _ip("-n", space, "addr", "add", f"{own}/30", "dev", end)
                _ip("-n", space, "link", "set", end, "up")
                _ip("-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for door in self._doors:
            door.close()
        for cell in ("", *self.cells):
            _ip("netns", "del", self.name(cell))

    def name(self, cell: str) -> str:
        """The namespace of a cell; of the middle for ""."""
        return f"{self._tag}{cell}"

    def prefix(self, cell: str = "") -> tuple[str, ...]:
        """The words that run a program in there."""
        return ("ip", "netns", "exec", self.name(cell))

    def far(self, cell: str, folder: Path, client: Path, *, more: str = "") -> Server:
        """A server within a cell."""
        return Server(
            folder,
            client,
            more=more,
            prefix=self.prefix(cell),
            address=self.cells[cell],
            port=2222,
        )

    def door(self, folder: Path, client: Path, *, more: str = "") -> Door:
        """A jump host in the middle, with its front on a loopback port of this machine."""
        door = Door(folder, client, more=more, prefix=self.prefix())
        self._doors.append(door)
        return door


class Door(Server):
    """``sshd -i`` in a namespace, one for each connection that is accepted out here."""

    def start(self) -> Self:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._front = socket.create_server(("127.0.0.1", self.port))
        self._running: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._front.accept()
            except OSError:
                return
            words = [*self._prefix, PROGRAM, "-i", "-e", "-f", str(self.config)]
            with taken, (self.folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    words, stdin=taken, stdout=taken, stderr=log, start_new_session=True
                )
            self._running.append(process)

    def cut(self) -> None:
        """Kill every connection."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        self._running.clear()

    def stop(self) -> None:
        if self._front.fileno() >= 0:
            self._front.shutdown(socket.SHUT_RDWR)
            self._front.close()
            self._thread.join(timeout=30)
        self.cut()

    close = stop


def _ip(*words: str) -> None:
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
    done = subprocess.run(
        [program, *words], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
