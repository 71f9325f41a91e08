"""agent.toml: an agent that is wholly made, or ``Malformed`` that names the file; nothing written."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, mutated, toml

from ota.agent import build, config, feeds
from ota.agent.machine import ThisMachine
from ota.errors import Malformed

DOCUMENT: dict[str, Any] = {
    "device": "press-07",
    "state_dir": "/nowhere/state",
    "store": "https://updates.example/store/",
    "reboot": ["systemctl", "reboot"],
    "security_soak": 3600.0,
    "feed": {"kind": "spool", "path": "/nowhere/spool"},
    "poll": {"interval": 300.0, "jitter": 0.2},
    "limits": {"minimum_rate": 4096, "window": 10.0, "image_total": 60.0},
    "may_install": {"argv": ["true"], "timeout": 10.0},
    "components": {
        "app": {
            "hardware_id": "gw-rev-b",
            "installer": "dir-symlink",
            "options": {"path": "/nowhere/app", "restart": ["true"], "strip": 1},
            "health": {"kind": "http", "url": "http://127.0.0.1:8080/health", "deadline": 60.0},
        },
        "model": {
            "hardware_id": "gw-rev-b",
            "installer": "single-file",
            "options": {"path": "/nowhere/model", "mode": "0644"},
            "health": {"kind": "command", "argv": ["true"], "successes": 2},
            "factory": {"version": "1.0", "release_counter": 3, "path": "model/model-1.bin"},
        },
        "os": {
            "hardware_id": "gw-rev-b",
            "installer": "exec",
            "options": {"argv": ["/nowhere/updater"], "timeout": 20.0, "env": ["VENDOR"]},
            "health": {"kind": "tcp", "host": "127.0.0.1", "port": 22, "start_delay": 1.0},
        },
    },
}
TEXT = toml(DOCUMENT)


def read(data: bytes) -> config.Config | None:
    """Everything that starting an agent makes of it; None when it was refused by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.toml"
        path.write_bytes(data)
        try:
            found = config.load(path)
            made = build.components(found)
            build.trust_room(found, build.downloader(found))
        except Malformed as error:
            assert str(path) in str(error) or "component" in error.subject + str(error), error
            assert error.remedy or error.subject
            return None
        finally:
            assert [p.name for p in Path(folder).iterdir()] == ["agent.toml"]
    assert set(made) == set(found.components)
    feeds.create(found.feed, found.device)
    ThisMachine(found)
    assert timedelta(0) <= timedelta(seconds=found.security_soak)
    limits = found.download_limits()
    assert min(limits.window, limits.connect, limits.read, limits.image_total) > 0
    return found


def test_the_example_is_read() -> None:
    """What the examples begin with is a whole configuration."""
    found = read(TEXT)
    assert found is not None
    assert list(found.components) == ["app", "model", "os"]


@budget(2)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Keys and values of every kind, in every place."""
    read(toml(document))


@budget(1)
@given(damaged(TEXT))
def test_damaged_bytes(data: bytes) -> None:
    """A file that was cut, or edited by accident."""
    read(data)


@budget(0.5)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Anything at all in its place."""
    assert read(data) is None
