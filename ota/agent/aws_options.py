"""``[aws]`` of agent.toml: how a device reads straight from a private bucket.

```toml
store = "s3://updates/plant-7"
[aws]
region = "eu-west-1"
credentials_endpoint = "c1exampleabc.credentials.iot.eu-west-1.amazonaws.com"
role_alias = "ota-device"
certificate = "/etc/ota-agent/device.pem"     # these three are [feed]'s where it has them
key = "/etc/ota-agent/device.key"
ca = "/etc/ota-agent/AmazonRootCA1.pem"
```
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ota.agent.mutual_tls import Files
from ota.agent.options import absolute
from signing import strict
from signing.errors import Malformed

_HOST: Final = re.compile(
    r"(?=.{1,253}(?::|\Z))[A-Za-z0-9][A-Za-z0-9-]{0,62}(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*(:\d{1,5})?"
)
_ALIAS: Final = re.compile(r"[A-Za-z0-9_=,@-]{1,128}")
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}


class AwsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table. ``thing`` is the device's id where it is left out.

    ``credentials_endpoint``: HOST or HOST:PORT, as ``aws iot describe-endpoint --endpoint-type
    iot:CredentialProvider`` tells it. ``s3_endpoint`` "": S3's own of the region. ``ca`` "": the
    system's; else it vouches for both endpoints.
    """

    region: str
    credentials_endpoint: str
    role_alias: str
    thing: str = ""
    certificate: str = ""
    key: str = ""
    ca: str = ""
    s3_endpoint: str = ""

    @property
    def url(self) -> str:
        """The credentials provider's."""
        return f"https://{self.credentials_endpoint}"

    @property
    def files(self) -> Files:
        """What mutual TLS needs."""
        return Files(self.certificate, self.key, self.ca)

    def check(self) -> None:
        """``Malformed`` names the key."""
        for name, pattern in (
            ("region", _REGION),
            ("credentials_endpoint", _HOST),
            ("role_alias", _ALIAS),
        ):
            if not pattern.fullmatch(getattr(self, name)):
                raise Malformed(f"aws.{name}: {getattr(self, name)!r:.120} is none")
        strict.identifier(self.thing, "aws.thing")
        for name in ("certificate", "key"):
            absolute(getattr(self, name), "aws", name)
        if self.ca:
            absolute(self.ca, "aws", "ca")
        parts = urlsplit(self.s3_endpoint)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if self.s3_endpoint and (not secure or parts.path.strip("/") or parts.query):
            raise Malformed(f"aws.s3_endpoint: {self.s3_endpoint!r:.120} is not https://HOST")


class Bucket(msgspec.Struct, frozen=True):
    """Where objects lie: ``s3://bucket/prefix``, and the URL behind it."""

    name: str
    prefix: str
    base: str
    path: str

    def key(self, name: str) -> str:
        """The object's key."""
        return f"{self.prefix}{name}"

    def arn(self, name: str, region: str) -> str:
        """As a policy names the object."""
        return f"arn:{partition(region)}:s3:::{self.name}/{self.key(name)}"


def bucket(url: str, options: AwsOptions) -> Bucket:
    """The bucket behind ``s3://...``; ``Malformed`` names the key of agent.toml.

    The bucket stands in the host's name, as S3 recommends; in the path with an endpoint of one's
    own, and where dots in its name would not fit S3's certificate.
    """
    check_bucket(url)
    name, _, rest = url.removeprefix("s3://").partition("/")
    prefix = f"{rest.strip('/')}/" if rest.strip("/") else ""
    suffix = "amazonaws.com.cn" if partition(options.region) == "aws-cn" else "amazonaws.com"
    if options.s3_endpoint:
        return Bucket(name, prefix, options.s3_endpoint.rstrip("/"), f"{name}/")
    if "." in name:
        return Bucket(name, prefix, f"https://s3.{options.region}.{suffix}", f"{name}/")
    return Bucket(name, prefix, f"https://{name}.s3.{options.region}.{suffix}", "")


def check_bucket(url: str) -> None:
    """Raise ``Malformed`` unless ``url`` is ``s3://BUCKET[/PREFIX]``."""
    name, _, rest = url.removeprefix("s3://").partition("/")
    segments = rest.rstrip("/").split("/") if rest.rstrip("/") else []
    good = all(re.fullmatch(r"[A-Za-z0-9:_+~-][A-Za-z0-9:_+~.-]*", s) for s in segments)
    if not _BUCKET.fullmatch(name) or ".." in name or not good or len(rest) > 200:
        raise Malformed(
            f"store: {url!r:.200} is not s3://BUCKET/PREFIX", remedy="set store in agent.toml"
        )


def partition(region: str) -> str:
    """The part of AWS that a region belongs to, as ARNs name it."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
