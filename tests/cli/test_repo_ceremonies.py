"""``ota repo change | export | import | status | rotate-online | recover | suspects``, entire."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import BOTH, DEVICES, HARDWARE, Ota

ROOTS = ("--key", "root-1", "--key", "root-3")
DIRECTORS = ("--key", "director-root-1", "--key", "director-root-3")
REPLACED = "root: keyholder root-2 removed, root-4 added; threshold 2 stays"
UNTIL = "root: signed until 2027-11-23T08:00:00Z"


def edit(ota: Ota, file: str, old: str, new: str) -> None:
    """A person edits a policy file and makes the keys that it names newly."""
    path = ota.folder / "repo-metadata" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if not (ota.folder / "repo-metadata" / "keyholders" / f"{new.strip(chr(34))}.json").exists():
        ota.ok("key", "generate", new.strip('"'))


def test_nothing_to_change(ota: Ota) -> None:
    """Policies that say what is published: exit 0, an empty table, nothing waits."""
    before = ota.files()
    result = ota("repo", "change")
    assert (result.code, result.out, result.err) == (
        0,
        "REPOSITORY  CHANGE\n",
        "the policy files say what is published: nothing to change\n",
    )
    assert ota.files() == before


def test_a_keyholder_is_replaced(ota: Ota) -> None:
    """Dry run, change, status, sign, apply: each says what changes, in words."""
    edit(ota, "image.toml", '"root-2"', '"root-4"')
    line = f"image  {REPLACED}\nimage  {UNTIL}\n"
    before = ota.files()
    dry = ota("repo", "change", "--dry-run")
    assert (dry.code, dry.out, dry.err) == (0, "REPOSITORY  CHANGE\n" + line, "")
    assert ota.files() == before
    made = ota("repo", "change")
    assert (made.code, made.out, made.err) == (
        0,
        "REPOSITORY  CHANGE\n" + line,
        "next: ota repo sign --key NAME, or ota repo export FILE for other machines\n",
    )
    first = ota("repo", "sign", "--key", "root-1")
    assert (first.code, first.out, first.err) == (
        0,
        "REPOSITORY  ROLES  MISSING\nimage  root  root 1 of 2 signed\n",
        (
            f"image: {REPLACED}\nimage: {UNTIL}\n"
            "next: ota repo export FILE, for who must sign too; or ota repo sign --key NAME here\n"
        ),
    )
    waits = ota.ok("repo", "status", "-o", "json").json
    assert waits["waiting"] == [
        {
            "repository": "image",
            "role": "root",
            "signed": ["root-1"],
            "missing": waits["waiting"][0]["missing"],
        }
    ]
    assert waits["waiting"][0]["missing"].startswith("1 of 2 signed; can sign: root-2, root-3")
    early = ota("repo", "apply")
    assert early.code == 6
    assert "code: unsigned\nnext: ota repo sign --key KEYHOLDER\n" in early.err
    ota.ok("repo", "sign", "--key", "root-3")
    done = ota("repo", "apply")
    assert (done.code, done.out, done.err) == (0, "PUBLISHED\nimage\n", "")
    assert ota("repo", "verify").code == 0


def test_a_stranger_signs_nothing(ota: Ota) -> None:
    """A keyholder of another role: exit 4, and the change is untouched."""
    edit(ota, "image.toml", '"root-2"', '"root-4"')
    ota.ok("repo", "change")
    before = ota.files()
    result = ota("repo", "sign", "--key", "targets-1")
    assert (result.code, result.out, result.err) == (
        4,
        "",
        (
            "error: targets-1 holds none of the waiting roles: image root\n"
            "code: key-not-in-role\nnext: ota repo status\n"
        ),
    )
    assert ota.files() == before


def test_a_change_travels_to_a_machine_without_a_store(ota: Ota, tmp_path: Path) -> None:
    """Exported, imported and signed there, and back: the stranger's store is never needed."""
    edit(ota, "image.toml", '"root-2"', '"root-4"')
    ota.ok("repo", "change")
    ota.ok("repo", "sign", "--key", "root-1")
    out, back = tmp_path / "out.json", tmp_path / "back.json"
    assert ota.ok("repo", "export", out, "-o", "json").json["file"] == str(out)
    away = Ota(tmp_path / "away", ota.capsys)
    away.ok("init", away.folder)
    shutil.copytree(ota.folder / "repo-metadata", away.folder / "repo-metadata", dirs_exist_ok=True)
    (away.folder / "keys").mkdir(exist_ok=True)
    shutil.copy(ota.folder / "keys" / "root-3.pem", away.folder / "keys")
    taken = away("repo", "import", out)
    assert (taken.code, taken.err) == (
        0,
        f"image: {REPLACED}\nimage: {UNTIL}\n",
    )
    assert taken.out.startswith("REPOSITORY  ROLE  MISSING\nimage  root  1 of 2 signed; can sign: ")
    signed = away("repo", "sign", "--key", "root-3")
    assert (signed.code, signed.out) == (0, "REPOSITORY  ROLES  MISSING\nimage  root  -\n")
    away.ok("repo", "export", back)
    ota.ok("repo", "import", back)
    assert ota.ok("repo", "publish").out == "PUBLISHED\nimage\n"


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [(None, 2, "not-found"), (b"{}", 2, "malformed"), (b"\xff\x00", 2, "malformed")],
)
def test_importing_what_is_no_change(
    ota: Ota, tmp_path: Path, data: bytes | None, code: int, word: str
) -> None:
    """Missing, empty, foreign: exit 2, nothing waits afterwards."""
    file = tmp_path / "f.json"
    if data is not None:
        file.write_bytes(data)
    before = ota.files()
    result = ota("repo", "import", file)
    assert (result.code, f"code: {word}\n" in result.err) == (code, True)
    assert ota.files() == before


