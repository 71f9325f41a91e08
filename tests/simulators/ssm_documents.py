"""A strict interpreter of Systems Manager Command documents, schema 2.2, for ``aws:runShellScript``.

Sources: the user guide's pages "Data elements and parameters" and "Using exit codes in commands", and
what the agent does (``onFailure``, ``onSuccess`` and ``finallyStep`` stand in a step's inputs; a step
that ends at its own time limit is ``TimedOut``, which ``onFailure`` does not heed; ``finallyStep``
counts on the last step only). Whatever it does not know is an error.

>>> run(document, {"service": "web"}).status
'Success'
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TOP = {"schemaVersion", "description", "parameters", "mainSteps"}
_PARAMETER = {
    "type",
    "description",
    "default",
    "allowedValues",
    "allowedPattern",
    "interpolationType",
}
_STEP = {"action", "name", "precondition", "inputs"}
_INPUTS = {
    "timeoutSeconds",
    "runCommand",
    "workingDirectory",
    "onFailure",
    "onSuccess",
    "finallyStep",
}
_NAME = re.compile(r"[A-Za-z0-9_]{1,128}")
_REFERENCE = re.compile(r"\{\{\s*([^}]*)\}\}")
LIMIT = 64 * 1024
OUTPUT = 24_000
SUCCESS, FAILURE = 168, 169


class InvalidDocument(Exception):
    """The service refuses it when it is created."""


class InvalidParameters(Exception):
    """The service refuses the command."""


@dataclass
class Plugin:
    """One step's outcome."""

    name: str
    status: str
    code: int = 0
    out: str = ""
    err: str = ""


@dataclass
class Invocation:
    """One command on one machine."""

    plugins: list[Plugin] = field(default_factory=list)

    @property
    def status(self) -> str:
        states = {plugin.status for plugin in self.plugins}
        return next((s for s in ("TimedOut", "Failed") if s in states), "Success")

    @property
    def out(self) -> str:
        return "".join(plugin.out for plugin in self.plugins)


def check(text: str) -> dict[str, Any]:
    """What CreateDocument checks, and more; returns the document."""
    if len(text.encode()) > LIMIT:
        raise InvalidDocument("longer than 64 KB")
    body = json.loads(text)
    _known(body, _TOP, "document")
    if body["schemaVersion"] != "2.2" or not body["mainSteps"]:
        raise InvalidDocument("not schema 2.2, or without steps")
    for name, parameter in body.get("parameters", {}).items():
        _parameter(name, parameter)
    names = [step["name"] for step in body["mainSteps"]]
    if len(set(names)) != len(names):
        raise InvalidDocument("two steps have one name")
    for number, step in enumerate(body["mainSteps"]):
        _step(step, last=number == len(names) - 1)
    return dict(body)


def _parameter(name: str, parameter: dict[str, Any]) -> None:
    _known(parameter, _PARAMETER, name)
    if not _NAME.fullmatch(name) or parameter["type"] != "String":
        raise InvalidDocument(f"parameter {name}")
    if parameter.get("interpolationType") != "ENV_VAR":
        raise InvalidDocument(f"parameter {name} would be pasted into the script")
    if not {"allowedPattern", "allowedValues"} & set(parameter):
        raise InvalidDocument(f"parameter {name} takes anything")
    if "default" in parameter:
        _value(name, parameter, parameter["default"])


def _step(step: dict[str, Any], *, last: bool) -> None:
    _known(step, _STEP, step["name"])
    if step["action"] != "aws:runShellScript" or not _NAME.fullmatch(step["name"]):
        raise InvalidDocument(f"step {step['name']}: {step['action']}")
    if step.get("precondition") != {"StringEquals": ["platformType", "Linux"]}:
        raise InvalidDocument(f"step {step['name']}: precondition")
    inputs = step["inputs"]
    _known(inputs, _INPUTS, step["name"])
    if not re.fullmatch("[0-9]{1,6}", inputs["timeoutSeconds"]):
        raise InvalidDocument("timeoutSeconds is not text of digits")
    if inputs.get("onFailure") not in {None, "exit", "successAndExit"}:
        raise InvalidDocument("onFailure")
    if inputs.get("finallyStep") not in {None, True} or (inputs.get("finallyStep") and not last):
        raise InvalidDocument("finallyStep on a step that is not the last")
    for line in inputs["runCommand"]:
        if _REFERENCE.search(line) or "\n" in line:
            raise InvalidDocument(f"step {step['name']}: {line!r:.60} would be interpolated")


def _known(found: dict[str, Any], known: set[str], where: str) -> None:
    if set(found) - known:
        raise InvalidDocument(f"{where}: unknown {sorted(set(found) - known)}")


def _value(name: str, parameter: dict[str, Any], value: str) -> None:
    allowed, pattern = parameter.get("allowedValues"), parameter.get("allowedPattern")
    if allowed is not None and value not in allowed:
        raise InvalidParameters(f"{name}: {value!r} is not allowed")
    if pattern is not None and not re.search(pattern, value):
        raise InvalidParameters(f"{name}: {value!r} does not match")


def run(
    text: str, values: dict[str, str], *, platform: str = "Linux", **environment: str
) -> Invocation:
    """Send it: check document and values, then do its steps on this very machine."""
    document = check(text)
    parameters = document.get("parameters", {})
    if set(values) - set(parameters):
        raise InvalidParameters(f"unknown {sorted(set(values) - set(parameters))}")
    bound = {name: p["default"] for name, p in parameters.items() if "default" in p} | values
    for name, parameter in parameters.items():
        if name not in bound:
            raise InvalidParameters(f"{name} is missing")
        _value(name, parameter, bound[name])
    env = os.environ | environment | {f"SSM_{name}": value for name, value in bound.items()}
    done = Invocation()
    for number, step in enumerate(document["mainSteps"]):
        last = number == len(document["mainSteps"]) - 1
        finally_step = bool(step["inputs"].get("finallyStep")) and last
        if platform != "Linux" or (_ended(document, done) and not finally_step):
            done.plugins.append(Plugin(step["name"], "Skipped"))
            continue
        done.plugins.append(_execute(step, env))
    return done


def _ended(document: dict[str, Any], done: Invocation) -> bool:
    for step, plugin in zip(document["mainSteps"], done.plugins, strict=False):
        failed = plugin.status == "Failed" and step["inputs"].get("onFailure") is not None
        left = plugin.status == "Success" and step["inputs"].get("onSuccess") == "exit"
        if plugin.code in {SUCCESS, FAILURE} or failed or left:
            return True
    return False


def _execute(step: dict[str, Any], env: dict[str, str]) -> Plugin:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "_script.sh"
        script.write_text("\n".join(step["inputs"]["runCommand"]) + "\n")
        try:
            ran = subprocess.run(
                ["sh", str(script)],
                env=env,
                cwd=folder,
                input="",
                capture_output=True,
                text=True,
                check=False,
                timeout=int(step["inputs"]["timeoutSeconds"]),
            )
        except subprocess.TimeoutExpired:
            return Plugin(step["name"], "TimedOut", 137)
    status = "Success" if ran.returncode in {0, SUCCESS} else "Failed"
    if status == "Failed" and step["inputs"].get("onFailure") == "successAndExit":
        return Plugin(step["name"], "Success", SUCCESS, ran.stdout[:OUTPUT], ran.stderr)
    return Plugin(step["name"], status, ran.returncode, ran.stdout[:OUTPUT], ran.stderr)
