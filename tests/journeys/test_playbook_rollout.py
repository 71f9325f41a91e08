"""A playbook in waves behind a gate: real directors, real agents, the outcomes that they sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators import plantplaybooks as playbooks
from simulators.plant import Plant
from simulators.plants import fixtures

from ota.cli.app import run
from ota.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError
from signing import strict
from signing.errors import Refusal
from signing.plan import PlannedPlaybook
from signing.playbooks.run import PlaybookRun

DEVICES = ("a", "b", "c")
NAME = "mark@1.0.0"
WAVES = ({"name": "canary", "devices": ["a"]}, {"name": "rest", "rest": True})


def text(folder: Path, version: str = "1.0.0") -> str:
    """Writes ``word`` into a file; fails where a file ``broken`` lies beside it."""
    return f"""\
name: mark
version: {version}
summary: Leave a mark
platforms: [linux]
parameters:
  word: {{type: string, pattern: "^[a-z;$() ]{{1,20}}$", description: what to write}}
  file: {{type: path, default: {folder}/mark, description: where}}
steps:
  - name: whole
    exec: {{argv: ["test", "!", "-e", "{folder}/broken"]}}
  - name: write
    exec: {{argv: [sh, -c, 'printf %s "$1" >>"$2"', sh, "${{word}}", "${{where}}"]}}
  - name: look
    collect: {{argv: [cat, "${{where}}"]}}
""".replace("  file:", "  where:")


def _make(folder: Path) -> Plant:
    plant = Plant(folder, DEVICES)
    playbooks.publish(plant, text(folder / "floor"))
    (folder / "floor").mkdir()
    return plant


frozen, plant = fixtures(_make)


def mark(plant: Plant) -> str:
    path = plant.folder / "floor" / "mark"
    return path.read_text() if path.exists() else ""


def ota(plant: Plant, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The command line, in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    code = run(["-C", str(plant.workspace), *words])
    return code, *capsys.readouterr()


def states(plant: Plant, rollout: str) -> dict[str, tuple[str, str]]:
    rows = plant.wiring.campaign.runs(rollout, plant.now())
    return {row["device"]: (row["outcome"], row["code"]) for row in rows}


def test_waves_run_it_once_on_each_device(plant: Plant) -> None:
    """Canary, then the rest; every step signed; at the end nothing is ordered any more."""
    rollout = playbooks.start(plant, NAME, {"word": "x"}, WAVES)
    plant.step(rollout)
    plant.look()
    assert (mark(plant), states(plant, rollout)["b"][0]) == ("x", "waiting")
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert mark(plant) == "xxx"
    rows = plant.wiring.campaign.runs(rollout, plant.now())
    assert {row["outcome"] for row in rows} == {"committed"}
    steps = {row["device"]: [(s["name"], s["outcome"]) for s in row["steps"]] for row in rows}
    assert steps["a"] == [("whole", "done"), ("write", "done"), ("look", "done")]
    assert next(r for r in rows if r["device"] == "a")["steps"][2]["output"] == "x"
    assert [plant.wiring.assignments(d) for d in DEVICES] == [{}] * 3
    plant.look()
    assert mark(plant) == "xxx"
    assert plant.damage() == []


def test_values_travel_signed_and_literal(plant: Plant) -> None:
    """What a shell would run stays a word from the command line to the file."""
    rollout = playbooks.start(plant, NAME, {"word": "$(reboot); a"}, [{"name": "one", "count": 1}])
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert mark(plant) == "$(reboot); a"


def test_a_failure_holds_and_the_failed_ones_are_tried_again(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate stops it before the rest; a person goes on; --limit takes just the failed ones."""
    (plant.folder / "floor" / "broken").touch()
    rollout = playbooks.start(plant, NAME, {"word": "x"}, WAVES)
    status = plant.drive(rollout)
    assert (status["state"], status["by_gate"]) == ("HELD", True)
    assert states(plant, rollout)["a"] == ("failed", "exit")
    assert states(plant, rollout)["b"][0] == "waiting"
    with pytest.raises(Misuse) as caught:
        plant.wiring.campaign.rollback(rollout, plant.now())
    assert caught.value.code == "no-way-back"
    (plant.folder / "floor" / "broken").unlink()
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert (mark(plant), states(plant, rollout)["a"]) == ("xx", ("failed", "exit"))
    limit = f"failed:{rollout}"
    words = ("playbook", "run", NAME, "--param", "word=y", "--limit", limit, "--dry-run")
    code, out, _ = ota(plant, capsys, *words, "-o", "json")
    assert (code, json.loads(out)["devices"]) == (0, 1)
    rollout = playbooks.start(plant, NAME, {"word": "y"}, select="id in (a)")
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert mark(plant) == "xxy"


