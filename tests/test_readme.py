"""The README does what it says: every command in it is run, every configuration is read.

A fenced block of commands or configuration follows a comment that says what becomes of it:

``<!-- run: NAME -->``            run, in order, in the session of that name; ``exit=N``: the last
                                  command's exit code
``<!-- check: KIND -->``          read by the product's own reader of that kind of file
``<!-- skip: REASON -->``         can not run here; listed in :data:`SKIPPED`
"""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import readme_sections
import typer

from ota.agent import build as agent_build
from ota.agent import config as agent_config
from ota.agent import feeds as agent_feeds
from ota.agent import parts
from ota.agent.arguments import parser
from ota.cli.app import app
from ota.errors import OtaError
from ota.rollout import spec
from ota.settings import settings
from signing import policy

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SKIPPED = [
    "git clone REPOSITORY ota && cd ota",
    "python3.11 -m venv ~/ota-venv",
    "ota key generate root-1                                  # makes an encrypted file",
    "aws cloudformation deploy --stack-name ota-roles --template-file infra/roles.yaml --capabilities CAPABILITY_NAMED_IAM",
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -subj /CN=press-07 -out press-07.csr",
    "ota fleet register press-07.enrolment.json --allow devices.csv --courier iot-jobs",
    "ota device activate-ssm press-07 --out press-07.activation   # a secret, for one machine, once",
    "ota fleet retire gw-7 --receipt gw-7.receipt.json --dry-run",
    "pip download --dest wheels-x86_64 --only-binary :all: ./ota_orchestrator-*.whl   # for each platform",
]
"""First lines of the blocks that can not run here; ``test_project.py`` does what they do."""
TESTED = {"sh", "console", "toml", "yaml", "ini"}
LIMIT = 240


@dataclass(frozen=True)
class Block:
    """One fenced block: ``verb`` and ``words`` of the comment before it."""

    line: int
    language: str
    text: str
    verb: str
    words: tuple[str, ...]

    @property
    def exit(self) -> int:
        """The exit code that its last command ends with."""
        return int(next((w[5:] for w in self.words if w.startswith("exit=")), 0))


def blocks() -> Iterator[Block]:
    """Every fenced block of the README."""
    fence = re.compile(
        r"^(?:<!-- (run|check|skip): ([^\n]*) -->\n)?```([a-z]+)\n(.*?)^```$",
        re.MULTILINE | re.DOTALL,
    )
    for found in fence.finditer(README):
        verb, words, language, text = found.groups()
        line = README.count("\n", 0, found.start()) + 1
        yield Block(line, language, text, verb or "", tuple((words or "").split()))


BLOCKS = list(blocks())
CHECKED = [b for b in BLOCKS if b.verb == "check"]


