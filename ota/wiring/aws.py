"""Settings -> what talks to AWS IoT about devices: identities, and what is known of things.

>>> lifecycle(settings, registry, desk).enrol("press-07", pem, keep, now)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ota.aws.client import client
from ota.fleet.aws_identities import AwsThings
from ota.fleet.aws_things import IndexedThings, ListedThings
from ota.identities.lifecycle import Lifecycle, Registered, Withdrawing
from ota.identities.record import Keeper

if TYPE_CHECKING:
    from ota.ports_aws import Inventory
    from ota.settings.settings import Settings


def lifecycle(
    settings: Settings, registry: Registered, director: Callable[[], Withdrawing]
) -> Lifecycle:
    """Enrolment and revocation; AWS is spoken to when it is needed."""
    return Lifecycle(
        Keeper(settings.state / "aws"),
        registry,
        director,
        lambda: AwsThings(_iot(settings), settings.aws.policies),
    )


def inventory(settings: Settings, query: str, *, listed: bool) -> Inventory:
    """What AWS IoT knows of things."""
    iot = _iot(settings)
    return ListedThings(iot) if listed else IndexedThings(iot, query or settings.aws.query)


def _iot(settings: Settings) -> Any:
    return client("iot", region=settings.aws.region)
