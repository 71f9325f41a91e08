"""Every threat and every thief names its tests, and every test of an attack is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from threats import THIEVES, THREATS

from signing.refusals import REFUSALS

TESTS = Path(__file__).resolve().parent
ATTACKS = {path.stem for path in (TESTS / "attacks").glob("test_*.py")}
NAMED = {name: row.files for name, row in [*THREATS.items(), *THIEVES.items()]}


@pytest.mark.parametrize("name", NAMED)
def test_it_is_shown_by_tests_that_exist(name: str) -> None:
    """At least one file, and each is there."""
    assert NAMED[name]
    assert set(NAMED[name]) <= ATTACKS


def test_every_attack_is_named() -> None:
    """A new file in ``tests/attacks/`` belongs to a threat or to a thief."""
    named = {file for files in NAMED.values() for file in files}
    assert named == ATTACKS, "name it in tests/threats.py, then tests/readme_sections.py --write"


def test_one_file_is_one_threat() -> None:
    """A threat has its own file."""
    files = [file for row in THREATS.values() for file in row.files]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("name", THREATS)
def test_the_answer_is_what_the_test_expects(name: str) -> None:
    """Every code in the answer stands in the file, and is a documented one where it accuses."""
    text = "".join((TESTS / "attacks" / f"{f}.py").read_text() for f in THREATS[name].files)
    codes = re.findall(r"`([a-z-]+)`", THREATS[name].answer)
    for code in codes:
        assert f'"{code}"' in text or code in {"malformed", "stale"}, code
    innocent = {"slow", "stale", "image-stale", "withdrawn", "restored", "malformed"}
    assert set(codes) - innocent <= set(REFUSALS)


def test_every_refusal_of_a_device_is_shown() -> None:
    """Each code that the agent or its TUF client may refuse with has an attack that earns it."""
    root = TESTS.parent
    sources = [*(root / "ota" / "agent").rglob("*.py"), *(root / "signing").glob("client*.py")]
    sources += [root / "signing" / name for name in ("bins.py", "distinct.py", "issued.py")]
    raised = {
        code
        for path in sources
        for code in re.findall(r'Refusal\(\s*"([a-z-]+)"', path.read_text())
    }
    shown = "".join((TESTS / "attacks" / f"{file}.py").read_text() for file in ATTACKS)
    elsewhere = {"archive-hostile", "release-malformed"}  # unit tests of archives and of agreement
    assert {code for code in raised if f'"{code}"' not in shown} <= elsewhere
    assert len(raised) > 20
