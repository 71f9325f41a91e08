"""Whether a hint asks for the very run that the director orders here. Pure.

A hint can wake a device; it can not choose. One that names another playbook, or another value of a
parameter, is refused and reported: somebody changed a document, a script, or a command line.

>>> ordered(body, cycle).order
'ota-tidy-x7k2m9-u1-w0-b0'
"""

from __future__ import annotations

from ota.agent.hints import Body
from ota.agent.verdict import Cycle
from signing.errors import Refusal
from signing.layout import PLAYBOOKS
from signing.playbooks.playbook import named, path_of
from signing.playbooks.run import PlaybookRun


def ordered(asked: Body, cycle: Cycle) -> PlaybookRun:
    """The run that is ordered, if it is what was asked for; ``Refusal`` (``hint-playbook``)."""
    run = cycle.assigned.get(PLAYBOOKS)
    if not isinstance(run, PlaybookRun):
        raise _refusal(asked, "the director orders no playbook here")
    if run.path != path_of(*named(asked.playbook)):
        raise _refusal(asked, f"the director orders {run.path}")
    for name, value in sorted(asked.parameters.items()):
        if run.parameters.get(name) != value:
            raise _refusal(asked, f"the director orders another value for {name:.40}")
    return run


def _refusal(asked: Body, why: str) -> Refusal:
    return Refusal("hint-playbook", f"a hint asks for {asked.playbook}; {why}", subject=asked.order)
