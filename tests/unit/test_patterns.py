"""Patterns for values from outside: the same meaning everywhere, and never slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing import patterns
from signing.errors import Malformed

GOOD = {
    "^[a-z]{1,8}$": (("nginx",), ("", "nginx\n", "Nginx", "nginx; reboot", "a" * 9)),
    "^(on|off)$": (("on", "off"), ("onoff", "xon", "offx", "")),
    r"^v\d+(\.\d{1,3}){0,2}$": (("v1", "v1.2.3"), ("v", "v1.", "v1.2.3.4")),
    "^[^/]{1,3}$": (("ab",), ("a/b", "abcd")),
    r"^a\$b$": (("a$b",), ("ab",)),
    "^$": (("",), ("a",)),
}
BAD = {
    "[a-z]+": "reads ^...$",
    "^[a-z]+": "reads ^...$",
    "^a|b$": "escapes the anchors",
    "^(a$": "unbalanced",
    "^a)$": "unbalanced",
    "^(a+)+$": "a group with +",
    "^(a|b)*$": "a group with *",
    "^(a){2,}$": "a group with {2,}",
    "^a*b*c*$": "more than 2",
    "^((((a))))$": "more than 3 deep",
    "^a+?$": "nothing for ? to repeat",
    "^(?i)a$": "(?...)",
    "^(?=a)b$": "(?...)",
    r"^(a)\1$": "not an escape",
    r"^\p{L}$": "not an escape",
    r"^\w\Z$": "not an escape",
    "^a\\$": "not escaped",
    "^[a-z$": "not closed",
    "^[]a]$": "is empty",
    "^[[:alpha:]]$": "differ between engines",
    "^[a&&b]$": "differ between engines",
    "^[z-a]$": "range",
    "^a{3,1}$": "repeat",
    "^a{x$": "must be escaped",
    "^a^b$": "must be escaped",
    "^é$": "printable ASCII",
    "^a\nb$": "printable ASCII",
    "^*$": "nothing for",
    "^" + "a" * 300 + "$": "at most 256",
    "": "reads ^...$",
}
PIECES = (
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    r"\d",
    "(",
    ")",
    "|",
    "?",
    "{0,2}",
    "{2}",
    "{1,3}",
    "*",
    "+",
)


@pytest.mark.parametrize("pattern", GOOD)
def test_a_whole_value_fits_or_not(pattern: str) -> None:
    """What fits fits from end to end: no newline and no second command slips through."""
    fitting, others = GOOD[pattern]
    assert patterns.check(pattern, "p") == pattern
    assert all(patterns.matches(pattern, value) for value in fitting)
    assert not any(patterns.matches(pattern, value) for value in others)


@pytest.mark.parametrize("pattern", BAD)
def test_refused_with_its_reason(pattern: str) -> None:
    """Everything that engines read differently, or that could run for long, has a named error."""
    with pytest.raises(Malformed) as caught:
        patterns.check(pattern, "parameters.x.pattern")
    assert BAD[pattern] in str(caught.value)
    assert str(caught.value).startswith("parameters.x.pattern: ")


@given(st.text(alphabet="ab|()[]{}*+?^$\\.,12-", max_size=24), st.text(max_size=12))
def test_any_text_is_accepted_or_malformed(body: str, value: str) -> None:
    """No text makes the reader crash, and an accepted pattern always answers."""
    try:
        patterns.check(f"^{body}$", "p")
    except Malformed:
        return
    expected = re.fullmatch(body, value, re.ASCII) is not None
    assert patterns.matches(f"^{body}$", value) is expected


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.text(alphabet="ab-1.", max_size=10))
def test_it_means_what_an_ordinary_engine_means(pieces: list[str], value: str) -> None:
    """The same texts fit, as far as an ordinary engine comes to an end."""
    body = "".join(pieces)
    try:
        patterns.check(f"^{body}$", "p")
    except Malformed:
        return
    expected = re.fullmatch(body, value, re.ASCII) is not None
    assert patterns.matches(f"^{body}$", value) is expected


@pytest.mark.parametrize(
    "body",
    [
        "[a-z]*[a-z]*x",
        "([a-z]{1,20} ?){1,20}",
        "a?" * 120 + "b",
        "((a{0,9}){0,9}){0,9}b",
        "(((a{1,9}b?){0,999}c?){0,999}d?){0,999}e",
        "(((a{9999}){9999}){0,9999}b?){9999}",
        "((a|aa|aaa|[a-c]{0,9}){0,99}(a|b)?){0,99}x",
    ],
)
def test_no_value_makes_a_search_long(body: str) -> None:
    """Whoever may choose the longest value there is stops no device with it: years, otherwise."""
    pattern = patterns.check(f"^{body}$", "p")
    begun = time.process_time()
    assert not patterns.matches(pattern, "a" * 511 + "!")
    assert time.process_time() - begun < 2
