"""A registry's file belongs to SQLite: nobody else opens it, or commits are lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simulators.identities import START, Identity

from ota.fleet.registry import Registry


def test_a_second_registry_of_one_process_takes_no_locks_away(tmp_path: Path) -> None:
    """Opened twice here, then once by another process: what is committed afterwards is there."""
    url = f"sqlite:///{tmp_path}/registry.db"
    first, second = Registry(url), Registry(url)
    count = (
        f"from ota.fleet.registry import Registry; print(len(list(Registry({url!r}).devices())))"
    )

    def elsewhere() -> str:
        words = [sys.executable, "-c", count]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    first.register(Identity("dev-1").enrol(), None, {}, "", START)
    assert elsewhere() == "1"
    first.register(Identity("dev-2").enrol(), None, {}, "", START)
    assert elsewhere() == "2"
    assert [d.id for d in second.devices()] == ["dev-1", "dev-2"]
    first.close()
    second.close()
