r"""A playbook for machines without an agent: one script for SSH, one document for Systems Manager.

Both are made from the same steps (``shell.py``) and are pinned by their hash; neither is verified by
the device, and everything that shows one says so. The script reads its values from stdin, one a
line, in the order of the parameters, so that they stand in no argument and no environment of
another process.

>>> rendered = script(playbook)
>>> rendered.sha256, rendered.stdin({"unit": "nginx"})
('9f86...', b'nginx\n')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ota.errors import Malformed
from ota.playbook import shell
from signing import strict
from signing.playbooks.playbook import Playbook
from signing.playbooks.steps import Step
from signing.playbooks.values import Parameter

UNVERIFIED: Final = "not verified by the device"
SSM_LIMIT: Final = 64 * 1024
"""Bytes of a document, quota of Systems Manager."""
_SLACK: Final = 30
"""Systems Manager's own limit must come later than the step's: a step that it ends is ``TimedOut``,
which ``onFailure`` does not heed."""


@dataclass(frozen=True)
class Rendered:
    """Text for one road, its hash, and the names whose values it takes, in order."""

    playbook: str
    road: str
    text: str
    names: tuple[str, ...]
    timeout: int

    @property
    def sha256(self) -> str:
        """What pins it."""
        return strict.digest(self.text.encode())

    def stdin(self, values: Mapping[str, str]) -> bytes:
        """Values, one a line; they hold no newline (``signing/playbooks/values.py``)."""
        return "".join(f"{values[name]}\n" for name in self.names).encode()


def script(playbook: Playbook) -> Rendered:
    """One POSIX script that does every step; exit status 0, 1 (a step failed) or 3 (not here)."""
    _has_native_road(playbook)
    names = tuple(playbook.parameters)
    lines = [f"#!/bin/sh\n# {playbook.name}@{playbook.version}, {UNVERIFIED}\n"]
    lines += [shell.preamble(playbook.every, first=True)]
    lines += [f"IFS= read -r SSM_{name} || exit 64\n" for name in names]
    lines += [shell.admission(playbook), "OTA_FAILED=0 OTA_STOP=0\n"]
    types = shell.types_of(playbook)
    lines += [_guarded(step, types) for step in playbook.steps]
    if playbook.last is not None:
        lines.append(f"(\n{shell.body(playbook.last, types)}) || OTA_FAILED=1\n")
    text = "".join([*lines, 'exit "$OTA_FAILED"\n'])
    timeout = sum(step.timeout for step in playbook.every) + _SLACK
    return Rendered(f"{playbook.name}@{playbook.version}", "ssh", text, names, timeout)


def _guarded(step: Step, types: Mapping[str, str]) -> str:
    fails = {"stop": "OTA_FAILED=1 OTA_STOP=1", "continue": "OTA_FAILED=1", "ignore": ":"}
    body = shell.body(step, types)
    return f'test "$OTA_STOP" = 1 || (\n{body}) || {fails[step.on_failure]}\n'


# -- Systems Manager ---------------------------------------------------------------------------------
def document(playbook: Playbook, downloads: Mapping[str, str] | None = None) -> Rendered:
    """A Command document of schema 2.2; ``downloads``: S3 URL -> absolute path on the machine.

    ``Malformed`` when it is longer than Systems Manager takes.
    """
    _has_native_road(playbook)
    steps = [_download(n, *item) for n, item in enumerate((downloads or {}).items(), 1)]
    steps += list(_steps(playbook))
    body = {
        "schemaVersion": "2.2",
        "description": f"{playbook.name}@{playbook.version}: {playbook.summary} ({UNVERIFIED})",
        "parameters": {n: _parameter(p) for n, p in playbook.parameters.items()},
        "mainSteps": steps,
    }
    text = json.dumps(body, separators=(",", ":"), sort_keys=True) + "\n"
    if len(text.encode()) > SSM_LIMIT:
        raise Malformed(
            f"{playbook.name}@{playbook.version}: {len(text)} bytes as a document, the limit is "
            f"{SSM_LIMIT}",
            subject=playbook.name,
            remedy="split the playbook, or shorten its files",
        )
    name = f"{playbook.name}@{playbook.version}"
    timeout = sum(step.timeout + _SLACK for step in playbook.every)
    return Rendered(name, "ssm", text, tuple(playbook.parameters), timeout)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "String", "interpolationType": "ENV_VAR"}
    if parameter.description:
        found["description"] = parameter.description
    if any("{{" in text for text in (parameter.default or "", *parameter.choices)):
        raise Malformed("a default or choice with '{{' would be read as a parameter's name")
    if parameter.default is not None:
        found["default"] = parameter.default
    if parameter.choices:
        return found | {"allowedValues": list(parameter.choices)}
    return found | {"allowedPattern": parameter.expression}


def _steps(playbook: Playbook) -> Iterator[dict[str, Any]]:
    types = shell.types_of(playbook)
    admission = shell.admission(playbook)
    exports = "".join(f"export SSM_{name}\n" for name in playbook.parameters)
    for number, step in enumerate(playbook.every):
        # 169: the document ends here, as failed (Systems Manager, "Using exit codes")
        checks = f"(\n{admission}) || exit 169\n" if number == 0 else ""
        body = shell.body(step, types)
        inner = f"(\n{body}) || exit 0\n" if step.on_failure == "ignore" else body
        text = shell.preamble([step], first=number == 0) + exports + checks + inner
        inputs: dict[str, Any] = {
            "timeoutSeconds": str(step.timeout + _SLACK),
            "runCommand": text.splitlines(),
        }
        if step is playbook.last:
            inputs["finallyStep"] = True
        elif step.on_failure == "stop":
            inputs["onFailure"] = "exit"
        yield {
            "action": "aws:runShellScript",
            "name": _step_name(step.name),
            "precondition": {"StringEquals": ["platformType", "Linux"]},
            "inputs": inputs,
        }


def _download(number: int, url: str, path: str) -> dict[str, Any]:
    return {
        "action": "aws:downloadContent",
        "name": f"download{number}",
        "precondition": {"StringEquals": ["platformType", "Linux"]},
        "inputs": {
            "sourceType": "S3",
            "sourceInfo": json.dumps({"path": url}),
            "destinationPath": path,
            "onFailure": "exit",
        },
    }


def _step_name(name: str) -> str:
    """Letters, digits and ``_`` (quota of Systems Manager: 128 of them)."""
    return name.replace("-", "_")


def _has_native_road(playbook: Playbook) -> None:
    if "native" not in playbook.roads:
        raise Malformed(
            f"{playbook.name}@{playbook.version} needs the agent: its roads are "
            f"{', '.join(playbook.roads)}",
            subject=playbook.name,
            remedy=f"ota playbook run {playbook.name}@{playbook.version}",
        )
