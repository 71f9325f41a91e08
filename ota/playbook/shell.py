r"""Steps as POSIX shell, for machines without an agent. No value ever stands in the text.

The text of a step depends on the playbook alone, so it can be pinned by its hash. Values come in
environment variables, ``SSM_<name>`` as Systems Manager names them, and are used as ``"$SSM_name"``:
one word, whatever it holds. What a playbook says literally is quoted.

A step tells its result in one line on stdout, and nothing else there::

    ota-step NAME done|skipped|failed CODE LENGTH SHA256 ALL
    <LENGTH bytes of what `collect` printed, of ALL>

>>> word("${unit}"), word("it's")
('"$SSM_unit"', '\'it\'"\'"\'s\'')
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ota.errors import Malformed
from ota.playbook import shell_words as words
from signing.playbooks import values as playbook_values
from signing.playbooks.playbook import Playbook
from signing.playbooks.steps import FILE, Check, Collect, Exec, File, Package, Service, Step
from signing.playbooks.values import Parameter, Reference

OUTPUT: Final = 12 * 1024
"""Bytes of what one ``collect`` printed that are told."""


def word(text: str) -> str:
    """One element as one word of shell: a variable in quotes, or the literal text."""
    name = playbook_values.whole(text)
    if name:
        return f'"$SSM_{name}"'
    return _quoted("".join(p for p in playbook_values.parts(text) if isinstance(p, str)))


def _quoted(text: str) -> str:
    """Systems Manager would read ``{{`` as a parameter of its own, even in quotes."""
    return shlex.quote(text).replace("{{", "{''{")


def preamble(steps: Iterable[Step], *, first: bool) -> str:
    """The functions that these steps need, and those of the admission for the ``first`` of them."""
    found = list(steps)
    functions = [words.CORE]
    functions += [words.HERE] if first or any(step.platforms for step in found) else []
    functions += [words.ADMISSION] if first else []
    for kind, text in _FUNCTIONS.items():
        functions += [text] if any(step.kind == kind for step in found) else []
    quoting = {s.action.format for s in found if isinstance(s.action, File)}
    functions += [words.JSON] if "json" in quoting else []
    functions += [words.SHELL] if "shell" in quoting else []
    return "".join(line.lstrip() for text in functions for line in text.splitlines(keepends=True))


_FUNCTIONS: Final = {
    "service": words.SERVICE,
    "package": words.PACKAGE,
    "file": words.FILE,
    "check": words.CHECK,
    "collect": words.COLLECT.replace("OUTPUT", str(OUTPUT)),
}


def admission(playbook: Playbook) -> str:
    """The checks before anything is done; status 3 where they say no.

    Platform and values are checked once more, as far as a shell can.
    """
    lines = [f"ota_here {' '.join(map(_quoted, playbook.platforms))} || ota_no playbook-platform"]
    for name, parameter in playbook.parameters.items():
        lines += [f"{test} || ota_no playbook-parameter" for test in _tests(name, parameter)]
    return "\n".join(lines) + "\n"


def _tests(name: str, parameter: Parameter) -> Iterator[str]:
    value = f'"${{SSM_{name}-}}"'
    yield f"ota_value {value} {int(parameter.type == 'integer')}"
    if parameter.choices:
        yield f"ota_one_of {value} {' '.join(map(_quoted, parameter.choices))}"
    if parameter.type == "integer":
        low = parameter.minimum if parameter.minimum is not None else -(10**18)
        high = parameter.maximum if parameter.maximum is not None else 10**18
        yield f"ota_within {value} {low} {high}"
    if parameter.type == "path":
        yield f"ota_path {value}"


def body(step: Step, types: Mapping[str, str]) -> str:
    """The script of one step, to be run in a shell of its own after :func:`preamble`."""
    lines = [f"ota_begin {_quoted(step.name)} {step.timeout}"]
    if step.platforms:
        lines.append(f"ota_here {' '.join(map(_quoted, step.platforms))} || ota_skip platform")
    if step.creates:
        lines.append(f"test ! -e {word(step.creates)} || ota_skip creates")
    if step.unless:
        lines.append(f"! ota_ask {_argv(step.unless)} || ota_skip unless")
    return "\n".join([*lines, *_action(step, types)]) + "\n"


def _action(step: Step, types: Mapping[str, str]) -> Iterator[str]:
    action = step.action
    if isinstance(action, Exec):
        yield f"ota_must {_argv(action.argv)}"
        yield "ota_say done"
    elif isinstance(action, Service):
        enabled = {None: "-", True: "1", False: "0"}[action.enabled]
        yield f"ota_service {word(action.name)} {action.state} {enabled}"
    elif isinstance(action, Package):
        yield f"ota_package {word(action.name)} {action.state}"
    elif isinstance(action, Check):
        yield f"ota_check {action.interval} {_argv(action.argv)}"
    elif isinstance(action, Collect):
        yield f"ota_collect {_argv(action.argv)}"
    elif isinstance(action, File):
        yield from _file(action, types)
    else:
        raise Malformed(f"step {step.name}: {step.kind} has no native road", subject=step.name)


def _file(action: File, types: Mapping[str, str]) -> Iterator[str]:
    yield f"ota_file {word(action.path)}"
    if action.absent:
        yield "ota_absent"
        return
    pieces = " ".join(_piece(part, types, action) for part in playbook_values.parts(action.content))
    owner, group = _quoted(action.owner), _quoted(action.group)
    yield f"ota_new {action.mode} {owner} {group} {pieces}".rstrip()
    if action.validate:
        argv = ['"$OTA_NEW"' if text == FILE else word(text) for text in action.validate]
        yield f"ota_valid {' '.join(argv)}"
    yield "ota_place"


def _piece(part: str | Reference, types: Mapping[str, str], action: File) -> str:
    if isinstance(part, str):
        return _quoted(part)
    value = f'"$SSM_{part.name}"'
    if types[part.name] in {"integer", "boolean"} or action.format == "plain":
        return value
    return f'"$(ota_{action.format} {value})"'


def _argv(argv: tuple[str, ...]) -> str:
    return " ".join(map(word, argv))


def types_of(playbook: Playbook) -> dict[str, str]:
    """Parameter -> its type."""
    return {name: parameter.type for name, parameter in playbook.parameters.items()}
