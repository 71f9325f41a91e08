"""Each person and each timer with exactly the rights of their rendered role, on a bucket.

Every request to a strict S3 is judged by the rendered policies of whoever types the command. So what
the roles promise is enough for the work, and what they must not do ends with exit code 4.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.roles import PREFIX, Roles
from simulators.strict_s3 import StrictS3, strict_s3

from ota.infra.promise import PEOPLE
from tests.cli.conftest import BOTH, Ota, component, roots_of
from tests.simulators.identities import HARDWARE, Identity


@pytest.fixture(name="s3")
def _s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_s3() as server:
        server.page = 1000
        server.use(monkeypatch)
        yield server


@pytest.fixture
def roles(s3: StrictS3) -> Roles:
    return Roles(s3)


@pytest.fixture
def plant(ota: Ota, s3: StrictS3, roles: Roles) -> Ota:
    """The template's workspace, whose store is the bucket."""
    assert roles.who == ""
    files = ota.folder / "store"
    for path in sorted(p for p in files.rglob("*") if p.is_file()):
        name = str(path.relative_to(files))
        if name.startswith(("image/", "director/")):
            s3.put(f"{PREFIX}/{name}", path.read_bytes())
    shutil.rmtree(files)
    toml = ota.folder / "ota.toml"
    toml.write_text(toml.read_text().replace("file:store", f"s3://{s3.bucket}/{PREFIX}"))
    return ota


def build(ota: Ota, version: str, size: int = 9) -> Path:
    image = ota.folder.parent / f"app-{version}.bin"
    image.write_bytes(version.encode().ljust(size, b"."))
    return image


def release(ota: Ota, version: str, size: int = 9) -> None:
    words = ("--component", "app", "--version", version, "--hardware", HARDWARE)
    ota.ok("release", "add", build(ota, version, size), *words, *BOTH)


def started(ota: Ota) -> str:
    """The id of the only rollout."""
    (row,) = ota.ok("rollout", "list", "-o", "json").json
    return str(row["rollout"])


def test_everybody_can_do_their_work_and_needs_nothing_else(
    plant: Ota, roles: Roles, s3: StrictS3
) -> None:
    """Publish in parts, yank, refresh, register, clean up: nothing of it is refused."""
    roles.who = "publisher"
    release(plant, "2.0.0", 17 * 1024 * 1024)
    assert s3.asked("UploadPart")
    plant.ok("release", "yank", "app@2.0.0", "--yes", *BOTH)
    release(plant, "3.0.0")
    roles.who = "refresh"
    plant.ok("repo", "refresh", "--all")
    roles.who = "enrol"
    body = Identity("gw-9").enrol({"app": component("app-1", "1.0.0")}, **roots_of(plant.folder))
    file = plant.folder.parent / "gw-9.json"
    file.write_bytes(body)
    plant.ok("fleet", "register", file, "--unsafe-allow-any")
    assert f"{PREFIX}/director/devices/gw-9/timestamp.json" in s3.objects
    roles.who = "gc"
    plant.ok("repo", "gc")
    plant.later(days=31)
    before = set(s3.objects)
    plant.ok("repo", "gc", "--yes")
    gone = before - set(s3.objects)
    assert any(name.endswith("app-2.0.0.bin") for name in gone)
    assert not any(n.endswith(("root.json", "timestamp.json")) for n in gone)
    assert roles.refused == []
    roles.who = "refresh"
    plant.ok("repo", "refresh", "--all")
    plant.ok("repo", "verify")
    assert roles.refused == []


def test_a_rollout_starts_with_the_rights_of_its_role(
    plant: Ota, roles: Roles, s3: StrictS3
) -> None:
    """The director's metadata of the canary is written; the image repository is only read."""
    roles.who = "publisher"
    release(plant, "2.0.0")
    roles.who = "rollout"
    spec, plan = plant.folder.parent / "spec.yaml", plant.folder.parent / "plan.json"
    spec.write_text(
        "rollout: app-2\nrelease: app@2.0.0\nwaves: [{name: all, rest: true}]\n"
        "soak: 0s\ndeadline: 1h\n"
    )
    plant.ok("rollout", "plan", spec, "--out", plan)
    plant.ok("rollout", "approve", plan, "--key", "approver")
    plant.ok("rollout", "start", plan)
    assert plant("rollout", "step", started(plant)).code in {0, 8}
    assert f"{PREFIX}/director/devices/gw-1/2.targets.json" in s3.objects
    assert roles.refused == []


