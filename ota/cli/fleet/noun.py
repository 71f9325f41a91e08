"""What the verbs of ``ota fleet`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from signing import strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ota.fleet.retiring import Retirement
    from ota.ports import Device
    from signing.report import ComponentState

app = typer.Typer(name="fleet", no_args_is_help=True, help="Devices, labels and identity keys.")

Select = Annotated[
    str, typer.Option("-l", "--select", help="Label selector, such as site=lyon,!spare.")
]
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]


def listed(device: Device) -> dict[str, Any]:
    """A device in a line."""
    return {
        "id": device.id,
        "state": device.state,
        "courier": device.courier,
        "running": {name: _running(c) for name, c in sorted(device.components.items())},
        "last_seen": device.last_seen,
        "labels": dict(device.labels),
    }


def _running(component: ComponentState) -> str:
    if component.current is None:
        return "nothing"
    return component.current.version or f"sha256:{component.current.sha256[:12]}"


def shown(device: Device) -> dict[str, Any]:
    """All that the registry knows of a device itself."""
    return {
        **listed(device),
        "key": device.key.keyid,
        "state_id": device.state_id,
        "held_state_id": device.held_state_id,
        "counter": device.counter,
        "components": _components(device.components),
    }


def _components(components: Mapping[str, ComponentState]) -> dict[str, Any]:
    return {
        name: {
            "hardware_id": c.hardware_id,
            "floor": c.floor,
            "current": c.current.sha256 if c.current else None,
            "previous": c.previous.sha256 if c.previous else None,
        }
        for name, c in sorted(components.items())
    }


def ended(end: Retirement) -> dict[str, Any]:
    """One end of a device; the same fields with a receipt and without."""
    found = end.receipt
    return {
        "since": end.since,
        "receipt": "verified" if found else "none",
        "verified": end.verified,
        "signed": found.time if found else None,
        "order": found.order if found else "",
        "destroyed": list(found.destroyed) if found else [],
        "sha256": strict.digest(end.envelope) if found else "",
        "key": end.keyid,
    }
