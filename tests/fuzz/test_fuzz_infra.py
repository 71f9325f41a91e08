"""infra.toml: values that widen no policy, or ``Malformed`` that names file and key."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, mutated, toml

from ota import shipped
from ota.errors import Malformed
from ota.infra import narrow, render, stacks, values

FOLDER = shipped.folder("playbooks") / "aws"
TEXT = (FOLDER / "infra.toml").read_bytes()
DOCUMENT = json.loads(json.dumps(tomllib.loads(TEXT.decode())))


def rendered(data: bytes, *, whole: bool = False) -> bool:
    """Values, and where asked the stacks that they make, as narrow as the shipped ones."""
    try:
        found = values.read(data, "infra.toml")
    except Malformed as error:
        assert str(error).startswith("infra.toml")
        return False
    if whole:
        try:
            texts = render.render(FOLDER, found)
        except Malformed:
            return False
        assert narrow.findings(stacks.policies(stacks.parse(texts), found)) == []
    return True


def test_the_example_is_rendered() -> None:
    """What the examples begin with passes."""
    assert rendered(TEXT, whole=True)


@budget(1)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Keys and values of every kind, in every place."""
    rendered(toml(document))


@budget(0.1)
@given(mutated(DOCUMENT, changes=1))
def test_no_value_widens_a_policy(document: Any) -> None:
    """Whatever passes makes policies without a wildcard that was not shipped."""
    rendered(toml(document), whole=True)


@budget(0.5)
@given(damaged(TEXT) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """A file that was cut, edited by accident, or is another one."""
    rendered(data)
