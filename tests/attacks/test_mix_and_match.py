"""Mix-and-match: files that were each signed, put together as they never were together."""

from __future__ import annotations

import pytest
from simulators.plant import Plant
from simulators.thief import newest, put
from simulators.threats import before, files, news, threat

from signing.layout import IMAGE

OLDER = ("director snapshot", "director targets", "image snapshot", "image targets", "image app")


@pytest.mark.parametrize("what", OLDER)
def test_an_older_file_under_a_newer_name(plant: Plant, what: str) -> None:
    """Every file is listed by its parent with version, length and hash."""
    news(plant)
    file = files(plant)[what]
    number, _, rest = file.name.partition(".")
    older = file.with_name(f"{int(number) - 1}.{rest}").read_bytes()
    codes = ("metadata-mismatch", "oversize")
    with threat(plant, *codes, unseen=True, keeps=before(what)):
        put(file, older)


def test_one_repositorys_files_in_the_other(plant: Plant) -> None:
    """Snapshots and targets of both repositories exchanged: neither is what was listed."""
    news(plant)
    with threat(plant, "metadata-mismatch", "oversize", unseen=True):
        for role in ("snapshot", "targets"):
            ours = newest(plant["a"].director(""), role)
            theirs = newest(plant.store / IMAGE, role)
            one, other = ours.read_bytes(), theirs.read_bytes()
            put(ours, other)
            put(theirs, one)


def test_yesterdays_set_under_todays_timestamp(plant: Plant) -> None:
    """A whole older set, consistent in itself, is not what the newest timestamp lists."""
    folder = plant["a"].director("")
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "timestamp.json"}
    news(plant)
    with threat(plant, "missing", event="outage", unseen=True):
        for path in folder.iterdir():
            if path.name not in kept and path.name != "timestamp.json":
                path.unlink()
