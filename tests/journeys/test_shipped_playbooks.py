"""Every shipped playbook run for real: by a whole device, or over a real sshd, on real programs."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators import ssm_documents, wheelhouse
from simulators.agentbox import Box
from simulators.boxplaybooks import last, told
from simulators.plant import Plant
from simulators.services import Services as RealServices
from simulators.sshd import PROGRAM, free_port, keygen
from simulators.sshfleet import SshFleet

from ota import shipped
from ota.agent.runs.services import Services
from ota.cli.app import run as ota
from ota.errors import Malformed
from ota.playbook import compute, native, source
from signing import receipt, statement
from signing.playbooks.playbook import Playbook

NAMES = {
    "bootstrap-agent", "collect-inventory", "decommission", "harden-ssh", "install-update",
    "restart-service", "rollback-update", "tls-proxy",
}  # fmt: skip


def load(name: str) -> Playbook:
    path = next(p for p in shipped.playbooks() if p.stem == name)
    return source.read(path.read_bytes(), path.name)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def services(tmp_path: Path, box: Box) -> Iterator[RealServices]:
    with RealServices(tmp_path / "services") as found:
        box.services = Services.here(found.argv)
        yield found


def follow(box: Box, playbook: str, /, **values: str) -> dict[str, tuple[str, str]]:
    """Sign it, order it, let the device run it: step -> (outcome, code)."""
    found = load(playbook)
    order = f"ota-{playbook[:12]}-aaaaaa-u{int(time.monotonic_ns())}-w0-b0"
    box.playbook(msgspec.to_builtins(found), compute.bind(found, values), order=order)
    box.cycle()
    return {step: (outcome, code) for step, outcome, code in told(box)}


def ended(box: Box) -> str:
    update = last(box).update
    assert update is not None
    return update.outcome


# -- all of them ---------------------------------------------------------------------------------------
def test_these_ship() -> None:
    """All eight, and each has the roads that its steps allow."""
    assert {path.stem for path in shipped.playbooks()} == NAMES
    roads = {name: load(name).roads for name in NAMES}
    assert {n for n, r in roads.items() if "agent" not in r} == {"bootstrap-agent"}
    assert {n for n, r in roads.items() if "native" not in r} == {
        "install-update", "rollback-update", "decommission",
    }  # fmt: skip


HOSTILE = (
    "; touch /tmp/ota-owned", "$(touch /tmp/ota-owned)", "`touch /tmp/ota-owned`", "a && b", "a|b",
    "x\ny", "-rf", "'", '"', "\\", "${service}", "{{ssm:x}}", "../../etc/passwd", "/a/../b", "*",
    "a b", "", "\u202e", "x" * 600,
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(NAMES))
def test_metacharacters_change_nothing_but_the_value(name: str) -> None:
    """In every parameter of every playbook: refused by operator, device and service, or one word."""
    found = load(name)
    good = {n: _example(p) for n, p in found.parameters.items() if not p.computed}
    values = compute.bind(found, good)
    for parameter in good:
        for hostile in HOSTILE:
            with pytest.raises(Malformed) as caught:
                found.check_values(values | {parameter: hostile})
            assert caught.value.subject == parameter
            with pytest.raises(Malformed):
                compute.bind(found, good | {parameter: hostile})
    if "native" in found.roads:
        document = native.document(found)
        ssm_documents.check(document.text)
        for parameter in values:
            with pytest.raises(ssm_documents.InvalidParameters):
                ssm_documents.run(document.text, values | {parameter: "; touch /tmp/ota-owned"})
    assert not Path("/tmp/ota-owned").exists()


def _example(parameter: Any) -> str:
    if parameter.default is not None:
        return str(parameter.default)
    if parameter.type == "string":
        for text in ("web", "app/app-1", "h:1", "0" * 64):
            try:
                return str(parameter.check("x", text))
            except Malformed:
                continue
    return {"path": "/tmp/x", "integer": "1"}[parameter.type]


# -- one by one ----------------------------------------------------------------------------------------
def test_restart_service(box: Box, services: RealServices) -> None:
    """The service is another process afterwards; one that does not stay up fails the run."""
    services.add("web", "exec sleep 600")
    subprocess.run([*services.argv, "start", "web"], check=True)
    before = services.pid("web")
    assert follow(box, "restart-service", service="web", settle="0") == {
        "restart": ("done", ""), "settle": ("done", ""), "running": ("done", ""),
    }  # fmt: skip
    assert services.pid("web") not in {0, before}
    services.add("short", "sleep 1")
    found = msgspec.to_builtins(load("restart-service"))
    found["steps"][2]["timeout"] = 1
    box.playbook(found, {"service": "short", "settle": "1"}, order="ota-short-aaaaaa-u1-w0-b0")
    box.cycle()
    assert (ended(box), last(box).code) == ("failed", "service-state")


def test_collect_inventory(box: Box) -> None:
    """What the machine is stands in the signed report; nothing changes."""
    steps = follow(box, "collect-inventory")
    assert {outcome for outcome, _ in steps.values()} <= {"done", "failed"}
    assert ended(box) == "committed"
    found = {s.name: s.output for s in last(box).steps}
    assert found["system"].startswith("Linux ")
    assert "ID=" in found["release"]
    assert sum(len(text) for text in found.values()) <= 8192


def test_install_and_rollback_update(box: Box, services: RealServices) -> None:
    """Around the verified cycle: room, a service out of the way; and back with the last words."""
    services.add("press", "exec sleep 600")
    box.ship()
    box.cycle()
    box.world.release("app/app-2.bin", b"two")
    box.world.assign("app/app-2.bin", order="ota-app-2-aaaaaa-u1-w0-b0")
    words = {"component": "app", "release": "app/app-2.bin", "folder": str(box.folder)}
    steps = follow(box, "install-update", service="press", megabytes="1", **words)
    assert (box.running, ended(box)) == (b"two", "committed")
    assert steps["update"] == ("done", "")
    assert services.asked() == ["start press"]
    assert services.pid("press")
    follow(box, "install-update", megabytes="1000000", **words)
    assert (ended(box), last(box).code) == ("failed", "exit")
    (box.folder / "app.log").write_text("it hurts\n")
    box.world.assign("app/app-1.bin", order="ota-app-2-aaaaaa-r1-w0-b0", kind="rollback")
    steps = follow(box, "rollback-update", component="app", release="app/app-1.bin",
                   log=str(box.folder / "app.log"))  # fmt: skip
    assert (box.running, ended(box)) == (b"one", "committed")
    assert last(box).steps[0].output == "it hurts\n"


def test_decommission(box: Box) -> None:
    """Keys and state are gone, the outcome was reported, the receipt verifies."""
    path = box.folder / "receipt.json"
    follow(box, "decommission", receipt=str(path))
    assert ended(box) == "committed"
    assert list(box.own.iterdir()) == []
    found = statement.verify("receipt", path.read_bytes(), [box.signer.public_key])
    assert receipt.read(found).device == box.device


# -- harden-ssh ----------------------------------------------------------------------------------------
class Sshd:
    """A real sshd under the small service manager, with passwords allowed and a drop-in included."""

    def __init__(self, folder: Path, services: RealServices) -> None:
        self.port = free_port()
        self.config = folder / "sshd_config"
        self.dropin = folder / "conf.d" / "00-ota.conf"
        self.dropin.parent.mkdir()
        key = keygen(folder / "host_key")
        self.config.write_text(
            f"Include {self.dropin.parent}/*.conf\nHostKey {key}\nPidFile none\nUsePAM no\n"
            f"ListenAddress 127.0.0.1:{self.port}\nPasswordAuthentication yes\nStrictModes no\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        services.add("sshd", f"exec {PROGRAM} -D -f {self.config}")
        subprocess.run([*services.argv, "start", "sshd"], check=True)

    def offers(self) -> str:
        """What may be tried next by somebody who offers nothing."""
        words = ["ssh", "-p", str(self.port), "-o", "PreferredAuthentications=none",
                 "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                 "nobody@127.0.0.1"]  # fmt: skip
        until = time.monotonic() + 20
        while time.monotonic() < until:
            said = subprocess.run(words, check=False, capture_output=True, text=True).stderr
            if "Permission denied (" in said:
                return said.partition("Permission denied (")[2].partition(")")[0]
            time.sleep(0.05)
        raise AssertionError(said)

    def words(self) -> dict[str, str]:
        return {"config": str(self.config), "dropin": str(self.dropin), "service": "sshd"}


def test_harden_ssh(box: Box, services: RealServices, tmp_path: Path) -> None:
    """The running sshd takes keys only afterwards; doing it again changes nothing but a reload."""
    sshd = Sshd(tmp_path, services)
    assert "password" in sshd.offers()
    pid = services.pid("sshd")
    steps = follow(box, "harden-ssh", **sshd.words())
    assert ended(box) == "committed", last(box)
    assert steps["undo"] == ("skipped", "unless")
    until = time.monotonic() + 20
    while sshd.offers() != "publickey" and time.monotonic() < until:
        time.sleep(0.1)
    assert (sshd.offers(), services.pid("sshd")) == ("publickey", pid)
    assert follow(box, "harden-ssh", **sshd.words())["write"] == ("skipped", "already-so")


def test_harden_ssh_takes_back_what_sshd_refuses(
    box: Box, services: RealServices, tmp_path: Path
) -> None:
    """With a configuration that is broken elsewhere nothing is reloaded and the drop-in goes."""
    sshd = Sshd(tmp_path, services)
    assert "password" in sshd.offers()
    sshd.config.write_text(sshd.config.read_text() + "NoSuchWord yes\n")
    steps = follow(box, "harden-ssh", **sshd.words())
    assert (ended(box), steps["whole"], steps["undo"]) == (
        "failed",
        ("failed", "exit"),
        ("done", ""),
    )
    assert "reload" not in steps
    assert not sshd.dropin.exists()
    assert "password" in sshd.offers()


# -- tls-proxy -----------------------------------------------------------------------------------------
def test_tls_proxy(box: Box, services: RealServices, tmp_path: Path) -> None:
    """A real stunnel in front of a service that knows no TLS: what it says arrives, encrypted."""
    box.platform = frozenset({"linux", "debian"})
    port = free_port()
    config, certificate = tmp_path / "proxy.conf", tmp_path / "proxy.pem"
    services.add(
        "proxy",
        f"{{ echo foreground = yes; echo pid =; cat {config}; }} >{config}.run\n"
        f"exec stunnel4 {config}.run",
    )
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_greet, args=(plain,), daemon=True).start()
        steps = follow(
            box, "tls-proxy", name="press", port=str(port), host="press.example",
            connect=f"127.0.0.1:{plain.getsockname()[1]}", certificate=str(certificate),
            key=str(tmp_path / "proxy.key"), config=str(config), service="proxy",
        )  # fmt: skip
        assert ended(box) == "committed", last(box)
        assert steps["package"] == ("skipped", "creates")
        context = ssl.create_default_context(cafile=str(certificate))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="press.example") as tls,
        ):
            assert (tls.recv(100), tls.version()) == (b"plain words\n", "TLSv1.3")
    assert (tmp_path / "proxy.key").stat().st_mode & 0o777 == 0o600


def _greet(server: socket.socket) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(b"plain words\n")


# -- bootstrap-agent -------------------------------------------------------------------------------------
CONFIG = """\
state_dir = "{home}/state"
store = "{store}"
service_manager = {manager}

