"""Hints: an order's name for this device, or a refusal; a feed full of anything still works."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated

from ota.agent import hints
from ota.agent.feeds.spool import SpoolFeed
from ota.couriers.spool import Spool
from ota.errors import Refusal
from signing import strict

DEVICE = "press-07"
BODY = {
    "schema": 1,
    "device": DEVICE,
    "order": "ota-app-2-x7k2m9-u1-w0-b0",
    "rollout": "app-2-x7k2m9",
}
HINT = json.dumps(BODY).encode()
NAMES = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1, max_size=40)


def judged(data: bytes) -> hints.Body | None:
    """The hint, or None for a refusal with its own code."""
    try:
        found = hints.read(data, DEVICE)
    except Refusal as refusal:
        assert refusal.code in {"hint-malformed", "hint-wrong-device"}
        return None
    assert found.device == DEVICE
    return found


@budget(1.5)
@given(mutated(BODY))
def test_mutated(body: Any) -> None:
    """Whatever a courier writes: a hint for this device, word for word, or a refusal."""
    written = dumps(body)
    found = judged(written)
    if found is not None:
        assert found.order == json.loads(written)["order"]


@budget(1)
@given(damaged(HINT) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """Cut, flipped, or not a hint at all."""
    judged(data)


@budget(0.5)
@given(st.dictionaries(NAMES, damaged(HINT) | st.just(HINT), max_size=5))
def test_a_folder_of_anything(files: dict[str, bytes]) -> None:
    """Every file of the orders' folder is taken once: gone when it was a hint, else set aside."""
    with tempfile.TemporaryDirectory() as folder:
        orders = Path(folder) / "orders"
        orders.mkdir()
        for name, data in files.items():
            if name not in {".", ".."}:
                (orders / name).write_bytes(data)
        feed = SpoolFeed(Path(folder), DEVICE)
        visible = [n for n in os.listdir(orders) if not n.startswith(".")]  # noqa: PTH208 - names
        kept = 0
        for _ in visible:
            hint = feed.next(0)
            assert hint is not None
            kept += judged(hint.data) is None
            feed.done(hint)
        assert feed.next(0) is None
        quarantine = Path(folder) / "quarantine"
        aside = list(quarantine.iterdir()) if quarantine.exists() else []
        assert len([p for p in aside if p.suffix == ".reason"]) == kept
        assert len(aside) == 2 * kept


@budget(0.5)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.binary(max_size=60), max_size=3)))
def test_a_spool_of_anything(tree: dict[str, dict[str, bytes]]) -> None:
    """The operator's side: no foreign file is returned, believed or lost."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "spool"
        written = 0
        for name, files in tree.items():
            if name.startswith("."):
                continue
            (root / name / "reports").mkdir(parents=True)
            for file, data in files.items():
                if not file.startswith("."):
                    (root / name / "reports" / file).write_bytes(data)
                    written += 1
        spool = Spool(root)
        for delivery in spool.collect(1000):
            name = delivery.source.rpartition("/")[2]
            assert strict.digest(delivery.data)[:8] in name
            spool.acknowledge([delivery])
            written -= 1
        assert list(spool.collect(1000)) == []
        aside = [p for p in (root / ".quarantine").rglob("*") if p.is_file()]
        assert len([p for p in aside if p.suffix != ".reason"]) == written
