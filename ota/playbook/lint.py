"""What is allowed in a playbook and yet is probably a mistake, and what rendering will refuse.

Errors are raised where a playbook is read; these are findings for its author.

>>> findings(playbook)
['parameter port: no description']
"""

from __future__ import annotations

from collections.abc import Iterator

from ota.playbook import compute
from signing.playbooks.playbook import Playbook
from signing.playbooks.steps import Check, Exec, Service, Step


def findings(playbook: Playbook) -> list[str]:
    """One line for each; empty for a playbook that needs no second look. Raises ``Malformed``."""
    compute.check(playbook)
    return [*_parameters(playbook), *(line for step in playbook.every for line in _step(step))]


def _parameters(playbook: Playbook) -> Iterator[str]:
    used = playbook.references()
    computed = " ".join(p.computed for p in playbook.parameters.values())
    for name, parameter in playbook.parameters.items():
        if name not in used and name not in computed:
            yield f"parameter {name}: no step uses it"
        if not parameter.description:
            yield f"parameter {name}: no description"


def _step(step: Step) -> Iterator[str]:
    action = step.action
    if isinstance(action, Exec) and not (step.unless or step.creates):
        yield (
            f"step {step.name}: no guard: it runs again when the device dies in the middle of it "
            "and must then lead to the same state"
        )
    if isinstance(action, Check) and action.interval >= step.timeout:
        yield f"step {step.name}: its interval leaves room for one try only"
    if isinstance(action, Service) and action.state in {"restarted", "reloaded"} and step.unless:
        yield f"step {step.name}: {action.state} acts each time; the guard may hide that"
