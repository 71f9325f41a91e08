"""``ota rollout``: the whole of it, each command's entire output and the state it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from ota.cli.rollout import look
from tests.cli.conftest import BOTH, DEVICES, HARDWARE, PASSPHRASE, Ota

Answer = Callable[..., None]

PLANNED = """\
rollout:  app-2-TOKEN
component:  app
created:  2026-11-23T08:00:00Z
expires:  2026-12-23T08:00:00Z
tail until:  2026-11-30T08:00:00Z
on failure:  rollback
devices:  3
way back:  open=3,closed=0,unknown=0
limits:  in_flight=100,batch=50,order_lifetime=7d

images:
PATH  VERSION  RELEASE COUNTER  SECURITY FIX  DEVICES
app/app-2.0.0.bin  2.0.0  1  no  3

waves:
WAVE  NAME  DEVICES  COURIERS  SOAK  DEADLINE
1  canary  1  spool  0s  1h
2  rest  2  spool  0s  1h
"""


@pytest.fixture
def plan(ota: Ota, second: Path) -> Path:
    """A signed plan of 2.0.0 in two waves."""
    file = ota.folder.parent / "plan.json"
    ota.ok("rollout", "plan", second, "--out", file)
    return file


@pytest.fixture
def running(ota: Ota, plan: Path) -> str:
    """The rollout, approved and started; its id."""
    ota.ok("rollout", "approve", plan, "--key", "approver")
    ota.ok("rollout", "start", plan)
    return str(ota.ok("rollout", "list", "-o", "json").json[0]["rollout"])


def assigned(ota: Ota) -> dict[str, list[str]]:
    """Device -> paths that its director assigns."""
    wiring = ota.wiring()
    found = {d: [a.path for a in wiring.desk.assignments(d).values()] for d in DEVICES}
    wiring.close()
    return found


def state(ota: Ota) -> str:
    return str(ota.ok("rollout", "list", "-o", "json").json[0]["state"])


def test_plan_shows_what_it_signed(ota: Ota, second: Path) -> None:
    """A plan prints its waves and its way back, and writes one signed file."""
    file = ota.folder.parent / "plan.json"
    result = ota("rollout", "plan", second, "--out", file)
    assert (result.code, result.out) == (0, PLANNED)
    assert result.err == "next: ota rollout approve TMP/plan.json --key NAME\n"
    shown = ota("rollout", "show", file)
    assert (shown.code, shown.out, shown.err) == (0, PLANNED, "")
    assert ota.ok("rollout", "list").out == (
        "ROLLOUT  STATE  COMPONENT  RELEASES  WAVE  COMMITTED  DEVICES  AGE\n"
    )


def test_dry_plan_writes_nothing(ota: Ota, second: Path) -> None:
    """``plan --dry-run`` shows the same and leaves no file."""
    file = ota.folder.parent / "plan.json"
    result = ota("rollout", "plan", second, "--out", file, "--dry-run")
    assert (result.code, result.out, result.err) == (0, PLANNED, "nothing was signed\n")
    assert not file.exists()


def test_plan_takes_in_what_devices_sent(
    ota: Ota, plan: Path, second: Path, answer: Answer
) -> None:
    """A plan freezes what devices run by their newest report, not by the last step's."""
    ota("rollout", "approve", plan, "--key", "approver")
    ota("rollout", "start", plan)
    ota("rollout", "step")
    answer("committed")
    before = [d.counter for d in ota.wiring().registry.devices()]
    assert "1 already runs it" in ota("rollout", "plan", second, "--dry-run").err
    assert sum(d.counter for d in ota.wiring().registry.devices()) == sum(before) + 1
    assert not list((ota.folder / "spool").glob("gw-*/reports/*.json"))