def test_exporting_over_a_file_asks(ota: Ota, tmp_path: Path) -> None:
    """A file that is there is replaced with a yes only; with nothing waiting, nothing is made."""
    file = tmp_path / "f.json"
    assert ota("repo", "export", file).code == 2
    assert not file.exists()
    edit(ota, "image.toml", '"root-2"', '"root-4"')
    ota.ok("repo", "change")
    file.write_text("mine")
    assert ota("repo", "export", file).code == 4
    assert file.read_text() == "mine"
    ota.ok("repo", "export", file, "--yes")
    assert file.read_text() != "mine"


# -- monitoring ------------------------------------------------------------------------------------
def test_fail_within(ota: Ota) -> None:
    """Quiet and exit 0 while all is well; exit 1 and names when something ends or nobody refreshes."""
    well = ota("repo", "status", "--fail-within", "30d", "-o", "json")
    assert (well.code, well.json["expiring"], well.err) == (0, [], "")
    ota.later(days=151)
    ota.ok("repo", "refresh")
    late = ota("repo", "status", "--fail-within", "30d", "-o", "json")
    assert late.code == 1
    assert [(e["repository"], e["name"]) for e in late.json["expiring"]] == [
        ("image", "targets"),
        ("image", "app"),
    ]
    assert late.err == (
        "error: ends within 30d: image targets, image app\ncode: expiring\n"
        "next: ota repo change --renew-within 60d for what people sign, else ota repo refresh\n"
    )
    ota.ok("repo", "change", "--renew-within", "60d")
    ota.ok("repo", "sign", "--key", "targets-1", "--key", "targets-2")
    ota.ok("repo", "publish")
    assert ota("repo", "status", "--fail-within", "30d").code == 0
    ota.later(days=29)
    stopped = ota("repo", "status", "--fail-within", "30d")
    assert stopped.code == 1
    assert "image timestamp" in stopped.err
    assert "director gw-1, director gw-2, director gw-3" in stopped.err


