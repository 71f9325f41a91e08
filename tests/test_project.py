"""The project as it is shipped: one wheel, two installs, and a road through both.

The wheel is built once and installed twice, outside the tree: *base* is a device, *ops* an
operator. Then the operator's ``ota`` and the device's ``ota-agent``, each from its own install
and knowing only their own folders, roll a real file out, and a tampered one is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "ota",
    "playbooks",
    "pyproject.toml",
    "repo-metadata",
    "requirements.lock",
    "signing",
    "tests",
}
OPERATOR = ("typer", "rich", "boto3", "botocore", "paramiko", "sqlalchemy", "yaml", "jinja2")
pytestmark = pytest.mark.xdist_group("project")


def sh(*words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an environment that does not know the tree."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OTA_", "VIRTUAL"))}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=kept | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the tree, with a space in its name."""
    folder = tmp_path_factory.mktemp("project") / "a folder"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def wheel(outside: Path) -> Path:
    """The wheel, built from the tree."""
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir")
    done = sh(sys.executable, *build, outside / "dist", ROOT, cwd=outside)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((outside / "dist").glob("*.whl"))


def install(outside: Path, name: str, what: str) -> Path:
    """An environment with ``what`` installed at the lock's versions; its ``bin`` folder."""
    lock = (ROOT / "requirements.lock").read_text()
    lines = [line.rstrip(" \\") for line in lock.splitlines() if "--hash" not in line]
    constraints = outside / f"{name}.txt"
    constraints.write_text("\n".join(lines) + "\n")
    for script in (
        (ROOT / ".ci/venv", outside / name),
        (ROOT / ".ci/install", outside / name, "-c", constraints, what),
    ):
        done = sh(*script, cwd=outside)
        assert done.returncode == 0, done.stdout + done.stderr
    return outside / name / "bin"


@pytest.fixture(scope="session")
def base(outside: Path, wheel: Path) -> Path:
    """The device's install."""
    return install(outside, "base", str(wheel))


@pytest.fixture(scope="session")
def ops(outside: Path, wheel: Path) -> Path:
    """The operator's install."""
    return install(outside, "ops", f"{wheel}[ops]")


def test_top_level_holds_only_the_rooms() -> None:
    """Nothing lies at the top of the tree but the project's rooms and files."""
    names = sh("git", "ls-files", cwd=ROOT).stdout.splitlines()
    assert {name.partition("/")[0] for name in names} <= TOP


