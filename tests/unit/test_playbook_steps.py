"""What steps do to a machine: services, packages and files, with real programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.services import Services as RealServices

from ota.agent import platforms
from ota.agent.runs import files, packages, services
from ota.agent.runs.failing import Clock, StepFailed
from ota.agent.runs.packages import Packages
from ota.agent.runs.services import Services
from signing.playbooks.steps import File

NO: dict[str, str] = {}


# -- services --------------------------------------------------------------------------------------
@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealServices]:
    with RealServices(tmp_path / "services") as found:
        found.add("web", "exec sleep 600")
        found.add("broken", "exit 1")
        yield found


def test_a_service_is_brought_into_a_state_once(real: RealServices) -> None:
    """Running and stopped act only where it is not so; the process is really there, or not."""
    manager = Services.here(real.argv)
    assert manager.bring("web", "running", None, Clock(5)) == "done"
    first = real.pid("web")
    assert first
    assert manager.bring("web", "running", None, Clock(5)) == "skipped"
    assert manager.bring("web", "restarted", None, Clock(5)) == "done"
    assert real.pid("web") not in {0, first}
    assert manager.bring("web", "stopped", None, Clock(5)) == "done"
    assert manager.bring("web", "stopped", None, Clock(5)) == "skipped"
    assert (real.pid("web"), real.asked()) == (0, ["start web", "restart web", "stop web"])


def test_enabled_is_a_state_of_its_own(real: RealServices) -> None:
    """Enabled and disabled only where that is news."""
    manager = Services.here(real.argv)
    assert manager.bring("web", "running", True, Clock(5)) == "done"
    assert manager.bring("web", "running", True, Clock(5)) == "skipped"
    assert manager.bring("web", "running", False, Clock(5)) == "done"
    assert real.asked() == ["start web", "enable web", "disable web"]


def test_a_service_that_does_not_stay_up(real: RealServices) -> None:
    """A manager that says yes to a service that dies is not believed."""
    with pytest.raises(StepFailed) as caught:
        Services.here(real.argv).bring("broken", "restarted", None, Clock(1))
    assert caught.value.code == "service-state"


@pytest.mark.parametrize("name", ["../web", "$(touch x)", "web; reboot", ".hidden", "nobody"])
def test_unknown_services_are_arguments_and_nothing_more(
    real: RealServices, name: str, tmp_path: Path
) -> None:
    """Whatever a name holds, the manager gets it as one word."""
    with pytest.raises(StepFailed) as caught:
        Services.here(real.argv).bring(name, "restarted", None, Clock(2))
    assert caught.value.code == "exit"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["services"]


def test_which_manager_is_used(tmp_path: Path) -> None:
    """The owner's own, else systemd where it runs, else ``service``; a name is never an option."""
    assert Services.here(["own", "x"])._argv_of("start", "web") == ("own", "x", "start", "web")
    systemd = Services.here(None, tmp_path)
    assert systemd._argv_of("restart", "web") == ("systemctl", "restart", "--", "web")
    assert systemd._argv_of("status", "w") == ("systemctl", "is-active", "--quiet", "--", "w")
    plain = Services.here(None, tmp_path / "no")
    assert plain._argv_of("reload", "web") == ("service", "web", "reload")
    assert not services.SYSTEMD.exists() or Services.here(None)._argv_of("start", "x")[0] == (
        "systemctl"
    )


# -- packages ----------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository folder with one real, tiny package."""
    folder = tmp_path_factory.mktemp("apt")
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share/ota-tiny").mkdir(parents=True)
    (tree / "usr/share/ota-tiny/file").write_text("tiny\n")
    (tree / "DEBIAN/control").write_text(
        "Package: ota-tiny\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.com>\n"
        "Description: tiny\n"
    )
    done = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(folder / "ota-tiny.deb")]
    subprocess.run(done, check=True, capture_output=True)
    return folder / "ota-tiny.deb"


