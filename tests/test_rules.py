"""Every rule of trust names the tests that hold it, and those tests exist."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from rules import RULES, markdown

TESTS = Path(__file__).resolve().parent


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


def test_no_test_is_skipped() -> None:
    """A test that holds a rule can not be switched off by a mark."""
    words = ("pytest.mark." + "skip", "pytest.mark." + "xfail", "pytest." + "skip(")
    named = {test.partition("::")[0] for rule in RULES.values() for test in rule.tests}
    for module in named:
        text = (TESTS / f"{module}.py").read_text()
        assert not any(word in text for word in words), module


def test_as_markdown() -> None:
    """One line for each rule, in order."""
    lines = markdown().splitlines()
    assert [line.partition(".")[0] for line in lines] == [str(n) for n in RULES]
