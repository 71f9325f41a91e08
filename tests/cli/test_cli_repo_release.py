"""``ota repo`` and ``ota release``: signatures by threshold, publishing, verifying, yanking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import BOTH, HARDWARE, SIGNERS, Ota


@pytest.fixture
def keyed(empty: Ota, template: Path) -> Ota:
    """A workspace with keys and no repositories yet."""
    import shutil  # noqa: PLC0415 - for this fixture only

    empty.ok("init", empty.folder)
    for part in ("keys", "repo-metadata/keyholders"):
        shutil.copytree(template / part, empty.folder / part, dirs_exist_ok=True)
    return empty


@pytest.fixture
def image(ota: Ota) -> Path:
    path = ota.folder.parent / "app-2.bin"
    path.write_bytes(b"app-2")
    return path


def add(ota: Ota, image: Path, version: str = "2.0.0", *more: str) -> tuple[int, str, str]:
    found = ota("release", "add", image, "--component", "app", "--version", version,
                "--hardware", HARDWARE, *more)  # fmt: skip
    return found.code, found.out, found.err


def test_create_sign_publish(keyed: Ota) -> None:
    """First roots wait for a threshold of signatures; one short is exit 6, nothing is public."""
    made = keyed("repo", "create", "-o", "json")
    assert [(r["repository"], r["role"]) for r in made.json] == [
        ("image", "root"),
        ("image", "targets"),
        ("director", "root"),
    ]
    assert made.err == (
        "next: ota repo sign --key NAME for each keyholder, then ota repo publish\n"
    )
    one = keyed("repo", "sign", "--key", "root-1")
    assert (one.code, one.out) == (
        0,
        "REPOSITORY  ROLES  MISSING\nimage  root  root 1 of 2 signed,targets 0 of 2 signed\n",
    )
    early = keyed("repo", "publish")
    assert early.code == 6
    assert not list((keyed.folder / "store").rglob("*.json"))
    for name in SIGNERS[1:]:
        keyed.ok("repo", "sign", "--key", name)
    done = keyed("repo", "publish")
    assert (done.code, done.out, done.err) == (0, "PUBLISHED\nimage\ndirector-root\n", "")
    assert (keyed.folder / "store/image/metadata/timestamp.json").exists()
    verified = keyed("repo", "verify")
    assert (verified.code, verified.out, verified.err) == (
        0,
        "NAME  RESULT  MESSAGE\n",
        "2 checked, 0 wrong\n",
    )


def test_create_twice(ota: Ota) -> None:
    """A repository is made once."""
    before = ota.files()
    result = ota("repo", "create")
    assert (result.code, result.err) == (
        4,
        (
            "error: the image repository of this workspace exists\ncode: exists\n"
            "next: ota repo status\n"
        ),
    )
    assert ota.files() == before


def test_status(ota: Ota) -> None:
    """``status`` shows every role, who holds it, and until when it lasts."""
    result = ota("repo", "status")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "roles:\n"
        "REPOSITORY  ROLE  VERSION  EXPIRES  HEALTH  THRESHOLD  KEYHOLDERS  BINS\n"
        "image  root  1  2027-11-23T08:00:00Z  ok  2 of 3  root-1,root-2,root-3  1\n"
        "image  targets  2  2027-05-22T08:00:00Z  ok  2 of 3  targets-1,targets-2,targets-3  1\n"
        "image  snapshot  2  2026-12-23T08:00:00Z  ok  1 of 1  image-online  1\n"
        "image  timestamp  2  2026-11-26T08:00:00Z  ok  1 of 1  image-online  1\n"
        "image  app  1  2027-05-22T08:00:00Z  ok  2 of 3  targets-1,targets-2,targets-3  1\n"
        "director  root  1  2027-11-23T08:00:00Z  ok  2 of 3  director-root-1,director-root-2,"
        "director-root-3  1\n"
    )


def test_roots_are_for_provisioning(ota: Ota) -> None:
    """``roots`` prints both files with their fingerprints."""
    rows = ota.ok("repo", "roots", "-o", "json").json
    assert [r["repository"] for r in rows] == ["director", "image"]
    import hashlib  # noqa: PLC0415 - the claim

    for row in rows:
        assert hashlib.sha256(Path(row["file"]).read_bytes()).hexdigest() == row["sha256"]


def test_a_timer_can_not_mend_what_people_sign(ota: Ota) -> None:
    """Roots have expired: ``refresh`` does its part and says so, exit 1; so does a release."""
    ota.later(days=400)
    done = ota("repo", "refresh")
    assert (done.code, done.out) == (1, "image:  refreshed\ndevices:  3\n")
    for role in ("image root", "image targets", "image app", "director root"):
        assert f"warning: {role} has expired; no device updates until" in done.err
    assert done.err.endswith(
        "code: expired\nnext: ota repo change --renew-within 60d, then sign and publish\n"
    )
    verified = ota("repo", "verify")
    assert (verified.code, "image metadata: root is expired" in verified.err) == (1, True)
    image = ota.folder.parent / "app-9.bin"
    image.write_bytes(b"app-9")
    words = ("--component", "app", "--version", "9", "--hardware", "gw-rev-b", *BOTH)
    assert "warning: image root has expired" in ota.ok("release", "add", image, *words).err
    ota.ok("repo", "change", "--renew-within", "60d")
    keys = ("root-1", "root-2", "targets-1", "targets-2", "director-root-1", "director-root-2")
    ota.ok("repo", "sign", *(word for key in keys for word in ("--key", key)))
    assert "warning" not in ota.ok("repo", "publish").err
    assert ota("repo", "refresh").code == 0
    assert ota("repo", "verify").code == 0


def test_expired_then_refreshed(ota: Ota) -> None:
    """An expired timestamp is found by ``verify`` (exit 1) and mended by ``refresh``."""
    ota.later(days=4)
    late = ota("repo", "verify")
    assert late.code == 1
    assert "code: stale\n" in late.err
    done = ota("repo", "refresh")
    assert (done.code, done.out, done.err) == (0, "image:  refreshed\ndevices:  0\n", "")
    assert ota("repo", "verify").code == 0
    ota.later(days=20)
    assert ota("repo", "verify").code == 1
    assert ota.ok("repo", "refresh", "-o", "json").json == {"image": "refreshed", "devices": 3}
    assert ota("repo", "verify").code == 0


def test_changed_image_is_found(ota: Ota) -> None:
    """Image bytes edited in the store: exit 3, with code and name."""
    path = next((ota.folder / "store/image/targets/app").iterdir())
    path.chmod(0o644)
    path.write_bytes(b"evil!")
    result = ota("repo", "verify")
    assert result.code == 3
    assert result.out.splitlines()[1].endswith(
        "image-mismatch  " + result.out.splitlines()[1].split("  ")[2]
    )
    assert "code: image-mismatch\nnext: restore what is named from a backup" in result.err
    assert "error: image/targets/app/SHA256.app-1.0.0.bin: " in result.err


def test_changed_metadata_is_refused(ota: Ota) -> None:
    """Metadata edited in the store is refused by every command that reads it."""
    path = ota.folder / "store/image/metadata/timestamp.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":3'))
    for words in (["repo", "status"], ["release", "list"], ["repo", "verify"]):
        result = ota(*words)
        assert result.code == 3, words
        assert "code: signature\n" in result.err


def test_add_waits_for_signatures(ota: Ota, image: Path) -> None:
    """A release is described from its bytes, waits, is signed by two, and is public then."""
    code, out, err = add(ota, image)
    assert (code, err) == (
        0,
        "app-2.bin: 5 bytes\nnext: ota release sign --key NAME, for each who must sign\n",
    )
    assert out == (
        "path:  app/app-2.0.0.bin\ncomponent:  app\nversion:  2.0.0\nhardware ids:  gw-rev-b\n"
        "release counter:  1\nsecurity fix:  no\nformat:  file\nlength:  5\nsha256:  SHA256\n"
        "notes:  -\n"
    )
    listed = ota("release", "list")
    assert listed.out == (
        "PATH  VERSION  RELEASE COUNTER  HARDWARE IDS  FORMAT  LENGTH  STATE\n"
        "app/app-1.0.0.bin  1.0.0  1  gw-rev-b  file  5  published\n"
        "app/app-2.0.0.bin  2.0.0  1  gw-rev-b  file  5  waiting\n"
    )
    assert ota("release", "publish").code == 6
    signed = ota("release", "sign", "--key", "targets-1", "--key", "targets-2")
    assert (signed.code, signed.out) == (0, "REPOSITORY  ROLES  MISSING\nimage  app  -\n")
    assert signed.err == (
        "image: app: signed until 2027-05-22T08:00:00Z\n"
        "image: app: lists app/app-2.0.0.bin, version 2.0.0 for gw-rev-b, counter 1, 5 bytes, "
        "sha256 KEYID\nnext: ota release publish\n"
    )
    done = ota("release", "publish")
    assert (done.code, done.out, done.err) == (
        0,
        "PUBLISHED\nimage\n",
        "upload: 5 bytes\npublished: image\n",
    )
    assert ota.ok("release", "show", "app@2.0.0", "-o", "json").json[0]["state"] == "published"


def test_add_dry_run(ota: Ota, image: Path) -> None:
    """``--dry-run`` describes and writes nothing."""
    before = ota.files()
    code, out, _ = add(ota, image, "2.0.0", "--dry-run")
    assert code == 0
    assert out.startswith("path:  app/app-2.0.0.bin\n")
    assert ota.files() == before


def test_yank(ota: Ota, image: Path) -> None:
    """A release that nobody needs is taken off, after a yes, by the same signatures."""
    add(ota, image, "2.0.0", *BOTH)
    asked = ota("release", "yank", "app@1.0.0", *BOTH)
    assert (asked.code, asked.err) == (
        4,
        (
            "error: no device will install app/app-1.0.0.bin any more: needs a person's yes\n"
            "code: unconfirmed\nnext: the same command with --yes\n"
        ),
    )
    done = ota("release", "yank", "app@1.0.0", *BOTH, "--yes")
    assert (done.code, done.out) == (0, "PATH  YANKED\napp/app-1.0.0.bin  published\n")
    listed = [row["path"] for row in ota.ok("release", "list", "-o", "json").json]
    assert listed == ["app/app-2.0.0.bin"]


def test_discard(ota: Ota, image: Path) -> None:
    """A waiting change can be thrown away; what is public stays."""
    add(ota, image)
    result = ota("repo", "discard", "image", "--yes")
    assert (result.code, result.out) == (0, "repository:  image\ndiscarded:  yes\n")
    assert len(ota.ok("release", "list", "-o", "json").json) == 1


BAD: list[tuple[str, list[str], int, str]] = [
    ("sign nothing", ["repo", "sign", "--key", "root-1"], 2, "not-found"),
    ("sign as nobody", ["release", "sign", "--key", "nobody"], 2, "not-found"),
    ("publish nothing", ["repo", "publish"], 2, "not-found"),
    ("publish elsewhere", ["repo", "publish", "--only", "moon"], 2, "malformed"),
    ("discard elsewhere", ["repo", "discard", "moon", "--yes"], 2, "malformed"),
    ("show nothing", ["release", "show", "app@9"], 2, "not-found"),
    ("yank nothing", ["release", "yank", "app@9", "--yes"], 2, "not-found"),
    ("publish unsigned", ["release", "add", "IMAGE", "--component", "app", "--version", "3",
                          "--hardware", "h", "--publish"], 2, "usage"),
    ("no file", ["release", "add", "nothing.bin", "--component", "app", "--version", "3",
                 "--hardware", "h"], 2, "not-found"),
    ("a folder", ["release", "add", "FOLDER", "--component", "app", "--version", "3",
                  "--hardware", "h"], 2, "malformed"),
    ("component", ["release", "add", "IMAGE", "--component", "../x", "--version", "3",
                   "--hardware", "h"], 2, "malformed"),
    ("reserved", ["release", "add", "IMAGE", "--component", "workspace", "--version", "3",
                  "--hardware", "h"], 2, "malformed"),
    ("version", ["release", "add", "IMAGE", "--component", "app", "--version", "a b",
                 "--hardware", "h"], 2, "malformed"),
    ("hardware", ["release", "add", "IMAGE", "--component", "app", "--version", "3",
                  "--hardware", "a/b"], 2, "malformed"),
    ("path", ["release", "add", "IMAGE", "--component", "app", "--version", "3",
              "--hardware", "h", "--path", "app/a/b"], 2, "malformed"),
    ("other's path", ["release", "add", "IMAGE", "--component", "app", "--version", "3",
                      "--hardware", "h", "--path", "os/app"], 2, "malformed"),
    ("path taken", ["release", "add", "IMAGE", "--component", "app", "--version", "1.0.0",
                    "--hardware", "h"], 4, "path-taken"),
    ("no hardware", ["release", "add", "IMAGE", "--component", "app", "--version", "3"],
     2, "usage"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "name"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_repo_or_release(ota: Ota, image: Path, words: list[str], code: int, name: str) -> None:
    """Every malformed call is a named error with a next step, and changes nothing."""
    before = ota.files()
    places = {"IMAGE": str(image), "FOLDER": str(ota.folder)}
    result = ota(*(places.get(word, word) for word in words))
    assert (result.code, result.out) == (code, ""), result.err
    assert f"code: {name}\n" in result.err
    assert result.err.splitlines()[-1].startswith("next: ")
    assert ota.files() == before


def test_wrong_key_file(ota: Ota, image: Path) -> None:
    """Another keyholder's file under this name: exit 4, the change stays unsigned."""
    add(ota, image)
    (ota.folder / "keys" / "targets-1.pem").write_bytes(
        (ota.folder / "keys" / "root-1.pem").read_bytes()
    )
    result = ota("release", "sign", "--key", "targets-1")
    assert result.code == 4
    assert "code: wrong-key\n" in result.err
    assert ota("release", "publish").code == 6
