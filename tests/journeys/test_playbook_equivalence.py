"""One playbook, three roads: by the agent, by its SSH script, by its Systems Manager document.

Each road works on a folder, services and packages of its own, with real programs; afterwards all
three must hold the same files, services and packages, and have told the same of each step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from simulators import ssm_documents
from simulators.agentbox import Box
from simulators.boxplaybooks import body, last, step
from simulators.services import Services as RealServices

from ota.agent.runs.packages import Packages
from ota.agent.runs.services import Services
from ota.playbook import native, told
from signing import strict
from signing.playbooks import playbook as playbooks
from signing.report import StepState

MANAGER = """#!/bin/sh
case $1 in
installed) test -e "{folder}/$2" ;;
install) case $2 in no-*) exit 5 ;; esac; : >"{folder}/$2" ;;
remove) rm "{folder}/$2" ;;
esac
"""
NASTY = """; 'a' "b" \\ $(touch x) `id` {{ssm:y}} ${z} & | > * ~ # %s"""


@dataclass
class Ground:
    """One road's own machine: ``root`` is what its steps work on."""

    folder: Path
    services: RealServices
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def state(self) -> dict[str, Any]:
        """Files with mode and content, packages, what services were asked, and which run."""
        files = {
            str(p.relative_to(self.root)): (
                oct(p.lstat().st_mode),
                str(p.readlink()) if p.is_symlink() else p.read_bytes() if p.is_file() else None,
            )
            for p in sorted(self.root.rglob("*"))
        }
        packages = sorted(p.name for p in (self.folder / "packages").iterdir())
        running = [name for name in ("web", "broken") if self.services.pid(name)]
        return {"files": files, "packages": packages, "asked": self.services.asked(),
                "running": running}  # fmt: skip


def ground(folder: Path) -> Ground:
    folder.mkdir()
    services = RealServices(folder / "services")
    services.add("web", "trap : HUP; while :; do sleep 600 & wait $!; done")
    services.add("broken", "exit 1")
    for name in ("root", "packages"):
        (folder / name).mkdir()
    wrapper, manager = folder / "svc", folder / "pkg"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(services.argv)} "$@"\n')
    manager.write_text(MANAGER.format(folder=folder / "packages"))
    for path in (wrapper, manager):
        path.chmod(0o755)
    (folder / "root" / "old").write_text("old\n")
    (folder / "root" / "link").symlink_to("/etc/passwd")
    environment = {"OTA_SERVICE_MANAGER": str(wrapper), "OTA_PACKAGE_MANAGER": str(manager)}
    return Ground(folder, services, environment)


Steps = tuple[StepState, ...]
Road = Callable[[Ground, dict[str, Any], dict[str, str]], Steps]


def by_agent(where: Ground, document: dict[str, Any], values: dict[str, str]) -> Steps:
    """Signed, ordered by a director, verified, run and reported by a whole device."""
    box = Box(where.folder / "box" if (where.folder / "box").mkdir() is None else where.folder)
    box.services = Services.here([where.environment["OTA_SERVICE_MANAGER"]])
    box.packages = Packages.here([where.environment["OTA_PACKAGE_MANAGER"]])
    box.playbook(document, values)
    box.cycle()
    return last(box).steps


def by_script(where: Ground, document: dict[str, Any], values: dict[str, str]) -> Steps:
    """The text for SSH, run by this machine's own shell."""
    rendered = native.script(playbooks.read(strict.compact(document)))
    script = where.folder / "script"
    script.write_text(rendered.text)
    ran = subprocess.run(
        ["sh", str(script)],
        input=rendered.stdin(values),
        capture_output=True,
        check=False,
        env=os.environ | where.environment,
        cwd=where.folder,
        timeout=120,
    )
    found = told.read(ran.stdout)
    assert (ran.returncode == 0) == _succeeds(document, found), ran.stderr
    return found


def by_document(where: Ground, document: dict[str, Any], values: dict[str, str]) -> Steps:
    """The Command document, interpreted as Systems Manager's agent does."""
    rendered = native.document(playbooks.read(strict.compact(document)))
    done = ssm_documents.run(rendered.text, values, **where.environment)
    found = told.read(done.out.encode())
    assert (done.status == "Success") == _succeeds(document, found), done
    return found


