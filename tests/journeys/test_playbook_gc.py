"""``ota repo gc`` and playbooks: what is listed, ordered or waiting stays; what was yanked goes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators import plantplaybooks as playbooks
from simulators.plant import Plant
from simulators.plants import fixtures

from ota.errors import NotFound, OtaError
from ota.playbook import source
from ota.repositories.gc import Survey
from signing import layout

GRACE = timedelta(days=30)
OLD, NEW = "mark@1.0.0", "mark@2.0.0"


def text(folder: Path, version: str) -> str:
    return f"""\
name: mark
version: {version}
summary: Leave a mark
platforms: [linux]
steps:
  - name: write
    exec: {{argv: [sh, -c, 'printf %s "$1" >>"$2"', sh, "{version} ", "{folder}/mark"]}}
"""


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ("a", "b"))
    playbooks.publish(plant, text(folder, "1.0.0"), text(folder, "2.0.0"))
    return plant


frozen, plant = fixtures(_make)


def texts(plant: Plant) -> set[str]:
    """File names of the playbooks' texts in the store."""
    folder = f"{layout.TARGETS}/playbooks/"
    return {n.rpartition("/")[2].partition(".")[2] for n in plant.wiring.store.list(folder)}


def sign(plant: Plant) -> None:
    for name in playbooks.KEYS:
        plant.wiring.library.sign(name, plant.now())
    plant.wiring.library.publish(plant.now())


def yank(plant: Plant, name: str) -> None:
    plant.wiring.library.yank(name, plant.now())
    sign(plant)


def collect(plant: Plant) -> Survey:
    return plant.wiring.collect(GRACE, dry_run=False)


def month(plant: Plant) -> None:
    """The grace time passes, with a timer that refreshes; a publish makes the past the past."""
    plant.publish(plant.build(f"{plant.now():%m.%d.%H}"))
    collect(plant)
    plant.later(days=31)
    plant.wiring.refresh(every=True)


def ran(plant: Plant) -> str:
    path = plant.folder / "mark"
    return path.read_text() if path.exists() else ""


def test_listed_stay_and_yanked_go_after_the_grace(plant: Plant) -> None:
    """The first run removes neither; a month later the yanked text is gone, the other one runs."""
    yank(plant, OLD)
    collect(plant)
    assert texts(plant) == {"mark-1.0.0.json", "mark-2.0.0.json"}
    month(plant)
    assert any("mark-1.0.0" in name for name in collect(plant).due)
    assert texts(plant) == {"mark-2.0.0.json"}
    assert plant.damage() == []
    rollout = playbooks.start(plant, NEW)
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert ran(plant) == "2.0.0 2.0.0 "
    with pytest.raises(NotFound):
        playbooks.plan(plant, OLD)


def test_a_month_changes_nothing_for_what_is_listed(plant: Plant) -> None:
    """However often it runs, and however old they are."""
    for _ in range(3):
        month(plant)
        collect(plant)
    assert texts(plant) == {"mark-1.0.0.json", "mark-2.0.0.json"}
    assert plant.damage() == []


def test_ordered_stays_until_it_is_withdrawn(plant: Plant) -> None:
    """Taken off by force while an order names it: the device can still read what it was ordered."""
    rollout = playbooks.start(plant, OLD)
    plant.step(rollout)
    path = plant.wiring.library.show(OLD, plant.now()).target.path
    plant.wiring.repositories.change_image(lambda i, p: i.yank(p, path, plant.now()))
    sign(plant)
    month(plant)
    collect(plant)
    assert "mark-1.0.0.json" in texts(plant)
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    collect(plant)
    assert "mark-1.0.0.json" in texts(plant), "the directors' sets before the newest name it"
    for _ in range(2):
        other = playbooks.start(plant, NEW)
        assert plant.drive(other)["state"] == "COMPLETED"
    month(plant)
    collect(plant)
    assert texts(plant) == {"mark-2.0.0.json"}
    assert plant.damage() == []


def test_one_that_waits_again_comes_whole(plant: Plant) -> None:
    """Yanked, collected, signed once more: its text travels with the change and is there again."""
    yank(plant, OLD)
    month(plant)
    collect(plant)
    assert "mark-1.0.0.json" not in texts(plant)
    playbooks.publish(plant, text(plant.folder, "1.0.0"))
    assert "mark-1.0.0.json" in texts(plant)
    assert plant.damage() == []
    rollout = playbooks.start(plant, OLD)
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert ran(plant) == "1.0.0 1.0.0 "


def test_one_that_waits_is_not_collected_meanwhile(plant: Plant) -> None:
    """A change that lists it again keeps the text that still lies there, past its time."""
    yank(plant, OLD)
    month(plant)
    plant.wiring.library.add(source.read(text(plant.folder, "1.0.0").encode()), plant.now())
    collect(plant)
    assert "mark-1.0.0.json" in texts(plant)
    sign(plant)
    assert plant.damage() == []


def test_nobody_reads_a_store_that_lies(plant: Plant) -> None:
    """With a role that does not verify nothing is removed at all."""
    yank(plant, OLD)
    month(plant)
    folder = plant.store / layout.IMAGE
    for path in folder.glob("*.playbooks.json"):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data.replace(b"mark", b"murk"))
    (plant.workspace / "state" / "seen").rename(plant.folder / "seen")
    plant.reopen()
    with pytest.raises(OtaError):
        collect(plant)
    assert texts(plant) == {"mark-1.0.0.json", "mark-2.0.0.json"}
