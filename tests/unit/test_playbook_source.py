"""The YAML that people write: its mistakes have lines, its defaults are signed, values are computed."""

from __future__ import annotations

import textwrap

import pytest

from ota import shipped
from ota.errors import Malformed
from ota.playbook import compute, lint, source
from signing.playbooks import playbook as playbooks

TEXT = """\
name: proxy
version: 1.0.0
summary: A proxy
platforms: [debian, amzn]
parameters:
  port: {type: integer, minimum: 1, maximum: 65535, default: "8443", description: listens}
  host: {type: string, pattern: "^[a-z.]{1,40}$", default: localhost, description: connects to}
  address: {type: string, pattern: "^[a-z.]{1,40}:[0-9]{1,5}$", computed: "{{ host }}:{{ port }}"}
steps:
  - name: configure
    file:
      path: /etc/proxy.conf
      content: |
        connect = ${address}
        no = no
    timeout: 1m30s
  - name: answers
    check: {argv: [nc, -z, "${host}", "${port}"], interval: 2s}
    on_failure: continue
finally:
  name: look
  collect: {argv: [uptime]}
"""


def refused(text: str) -> str:
    with pytest.raises(Malformed) as caught:
        source.read(text.encode(), "p.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_everything_stands_in_what_is_signed() -> None:
    """Defaults of the file become words of the signed text; nothing hangs on a later reader."""
    found = source.read(TEXT.encode())
    assert (found.roads, found.schema) == (("agent", "native"), 1)
    first, second = found.steps
    assert (first.timeout, first.on_failure, second.timeout, second.on_failure) == (
        90, "stop", 60, "continue",
    )  # fmt: skip
    data = playbooks.encode(found)
    for word in (b'"timeout":60', b'"mode":"0644"', b'"format":"plain"', b'"interval":2'):
        assert word in data
    assert b"no = no" in data
    assert playbooks.read(data) == found


MISTAKES = {
    "p.yaml:3: summery": TEXT.replace("summary", "summery"),
    "p.yaml:1: the key 'summary' is missing": TEXT.replace("summary: A proxy\n", ""),
    "p.yaml:6: parameters.port.minimum: expected a whole number": TEXT.replace(
        "minimum: 1", "minimum: one"
    ),
    "p.yaml:8: parameters.address: default: a computed parameter has none": TEXT.replace(
        "computed:", "default: x, computed:"
    ),
    "p.yaml:16: steps[0].timeout: expected a duration": TEXT.replace("1m30s", "90"),
    "p.yaml:18: steps[1].check.argv: expected a list": TEXT.replace(
        '[nc, -z, "${host}", "${port}"]', "nc -z"
    ),
    "p.yaml:19: steps[1].on_failure: expected one of": TEXT.replace("continue", "explode"),
    "p.yaml:4: anchors and aliases": TEXT.replace("[debian, amzn]", "&a [debian]"),
    "p.yaml:2: the key 'name' stands already in line 1": TEXT.replace("version:", "name:"),
    "p.yaml:1: step answers: ${hoste} is no parameter": TEXT.replace('"${host}"', '"${hoste}"'),
    "p.yaml: it is empty": "",
}


@pytest.mark.parametrize("start", MISTAKES)
def test_mistakes_have_a_place(start: str) -> None:
    """File, line and key of each."""
    assert refused(MISTAKES[start]).startswith(start)


def test_values_are_computed_on_this_side_and_checked_like_any_other() -> None:
    """Computed from what is given and from defaults; its own pattern still decides."""
    found = source.read(TEXT.encode())
    assert compute.bind(found, {"port": "443"}) == {
        "port": "443",
        "host": "localhost",
        "address": "localhost:443",
    }
    narrow = source.read(TEXT.replace("[0-9]{1,5}", "[0-9]{1,3}").encode())
    with pytest.raises(Malformed, match="address: 'localhost:8443' does not match"):
        compute.bind(narrow, {})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"prot": "1"}, "prot is not one of this playbook; known are port, host, address"),
        ({"address": "a:1"}, "address is computed and can not be given"),
        ({"port": "70000"}, "port: '70000' is above 65535"),
        ({"host": "a;reboot"}, "host: 'a;reboot' does not match"),
    ],
)
def test_what_can_not_be_given(given: dict[str, str], reason: str) -> None:
    """Unknown, computed and unfitting values are named."""
    with pytest.raises(Malformed) as caught:
        compute.bind(source.read(TEXT.encode()), given)
    assert reason in str(caught.value)


def test_a_value_without_default_is_asked_for() -> None:
    """The message is the option to add."""
    text = TEXT.replace(", default: localhost", "")
    with pytest.raises(Malformed, match="host has no value: --param host=VALUE"):
        compute.bind(source.read(text.encode()), {})


@pytest.mark.parametrize(
    "expression",
    [
        "{{ nobody }}",
        "{{ ''.__class__ }}",
        "{{ host.upper() }}",
        "{{ host['x'] }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%0999999999d' % 1 }}",
        "{% for x in 'abc' %}{{ x }}{% endfor %}",
        "{{ range(9) }}",
        "{{ cycler }}",
        "{{ host | pprint }}",
        "{% set x = 1 %}",
        "{{ host",
        "{{ [1] }}",
    ],
)
def test_expressions_can_not_do_anything_else(expression: str) -> None:
    """No loops, calls, attributes, globals, or growth: refused at lint, before anybody signs."""
    written = expression.replace('"', "'").replace("'", "''")
    text = TEXT.replace('"{{ host }}:{{ port }}"', f"'{written}'")
    found = source.read(text.encode())
    with pytest.raises(Malformed, match="parameter address"):
        lint.findings(found)
    with pytest.raises(Malformed, match="parameter address"):
        compute.bind(found, {})


def test_findings_for_the_author() -> None:
    """What is allowed and yet deserves a second look."""
    text = TEXT.replace(", description: listens", "").replace(
        "finally:", "  - {name: raw, exec: {argv: [x]}}\nfinally:"
    )
    found = lint.findings(source.read(text.encode()))
    assert found[0] == "parameter port: no description"
    assert any(line.startswith("step raw: no guard") for line in found)


def test_shipped_playbooks_are_sound() -> None:
    """Each reads, is named as its file, and its signed text reads back."""
    paths = shipped.playbooks()
    assert paths
    for path in paths:
        found = source.read(path.read_bytes(), path.name)
        lint.findings(found)
        assert (found.name, playbooks.read(playbooks.encode(found))) == (path.stem, found)


def test_the_example_of_the_module_is_true() -> None:
    """What the module's docstring shows can be signed as it stands."""
    text = (source.__doc__ or "").split("::\n\n")[1].split("\n>>>")[0]
    found = source.read(textwrap.dedent(text).encode())
    assert (found.name, found.steps[0].timeout) == ("restart-service", 120)
