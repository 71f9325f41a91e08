"""A playbook: a procedure that its keyholders sign, and that devices verify before they run it.

What is signed is strict, canonical JSON, rendered from the YAML that people write: a device needs
no YAML reader, and there is one text for one procedure. The words are the same in both.

Rules, checked wherever a playbook is read:

* every step has a name of its own, one action, a time limit, and says what its failure means;
* commands are argument lists; a value is a whole element of one (``signing/playbooks/values.py``);
* every reference names a declared parameter; paths come from parameters of type ``path`` only;
* ``update``, ``reboot`` and ``wipe`` need the agent; a playbook with them has no native road;
* ``wipe`` is the last step of all.

>>> read(data).steps[0].kind
'service'
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from signing import patterns, strict
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.playbooks import values
from signing.playbooks.values import Format, Parameter

LIMIT: Final = 48 * 1024
"""Largest playbook in bytes; leaves room in the 64 KB of a Systems Manager document."""
Road = Literal["agent", "native"]
Failure = Literal["stop", "continue", "ignore"]
"""``stop``: no further step but the last one; ``continue``: go on, the run has failed all the
same; ``ignore``: go on as if it had been skipped."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,31}")
_PLATFORM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_MODE: Final = re.compile(r"0[0-7]{3}")
_OWNER: Final = re.compile(r"([a-z_][a-z0-9_-]{0,31})?")
_LONGEST: Final = 86_400
_INTERPRETER: Final = re.compile(
    r"(ba|da|a|k|mk|z|fi)?sh|busybox|python[0-9.]*|perl|ruby|node|lua|php"
)
_CODE: Final = re.compile(r"-[A-Za-z]*[ceErR]|--(eval|command|execute|expression|print)")
_TAKES_CODE: Final = frozenset({"eval", "awk", "gawk", "mawk", "expr"})


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Unknown words are refused.

    Only what may be absent has a default, and then says nothing: what a signed playbook means
    never hangs on a reader's idea of a usual value.
    """


class Exec(_Strict, frozen=True, kw_only=True):
    """Run a program; exit status 0 is success."""

    argv: tuple[str, ...]


class File(_Strict, frozen=True, kw_only=True):
    """Make a file have this content and mode, or be ``absent``.

    ``validate`` is a command over the new content before it takes the file's place: its element
    ``${file}`` is the new file's path.
    """

    path: str
    mode: str
    format: Format
    content: str = ""
    owner: str = ""
    group: str = ""
    validate: tuple[str, ...] = ()
    absent: bool = False


class Service(_Strict, frozen=True, kw_only=True):
    """Bring a service into a state; ``restarted`` and ``reloaded`` act each time, ``up`` never.

    ``up`` waits until it runs, and fails when it does not.
    """

    name: str
    state: Literal["running", "stopped", "restarted", "reloaded", "up"]
    enabled: bool | None = None


class Package(_Strict, frozen=True, kw_only=True):
    """Have a package of the system's own package manager, or not."""

    name: str
    state: Literal["present", "absent"]


class Reboot(_Strict, frozen=True, kw_only=True):
    """Reboot, and go on with the next step afterwards."""


class Check(_Strict, frozen=True, kw_only=True):
    """Run a program again and again until it succeeds; the step's time limit ends that."""

    argv: tuple[str, ...]
    interval: int


class Collect(_Strict, frozen=True, kw_only=True):
    """Run a program and put what it prints into the signed report."""

    argv: tuple[str, ...]


class Update(_Strict, frozen=True, kw_only=True):
    """The agent's own verified cycle, until ``component`` runs ``release`` (a target path).

    The step can not aim: it waits for what the director assigns.
    """

    component: str
    release: str


class Wipe(_Strict, frozen=True, kw_only=True):
    """Destroy this agent's keys and state; ``receipt`` is where the signed receipt stays."""

    receipt: str


Action = Exec | File | Service | Package | Reboot | Check | Collect | Update | Wipe
KINDS: Final = (
    "exec", "file", "service", "package", "reboot", "check", "collect", "update", "wipe",
)  # fmt: skip
AGENT_ONLY: Final = frozenset({"update", "reboot", "wipe"})


