"""SSH connections to real OpenSSH servers: pins, keys, algorithms, limits, hostile output."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.sshd import Server, commands, fingerprint, keygen
from simulators.sshfleet import SshFleet

from ota.couriers import ssh_run
from ota.couriers.ssh_links import Done, Link, Links
from ota.couriers.ssh_run import Ran
from ota.errors import NotPermitted, OtaError, Outage, Refusal

WRONG = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshFleet]:
    made = SshFleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def far(fleet: SshFleet) -> Server:
    return fleet.serve("far", more="LogLevel VERBOSE")


def links(fleet: SshFleet) -> Links:
    return Links(fleet.inventory, fleet.keys)


def do(
    fleet: SshFleet, *argv: str, device: str = "d", timeout: float = 30, total: float = 60
) -> Ran:
    with links(fleet) as opened, opened.opened(device, total) as link:
        return link.run(argv, timeout=timeout)


def fails(fleet: SshFleet, *argv: str, **words: float) -> OtaError:
    with pytest.raises(OtaError) as caught:
        do(fleet, *(argv or ("true",)), **words)  # type: ignore[arg-type]  # limits are floats
    return caught.value


# -- who is over there -----------------------------------------------------------------------------
def test_a_pinned_host_is_reached(fleet: SshFleet, far: Server) -> None:
    """And its own words come back, whatever they hold: no shell reads the arguments."""
    fleet.join("d", far)
    nasty = "$(id) `id`; 'x' \"y\" \\ * ? ~ & | > /tmp/x\n\t#é"
    ran = do(fleet, "sh", "-c", 'printf %s "$1"; printf err >&2; exit 7', "sh", nasty)
    assert ran == Ran(7, nasty.encode(), b"err")


def test_pins_overlap_while_a_key_is_replaced(tmp_path: Path) -> None:
    """With both pinned it is reached before and after; with the old one alone it is refused."""
    fleet = SshFleet(tmp_path)
    with Server(tmp_path / "far", fleet.key) as server:
        fleet.join("d", server)
        old = server.fingerprint
        server.stop()
        server.rekey("ecdsa")
        fleet.hosts["d"]["fingerprints"] = [old, server.fingerprint]
        server.start()
        assert do(fleet, "true").status == 0
        fleet.hosts["d"]["fingerprints"] = [old]
        error = fails(fleet)
    assert isinstance(error, Refusal)
    assert (error.code, error.exit_code) == ("host-key-changed", 3)
    assert old in str(error)
    assert error.seen == f"ecdsa-sha2-nistp256 {server.fingerprint}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("pins", [[WRONG], []])
def test_an_unknown_key_gets_nothing(fleet: SshFleet, far: Server, pins: list[str]) -> None:
    """Not even an attempt to authenticate; the key that was seen is named."""
    fleet.join("d", far, fingerprints=pins)
    before = (far.folder / "log").read_text().count("publickey")
    error = fails(fleet)
    assert error.code == ("host-key-changed" if pins else "host-key-unpinned")
    assert far.fingerprint in str(error)
    assert (far.folder / "log").read_text().count("publickey") == before


@pytest.mark.parametrize("words", [{"user": "nobody"}, {"user": "no-such-user"}, {"key": "other"}])
def test_a_wrong_user_or_key(fleet: SshFleet, far: Server, words: dict[str, str]) -> None:
    """Not permitted, exit 4; the connection is closed."""
    if "key" in words:
        words = {"key": f"file:{keygen(fleet.folder / 'other')}"}
    fleet.join("d", far, **words)
    error = fails(fleet)
    assert (error.code, error.exit_code) == ("ssh-auth", 4)


def test_the_agent_where_it_is_chosen(
    fleet: SshFleet, far: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys, or the one that is named; and never where a file is named."""
    fleet.join("d", far, key="agent")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert fails(fleet).code == "ssh-agent"
    sock = tmp_path / "agent"
    with agent(sock, keygen(tmp_path / "first"), fleet.key):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        assert do(fleet, "true").status == 0
        pin = fingerprint(Path(f"{fleet.key}.pub"))
        fleet.join("d", far, key=f"agent:{pin}")
        assert do(fleet, "true").status == 0
        fleet.join("d", far, key=f"agent:{WRONG}")
        assert fails(fleet).code == "ssh-agent"
        fleet.join("d", far, key=f"file:{tmp_path / 'first'}")
        assert fails(fleet).code == "ssh-auth"