def test_plan_to_completion(ota: Ota, plan: Path, answer: Answer) -> None:
    """Approved, started, and run in two waves until every device has committed."""
    approved = ota("rollout", "approve", plan, "--key", "approver")
    assert (approved.code, approved.out, approved.err) == (
        0,
        "rollout:  app-2-TOKEN\nstate:  APPROVED\napprovals:  1\nmissing:  -\n",
        "app-2-TOKEN: 3 devices in waves: canary 1, rest 2\nnext: ota rollout start TMP/plan.json\n",
    )
    started = ota("rollout", "start", plan)
    assert (started.code, started.out, started.err) == (
        0,
        "rollout:  app-2-TOKEN\nstate:  RUNNING\ndevices:  3\nnext:  ota rollout run app-2-TOKEN\n",
        "",
    )
    first = ota("rollout", "step")
    assert (first.code, first.out, first.err) == (
        0,
        (
            "ROLLOUT  STATE  DECISION  ORDERS  REASONS\n"
            "app-2-TOKEN  RUNNING  WAIT  ota-app-2-TOKEN-u1-w0-b0  1 of 1 devices have no outcome yet\n"
        ),
        "",
    )
    assert sorted(map(len, assigned(ota).values())) == [0, 0, 1]
    answer()
    ota.ok("rollout", "step")
    answer()
    done = ota("rollout", "run", "--time-limit", "0s")
    assert (done.code, done.out, done.err) == (
        0,
        (
            "rollout:  app-2-TOKEN\nstate:  COMPLETED\ndevices:  3\n"
            "reasons:  3 of 3 devices committed\n"
        ),
        "app-2-TOKEN COMPLETED: canary 1/1 committed; rest 2/2 committed\n",
    )
    listed = ota("rollout", "list")
    assert listed.out == (
        "ROLLOUT  STATE  COMPONENT  RELEASES  WAVE  COMMITTED  DEVICES  AGE\n"
        "app-2-TOKEN  COMPLETED  app  app@2.0.0  2/2  3  3  0\n"
    )


def test_status_counts_what_devices_signed(ota: Ota, running: str, answer: Answer) -> None:
    """``status`` shows each wave's counts and the age of the last step."""
    ota.ok("rollout", "step")
    answer()
    ota.ok("rollout", "step")
    ota.later(seconds=90)
    result = ota("rollout", "status")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "rollout:  app-2-TOKEN\n"
        "state:  RUNNING\n"
        "next:  ota rollout run app-2-TOKEN\n"
        "component:  app\n"
        "releases:  app@2.0.0\n"
        "wave:  2 of 2\n"
        "devices:  3\n"
        "created:  2026-11-23T08:00:00Z\n"
        "changed:  2026-11-23T08:00:00Z\n"
        "last step:  2026-11-23T08:00:00Z\n"
        "last step age:  1m30s\n"
        "tail until:  2026-11-30T08:00:00Z\n"
        "in flight:  2\n"
        "approvals:  1\n"
        "events:  10\n"
        "\n"
        "waves:\n"
        "NAME  STATE  SIZE  COMMITTED  IN PROGRESS  PENDING  FAILED  REVERTED  REFUSED  STALE  "
        "UNREACHABLE  SILENT\n"
        "canary  done  1  1  0  0  0  0  0  0  0  0\n"
        "rest  running  2  0  0  2  0  0  0  0  0  0\n"
    )


def test_silent_engine_is_an_error(ota: Ota, running: str) -> None:
    """``status --max-age`` exits 1 when nobody stepped a running rollout for longer."""
    never = ota("rollout", "status", running, "--max-age", "1m")
    assert (never.code, never.err) == (
        1,
        (
            "error: app-2-TOKEN: never stepped\ncode: engine-silent\n"
            "next: ota rollout run app-2-TOKEN\n"
        ),
    )
    ota.ok("rollout", "step")
    assert ota("rollout", "status", "--max-age", "1m").code == 0
    ota.later(minutes=2)
    late = ota("rollout", "status", "--max-age", "1m")
    assert (late.code, late.err) == (
        1,
        (
            "error: app-2-TOKEN: last stepped 120 s ago\ncode: engine-silent\n"
            "next: ota rollout run app-2-TOKEN\n"
        ),
    )


