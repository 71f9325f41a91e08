"""Every rule of trust, and every principle of the IoT Lens, names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from lens import LENS
from rules import RULES

TESTS = Path(__file__).resolve().parent
README = (TESTS.parent / "README.md").read_text()


@cache
def functions(module: str) -> dict[str, str]:
    """Test function -> its docstring, read without running anything."""
    tree = ast.parse((TESTS / f"{module}.py").read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    return {f.name: ast.get_docstring(f) or "" for f in found if f.name.startswith("test_")}


def test_there_are_sixteen() -> None:
    """Numbered without gaps, each with a title, a text and a test."""
    assert list(RULES) == list(range(1, 17))
    assert all(rule.title and rule.text and rule.tests for rule in RULES.values())


@pytest.mark.parametrize("number", RULES)
def test_a_rule_is_held_by_tests_that_exist(number: int) -> None:
    """The module is there, it has the function, and the function states its claim."""
    for test in RULES[number].tests:
        module, _, name = test.partition("::")
        assert name in functions(module), test
        assert functions(module)[name], f"{test} states no claim"


@pytest.mark.parametrize("principle", LENS)
def test_a_principle_is_shown_by_tests_that_exist(principle: str) -> None:
    """The same for the principles of the IoT Lens."""
    for test in LENS[principle].tests:
        module, _, name = test.partition("::")
        assert name in functions(module), test
        assert functions(module)[name], f"{test} states no claim"


def test_no_test_is_skipped() -> None:
    """A test that holds a rule can not be switched off by a mark."""
    words = ("pytest.mark." + "skip", "pytest.mark." + "xfail", "pytest." + "skip(")
    named = {test.partition("::")[0] for rule in RULES.values() for test in rule.tests}
    for module in named:
        text = (TESTS / f"{module}.py").read_text()
        assert not any(word in text for word in words), module


def test_the_readme_names_the_tests_of_each_rule() -> None:
    """One row for each rule; the column of tests is never empty, and its links lead somewhere."""
    section = README.partition("<!-- generated: rules -->\n")[2].partition("<!-- end -->")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines()[2:]]
    assert [row[0] for row in rows] == [str(n) for n in RULES]
    for number, _, held in rows:
        links = re.findall(r"\[`(test_\w+)`\]\((tests/[\w/]+)\.py\)", held)
        named = [f"{path.removeprefix('tests/')}::{name}" for name, path in links]
        assert tuple(named) == RULES[int(number)].tests, number
