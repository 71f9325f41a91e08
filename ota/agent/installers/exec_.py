"""``exec``: any vendor's updater as an installer, one process per step, JSON on stdio.

The program is called as ``argv + [verb]``. It reads one JSON object from stdin and writes one to
stdout, at most 64 KiB; stderr is kept for error messages. Every verb may come again after a
crash and must then lead to the same state.

| verb | request, besides ``schema`` (1) and ``verb`` | answer, besides ``ok`` |
|---|---|---|
| ``precheck`` | ``sha256``, ``release`` | |
| ``stage`` | ``sha256``, ``release``, ``path`` of the verified file (read only) | |
| ``activate`` | ``sha256`` | ``activation``: ``active`` or ``reboot`` |
| ``verify-active`` | ``sha256`` | ``active``: true or false |
| ``commit`` | ``sha256`` | |
| ``rollback`` | | ``activation``: ``active`` or ``reboot`` |
| ``cleanup`` | ``keep``: list of sha256 | |
| ``inspect`` | | ``current``, ``previous``, ``staged``: sha256 or ""; ``trial``: bool |

``release`` is the signed description: path, component, version, hardware_ids, release_counter,
format, length, hashes, security_fix. Failure: ``{"ok": false, "code": ..., "message": ...}``.
A code in :data:`REFUSING` means "never this release"; ``no-space`` and any other code mean
"not now". No answer, a wrong one, too long a one, or none in time is ``Outage("installer")``;
at the time limit the program's whole process group is killed.

The reboot contract: ``activate`` prepares the boot loader (new slot, boot counter, trial flag)
and answers ``reboot``. The agent has stored PENDING_REBOOT by then and reboots, or waits. After
the restart ``inspect`` decides: ``current`` is the new image on ``trial``, or it is the old one,
because the boot loader fell back. ``commit`` makes the new slot permanent; ``rollback`` before a
reboot cancels the switch (``active``), after one it asks for another (``reboot``).

Options: ``argv``, ``timeout`` (seconds a verb, default 600), ``env`` (names passed on).

>>> installer = Exec.create({"argv": ["/usr/lib/vendor/updater"]}, "component os")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from ota.agent import command
from ota.agent import options as reading
from ota.ports_device import Activation, Slots, VerifiedBytes
from signing import strict
from signing.errors import Malformed, Outage, Refusal
from signing.release import Release

REFUSING = ("archive-hostile", "hardware-mismatch", "image-mismatch", "release-malformed")
"""Codes by which a vendor's updater refuses a release for good."""
_NOT_NOW = ("no-space", "installer", "restart", "busy")
_Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[components.NAME.options]`` may say."""

    argv: reading.Argv
    timeout: reading.Seconds = 600.0
    env: tuple[_Name, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """Every answer; fields that a verb does not name are ignored."""

    ok: bool
    code: str = "installer"
    message: str = ""


class Switched(msgspec.Struct, frozen=True):
    """Answer to ``activate`` and ``rollback``."""

    activation: Literal["active", "reboot"]


class Active(msgspec.Struct, frozen=True):
    """Answer to ``verify-active``."""

    active: bool


class Inspected(msgspec.Struct, frozen=True):
    """Answer to ``inspect``."""

    current: _Digest
    previous: _Digest
    staged: _Digest
    trial: bool


class Exec:
    """Implements ``ota.ports_device.Installer``."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @classmethod
    def create(cls, raw: Mapping[str, Any], where: str) -> Exec:
        """Read the options strictly; ``Malformed`` names ``where`` and the key."""
        return cls(reading.read(Options, raw, where))

    def precheck(self, release: Release) -> None:
        """Ask whether it could take this release now."""
        self._ask("precheck", sha256=release.sha256, release=_described(release))

    def stage(self, image: VerifiedBytes) -> None:
        """Let it read the verified file into the inactive slot."""
        release = image.release
        self._ask("stage", sha256=release.sha256, release=_described(release), path=str(image.path))

    def activate(self, sha256: str) -> Activation:
        """``reboot``: the agent must reboot before it asks for more."""
        answer = self._ask("activate", sha256=self._checked(sha256))
        return self._read("activate", answer, Switched).activation

    def verify_active(self, sha256: str) -> bool:
        """Whether the running slot holds this image, as the updater says after reading it."""
        if not strict.SHA256.fullmatch(sha256):
            return False
        answer = self._ask("verify-active", sha256=sha256)
        return self._read("verify-active", answer, Active).active

    def commit(self, sha256: str) -> None:
        """End the trial."""
        self._ask("commit", sha256=self._checked(sha256))

    def rollback(self) -> Activation:
        """Back to the slot that ran before."""
        return self._read("rollback", self._ask("rollback"), Switched).activation

    def cleanup(self, keep: Iterable[str]) -> None:
        """Drop what is not in ``keep``, never what runs."""
        self._ask("cleanup", keep=sorted(set(keep)))

    def inspect(self) -> Slots:
        """What the updater finds on the medium."""
        found = self._read("inspect", self._ask("inspect"), Inspected)
        return Slots(found.current, found.previous, found.staged, found.trial)

    def _checked(self, sha256: str) -> str:
        if not strict.SHA256.fullmatch(sha256):
            raise Outage(f"not a SHA-256: {sha256[:80]!r}", code="installer", subject="exec")
        return sha256

    def _ask(self, verb: str, **words: Any) -> Any:
        request = msgspec.json.encode({"schema": 1, "verb": verb, **words})
        options = self._options
        ran = command.run(
            [*options.argv, verb], timeout=options.timeout, stdin=request, names=options.env
        )
        if ran.problem:
            raise self._outage(verb, ran.why())
        try:
            answer = strict.loads(ran.out, limit=command.OUTPUT_LIMIT, what="answer")
        except Malformed as e:
            raise self._outage(verb, f"{e}; {ran.why()}") from e
        done = self._read(verb, answer, Done)
        if not done.ok:
            raise self._failure(verb, done)
        if ran.status != 0:
            raise self._outage(verb, f"it says ok, with {ran.why()}")
        return answer

    def _read(self, verb: str, answer: Any, kind: type[reading.T]) -> reading.T:
        try:
            return msgspec.convert(answer, kind, strict=True)
        except msgspec.ValidationError as e:
            raise self._outage(verb, f"wrong answer: {e}") from e

    def _failure(self, verb: str, done: Done) -> Outage | Refusal:
        text = command.printable(done.message)[:240] or "no reason given"
        message = f"the updater's {verb} failed: {text}"
        if done.code in REFUSING:
            return Refusal(done.code, message, subject=self._options.argv[0])
        code = done.code if done.code in _NOT_NOW else "installer"
        return Outage(message, code=code, subject=self._options.argv[0])

    def _outage(self, verb: str, why: str) -> Outage:
        return Outage(
            f"the updater's {verb} failed: {why}"[:400],
            code="installer",
            subject=self._options.argv[0],
            remedy="run it by hand on the device with the same verb",
        )


def _described(release: Release) -> dict[str, Any]:
    words: dict[str, Any] = msgspec.to_builtins(release)
    words.pop("notes")
    return words