@pytest.mark.parametrize("text", ["soon", "-1d", "30"])
def test_fail_within_nonsense(ota: Ota, text: str) -> None:
    """Exit 2 names the option."""
    result = ota("repo", "status", f"--fail-within={text}")
    assert (result.code, "--fail-within" in result.err) == (2, True)


def test_refresh_twice(ota: Ota) -> None:
    """The second run finds nothing to do and changes nothing."""
    ota.later(days=20)
    ota.ok("repo", "refresh")
    before = ota.files()
    again = ota("repo", "refresh")
    assert (again.code, again.out, again.err) == (0, "image:  not due\ndevices:  0\n", "")
    assert ota.files() == before


def test_a_retired_device_is_not_refreshed(ota: Ota) -> None:
    """Its metadata is left to expire, and monitoring does not miss it."""
    ota.ok("fleet", "retire", "gw-2", "--yes")
    ota.later(days=29)
    assert ota.ok("repo", "refresh", "-o", "json").json == {"image": "refreshed", "devices": 2}
    assert ota("repo", "status", "--fail-within", "1d").code == 0


# -- online keys -----------------------------------------------------------------------------------
def test_rotate_online(ota: Ota) -> None:
    """Exit 6 until the root is signed, then done; run again, nothing is left to do."""
    path = ota.folder / "repo-metadata" / "director.toml"
    path.write_text(path.read_text().replace('["director-online"]', '["director-online-2"]'))
    ota.ok("key", "generate", "director-online-2")
    first = ota("repo", "rotate-online", "director")
    assert first.code == 6
    assert first.err.startswith("1 of 3 devices\n2 of 3 devices\n3 of 3 devices\nerror: ")
    shown = ota("repo", "sign", *DIRECTORS)
    assert (
        "director: timestamp, snapshot, targets: keyholder director-online removed, "
        "director-online-2 added; threshold 1 stays\n"
    ) in shown.err
    done = ota("repo", "rotate-online", "director")
    assert (done.code, done.out) == (0, "REPOSITORY  ROOT  DEVICES\ndirector  2  0\n")
    (ota.folder / "keys" / "director-online.pem").unlink()
    ota.later(days=20)
    assert ota.ok("repo", "refresh", "-o", "json").json["devices"] == 3
    again = ota("repo", "rotate-online", "director")
    assert (again.code, again.out) == (0, "REPOSITORY  ROOT  DEVICES\ndirector  2  0\n")
    assert ota("repo", "verify").code == 0


def test_rotate_online_of_nothing(ota: Ota) -> None:
    """Only image and director have online keys."""
    assert ota("repo", "rotate-online", "targets").code == 2


def test_a_rollout_goes_on_after_a_recovery(ota: Ota, second: Path) -> None:
    """Stolen director key: assignments are withdrawn; paused and resumed, they are handed out."""
    plan, approval = ota.folder.parent / "p.json", ota.folder.parent / "a.json"
    ota.ok("rollout", "plan", second, "--key", "author", "--out", plan)
    ota.ok("rollout", "approve", plan, "--key", "approver", "--out", approval, "--yes")
    ota.ok("rollout", "start", plan, "--approval", approval, "--yes")
    ota.ok("rollout", "step")
    assigned = [d for d in DEVICES if ota.wiring().desk.assignments(d)]
    assert len(assigned) == 1
    path = ota.folder / "repo-metadata" / "director.toml"
    path.write_text(path.read_text().replace('["director-online"]', '["director-online-2"]'))
    ota.ok("key", "generate", "director-online-2")
    assert ota("repo", "recover", "--online", "--only", "director").code == 4
    unsigned = ota("repo", "recover", "--online", "--only", "director", "--yes")
    assert (unsigned.code, "code: unsigned\n" in unsigned.err) == (6, True)
    ota.ok("repo", "sign", *DIRECTORS)
    done = ota("repo", "recover", "--online", "--only", "director", "--yes")
    assert (done.code, done.out) == (0, "REPOSITORY  ROOT  DEVICES\ndirector  2  3\n")
    assert [d for d in DEVICES if ota.wiring().desk.assignments(d)] == []
    name = ota.ok("rollout", "list", "-o", "json").json[0]["rollout"]
    ota.ok("rollout", "pause", name, "--yes")
    ota.ok("rollout", "resume", name, "--yes")
    ota.ok("rollout", "step")
    assert [d for d in DEVICES if ota.wiring().desk.assignments(d)] == assigned


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "either --online or --bump N"),
        (("--online", "--bump", "3"), 2, "either --online or --bump N"),
        (("--bump", "-1", "--yes"), 2, "not between 1 and"),
        (("--online",), 4, "needs a person's yes"),
        (("--online", "--yes"), 4, "nothing was replaced"),
    ],
)
def test_recover_refuses_nonsense(ota: Ota, words: tuple[str, ...], code: int, said: str) -> None:
    """Each with its exit code, and nothing is written."""
    before = ota.files()
    result = ota("repo", "recover", *words)
    assert (result.code, said in result.err) == (code, True), result.err
    assert ota.files() == before


