"""``ota infra``: from values to stacks, checked, and one question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ota.cli.app import run

CAN = ("infra", "can", "--values", "infra.toml")


@pytest.fixture(autouse=True)
def _here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with filled-in values."""
    monkeypatch.chdir(tmp_path)
    assert run(["infra", "values"]) == 0
    Path("infra.toml").write_text(capsys.readouterr().out)


def test_render_writes_every_stack_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The files are what was rendered; one that somebody edited is not lost without a word."""
    assert run(["infra", "render", "--out", "made", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["stack"] for row in rows][:2] == ["roles", "store"]
    texts = {row["stack"]: Path(row["file"]).read_text() for row in rows}
    assert all("111122223333" in text for text in texts.values())
    assert run(["infra", "render", "--stack", "keys"]) == 0
    assert capsys.readouterr().out == texts["keys"]
    assert run(["infra", "render", "--out", "made"]) == 0
    Path("made/keys.yaml").write_text("mine")
    Path("made/roles.yaml").unlink()
    assert run(["infra", "render", "--out", "made"]) == 7
    assert Path("made/keys.yaml").read_text() == "mine"
    assert not Path("made/roles.yaml").exists()
    assert "--replace" in capsys.readouterr().err
    assert run(["infra", "render", "--out", "made", "--replace"]) == 0
    assert Path("made/keys.yaml").read_text() == texts["keys"]


def test_lint_says_nothing_or_what(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped templates pass; a region that does not exist does not."""
    assert run(["infra", "lint", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_one_question(capsys: pytest.CaptureFixture[str]) -> None:
    """Yes is 0 and names the policy, no is 4."""
    own = (*CAN, "device:press-07", "iot:Publish", "topic/ota/press-07/report", "-o", "json")
    assert run(own) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["allowed"]
    assert answer["by"] == "devices: ota-device"
    other = (*CAN, "device:press-07", "iot:Publish", "topic/ota/press-08/report", "-o", "json")
    assert run(other) == 4
    assert not json.loads(capsys.readouterr().out)["allowed"]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("infra", "render", "--values", "none.toml"), 2, "ota infra values > infra.toml"),
        (("infra", "render", "--stack", "nothing"), 2, "one of roles, store"),
        ((*CAN, "somebody", "s3:GetObject", "x"), 2, "publisher, rollout"),
    ],
)
def test_wrong_words(
    words: tuple[str, ...], code: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not there is named, with the next command."""
    assert run(words) == code
    assert named in capsys.readouterr().err


def test_a_value_that_would_widen_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """A wildcard is refused before anything is rendered or written."""
    file = Path("infra.toml")
    file.write_text(file.read_text().replace('things = "press-"', 'things = "*"'))
    assert run(["infra", "render", "--out", "made"]) == 2
    assert "things" in capsys.readouterr().err
    assert not Path("made").exists()
