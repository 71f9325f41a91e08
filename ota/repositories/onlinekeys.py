"""Which online keys sign now: those of the published root, found by key id.

The policy files may already name tomorrow's keys, and a keyholder's name may have moved; devices
go by the root. So a key is chosen because the root lists it and its public half is at hand;
those that the policy names come first.

>>> keys = OnlineKeys(policy, signer)
>>> keys.names(root, "timestamp")
('image-online',)
"""

from __future__ import annotations

from collections.abc import Callable

from securesystemslib.signer import Signer
from tuf.api.metadata import Root

from ota.errors import NotFound
from signing.policy import Policy

IMAGE = ("snapshot", "timestamp")


class OnlineKeys:
    """``signer`` turns a keyholder's name into a signer."""

    def __init__(self, policy: Policy, signer: Callable[[str], Signer]) -> None:
        self._policy = policy
        self._signer = signer

    def names(self, root: Root, role: str) -> tuple[str, ...]:
        """Keyholders who reach the role's threshold; ``NotFound`` (``online-key``) if none do."""
        known = self._policy.names()
        wanted = root.roles[role]
        named = self._policy.holders()
        holders = [known[keyid] for keyid in wanted.keyids if keyid in known]
        holders.sort(key=lambda name: name not in named)
        if len(holders) < wanted.threshold:
            raise NotFound(
                f"{role}: {wanted.threshold} online keys must sign, and public keys of "
                f"{len(holders)} are in keyholders/",
                code="online-key",
                subject=role,
                remedy="ota repo status; ota repo recover --online replaces lost keys",
            )
        return tuple(holders[: wanted.threshold])

    def of(self, role: str, *roots: Root) -> list[Signer]:
        """Signers that satisfy the role under each of these roots, each of them once."""
        names = dict.fromkeys(name for root in roots for name in self.names(root, role))
        return [self._signer(name) for name in names]

    def image(self, *roots: Root) -> dict[str, list[Signer]]:
        """Signers of both online roles of the image repository."""
        return {role: self.of(role, *roots) for role in IMAGE}
