"""The values from which an account's stacks are rendered: one TOML file, strictly read.

Every value that ends in a policy is held to a pattern without wildcards, quotes or braces, so
that no value can widen a policy or break out of a template.

>>> read(b'account = "111122223333" ...', "aws.toml").things
'press-'
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from ota.errors import Malformed

LIMIT: Final = 65_536
"""Largest file of values in bytes."""

Account = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{12}\Z")]
Region = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]\Z")]
Partition = Annotated[str, msgspec.Meta(pattern=r"^aws(-cn|-us-gov)?\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,19}\Z")]
Bucket = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]\Z")]
Prefix = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?\Z")]
Things = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Component = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:_-]{1,128}\Z")]
Principal = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+\Z"
    ),
]
LAMBDA: Final = "lambda.amazonaws.com"
Timer = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+"
        r"|lambda\.amazonaws\.com)\Z"
    ),
]
"""Who runs a timer: a role or user, or AWS Lambda, whose function then has the role itself."""
Vpc = Annotated[str, msgspec.Meta(pattern=r"^vpc-[0-9a-f]{8,17}\Z")]
Subnet = Annotated[str, msgspec.Meta(pattern=r"^subnet-[0-9a-f]{8,17}\Z")]
RouteTable = Annotated[str, msgspec.Meta(pattern=r"^rtb-[0-9a-f]{8,17}\Z")]
Host = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+\Z")]
Bandwidth = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(Mbps|Gbps)\Z")]
Location = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{2,16}\Z")]
Asn = Annotated[int, msgspec.Meta(ge=1, le=4_294_967_294)]
Vlan = Annotated[int, msgspec.Meta(ge=1, le=4094)]


class Trusted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may take each role: the ARN of a role or user that people or machines log in as.

    ``gc`` may be left out: then there is no such role, and nobody but the administrator removes.
    """

    admin: Principal
    publisher: Principal
    rollout: Principal
    refresh: Timer
    enrol: Principal
    gc: Principal | None = None


class Vpn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Site-to-Site VPN: the plant's gateway and the networks behind it."""

    gateway: str
    asn: Asn = 65_000
    networks: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50)]


class DirectConnect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Direct Connect line with a private virtual interface."""

    location: Location
    bandwidth: Bandwidth = "1Gbps"
    vlan: Vlan
    asn: Asn = 65_000
    amazon_asn: Asn = 64_512


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A VPC whose interface endpoints devices and operators reach AWS by."""

    vpc: Vpc
    subnets: Annotated[tuple[Subnet, ...], msgspec.Meta(min_length=1, max_length=16)]
    route_tables: Annotated[tuple[RouteTable, ...], msgspec.Meta(min_length=1, max_length=50)]
    clients: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50)]
    data_endpoint: Host
    credentials_endpoint: Host
    vpn: Vpn | None = None
    direct_connect: DirectConnect | None = None


class Values(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them. ``things`` is what the names of this fleet's things begin with.

    ``packages`` are the components that stand in AWS's Software Package Catalog; none without
    ``packages = true`` of the courier ``iot-jobs``.
    """

    account: Account
    region: Region
    partition: Partition = "aws"
    name: Name = "ota"
    bucket: Bucket
    prefix: Prefix = ""
    things: Things
    packages: Annotated[tuple[Component, ...], msgspec.Meta(max_length=32)] = ()
    mfa: bool = True
    trusted: Trusted
    network: Network | None = None

    @property
    def objects(self) -> str:
        """The ARN of the store's objects without the last star: ``arn:aws:s3:::bucket/prefix/``."""
        return f"arn:{self.partition}:s3:::{self.bucket}/{self.folder}"

    @property
    def folder(self) -> str:
        """The prefix with its slash, or "" for a bucket of its own."""
        return f"{self.prefix}/" if self.prefix else ""

    @property
    def cloud(self) -> str:
        """The DNS suffix of this partition's service names."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"


def read(data: bytes, source: str) -> Values:
    """Parse and check; ``Malformed`` names the file and the key."""
    if len(data) > LIMIT:
        raise Malformed(f"{source}: longer than {LIMIT} bytes", subject=source)
    try:
        values = msgspec.convert(tomllib.loads(data.decode()), Values, strict=True)
    except msgspec.ValidationError as e:
        text, _, where = str(e).partition(" - at `$.")
        raise Malformed(f"{source}: {where.rstrip('`') or 'top'}: {text}", subject=source) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Malformed(f"{source}: {e}", subject=source) from e
    _check(values, source)
    return values


def _check(values: Values, source: str) -> None:
    """What patterns can not say: networks are networks, and separate duties have separate people."""
    network = values.network
    if network is not None:
        for text in (*network.clients, *(network.vpn.networks if network.vpn else ())):
            _address(text, source, ipaddress.ip_network)
        if network.vpn is not None:
            _address(network.vpn.gateway, source, ipaddress.ip_address)
    people = msgspec.structs.asdict(values.trusted)
    if people["publisher"] in (people["rollout"], people["refresh"], people["enrol"]):
        raise Malformed(
            f"{source}: trusted.publisher: whoever publishes releases can not also roll them out",
            subject=source,
            remedy="name two different roles, as the two repositories have different keys",
        )


def _address(text: str, source: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as e:
        raise Malformed(f"{source}: network: {e}", subject=source) from e
