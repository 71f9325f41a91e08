"""A whole workspace made by the command line itself, copied for each test, and a runner.

The clock stands still at ``START`` until a test moves it, so that output is compared entire.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ota.cli import session as sessions
from ota.cli.app import run
from ota.settings import settings
from ota.wiring.wiring import Wiring
from signing import strict
from signing.assignment import Assignment
from signing.report import ComponentState, Slot, UpdateState, Versions
from tests.simulators.identities import HARDWARE, Identity

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PASSPHRASE = "correct horse battery staple"
NAMES = (
    *(f"{role}-{n}" for role in ("root", "targets", "director-root") for n in (1, 2, 3)),
    "image-online",
    "director-online",
    "author",
    "approver",
)
SIGNERS = ("root-1", "root-2", "targets-1", "targets-2", "director-root-1", "director-root-2")
BOTH = ("--sign", "targets-1", "--sign", "targets-2", "--publish")
DEVICES = ("gw-1", "gw-2", "gw-3")


@dataclass
class Result:
    """One run: exit code, stdout and stderr with folders, digests and tokens made equal."""

    code: int
    out: str
    err: str
    raw: str = ""

    @property
    def json(self) -> Any:
        """The data on stdout."""
        return msgspec.json.decode(self.raw)


@dataclass
class Ota:
    """Runs ``ota`` in this process, in one workspace."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    now: datetime = START
    words: dict[str, str] = field(default_factory=dict)

    def __call__(self, *args: str | Path) -> Result:
        """Run and return everything that it said."""
        self.capsys.readouterr()
        code = run(["-C", str(self.folder), *map(str, args)])
        out, err = self.capsys.readouterr()
        return Result(code, self.normal(out), self.normal(err), out)

    def ok(self, *args: str | Path) -> Result:
        """Run what must succeed."""
        result = self(*args)
        assert result.code == 0, result.err
        return result

    def normal(self, text: str) -> str:
        """Folders, digests, key ids, rollout ids and column widths made equal."""
        for word, name in self.words.items():
            text = text.replace(word, name)
        text = text.replace(str(self.folder), "WS").replace(str(self.folder.parent), "TMP")
        text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
        text = re.sub(r"\b[0-9a-f]{16}\b", "KEYID", text)
        text = re.sub(r"\bapp-(\d)-[a-z0-9]{6}\b", r"app-\1-TOKEN", text)
        return re.sub(r"(?<=\S) {2,}", "  ", text)

    def later(self, **delta: float) -> None:
        """Move the clock."""
        self.now += timedelta(**delta)

    def wiring(self) -> Wiring:
        """The parts behind the command line, to look at the state afterwards."""
        return Wiring(settings.load(self.folder, {}), lambda _: PASSPHRASE, lambda: self.now)

    def files(self) -> dict[str, bytes]:
        """Every file of the workspace: for claims that nothing changed.

        Reading leaves a memory of what was verified in ``state/seen``; that is no change.
        """
        kept = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in kept
            if not p.name.endswith((".lock", "-shm", "-wal"))
            and "seen" not in p.relative_to(self.folder).parts
        }


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases come from the environment; nobody sits at the terminal."""
    monkeypatch.setenv("OTA_PASSPHRASE", PASSPHRASE)
    monkeypatch.delenv("OTA_WORKSPACE", raising=False)


@pytest.fixture
def empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Ota:
    """A runner in a folder that does not exist yet."""
    ota = Ota(tmp_path / "ws", capsys)
    monkeypatch.setattr(sessions, "now", lambda: ota.now)
    return ota


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with published repositories, one release and three devices."""
    folder = tmp_path_factory.mktemp("template") / "ws"
    identities = {name: Identity(name) for name in DEVICES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTA_PASSPHRASE", PASSPHRASE)
        patch.setattr(sessions, "now", lambda: START)
        _make(folder, identities)
    pems = {name: i.signer.private_bytes for name, i in identities.items()}
    (folder.parent / "devices").mkdir()
    for name, pem in pems.items():
        (folder.parent / "devices" / f"{name}.pem").write_bytes(pem)
    return folder


def roots_of(folder: Path) -> dict[str, str]:
    """The digests of a workspace's first roots, as its devices enrol with them."""
    anchors = folder / "repo-metadata" / "roots"
    return {
        f"{name}_root": strict.digest((anchors / name / "1.root.json").read_bytes())
        for name in ("director", "image")
    }


def _make(folder: Path, identities: dict[str, Identity]) -> None:
    def ota(*args: str | Path) -> None:
        assert run(["-C", str(folder), *map(str, args)]) == 0

    ota("init", folder)
    ota("key", "generate", *NAMES)
    ota("repo", "create")
    ota("repo", "sign", *(word for name in SIGNERS for word in ("--key", name)))
    ota("repo", "publish")
    image = folder.parent / "app-1.bin"
    image.write_bytes(b"app-1")
    ota("release", "add", image, "--component", "app", "--version", "1.0.0", *BOTH[:0],
        "--hardware", HARDWARE, *BOTH)  # fmt: skip
    files = []
    for name, identity in identities.items():
        files.append(folder.parent / f"{name}.json")
        files[-1].write_bytes(
            identity.enrol({"app": component("app-1", "1.0.0")}, **roots_of(folder))
        )
    ota("fleet", "register", *files, "--unsafe-allow-any", "--label", "site=lyon")
    ota("rollout", "list")


@pytest.fixture
def ota(empty: Ota, template: Path) -> Ota:
    """A runner in a copy of the template."""
    shutil.copytree(template, empty.folder)
    return empty


def component(name: str, version: str = "") -> ComponentState:
    """The component ``app`` running the release whose bytes are ``name``."""
    data = name.encode()
    path = f"app/app-{version}.bin" if version else ""
    current = Slot(
        sha256=strict.digest(data), length=len(data), path=path, version=version, release_counter=1
    )
    return ComponentState(hardware_id=HARDWARE, floor=1, current=current)


@pytest.fixture
def answer(ota: Ota, template: Path) -> Callable[..., None]:
    """Devices that obey: each reports the outcome of what its director assigns, by the spool."""
    counters: dict[str, int] = {}

    def report(outcome: str = "committed", *devices: str, code: str = "") -> None:
        wiring = ota.wiring()
        for device in devices or DEVICES:
            state = wiring.desk.state(device)
            for assigned in state.assignments.values():
                counters[device] = counters.get(device, 0) + 1
                identity = Identity(device)
                pem = (template.parent / "devices" / f"{device}.pem").read_bytes()
                identity.signer = type(identity.signer)(_private(pem))
                body = identity.report(
                    counters[device],
                    event="outcome",
                    code=code,
                    components={"app": _after(assigned, outcome)},
                    director=Versions(root=1, targets=state.versions.targets),
                    update=_update(assigned, outcome, state.versions.targets),
                )
                _deliver(ota.folder / "spool" / device / "reports", counters[device], body)
        wiring.close()

    return report


def _private(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - for devices only
        load_pem_private_key,
    )

    return load_pem_private_key(pem, None)


def _after(assigned: Assignment, outcome: str) -> ComponentState:
    before = component("app-1", "1.0.0")
    if outcome != "committed":
        return before
    current = Slot(
        sha256=assigned.sha256,
        length=assigned.length,
        path=assigned.path,
        release_counter=assigned.release_counter,
    )
    return msgspec.structs.replace(before, current=current, previous=before.current)


def _update(assigned: Assignment, outcome: str, version: int) -> UpdateState:
    return UpdateState(
        order=assigned.order,
        rollout=assigned.rollout,
        wave=assigned.wave,
        component=assigned.component,
        kind=assigned.kind,
        path=assigned.path,
        sha256=assigned.sha256,
        targets_version=version,
        phase={"committed": "DONE", "reverted": "ROLLED_BACK"}.get(outcome, "FAILED"),
        outcome=outcome,  # type: ignore[arg-type]  # a test's table of outcomes
    )


def _deliver(folder: Path, counter: int, report: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{counter:010d}-{strict.digest(report)[:8]}.json"
    (folder / name).write_bytes(report)


SPEC = """\
rollout: app-2
release: app@2.0.0
waves:
  - {name: canary, count: 1}
  - {name: rest, rest: true}
soak: 0s
deadline: 1h
"""


@pytest.fixture
def second(ota: Ota) -> Path:
    """Release 2.0.0 published, and a spec that rolls it out in two waves."""
    image = ota.folder.parent / "app-2.bin"
    image.write_bytes(b"app-2")
    ota.ok(
        "release", "add", image, "--component", "app", "--version", "2.0.0",
        "--hardware", HARDWARE, *BOTH,
    )  # fmt: skip
    spec = ota.folder.parent / "app-2.yaml"
    spec.write_text(SPEC)
    return spec