def _succeeds(document: dict[str, Any], found: Steps) -> bool:
    ignored = {s["name"] for s in document["steps"] if s["on_failure"] == "ignore"}
    return all(s.outcome != "failed" or s.name in ignored for s in found)


ROADS: dict[str, Road] = {"agent": by_agent, "ssh": by_script, "ssm": by_document}


PARAMETERS = {
    "word": {"type": "string", "pattern": "^.{1,200}$"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "on": {"type": "boolean"},
    "pick": {"type": "choice", "choices": ["it's", "b c"]},
    "where": {"type": "path"},
}


def files(root: Path) -> dict[str, Any]:
    """Files in every way that all roads have."""

    def file(name: str, path: str, **more: Any) -> dict[str, Any]:
        words = {"path": str(root / path), "mode": "0640", "format": "plain"} | more
        return step(name, file=words)

    say = "word = ${word}\nport = ${port}\non = ${on}\n"
    return body(
        file("plain", "plain", content=say + "literal $${word} {{ braces }} 'q' \"d\" \\ %s\n"),
        file("again", "plain", content=say + "literal $${word} {{ braces }} 'q' \"d\" \\ %s\n"),
        file("json", "json", content='{"w": ${word}, "p": ${port}, "on": ${on}}', format="json"),
        file("shell", "shell", content="W=${word}\nP=${port}\nC=${pick}\n", format="shell"),
        file("empty", "empty", mode="0600"),
        file("mode", "empty", mode="0755"),
        file("gone", "old", absent=True),
        file("gone-again", "old", absent=True),
        file("valid", "valid", content="port = ${port}\n", validate=["grep", "-q", "port", "${file}"]),
        file("bad", "valid", content="x", validate=["grep", "-q", "port", "${file}"])
        | {"on_failure": "ignore"},
        file("link", "link", content="x") | {"on_failure": "ignore"},
        file("nowhere", "no/such/folder", content="x") | {"on_failure": "ignore"},
        parameters=PARAMETERS,
    )  # fmt: skip


def programs(root: Path) -> dict[str, Any]:
    """Programs, guards, services, packages, going well or being skipped."""
    return body(
        step("exec", exec={"argv": ["sh", "-c", 'printf "%s" "$1" >"$2"', "sh", "${word}",
                                    str(root / "exec")]}),
        step("unless", exec={"argv": ["false"]}, unless=["test", "${port}", "=", "8443"]),
        step("creates", exec={"argv": ["false"]}, creates="${where}"),
        step("elsewhere", exec={"argv": ["false"]}, platforms=["windows"]),
        step("here", exec={"argv": ["true"]}, platforms=["windows", "linux"], unless=["false"]),
        step("start", service={"name": "web", "state": "running", "enabled": True}),
        step("start-again", service={"name": "web", "state": "running", "enabled": True}),
        step("restart", service={"name": "web", "state": "restarted"}),
        step("up", service={"name": "web", "state": "up"}),
        step("reload", service={"name": "web", "state": "reloaded", "enabled": False}),
        step("package", package={"name": "tool", "state": "present"}),
        step("package-again", package={"name": "tool", "state": "present"}),
        step("no-package", package={"name": "no-such", "state": "present"})
        | {"on_failure": "ignore"},
        step("check", check={"argv": ["test", "-e", "${where}"], "interval": 1}),
        step("collect", collect={"argv": ["printf", "%s|%s", "${word}", "{{x}}"]}),
        **{"finally": step("last", service={"name": "web", "state": "stopped"})},
        parameters=PARAMETERS,
    )  # fmt: skip


def failing(root: Path) -> dict[str, Any]:
    """Every way to fail that all roads have, until one stops it."""
    go_on = {"on_failure": "continue"}
    return body(
        step("exit", exec={"argv": ["sh", "-c", "exit 7"]}) | go_on,
        step("missing", exec={"argv": ["/no/such/program"]}) | go_on,
        step("hang", exec={"argv": ["sh", "-c", "sleep 60 & sleep 60"]}) | go_on | {"timeout": 1},
        step("broken", service={"name": "broken", "state": "restarted"}) | go_on | {"timeout": 1},
        step("unknown", service={"name": "nobody", "state": "running"}) | go_on,
        step("down", service={"name": "web", "state": "up"}) | go_on | {"timeout": 1},
        step("closed", check={"argv": ["false"], "interval": 1}) | go_on | {"timeout": 1},
        step("collect", collect={"argv": ["sh", "-c", "echo half; exit 3"]}) | go_on,
        step("stop", exec={"argv": ["false"]}),
        step("never", file={"path": str(root / "never"), "mode": "0644", "format": "plain"}),
        **{"finally": step("last", file={"path": str(root / "last"), "mode": "0644",
                                         "format": "plain", "content": "end\n"})},
    )  # fmt: skip


def brief(steps: Steps) -> list[tuple[str, ...]]:
    return [(s.name, s.outcome, s.code, s.output, s.output_sha256) for s in steps]


@pytest.mark.parametrize("make", [files, programs, failing], ids=["files", "programs", "failing"])
def test_the_same_end_state_by_all_roads(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]]
) -> None:
    """Files, modes, services, packages, and what is told of each step: equal, and as expected."""
    states, steps = {}, {}
    for name, road in ROADS.items():
        where = ground(tmp_path / name)
        with where.services:
            values = {"word": NASTY, "port": "8443", "on": "true", "pick": "it's",
                      "where": str(where.root)}  # fmt: skip
            document = make(where.root)
            given = values if "parameters" in document else {}
            steps[name] = brief(road(where, document, given))
            states[name] = where.state()
    assert steps["agent"] == steps["ssh"] == steps["ssm"]
    assert states["agent"] == states["ssh"] == states["ssm"]
    CHECKS[make.__name__](states["ssh"]["files"], steps["ssh"])