class agent:  # noqa: N801 - reads as a statement
    """A real ssh-agent that holds these keys."""

    def __init__(self, sock: Path, *keys: Path) -> None:
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while not sock.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        env = os.environ | {"SSH_AUTH_SOCK": str(sock)}
        words = ["ssh-add", "-q", *map(str, keys)]
        subprocess.run(words, check=True, env=env, timeout=60, capture_output=True)

    def __enter__(self) -> None:
        """It runs."""

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)


# -- algorithms ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "legacy"),
    [
        ("Ciphers aes256-cbc", "aes-cbc"),
        ("Ciphers 3des-cbc", "3des-cbc"),
        ("Ciphers aes128-ctr\nMACs hmac-sha1", "hmac-sha1"),
        ("KexAlgorithms diffie-hellman-group14-sha1", ""),
        ("HostKeyAlgorithms ssh-rsa", ""),
    ],
    ids=["cbc", "3des", "sha1-mac", "sha1-kex", "sha1-host-key"],
)
def test_old_algorithms_are_named(tmp_path: Path, more: str, legacy: str) -> None:
    """An error of their own; by name, for that host alone, some can still be used."""
    fleet = SshFleet(tmp_path)
    server = Server(tmp_path / "far", fleet.key, more=more)
    if not legacy:
        server.rekey("rsa")
    with server:
        fleet.join("d", server)
        error = fails(fleet)
        assert (error.code, error.exit_code) == ("ssh-algorithm", 1)
        assert "legacy" in error.remedy
        if legacy:
            fleet.join("d", server, legacy=[legacy])
            assert do(fleet, "true").status == 0


def test_what_is_offered_is_modern() -> None:
    """Nothing with SHA-1, MD5, CBC, 3DES or DSA is offered unless it is named."""
    from ota.couriers import ssh_link  # noqa: PLC0415 - the claim is about its tables

    for name in (*ssh_link._CIPHERS, *ssh_link._MACS):
        assert not {"cbc", "3des", "md5", "sha1", "96"} & set(name.replace("@", "-").split("-"))


# -- servers that are none ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("says", "code"),
    [
        (b"", "ssh-protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, "ssh-protocol"),
        (b"SSH-2.0-x\r\n" + b"\xff" * 4096, "ssh-protocol"),
        (b"SSH-1.5-old\r\n", "ssh-algorithm"),
        (None, "ssh-protocol"),
    ],
    ids=["silent", "http", "garbage", "version-1", "closes"],
)
def test_a_server_that_is_none(fleet: SshFleet, far: Server, says: bytes | None, code: str) -> None:
    """Ends within the banner's time limit, in a named error."""
    with socket.create_server(("127.0.0.1", 0)) as front:
        threading.Thread(target=_serve, args=(front, says), daemon=True).start()
        fleet.limits |= {"banner": 1.0}
        fleet.join("d", far, port=front.getsockname()[1])
        began = time.monotonic()
        assert fails(fleet).code == code
        assert time.monotonic() - began < 20
    fleet.limits.pop("banner")


@pytest.mark.parametrize("head", [b"", b"SSH-2.0-x\r\n\x00\x00\x7f\xff"], ids=["banner", "packet"])
def test_a_server_that_drips(fleet: SshFleet, far: Server, head: bytes) -> None:
    """A byte now and then, within every limit on one read: it ends all the same."""
    with socket.create_server(("127.0.0.1", 0)) as front:
        over = threading.Event()
        threading.Thread(target=_drip, args=(front, head, over), daemon=True).start()
        fleet.limits |= {"banner": 1.0}
        fleet.join("d", far, port=front.getsockname()[1])
        began = time.monotonic()
        assert fails(fleet).code == "ssh-protocol"
        assert time.monotonic() - began < 20
        over.set()
    fleet.limits.pop("banner")