class Step(_Strict, frozen=True, kw_only=True):
    """One step. Exactly one of the actions is given; ``timeout`` in seconds.

    Guards: the step is skipped when the command ``unless`` succeeds, when the path ``creates``
    is there, or when the device is none of ``platforms``.
    """

    name: str
    timeout: int
    on_failure: Failure
    unless: tuple[str, ...] = ()
    creates: str = ""
    platforms: tuple[str, ...] = ()
    exec: Exec | None = None
    file: File | None = None
    service: Service | None = None
    package: Package | None = None
    reboot: Reboot | None = None
    check: Check | None = None
    collect: Collect | None = None
    update: Update | None = None
    wipe: Wipe | None = None

    @property
    def kind(self) -> str:
        """The name of its action."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def action(self) -> Action:
        """What it does."""
        found: Action = getattr(self, self.kind)
        return found

    def __post_init__(self) -> None:
        """Refuse a step that says too little or too much (``Malformed``)."""
        if not _NAME.fullmatch(self.name):
            raise Malformed(f"name: {self.name!r:.60} does not match {_NAME.pattern}")
        found = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            given = " and ".join(found) or "none"
            raise Malformed(f"expected exactly one of {', '.join(KINDS)}; found {given}")
        if not 1 <= self.timeout <= _LONGEST:
            raise Malformed(f"timeout: {self.timeout} is not within 1 and {_LONGEST} seconds")
        for platform in self.platforms:
            _check(_PLATFORM, platform, "platforms")
        if self.unless:
            _argv(self.unless, "unless")
        if isinstance(self.action, (Exec, Check, Collect)):
            _argv(self.action.argv, "argv")
        if isinstance(self.action, Check) and not 1 <= self.action.interval <= 3600:
            raise Malformed("interval: not within 1 and 3600 seconds")
        if isinstance(self.action, File):
            _file(self.action)

    def elements(self) -> Iterator[tuple[str, bool]]:
        """Every text that is literal or one whole value; True where it is a path."""
        action = self.action
        if self.creates:
            yield self.creates, True
        yield from ((text, False) for text in self.unless)
        if isinstance(action, (Exec, Check, Collect)):
            yield from ((text, False) for text in action.argv)
        elif isinstance(action, File):
            yield action.path, True
            yield from ((text, False) for text in action.validate if text != FILE)
        elif isinstance(action, (Service, Package)):
            yield action.name, False
        elif isinstance(action, Update):
            yield from ((action.component, False), (action.release, False))
        elif isinstance(action, Wipe):
            yield action.receipt, True


FILE: Final = "${file}"


class Playbook(_Strict, frozen=True, kw_only=True, rename={"last": "finally"}):
    """The whole procedure; ``last`` (``finally`` in the file) runs however the others ended."""

    schema: Literal[1]
    name: str
    version: str
    summary: str
    platforms: tuple[str, ...]
    roads: tuple[Road, ...]
    steps: tuple[Step, ...]
    parameters: dict[str, Parameter] = {}
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
            _check(_PLATFORM, platform, "platforms")
        if not 1 <= len(self.every) <= 64 or len(self.parameters) > 64:
            raise Malformed("steps, parameters: 1 to 64 steps, at most 64 parameters")
        names = [step.name for step in self.every]
        twice = next((name for name in names if names.count(name) > 1), "")
        if twice:
            raise Malformed(f"steps: the name {twice!r} stands twice")
        for name in self.parameters:
            _check(values.NAME, name, "parameters")
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
    _check(_NAME, name, "name")
    _check(_VERSION, version, "version")
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


def _argv(argv: tuple[str, ...], what: str) -> None:
    if not 1 <= len(argv) <= 64 or not argv[0] or any(len(text) > 4096 for text in argv):
        raise Malformed(
            f"{what}: 1 to 64 elements, the first not empty, of at most 4096 characters"
        )
    for text in argv:
        if "\0" in text:
            raise Malformed(f"{what}: a NUL byte in {text!r:.60}")
    if values.whole(argv[0]):
        raise Malformed(f"{what}: the program itself is never a value")
    _no_code(argv, what)


def _no_code(argv: tuple[str, ...], what: str) -> None:
    """No value is a script: not the element after ``-c`` or ``-e`` of an interpreter."""
    interpreter = False
    for text, following in itertools.pairwise(argv):
        program = text.rpartition("/")[2]
        interpreter = interpreter or _INTERPRETER.fullmatch(program) is not None
        script = program in _TAKES_CODE or (interpreter and _CODE.fullmatch(text) is not None)
        if script and values.whole(following):
            raise Malformed(f"{what}: {following} would be run as a script")


def _file(action: File) -> None:
    if not _MODE.fullmatch(action.mode):
        raise Malformed(f"mode: {action.mode!r:.20} is not like 0644")
    for text, what in ((action.owner, "owner"), (action.group, "group")):
        _check(_OWNER, text, what)
    if len(action.content) > 16 * 1024:
        raise Malformed("content: longer than 16384 characters")
    if not all(char.isprintable() or char in "\n\t" for char in action.content):
        raise Malformed("content: a control character")
    if action.absent and (action.content or action.validate):
        raise Malformed("absent: a file that is not there has no content")
    if action.validate:
        _argv(action.validate, "validate")
        if FILE not in action.validate:
            raise Malformed(f"validate: no element is {FILE}")


def _check(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise Malformed(f"{what}: {text!r:.60} does not match {pattern.pattern}", subject=what)