[feed]
kind = "spool"
path = "{spool}"

[components.app]
hardware_id = "gw-rev-b"
installer = "single-file"
options = {{ path = "{home}/app" }}
health = {{ kind = "none" }}
"""


def test_bootstrap_agent_to_the_first_signed_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a machine with nothing, over SSH, to a registered device that has taken a release.

    Everything comes in one archive with hashes; repeated, it changes nothing; another archive
    than the pinned one is not unpacked.
    """
    home = tmp_path / "box"
    for folder in (home, tmp_path / "ssh"):
        folder.mkdir()
    plant, fleet = Plant(tmp_path / "plant"), SshFleet(tmp_path / "ssh")
    with RealServices(tmp_path / "services") as services:
        fleet.join("box-1", fleet.serve(more=_environment(tmp_path, services)))
        try:
            _bootstrap(plant, fleet, home, services, capsys)
        finally:
            fleet.close()
            plant.wiring.close()


def _environment(folder: Path, services: RealServices) -> str:
    """Sshd's words for the service manager of this machine."""
    path = folder / "manager"
    path.write_text(f'#!/bin/sh\nexec {" ".join(services.argv)} "$@"\n')
    path.chmod(0o755)
    return f"Match all\nSetEnv SHLVL=3 OTA_SERVICE_MANAGER={path}"


