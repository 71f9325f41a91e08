"""An assignment: one component of one device -> one release, a target of its director.

The director repeats, signed, what the image repository says (counter, hashes) and adds what
only operations know (order, wave, kind, the least image snapshot that lists it, its end).
The device compares both; see ``ota/agent/trust.py``.
"""

from __future__ import annotations

from typing import Literal

from signing import strict
from signing.described import Ordered
from signing.errors import Malformed
from signing.layout import PLAYBOOKS
from signing.release import check_numbers, split_path


class Assignment(Ordered, frozen=True, kw_only=True):
    """One order's content for one component, as the director signs it.

    ``clear_denial`` lifts this device's own denial of exactly this release.
    """

    component: str
    hardware_id: str
    release_counter: int
    kind: Literal["update", "rollback"]
    clear_denial: bool = False

    def __post_init__(self) -> None:
        """Refuse a malformed assignment (``Malformed``)."""
        split_path(self.path, self.component)
        if self.component == PLAYBOOKS:
            raise Malformed("component: a playbook is run, not installed", subject=self.path)
        strict.identifier(self.hardware_id, "hardware_id")
        check_numbers(self.path, self.release_counter, self.length, self.hashes)
        self.check_order()
