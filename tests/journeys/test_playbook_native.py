"""Playbooks on machines without an agent, over real OpenSSH servers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.sshd import Server
from simulators.sshfleet import SshFleet

from ota.cli.app import run as ota
from ota.couriers.ssh_native import SshShells
from ota.errors import Malformed, NotFound
from ota.playbook import compute, loader, native, source
from ota.playbook.running import Native, NativeRuns, new_run
from ota.ports import Errand
from tests.cli.conftest import Ota
from tests.cli.conftest import empty as empty  # noqa: PLC0414 - fixtures of the command line
from tests.cli.conftest import ota as workspace  # noqa: F401 - the same
from tests.cli.conftest import template as template  # noqa: PLC0414 - the same

NASTY = "; $(touch /tmp/owned) `id` 'a' \"b\" \\ | & > * ${x}"
BASE = Path("/var/tmp/ota-native-0")
NAME = f"mark-{os.getpid()}"
"""Of the playbook: what is cleared away is of this process only."""


def playbook(folder: Path, pause: str = "0") -> str:
    return f"""\
name: {NAME}
version: 1.0.0
summary: Leave a mark
platforms: [linux]
parameters:
  word: {{type: string, pattern: "^.{{1,200}}$", description: what}}
  file: {{type: path, description: where}}
  pause: {{type: integer, minimum: 0, maximum: 60, default: "{pause}", description: seconds}}
steps:
  - name: log
    exec: {{argv: [sh, -c, 'echo "$0" >>"$1"', "x", "{folder}/log"]}}
  - name: pause
    exec: {{argv: [sleep, "${{pause}}"]}}
  - name: write
    file: {{path: "${{where}}", content: "${{word}}\\n"}}
  - name: read
    collect: {{argv: [cat, "${{where}}"]}}
