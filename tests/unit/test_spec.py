"""Specs: what operators write, and errors with file, line, key and what was expected."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.errors import Malformed
from ota.rollout import spec
from ota.yaml import strict as strict_yaml
from signing.plan import Gate, Limits

FULL = b"""\
rollout: app-2
release: [app@2.0.0, app/other-2.0.0.tar]
select: site=lyon,line in (a,b)
seen_within: 1w
waves:
  - {name: canary, count: 2, soak: 10m, deadline: 1h, gate: {silent: 10%}}
  - {name: tenth, percent: 10, allow_empty: true}
  - {name: lyon, select: site=lyon}
  - {name: named, devices: [a, 007]}
  - {name: rest, rest: true}
gate: {min_sample: 2, failed: 3}
soak: 1h30m
deadline: 2d
limits: {in_flight: 10, batch: 5, order_lifetime: 3d, group_by: acme.io/cell, max_unavailable: 1}
tail_until: 2026-12-24T00:00:00Z
expires: 60d
on_failure: hold
supersedes: app-1-x7k2m9
"""
HEAD = "rollout: app-2\nrelease: app@2.0.0\n"
WAVES = "waves: [{name: all, rest: true}]\n"


def refused(text: str | bytes) -> str:
    """The message with which it is refused."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(Malformed) as caught:
        spec.read(data, "s.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_everything_that_can_be_said() -> None:
    """Each key is read; waves inherit gate, soak and deadline and may override them."""
    found = spec.read(FULL, "s.yaml")
    assert found.release == ("app@2.0.0", "app/other-2.0.0.tar")
    assert (found.select, found.seen_within) == ("site=lyon,line in (a,b)", 604800)
    assert found.limits == Limits(
        in_flight=10, batch=5, order_lifetime=259200, group_by="acme.io/cell", max_unavailable=1
    )
    assert found.tail_until == datetime(2026, 12, 24, tzinfo=UTC)
    assert (found.expires, found.on_failure) == (60 * 86400, "hold")
    assert found.supersedes == ("app-1-x7k2m9",)
    canary, tenth, lyon, named, rest = found.waves
    assert (canary.by, canary.number, canary.soak, canary.deadline) == ("count", 2, 600, 3600)
    assert canary.gate == Gate(min_sample=2, failed=3, silent="10%")
    assert (tenth.by, tenth.number, tenth.allow_empty) == ("percent", 10, True)
    assert (tenth.soak, tenth.deadline, tenth.gate.silent) == (5400, 172800, 0)
    assert (lyon.by, lyon.select) == ("select", "site=lyon")
    assert (named.by, named.devices) == ("devices", ("a", "007"))
    assert (rest.by, rest.where) == ("rest", "s.yaml:10: waves[4]")


def test_defaults() -> None:
    """The shortest spec: one wave of everybody."""
    found = spec.read((HEAD + WAVES).encode())
    assert (found.tail_until, found.expires, found.on_failure) == (604800, 2592000, "rollback")
    assert found.limits == Limits()
    assert found.waves[0].gate == Gate()
    assert (found.waves[0].soak, found.waves[0].deadline) == (600, 86400)


def test_text_is_never_turned_into_something_else() -> None:
    """YAML's booleans, octals and floats stay the words that were written."""
    text = HEAD.replace("2.0.0", "2.0") + "waves: [{name: no, devices: [on, 0x1f, 1_0, 012]}]\n"
    found = spec.read(text.encode())
    assert found.release == ("app@2.0",)
    assert (found.waves[0].name, found.waves[0].devices) == ("no", ("on", "0x1f", "1_0", "012"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rolout: x", "s.yaml:3: rolout: unknown key; known are"),
        ("rollout: y", "s.yaml:3: the key 'rollout' stands already in line 1"),
        ("select: site=(", "s.yaml:3: select: selector 'site=(': column 6"),
        ("select:", "s.yaml:3: select: expected a label selector, found ''"),
        ("soak: 1.5h", "s.yaml:3: soak: expected a duration such as"),
        ("soak: 10", "s.yaml:3: soak: expected a duration"),
        ("soak: -1s", "s.yaml:3: soak: expected a duration"),
        ("soak: 999999w", "s.yaml:3: soak: expected at most ten years"),
        (
            "soak: [1s]",
            "s.yaml:3: soak: expected a duration such as 90s, 10m, 1h30m or 7d, found a",
        ),
        ("gate: {failed: 1.5}", "s.yaml:3: gate.failed: expected a count such as 2 or a share"),
        ("gate: {failed: 101%}", "s.yaml:3: gate.failed: expected a count"),
        ("gate: {failed: -1}", "s.yaml:3: gate.failed"),
        ("gate: {filed: 1}", "s.yaml:3: gate.filed: unknown key; known are failed"),
        ("gate: 5", "s.yaml:3: gate: expected a mapping, found '5'"),
        ("limits: {in_flight: 0}", "limits.in_flight: expected a whole number from 1"),
        ('limits: {batch: "5"}', "limits.batch: expected a whole number"),
        ("limits: {batch: 1e3}", "limits.batch: expected a whole number"),
        ("limits: {group_by: cell}", "s.yaml:3: limits: group_by and max_unavailable belong"),
        ("limits: {max_unavailable: 1}", "s.yaml:3: limits: group_by and max_unavailable"),
        (
            "limits: {group_by: cell, max_unavailable: 0}",
            "limits.max_unavailable: expected a whole",
        ),
        ("limits: {group_by: a b, max_unavailable: 1}", "limits.group_by: 'a b' is not a label"),
        ("limits: {group_by: id, max_unavailable: 1}", "limits.group_by: 'id' is a property"),
        ("limits: {order_lifetime: 1h}", "limits: order_lifetime is shorter than the longest"),
        ("tail_until: tomorrow", "s.yaml:3: tail_until: expected a duration or a time"),
        ("expires: 2026-12-24", "s.yaml:3: expires: expected a duration or a time"),
        ("on_failure: shrug", "s.yaml:3: on_failure: expected rollback or hold, found 'shrug'"),
        ("supersedes: {a: b}", "s.yaml:3: supersedes: expected a list, found a mapping"),
        ("supersedes: [a b]", "s.yaml:3: supersedes[0]: expected"),
        ("seen_within: ever", "s.yaml:3: seen_within: expected a duration"),
        ("? [a]\n: b", "s.yaml:3: expected a key, found a list"),
        ("select: &x a", "s.yaml:3: anchors and aliases are not allowed"),
        ("select: *x", "s.yaml:3: anchors and aliases are not allowed"),
        ("select: !!python/name:os.system x", "s.yaml:3: tags such as"),
        ("<<: {a: b}", "s.yaml:3: <<: unknown key"),
        ("select: [", "not YAML"),
        ("select: 'a", "not YAML"),
        ("\tselect: a", "s.yaml:3: not YAML"),
        ("select: a\n---\nb: c", "s.yaml:4: a second document begins"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    """File, line, key and expectation for each mistake; the rest of the spec is right."""
    end = "" if "---" in line else WAVES
    assert message in refused(f"{HEAD}{line}\n{end}")


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        ("{rest: true}", "waves[0]: the key 'name' is missing"),
        ("{name: a}", "waves[0]: expected exactly one of count, percent, select, devices, rest"),
        ("{name: a, count: 1, percent: 2}", "found count and percent"),
        ("{name: a, rest: false}", "waves[0].rest: expected true"),
        ("{name: a, rest: 'true'}", "waves[0].rest: expected true or false"),
        ("{name: a, count: 0}", "waves[0].count: expected a whole number from 1"),
        ("{name: a, count: -2}", "waves[0].count: expected a whole number"),
        ("{name: a, count: 2.0}", "waves[0].count: expected a whole number"),
        ("{name: a, percent: 101}", "waves[0].percent: expected a whole number from 1 to 100"),
        ("{name: a, percent: 10%}", "waves[0].percent: expected a whole number"),
        ("{name: a, devices: []}", "waves[0].devices: expected at least one device id"),
        ("{name: a, devices: [../b]}", "waves[0].devices[0]: expected"),
        ("{name: a, devices: [b, b]}", "waves[0]: device b stands in wave 'a' already"),
        ("{name: a, select: '='}", "waves[0].select: selector '=': column 1"),
        ("{name: a b, rest: true}", "waves[0].name: expected"),
        ("{name: ~, rest: true}", "waves[0].name: expected a name, found '~'"),
        ("{name: a, rest: true, deadline: 0s}", "waves[0].deadline: expected a deadline"),
        ("{name: a, rest: true, deadline: 8d}", "order_lifetime is shorter than the longest"),
        ("{name: a, rest: true, gate: {silent: many}}", "waves[0].gate.silent: expected a count"),
        ("{name: a, rest: true, extra: 1}", "waves[0].extra: unknown key"),
        ("7", "waves[0]: expected a mapping, found '7'"),
        ("{name: a, count: 1}, {name: a, rest: true}", "waves[1]: the name 'a' stands twice"),
        (
            "{name: a, percent: 60}, {name: b, percent: 41}",
            "waves[1]: the percentages add up to 101",
        ),
        ("{name: a, rest: true}, {name: b, count: 1}", "waves[1]: no device is left for it"),
        (
            "{name: a, devices: [x]}, {name: b, devices: [x]}",
            "waves[1]: device x stands in wave 'a' already",
        ),
    ],
)
def test_a_bad_wave_is_named(wave: str, message: str) -> None:
    """The wave's place in the list, its line, and what was expected."""
    found = refused(f"{HEAD}waves: [{wave}]\n")
    assert message in found
    assert found.startswith("s.yaml:3: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: it is empty"),
        ("# nothing\n", "s.yaml: it is empty"),
        ("- a\n", "s.yaml:1: expected a mapping, found a list"),
        ("release: a@1\n" + WAVES, "s.yaml:1: the key 'rollout' is missing"),
        ("rollout: a\n" + WAVES, "the key 'release' is missing"),
        (HEAD, "the key 'waves' is missing"),
        (HEAD + "waves: []\n", "s.yaml:3: waves: expected a list of waves, found none"),
        (HEAD + "waves: all\n", "s.yaml:3: waves: expected a list of waves, found 'all'"),
        (HEAD + "waves: [" + "{name: a, count: 1}," * 65 + "]\n", "65 waves, the limit is 64"),
        ("rollout: App\nrelease: a@1\n" + WAVES, "s.yaml:1: rollout: expected 1 to 20 of"),
        (f"rollout: {'a' * 21}\nrelease: a@1\n" + WAVES, "s.yaml:1: rollout: expected 1 to 20"),
        ("rollout: a\nrelease: app\n" + WAVES, "s.yaml:2: release: expected COMPONENT@VERSION"),
        ("rollout: a\nrelease: a/../b\n" + WAVES, "s.yaml:2: release: expected"),
        ("rollout: a\nrelease: a@b c\n" + WAVES, "s.yaml:2: release: expected"),
        ("rollout: a\nrelease: []\n" + WAVES, "s.yaml:2: release: expected at least one"),
        ("a: " + "[" * 20 + "]" * 20, "nested deeper than 8"),
    ],
)
def test_a_bad_document_is_named(text: str, message: str) -> None:
    """What is missing as a whole, or can not be read at all."""
    assert message in refused(text)


