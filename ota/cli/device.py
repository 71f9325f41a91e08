"""``ota device``: a device's identity at AWS IoT, from its request to its revocation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs, output
from ota.cli import session as sessions
from ota.errors import Misuse, NotFound, NotPermitted

if TYPE_CHECKING:
    from ota.identities.record import Record

app = typer.Typer(
    name="device", no_args_is_help=True, help="A device's identity at AWS IoT: enroll, revoke."
)
DeviceId = Annotated[
    str, typer.Argument(metavar="DEVICE", help="The device's id; its thing's name.")
]


@app.callback()
def device() -> None:
    """A device's identity at AWS IoT: enroll, revoke."""


@app.command(epilog="Example: ota device enroll press-07 --csr press-07.csr --out press-07.crt")
def enroll(
    ctx: typer.Context,
    device: DeviceId,
    csr: Annotated[Path, typer.Option(help="The device's own certificate request, PEM.")],
    out: Annotated[Path, typer.Option(help="Where the certificate is written.")],
) -> None:
    """Give a registered device its own certificate, policies and thing at AWS IoT.

    The certificate is made active last. The private key stays on the device: it makes the request, its common name is the device's
    id. Repeat the command after a failure: it goes on where it stopped.
    """
    from ota.identities import csr as requests  # noqa: PLC0415 - `ota --help` stays quick
    from signing import durable  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    pem = inputs.read(csr, requests.LIMIT, "certificate request")
    lifecycle = session.wiring.lifecycle

    def keep(certificate: str) -> None:
        durable.replace(out, certificate.encode())

    record = lifecycle.enrol(device, pem, keep, sessions.now())
    session.record({**_shown(record), "certificate": str(out)})


@app.command(epilog="Example: ota device revoke press-07 --yes")
def revoke(
    ctx: typer.Context,
    device: DeviceId,
    keep_registered: Annotated[
        bool,
        typer.Option("--keep-registered", help="Only its certificates: it gets a new TLS key."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Take a device's certificates, its orders and its voice: it is retired.

    What is ours is done first, so it holds even while AWS does not answer; repeat it then.
    """
    session = sessions.of(ctx)
    if dry_run:
        _would_revoke(session, device, keep_registered=keep_registered)
        return
    what = "its certificates will be revoked"
    session.confirm(f"{device}: {what}{'' if keep_registered else ', and it will be retired'}")
    if not keep_registered:
        session.wiring.unlock_director()
    found = session.wiring.lifecycle.revoke(device, sessions.now(), keep_registered=keep_registered)
    session.record(
        {
            "device": device,
            "revoked": list(found.certificates),
            "retired": not keep_registered,
            "old_orders_can_be_replayed_until": found.exposed,
        }
    )


def _would_revoke(session: sessions.Session, device: str, *, keep_registered: bool) -> None:
    """What ``revoke`` would take; ``NotFound`` for a device that it would not find."""
    wiring = session.wiring
    orders = []
    if not keep_registered:
        wiring.registry.device(device)
        orders = [item.order for item in wiring.assignments(device).values()]
    _, certificates = wiring.lifecycle.look(device)
    session.record(
        {
            "device": device,
            "would_revoke": [c.id for c in certificates if c.status != "REVOKED"],
            "would_retire": not keep_registered,
            "would_withdraw": orders,
        }
    )


@app.command(
    "activate-ssm", epilog="Example: ota device activate-ssm press-07 --out press-07.activation"
)
def activate_ssm(
    ctx: typer.Context,
    device: DeviceId,
    out: Annotated[Path, typer.Option(help="The activation, a secret: written with mode 0600.")],
    lifetime: Annotated[str, typer.Option(help="Such as 24h, 7d; at most 30d.")] = "24h",
) -> None:
    """Let one machine join Systems Manager, once, under its device's id.

    For machines that are no EC2 instances. On the machine: amazon-ssm-agent -register with the code and the id from the file.
    """
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    wanted = inputs.duration(lifetime, "--lifetime")
    if not timedelta(0) < wanted <= timedelta(days=30):
        raise Misuse("--lifetime: at most 30d", subject="--lifetime")
    if out.exists():
        raise NotPermitted(
            f"{out} exists and is never overwritten", code="exists", remedy="choose another --out"
        )
    made = session.wiring.ssm.activate(device, wanted)
    text = f"ActivationId={made.id}\nActivationCode={made.code}\n"
    durable.create(out, text.encode(), mode=0o600)
    session.record(
        {"device": device, "activation": made.id, "expires": made.expires, "file": str(out)}
    )


@app.command(epilog="Example: ota device show press-07 -o json")
def show(ctx: typer.Context, device: DeviceId) -> None:
    """What was done for a device at AWS IoT, and what AWS says of it now."""
    session = sessions.of(ctx)
    registry = session.wiring.registry
    record, certificates = session.wiring.lifecycle.look(device)
    fleet: dict[str, Any] = {"registered": "no"}
    try:
        found = registry.device(device)
        fleet = {
            "registered": found.state,
            "receipt": output.last_word(found, registry.with_receipt()),
        }
    except NotFound:
        if record is None and not certificates:
            raise
    session.details(
        {
            "device": device,
            **(_shown(record) if record else {"state": "not enrolled"}),
            **fleet,
            "certificates": [{"id": c.id, "status": c.status} for c in certificates],
        }
    )


def _shown(record: Record) -> dict[str, Any]:
    return {
        "device": record.device,
        "state": record.state,
        "key": record.key,
        "certificate_id": record.certificate_id,
    }
