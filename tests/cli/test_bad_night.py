"""What operators type when it is late: tried first, typed twice, cut off, too much to read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from simulators import lying
from simulators import plantplaybooks as playbooks
from simulators.plant import TREE, Plant

from ota.cli import output
from ota.cli.app import run
from ota.errors import NotPermitted, Outage
from signing import layout, statement, strict
from tests.cli.conftest import BOTH, Ota, component, roots_of
from tests.simulators.identities import Identity


# -- tried first ---------------------------------------------------------------------------------
def test_register_tried_says_the_same_and_keeps_nothing(ota: Ota) -> None:
    """Who would join and who not, by the same rules; then nothing is registered or published."""
    files = []
    for name in ("gw-8", "gw-9"):
        files.append(ota.folder.parent / f"{name}.json")
        enrolment = Identity(name).enrol({"app": component("app-1")}, **roots_of(ota.folder))
        files[-1].write_bytes(enrolment)
    allow = ota.folder.parent / "allow.csv"
    allow.write_text("id\ngw-9\n")
    words = ("fleet", "register", *files, "--allow", allow)
    before = ota.ok("fleet", "list", "-o", "json").json
    store = {n: d for n, d in ota.files().items() if n.startswith("store")}
    tried = ota(*words, "--dry-run")
    assert ota.ok("fleet", "list", "-o", "json").json == before
    assert {n: d for n, d in ota.files().items() if n.startswith("store")} == store
    real = ota(*words)
    assert (tried.code, tried.out) == (real.code, real.out)
    assert tried.err == f"nothing was written\n{real.err}"
    assert (ota.folder / "store/director/devices/gw-9/timestamp.json").exists()


def test_import_tried_finds_what_the_real_one_would(ota: Ota) -> None:
    """An unknown device, another key: the dry run names the row as well, and writes nothing."""
    table = ota.folder.parent / "labels.csv"
    for text, line in (("id,label:site\ngw-1,x\nnobody,x\n", 3), ("id,key\ngw-1,00\n", 2)):
        table.write_text(text)
        tried = ota("fleet", "import", table, "--dry-run")
        assert (tried.code, f"labels.csv:{line}" in tried.err) == (2, True), tried.err
        assert tried.err == ota("fleet", "import", table).err
    table.write_text("id,label:site\ngw-1,x\n")
    assert ota.ok("fleet", "import", table, "--dry-run", "-o", "json").json["written"] is False
    assert ota.ok("fleet", "list", "-l", "site=x", "-o", "json").json == []


def test_yank_tried(ota: Ota, second: Path) -> None:
    """In use or not is said without making a change; the second real yank says that it waits."""
    plan = ota.folder.parent / "plan.json"
    ota.ok("rollout", "plan", second, "--out", plan)
    ota.ok("rollout", "approve", plan, "--key", "approver")
    used = ota("release", "yank", "app@2.0.0", "--dry-run")
    assert (used.code, "code: in-use" in used.err) == (4, True)
    rollout = ota.ok("rollout", "list", "-o", "json").json[0]["rollout"]
    ota.ok("rollout", "abort", rollout, "--leave", "--yes")
    tried = ota.ok("release", "yank", "app@2.0.0", "--dry-run", "-o", "json").json
    assert tried == [{"path": "app/app-2.0.0.bin", "yanked": "dry run"}]
    assert not (ota.folder / "state" / "pending" / "image.json").exists()
    ota.ok("release", "yank", "app@2.0.0", "--yes")
    again = ota.ok("release", "yank", "app@2.0.0", "--yes", *BOTH)
    assert "app@2.0.0: the waiting change takes it off already\n" in again.err
    assert "2.0.0" not in ota.ok("release", "list").out


# -- cut off -------------------------------------------------------------------------------------
def test_interrupted_it_says_what_now(tmp_path: Path) -> None:
    """Ctrl-C in the middle of ``run``: exit 130, one line, and the rollout stands as it did."""
    plant = Plant(tmp_path / "plant", ("a",))
    plant.publish(plant.build("1.0.0"))
    rollout = plant.start("one", "1.0.0")
    plant.wiring.close()
    words = [sys.executable, "-m", "ota", "-C", str(plant.workspace)]
    with subprocess.Popen(
        [*words, "rollout", "run", rollout, "--interval", "60s"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=TREE,
        env={n: v for n, v in os.environ.items() if not n.startswith("OTA_")},
    ) as process:
        assert process.stderr is not None
        assert rollout in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (130, False)
    assert err.endswith("interrupted; the same command again goes on, or begins anew\n")
    plant.reopen()
    assert plant.drive(rollout)["state"] == "COMPLETED"
    plant.wiring.close()


# -- too much to read ----------------------------------------------------------------------------
def test_a_table_of_details_stays_readable() -> None:
    """A thousand bad devices do not push the state off the screen; JSON and CSV keep all of them."""
    bad = {f"d{n:04}": {"outcome": "failed"} for n in range(1000)}
    item = {"state": "HELD", "bad": bad, "stragglers": [*bad], "held_on": dict.fromkeys(bad, "x")}
    table = output.details("table", item)
    assert len(table.splitlines()) < 60
    assert table.startswith("state:")
    assert "... and 950 more: -o json\n" in table
    assert table.count("... and 950 more: -o json") == 3
    for form in ("json", "csv"):
        text = output.details(form, item)
        assert "d0999" in text
        assert "more" not in text


# -- a device that leaves ------------------------------------------------------------------------
TEXT = """\
name: wipe
version: 1.0.0
summary: Destroy the agent's keys and state
platforms: [linux]
roads: [agent]
steps:
  - name: wipe
    wipe: {receipt: /nowhere/receipt.json}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Device ``a`` has an order to wipe itself, which it has not seen."""
    plant = Plant(tmp_path / "plant", ("a",))
    playbooks.publish(plant, TEXT)
    rollout = playbooks.start(plant, "wipe@1.0.0")
    plant.step(rollout)
    return plant


def test_no_machine_inherits_an_order(plant: Plant) -> None:
    """Retired, its orders are withdrawn: whoever takes the name over is not told to wipe itself."""
    (order,) = [a.order for a in plant.wiring.assignments("a").values()]
    assert plant.wiring.leaving.check("a", None) == [order]
    assert plant.wiring.registry.device("a").state == "active"
    exposed = plant.wiring.leaving.leave("a", None, plant.now())
    assert exposed is not None
    assert plant.now() < exposed
    assert plant.wiring.assignments("a") == {}
    assert plant.wiring.leaving.leave("a", None, plant.now()) is None


def test_it_leaves_although_no_store_answers(plant: Plant) -> None:
    """Out of service at once; what stands is said, and the same command withdraws it later."""
    timestamp = plant.store / layout.director_metadata("a", "timestamp.json")
    hidden = timestamp.with_suffix(".hidden")
    timestamp.rename(hidden)
    timestamp.mkdir()
    with pytest.raises(Outage) as caught:
        plant.wiring.leaving.leave("a", None, plant.now())
    assert str(caught.value).startswith("a is retired; what is assigned to it was not withdrawn")
    assert caught.value.remedy == "ota fleet retire a"
    assert plant.wiring.registry.device("a").state == "retired"
    timestamp.rmdir()
    hidden.rename(timestamp)
    plant.reopen()
    assert plant.wiring.leaving.leave("a", None, plant.now()) is not None
    assert plant.wiring.assignments("a") == {}


def test_killed_before_the_orders_were_withdrawn(plant: Plant) -> None:
    """The receipt stands and the order, too: the same command withdraws it, and says that it knew."""
    ((order, rollout),) = [(a.order, a.rollout) for a in plant.wiring.assignments("a").values()]
    device, signer = plant.wiring.registry.device("a"), lying.signer(plant["a"])
    words = {"schema": 1, "device": "a", "state_id": device.state_id, "order": order}
    words |= {"rollout": rollout, "time": strict.stamp(plant.now()), "keyid": device.key.keyid}
    receipt = statement.sign("receipt", words | {"destroyed": []}, signer)
    plant.wiring.registry.retire_with_receipt("a", receipt, plant.now())
    with pytest.raises(NotPermitted) as caught:
        plant.wiring.leaving.leave("a", receipt, plant.now())
    assert caught.value.code == "receipt-again"
    assert plant.wiring.assignments("a") == {}


def test_what_is_known_is_shown_although_no_store_answers(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """The registry's own knowledge of a device does not wait for the director's; exit 1 says so."""
    (plant.store / layout.director_metadata("a", "timestamp.json")).unlink()
    plant.wiring.close()
    capsys.readouterr()
    assert run(["-C", str(plant.workspace), "fleet", "show", "a", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["id"], found["state"], found["assigned"]) == ("a", "active", None)
    assert "code: missing" in err


def test_a_wrong_passphrase_is_said_first(
    plant: Plant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The director's key is needed to withdraw: nothing has changed when it does not open."""
    plant.wiring.close()
    monkeypatch.setenv("OTA_PASSPHRASE_DIRECTOR_ONLINE", "wrong")
    capsys.readouterr()
    assert run(["-C", str(plant.workspace), "fleet", "retire", "a", "--yes"]) == 4
    assert "director-online" in capsys.readouterr().err
    plant.reopen()
    assert plant.wiring.registry.device("a").state == "active"
    assert plant.wiring.assignments("a") != {}