def _drip(front: socket.socket, head: bytes, over: threading.Event) -> None:
    taken, _ = front.accept()
    with taken, contextlib.suppress(OSError):
        taken.sendall(head)
        while not over.wait(0.02):
            taken.sendall(b"S")


def _serve(front: socket.socket, says: bytes | None) -> None:
    taken, _ = front.accept()
    with taken:
        if says is None:
            return
        with contextlib.suppress(ConnectionError):
            taken.sendall(says)
            while taken.recv(4096):
                pass


def test_nobody_there(fleet: SshFleet, far: Server) -> None:
    """A refused connection, a name that nobody has, and names that nobody can have."""
    fleet.join("d", far, port=1)
    assert fails(fleet).code == "ssh-unreachable"
    for address in ("no-such-host.invalid", "no..name", "x" * 80):
        fleet.join("d", far, address=address)
        assert fails(fleet).code == "ssh-unreachable"


# -- commands --------------------------------------------------------------------------------------
@pytest.fixture
def ready(fleet: SshFleet, far: Server) -> SshFleet:
    fleet.join("d", far)
    return fleet


def test_both_streams_are_drained(ready: SshFleet) -> None:
    """20 MB of stderr before one word of stdout: the word arrives, the flood is counted."""
    ran = do(ready, "sh", "-c", "head -c 20000000 /dev/zero >&2; echo word")
    assert (ran.status, ran.out, len(ran.err)) == (0, b"word\n", ssh_run.ERRORS)
    assert ran.dropped == 20_000_000 - ssh_run.ERRORS