def test_a_held_one_says_what_can_be_done(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """No way back, said before it is approved, while it is held, and by whoever asks for one."""
    (plant.folder / "floor" / "broken").touch()
    data = playbooks.plan(plant, NAME, {"word": "x"}, WAVES)
    path = plant.folder / "plan.json"
    path.write_bytes(data)
    code, out, _ = ota(plant, capsys, "rollout", "show", str(path), "-o", "json")
    warned = [w for w in json.loads(out)["warnings"] if "no way back" in w]
    assert (code, len(warned)) == (0, 1)
    started = plant.wiring.campaign.start(data, [plant.approve(data)], plant.now())
    rollout = str(started["rollout"])
    assert plant.drive(rollout)["state"] == "HELD"
    code, out, _ = ota(plant, capsys, "rollout", "status", rollout, "-o", "json")
    status = json.loads(out)
    assert (code, status["way_back"]) == (0, "none: what was run was run")
    first, second, third = status["next"].replace(", or ", ", then ").split(", then ")
    assert ota(plant, capsys, *first.split()[1:])[0] == 0
    assert second.startswith(f"ota rollout resume {rollout} (")
    code, _, err = ota(plant, capsys, "rollout", "run", rollout)
    assert (code, f"next: {status['next']}\n" in err) == (6, True)
    for words in (("rollback", rollout, "--dry-run"), ("rollback", rollout, "--yes"),
                  ("abort", rollout, "--rollback", "--yes")):  # fmt: skip
        code, out, err = ota(plant, capsys, "rollout", *words)
        assert (code, out, "code: no-way-back\n" in err) == (2, "", True)
        assert f"next: ota rollout abort {rollout} --leave" in err
    assert plant.status(rollout)["state"] == "HELD"
    assert ota(plant, capsys, *third.split()[1:], "--yes")[0] == 0
    assert plant.status(rollout)["state"] == "ABORTED"


def test_pause_withdraws_what_has_not_begun(plant: Plant) -> None:
    """A device that has not looked yet finds nothing; resumed, it runs it."""
    rollout = playbooks.start(plant, NAME, {"word": "x"})
    plant.step(rollout)
    plant["a"].look()
    plant.wiring.campaign.pause(rollout, plant.now())
    plant.look()
    assert mark(plant) == "x"
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert mark(plant) == "xxx"


def test_a_playbook_and_an_update_stand_side_by_side(plant: Plant) -> None:
    """Two rollouts at once, one of a release and one of a playbook, on the same devices."""
    plant.publish(plant.build("1.0.0"))
    first = playbooks.start(plant, NAME, {"word": "x"})
    second = plant.start("app-1", "1.0.0")
    plant.step(first)
    plant.step(second)
    assert {type(a).__name__ for a in plant.wiring.assignments("a").values()} == {
        "Assignment",
        "PlaybookRun",
    }
    plant.look()
    assert plant.drive(first)["state"] == plant.drive(second)["state"] == "COMPLETED"
    assert (mark(plant), set(plant.runs().values())) == ("xxx", {"app 1.0.0"})


def test_one_open_playbook_for_each_device(plant: Plant) -> None:
    """A newer plan leaves out devices that an open one has, and says so."""
    playbooks.start(plant, NAME, {"word": "x"}, select="id in (a,b)")
    plan = plant.wiring.plan(
        json.dumps({"rollout": "two", "playbook": NAME, "parameters": {"word": "y"},
                    "waves": [{"name": "all", "rest": True}]}).encode(), "s")  # fmt: skip
    assert set(plan.rows) == {"c"}
    assert {e.device: e.reason.partition(":")[0] for e in plan.excluded} == {
        "a": "in open rollout",
        "b": "in open rollout",
    }


def test_a_playbook_in_use_is_not_taken_off(plant: Plant) -> None:
    """Not while a rollout is open or a director names it; afterwards it is."""
    rollout = playbooks.start(plant, NAME, {"word": "x"})
    plant.step(rollout)
    with pytest.raises(NotPermitted) as caught:
        plant.wiring.library.yank(NAME, plant.now())
    assert caught.value.code == "in-use"
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.wiring.library.yank(NAME, plant.now()).short == NAME


# -- what can not be planned, approved, or signed ------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({"playbook": "mark@9.9.9"}, NotFound),
        ({"playbook": "mark"}, Malformed),
        ({"parameters": {}}, Malformed),
        ({"parameters": {"word": "A"}}, Malformed),
        ({"parameters": {"word": "x", "extra": "1"}}, Malformed),
        ({"parameters": {"word": "x", "where": "relative"}}, Malformed),
        ({"on_failure": "rollback"}, Malformed),
        ({"clear_denials": True}, Malformed),
        ({"release": "app@1.0.0"}, Malformed),
        ({"select": "id=nobody"}, Malformed),
    ],
    ids=str,
)
def test_what_can_not_be_planned(plant: Plant, words: dict[str, Any], kind: type[OtaError]) -> None:
    """Named before anything is signed."""
    spec = {"rollout": "x", "playbook": NAME, "parameters": {"word": "x"},
            "waves": [{"name": "all", "rest": True}]}  # fmt: skip
    with pytest.raises(kind):
        plant.wiring.plan(json.dumps(spec | words).encode(), "s.yaml")
    assert mark(plant) == ""