def test_bytes_and_sizes() -> None:
    """Not UTF-8, too long, endlessly nested: refused quickly, with a place."""
    assert "s.yaml:2: not UTF-8" in refused(b"a: b\nc: \xff\n")
    assert "s.yaml:3: not YAML: control char" in refused("ä: b\nc: d\n\x1f\n".encode())
    assert "the limit is" in refused(b"#" * (strict_yaml.MAX_BYTES + 1))
    assert "nested deeper" in refused(b"[" * 100_000)
    assert "anchors" in refused(b"a: &a [x]\nb: [*a, *a, *a]\n")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    """Nothing but a spec or a named error comes out."""
    with pytest.raises(Malformed):  # two random hundred bytes are never a whole spec
        spec.read(data)


@given(st.integers(0, len(FULL) - 1), st.integers(0, 255))
def test_one_changed_byte_is_a_spec_or_a_named_error(at: int, byte: int) -> None:
    """A flipped byte in a good spec gives another good spec or Malformed with the file's name."""
    changed = FULL[:at] + bytes([byte]) + FULL[at + 1 :]
    try:
        assert spec.read(changed, "s.yaml").waves
    except Malformed as error:
        assert str(error).startswith("s.yaml")  # noqa: PT017 - either outcome is right


def test_a_large_list_is_read_in_time() -> None:
    """40,000 named devices in one wave, within the size limit."""
    names = ", ".join(f"gateway-{n:07}" for n in range(40_000))
    found = spec.read(f"{HEAD}waves: [{{name: a, devices: [{names}]}}]\n".encode())
    assert len(found.waves[0].devices) == 40_000
