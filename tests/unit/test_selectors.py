"""Label selectors: the Kubernetes syntax, and errors that point at the column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.errors import Malformed
from ota.fleet.selectors import MAX_LENGTH, parse

DEVICE = {"site": "lyon", "line": "a", "empty": "", "acme.io/cell": "c-7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("   ", True),
        ("site=lyon", True),
        ("site==lyon", True),
        ("site = paris", False),
        ("site!=paris", True),
        ("site!=lyon", False),
        ("absent!=x", True),
        ("absent=x", False),
        ("line in (a,b)", True),
        ("line in ( b , c )", False),
        ("line notin (b)", True),
        ("line notin (a,b)", False),
        ("absent notin (a)", True),
        ("absent in (a)", False),
        ("site", True),
        ("absent", False),
        ("!absent", True),
        ("! site", False),
        ("empty=", True),
        ("site=", False),
        ("empty=,site=lyon", True),
        ("site=lyon,line=a,!spare", True),
        ("site=lyon,line=b", False),
        ("acme.io/cell=c-7", True),
        ("in", False),
        ("in in (a)", False),
        ("in=in", False),
    ],
)
def test_meaning(text: str, expected: bool) -> None:
    """Each operator means what Kubernetes means by it."""
    assert parse(text).matches(DEVICE) is expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        (",", 1, "a key"),
        ("site=lyon,", 11, "a key"),
        ("site=lyon line=a", 11, "','"),
        ("site in", 8, "'('"),
        ("site in a", 9, "'('"),
        ("site in ()", 10, "a value"),
        ("site in (a", 11, "')'"),
        ("site in (a,)", 12, "a value"),
        ("site=(a)", 6, "a value"),
        ("!", 2, "a key"),
        ("!!site", 2, "a key"),
        ("site===a", 7, "a value"),
        ("=a", 1, "a key"),
        ("site=lyon;rm", 10, "does not belong"),
        ("site='a'", 6, "does not belong"),
        ("site>3", 5, "does not belong"),
        ("s\u00edte=a", 2, "does not belong"),
    ],
)
def test_errors_point_at_the_column(text: str, column: int, expected: str) -> None:
    """A bad selector names the column and what was expected there."""
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert f"column {column}:" in str(caught.value)
    assert expected in str(caught.value)
    assert "site=lyon" in caught.value.remedy


def test_length_is_limited() -> None:
    """A selector is a line, not a file."""
    with pytest.raises(Malformed, match="limit"):
        parse("a" * (MAX_LENGTH + 1))


def test_pseudo_keys_win_over_labels() -> None:
    """A label can not pretend to be another device or state."""
    liar = {"id": "dev-1", "state": "active"}
    assert not parse("id=dev-1").matches_device("dev-2", "retired", "spool", liar)
    assert parse("id=dev-2,state=retired,courier=spool").matches_device(
        "dev-2", "retired", "spool", liar
    )
    assert parse("id in (-x,a:b)").matches_device("-x", "active", "", {})


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text does anything but match, not match, or raise Malformed."""
    try:
        assert parse(text).matches(DEVICE) in {True, False}
    except Malformed as error:
        assert "column" in str(error)  # noqa: PT017 - either outcome is right


_WORD = st.from_regex(r"[a-z][a-z0-9.]{0,6}", fullmatch=True)


@given(_WORD, st.lists(_WORD, min_size=1, max_size=4), st.dictionaries(_WORD, _WORD, max_size=4))
def test_in_and_notin_are_opposites(key: str, values: list[str], labels: dict[str, str]) -> None:
    """For all labels exactly one of ``in`` and ``notin`` holds, and ``in`` means membership."""
    listed = ",".join(values)
    inside = parse(f"{key} in ({listed})").matches(labels)
    assert inside is not parse(f"{key} notin ({listed})").matches(labels)
    assert inside is (labels.get(key) in values)
