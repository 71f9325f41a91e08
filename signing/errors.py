"""The error tree of the whole product: what happened, to what, and what to do next.

Errors differ by what the reader must do about them, never by which library noticed:

* ``Refusal``  evidence of tampering; nothing was changed; look before you retry.
* ``Stale``    signatures hold but the metadata has expired and nothing newer is there.
* ``Outage``   something could not be reached; the same call may succeed later.
* ``Misuse``   the caller's input is wrong; ``Malformed`` names file, line or key.

Every error carries a stable ``code`` (kebab-case, for machines), the ``exit_code`` of
DESIGN section 8, and a ``remedy``: the next command to try. ``str(error)`` is the message
alone; the command line prints message and remedy. Translate once per seam and always
``raise ... from``.

>>> raise Outage("the store did not answer", subject="https://u.example/", remedy="ota status")
"""

from __future__ import annotations

from typing import ClassVar

from signing.refusals import REFUSALS


class OtaError(Exception):
    """Base of every error a person or a device may see.

    ``subject`` is the thing it happened to (a path, a device id, a role name).
    """

    exit_code: ClassVar[int] = 1
    code: str = "error"

    def __init__(
        self, message: str, *, code: str | None = None, subject: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.subject = subject
        self.remedy = remedy


class Misuse(OtaError):
    """The call's words are wrong (exit 2)."""

    exit_code = 2
    code = "usage"


class Malformed(Misuse):
    """An input file, row or document has the wrong form (exit 2); the message says where."""

    code = "malformed"


class NotFound(Misuse):
    """The named thing does not exist here (exit 2)."""

    code = "not-found"


class Refusal(OtaError):
    """Verification failed: evidence of tampering or of a signer's mistake (exit 3).

    ``code`` must be a row of :data:`signing.refusals.REFUSALS`, so that every refusal has a
    documented cause and remedy.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, *, subject: str = "", remedy: str = "") -> None:
        row = REFUSALS[code]
        super().__init__(message, code=code, subject=subject, remedy=remedy or row.remedy)


class Stale(OtaError):
    """Signed, but expired, and nothing newer was offered (exit 1). Never a refusal."""

    code = "stale"


class Outage(OtaError):
    """Could not reach, read or write something; try again (exit 1). Never a refusal."""

    code = "outage"


class NotPermitted(OtaError):
    """The caller lacks the right, the key or the approval (exit 4)."""

    exit_code = 4
    code = "not-permitted"


class StoppedByGate(OtaError):
    """A gate stopped the rollout (exit 5)."""

    exit_code = 5
    code = "gate"


class NeedsHuman(OtaError):
    """Paused, held or unsigned: a person must act (exit 6)."""

    exit_code = 6
    code = "needs-human"


class Busy(OtaError):
    """Another operator or publisher holds it, or changed it first (exit 7)."""

    exit_code = 7
    code = "busy"


class StillRunning(OtaError):
    """The time limit came before the end (exit 8)."""

    exit_code = 8
    code = "still-running"