def inline() -> list[str]:
    """Commands that stand within sentences and tables."""
    spans = re.findall(
        r"`((?:ota|ota-agent) [^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    )
    return sorted(set(spans))


def test_every_block_is_accounted_for() -> None:
    """Commands and configuration are run or read; what is skipped is listed here."""
    loose = [b.line for b in BLOCKS if b.language in TESTED and not b.verb]
    assert not loose, f"no comment before the blocks at lines {loose}"
    assert [b.text.splitlines()[0] for b in BLOCKS if b.verb == "skip"] == SKIPPED
    fences = re.findall(r"^```[a-z]+$", README, re.MULTILINE)
    assert len(fences) == len(BLOCKS)
    assert len([b for b in BLOCKS if b.verb == "run"]) > 12


def test_generated_sections_are_up_to_date() -> None:
    """Tables and diagrams are what the code says now."""
    assert sorted(readme_sections.names(README)) == sorted(readme_sections.SECTIONS)
    fresh = readme_sections.rendered(README)
    assert fresh == README, "python tests/readme_sections.py --write"


# -- the walk-through --------------------------------------------------------------------------
@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with ``ota`` and ``ota-agent`` of this interpreter, as the install step makes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in (("ota", "ota"), ("ota-agent", "ota.agent.main")):
        script = folder / name
        words = (
            f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m {module}"
        )
        script.write_text(f'#!/bin/sh\n{words} "$@"\n')
        script.chmod(0o755)
    return folder


def script(name: str) -> str:
    """All blocks of a session, as one script that says where it stopped, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || :' EXIT"]
    for block in (b for b in BLOCKS if b.verb == "run" and b.words[0] == name):
        lines.append(f"echo '== README.md:{block.line}'")
        *first, last = block.text.rstrip().splitlines()
        if block.exit:
            lines += [*first, "set +e", last, "code=$?", "set -e", f"[ $code = {block.exit} ]"]
        else:
            lines.append(block.text)
    return "\n".join([*lines, "echo '== end'", ""]).replace("8000", port)


def session(name: str, folder: Path, programs: Path) -> str:
    """Run a session in a folder; what it printed. Nothing that it started outlives it."""
    folder.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTA_", "PYTHON"))}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["/bin/bash", "-c", script(name)],
        cwd=folder,
        env=kept | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out[-4000:]
    assert out.rstrip().endswith("== end"), out[-4000:]
    return out


def test_two_people_sign_release_and_rotate(tmp_path: Path, programs: Path) -> None:
    """Word for word: first roots, a release and a new keyholder, carried on a stick."""
    folder = tmp_path / "two people"
    session("ceremony", folder, programs)
    roots = sorted(p.name for p in (folder / "ben/repo-metadata/roots/image").iterdir())
    assert roots == ["1.root.json", "2.root.json"]
    before, after = (
        json.loads((folder / f"ana/store/image/metadata/{n}.root.json").read_bytes())["signed"]
        for n in (1, 2)
    )
    kept = set(before["roles"]["root"]["keyids"]) & set(after["roles"]["root"]["keyids"])
    assert len(kept) == 1
    verified = subprocess.run(
        [programs / "ota", "-C", folder / "ana", "repo", "verify"], check=False, capture_output=True
    )
    assert verified.returncode == 0, verified.stderr


def test_walk_through_of_the_three_roles(tmp_path: Path, programs: Path) -> None:
    """Word for word: keys, releases, devices, a rollout, one taken back, one that fails."""
    folder = tmp_path / "try it"
    out = session("walk", folder, programs)
    assert "COMPLETED" in out
    assert "1 device went back" in out
    assert "ROLLED_BACK: wave canary: 1 reverted, the budget is 0; nobody had to be sent" in out
    one = shutil.which("ls")
    assert one is not None
    for device in ("gw-1", "gw-2"):
        assert (folder / device / "app").read_bytes() == Path(one).read_bytes()
    listing = subprocess.run(
        [programs / "ota", "-C", folder / "plant", "rollout", "list", "-o", "csv"],
        check=True,
        capture_output=True,
        text=True,
    )
    states = [line.split(",")[1] for line in listing.stdout.splitlines()[1:]]
    assert states == ["COMPLETED", "ROLLED_BACK", "ROLLED_BACK", "COMPLETED"]
    assert "\nLine 3; do not $(reboot)\n" in out
    Path("/var/tmp/banner").unlink()
    assert "not verified by the device" in out
    assert (
        "app/app-3.0.0.bin"
        not in subprocess.run(
            [programs / "ota", "-C", folder / "plant", "release", "list"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def test_quickstart_with_own_files(tmp_path: Path, programs: Path) -> None:
    """Two files of a person's own end on three devices, each rolled out in waves."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "firmware.bin").write_bytes(os.urandom(70_000))
    (folder / "firmware-2.bin").write_bytes(os.urandom(60_000))
    out = session("own", folder, programs)
    assert out.count("COMPLETED  image@") == 2
    for device in ("gw-01", "gw-02", "gw-03"):
        found = (folder / "own/devices" / device / "image").read_bytes()
        assert found == (folder / "firmware-2.bin").read_bytes()


# -- configuration -----------------------------------------------------------------------------
def check_agent(block: Block, folder: Path) -> None:
    """As ``ota-agent`` reads it: installers and probes are made, nothing is touched."""
    path = folder / "agent.toml"
    path.write_text(block.text)
    config = agent_config.load(path)
    assert config.download_limits().minimum_rate == 4096
    made = {n: parts.build(n, part, folder) for n, part in config.components.items()}
    assert made["app"].deadline == 60.0
    assert made["app"].keeps
    assert not made["os"].keeps


def check_agent_bucket(block: Block, folder: Path) -> None:
    """As ``ota-agent`` reads it: a source is made, nothing is asked."""
    path = folder / "agent.toml"
    path.write_text(block.text)
    config = agent_config.load(path)
    assert config.aws is not None
    assert config.aws.thing == config.device
    agent_build.downloader(config)


def check_agent_iot(block: Block, folder: Path) -> None:
    """As ``ota-agent`` reads it: the feed is made, nothing is connected."""
    path = folder / "agent.toml"
    path.write_text(block.text)
    config = agent_config.load(path)
    assert (config.feed.kind, config.device) == ("iot-jobs", "press-07")
    agent_feeds.create(config.feed, config.device).close()


def check_settings_bucket(block: Block, folder: Path) -> None:
    """As ``ota`` reads it."""
    (folder / "ota.toml").write_text(block.text)
    found = settings.load(folder, {})
    assert (found.store, found.bucket.bucket, found.bucket.prefix) == (
        None,
        "example-ota-store",
        "plant",
    )
    assert found.bucket.kms_key == "alias/ota-store"


def check_settings(block: Block, folder: Path) -> None:
    """As ``ota`` reads it; ``part`` is only some of a file."""
    (folder / "ota.toml").write_text(block.text)
    found = settings.load(folder, {"OTA_DB_PASSWORD": "p w"})
    if "part" in block.words:
        assert found.iot_jobs is not None
        return
    assert found.registry_url == "postgresql+psycopg://ota:p%20w@db/ota"
    assert found.key_uri("root-1") == "file:/media/usb/root-1.pem"


def check_policy(block: Block, folder: Path) -> None:
    """As a workspace reads it, beside the two others as they are shipped."""
    for shipped in (ROOT / "repo-metadata").glob("*.toml"):
        shutil.copy(shipped, folder)
    (folder / block.words[0]).write_text(block.text)
    found = policy.load(folder)
    assert found.image.root.threshold == 2
    assert found.director.open < found.director.idle
    if block.words[0] == "image.toml":
        assert found.image.component("mcu").keyholders == ("mcu-1", "mcu-2")


def check_spec(block: Block, folder: Path) -> None:
    """As ``ota rollout plan`` reads it."""
    found = spec.read(block.text.encode(), "README.md")
    assert [wave.name for wave in found.waves] == ["canary", "named", "line-a", "tenth", "rest"]
    assert found.limits.group_by == "cell"


def check_unit(block: Block, folder: Path) -> None:
    """As systemd reads it; the programs stand where this machine has them."""
    words = configparser.ConfigParser(interpolation=None, strict=True)
    words.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    words.read_string(block.text)
    for section in words.sections():
        assert set(words[section]) <= UNIT_KEYS[section], section
    if words.has_section("Service"):
        service = words["Service"]
        for key, value in HARDENING.items():
            assert service[key] == value
        program, *arguments = shlex.split(service["ExecStart"])
        assert Path(program).name in {"ota", "ota-agent"}
        known(" ".join([Path(program).name, *arguments]))
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    unit = folder / block.words[1].replace("@.", "@one.")
    text = block.text.replace("/opt/ota/bin/ota-agent", "/bin/true")
    unit.write_text(text.replace("/opt/ota/bin/ota", "/bin/true").replace("User=ota", "User=root"))
    if unit.suffix == ".timer":
        unit.with_suffix(".service").write_text("[Service]\nExecStart=/bin/true\n")
    said = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", "--man=no", unit],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    assert unit.name not in said.stderr, said.stderr
    assert said.returncode == 0, said.stderr


HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "UMask": "0077",
}
UNIT_KEYS = {
    "Unit": {"Description", "Wants", "After"},
    "Timer": {"OnCalendar", "RandomizedDelaySec", "Persistent"},
    "Install": {"WantedBy"},
    "Service": {
        *HARDENING,
        *("Type", "User", "Environment", "ExecStart", "StateDirectory", "StateDirectoryMode"),
        *("Restart", "RestartSec", "RestartPreventExitStatus", "MemoryMax", "ReadWritePaths"),
        *("ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups"),
        *("PrivateDevices", "RestrictSUIDSGID", "RestrictRealtime", "LockPersonality"),
        *("SystemCallArchitectures", "CapabilityBoundingSet"),
    },
}
"""The keys of systemd.unit(5) that the examples use, for machines without systemd-analyze."""
CHECKS = {
    "agent.toml": check_agent,
    "agent-bucket.toml": check_agent_bucket,
    "agent-iot.toml": check_agent_iot,
    "ota.toml": check_settings,
    "ota-bucket.toml": check_settings_bucket,
    "image.toml": check_policy,
    "director.toml": check_policy,
    "rollout.toml": check_policy,
    "spec": check_spec,
    "unit": check_unit,
}