@pytest.mark.parametrize("where", ["", ">&2"])
def test_endless_output_ends(ready: SshFleet, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """On either stream, long before its time limit."""
    monkeypatch.setattr(ssh_run, "FLOOD", 4_000_000)
    error = fails(ready, "sh", "-c", f"yes {where}")
    assert (error.code, isinstance(error, Outage)) == ("ssh-output", True)


def test_a_command_ends_at_its_limit_over_there_too(ready: SshFleet) -> None:
    """``ssh-time-limit`` here, and the process there is gone."""
    error = fails(ready, "sleep", "347.25", timeout=0.5)
    assert error.code == "ssh-time-limit"
    assert not running("347.25")


def test_a_command_that_ignores_its_end_is_killed(
    ready: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``timeout -k``: it can not trap that."""
    monkeypatch.setattr(ssh_run, "_KILL", 1)
    error = fails(ready, "bash", "-c", "trap '' TERM; sleep 348.25 & wait; wait", timeout=0.5)
    assert error.code == "ssh-time-limit"
    assert not running("trap '' TERM; sleep 348.25")


def test_a_command_that_is_killed(ready: SshFleet) -> None:
    """By somebody over there: not the connection's fault, and no answer either."""
    assert fails(ready, "sh", "-c", "kill -9 $PPID").code == "ssh-killed"


def test_a_visit_ends_at_its_limit(ready: SshFleet) -> None:
    """Whatever it is doing when the total time is over."""
    error = fails(ready, "sleep", "30", total=0.5)
    assert error.code == "ssh-time-limit"


def test_a_node_that_dies_in_the_middle(ready: SshFleet, far: Server) -> None:
    """``ssh-lost``, at once."""
    timer = threading.Timer(0.7, far.cut)
    timer.start()
    error = fails(ready, "sleep", "30")
    timer.join()
    assert error.code == "ssh-lost"
    assert do(ready, "true").status == 0


def test_a_child_that_keeps_the_pipe_open(ready: SshFleet) -> None:
    """A program that has ended is not waited for because of a daemon that it left behind."""
    began = time.monotonic()
    assert do(ready, "sh", "-c", "sleep 20 & echo done").out == b"done\n"
    assert time.monotonic() - began < 15


def running(word: str) -> bool:
    """Whether a process with this in its command line runs."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not any(word in line for line in commands()):
            return False
        time.sleep(0.05)
    return True


# -- many ------------------------------------------------------------------------------------------
def test_sites_are_spared_and_others_go_on(fleet: SshFleet, far: Server) -> None:
    """Never more connections to a site than it bears, nor more in all than the limits say."""
    fleet.sites |= {"small": {"parallel": 2}, "large": {"parallel": 5}}
    fleet.limits["parallel"] = 6
    names = [f"{site}-{n}" for site in ("small", "large") for n in range(8)]
    for name in names:
        fleet.join(name, far, site=name.partition("-")[0])
    now: dict[str, int] = {"small": 0, "large": 0}
    most: dict[str, int] = {"small": 0, "large": 0, "all": 0}
    guard = threading.Lock()

    def work(link: Link) -> str:
        with guard:
            now[link.host.site] += 1
            most[link.host.site] = max(most[link.host.site], now[link.host.site])
            most["all"] = max(most["all"], sum(now.values()))
        time.sleep(0.05)
        with guard:
            now[link.host.site] -= 1
        return link.host.name

    with links(fleet) as opened:
        done = list(opened.each([*names, *names], work))
    assert sorted(d.value or "" for d in done) == sorted(names)
    assert most["small"] <= 2
    assert most["large"] <= 5
    assert 2 < most["all"] <= 6
    fleet.limits.pop("parallel")


def test_one_bad_host_stops_nobody(fleet: SshFleet, far: Server) -> None:
    """Each device has its own end; what is not listed too."""
    fleet.join("good", far)
    fleet.join("gone", far, port=1)
    fleet.join("other-key", far, fingerprints=[WRONG])
    with links(fleet) as opened:
        found = list(opened.each(["good", "gone", "other-key", "unlisted"], hostname))
    codes = {d.device: d.error.code if d.error else "" for d in found}
    assert codes == {
        "good": "",
        "gone": "ssh-unreachable",
        "other-key": "host-key-changed",
        "unlisted": "ssh-unlisted",
    }


def hostname(link: Link) -> bytes:
    return link.run(["hostname"]).out


def test_nothing_is_begun_after_the_stop(fleet: SshFleet, far: Server) -> None:
    """What runs is finished, what waits is left."""
    names = [f"s-{n}" for n in range(4)]
    for name in names:
        fleet.join(name, far)
    fleet.limits["parallel"] = 1
    seen: list[Done[bytes]] = []
    with links(fleet) as opened:
        seen.extend(opened.each(names, hostname, stop=lambda: bool(seen)))
        assert list(opened.each(names, hostname, stop=lambda: True)) == []
    assert [(d.device, d.error) for d in seen] == [("s-0", None)]
    fleet.limits.pop("parallel")


def test_nothing_secret_is_logged(
    ready: SshFleet, far: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by the library at its noisiest, nor in the server's arguments and logs."""
    closed = keygen(tmp_path / "closed", passphrase="swordfish")
    (tmp_path / "word").write_text("swordfish")
    (tmp_path / "word").chmod(0o600)
    (far.folder / "authorized_keys").write_bytes(Path(f"{closed}.pub").read_bytes())
    ready.join("d", far, key=f"file:{closed}", passphrase=f"file:{tmp_path / 'word'}")
    with caplog.at_level(logging.DEBUG):
        assert do(ready, "true").status == 0
    body = closed.read_text().splitlines()[1]
    assert caplog.text
    for text in (caplog.text, (far.folder / "log").read_text()):
        assert "swordfish" not in text
        assert body not in text
    (far.folder / "authorized_keys").write_bytes(Path(f"{ready.key}.pub").read_bytes())


def test_errors_of_the_operators_keys(ready: SshFleet) -> None:
    """A key that is not there is said before anything is sent, for each device that needs it."""
    ready.hosts["d"]["key"] = "file:/no/such/key"
    error = fails(ready)
    assert not isinstance(error, NotPermitted)
    assert error.code == "not-found"
