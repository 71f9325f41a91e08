"""Strict readers: one document, one reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing import strict
from signing.errors import Malformed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_compact_is_read_back(value: Any) -> None:
    """What is written is what is read, and writing it again gives the same bytes."""
    try:
        data = strict.compact(value)
    except UnicodeEncodeError:
        return
    assert strict.loads(data, limit=len(data)) == value
    assert strict.compact(strict.loads(data, limit=len(data))) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"1.0",
        b"1e3",
        b"-0.0",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":1} x',
        b'{"a":1}{"a":1}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'"\x01"',
        rb'"\ud800"',
        rb'{"\uDFFF":1}',
        rb'["\ude00\ud83d"]',
        b"'a'",
        b"{a:1}",
        b"[1,]",
        b"// x\n1",
        b"[" * 40 + b"]" * 40,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 200_000,
    ],
)
def test_two_readers_can_not_differ(data: bytes) -> None:
    """Duplicate keys, floats, comments, depth, trailing bytes, BOM: all malformed."""
    with pytest.raises(Malformed, match="thing"):
        strict.loads(data, limit=1 << 20, what="thing")


def test_a_whole_surrogate_pair_is_text() -> None:
    """What other writers escape in two halves is one character."""
    assert strict.loads(rb'"\ud83d\ude00"', limit=99) == "\U0001f600"


def test_what_is_shown_stays_on_one_line() -> None:
    """Nothing that steers a terminal or begins a line of its own gets through."""
    assert strict.shown("a\x1b[2J\nb\u2028c\td\ud800é") == "a?[2J b c?d?é"


def test_the_limit_is_in_bytes() -> None:
    """One byte past the limit is refused before it is parsed."""
    assert strict.loads(b"[1,2]", limit=5) == [1, 2]
    with pytest.raises(Malformed, match="5 bytes, the limit is 4"):
        strict.loads(b"[1,2]", limit=4)


@pytest.mark.parametrize("text", ["a", "A-z_0:9", "x" * 128])
def test_identifiers(text: str) -> None:
    """Letters, digits, colon, underscore, hyphen; 1 to 128 of them."""
    assert strict.identifier(text, "x") == text


@pytest.mark.parametrize(
    "text", ["", "x" * 129, "a/b", "..", "a.b", "a b", "a\n", "\na", "ä", "a\x00", 1, None, b"a"]
)
def test_what_is_no_identifier_is_refused(text: object) -> None:
    """Nothing that could be part of a path, a header or a query (rule 14)."""
    with pytest.raises(Malformed, match="device"):
        strict.identifier(text, "device")


@pytest.mark.parametrize("text", ["", ".", "..", ".x", "a/b", "-x", "a\n", "x" * 129, "a b", None])
def test_what_is_no_file_name_is_refused(text: object) -> None:
    """One safe segment that does not begin with a dot or a hyphen."""
    with pytest.raises(Malformed):
        strict.file_name(text, "path")


@given(st.datetimes(datetime(1970, 1, 2), datetime(2999, 1, 1)), st.integers(-12, 12))  # noqa: DTZ001 - hypothesis wants bounds without zone
def test_times_go_there_and_back(moment: datetime, hours: int) -> None:
    """Any zone in, UTC in whole seconds out."""
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    again = strict.instant(strict.stamp(aware))
    assert again == aware.replace(microsecond=0)
    assert again.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T08:00:00",
        "2026-11-23T08:00:00+00:00",
        "2026-11-23T08:00:00.5Z",
        "2026-13-23T08:00:00Z",
        "2026-11-23T08:00:61Z",
        "2026-11-23t08:00:00z",
        "2026-1-2T3:4:5Z",
        " 2026-11-23T08:00:00Z",
        "2026-11-23T08:00:00Z\n",
        "٢٠٢٦-11-23T08:00:00Z",
        1,
        None,
    ],
)
def test_what_is_no_time_is_refused(text: object) -> None:
    """One form only, so that two texts are never one time."""
    with pytest.raises(Malformed):
        strict.instant(text)