def _bootstrap(
    plant: Plant,
    fleet: SshFleet,
    home: Path,
    services: RealServices,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spool = plant.spool / "box-1"
    config = home / "agent.toml.in"
    config.write_text(CONFIG.format(home=home, store=plant.url, spool=spool,
                                    manager=json.dumps(services.argv)))  # fmt: skip
    services.add("agent", f"exec {home}/ota/venv/bin/ota-agent run --config {home}/etc/agent.toml")
    toml = plant.workspace / "ota.toml"
    toml.write_text(f'{toml.read_text()}\n[couriers.ssh]\ninventory = "ssh.toml"\n')
    (plant.workspace / "ssh.toml").write_text(fleet.text)
    archive = home / "bundle.tar"

    def call(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = ota(["-C", str(plant.workspace), *map(str, words)])
        return code, *capsys.readouterr()

    wheels = wheelhouse.make(home / "wheels")
    code, out, err = call("playbook", "bundle", "--wheels", wheels, "--config", config,
                          "--out", archive, "-o", "json")  # fmt: skip
    assert code == 0, err
    made = json.loads(out)
    far = home / "far" / "bundle.tar"
    far.parent.mkdir()
    values = {"device": "box-1", "archive": far, "folder": home / "ota", "service": "agent",
              "config": home / "etc" / "agent.toml", "state": home / "state",
              "unit": home / "unit", **{n: v for n, v in made.items() if n.endswith("sha256")}}  # fmt: skip
    params = [word for n, v in values.items() for word in ("--param", f"{n}={v}")]
    run = ("playbook", "run", "bootstrap-agent", "--native", "ssh", "--limit", "box-1",
           "--push", f"{archive}={far}", "--collect", home / "collected")  # fmt: skip
    wrong = [w.replace(made["archive_sha256"], "0" * 64) for w in params]
    code, out, err = call(*run, *wrong)
    assert (code, "pinned=failed(exit)" in out) == (1, True)
    assert not (home / "ota").exists()
    code, out, err = call(*run, *params)
    assert code == 0, out + err
    assert "not verified by the device" in out
    assert services.pid("agent")
    enrolment = home / "collected" / "box-1.enrolment"
    assert enrolment.read_bytes() == (home / "state/identity/enrolment.json").read_bytes()
    code, out, err = call(*run, *params)
    assert (code, "provision=skipped(creates)" in out) == (0, True)
    code, out, err = call(
        "fleet", "register", enrolment, "--unsafe-allow-any", "--courier", "spool"
    )
    assert code == 0, err
    plant.publish(plant.build("1.0.0"))
    rollout = plant.start("first", "1.0.0")
    until = time.monotonic() + 60
    while plant.status(rollout)["state"] == "RUNNING" and time.monotonic() < until:
        plant.step(rollout)
        time.sleep(0.2)
    assert plant.status(rollout)["state"] == "COMPLETED"
    assert (home / "app").read_bytes() == b"app 1.0.0"


def test_what_a_bundle_can_not_be(tmp_path: Path) -> None:
    """Files that are no wheels, two versions, no agent, a device's id: named."""
    from ota.playbook import bundle  # noqa: PLC0415 - this claim only

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    good = b'state_dir = "/x"\n'
    (wheels / "ota_orchestrator-1-py3-none-any.whl").write_bytes(b"1")
    first = bundle.make(wheels, good, b"d", b"i")
    assert first == bundle.make(wheels, good, b"d", b"i")
    assert first.names == ("ota-orchestrator==1",)
    with pytest.raises(Malformed, match="leave out device"):
        bundle.make(wheels, b'device = "x"\n', b"d", b"i")
    (wheels / "evil.sh").write_bytes(b"1")
    with pytest.raises(Malformed, match="not a wheel"):
        bundle.make(wheels, good, b"d", b"i")
    (wheels / "evil.sh").unlink()
    (wheels / "ota_orchestrator-2-py3-none-any.whl").write_bytes(b"2")
    with pytest.raises(Malformed, match="one version of each"):
        bundle.make(wheels, good, b"d", b"i")
    (tmp_path / "none").mkdir()
    with pytest.raises(Malformed, match="no wheel of"):
        bundle.make(tmp_path / "none", good, b"d", b"i")