@pytest.fixture
def apt(tmp_path: Path, deb: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real apt-get and dpkg, on a root folder of their own; returns that root."""
    root, etc = tmp_path / "root", tmp_path / "etc"
    for name in ("updates", "info"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).write_text("")
    for path in (
        tmp_path / "lists/partial",
        tmp_path / "cache/archives/partial",
        etc,
        tmp_path / "log",
    ):
        path.mkdir(parents=True)
    data = deb.read_bytes()
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(deb, repository)
    import hashlib  # noqa: PLC0415 - for this index only

    (repository / "Packages").write_text(
        "Package: ota-tiny\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.com>\n"
        f"Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        "Description: tiny\n"
    )
    (etc / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    conf = tmp_path / "apt.conf"
    conf.write_text(
        f'Dir::Etc "{etc}"; Dir::State "{tmp_path}"; Dir::State::lists "{tmp_path}/lists";\n'
        f'Dir::State::status "{root}/var/lib/dpkg/status"; Dir::Cache "{tmp_path}/cache";\n'
        f'Dir::Log "{tmp_path}/log"; APT::Sandbox::User "root"; APT::Architecture "amd64";\n'
        f'DPkg::Options {{"--root={root}"; "--force-not-root"; "--force-script-chrootless";'
        f'"--log={tmp_path}/log/dpkg";}};\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(conf))
    monkeypatch.setenv("DPKG_ADMINDIR", str(root / "var/lib/dpkg"))
    done = subprocess.run(["apt-get", "-q", "update"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root


def test_a_real_package_comes_and_goes(apt: Path) -> None:
    """Real apt and dpkg, asked before and after; the second time nothing is to do."""
    manager = Packages(packages.KNOWN["apt-get"])
    file = apt / "usr/share/ota-tiny/file"
    assert manager.bring("ota-tiny", "present", Clock(60)) == "done"
    assert file.read_text() == "tiny\n"
    assert manager.bring("ota-tiny", "present", Clock(60)) == "skipped"
    assert manager.bring("ota-tiny", "absent", Clock(60)) == "done"
    assert not file.exists()
    assert manager.bring("ota-tiny", "absent", Clock(60)) == "skipped"


@pytest.mark.parametrize("name", ["ota-nothing", "--reinstall", "$(reboot)"])
def test_packages_that_do_not_exist(apt: Path, name: str) -> None:
    """The manager's own words are the reason, and nothing was installed."""
    with pytest.raises(StepFailed) as caught:
        Packages(packages.KNOWN["apt-get"]).bring(name, "present", Clock(60))
    assert caught.value.code == "exit"
    assert not (apt / "usr").exists()


def test_the_owners_package_manager(tmp_path: Path) -> None:
    """Any program that knows three verbs; one that lies about success is found out."""
    own = tmp_path / "own"
    own.write_text(
        '#!/bin/sh\ncase $1 in installed) test -e "$0.$2" ;; install) : >"$0.$2" ;; esac\n'
    )
    own.chmod(0o755)
    manager = Packages.here([str(own)])
    assert manager.bring("a", "present", Clock(5)) == "done"
    assert manager.bring("a", "present", Clock(5)) == "skipped"
    with pytest.raises(StepFailed) as caught:
        manager.bring("a", "absent", Clock(5))
    assert caught.value.code == "package-state"
    with pytest.raises(StepFailed) as caught:
        Packages(None).bring("a", "present", Clock(5))
    assert caught.value.code == "no-program"


# -- files ---------------------------------------------------------------------------------------------
def file(path: Path, content: str = "new\n", **more: Any) -> File:
    return File(path=str(path), content=content, mode="0640", format="plain", **more)


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    """Once; again only where content or mode differ."""
    path = tmp_path / "a.conf"
    assert files.bring(file(path), NO, NO, Clock(5)) == "done"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new\n", 0o640)
    assert files.bring(file(path), NO, NO, Clock(5)) == "skipped"
    path.chmod(0o666)
    assert files.bring(file(path), NO, NO, Clock(5)) == "done"
    owned = file(path, owner="root", group="root")
    assert files.bring(owned, NO, NO, Clock(5)) == "skipped"
    absent = File(path=str(path), mode="0644", format="plain", absent=True)
    assert files.bring(absent, NO, NO, Clock(5)) == "done"
    assert files.bring(absent, NO, NO, Clock(5)) == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_a_content_that_does_not_pass_changes_nothing(tmp_path: Path) -> None:
    """``validate`` sees the new content beside the old; a no leaves the old in place."""
    path = tmp_path / "a.conf"
    path.write_text("good\n")
    with pytest.raises(StepFailed) as caught:
        files.bring(
            file(path, "bad\n", validate=("grep", "-q", "good", "${file}")), NO, NO, Clock(5)
        )
    assert caught.value.code == "invalid"
    assert path.read_text() == "good\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.conf"]
    good = file(path, "very good\n", validate=("grep", "-q", "good", "${file}"))
    assert files.bring(good, NO, NO, Clock(5)) == "done"


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    """Links are not followed and folders not replaced."""
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    link = tmp_path / "link"
    link.symlink_to(secret)
    for path in (link, tmp_path):
        for action in (file(path), File(path=str(path), mode="0644", format="plain", absent=True)):
            with pytest.raises(StepFailed) as caught:
                files.bring(action, NO, NO, Clock(5))
            assert caught.value.code == "not-a-file"
    assert secret.read_text() == "mine\n"


def test_named_errors_of_files(tmp_path: Path) -> None:
    """A missing folder, an unknown owner, a full disk: each by its code, nothing half-written."""
    with pytest.raises(StepFailed) as caught:
        files.bring(file(tmp_path / "no" / "a"), NO, NO, Clock(5))
    assert caught.value.code == "io"
    with pytest.raises(StepFailed) as caught:
        files.bring(file(tmp_path / "a", owner="nobody-at-all"), NO, NO, Clock(5))
    assert caught.value.code == "no-owner"
    full = tmp_path / "full"
    full.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        (full / "a").write_text("old\n")
        with pytest.raises(StepFailed) as caught:
            files.bring(file(full / "a", "x" * 9000), NO, NO, Clock(5))
        assert caught.value.code == "no-space"
        assert [(p.name, p.read_text()) for p in full.iterdir()] == [("a", "old\n")]
    finally:
        subprocess.run(["umount", str(full)], check=True, capture_output=True)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


# -- platforms -----------------------------------------------------------------------------------------
def test_platforms_are_the_words_of_os_release(tmp_path: Path) -> None:
    """ID and ID_LIKE, quoted or not; a missing or strange file is a Linux."""
    path = tmp_path / "os-release"
    path.write_text('NAME="x"\nID=ubuntu\nID_LIKE="debian foo"\nVERSION_ID="1"\n')
    assert platforms.words(path) == {"linux", "ubuntu", "debian", "foo"}
    path.write_bytes(b"\xff\xfeID=\x00\nID=$(reboot)\n")
    assert platforms.words(path) == {"linux"}
    assert platforms.words(tmp_path / "no") == {"linux"}
    assert "debian" in platforms.words()