def test_watch_tells_changes_and_ends_with_the_rollout(
    ota: Ota, running: str, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``status --watch``: one line a change, the counts of the end on stdout, exit 0."""
    moves = [lambda: ota.wiring().campaign.step(running, ota.now), lambda: None, answer] * 4
    moves += [lambda: ota.wiring().campaign.step(running, ota.now)]

    def sleep(_seconds: float) -> None:
        moves.pop(0)()
        ota.later(seconds=1)

    monkeypatch.setattr(look.time, "sleep", sleep)
    watched = ota("rollout", "status", "--watch")
    assert watched.code == 0
    lines = watched.err.splitlines()
    assert lines[0] == "app-2-TOKEN RUNNING: canary 0/1 committed (never stepped)"
    assert len(lines) == len({line.partition(" (")[0] for line in lines})
    assert "state:  COMPLETED\n" in watched.out
    assert not moves or state(ota) == "COMPLETED"


def test_watch_ends_when_nobody_steps(
    ota: Ota, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``status --watch --max-age``: exit 1 as soon as the last step is too long ago."""
    ota.ok("rollout", "step")
    monkeypatch.setattr(look.time, "sleep", lambda _seconds: ota.later(seconds=20))
    late = ota("rollout", "status", "--watch", "--max-age", "1m")
    assert late.code == 1
    assert "last stepped 80 s ago\ncode: engine-silent\n" in late.err


def test_run_ends_at_its_time_limit(ota: Ota, running: str) -> None:
    """Exit 8 when the time limit comes first; the order stands and nothing is lost."""
    result = ota("rollout", "run", "--time-limit", "0s")
    assert (result.code, result.out) == (8, "")
    assert result.err == (
        "app-2-TOKEN RUNNING: canary 0/1 committed\n"
        "error: app-2-TOKEN is still RUNNING after 0 s\n"
        "code: still-running\n"
        "next: ota rollout run app-2-TOKEN\n"
    )
    assert sorted(map(len, assigned(ota).values())) == [0, 0, 1]


def test_bad_release_is_taken_back_by_the_gate(ota: Ota, running: str, answer: Answer) -> None:
    """A canary that reverted stops the rollout: exit 5, and nobody else was touched."""
    ota.ok("rollout", "step")
    answer("reverted", code="unhealthy")
    result = ota("rollout", "run", "--time-limit", "0s")
    assert (result.code, result.out) == (5, "")
    assert "error: app-2-TOKEN is ROLLED_BACK: " in result.err
    assert "code: gate\n" in result.err
    assert state(ota) == "ROLLED_BACK"
    assert assigned(ota) == {device: [] for device in DEVICES}


def test_pause_withdraws_and_resume_goes_on(ota: Ota, running: str, answer: Answer) -> None:
    """``pause`` takes back what nobody activated; run says 6; ``resume`` sends it again."""
    ota.ok("rollout", "step")
    paused = ota("rollout", "pause", "--all")
    assert (paused.code, paused.out) == (
        0,
        "ROLLOUT  STATE  DECISION  ORDERS  REASONS\napp-2-TOKEN  PAUSED  WAIT  -  paused\n",
    )
    assert assigned(ota) == {device: [] for device in DEVICES}
    waiting = ota("rollout", "run", "--time-limit", "0s")
    assert waiting.code == 6
    assert "error: app-2-TOKEN is PAUSED: paused\ncode: needs-human\n" in waiting.err
    resumed = ota("rollout", "resume", running)
    assert (resumed.code, resumed.out) == (
        0,
        "rollout:  app-2-TOKEN\nstate:  RUNNING\naccepted:  -\nnext:  ota rollout run app-2-TOKEN\n",
    )


def test_pause_may_leave_assignments(ota: Ota, running: str, answer: Answer) -> None:
    """``pause --all --keep``: no new orders, and what was ordered stands and still counts."""
    ota.ok("rollout", "step")
    before = assigned(ota)
    assert sum(map(len, before.values())) == 1
    assert "PAUSED" in ota.ok("rollout", "pause", "--all", "--keep").out
    assert assigned(ota) == before
    answer("committed", *(d for d, paths in before.items() if paths))
    ota.ok("rollout", "step")
    waves = ota.ok("rollout", "status", running, "-o", "json").json["waves"]
    assert [wave["committed"] for wave in waves] == [1, 0]
    assert assigned(ota) == before
    assert state(ota) == "PAUSED"


def test_rollback_goes_to_the_frozen_release(ota: Ota, running: str, answer: Answer) -> None:
    """``rollback`` names, for exactly the devices that took 2.0.0, what they ran before."""
    ota.ok("rollout", "step")
    answer()
    ota.ok("rollout", "step")
    took = [d for d, paths in assigned(ota).items() if paths]
    dry = ota("rollout", "rollback", running, "--dry-run", "-o", "json")
    assert len(dry.json["eligible"]) == 1
    asked = ota("rollout", "rollback", running)
    assert (asked.code, asked.err) == (
        4,
        (
            "error: app-2-TOKEN: devices will be sent back: needs a person's yes\n"
            "code: unconfirmed\nnext: the same command with --yes\n"
        ),
    )
    assert state(ota) == "RUNNING"
    result = ota("rollout", "rollback", running, "--yes")
    assert result.code == 0
    assert "app-2-TOKEN  ROLLING_BACK  WAIT" in result.out
    back = dry.json["eligible"][0]
    assert back in took
    assert assigned(ota)[back] == ["app/app-1.0.0.bin"]
    answer("committed", back)
    assert ota("rollout", "run", running, "--time-limit", "0s").code == 0
    assert state(ota) == "ROLLED_BACK"


@pytest.mark.parametrize("mode", ["--leave", "--rollback"])
def test_abort_needs_to_know_what_becomes_of_devices(ota: Ota, running: str, mode: str) -> None:
    """``abort`` asks which of two ends, and for a yes."""
    neither = ota("rollout", "abort", running)
    assert (neither.code, neither.err) == (
        2,
        "error: say one of --leave and --rollback\ncode: usage\nnext: ota rollout abort --help\n",
    )
    assert ota("rollout", "abort", running, mode).code == 4
    assert state(ota) == "RUNNING"
    assert ota("rollout", "abort", running, mode, "--yes").code == 0
    assert state(ota) in {"ABORTED", "ROLLED_BACK", "ROLLING_BACK"}


def test_history_is_the_journal(ota: Ota, running: str) -> None:
    """``history`` prints every event in order."""
    rows = ota.ok("rollout", "history", running, "-o", "json").json
    assert [row["kind"] for row in rows] == ["drafted", "approval", "approved", "started"]
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    table = ota.ok("rollout", "history", running)
    assert table.out.splitlines()[0] == "VERSION  TIME  KIND  BODY"
    assert len(table.out.splitlines()) == 5


def test_history_of_an_edited_journal_is_refused(ota: Ota, running: str) -> None:
    """A row changed in the database is named, with exit 3."""
    import sqlite3  # noqa: PLC0415 - the thief's tool

    with sqlite3.connect(ota.folder / "state" / "registry.db") as db:
        tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        journal = next(t for t in tables if "event" in t or "journal" in t)
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall()
        for (name,) in triggers:
            db.execute(f'DROP TRIGGER "{name}"')
        columns = [r[1] for r in db.execute(f'PRAGMA table_info("{journal}")')]
        line = next(c for c in columns if c in {"line", "body", "text"})
        db.execute(f"UPDATE {journal} SET {line} = replace({line}, 'started', 'paused')")  # noqa: S608
    result = ota("rollout", "history", running)
    assert (result.code, result.out) == (3, "")
    assert "code: journal-broken\n" in result.err


def test_approval_of_another_machine_starts_it(ota: Ota, plan: Path) -> None:
    """``approve --out`` only writes a file; ``start --approval`` brings it."""
    file = ota.folder.parent / "approval.json"
    result = ota("rollout", "approve", plan, "--key", "approver", "--out", file)
    assert (result.code, result.out) == (
        0,
        "rollout:  app-2-TOKEN\napproval:  TMP/approval.json\nexpires:  2026-12-23T08:00:00Z\n",
    )
    unapproved = ota("rollout", "start", plan)
    assert (unapproved.code, unapproved.err) == (
        6,
        (
            "error: 0 of 1 approvals\nwhat: app-2-TOKEN\ncode: unapproved\n"
            "next: ota rollout approve PLAN --key KEY\n"
        ),
    )
    assert ota.ok("rollout", "list", "-o", "json").json == []
    assert ota("rollout", "start", plan, "--approval", file).code == 0
    assert state(ota) == "RUNNING"


def test_signatures_that_would_not_count_are_not_made(ota: Ota, second: Path, plan: Path) -> None:
    """A plan by no author, an approval by no approver: exit 4 at once, and no file."""
    file = ota.folder.parent / "other.json"
    words = ("rollout", "plan", second, "--key", "approver", "--out", file)
    assert (ota(*words).code, file.exists()) == (4, False)
    words = ("rollout", "approve", plan, "--key", "root-1", "--out", file)
    result = ota(*words)
    assert (result.code, file.exists()) == (4, False)
    assert "root-1 is no approver: rollout.toml names approver\n" in result.err
    assert "code: approver-unlisted\nnext: ota rollout approve PLAN --key approver\n" in result.err


def test_an_approver_at_a_terminal_is_asked(
    ota: Ota, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waves and warnings are shown first; a no, and nothing is signed or drafted."""

    def no(text: str, **_: object) -> bool:
        assert text.startswith("approve app-2-")
        raise typer.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", no)
    result = ota("rollout", "approve", plan, "--key", "approver")
    assert result.code == 1
    assert "3 devices in waves: canary 1, rest 2" in result.err
    assert ota.ok("rollout", "list", "-o", "json").json == []


def test_author_can_not_approve(ota: Ota, plan: Path) -> None:
    """The author's own approval is refused: exit 4, and nothing is drafted."""
    result = ota("rollout", "approve", plan, "--key", "author")
    assert result.code == 4
    assert ota.ok("rollout", "list", "-o", "json").json == []


def test_changed_plan_is_refused(ota: Ota, plan: Path) -> None:
    """One changed byte of the payload: exit 3 (or 2 when it is not even JSON), nothing written."""
    data = plan.read_bytes()
    at = data.index(b'"payload":"') + 200
    plan.write_bytes(data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :])
    result = ota("rollout", "approve", plan, "--key", "approver")
    assert result.code in {3, 4}
    assert ota.ok("rollout", "list", "-o", "json").json == []


def test_release_of_an_open_rollout_can_not_be_yanked(ota: Ota, running: str) -> None:
    """Neither the release nor the way back can be taken off while a rollout is open (rule 9)."""
    for name in ("app@2.0.0", "app@1.0.0"):
        result = ota("release", "yank", name, "--yes")
        assert result.code == 4
        assert "code: in-use\n" in result.err
    assert not (ota.folder / "state" / "pending" / "image.json").exists()


def test_second_engine_waits(ota: Ota, running: str) -> None:
    """Another engine holds the workspace: exit 7, and no order is made."""
    from ota.rollout import lock  # noqa: PLC0415 - the other operator

    with lock.held(ota.folder / "state" / ".engine.lock"):
        result = ota("rollout", "step")
    assert (result.code, result.out) == (7, "")
    assert "code: busy\n" in result.err
    assert assigned(ota) == {device: [] for device in DEVICES}


def test_wrong_passphrase_is_told_before_anything_moves(
    ota: Ota, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The director's key does not open: exit 4, no event, no order."""
    events = ota.ok("rollout", "history", running, "-o", "json").json
    monkeypatch.setenv("OTA_PASSPHRASE_DIRECTOR_ONLINE", "wrong")
    result = ota("rollout", "step")
    assert (result.code, result.out) == (4, "")
    assert result.err == (
        "error: the passphrase does not open WS/keys/director-online.pem\n"
        "code: passphrase\n"
        "next: try again; there is no way to recover a forgotten passphrase\n"
    )
    monkeypatch.delenv("OTA_PASSPHRASE_DIRECTOR_ONLINE")
    assert ota.ok("rollout", "history", running, "-o", "json").json == events


BAD: list[tuple[str, list[str], int, str]] = [
    ("no spec", ["plan", "nothing.yaml"], 2, "not-found"),
    ("no plan", ["start", "nothing.json"], 2, "not-found"),
    ("show no plan", ["show", "nothing.json"], 2, "not-found"),
    ("approve no plan", ["approve", "nothing.json", "--key", "approver"], 2, "not-found"),
    ("approve without key", ["approve", "nothing.json"], 2, "usage"),
    ("no such rollout", ["status", "app-9-aaaaaa"], 2, "not-found"),
    ("nothing open", ["status"], 2, "usage"),
    ("nothing to run", ["run"], 2, "usage"),
    ("nothing to pause", ["pause"], 2, "usage"),
    ("pause both", ["pause", "x", "--all"], 2, "usage"),
    ("resume nothing", ["resume", "app-9-aaaaaa"], 2, "not-found"),
    ("abort nothing", ["abort", "app-9-aaaaaa", "--leave", "--yes"], 2, "not-found"),
    ("rollback nothing", ["rollback", "app-9-aaaaaa", "--yes"], 2, "not-found"),
    ("history of nothing", ["history", "app-9-aaaaaa"], 2, "not-found"),
    ("step nothing", ["step", "app-9-aaaaaa"], 2, "not-found"),
    ("time limit", ["run", "x", "--time-limit", "soon"], 2, "malformed"),
    ("interval", ["run", "x", "--interval", "1.5s"], 2, "malformed"),
    ("age", ["status", "x", "--max-age", "-1s"], 2, "malformed"),
    ("until", ["run", "x", "--until", "never"], 2, "usage"),
]


@pytest.mark.parametrize(("words", "code", "name"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input(ota: Ota, words: list[str], code: int, name: str) -> None:
    """Every malformed call is a named error with a next step, and changes nothing."""
    before = ota.files()
    result = ota("rollout", *words)
    assert (result.code, result.out) == (code, "")
    lines = result.err.splitlines()
    assert lines[0].startswith("error: ")
    assert f"code: {name}" in lines
    assert lines[-1].startswith("next: ")
    assert before.items() <= ota.files().items()


SPECS: list[tuple[str, str, str]] = [
    ("not YAML", "a: [", "malformed"),
    ("no release", "rollout: a\nwaves: [{name: a, rest: true}]\n", "malformed"),
    ("unknown key", "rollout: a\nrelease: app@2.0.0\nwavez: []\n", "malformed"),
    ("no such release", "rollout: a\nrelease: app@9\nwaves: [{name: a, rest: true}]\n", "not-found"),
    ("all excluded", "rollout: a\nrelease: app@1.0.0\nwaves: [{name: a, rest: true}]\n", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), [s[1:] for s in SPECS], ids=[s[0] for s in SPECS])
def test_bad_spec(ota: Ota, text: str, name: str) -> None:
    """A spec that can not work is named with its file; no plan is written."""
    spec, out = ota.folder.parent / "bad.yaml", ota.folder.parent / "plan.json"
    spec.write_text(text)
    result = ota("rollout", "plan", spec, "--out", out)
    assert (result.code, result.out) == (2, "")
    assert f"code: {name}\n" in result.err
    assert "bad.yaml" in result.err
    assert not out.exists()


def test_security_fix_warns_that_the_way_back_closes(ota: Ota) -> None:
    """Approving a security fix says that there is no way back from it."""
    image = ota.folder.parent / "fix.bin"
    image.write_bytes(b"fix")
    ota.ok("release", "add", image, "--component", "app", "--version", "1.0.1",
           "--hardware", HARDWARE, "--security-fix", *BOTH)  # fmt: skip
    spec = ota.folder.parent / "fix.yaml"
    spec.write_text("rollout: fix\nrelease: app@1.0.1\nwaves: [{name: all, rest: true}]\n")
    plan = ota.folder.parent / "fix.json"
    found: Any = ota.ok("rollout", "plan", spec, "--out", plan, "-o", "json").json
    assert found["way_back"] == {"open": 0, "closed": 3, "unknown": 0}
    result = ota.ok("rollout", "approve", plan, "--key", "approver")
    assert "warning: 3 of 3 devices have no way back: a security fix\n" in result.err
    assert PASSPHRASE not in result.err + result.out


def test_tidy_asks_and_has_nothing_to_do_for_files(ota: Ota, running: str) -> None:
    """The spool keeps no books: nothing is left to remove. Without a person's yes it does nothing."""
    refused = ota("rollout", "tidy")
    assert (refused.code, refused.out) == (4, "")
    assert "jobs of rollouts that ended more than 7d ago will be removed" in refused.err
    done = ota.ok("rollout", "tidy", "--older-than", "0s", "--yes")
    assert (done.out, done.err) == ("ROLLOUT  STATE  REMOVED\n", "")