def test_lock_names_no_place() -> None:
    """The lock holds versions and hashes only: no registry, no path of a machine."""
    text = (ROOT / "requirements.lock").read_text()
    pins = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert len(pins) > 30
    assert all("==" in line for line in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    for word in ("http:", "https:", "://", "@", "--index", "--find-links", "file:", str(ROOT)):
        assert word not in text, word


def test_lock_covers_the_dependencies() -> None:
    """Every dependency of pyproject.toml is pinned."""
    import tomllib  # noqa: PLC0415 - this claim only

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    names = {item.split("[")[0].split(">")[0].strip() for item in project["dependencies"] + extras}
    lock = (ROOT / "requirements.lock").read_text().lower()
    missing = {n for n in names if f"\n{n.lower()}==" not in f"\n{lock}"} - {"ota-orchestrator"}
    missing = {n for n in missing if f"\n{n.lower()}[" not in f"\n{lock}"}
    assert not missing


def test_wheel_holds_what_it_needs(wheel: Path) -> None:
    """Code, types, policies and licence are in the wheel; tests and keys are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("ota/py.typed", "signing/py.typed", "ota/_shipped/repo-metadata/image.toml"):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [n for n in names if n.startswith("tests") or n.endswith(".pem")]


def test_base_install_is_lean(base: Path, outside: Path) -> None:
    """The device's install has none of the operator's libraries, and ``ota`` says so."""
    check = f"import importlib.util as u; print([n for n in {OPERATOR} if u.find_spec(n)])"
    assert sh(base / "python", "-c", check, cwd=outside).stdout == "[]\n"
    helped = sh(base / "ota-agent", "--help", cwd=outside)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: ota-agent ")
    missing = sh(base / "ota", "--help", cwd=outside)
    assert (missing.returncode, missing.stdout, missing.stderr) == (
        2,
        "",
        (
            "error: this is the device's install; the command line needs typer\n"
            "code: missing-library\n"
            "next: pip install 'ota-orchestrator[ops]', or in a checkout: pip install '.[ops]'\n"
        ),
    )


def test_every_module_of_the_agent_imports_in_the_base_install(base: Path, outside: Path) -> None:
    """No module of the agent or of signing needs more than the base install has."""
    script = (
        "import importlib, pkgutil, ota.agent, signing\n"
        "for package in (ota.agent, signing):\n"
        "    for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(m.name)\n"
    )
    done = sh(base / "python", "-c", script, cwd=outside)
    assert (done.returncode, done.stderr) == (0, "")


def test_ops_install_has_the_command_line(ops: Path, outside: Path) -> None:
    """The operator's install runs ``ota`` and finds the shipped policies."""
    helped = sh(ops / "ota", "--help", cwd=outside)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "rollout" in helped.stdout
    version = sh(ops / "ota", "--version", cwd=outside)
    assert version.stdout.startswith("ota 0.")


NAMES = [
    *(f"{role}-{n}" for role in ("root", "targets", "director-root") for n in (1, 2, 3)),
    *("image-online", "director-online", "author", "approver"),
]
SIGNERS = ("root-1", "root-2", "targets-1", "targets-2", "director-root-1", "director-root-2")


class Road:
    """An operator and a device, each with its own install and folder."""

    def __init__(self, ops: Path, base: Path, folder: Path) -> None:
        self.ops, self.base, self.folder = ops, base, folder
        self.workspace, self.device = folder / "ws", folder / "device"

    def ota(self, *words: str | Path, code: int = 0) -> str:
        done = sh(
            self.ops / "ota", "-C", self.workspace, "-y", *words,
            cwd=self.folder, OTA_PASSPHRASE="a passphrase",
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def agent(self, *words: str | Path, code: int = 0) -> str:
        config = self.device / "agent.toml"
        done = sh(self.base / "ota-agent", *words, "--config", config, cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def release(self, content: bytes, version: str) -> None:
        image = self.folder / f"app-{version}.bin"
        image.write_bytes(content)
        self.ota(
            "release", "add", image, "--component", "app", "--version", version,
            "--hardware", "gw-rev-b", "--sign", "targets-1", "--sign", "targets-2", "--publish",
        )  # fmt: skip

    def start(self, version: str) -> str:
        spec, plan = self.folder / "spec.yaml", self.folder / "plan.json"
        spec.write_text(
            f"rollout: app\nrelease: app@{version}\nwaves: [{{name: all, rest: true}}]\nsoak: 0s\n"
        )
        self.ota("rollout", "plan", spec, "--out", plan)
        self.ota("rollout", "approve", plan, "--key", "approver")
        return str(json.loads(self.ota("rollout", "start", plan, "-o", "json"))["rollout"])


@pytest.fixture(scope="session")
def road(ops: Path, base: Path, outside: Path) -> Road:
    """Repositories published, one device provisioned and registered."""
    made = Road(ops, base, outside)
    made.ota("init", made.workspace)
    made.ota("key", "generate", *NAMES)
    made.ota("repo", "create")
    made.ota("repo", "sign", *(word for name in SIGNERS for word in ("--key", name)))
    made.ota("repo", "publish")
    made.device.mkdir()
    (made.device / "app").write_bytes(b"factory")
    (made.device / "agent.toml").write_text(
        f'device = "gw-1"\nstate_dir = "{made.device}/state"\n'
        f'store = "file://{str(made.workspace).replace(" ", "%20")}/store/"\n'
        f'[feed]\nkind = "spool"\npath = "{made.workspace}/spool/gw-1"\n'
        '[components.app]\nhardware_id = "gw-rev-b"\ninstaller = "single-file"\n'
        f'options = {{path = "{made.device}/app"}}\n'
        'health = {kind = "command", argv = ["/bin/true"]}\n'
    )
    roots = made.workspace / "repo-metadata" / "roots"
    made.agent(
        "provision", "--yes", "--director-root", roots / "director" / "1.root.json",
        "--image-root", roots / "image" / "1.root.json",
    )  # fmt: skip
    enrolment = made.device / "state" / "identity" / "enrolment.json"
    made.ota("fleet", "register", enrolment, "--unsafe-allow-any")
    return made


def test_release_reaches_the_device(road: Road) -> None:
    """Signed and rolled out by one install, verified, installed and reported by the other."""
    road.release(b"one", "1.0.0")
    rollout = road.start("1.0.0")
    road.ota("rollout", "step")
    road.agent("once")
    assert (road.device / "app").read_bytes() == b"one"
    road.ota("rollout", "run", rollout, "--time-limit", "20s")
    shown = json.loads(road.ota("fleet", "show", "gw-1", "-o", "json"))
    assert shown["running"] == {"app": "1.0.0"}


def test_changed_image_is_refused_by_the_device(road: Road) -> None:
    """Bytes edited in the store: exit 3, the old version runs on; mended, it installs."""
    road.release(b"two", "2.0.0")
    rollout = road.start("2.0.0")
    road.ota("rollout", "step")
    stored = next((road.workspace / "store/image/targets/app").glob("*.app-2.0.0.bin"))
    stored.chmod(0o644)
    stored.write_bytes(b"bad")
    before = (road.device / "app").read_bytes()
    road.agent("once", code=3)
    assert (road.device / "app").read_bytes() == before
    road.ota("repo", "verify", code=3)
    stored.write_bytes(b"two")
    road.agent("once")
    assert (road.device / "app").read_bytes() == b"two"
    road.ota("rollout", "run", rollout, "--time-limit", "20s")


def test_quickstart_from_the_wheel(ops: Path, outside: Path) -> None:
    """24 real agents, three releases, six attacks: each ends as the README says, and stays so."""
    plant = outside / "quick start"
    done = sh(ops / "ota", "quickstart", plant, "-o", "json", cwd=outside)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["devices"] == 24
    assert [r["state"] for r in told["rollouts"]] == [
        "COMPLETED",
        "COMPLETED",
        "ROLLED_BACK",
        "COMPLETED",
    ]
    first, second, bad, _ = told["rollouts"]
    assert [sum(w["committed"] for w in r["waves"]) for r in (first, second, bad)] == [24, 24, 0]
    assert [w["state"] for w in bad["waves"][1:]] == ["waiting", "waiting"]
    assert {a["name"]: (a["refused"], a["code"]) for a in told["attacks"]} == {
        "image-bytes-changed": (True, "image-mismatch"),
        "older-metadata-replayed": (True, "metadata-rollback"),
        "order-copied-to-another-device": (True, "hint-wrong-device"),
        "another-devices-director-metadata": (True, "director-wrong-device"),
        "wrong-hardware-by-director-key-thief": (True, "hardware-mismatch"),
        "forged-report": (True, "statement-signature"),
    }
    current = sorted(plant.glob("devices/*/app/current/VERSION"))
    assert [path.read_text().strip() for path in current] == ["4.0.0"] * 24
    assert len({path.read_bytes() for path in plant.glob("devices/*/state/identity/key.pem")}) == 24
    verified = sh(ops / "ota", "-C", plant, "repo", "verify", cwd=outside)
    assert verified.returncode == 0, verified.stderr