def _check_files(files: dict[str, Any], steps: list[tuple[str, ...]]) -> None:
    content = {name: data for name, (_, data) in files.items()}
    assert content["plain"].startswith(f"word = {NASTY}\nport = 8443\non = true\n".encode())
    assert content["plain"].endswith(b"literal ${word} {{ braces }} 'q' \"d\" \\ %s\n")
    assert json.loads(content["json"]) == {"w": NASTY, "p": 8443, "on": True}
    script = content["shell"].decode() + 'printf "%s\\n" "$W" "$P" "$C"\n'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == f"{NASTY}\n8443\nit's\n"
    assert (content["valid"], content["link"]) == (b"port = 8443\n", "/etc/passwd")
    assert "old" not in content
    failed = {name: code for name, outcome, code, *_ in steps if outcome == "failed"}
    assert failed == {"bad": "invalid", "link": "not-a-file", "nowhere": "io"}
    skipped = {name: code for name, outcome, code, *_ in steps if outcome == "skipped"}
    assert skipped == {"again": "already-so", "gone-again": "already-so"}


def _check_programs(files: dict[str, Any], steps: list[tuple[str, ...]]) -> None:
    assert files["exec"][1] == NASTY.encode()
    codes = {name: code for name, outcome, code, *_ in steps if outcome != "done"}
    assert codes == {
        "unless": "unless", "creates": "creates", "elsewhere": "platform",
        "start-again": "already-so", "package-again": "already-so", "no-package": "exit",
    }  # fmt: skip
    assert next(s for s in steps if s[0] == "collect")[3] == f"{NASTY}|{{{{x}}}}"


def _check_failing(files: dict[str, Any], steps: list[tuple[str, ...]]) -> None:
    assert sorted(files) == ["last", "link", "old"]
    assert {name: code for name, _, code, *_ in steps} == {
        "exit": "exit", "missing": "no-program", "hang": "timeout", "broken": "service-state",
        "unknown": "exit", "down": "service-state", "closed": "check", "collect": "exit", "stop": "exit", "last": "",
    }  # fmt: skip


CHECKS = {"files": _check_files, "programs": _check_programs, "failing": _check_failing}


# -- refusals of the native roads: nothing is done ------------------------------------------------------
def _mark(root: Path, **more: Any) -> dict[str, Any]:
    return body(
        step("mark", file={"path": str(root / "mark"), "mode": "0644", "format": "plain",
                           "content": "${who}${port}"}),
        parameters={
            "who": {"type": "choice", "choices": ["a", "b"]},
            "port": {"type": "integer", "minimum": 1, "maximum": 9},
            "where": {"type": "path"},
        },
    ) | more  # fmt: skip


GOOD = {"who": "a", "port": "1", "where": "/tmp/x"}