@pytest.mark.parametrize("block", CHECKED, ids=lambda b: f"{b.words[-1]}:{b.line}")
def test_configuration_is_read(block: Block, tmp_path: Path) -> None:
    """Each example is taken by the reader that the product itself uses, or by systemd."""
    assert block.words[0] in CHECKS
    CHECKS[block.words[0]](block, tmp_path)


def test_a_misspelt_example_would_be_noticed(tmp_path: Path) -> None:
    """The checks above can fail: one letter more in any example is an error."""
    for block in CHECKED:
        wrong = re.sub(r"(?m)^(\[?\w+?)(?=\]|[ =:])", r"\1x", block.text, count=1)
        assert wrong != block.text
        with pytest.raises((OtaError, AssertionError, KeyError)):
            CHECKS[block.words[0]](dataclasses.replace(block, text=wrong), tmp_path)


# -- words within sentences ------------------------------------------------------------------------
def known(line: str) -> None:
    """Such a command exists, with these switches."""
    program, *words = shlex.split(line)
    if program == "ota-agent" and any(word.startswith("-") for word in words):
        parser().parse_args(words)
        return
    if program == "ota-agent":  # named by its verb alone, whatever else it must be given
        with pytest.raises(SystemExit) as caught:
            parser().parse_args([*words, "--help"])
        assert caught.value.code == 0, line
        return
    command = typer.main.get_command(app)
    switches = {o for p in command.params for o in p.opts}
    words = iter(words)
    for word in words:
        inner = getattr(command, "commands", {})
        if word in {"-C", "-o"}:
            next(words)
        elif word.startswith("-"):
            assert word in switches, f"{line}: {word}"
        elif inner:
            assert word in inner, f"{line}: {word}"
            command = inner[word]
            switches |= {o for p in command.params for o in p.opts}


