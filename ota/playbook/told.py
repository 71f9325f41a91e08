r"""Reading what a rendered playbook tells: one line a step, and what was collected. Pure.

What a machine without an agent says is nobody's signature: it is shown, never counted.

>>> read(b"ota-step write done - 0 - 0\n")
(StepState(name='write', outcome='done', code='', ...),)
"""

from __future__ import annotations

import re
from typing import Final

from signing.report import StepState

_LINE: Final = re.compile(
    rb"(?m)^ota-step ([a-z0-9-]{1,48}) (done|skipped|failed) ([a-z-]{1,40}) ([0-9]{1,7})"
    rb" ([0-9a-f]{64}|-) ([0-9]{1,9})\n"
)
_MOST: Final = 65


def read(data: bytes) -> tuple[StepState, ...]:
    """Every step that is told of, in order; anything else in between is passed over."""
    found: list[StepState] = []
    at = 0
    while len(found) < _MOST and (match := _LINE.search(data, at)):
        name, outcome, code, length, sha256, whole = match.groups()
        end = match.end() + int(length)
        found.append(
            StepState(
                name=name.decode(),
                outcome=outcome.decode(),  # type: ignore[arg-type]  # one of three, by the pattern
                code="" if code == b"-" else code.decode(),
                output=_printable(data[match.end() : end]),
                output_sha256="" if sha256 == b"-" else sha256.decode(),
                output_length=int(whole),
            )
        )
        at = end
    return tuple(found)


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return "".join(c if (c.isascii() and c.isprintable()) or c in "\n\t" else "?" for c in text)