def test_nobody_else_cleans_up(plant: Ota, roles: Roles, s3: StrictS3) -> None:
    """Exit 4, with the action and the object; everything is still there, and ``gc`` goes on."""
    roles.who = "publisher"
    release(plant, "2.0.0")
    plant.ok("release", "yank", "app@2.0.0", "--yes", *BOTH)
    release(plant, "3.0.0")
    plant.ok("repo", "gc")
    plant.later(days=31)
    before = dict(s3.objects)
    for roles.who in [w for w in PEOPLE if w != "gc"]:
        result = plant("repo", "gc", "--yes")
        assert result.code == 4
        assert "s3:DeleteObject on arn:aws:s3:::updates/plant/" in result.err
        assert "the policy of the gc role" in result.err
        assert s3.objects == before
    roles.who = "gc"
    plant.ok("repo", "gc", "--yes")
    assert set(s3.objects) < set(before)


def test_whoever_cleans_up_publishes_nothing(plant: Ota, roles: Roles, s3: StrictS3) -> None:
    """Stolen credentials of the timer remove the past, and write not one object."""
    roles.who = "gc"
    before = dict(s3.objects)
    result = plant("release", "add", build(plant, "2.0.0"), "--component", "app", "--version",
                   "2.0.0", "--hardware", HARDWARE, *BOTH)  # fmt: skip
    assert result.code == 4
    assert "s3:PutObject" in result.err
    assert s3.objects == before


def listed(ota: Ota) -> list[str]:
    """Releases that devices are told of."""
    rows = ota.ok("release", "list", "-o", "json").json
    return [row["path"] for row in rows if row["state"] == "published"]


def test_a_publisher_without_one_of_the_rights_of_uploads(
    plant: Ota, roles: Roles, s3: StrictS3
) -> None:
    """Exit 4, the action, the object and the remedy; nothing appears; with the right it goes on.

    First the parts can not be listed. Then what S3 holds of the upload is not ours, and it can not
    be aborted: it is neither forgotten nor left there for good.
    """
    roles.who = "publisher"
    before, told = set(s3.objects), listed(plant)
    words = ("--component", "app", "--version", "2.0.0", "--hardware", HARDWARE)
    where = f"arn:aws:s3:::updates/{PREFIX}/image/targets/app/"
    roles.lacking = {"s3:ListMultipartUploadParts"}
    first = plant("release", "add", build(plant, "2.0.0", 17 * 1024 * 1024), *words, *BOTH)
    assert first.code == 4
    assert f"next: allow s3:ListMultipartUploadParts on {where}" in first.err
    assert "the policy of the publisher role" in first.err
    assert (set(s3.objects), listed(plant), len(s3.uploads)) == (before, told, 1)
    ((upload, begun),) = s3.uploads.items()
    begun.parts[1] = (b"", 9, '"x"', "AAAA")
    roles.lacking = {"s3:AbortMultipartUpload"}
    for _ in range(2):
        again = plant("repo", "publish")
        assert again.code == 4
        assert f"next: allow s3:AbortMultipartUpload on {where}" in again.err
        assert (set(s3.objects), listed(plant), list(s3.uploads)) == (before, told, [upload])
    roles.lacking = set()
    plant.ok("repo", "publish")
    assert len(listed(plant)) == len(told) + 1
    assert s3.uploads == {}
    plant.ok("repo", "verify")


def test_an_upload_that_another_machine_made_needless_is_dropped(
    plant: Ota, roles: Roles, s3: StrictS3
) -> None:
    """The image is there meanwhile: what was begun here is aborted, or the missing right is named."""
    roles.who = "publisher"
    words = ("--component", "app", "--version", "2.0.0", "--hardware", HARDWARE)
    data = build(plant, "2.0.0", 17 * 1024 * 1024)
    roles.lacking = {"s3:ListMultipartUploadParts"}
    assert plant("release", "add", data, *words, *BOTH).code == 4
    ((_, begun),) = s3.uploads.items()
    s3.put(begun.key, data.read_bytes())
    roles.lacking = {"s3:AbortMultipartUpload"}
    result = plant("repo", "publish")
    assert result.code == 4
    assert "s3:AbortMultipartUpload" in result.err
    roles.lacking = set()
    plant.ok("repo", "publish")
    assert s3.uploads == {}
    plant.ok("repo", "verify")
