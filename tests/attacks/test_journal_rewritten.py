"""A journal that somebody with the database rewrote: its history says another thing than it did."""

from __future__ import annotations

import sqlite3

import pytest
from simulators.planners import CANARY
from simulators.plant import Plant
from simulators.threats import ONE, honest


def test_journal_rewritten(plant: Plant) -> None:
    """A changed line is found: the rollout moves no more, and says why (exit 3)."""
    rollout = plant.start("two", "2.0.0", CANARY)
    plant.step(rollout)
    plant.wiring.close()
    kept = (plant.workspace / "state" / "registry.db").read_bytes()
    database = sqlite3.connect(plant.workspace / "state" / "registry.db")
    edit = "UPDATE rollout_journal SET line = replace(line, '[\"a\"]', '[\"b\"]')"
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(edit)
    database.execute("DROP TRIGGER rollout_journal_UPDATE")  # an owner of the database can
    assert database.execute(f'{edit} WHERE line LIKE \'%"kind":"order"%\'').rowcount > 0
    database.commit()
    database.close()
    plant.reopen()
    ran = plant.ota("rollout", "run", rollout, "--time-limit", "0s")
    assert ran.returncode == 3, ran.stderr
    assert "journal-broken" in ran.stderr
    listed = plant.ota("rollout", "list", "-o", "csv")
    assert (listed.returncode, f"{rollout},BROKEN," in listed.stdout) == (3, True)
    assert not plant["b"].hinted
    plant["b"].look()
    assert plant["b"].running == ONE
    plant.wiring.close()
    for name in ("registry.db-wal", "registry.db-shm"):
        (plant.workspace / "state" / name).unlink(missing_ok=True)
    (plant.workspace / "state" / "registry.db").write_bytes(kept)  # restored from backup
    plant.reopen()
    honest(plant)
