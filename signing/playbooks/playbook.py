"""A playbook: a procedure that its keyholders sign, and that devices verify before they run it.

What is signed is strict, canonical JSON, rendered from the YAML that people write: a device needs
no YAML reader, and there is one text for one procedure. The words are the same in both.

Rules, checked wherever a playbook is read:

* every step has a name of its own, and one action (``signing/playbooks/steps.py``);
* every reference names a declared parameter; paths come from parameters of type ``path`` only;
* ``update``, ``reboot`` and ``wipe`` need the agent; a playbook with them has no native road;
* ``wipe`` is the last step of all.

>>> read(data).steps[0].kind
'service'
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from signing import patterns, strict
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.playbooks import values
from signing.playbooks.steps import AGENT_ONLY, NAME, PLATFORM, File, Step, Strict, fitting
from signing.playbooks.values import Parameter

LIMIT: Final = 48 * 1024
"""Largest playbook in bytes; leaves room in the 64 KB of a Systems Manager document."""
Road = Literal["agent", "native"]
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,31}")


class Playbook(Strict, frozen=True, kw_only=True, rename={"last": "finally"}):
    """The whole procedure; ``last`` (``finally`` in the file) runs however the others ended."""

    schema: Literal[1]
    name: str
    version: str
    summary: str
    platforms: tuple[str, ...]
    roads: tuple[Road, ...]
    steps: tuple[Step, ...]
    parameters: dict[str, Parameter] = msgspec.field(default_factory=dict)
    last: Step | None = None

    @property
    def path(self) -> str:
        """Its target path."""
        return path_of(self.name, self.version)

    @property
    def every(self) -> tuple[Step, ...]:
        """All steps in order, the last one included."""
        return self.steps if self.last is None else (*self.steps, self.last)

    def __post_init__(self) -> None:
        """Refuse what breaks the rules of this module (``Malformed``)."""
        path_of(self.name, self.version)
        if not self.summary or len(self.summary) > 400 or not self.summary.isprintable():
            raise Malformed("summary: one printable line of at most 400 characters is needed")
        if not self.platforms or not self.roads or len(set(self.roads)) != len(self.roads):
            raise Malformed("platforms, roads: name at least one, none twice")
        for platform in self.platforms:
            fitting(PLATFORM, platform, "platforms")
        if not 1 <= len(self.every) <= 64 or len(self.parameters) > 64:
            raise Malformed("steps, parameters: 1 to 64 steps, at most 64 parameters")
        names = [step.name for step in self.every]
        twice = next((name for name in names if names.count(name) > 1), "")
        if twice:
            raise Malformed(f"steps: the name {twice!r} stands twice")
        for name in self.parameters:
            fitting(values.NAME, name, "parameters")
            if name == "file":
                raise Malformed("parameters: 'file' is taken: it is a new file in validate")
        self._check_kinds()
        for step in self.every:
            self._check_references(step)

    def _check_kinds(self) -> None:
        needy = next((s for s in self.every if s.kind in AGENT_ONLY), None)
        if needy is not None and "native" in self.roads:
            raise Malformed(f"roads: step {needy.name!r} needs the agent; write roads: [agent]")
        if any(step.kind == "wipe" for step in self.every[:-1]):
            raise Malformed("steps: wipe must be the last step of all")
        if self.last is not None and self.last.kind in {"wipe", "reboot"}:
            raise Malformed("finally: a step that may stand anywhere but here")

    def _check_references(self, step: Step) -> None:
        try:
            for text, is_path in step.elements():
                name = values.whole(text)
                if is_path and name and self._declared(name).type != "path":
                    raise Malformed(f"{name} is a path here, so its type must be")
                if is_path and not name and not patterns.matches(values.PATH, text):
                    raise Malformed(f"{text!r:.80} is not an absolute path")
                if name:
                    self._declared(name)
            if isinstance(step.action, File):
                for name in values.references(step.action.content):
                    self._declared(name)
        except Malformed as e:
            raise Malformed(f"step {step.name}: {e}", subject=step.name) from e

    def _declared(self, name: str) -> Parameter:
        if name not in self.parameters:
            raise Malformed(f"${{{name}}} is no parameter")
        return self.parameters[name]

    def references(self) -> set[str]:
        """Parameters that some step uses."""
        found = {values.whole(text) for step in self.every for text, _ in step.elements()}
        for step in self.every:
            if isinstance(step.action, File):
                found |= values.references(step.action.content)
        return found - {""}

    def check_values(self, given: dict[str, str]) -> dict[str, str]:
        """Return ``given`` if it is one good value for each parameter, else ``Malformed``."""
        unknown = set(given) ^ set(self.parameters)
        if unknown:
            name = min(unknown)
            why = "is not one of this playbook" if name in given else "has no value"
            raise Malformed(f"parameter {name} {why}", subject=name)
        return {n: self.parameters[n].check(n, value) for n, value in sorted(given.items())}


def path_of(name: str, version: str) -> str:
    """``("restart-service", "1.0.0")`` -> its target path; ``Malformed``."""
    fitting(NAME, name, "name")
    fitting(_VERSION, version, "version")
    return f"{PLAYBOOKS}/{name}-{version}.json"


def named(text: str) -> tuple[str, str]:
    """``NAME@VERSION`` -> both; ``Malformed`` for anything else."""
    name, mark, version = text.partition("@")
    if not mark:
        raise Malformed(f"{text!r:.80} is not NAME@VERSION", subject=text[:80])
    path_of(name, version)
    return name, version


def encode(playbook: Playbook) -> bytes:
    """The one text that is signed."""
    data = strict.compact(msgspec.to_builtins(playbook))
    if len(data) > LIMIT:
        raise Malformed(f"{playbook.name}: {len(data)} bytes, the limit is {LIMIT}")
    return data


def read(data: bytes, what: str = "playbook") -> Playbook:
    """A signed playbook, exactly as :func:`encode` writes it; ``Malformed`` otherwise."""
    try:
        found = msgspec.convert(strict.loads(data, limit=LIMIT, what=what), Playbook, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{what}: {e}", subject=what) from e
    if encode(found) != data:
        raise Malformed(f"{what}: not in its canonical form", subject=what)
    return found