""".replace("  file: {type", "  where: {type")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SshFleet]:
    fleet = SshFleet(tmp_path)
    yield fleet
    fleet.close()
    for path in BASE.glob(f"native-{NAME}-*"):
        shutil.rmtree(path)


def order(folder: Path, run: str = "", **values: str) -> Native:
    found = source.read(playbook(folder).encode())
    given = {"word": NASTY, "where": str(folder / "mark")} | values
    return Native(native.script(found), compute.bind(found, given), signed=False, run=run)


def runs(fleet: SshFleet) -> NativeRuns:
    return NativeRuns(fleet.folder / "native", SshShells(fleet.tools()))


def outcomes(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {row["device"]: (row["outcome"], row["code"]) for row in rows}


def test_values_arrive_literal_and_the_answer_says_who_verified_it(fleet: SshFleet) -> None:
    """Metacharacters change nothing but the file; the record is kept, unverified, for this user."""
    fleet.join("box-1", fleet.serve())
    rows = list(runs(fleet).run(order(fleet.folder), ["box-1"], fleet.now))
    assert outcomes(rows) == {"box-1": ("done", "")}
    assert (fleet.folder / "mark").read_text() == f"{NASTY}\n"
    assert rows[0]["verified"] == "not verified by the device"
    assert [(s["name"], s["outcome"]) for s in rows[0]["steps"]] == [
        ("log", "done"), ("pause", "done"), ("write", "done"), ("read", "done"),
    ]  # fmt: skip
    assert rows[0]["steps"][3]["output"] == f"{NASTY}\n"
    assert not Path("/tmp/owned").exists()
    (record,) = runs(fleet).runs()
    assert (record["verified"], record["signed"]) == ("not verified by the device", False)
    assert record["devices"]["box-1"]["outcome"] == "done"
    path = fleet.folder / "native" / f"{record['run']}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(BASE.glob(f"{record['run']}/values"))


def test_one_machines_trouble_is_its_own(fleet: SshFleet) -> None:
    """A changed host key, a dead host, one that is not listed: named, and the other is done."""
    good, bad = fleet.serve("good"), fleet.serve("bad")
    fleet.join("good", good)
    fleet.join("changed", bad, fingerprints=[good.fingerprint])
    fleet.join("dead", bad, port=1)
    rows = list(
        runs(fleet).run(order(fleet.folder), ["good", "changed", "dead", "nobody"], fleet.now)
    )
    found = outcomes(rows)
    assert found["good"] == ("done", "")
    assert found["changed"][0] == "refused"
    assert found["dead"] == ("unreachable", "ssh-unreachable")
    assert found["nobody"] == ("refused", "ssh-unlisted")
    assert (fleet.folder / "log").read_text().split() == ["x"]


def test_a_broken_connection_neither_ends_nor_repeats_it(fleet: SshFleet) -> None:
    """Cut in the middle, the run goes on over there; the same id gets its answer."""
    server = fleet.serve()
    fleet.join("box-1", server)

    rows = interrupted(fleet, lambda: _end_connections(server))
    assert outcomes(rows) == {"box-1": ("done", "")}
    assert (fleet.folder / "log").read_text().split() == ["x"]


def test_a_machine_that_dies_in_the_middle_is_named(fleet: SshFleet) -> None:
    """What ran there died, too: the run is over, says so, and is not begun again by itself."""
    server = fleet.serve()
    fleet.join("box-1", server)
    rows = interrupted(fleet, server.cut)
    assert outcomes(rows) == {"box-1": ("failed", "cut-short")}
    assert (fleet.folder / "log").read_text().split() == ["x"]


def interrupted(fleet: SshFleet, knife: Callable[[], None]) -> list[dict[str, Any]]:
    """A run during which something is cut, once its first step is done."""

    def cut() -> None:
        until = time.monotonic() + 30
        while not (fleet.folder / "log").exists() and time.monotonic() < until:
            time.sleep(0.02)
        knife()

    cutting = threading.Thread(target=cut)
    cutting.start()
    rows = list(runs(fleet).run(order(fleet.folder, pause="2"), ["box-1"], fleet.now))
    cutting.join()
    return rows


def _end_connections(server: Server) -> None:
    for pid in server.children():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                os.kill(pid, signal.SIGKILL)


def test_the_same_run_again_is_the_same_answer(fleet: SshFleet) -> None:
    """An id is done once on a machine, whoever asks for it again."""
    fleet.join("box-1", fleet.serve())
    name = new_run(f"{NAME}@1.0.0")
    first = list(runs(fleet).run(order(fleet.folder, name), ["box-1"], fleet.now))
    again = list(runs(fleet).run(order(fleet.folder, name, word="other"), ["box-1"], fleet.now))
    assert first == again
    assert (fleet.folder / "log").read_text().split() == ["x"]


def test_a_file_is_pushed_before(fleet: SshFleet) -> None:
    """Brought there and hashed; a path that is none, or a file that is not there, is named."""
    fleet.join("box-1", fleet.serve())
    data = fleet.folder / "data.bin"
    data.write_bytes(b"\0\1" * 50_000)
    target = fleet.folder / "there" / "data.bin"
    (fleet.folder / "there").mkdir()
    shells = SshShells(fleet.tools())
    errand = Errand(("sha256sum", str(target)), b"", 20.0, 1000, ((data, str(target)),))
    (answered,) = shells.each(["box-1"], errand)
    assert (answered.status, target.read_bytes()) == (0, data.read_bytes())
    for pushes, kind in ((((data, "relative"),), Malformed), (((data / "no", "/a/b"),), NotFound)):
        with pytest.raises(kind):
            list(shells.each(["box-1"], Errand(("true",), b"", 5.0, 10, pushes)))


# -- the loader --------------------------------------------------------------------------------------------
def load(folder: Path, stdin: bytes, sha256: str = "", prefix: tuple[str, ...] = ()) -> int:
    """Run the loader on this machine: its exit status."""
    rendered = order(folder).rendered
    words = loader.argv(rendered, new_run(f"{NAME}@1.0.0"), prefix)
    if sha256:
        words[words.index(rendered.sha256)] = sha256
    return subprocess.run(
        words, input=stdin, capture_output=True, check=False, timeout=60
    ).returncode


def test_what_is_not_pinned_does_not_run(tmp_path: Path) -> None:
    """Another script, a shorter one, missing values: a status of its own, and nothing was done."""
    native_order = order(tmp_path)
    good = loader.stdin(native_order.rendered, native_order.values)
    assert load(tmp_path, good + b"\necho more\n") == 66
    assert load(tmp_path, good[:-10]) == 66
    assert load(tmp_path, good, sha256="0" * 64) == 66
    assert load(tmp_path, b"one line only") == 65
    assert not (tmp_path / "log").exists()
    assert load(tmp_path, good) == 0
    assert (tmp_path / "log").read_text().split() == ["x"]


def test_a_full_disk_over_there(tmp_path: Path) -> None:
    """Nothing is begun that does not fit; the status says why."""
    native_order = order(tmp_path)
    mount = 'mount -t tmpfs -o size=8k tmpfs /var/tmp && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    status = load(tmp_path, loader.stdin(native_order.rendered, native_order.values), prefix=prefix)
    assert (status, loader.MEANING[status][0]) == (74, "no-space")
    assert not (tmp_path / "log").exists()


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """A link in the place of the folder for runs is refused."""
    native_order = order(tmp_path)
    script = (
        'mount -t tmpfs tmpfs /var/tmp && ln -s /tmp "/var/tmp/ota-native-$(id -u)" && exec "$@"'
    )
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    status = load(tmp_path, loader.stdin(native_order.rendered, native_order.values), prefix=prefix)
    assert (status, loader.MEANING[status][0]) == (73, "not-ours")


# -- the command line ------------------------------------------------------------------------------------------
@pytest.fixture
def plant(workspace: Ota, fleet: SshFleet) -> Ota:  # noqa: F811 - the fixture
    """A workspace with an SSH inventory of two boxes."""
    server = fleet.serve()
    fleet.join("box-1", server)
    fleet.join("box-2", server)
    (workspace.folder / "ssh.toml").write_text(fleet.text)
    toml = workspace.folder / "ota.toml"
    toml.write_text(f'{toml.read_text()}\n[couriers.ssh]\ninventory = "ssh.toml"\n')
    (fleet.folder / "mark.yaml").write_text(playbook(fleet.folder))
    return workspace


def test_run_and_status_say_that_nothing_is_verified(plant: Ota, fleet: SshFleet) -> None:
    """Unsigned, unverified, one row a machine, exit 1 for those that failed, retried alone."""
    file = str(fleet.folder / "mark.yaml")
    where = f"where={fleet.folder}/no/mark"
    words = ("playbook", "run", file, "--native", "ssh", "--param", "word=x")
    dry = plant(*words, "--param", where, "--limit", "box-1", "--dry-run")
    assert (dry.code, "nothing was done" in dry.err) == (0, True)
    bad = plant(*words, "--param", where, "--limit", "box-1,box-2", "-o", "csv")
    assert bad.code == 1
    lines = bad.out.splitlines()
    assert lines[0] == "device,outcome,code,steps,verified,detail"
    assert lines[1].startswith(
        'box-1,failed,io,"log=done,pause=done,write=failed(io)",not verified'
    )
    assert "signed: by nobody: a file" in bad.err
    assert "verified: not verified by the device" in bad.err
    assert "code: native-failed" in bad.err
    (fleet.folder / "no").mkdir()
    name = next(line for line in bad.err.splitlines() if line.startswith("run: "))[5:]
    good = plant(*words, "--param", where, "--limit", f"failed:{name}",
                 "--collect", fleet.folder / "out")  # fmt: skip
    assert good.code == 0, good.err
    assert {p.name for p in (fleet.folder / "out").iterdir()} == {"box-1.read", "box-2.read"}
    listed = plant("playbook", "status", "--native", "-o", "json").json
    assert [(r["done"], r["not_done"], r["verified"]) for r in listed] == [
        (0, 2, "not verified by the device"),
        (2, 0, "not verified by the device"),
    ]
    shown = plant("playbook", "status", listed[1]["run"], "-o", "json").json
    assert {row["verified"] for row in shown} == {"not verified by the device"}


def test_what_run_native_needs(plant: Ota, fleet: SshFleet) -> None:
    """Machines by name, a road, values within patterns, a playbook that has this road."""
    file = str(fleet.folder / "mark.yaml")
    words = ("playbook", "run", file, "--native")
    where = ("--param", f"where={fleet.folder}/mark", "--param", "word=x")
    for more, code in (
        (("ssh", *where), 2),
        (("ssm", *where, "--limit", "box-1"), 2),
        (("ssh", "--limit", "box-1"), 2),
        (("ssh", "--param", "where=../x", "--param", "word=x", "--limit", "box-1"), 2),
        (("ssh", *where, "--limit", "box-1", "--push", "x"), 2),
        (("ssh", *where, "--limit", "box-1", "--again", "../x"), 2),
    ):
        assert plant(*words, *more).code == code, more
    assert not (fleet.folder / "log").exists()


def test_render_is_pinned_and_unverified(plant: Ota, fleet: SshFleet) -> None:
    """To stdout or a file, for both roads; the hash is that of the text."""
    from signing import strict  # noqa: PLC0415 - this claim only

    file = str(fleet.folder / "mark.yaml")
    shown = plant("playbook", "render", file, "--native", "ssm", "-o", "json").json
    assert strict.digest(shown["text"].encode()) == shown["sha256"]
    assert json.loads(shown["text"])["schemaVersion"] == "2.2"
    assert shown["verified"] == "not verified by the device"
    out = fleet.folder / "doc.json"
    url = "https://s3.eu-west-1.amazonaws.com/b/k"
    plant.ok("playbook", "render", file, "--native", "ssm", "--out", out,
             "--download", f"{url}=/var/tmp/k")  # fmt: skip
    first = json.loads(out.read_text())["mainSteps"][0]
    assert (first["action"], first["inputs"]["destinationPath"]) == (
        "aws:downloadContent", "/var/tmp/k",
    )  # fmt: skip
    script = plant("playbook", "render", file, "--native", "ssh")
    assert script.out.startswith(f"#!/bin/sh\n# {NAME}@1.0.0, not verified by the device\n")
    assert "verified: not verified by the device" in script.err
    assert plant("playbook", "render", file, "--native", "ftp").code == 2
    assert "native (not verified by the device)" in ota_list(plant)


def ota_list(plant: Ota) -> str:
    """What ``ota playbook list --shipped`` says of roads."""
    assert ota(["-C", str(plant.folder), "playbook", "list", "--shipped"]) == 0
    return plant.capsys.readouterr().out
