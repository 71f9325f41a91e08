"""``ota playbook``: from a file to a published target with keyholders of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ota.playbook import source
from signing import layout, strict
from signing.playbooks import target as playbook_target
from tests.cli.conftest import Ota

KEYS = ("--key", "playbooks-1", "--key", "playbooks-2")
ROLE = """
[components.playbooks]
keyholders = ["playbooks-1", "playbooks-2"]
threshold = 2
"""
TEXT = """\
name: hello
version: 1.0.0
summary: Say hello
platforms: [linux]
parameters:
  who: {type: string, pattern: "^[^;]{1,40}$", default: you, description: whom}
steps:
  - {name: say, exec: {argv: [echo, "${who}"]}, creates: /tmp/said}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def keyed(ota: Ota) -> Ota:
    """A workspace whose policy names keyholders for playbooks."""
    policy = ota.folder / "repo-metadata" / "image.toml"
    policy.write_text(policy.read_text() + ROLE)
    ota.ok("key", "generate", "playbooks-1", "playbooks-2")
    return ota


@pytest.fixture
def published(keyed: Ota, file: Path) -> Ota:
    """The same with one playbook published."""
    targets = ("--key", "targets-1", "--key", "targets-2")
    keyed.ok("playbook", "sign", file, *KEYS, *targets, "--publish")
    return keyed


def test_sign_shows_and_publish_makes_public(keyed: Ota, file: Path) -> None:
    """The first one needs who delegates, too; then the role's own keyholders are enough."""
    shown = keyed("playbook", "sign", file, "--dry-run")
    assert shown.out.splitlines()[-1] == (
        'step say: exec {"argv": ["echo", "${who}"]}, within 60 s, skipped if '
        '{"creates": "/tmp/said"}'
    )
    first = keyed("playbook", "sign", file, *KEYS)
    assert "playbooks/hello-1.0.0.json: step say: exec" in first.err
    assert "targets 0 of 2 signed" in first.out
    assert keyed("playbook", "publish").code == 6
    assert keyed("playbook", "list", "-o", "json").json[0]["state"] == "waiting"
    keyed.ok("repo", "sign", "--key", "targets-1", "--key", "targets-2")
    keyed.ok("playbook", "publish")
    (row,) = keyed("playbook", "list", "-o", "json").json
    native = "native (not verified by the device)"
    assert (row["state"], row["roads"]) == ("published", ["agent", native])
    name = layout.image_target(row["path"], row["sha256"])
    data = (keyed.folder / "store" / name).read_bytes()
    assert strict.digest(data) == row["sha256"]
    file.write_text(TEXT.replace("1.0.0", "1.1.0"))
    keyed.ok("playbook", "sign", file, *KEYS, "--publish")
    assert [r["version"] for r in keyed("playbook", "list", "-o", "json").json] == [
        "1.0.0",
        "1.1.0",
    ]
    keyed.ok("repo", "verify")


def test_show_reads_what_was_published(published: Ota, file: Path) -> None:
    """By name and version, verified; a changed byte in the store is a refusal."""
    assert published("playbook", "show", "hello@1.0.0").out == (
        published("playbook", "show", file).out
    )
    assert published("playbook", "show", "hello@1.0.0", "-o", "json").json["name"] == "hello"
    target = playbook_target.describe(source.read(TEXT.encode()))
    path = published.folder / "store" / layout.image_target(target.path, target.sha256)
    path.write_bytes(path.read_bytes().replace(b"echo", b"evil"))
    lied = published("playbook", "show", "hello@1.0.0")
    assert (lied.code, lied.out) == (3, "")
    assert "code: image-mismatch" in lied.err


def test_nobody_signs_playbooks_by_accident(ota: Ota, file: Path) -> None:
    """Without keyholders of their own, and without the role's keys, nothing is listed."""
    before = ota.files()
    refused = ota("playbook", "sign", file, "--key", "targets-1")
    assert (refused.code, refused.out) == (4, "")
    assert "code: playbook-role" in refused.err
    assert ota.files() == before


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ('keyholders = ["targets-1", "playbooks-1"]', "names targets-1, who holds another role"),
        ("threshold = 2", "must be named"),
    ],
)
def test_keyholders_of_their_own(ota: Ota, role: str, reason: str) -> None:
    """Who signs images can not sign procedures, and nobody inherits that."""
    policy = ota.folder / "repo-metadata" / "image.toml"
    policy.write_text(f"{policy.read_text()}\n[components.playbooks]\n{role}\n")
    refused = ota("playbook", "list")
    assert refused.code == 2
    assert reason in refused.err


def test_a_version_keeps_its_content(published: Ota, file: Path) -> None:
    """The same again changes nothing; another text under the same version is refused."""
    before = published.files()
    published.ok("playbook", "sign", file)
    file.write_text(TEXT.replace("echo", "print"))
    refused = published("playbook", "sign", file)
    assert refused.code == 4
    assert "code: path-taken" in refused.err
    assert published.files() == before


def test_images_can_not_take_the_place_of_playbooks(published: Ota, file: Path) -> None:
    """No release lives where playbooks do, whoever adds it."""
    before = published.files()
    refused = published("release", "add", file, "--component", "playbooks", "--version", "9",
                        "--hardware", "gw-rev-b")  # fmt: skip
    assert (refused.code, published.files()) == (2, before)
    assert [r["path"] for r in published("release", "list", "-o", "json").json] == [
        "app/app-1.0.0.bin"
    ]


def test_yank_takes_it_off(published: Ota) -> None:
    """After that it is neither shown nor found."""
    unsure = published("playbook", "yank", "hello@1.0.0", *KEYS, "--publish")
    assert (unsure.code, "unconfirmed" in unsure.err) == (4, True)
    published.ok("playbook", "yank", "hello@1.0.0", *KEYS, "--publish", "--yes")
    assert published("playbook", "list", "-o", "json").json == []
    assert published("playbook", "show", "hello@1.0.0").code == 2


def test_lint(ota: Ota, file: Path) -> None:
    """Findings are lines; --strict makes them an error; mistakes have a place."""
    clean = ota("playbook", "lint", file, "restart-service")
    assert clean.code == 0
    assert clean.out == (
        "PLAYBOOK  FINDING\nrestart-service@1.0.0  step settle: no guard: it runs again when the "
        "device dies in the middle of it and must then lead to the same state\n"
    )
    assert ota("playbook", "lint", "restart-service", "--strict").code == 2
    file.write_text(TEXT.replace("[echo", "[sh, -c"))
    wrong = ota("playbook", "lint", file)
    assert wrong.code == 2
    assert "hello.yaml:8: steps[0]" in wrong.err
    assert "would be run as a script" in wrong.err


def test_shipped_ones_are_listed_as_unsigned(ota: Ota) -> None:
    """What comes with the product is nobody's word until keyholders sign it."""
    rows = ota("playbook", "list", "--shipped", "-o", "json").json
    assert {row["state"] for row in rows} == {"unsigned"}
    assert "restart-service" in {row["name"] for row in rows}