Change = Callable[[PlaybookRun], PlaybookRun]
WISHES: dict[str, Change] = {
    "another value": lambda r: msgspec.structs.replace(r, parameters=r.parameters | {"word": "y"}),
    "another text": lambda r: msgspec.structs.replace(r, hashes={"sha256": "0" * 64}),
    "another playbook": lambda r: msgspec.structs.replace(r, path="playbooks/evil-1.json"),
    "another wave": lambda r: msgspec.structs.replace(r, wave=7),
    "for longer": lambda r: msgspec.structs.replace(r, not_after="2099-01-01T00:00:00Z"),
    "another rollout": lambda r: msgspec.structs.replace(r, rollout="other-abcdef"),
}


@pytest.mark.parametrize("wish", WISHES)
def test_the_director_signs_only_what_the_plan_says(plant: Plant, wish: str) -> None:
    """Whatever the operator's program asks for, the approved plan decides (rule 15)."""
    data = playbooks.plan(plant, NAME, {"word": "x"})
    wiring = plant.wiring
    rollout = wiring.campaign.start(data, [plant.approve(data)], plant.now())["rollout"]
    plant.step(rollout)
    run = wiring.assignments("a")["playbooks"]
    assert isinstance(run, PlaybookRun)
    before = plant["a"].director("timestamp.json").read_bytes()
    authorisation = wiring.campaign._engine.authority.authorise(
        wiring.campaign._engine.case(rollout, plant.now()).view, plant.now()
    )
    with pytest.raises(Refusal) as caught:
        wiring.desk.assign(authorisation, "a", WISHES[wish](run), plant.now())
    assert caught.value.code == "outside-plan"
    assert plant["a"].director("timestamp.json").read_bytes() == before


def test_a_plan_of_a_playbook_names_nothing_else() -> None:
    """The typed parts of a plan refuse words that they do not know."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"target": {}, "parameters": {}, "also": 1}, PlannedPlaybook)


def test_a_courier_can_not_start_it_elsewhere(plant: Plant) -> None:
    """The command itself, on a device that was not chosen, and with another value on one that was."""
    rollout = playbooks.start(plant, NAME, {"word": "x"}, select="id in (a)")
    plant.step(rollout)
    elsewhere = plant["b"].process("playbook", "run", NAME)
    assert (elsewhere.returncode, "hint-playbook" in elsewhere.stderr) == (3, True)
    changed = plant["a"].process("playbook", "run", NAME, "--param", "word=y")
    assert (changed.returncode, "hint-playbook" in changed.stderr) == (3, True)
    assert mark(plant) == ""
    assert plant["a"].process("playbook", "run", NAME, "--param", "word=x").returncode == 0
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert mark(plant) == "x"
    assert "hint-playbook" in plant["a"].told()


def test_run_and_status_of_the_command_line(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command plans, approves and starts; the time limit is exit 8; status shows each step."""
    file = str(plant.folder / "plan.json")
    words = ("playbook", "run", NAME, "--param", "word=x", "--out", file)
    code, out, err = ota(plant, capsys, *words, "--wave", "1", "--wave", "rest")
    assert (code, "mark@1.0.0" in out) == (0, True)
    assert f"next: ota rollout approve {file} --key NAME" in err
    _, _, err = ota(plant, capsys, "rollout", "approve", file, "--key", "approver")
    assert "runs mark@1.0.0: Leave a mark" in err
    assert "with word = 'x'" in err
    code, out, _ = ota(plant, capsys, "rollout", "start", file, "-o", "json")
    assert plant.drive(json.loads(out)["rollout"])["state"] == "COMPLETED"
    code, out, _ = ota(plant, capsys, "playbook", "status", "-o", "csv")
    rows = out.splitlines()
    assert (code, rows[0]) == (0, "device,outcome,code,steps,verified")
    assert all(",committed," in row and row.endswith("by the device") for row in rows[1:])
    late = ("--approve", "approver", "--time-limit", "1s")
    code, out, err = ota(plant, capsys, *words, *late)
    assert (code, out.count("pending")) == (8, 3)
    assert "code: still-running" in err


def test_damage_to_the_text_in_the_store_is_found_by_the_operators_too(plant: Plant) -> None:
    """``ota repo verify`` names it."""
    folder = plant.store / "image" / "targets" / "playbooks"
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert [line.partition(": ")[2] for line in plant.damage()] == ["image-mismatch"]
    assert strict.digest(path.read_bytes()) not in path.name