@pytest.mark.parametrize(
    ("more", "values", "code"),
    [
        ({"platforms": ["windows"]}, {}, "playbook-platform"),
        ({}, {"who": "c"}, "playbook-parameter"),
        ({}, {"port": "10"}, "playbook-parameter"),
        ({}, {"port": "1;2"}, "playbook-parameter"),
        ({}, {"port": ""}, "playbook-parameter"),
        ({}, {"where": "/a/../b"}, "playbook-parameter"),
        ({}, {"where": "/a b"}, "playbook-parameter"),
        ({}, {"where": "-rf"}, "playbook-parameter"),
        ({}, {"who": "$(touch /tmp/x)"}, "playbook-parameter"),
    ],
    ids=str,
)
def test_a_script_that_does_not_fit_does_nothing(
    tmp_path: Path, more: dict[str, Any], values: dict[str, str], code: str
) -> None:
    """Platform and values are checked on the machine, too, before the first step."""
    rendered = native.script(playbooks.read(strict.compact(_mark(tmp_path, **more))))
    ran = subprocess.run(
        ["sh", "-c", rendered.text], input=rendered.stdin(GOOD | values), capture_output=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert ran.returncode == 3
    assert [(s.name, s.outcome, s.code) for s in told.read(ran.stdout)] == [
        ("admission", "failed", code)
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [{"who": "c"}, {"port": "x"}, {"where": "x"}, {"more": "1"}])
def test_systems_manager_itself_refuses_values_outside(
    tmp_path: Path, values: dict[str, str]
) -> None:
    """The signed pattern stands in the document."""
    rendered = native.document(playbooks.read(strict.compact(_mark(tmp_path))))
    with pytest.raises(ssm_documents.InvalidParameters):
        ssm_documents.run(rendered.text, GOOD | values)
    assert list(tmp_path.iterdir()) == []


def test_a_document_checks_what_a_pattern_can_not(tmp_path: Path) -> None:
    """Bounds are checked by the first step, which ends the document; other platforms skip it."""
    rendered = native.document(playbooks.read(strict.compact(_mark(tmp_path))))
    done = ssm_documents.run(rendered.text, GOOD | {"port": "10"})
    assert (done.status, done.plugins[0].code) == ("Failed", 169)
    skipped = ssm_documents.run(rendered.text, GOOD, platform="Windows")
    assert [p.status for p in skipped.plugins] == ["Skipped"]
    assert list(tmp_path.iterdir()) == []


def test_the_text_never_depends_on_values(tmp_path: Path) -> None:
    """Pinned by hash: one playbook has one script and one document, whatever is given to them."""
    found = playbooks.read(strict.compact(files(tmp_path)))
    assert native.script(found).sha256 == native.script(found).sha256
    for rendered in (native.script(found), native.document(found)):
        assert native.UNVERIFIED in rendered.text
        assert NASTY not in rendered.text


def test_limits_of_documents() -> None:
    """Too long, or for the agent only: refused before anything is written."""
    from ota.errors import Malformed  # noqa: PLC0415 - this claim only

    long = [step(f"s{n}", exec={"argv": ["echo", "x" * 900]}) for n in range(40)]
    with pytest.raises(Malformed, match="limit is 65536"):
        native.document(playbooks.read(strict.compact(body(*long))))
    agent = body(step("boot", reboot={}), roads=["agent"])
    for render in (native.script, native.document):
        with pytest.raises(Malformed, match="needs the agent"):
            render(playbooks.read(strict.compact(agent)))


def test_told_is_read_strictly() -> None:
    """Whatever a machine prints besides, or instead, is no step."""
    fake = b"ota-step x done - 0 - 0"
    assert told.read(fake) == ()
    assert told.read(b"junk\nota-step a done - 3 - 3\nota\n" + fake + b"\n")[1].name == "x"
    inner = b"ota-step in done - 0 - 0\n"
    steps = told.read(b"ota-step out done - %d - %d\n%s\n" % (len(inner), len(inner), inner))
    assert [s.name for s in steps] == ["out"]
    assert told.read(b"\xff" * 100 + b"ota-step ../x done - 0 - 0\n") == ()
    assert len(told.read(fake[:-1].join([b"", b""]) + (fake + b"\n") * 500)) == 65
    assert sys.getsizeof(told.read((fake + b"\n") * 500)) < 10_000
