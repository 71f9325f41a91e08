"""The signed playbook: its form, its values, and all that it can not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators import images

from signing import strict
from signing.errors import Malformed, Refusal
from signing.playbooks import playbook as playbooks
from signing.playbooks import target as playbook_target
from signing.playbooks import values as playbook_values
from signing.playbooks import words as playbook_words
from signing.playbooks.playbook import Playbook
from signing.playbooks.steps import Exec
from signing.playbooks.values import Parameter
from signing.release import Release

STEP = {"name": "run", "timeout": 5, "on_failure": "stop"}
BODY: dict[str, Any] = {
    "schema": 1,
    "name": "tidy",
    "version": "1.0.0",
    "summary": "Tidy up",
    "platforms": ["linux"],
    "roads": ["agent", "native"],
    "parameters": {
        "unit": {"type": "string", "pattern": "^.{1,40}$"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": "8443"},
        "where": {"type": "path"},
    },
    "steps": [{**STEP, "exec": {"argv": ["echo", "${unit}", "${port}", "$${port}"]}}],
}


def body(**changes: Any) -> dict[str, Any]:
    return BODY | changes


def step(**words: Any) -> dict[str, Any]:
    return body(steps=[STEP | words])


def read(value: dict[str, Any]) -> Playbook:
    return playbooks.read(strict.compact(value))


def test_signed_text_is_canonical_and_complete() -> None:
    """One procedure has one text, and a text in another order is refused."""
    data = strict.compact(BODY)
    found = playbooks.read(data)
    assert playbooks.encode(found) == data
    assert (found.path, found.steps[0].kind) == ("playbooks/tidy-1.0.0.json", "exec")
    with pytest.raises(Malformed, match="canonical"):
        playbooks.read(data.replace(b'{"name"', b'{ "name"'))
    with pytest.raises(Malformed, match="canonical"):
        playbooks.read(msgspec.json.encode(BODY))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown word": (body(author="me"), "unknown field"),
    "unknown action": (step(script="rm -rf /"), "unknown field"),
    "no action": (step(), "exactly one of"),
    "two actions": (step(exec={"argv": ["a"]}, reboot={}), "exec and reboot"),
    "no steps": (body(steps=[]), "1 to 64 steps"),
    "a name twice": (
        body(steps=[STEP | {"exec": {"argv": ["a"]}}, STEP | {"exec": {"argv": ["b"]}}]),
        "stands twice",
    ),
    "no time limit": (
        body(steps=[{"name": "a", "on_failure": "stop", "exec": {"argv": ["a"]}}]),
        "timeout",
    ),
    "endless": (step(timeout=0, exec={"argv": ["a"]}), "not within"),
    "nothing to run": (step(exec={"argv": []}), "1 to 64"),
    "the program is a value": (step(exec={"argv": ["${unit}"]}), "never a value"),
    "a value within a text": (step(exec={"argv": ["a", "--x=${port}"]}), "whole element"),
    "a value as a script": (step(exec={"argv": ["sh", "-c", "${unit}"]}), "as a script"),
    "a value as a script, wrapped": (
        step(exec={"argv": ["env", "bash", "-ec", "${unit}"]}),
        "as a script",
    ),
    "a value as a program text": (step(exec={"argv": ["python3", "-c", "${unit}"]}), "as a script"),
    "a guard as a script": (
        step(exec={"argv": ["a"]}, unless=["sh", "-c", "${unit}"]),
        "as a script",
    ),
    "a check as a script": (step(check={"argv": ["awk", "${unit}"], "interval": 1}), "as a script"),
    "an unknown parameter": (step(exec={"argv": ["a", "${nobody}"]}), "is no parameter"),
    "a broken reference": (step(exec={"argv": ["a", "${unit"]}), "names no parameter"),
    "a text as a path": (
        step(file={"path": "${unit}", "mode": "0644", "format": "plain"}),
        "is a path here",
    ),
    "a way out": (
        step(file={"path": "/etc/../root/x", "mode": "0644", "format": "plain"}),
        "absolute path",
    ),
    "setuid": (step(file={"path": "/a", "mode": "4755", "format": "plain"}), "mode"),
    "content and absent": (
        step(
            file={"path": "/a", "mode": "0644", "format": "plain", "content": "x", "absent": True}
        ),
        "has no content",
    ),
    "a control character": (
        step(file={"path": "/a", "mode": "0644", "format": "plain", "content": "\x1b"}),
        "control character",
    ),
    "validate without the file": (
        step(file={"path": "/a", "mode": "0644", "format": "plain", "validate": ["true"]}),
        "no element is ${file}",
    ),
    "native reboot": (step(reboot={}), "needs the agent"),
    "wipe and go on": (
        body(
            roads=["agent"],
            steps=[
                STEP | {"wipe": {"receipt": "/r"}},
                {**STEP, "name": "b", "exec": {"argv": ["b"]}},
            ],
        ),
        "last step",
    ),
    "wipe whatever happens": (
        body(roads=["agent"], **{"finally": STEP | {"name": "w", "wipe": {"receipt": "/r"}}}),
        "anywhere but here",
    ),
    "a string without pattern": (body(parameters={"unit": {"type": "string"}}), "needs one"),
    "an open pattern": (
        body(parameters={"unit": {"type": "string", "pattern": ".*"}}),
        "reads ^...$",
    ),
    "a default outside": (
        body(parameters={"unit": {"type": "integer", "default": "1; reboot"}}),
        "does not match",
    ),
    "a parameter called file": (body(parameters={"file": {"type": "path"}}), "is taken"),
    "a path as name": (body(name="../evil"), "name"),
    "a path as version": (body(version="1/../2"), "version"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_playbook_can_not_say(case: str) -> None:
    """Each mistake, and each attempt at a shell, has an error of its own."""
    value, reason = REFUSED[case]
    with pytest.raises(Malformed) as caught:
        read(value)
    assert reason in str(caught.value)


def test_too_long() -> None:
    """A playbook leaves room in a Systems Manager document."""
    steps = [{**STEP, "name": f"s{n}", "exec": {"argv": ["echo", "x" * 4000]}} for n in range(20)]
    with pytest.raises(Malformed, match="limit is"):
        read(body(steps=steps))


# -- values ----------------------------------------------------------------------------------------
NASTY = (
    "; reboot", "$(reboot)", "`reboot`", "a && b", "a | b", "> /etc/passwd", "'", '"', "\\", "${unit}",
    "*", "~", "a b", "#", "!!", "%s", "{{ssm:x}}", "a=b", "&", "<(x)",
)  # fmt: skip


@pytest.mark.parametrize("value", NASTY)
def test_a_value_stays_one_literal_element(value: str) -> None:
    """Shell metacharacters are characters: nothing is split, expanded or substituted again."""
    found = read(BODY)
    values = found.check_values({"unit": value, "port": "1", "where": "/tmp/x"})
    action = found.steps[0].action
    assert isinstance(action, Exec)
    argv = [playbook_values.argument(text, values) for text in action.argv]
    assert argv == ["echo", value, "1", "${port}"]


BAD_VALUES = {
    "unit": ("", "x" * 41, "a\nb", "a\x00", "-rf", "é", "\t"),
    "port": ("0", "65536", "1.5", "08", "0x10", " 1", "1 ", "", "one", "1;2", "9" * 19),
    "where": ("etc", "/", "/etc/", "/etc/../x", "/a//b", "/a b", "/a;b", "//a", "/..", "/a/."),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in BAD_VALUES.items() for v in vs])
def test_values_outside_their_pattern(name: str, value: str) -> None:
    """Each is refused by name; nothing is trimmed or repaired."""
    good = {"unit": "u", "port": "1", "where": "/tmp/x"}
    with pytest.raises(Malformed) as caught:
        read(BODY).check_values(good | {name: value})
    assert caught.value.subject == name


def test_no_value_too_many_or_too_few() -> None:
    """Unknown and missing parameters are named."""
    good = {"unit": "u", "port": "1", "where": "/tmp/x"}
    with pytest.raises(Malformed, match="extra is not one"):
        read(BODY).check_values(good | {"extra": "1"})
    del good["where"]
    with pytest.raises(Malformed, match="where has no value"):
        read(BODY).check_values(good)


def test_choices_and_switches() -> None:
    """A choice is one of its words, whole; a switch is true or false."""
    choice = Parameter(type="choice", choices=("fast", "a|b"))
    assert choice.check("c", "a|b") == "a|b"
    switch = Parameter(type="boolean")
    for parameter, value in ((choice, "a"), (choice, "fast "), (switch, "yes"), (switch, "True")):
        with pytest.raises(Malformed):
            parameter.check("p", value)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_values_are_quoted_by_type_and_format(value: str) -> None:
    """In JSON and in shell files a value reads back as exactly itself."""
    import json  # noqa: PLC0415 - this claim only
    import shlex  # noqa: PLC0415 - the same

    types = {"v": "string", "n": "integer"}
    text = '{"v": ${v}, "n": ${n}}'
    found = playbook_values.content(text, {"v": value, "n": "7"}, types, "json")
    assert json.loads(found) == {"v": value, "n": 7}
    found = playbook_values.content("V=${v}", {"v": value}, types, "shell")
    assert shlex.split(found) == [f"V={value}"]
    assert playbook_values.content("a ${v} $${v}", {"v": value}, types, "plain") == (
        f"a {value} ${{v}}"
    )


# -- the target --------------------------------------------------------------------------------------
def test_description_and_text_must_agree() -> None:
    """A target whose words differ from its bytes, or whose bytes differ, is refused."""
    found = read(BODY)
    target = playbook_target.describe(found)
    data = playbooks.encode(found)
    assert playbook_target.content(target, data) == found
    lies: dict[str, Callable[[], Any]] = {
        "image-mismatch": lambda: playbook_target.content(target, data.replace(b"echo", b"true")),
        "playbook-malformed": lambda: playbook_target.content(
            msgspec.structs.replace(target, platforms=("debian",)), data
        ),
    }
    for code, lie in lies.items():
        with pytest.raises(Refusal) as caught:
            lie()
        assert caught.value.code == code


def test_release_and_playbook_never_stand_for_each_other() -> None:
    """Neither is read from the other's target, and no release lives where playbooks do."""
    target = playbook_target.describe(read(BODY)).to_target()
    with pytest.raises(Malformed):
        Release.from_target(target)
    release = images.release()
    with pytest.raises(Malformed):
        playbook_target.PlaybookTarget.from_target(release.to_target())
    with pytest.raises(Malformed, match="playbooks only"):
        msgspec.structs.replace(release, path="playbooks/a.bin", component="playbooks")


def test_signers_see_every_command_and_file() -> None:
    """The words name parameters, argument lists and whole contents, unprintable ones escaped."""
    found = read(
        step(
            file={"path": "/etc/a", "mode": "0600", "format": "plain", "content": "one\n${unit}\n"}
        )
    )
    lines = playbook_words.lines(found)
    assert 'parameter unit: string {"pattern": "^.{1,40}$"}' in lines
    assert lines[-2:] == ["step run: | one", "step run: | ${unit}"]
    assert '"path": "/etc/a"' in lines[-3]
