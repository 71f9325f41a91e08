"""A component as the agent works with it: its installer, its probe, and what its slots hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ota.agent import health, installers
from ota.agent.config import ComponentConfig
from ota.agent.facts import Image
from ota.agent.state import State
from ota.ports_device import HealthProbe, Installer, Slots
from signing.errors import OtaError
from signing.report import ComponentState, Slot


@dataclass(frozen=True)
class Component:
    """One separately updated part. ``deadline``: seconds for the health of a trial.

    ``keeps``: whether its previous slot can be activated again without a download.
    """

    name: str
    hardware_id: str
    installer: Installer
    probe: HealthProbe
    deadline: float
    keeps: bool


def build(name: str, config: ComponentConfig, folder: Path) -> Component:
    """From the configuration; ``Malformed`` names the component and the key."""
    probe = health.create(config.health, f"component {name}: health")
    return Component(
        name,
        config.hardware_id,
        installers.create(config.installer, config.options, folder / "components" / name),
        probe,
        probe.deadline,
        config.installer != "exec",
    )


def committed(components: Mapping[str, Component]) -> dict[str, str]:
    """Component -> the hash that runs and is not on trial, "" for nothing or when it is unknown.

    An installer that fails concerns its own component only: an update of it will say so.
    """
    found = {name: _slots(part) for name, part in components.items()}
    return {name: "" if slots.trial else slots.current for name, slots in found.items()}


def adopt(name: str, config: ComponentConfig, part: Component, state: State, now: datetime) -> None:
    """Record what a component that is new here left the factory with (rule 4)."""
    factory = config.factory
    state.raise_floor(name, factory.release_counter)
    current = part.installer.inspect().current
    if current and state.image(name, current) is None:
        counter = factory.release_counter
        image = Image(factory.path, factory.version, counter, factory.length, False, now)  # noqa: FBT003 - no security fix
        state.remember_image(name, current, image)


def _slots(part: Component) -> Slots:
    try:
        return part.installer.inspect()
    except OtaError:
        return Slots("", "", "", trial=False)


def inventory(components: Mapping[str, Component], state: State) -> dict[str, ComponentState]:
    """What every component's medium says, with what the journal knows of those contents."""
    floors = state.floors()
    return {
        name: _component_state(part, _slots(part), state, floors.get(name, 0))
        for name, part in components.items()
    }


def _component_state(part: Component, slots: Slots, state: State, floor: int) -> ComponentState:
    return ComponentState(
        hardware_id=part.hardware_id,
        floor=floor,
        current=_slot(part.name, slots.current, state),
        previous=_slot(part.name, slots.previous, state),
    )


def _slot(component: str, sha256: str, state: State) -> Slot | None:
    if not sha256:
        return None
    image = state.image(component, sha256)
    if image is None:
        return Slot(sha256=sha256, length=0)
    return Slot(
        sha256=sha256,
        length=image.length,
        path=image.path,
        version=image.version,
        release_counter=image.release_counter,
    )
