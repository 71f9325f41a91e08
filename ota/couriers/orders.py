"""Orders as couriers take them: checked before any path, job or command is named after them."""

from __future__ import annotations

from collections.abc import Sequence

from ota.errors import Malformed
from ota.ports import Order
from signing import strict


def checked(order: Order) -> Sequence[str]:
    """Its devices; ``Malformed`` for an order id or device that is none (rule 14)."""
    if not strict.ORDER.fullmatch(order.id):
        raise Malformed(f"order: {order.id!r:.80} is not an order id", subject=order.id)
    for device in order.devices:
        strict.identifier(device, "device")
    return order.devices
