"""``ota-agent`` as a process: what it prints, how it exits, what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulators.agentcli import Device

from ota.agent import main
from ota.agent.arguments import parser
from signing import enrolment, report, statement
from signing.strict import digest


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a factory image; not provisioned."""
    device = Device(tmp_path)
    device.slot.parent.mkdir()
    device.slot.write_bytes(b"factory")
    return device


@pytest.fixture
def ready(device: Device) -> Device:
    device.provision()
    return device


def test_help_starts_quickly() -> None:
    """Help imports nothing heavy: no TUF, no cryptography, no msgspec."""
    code = (
        "import sys; from ota.agent import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tuf', 'cryptography', 'msgspec', 'securesystemslib', 'sqlite3', 'urllib3'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert "HEAVY []" in done.stdout
    for verb in ("provision", "once", "run", "status", "verify"):
        assert verb in done.stdout


VERBS = ["provision", "once", "run", "status", "verify", "playbook", "relay", "tuf"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb says what it does, explains every option, and shows an example."""
    with pytest.raises(SystemExit) as caught:
        main.main([verb, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert f"example: ota-agent {verb} " in f"{out.rstrip()} "
    chosen = next(a for a in parser()._actions if a.dest == "verb")
    assert chosen.choices is not None
    options = dict(chosen.choices)[verb]._actions
    assert [a.dest for a in options if a.option_strings and not a.help] == []


@pytest.mark.parametrize("verb", ["once", "run", "status", "verify"])
def test_unprovisioned_device_says_what_to_do(device: Device, verb: str) -> None:
    """Exit 2, the next command, and nothing is made."""
    said = device.call(verb)
    assert said.code == 2
    assert "next: ota-agent provision" in said.err
    assert said.out == ""
    assert not device.state.exists()


def test_provisioning_makes_a_sound_device(device: Device) -> None:
    """A private key, a self-signed enrolment with both roots and the factory image, exit 0."""
    said = device.provision()
    path = Path(said.out.strip())
    body = enrolment.verify(path.read_bytes())
    assert (body.device, body.director_root, body.image_root) == (
        "press-07",
        *device.fingerprints(),
    )
    app = body.components["app"]
    assert app.current is not None
    assert (app.current.sha256, app.current.version, app.floor) == (digest(b"factory"), "0.9", 1)
    key = device.state / "identity" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(device.state.stat().st_mode) == 0o700
    assert b"PRIVATE" not in path.read_bytes()
    assert device.call("verify").out == "sound\n"


def test_provisioned_device_is_never_overwritten(ready: Device) -> None:
    """Exit 4, and identity, journal and trust stay byte for byte."""
    key = (ready.state / "identity" / "key.pem").read_bytes()
    enrolled = (ready.state / "identity" / "enrolment.json").read_bytes()
    said = ready.call("provision", *ready.roots(), "--yes")
    assert said.code == 4
    assert "(exists)" in said.err
    assert (ready.state / "identity" / "key.pem").read_bytes() == key
    assert (ready.state / "identity" / "enrolment.json").read_bytes() == enrolled


def test_fingerprints_must_be_given_or_seen(device: Device) -> None:
    """Without a terminal, without fingerprints and without --yes nothing is taken."""
    said = device.call("provision", *device.roots())
    assert said.code == 4
    for fingerprint in device.fingerprints():
        assert fingerprint in said.err
    assert not device.state.exists()


def test_wrong_fingerprint_is_refused(device: Device) -> None:
    """Exit 3, and nothing is made."""
    director, image = device.fingerprints()
    for words in (
        ["--director-root-sha256", image, "--image-root-sha256", director],
        ["--director-root-sha256", director, "--image-root-sha256", "0" * 64],
    ):
        said = device.call("provision", *device.roots(), *words)
        assert said.code == 3
        assert not device.state.exists()
    said = device.call("provision", *device.roots(), "--root-sha256", director)
    assert said.code in {2, 3}
    assert not device.state.exists()


def test_fingerprints_of_either_order(device: Device) -> None:
    """``--root-sha256`` given twice is enough."""
    director, image = device.fingerprints()
    said = device.call(
        "provision", *device.roots(), "--root-sha256", image, "--root-sha256", director
    )
    assert said.code == 0


def test_person_at_a_terminal_is_asked(device: Device) -> None:
    """On a terminal the answer decides."""
    for answer, code in (("n\n", 4), ("yes\n", 0)):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            device.argv("provision", *device.roots()),
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=device.environment(),
        )
        os.close(slave)
        os.write(master, answer.encode())
        _, err = process.communicate(timeout=60)
        os.close(master)
        assert process.returncode == code
        assert b"Are these the fingerprints" in err


def test_files_that_are_no_roots_are_refused(device: Device) -> None:
    """A root that is not self-signed, both roots from one repository, a missing file."""
    honest = (device.folder / "image.root.json").read_bytes()
    director = (device.folder / "director.root.json").read_bytes()
    for content in (honest.replace(b'"version":1', b'"version":2'), b"{}", b"", director):
        (device.folder / "image.root.json").write_bytes(content)
        said = device.call("provision", *device.roots(), "--yes")
        assert said.code in {2, 3}, said.err
        assert "Traceback" not in said.err
        assert not (device.state / "identity").exists()
    (device.folder / "image.root.json").unlink()
    said = device.call("provision", *device.roots(), "--yes")
    assert said.code != 0
    assert "image.root.json" in said.err
    (device.folder / "image.root.json").write_bytes(honest)
    device.provision()


def test_once_installs_and_prints(ready: Device) -> None:
    """Data on stdout, as JSON when asked; the report lies in the spool, signed."""
    ready.ship()
    said = ready.process("once", "-o", "json")
    assert said.code == 0
    assert said.err == ""
    assert said.json == {
        "updates": [
            {
                "component": "app",
                "order": "ota-app-1-aaaaaa-u1-w1-b1",
                "outcome": "committed",
                "code": "",
                "detail": "",
            }
        ]
    }
    assert ready.slot.read_bytes() == b"one"
    key = enrolment.verify((ready.state / "identity" / "enrolment.json").read_bytes()).public_key
    files = sorted((ready.folder / "spool" / "reports").iterdir())
    told = [report.read(statement.verify("report", f.read_bytes(), [key])) for f in files]
    assert [r.event for r in told] == ["progress", "progress", "outcome", "inventory"]
    assert ready.call("verify").out == "sound\n"


def test_unhealthy_release_exits_1(ready: Device) -> None:
    """Taken back: exit 1, and the words say why."""
    ready.ship()
    ready.call("once")
    ready.healthy.unlink()
    ready.ship("app/app-2.bin", b"two", order="o-2")
    said = ready.call("once")
    assert said.code == 1
    assert said.out.startswith("app reverted unhealthy")
    assert ready.slot.read_bytes() == b"one"


def test_tampering_exits_3(ready: Device) -> None:
    """Evidence of tampering: exit 3, code and remedy on stderr, JSON on stdout."""
    ready.ship()
    file = ready.folder / "store" / "director" / "devices" / "press-07" / "timestamp.json"
    honest = file.read_bytes()
    file.write_bytes(honest.replace(b'"device"', b'"devise"'))
    said = ready.call("once", "-o", "json")
    assert said.code == 3
    assert said.json["code"] == "signature"
    assert "next:" in said.err
    assert "Traceback" not in said.err
    assert ready.slot.read_bytes() == b"factory"
    file.write_bytes(honest)
    assert ready.call("once").code == 0


def test_outage_exits_1(ready: Device) -> None:
    """A store that is away: exit 1 and its code."""
    (ready.folder / "store").rename(ready.folder / "away")
    said = ready.call("once")
    assert said.code == 1
    assert "error:" in said.err


def test_second_agent_exits_7(ready: Device) -> None:
    """One agent for a device at a time; looking is always allowed."""
    with (ready.state / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ready.call("once").code == 7
        assert ready.call("run").code == 7
        assert ready.call("status").code == 0
        assert ready.call("verify").code == 0
    assert ready.call("once").code == 0


def test_damaged_journal_is_named(ready: Device) -> None:
    """A damaged or missing journal is an error with its code, and is not made anew."""
    db = ready.state / "state.db"
    for suffix in ("-wal", "-shm"):
        db.with_name(db.name + suffix).unlink(missing_ok=True)
    db.write_bytes(b"x" * 8192)
    for verb in ("once", "status", "verify"):
        said = ready.call(verb)
        assert said.code != 0
        assert "state-damaged" in said.err + said.out
        assert "Traceback" not in said.err
    assert db.read_bytes() == b"x" * 8192
    db.unlink()
    said = ready.call("once")
    assert "state-damaged" in said.err
    assert not db.exists()


def test_verify_finds_what_was_changed(ready: Device) -> None:
    """Changed trust, slot or key: exit 3, each named; the right things again: sound."""
    ready.ship()
    ready.call("once")
    stored = next((ready.state / "trust" / "image").glob("gen-*/app.json"))
    key = ready.state / "identity" / "key.pem"
    for path, word, change in (
        (stored, "trust", lambda p: p.write_bytes(p.read_bytes().replace(b"1.0.0", b"1.0.1"))),
        (ready.slot, "component app", lambda p: p.write_bytes(b"0ne")),
        (key, "identity", lambda p: p.write_bytes(b"no key")),
        (key, "identity", lambda p: p.chmod(0o644)),
    ):
        honest = path.read_bytes()
        change(path)
        said = ready.call("verify")
        assert said.code == 3, word
        assert said.out.startswith(word)
        path.write_bytes(honest)
        key.chmod(0o600)
    assert ready.call("verify").out == "sound\n"


def test_run_obeys_hints_and_ends_on_sigterm(ready: Device) -> None:
    """A hint is looked at within a second or two; SIGTERM ends with exit 0."""
    process = subprocess.Popen(
        ready.argv("run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ready.environment()
    )
    try:
        until = time.monotonic() + 30
        reports = ready.folder / "spool" / "reports"
        while not (reports.is_dir() and list(reports.iterdir())) and time.monotonic() < until:
            time.sleep(0.05)
        ready.ship()
        orders = ready.folder / "spool" / "orders"
        orders.mkdir()
        hint = b'{"schema":1,"device":"press-07","order":"o-1","rollout":"r-1"}'
        (orders / ".tmp-x").write_bytes(hint)
        (orders / ".tmp-x").rename(orders / "x.json")
        while ready.slot.read_bytes() != b"one" and time.monotonic() < until:
            time.sleep(0.05)
        assert ready.slot.read_bytes() == b"one"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    assert list(orders.iterdir()) == []
    assert ready.call("verify").code == 0


def test_faults_in_the_configuration_are_named(ready: Device) -> None:
    """Exit 2 with file and key, also for an installer's or a probe's option."""
    honest = ready.config.read_text()
    for old, new, word in (
        ("single-file", "triple-file", "triple-file"),
        ("options = { path", "options = { colour = 1, path", "colour"),
        ('kind = "command"', 'kind = "oracle"', "oracle"),
        ("[feed]", "[feeding]", "feeding"),
    ):
        ready.config.write_text(honest.replace(old, new))
        said = ready.call("once")
        assert said.code == 2, said
        assert word in said.err
        assert "Traceback" not in said.err


def test_usage_exits_2(device: Device) -> None:
    """Wrong words are usage errors."""
    assert device.call("dance").code == 2
    assert device.call("provision").code == 2


def with_component(device: Device, name: str, counter: int) -> str:
    """The configuration's text with one more component, which left the factory with a file."""
    path = device.folder / "slots" / f"{name}.bin"
    path.write_bytes(b"made in the factory")
    return device.config.read_text().replace(
        "[feed]",
        f"""[components.{name}]
hardware_id = "{name}-1"
installer = "single-file"
options = {{ path = "{path}" }}
health = {{ kind = "none" }}
factory = {{ version = "0.1", release_counter = {counter} }}

[feed]""",
    )


def test_floors_outlive_a_component(ready: Device) -> None:
    """A component that is added later starts at its factory counter; removal forgets nothing."""
    before = ready.config.read_text()
    ready.config.write_text(with_component(ready, "mcu", 5))
    assert ready.call("once").code == 0
    assert ready.call("status", "-o", "json").json["floors"] == {"app": 1, "mcu": 5}
    ready.config.write_text(before)
    assert ready.call("once").code == 0
    again = with_component(ready, "mcu", 2)
    ready.config.write_text(again)
    assert ready.call("once").code == 0
    found = ready.call("status", "-o", "json").json
    assert found["floors"] == {"app": 1, "mcu": 5}
    assert found["components"]["mcu"]["current"]["version"] == "0.1"


def test_broken_component_does_not_stop_another(ready: Device) -> None:
    """An installer that fails concerns its own component only."""
    broken = with_component(ready, "mcu", 0).replace(
        'installer = "single-file"\noptions = { path = "' + str(ready.folder / "slots" / "mcu.bin"),
        'installer = "exec"\noptions = { argv = ["/bin/false"], env = ["X"] }\n# "',
    )
    assert broken != with_component(ready, "mcu", 0)
    ready.config.write_text(broken)
    ready.ship()
    assert ready.call("once").code == 0
    assert ready.slot.read_bytes() == b"one"
    said = ready.call("verify")
    assert said.code == 3
    assert said.out.startswith("component mcu")