@pytest.mark.parametrize("line", inline())
def test_commands_within_sentences_exist(line: str) -> None:
    """Each `ota ...` between backticks names a command and switches that there are."""
    known(line)


def test_paths_exist() -> None:
    """Each file or folder of this project that the README names is there."""
    named = set(re.findall(r"`((?:ota|signing|tests|repo-metadata|playbooks)/[\w./]*)`", README))
    named |= set(re.findall(r"\]\(((?:tests|ota|signing)/[\w./]+)\)", README))
    assert len(named) > 20
    named = {name for name in named if "THING" not in name}  # an MQTT topic
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_room_is_named() -> None:
    """Each package and each module directly below ``ota/`` stands in the table of rooms."""
    rooms = README[README.index("### The rooms") : README.index("### Ports")]
    entries = [p for p in (ROOT / "ota").iterdir() if not p.name.startswith("_")]
    names = {f"ota/{p.name}/" if p.is_dir() else f"ota/{p.name}" for p in entries}
    names -= {"ota/py.typed"}
    assert [name for name in sorted(names) if f"`{name}`" not in rooms] == []


def test_links_within_the_page_lead_somewhere() -> None:
    """Each ``(#anchor)`` is a heading's."""
    heads = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE
    )
    anchors = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert links
    assert set(links) <= anchors
