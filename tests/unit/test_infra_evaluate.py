"""The evaluator decides as AWS does, and never guesses."""

from __future__ import annotations

from typing import Any

import pytest

from ota.errors import Malformed
from ota.infra import statements
from ota.infra.evaluate import Request, decide


def policy(*rows: dict[str, Any]) -> tuple[statements.Statement, ...]:
    return statements.read({"Version": "2012-10-17", "Statement": list(rows)}, "here")


def allow(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*", **more}


def may(rows: tuple[statements.Statement, ...], resource: str, **context: str) -> bool:
    named = {k.replace("__", ":").replace("_", "-"): v for k, v in context.items()}
    return decide(rows, Request("s3:GetObject", f"arn:aws:s3:::{resource}", named)).allowed


def test_nothing_is_allowed_by_silence() -> None:
    """No statement, no right."""
    assert not may((), "b/x")
    assert not may(policy(allow()), "c/x")


def test_a_deny_wins_wherever_it_stands() -> None:
    """Before or after the Allow."""
    deny = allow(Effect="Deny", Resource="arn:aws:s3:::b/secret/*")
    for rows in (policy(allow(), deny), policy(deny, allow())):
        assert may(rows, "b/open/x")
        assert not may(rows, "b/secret/x")


def test_wildcards_are_the_policys_own() -> None:
    """A star in a variable's value is a plain character; one in the pattern is not."""
    rows = policy(allow(Resource="arn:aws:s3:::b/${credentials-iot:ThingName}/*"))
    assert may(rows, "b/a/x", credentials_iot__ThingName="a")
    assert not may(rows, "b/b/x", credentials_iot__ThingName="a")
    assert not may(rows, "b/b/x", credentials_iot__ThingName="*")
    assert not may(rows, "b/b/x", credentials_iot__ThingName="?")


def test_a_variable_without_a_value_fits_nothing() -> None:
    """Not even its own text."""
    rows = policy(allow(Resource="arn:aws:s3:::b/${credentials-iot:ThingName}/*"))
    assert not may(rows, "b//x")
    assert not may(rows, "b/${credentials-iot:ThingName}/x")


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"k": "v"}}, {"k": "v"}, True),
        ({"StringEquals": {"K": "v"}}, {"k": "v"}, True),
        ({"StringEquals": {"k": ["u", "v"]}}, {"k": "v"}, True),
        ({"StringEquals": {"k": "v*"}}, {"k": "vw"}, False),
        ({"StringEquals": {"k": "v"}}, {}, False),
        ({"StringEquals": {"k": "v"}, "Bool": {"b": "true"}}, {"k": "v"}, False),
        ({"StringEqualsIfExists": {"k": "v"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "v"}}, {"k": "u"}, False),
        ({"StringNotEquals": {"k": "v"}}, {}, True),
        ({"StringNotEquals": {"k": ["u", "v"]}}, {"k": "v"}, False),
        ({"StringNotEquals": {"k": ["u", "v"]}}, {"k": "w"}, True),
        ({"StringLike": {"k": "v*"}}, {"k": "vw"}, True),
        ({"ArnNotEquals": {"k": "arn:a"}}, {"k": "arn:a"}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Null": {"k": "false"}}, {"k": "v"}, True),
        ({"Bool": {"k": "false"}}, {"k": "False"}, True),
        ({"NumericLessThan": {"k": "1.2"}}, {"k": "1.1"}, True),
        ({"NumericLessThan": {"k": "1.2"}}, {"k": "1.2"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, str], holds: bool) -> None:
    """Operators and keys must all hold, of several values one; absent keys as IAM has it."""
    assert may(policy(allow(Condition=condition)), "b/x", **context) is holds


def test_an_operator_that_is_not_known_is_an_error() -> None:
    """Guessing would be worse than stopping."""
    rows = policy(allow(Condition={"DateLessThan": {"k": "2026"}}))
    with pytest.raises(Malformed, match="DateLessThan"):
        may(rows, "b/x", k="2025")


@pytest.mark.parametrize(
    "row",
    [
        {"NotAction": "s3:*"},
        {"NotResource": "x"},
        {"Effect": "allow"},
        {"Action": "*"},
        {"Action": 3},
        {"Action": []},
        {"Resource": [3]},
        {"Principal": {"Federated": "x"}},
        {"Condition": []},
        {"Condition": {"Bool": "x"}},
    ],
)
def test_a_statement_that_is_not_understood(row: dict[str, Any]) -> None:
    """Every element that is not known here is named."""
    broken = allow(**row)
    with pytest.raises(Malformed, match="here, statement 1"):
        policy(broken)


@pytest.mark.parametrize("document", [None, [], {}, {"Version": "2008-10-17", "Statement": []}])
def test_a_document_that_is_none(document: Any) -> None:
    """Another version has another meaning."""
    with pytest.raises(Malformed, match="Version"):
        statements.read(document, "here")


def test_a_principal_is_held_to_its_name() -> None:
    """A resource's policy counts for whom it names."""
    rows = policy(allow(Principal={"AWS": "arn:aws:iam::1:role/x"}))
    request = Request("s3:GetObject", "arn:aws:s3:::b/x", {}, "arn:aws:iam::1:role/x")
    other = Request("s3:GetObject", "arn:aws:s3:::b/x", {}, "arn:aws:iam::1:role/y")
    assert decide(rows, request).allowed
    assert not decide(rows, other).allowed
