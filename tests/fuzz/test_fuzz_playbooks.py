"""Playbooks: what people write and what is signed; a shell script has no word that they did not quote."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated

from ota import shipped
from ota.errors import Malformed
from ota.playbook import compute, native, source
from signing.playbooks import playbook as playbooks

FOLDER = shipped.folder("playbooks")
TEXTS = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.yaml"))}


class _Loader(yaml.SafeLoader):
    """Without the rule that makes ``=`` something else than text."""


_Loader.yaml_implicit_resolvers = {
    first: rules for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items() if first != "="
}
DOCUMENTS = {name: yaml.load(text, _Loader) for name, text in TEXTS.items()}  # noqa: S506 - a safe one
NAMES = sorted(TEXTS)


def written(data: bytes) -> playbooks.Playbook | None:
    """A playbook that can be signed, read again and rendered; None when refused by its place."""
    try:
        found = source.read(data, "p.yaml")
    except Malformed as error:
        assert "p.yaml" in str(error)
        return None
    assert playbooks.read(playbooks.encode(found)) == found
    try:
        compute.check(found)
        text = native.script(found).text
    except Malformed:
        return found
    parsed = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    return found


def test_the_shipped_ones_are_read() -> None:
    """What the examples begin with is whole."""
    for text in TEXTS.values():
        assert written(text) is not None


@budget(1)
@given(st.sampled_from(NAMES), st.data())
def test_mutated(name: str, data: st.DataObject) -> None:
    """Keys and values of every kind, in every place (JSON is YAML)."""
    words = json.loads(json.dumps(DOCUMENTS[name]))
    written(dumps(data.draw(mutated(words))))


@budget(0.5)
@given(st.sampled_from(NAMES), st.data())
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    """A file that was cut, or edited by accident."""
    written(data.draw(damaged(TEXTS[name], others=b"$(reboot) `id` ${x} '\"\n- ; &\t|")))


SIGNED = {name: playbooks.encode(source.read(text)) for name, text in TEXTS.items()}


@budget(1)
@given(st.sampled_from(NAMES), st.data())
def test_signed_nonsense(name: str, data: st.DataObject) -> None:
    """Keyholders who sign anything: exactly the canonical form of a playbook, or ``Malformed``."""
    changed: Any = dumps(data.draw(mutated(json.loads(SIGNED[name]))))
    for text in (changed, data.draw(damaged(SIGNED[name]))):
        try:
            found = playbooks.read(text)
        except Malformed:
            continue
        assert playbooks.encode(found) == text
