"""The Jobs service of AWS IoT as its developer guide describes it, in memory, strict with devices.

Only what a device sees: executions of things, their versions and states, and the error codes. A
request with a field, a value or a token that the guide does not allow is ``InvalidRequest``, so
that a device's mistakes show. Control-plane calls are plain methods. ``changed`` is called with a
thing's name whenever its next execution is another one.

>>> jobs = Jobs()
>>> jobs.create("ota-app-1-aaaaaa-u1-w0-b0", {"schema": 2, ...}, "press-07")
>>> jobs.start_next("press-07", {})
(True, {'execution': {...}, 'timestamp': 1795507200})
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]
Answer = tuple[bool, JSON]
TERMINAL = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED"}
_MAY_SAY = {"IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"}
_KEY = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
_FIELDS = {
    "start-next": {"statusDetails": dict, "stepTimeoutInMinutes": int, "clientToken": str},
    "get": {"executionNumber": int, "includeJobDocument": bool, "clientToken": str},
    "update": {
        "status": str,
        "statusDetails": dict,
        "expectedVersion": int,
        "executionNumber": int,
        "includeJobExecutionState": bool,
        "includeJobDocument": bool,
        "stepTimeoutInMinutes": int,
        "clientToken": str,
    },
}


@dataclass
class Execution:
    """One job of one thing."""

    job: str
    thing: str
    document: Any
    status: str = "QUEUED"
    details: dict[str, str] = field(default_factory=dict)
    version: int = 1
    number: int = 1
    queued: int = field(default_factory=lambda: int(time.time()))


def encoded(answer: JSON) -> bytes:
    """A message; a document that is bytes goes in as it is, as no JSON library would write it."""
    execution = answer.get("execution", {})
    document = execution.get("jobDocument")
    if not isinstance(document, bytes):
        return json.dumps(answer).encode()
    shown = answer | {"execution": execution | {"jobDocument": "@document@"}}
    return json.dumps(shown).encode().replace(b'"@document@"', document)


class No(Exception):
    """A rejected request: code, message, and the execution where the guide says it is shown."""

    def __init__(self, code: str, message: str, shown: Execution | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.shown = shown


class Jobs:
    """See the module. The next requests (of ``refuse_verb``) are rejected with codes of ``refuse``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.executions: list[Execution] = []
        self.refuse: list[str] = []
        self.refuse_verb = ""
        self.asked: list[tuple[str, str, JSON]] = []
        self.changed: Callable[[str], None] = lambda _thing: None

    # -- control plane -------------------------------------------------------------------------
    def create(self, job: str, document: Any, *things: str) -> None:
        """A job for these things."""
        for thing in things:
            with self._watched(thing):
                number = 1 + sum(e.job == job and e.thing == thing for e in self.executions)
                self.executions.append(Execution(job, thing, document, number=number))

    def end(self, job: str, thing: str, status: str) -> None:
        """Cancel or time out by force, whatever its state."""
        with self._watched(thing):
            found = self.execution(job, thing)
            found.status, found.version = status, found.version + 1

    def delete(self, job: str, thing: str) -> None:
        """As if it had never been."""
        with self._watched(thing):
            self.executions.remove(self.execution(job, thing))

    def execution(self, job: str, thing: str) -> Execution:
        """The newest of this job; an error when there is none."""
        with self.lock:
            return [e for e in self.executions if (e.job, e.thing) == (job, thing)][-1]

    # -- data plane ----------------------------------------------------------------------------
    def handle(self, verb: str, thing: str, job: str, body: Any) -> Answer:
        """One request; whether it is accepted, and what is answered."""
        with self.lock:
            token = body.get("clientToken") if isinstance(body, dict) else None
            head: JSON = {"timestamp": int(time.time())}
            if isinstance(token, str):
                head["clientToken"] = token
            self.asked.append((verb, job, body))
            try:
                self._check(verb, body)
                return True, head | getattr(self, f"_{verb.replace('-', '_')}")(thing, job, body)
            except No as e:
                head |= {"code": e.code, "message": str(e)}
                if e.shown is not None:
                    head["executionState"] = _state(e.shown)
                return False, head

    def next(self, thing: str) -> Execution | None:
        """IN_PROGRESS before QUEUED, then by age."""
        mine = [e for e in self.executions if e.thing == thing and e.status not in TERMINAL]
        return min(mine, key=lambda e: e.status != "IN_PROGRESS", default=None)

    def _check(self, verb: str, body: Any) -> None:
        if self.refuse and self.refuse_verb in {"", verb}:
            raise No(self.refuse.pop(0), "told so by the test")
        if not isinstance(body, dict):
            raise No("InvalidJson", "not an object")
        for name, value in body.items():
            kind = _FIELDS[verb].get(name)
            if kind is None or type(value) is not kind:
                raise No("InvalidRequest", f"{name}: {value!r}")
        if not 0 < len(body.get("clientToken", "x")) <= 64:
            raise No("InvalidRequest", "clientToken")
        details = body.get("statusDetails", {})
        good = all(_KEY.fullmatch(k) and _VALUE.fullmatch(v) for k, v in details.items())
        if not good or len(details) > 10:
            raise No("InvalidRequest", f"statusDetails: {details}")

    def _start_next(self, thing: str, _job: str, body: JSON) -> JSON:
        found = self.next(thing)
        if found is None:
            return {}
        if found.status == "QUEUED":
            found.status, found.version = "IN_PROGRESS", found.version + 1
            found.details = body.get("statusDetails", found.details)
        return {"execution": _shown(found)}

    def _get(self, thing: str, job: str, body: JSON) -> JSON:
        found = self.next(thing) if job == "$next" else self._found(thing, job)
        if found is None:
            return {}
        if found.status in TERMINAL:
            raise No("TerminalStateReached", f"{job} is {found.status}")
        return {"execution": _shown(found, document=body.get("includeJobDocument", True))}

    def _update(self, thing: str, job: str, body: JSON) -> JSON:
        found = self._found(thing, job)
        status = body.get("status")
        if status not in _MAY_SAY:
            raise No("InvalidRequest", f"status: {status!r}")
        if body.get("expectedVersion", found.version) != found.version:
            raise No("VersionMismatch", f"version is {found.version}", found)
        if found.status in TERMINAL:
            raise No("InvalidStateTransition", f"{found.status} to {status}", found)
        with self._watched(thing):
            found.status, found.version = status, found.version + 1
            found.details = body.get("statusDetails", found.details)
        return {"executionState": _state(found)} if body.get("includeJobExecutionState") else {}

    def _found(self, thing: str, job: str) -> Execution:
        try:
            return self.execution(job, thing)
        except IndexError:
            raise No("ResourceNotFound", f"{job} of {thing}") from None

    def _watched(self, thing: str) -> _Watched:
        return _Watched(self, thing)


class _Watched:
    """Says so when the next execution of a thing is another one afterwards."""

    def __init__(self, jobs: Jobs, thing: str) -> None:
        self._jobs, self._thing = jobs, thing

    def __enter__(self) -> None:
        self._jobs.lock.acquire()
        self._before = self._jobs.next(self._thing)

    def __exit__(self, *error: object) -> None:
        changed = self._jobs.next(self._thing) is not self._before
        self._jobs.lock.release()
        if changed:
            self._jobs.changed(self._thing)


def _state(execution: Execution) -> JSON:
    return {
        "status": execution.status,
        "statusDetails": execution.details,
        "versionNumber": execution.version,
    }


def _shown(execution: Execution, *, document: bool = True) -> JSON:
    """A JobExecution as it stands in messages."""
    found = {
        "jobId": execution.job,
        "queuedAt": execution.queued,
        "lastUpdatedAt": execution.queued,
        "executionNumber": execution.number,
        **_state(execution),
    }
    return found | ({"jobDocument": execution.document} if document else {})
