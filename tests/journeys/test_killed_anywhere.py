"""The agent killed between any two system calls of a refresh and a download, really, by SIGKILL.

Both repositories have a new root and a new version of every file, and a release is ordered. At
whatever moment the process dies: what it trusts is the old set or the new one, whole; what runs
runs; no download is longer than signed; and the next look installs. ``test_agent_crash.py`` does
the same for the installation behind it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from simulators.killing import PERSISTING, doing
from simulators.plant import Gateway, Plant
from simulators.plants import fixtures
from simulators.repos import Repo
from simulators.thief import next_root
from simulators.threats import BOTH, ONE, ROOTS, TWO, contents, news, standing
from simulators.webstore import webstore
from tuf.api.metadata import TargetFile

from ota.agent.main import main
from signing import strict

CHANGES = (*PERSISTING, "ftruncate", "mkdir", "pwrite64", "rmdir", "symlink", "unlinkat", "write")
STRIDE = 100
"""Of the other calls every hundredth: between two changes the disk is the same all the time."""


def made(folder: Path) -> Plant:
    """``a`` runs 1.0.0, and everything is new to it."""
    plant = standing(folder)
    for repository in BOTH:
        next_root(plant, repository, lambda _root: None, *ROOTS[repository])
    news(plant)
    return plant


frozen, _ = fixtures(made)


def fetched(gateway: Gateway) -> None:
    """A cycle, and the image that it wants: fetched and hashed, not installed."""
    with gateway.opened() as agent:
        (wanted,) = agent.trust.cycle(agent.known(), gateway.clock()).wanted
        agent.trust.verify(wanted, agent.applier.downloader.image(wanted))


def trusted(gateway: Gateway) -> dict[str, dict[str, bytes]]:
    """Repository -> file -> bytes of what it trusts."""
    folder = gateway.home / "state" / "trust"
    return {name: contents(folder / name / "current") for name in BOTH}


def points(calls: Counter[str], changing: int = 1) -> list[tuple[str, int]]:
    """Each (or every so many) of the calls that change something, and a few of the others."""
    every = [(name, n) for name in sorted(calls) for n in range(1, calls[name] + 1)]
    changes = [point for point in every if point[0] in CHANGES]
    return changes[::changing] + [p for p in every if p[0] not in CHANGES][::STRIDE]


def test_killed_at_any_system_call(frozen: Plant) -> None:
    """The old set or the new one stands, whole, and the next look goes on from there."""
    frozen.thaw()
    gateway = frozen["a"]
    old = trusted(gateway)
    honest = doing(lambda: fetched(gateway), every=True)
    assert honest.code == 0
    new = trusted(gateway)
    assert all(new[name] != old[name] for name in BOTH)
    tried = points(honest.calls)
    seen = Counter[str]()
    for call, at in tried:
        frozen.thaw()
        inject = f"inject={call}:signal=KILL:when={at}"
        seen["killed"] += doing(lambda: fetched(gateway), inject).killed
        now = trusted(gateway)
        for name in BOTH:
            assert now[name] in (old[name], new[name]), (call, at, name)
            seen[f"{name} {'new' if now[name] == new[name] else 'old'}"] += 1
        assert gateway.running == ONE, (call, at)
        assert gateway.sound(), (call, at)
        parts = (gateway.home / "state" / "downloads").glob("*.part")
        assert all(part.stat().st_size <= len(TWO) for part in parts), (call, at)
        gateway.look()
        assert (gateway.running, gateway.codes) == (TWO, []), (call, at)
        assert gateway.sound(), (call, at)
    # calls are counted for each thread, and some syncs go side by side
    assert seen["killed"] > len(tried) * 0.75
    assert min(seen[f"{name} {state}"] for name in BOTH for state in ("old", "new")) > 0


def test_plain_client_killed(ground: Path) -> None:
    """``ota-agent tuf download``: files are whole or not there, and the next one succeeds."""
    repo = Repo(now=datetime.now(UTC).replace(microsecond=0))
    data = b"one" * 1000
    sha256 = strict.digest(data)
    repo.targets.targets["one.bin"] = TargetFile(len(data), {"sha256": sha256}, "one.bin")
    with webstore() as server:
        repo.publish_root()
        repo.publish()
        for name, content in repo.files.items():
            server.objects[f"metadata/{name}"] = content
        server.objects[f"targets/{sha256}.one.bin"] = data
        root = ground / "root.json"
        root.write_bytes(repo.files["1.root.json"])
        run = client(server.url, root)
        honest = doing(run(ground / "honest"), every=True)
        assert honest.code == 0
        for number, (call, at) in enumerate(points(honest.calls, 2)):
            folder = ground / f"plain-{number}"
            doing(run(folder), f"inject={call}:signal=KILL:when={at}")
            for path in (folder / "targets").glob("[!.]*"):
                assert path.read_bytes() == data, (call, at)
            assert run(folder)() == 0, (call, at)
            whole = contents(folder / "targets")
            assert whole["one.bin"] == data, (call, at)
            shutil.rmtree(folder)


def client(url: str, root: Path) -> Callable[[Path], Callable[[], int]]:
    """What a person would type: init unless there is trust, then download."""

    def run(folder: Path) -> Callable[[], int]:
        trust = folder / "trust"
        common = ["tuf", "--metadata-dir", str(trust)]
        targets = ["--target-base-url", f"{url}/targets", "--target-dir", str(folder / "targets")]
        download = ["--metadata-url", f"{url}/metadata", "download", "--target-name", "one.bin"]

        def work() -> int:
            if not (trust / "root.json").exists():
                assert main([*common, "init", str(root)]) == 0
            return main([*common, *download, *targets])

        return work

    return run
