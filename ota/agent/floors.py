"""When a component's floor rises (rule 5), and when a security fix closes its way back.

The floor follows the lowest counter among the bootable slots, the current and one kept previous,
so the device never keeps a slot that it would not be allowed to install. Where a committed
security fix runs above a lower previous, that previous is dropped after its *soak*, and the floor
rises then. The soak is not measured by the wall clock, which may jump ten years: it has passed
when it has passed in monotonic time of one boot, or between two trusted times (the clock floor).

>>> rise(state, "app", installer.inspect())
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

from ota.agent.machine import Machine
from ota.agent.parts import Component
from ota.agent.state import State
from ota.ports_device import Slots
from signing import strict


def rise(state: State, component: str, slots: Slots) -> None:
    """Raise the floor to the lowest counter of the bootable slots; it never falls.

    Content of unknown counter in a bootable slot keeps the floor where it is.
    """
    counters = []
    for sha256 in filter(None, (slots.current, slots.previous)):
        image = state.image(component, sha256)
        if image is None:
            return
        counters.append(image.release_counter)
    if counters:
        state.raise_floor(component, min(counters))


def begin_soak(state: State, component: str, slots: Slots, machine: Machine) -> None:
    """Note when a security fix above a lower previous was committed; forget it otherwise."""
    note = ""
    if _closes_way_back(state, component, slots):
        note = json.dumps(
            {
                "sha256": slots.current,
                "boot": machine.boot_id(),
                "since": int(machine.monotonic()),
                "trusted": strict.stamp(state.clock_floor),
            }
        )
    state.put(f"soak {component}", note)


def settle(
    state: State, components: Mapping[str, Component], machine: Machine, soak: timedelta
) -> list[str]:
    """Drop lower previous slots whose soak has passed; returns the components concerned."""
    done = []
    for name, part in components.items():
        note = state.get(f"soak {name}")
        if not note or state.update(name) is not None:
            continue
        slots = part.installer.inspect()
        if slots.trial or not _closes_way_back(state, name, slots):
            state.put(f"soak {name}", "")
            continue
        if _passed(json.loads(note), slots, state, machine, soak):
            part.installer.cleanup([slots.current])
            with state.transaction():
                state.forget_images(name, {slots.current})
                rise(state, name, part.installer.inspect())
                state.put(f"soak {name}", "")
            done.append(name)
    return done


def _closes_way_back(state: State, component: str, slots: Slots) -> bool:
    current = state.image(component, slots.current)
    previous = state.image(component, slots.previous)
    if current is None or not current.security_fix or not slots.previous:
        return False
    return previous is None or previous.release_counter < current.release_counter


def _passed(
    note: Mapping[str, str | int],
    slots: Slots,
    state: State,
    machine: Machine,
    soak: timedelta,
) -> bool:
    if note["sha256"] != slots.current:
        return False
    trusted = strict.instant(note["trusted"])
    if state.clock_floor - trusted >= soak:
        return True
    same_boot = note["boot"] == machine.boot_id()
    return same_boot and machine.monotonic() - int(note["since"]) >= soak.total_seconds()
