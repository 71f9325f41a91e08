"""Provisioning: a device gets its identity, its trust anchors and its first floors. Once.

1. Both roots come as files from the owner, and their fingerprints are compared or shown; they
   never come from the store (rule 14).
2. The identity key is made here (``identity.py``).
3. The factory image of every component is recorded: its counter is the first floor (rule 4).
4. The self-signed enrolment is written last: with it the device is provisioned.

Killed anywhere, the same call goes on with the same key. A provisioned device is never
provisioned again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ota.agent import build, identity, parts
from ota.agent.config import Config
from ota.agent.state import State
from signing import durable, enrolment, strict
from signing.enrolment import Enrolment, key_to_dict
from signing.errors import NotFound, NotPermitted, Refusal

ROOT_LIMIT = 512_000


@dataclass(frozen=True)
class Roots:
    """Both first roots as bytes."""

    director: bytes
    image: bytes

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {"director": strict.digest(self.director), "image": strict.digest(self.image)}


def read_roots(director: Path, image: Path) -> Roots:
    """Read both files; ``Malformed`` past their limit, ``NotFound`` when one is missing."""
    found = []
    for path in (director, image):
        data = durable.read(path, ROOT_LIMIT, "root")
        if data is None:
            raise NotFound(f"there is no {path}", subject=str(path), remedy="ls -l")
        found.append(data)
    return Roots(*found)


def check(roots: Roots, expected: dict[str, str]) -> None:
    """Compare with the fingerprints that the owner gave; ``Refusal`` when one differs."""
    for name, fingerprint in roots.fingerprints().items():
        wanted = expected.get(name)
        if wanted is not None and wanted.lower() != fingerprint:
            raise Refusal(
                "signature",
                f"the {name} root has fingerprint {fingerprint}, not {wanted}",
                remedy="get the root files from your operator by a way that you trust",
            )


def provision(config: Config, roots: Roots, now: datetime) -> Path:
    """Do it; returns the enrolment file. ``NotPermitted`` (``exists``) when it was done before."""
    path = config.state / "identity" / "enrolment.json"
    if path.exists():
        raise NotPermitted(
            f"{config.device} is provisioned",
            code="exists",
            subject=str(path),
            remedy=f"ota fleet register {path}",
        )
    made = build.components(config)
    durable.folder(config.state, 0o700)
    with durable.locked(config.state / "lock"):
        # (1), (2)
        build.trust_room(config, build.downloader(config)).provision(roots.director, roots.image)
        signer = identity.make(config.state / "identity", config.identity)
        state = State.open(config.state, create=True)
        try:
            # (3)
            with state.transaction():
                if not state.get("state_id"):
                    state.put("state_id", secrets.token_hex(16))
                for name, part in made.items():
                    parts.adopt(name, config.components[name], part, state, now)
            # (4)
            body = Enrolment(
                schema=1,
                device=config.device,
                state_id=state.get("state_id"),
                created=strict.stamp(now),
                key=key_to_dict(signer.public_key),
                components=parts.inventory(made, state),
                director_root=roots.fingerprints()["director"],
                image_root=roots.fingerprints()["image"],
            )
        finally:
            state.close()
        durable.create(path, enrolment.sign(body, signer))
    return path
