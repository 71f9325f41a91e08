"""A hint says "look now" and nothing else: nothing in it is believed, whoever carried it.

It is still read strictly, so that a courier that is being tampered with, or one that mixes up
devices, shows up as a signed refusal instead of as a silent cycle. The order it names is repeated
in that report for the operator's eyes only; what the device installs comes from the director.

Schema 1 is for one device and names it. Schema 2 is one document for many devices, for couriers
that hand the same bytes to all of an order's devices (a job of AWS IoT): it names none, and is for
whoever gets it on its own channel. Nothing is lost by that: the name was never proof of anything
(who can write to a courier can write any name), it only shows honest mix-ups; and a device that is
woken without cause looks at its own director metadata and finds nothing to do.

>>> read(b'{"schema":1,"device":"press-07","order":"ota-a-b-u1-w0-b0","rollout":"a-b"}', "press-07")
Body(schema=1, device='press-07', order='ota-a-b-u1-w0-b0', rollout='a-b')
>>> read(b'{"schema":2,"order":"ota-a-b-u1-w0-b0","rollout":"a-b"}', "press-07").order
'ota-a-b-u1-w0-b0'
"""

from __future__ import annotations

from typing import Literal

import msgspec

from signing import strict
from signing.errors import Malformed, Refusal
from signing.playbooks import playbook

LIMIT = 4096
"""Largest hint in bytes."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a courier hands over; ``device`` is "" in schema 2, for the devices of the order.

    ``playbook`` (``NAME@VERSION``) and ``parameters`` are what it believes to carry: they choose
    nothing, and are refused where the director says otherwise.
    """

    schema: Literal[1, 2] = 1
    device: str = ""
    order: str
    rollout: str
    playbook: str = ""
    parameters: dict[str, str] = {}


def parse(data: bytes) -> Body:
    """The hint, whoever it is for; ``Malformed`` for anything that is none."""
    try:
        body = msgspec.convert(strict.loads(data, limit=LIMIT, what="hint"), Body, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"hint: {e!s:.200}") from e
    if body.schema == 1:
        strict.identifier(body.device, "device")
    elif body.device:
        raise Malformed("hint: device: schema 2 names none")
    strict.identifier(body.rollout, "rollout")
    if not strict.ORDER.fullmatch(body.order):
        raise Malformed("hint: order: not an order id")
    if body.playbook:
        playbook.named(body.playbook)
    return body


def read(data: bytes, device: str) -> Body:
    """The hint for ``device``; ``Refusal`` ``hint-malformed`` or ``hint-wrong-device``.

    The refusal's ``subject`` is the order it names, when that is an order id at all. Without a
    ``device`` only the form is judged.
    """
    try:
        body = parse(data)
    except Malformed as e:
        raise Refusal("hint-malformed", str(e)) from e
    if device and body.schema == 1 and body.device != device:
        raise Refusal(
            "hint-wrong-device", f"a hint for {body.device}, this is {device}", subject=body.order
        )
    return body
