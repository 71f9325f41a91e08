"""``[aws]`` of ``ota.toml``: where this workspace lives at AWS, and what devices are given there.

```toml
[aws]
region = "eu-central-1"                           # without it: boto3's own
policies = ["ota-device", "ota-device-https"]     # of AWS IoT, attached to every certificate
query = "thingName:press-*"                       # which things `ota fleet sync aws` looks at
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_POLICY = re.compile(r"[A-Za-z0-9+=,.@_-]{1,128}")
_QUERY = 1000


class AwsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table as it stands; ``faults`` says what is wrong with it."""

    region: str = ""
    policies: tuple[str, ...] = ("ota-device", "ota-device-https")
    query: str = "thingName:*"

    def faults(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong with it)."""
        if self.region and not _REGION.fullmatch(self.region):
            yield "aws.region", f"{self.region!r:.40} is not a region such as eu-central-1"
        if not 1 <= len(self.policies) <= 10:
            yield "aws.policies", "AWS IoT takes one to ten policies on a certificate"
        for name in self.policies:
            if not _POLICY.fullmatch(name):
                yield "aws.policies", f"{name!r:.80} is not a policy's name"
        if not self.query or len(self.query) > _QUERY:
            yield "aws.query", f"is empty or longer than {_QUERY} characters"
