"""What a vendor's updater may answer: its meaning, or a typed error that can be shown to anybody."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.images import release
from simulators.mutations import budget, damaged, dumps, mutated

from ota.agent.installers.exec_ import REFUSING, Exec
from ota.ports_device import Slots
from signing.errors import Outage, Refusal

HASH = "a" * 64
RELEASE = release("os/os-1.img", hashes={"sha256": HASH})
GOOD: dict[str, Any] = {
    "ok": True,
    "activation": "reboot",
    "active": True,
    "current": HASH,
    "previous": "",
    "staged": "b" * 64,
    "trial": False,
}
BAD: dict[str, Any] = {"ok": False, "code": "no-space", "message": "the slot is full\n"}
VERBS: dict[str, Callable[[Exec], Any]] = {
    "precheck": lambda e: e.precheck(RELEASE),
    "activate": lambda e: e.activate(HASH),
    "verify-active": lambda e: e.verify_active(HASH),
    "commit": lambda e: e.commit(HASH),
    "rollback": lambda e: e.rollback(),
    "cleanup": lambda e: e.cleanup([HASH]),
    "inspect": lambda e: e.inspect(),
}
MEANINGS: dict[str, tuple[Any, ...]] = {
    "activate": ("active", "reboot"),
    "rollback": ("active", "reboot"),
    "verify-active": (True, False),
}


def answered(verb: str, answer: bytes, status: int = 0) -> Any:
    """What one verb makes of one answer: a meaning, or the error."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(answer)
        words = f"cat {shlex.quote(file.name)}; echo noise >&2; exit {status}"
        updater = Exec.create({"argv": ["/bin/sh", "-c", words], "timeout": 20.0}, "component os")
        try:
            return VERBS[verb](updater)
        except (Outage, Refusal) as error:
            return error


def judged(verb: str, found: Any) -> None:
    """A meaning of that verb; or a known code, and words on one line."""
    if isinstance(found, (Outage, Refusal)):
        assert isinstance(found, Outage) or found.code in REFUSING
        assert str(found).isprintable()
        assert len(str(found)) <= 400
    elif verb == "inspect":
        assert isinstance(found, Slots)
        texts = (found.current, found.previous, found.staged)
        assert all(t == "" or (len(t) == 64 and int(t, 16) >= 0) for t in texts)
    else:
        assert found in MEANINGS.get(verb, (None,))


@budget(1)
@given(st.sampled_from(sorted(VERBS)), mutated(GOOD) | mutated(BAD), st.sampled_from([0, 0, 3]))
def test_mutated(verb: str, answer: Any, status: int) -> None:
    """Fields missing, repeated, of other types, with other words."""
    judged(verb, answered(verb, dumps(answer), status))


@budget(0.7)
@given(
    st.sampled_from(sorted(VERBS)),
    damaged(json.dumps(GOOD).encode(), others=b"\xff\x00") | st.binary(max_size=80),
)
def test_damaged_bytes(verb: str, answer: bytes) -> None:
    """Cut off, not JSON, not text."""
    judged(verb, answered(verb, answer))


def test_the_good_answer_is_understood() -> None:
    """What the examples begin with has a meaning for each verb, and an exit status that agrees."""
    for verb in VERBS:
        assert not isinstance(answered(verb, json.dumps(GOOD).encode()), Exception), verb
        assert isinstance(answered(verb, json.dumps(GOOD).encode(), 1), Outage), verb
        assert isinstance(answered(verb, json.dumps(BAD).encode()), Outage), verb
