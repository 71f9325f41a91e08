"""A run: one playbook, with its parameters, for one device; a target of its director.

The director says, signed, which device runs which playbook now, and with which values. Whoever
carries the news can neither start a signed playbook elsewhere nor change a value, and a run that
was done is not done again: its order is remembered until it has ended (``not_after``).

A device has at most one run at a time, beside the assignments of its components.
"""

from __future__ import annotations

from typing import Literal

from tuf.api.metadata import TargetFile

from signing.assignment import Assignment
from signing.described import Ordered, custom_of
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.playbooks.playbook import LIMIT
from signing.playbooks.values import MAX_VALUE, NAME
from signing.release import check_numbers, split_path


class PlaybookRun(Ordered, frozen=True, kw_only=True):
    """One order to run a playbook, as the director signs it.

    ``parameters`` has one value for each parameter of the playbook, defaults and computed ones
    included: a device chooses nothing.
    """

    parameters: dict[str, str]
    kind: Literal["playbook"] = "playbook"
    component: str = PLAYBOOKS

    def __post_init__(self) -> None:
        """Refuse a malformed order (``Malformed``)."""
        split_path(self.path, PLAYBOOKS)
        check_numbers(self.path, 0, self.length, self.hashes)
        if self.component != PLAYBOOKS or self.length > LIMIT:
            raise Malformed("component or length is not a playbook's", subject=self.path)
        self.check_order()
        if len(self.parameters) > 64:
            raise Malformed("parameters: more than 64", subject=self.path)
        for name, value in self.parameters.items():
            if not NAME.fullmatch(name) or len(value) > MAX_VALUE:
                raise Malformed(f"parameters: {name!r:.60} or its value", subject=self.path)


Assigned = Assignment | PlaybookRun
"""What a director's targets list for one device, by component or as the run."""


def read_assigned(target: TargetFile) -> Assigned:
    """A verified director target by its kind; ``Malformed`` for unknown fields, types or kinds."""
    if custom_of(target).get("kind") == "playbook":
        return PlaybookRun.from_target(target)
    return Assignment.from_target(target)
