"""What a playbook does, in lines for people: shown before it is signed, and by ``ota playbook show``.

>>> lines(playbook)
['restart-service@1.0.0 for linux, by agent, native: Restart a service', ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from signing import layout, strict
from signing.errors import Malformed
from signing.playbooks.playbook import Playbook, read
from signing.playbooks.steps import File, Step


def lines(playbook: Playbook) -> list[str]:
    """Everything that it says; commands as JSON lists, files with their whole content."""
    head = (
        f"{playbook.name}@{playbook.version} for {', '.join(playbook.platforms)}, "
        f"by {', '.join(playbook.roads)}: {playbook.summary}"
    )
    return [head, *_parameters(playbook), *(line for s in playbook.every for line in _step(s))]


def _parameters(playbook: Playbook) -> Iterator[str]:
    for name, parameter in playbook.parameters.items():
        said = msgspec.to_builtins(parameter)
        rest = {key: value for key, value in said.items() if key not in {"type", "description"}}
        words = f"; {parameter.description}" if parameter.description else ""
        yield f"parameter {name}: {parameter.type} {_json(rest)}{words}"


def _step(step: Step) -> Iterator[str]:
    said = msgspec.to_builtins(step)
    action = said[step.kind]
    guards = {name: said[name] for name in ("unless", "creates", "platforms") if name in said}
    content = action.pop("content", "") if isinstance(step.action, File) else ""
    words = [f"step {step.name}: {step.kind} {_json(action)}", f"within {step.timeout} s"]
    words += [f"skipped if {_json(guards)}"] if guards else []
    words += [f"on failure {step.on_failure}"] if step.on_failure != "stop" else []
    yield ", ".join(words)
    yield from (f"step {step.name}: | {line}" for line in content.splitlines())


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)


def of_change(files: Mapping[str, str], listed: Mapping[str, str]) -> list[str]:
    """The words of playbooks that a change carries; ``listed``: target path -> its SHA-256.

    A text that is not what the change lists is no playbook of it, and says nothing.
    """
    found: list[str] = []
    for path, sha256 in sorted(listed.items()):
        data = files.get(layout.image_target(path, sha256), "").encode()
        if path.startswith(f"{layout.PLAYBOOKS}/") and strict.digest(data) == sha256:
            try:
                found += [f"{path}: {line}" for line in lines(read(data, path))]
            except Malformed as e:
                found.append(f"{path}: NOT A PLAYBOOK: {e}")
    return found