def test_recover_bump(ota: Ota) -> None:
    """A restored store: versions are lifted, people sign, everything verifies."""
    backup = ota.folder.parent / "backup"
    shutil.copytree(ota.folder / "store", backup)
    ota.later(days=20)
    ota.ok("repo", "refresh")
    ota.ok("release", "list")
    shutil.rmtree(ota.folder / "store")
    shutil.copytree(backup, ota.folder / "store")
    assert "code: metadata-rollback\n" in ota("release", "list").err
    done = ota("repo", "recover", "--bump", "10", "--yes", "-o", "json")
    assert (done.code, done.json) == (
        0,
        {"roots": 0, "devices": 3, "waiting": ["targets", "app"]},
    )
    ota.ok("repo", "sign", "--key", "targets-1", "--key", "targets-2")
    ota.ok("repo", "publish")
    assert ota("repo", "verify").code == 0
    assert ota("release", "list").code == 0


# -- a stolen offline key --------------------------------------------------------------------------
def test_suspects(ota: Ota) -> None:
    """Releases after the theft are listed and yanked; those from before stay; devices are named."""
    none = ota("repo", "suspects", "--key", "targets-2", "--since", "2026-11-24T00:00:00Z")
    assert (none.code, none.out) == (0, "")
    found = ota("repo", "suspects", "--key", "targets-2", "--since", "2026-11-20T00:00:00Z",
                "-o", "json").json  # fmt: skip
    assert [s["path"] for s in found["suspects"]] == ["app/app-1.0.0.bin"]
    assert [(d["device"], d["slot"]) for d in found["devices"]] == [(d, "runs") for d in DEVICES]
    ota.later(days=3)
    image = ota.folder.parent / "app-2.bin"
    image.write_bytes(b"app-2")
    ota.ok("release", "add", image, "--component", "app", "--version", "2.0.0",
           "--hardware", HARDWARE, *BOTH)  # fmt: skip
    words = ("repo", "suspects", "--key", "targets-2", "--since", "2026-11-24T00:00:00Z", "--yank")
    before = ota.files()
    assert ota(*words).code == 4
    assert ota.files() == before
    done = ota(*words, "--yes")
    assert done.code == 0
    assert "app/app-2.0.0.bin" in done.out
    ota.ok("repo", "sign", "--key", "targets-1", "--key", "targets-3")
    ota.ok("repo", "publish")
    assert [r["path"] for r in ota.ok("release", "list", "-o", "json").json] == [
        "app/app-1.0.0.bin"
    ]


@pytest.mark.parametrize(
    ("key", "since", "code"),
    [("root-1", "2026-11-24T00:00:00Z", 2), ("nobody", "2026-11-24T00:00:00Z", 2),
     ("targets-1", "yesterday", 2)],
)  # fmt: skip
def test_suspects_of_nobody(ota: Ota, key: str, since: str, code: int) -> None:
    """No keyholder of a component, no key, no time: exit 2."""
    assert ota("repo", "suspects", "--key", key, "--since", since).code == code
