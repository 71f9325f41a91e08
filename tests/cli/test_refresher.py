"""The refresher as a Lambda function: the same command, an event that says nothing, loud failures."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from ota.cli.refresher import handler
from ota.errors import Misuse, Outage
from tests.cli.conftest import Ota

EVENTS: tuple[Any, ...] = ({}, None, {"args": ["--all"], "workspace": "/etc"}, "--all", b"\xff")


@pytest.fixture
def function(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> Ota:
    """The workspace that the function's environment names."""
    monkeypatch.setenv("OTA_WORKSPACE", str(ota.folder))
    return ota


@pytest.mark.parametrize("event", EVENTS)
def test_whatever_the_event_says_the_same_is_done(function: Ota, event: object) -> None:
    """Nothing due: nothing is signed, whoever asks for more."""
    before = function.files()
    assert handler(event, None) == {"image": "not due", "devices": 0}
    assert function.files() == before


def test_what_is_due_is_signed(function: Ota) -> None:
    """As by the command, which then finds nothing left."""
    function.later(days=20)
    assert handler({}, None) == {"image": "refreshed", "devices": 3}
    again = function.ok("repo", "refresh", "-o", "json")
    assert again.json == {"image": "not due", "devices": 0}


def test_a_run_that_fails_raises(function: Ota) -> None:
    """An alarm on the function's errors then tells; what could be signed is signed."""
    function.later(days=20)
    (function.folder / "store/director/devices/gw-1/timestamp.json").write_bytes(b"{}")
    with pytest.raises(Outage, match="ended with 1"):
        handler({}, None)
    assert "gw-1" in function.capsys.readouterr().err
    held = function.wiring().desk
    assert min(held.state(name).expires for name in ("gw-2", "gw-3")) > function.now


@pytest.mark.parametrize("workspace", ["", "plant", "./plant"])
def test_it_needs_a_workspace(function: Ota, monkeypatch: Any, workspace: str) -> None:
    """Never the folder that the function happens to start in."""
    monkeypatch.setenv("OTA_WORKSPACE", workspace)
    with pytest.raises(Misuse):
        handler({}, None)


def test_a_workspace_that_is_not_mounted_is_an_error(function: Ota) -> None:
    """An empty file system is not a new workspace."""
    shutil.rmtree(function.folder)
    function.folder.mkdir()
    with pytest.raises(Outage):
        handler({}, None)
    assert list(function.folder.iterdir()) == []
