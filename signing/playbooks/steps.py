"""The steps of a playbook: what each may do, its guards, and what its failure means.

Rules, checked wherever a playbook is read:

* every step has one action and a time limit, and says what its failure means;
* commands are argument lists; a value is a whole element of one (``signing/playbooks/values.py``),
  never the program itself nor a script that an interpreter would run.

>>> Step(name="start", timeout=60, on_failure="stop", exec=Exec(argv=("true",))).kind
'exec'
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from signing.errors import Malformed
from signing.playbooks import values
from signing.playbooks.values import Format

Failure = Literal["stop", "continue", "ignore"]
"""``stop``: no further step but the last one; ``continue``: go on, the run has failed all the
same; ``ignore``: go on as if it had been skipped."""


NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
PLATFORM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_MODE: Final = re.compile(r"0[0-7]{3}")
_OWNER: Final = re.compile(r"([a-z_][a-z0-9_-]{0,31})?")
_LONGEST: Final = 86_400
_INTERPRETER: Final = re.compile(
    r"(ba|da|a|k|mk|z|fi)?sh|busybox|python[0-9.]*|perl|ruby|node|lua|php"
)
_CODE: Final = re.compile(r"-[A-Za-z]*[ceErR]|--(eval|command|execute|expression|print)")
_TAKES_CODE: Final = frozenset({"eval", "awk", "gawk", "mawk", "expr"})


class Strict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Unknown words are refused.

    Only what may be absent has a default, and then says nothing: what a signed playbook means
    never hangs on a reader's idea of a usual value.
    """


class Exec(Strict, frozen=True, kw_only=True):
    """Run a program; exit status 0 is success."""

    argv: tuple[str, ...]


class File(Strict, frozen=True, kw_only=True):
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


class Service(Strict, frozen=True, kw_only=True):
    """Bring a service into a state; ``restarted`` and ``reloaded`` act each time, ``up`` never.

    ``up`` waits until it runs, and fails when it does not.
    """

    name: str
    state: Literal["running", "stopped", "restarted", "reloaded", "up"]
    enabled: bool | None = None


class Package(Strict, frozen=True, kw_only=True):
    """Have a package of the system's own package manager, or not."""

    name: str
    state: Literal["present", "absent"]


class Reboot(Strict, frozen=True, kw_only=True):
    """Reboot, and go on with the next step afterwards."""


class Check(Strict, frozen=True, kw_only=True):
    """Run a program again and again until it succeeds; the step's time limit ends that."""

    argv: tuple[str, ...]
    interval: int


class Collect(Strict, frozen=True, kw_only=True):
    """Run a program and put what it prints into the signed report."""

    argv: tuple[str, ...]


class Update(Strict, frozen=True, kw_only=True):
    """The agent's own verified cycle, until ``component`` runs ``release`` (a target path).

    The step can not aim: it waits for what the director assigns.
    """

    component: str
    release: str


class Wipe(Strict, frozen=True, kw_only=True):
    """Destroy this agent's keys and state; ``receipt`` is where the signed receipt stays."""

    receipt: str


Action = Exec | File | Service | Package | Reboot | Check | Collect | Update | Wipe
KINDS: Final = (
    "exec", "file", "service", "package", "reboot", "check", "collect", "update", "wipe",
)  # fmt: skip
AGENT_ONLY: Final = frozenset({"update", "reboot", "wipe"})


class Step(Strict, frozen=True, kw_only=True):
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
        if not NAME.fullmatch(self.name):
            raise Malformed(f"name: {self.name!r:.60} does not match {NAME.pattern}")
        found = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            given = " and ".join(found) or "none"
            raise Malformed(f"expected exactly one of {', '.join(KINDS)}; found {given}")
        if not 1 <= self.timeout <= _LONGEST:
            raise Malformed(f"timeout: {self.timeout} is not within 1 and {_LONGEST} seconds")
        for platform in self.platforms:
            fitting(PLATFORM, platform, "platforms")
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
        fitting(_OWNER, text, what)
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


def fitting(pattern: re.Pattern[str], text: str, what: str) -> None:
    """``Malformed`` names ``what`` unless all of ``text`` fits."""
    if not pattern.fullmatch(text):
        raise Malformed(f"{what}: {text!r:.60} does not match {pattern.pattern}", subject=what)
