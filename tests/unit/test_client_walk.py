"""Delegations are walked as python-tuf's own client walks them: same roles, same order, same find.

Graphs are made at random from seeds: several levels, shared children, cycles, terminating roles
and paths that match or do not.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from simulators.repos import NOW, Repo, release_target
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import DelegatedRole, Delegations, Targets
from tuf.ngclient import FetcherInterface, Updater

from signing.client.workflow import TufClient

ROLES = tuple("ABCDEF")
PATHS = ("app/x", "app/y", "mcu/x", "z")
PATTERNS = ("*", "*/*", "app/*", "*/x", "mcu/*", "nothing")


def world(seed: int) -> Repo:
    """A published repository with a random graph of delegations below its targets."""
    dice = random.Random(seed)
    repo = Repo()
    signer = repo.signers["targets"][0]
    every = {name: Targets(expires=repo.targets.expires) for name in ROLES}
    for role in (repo.targets, *every.values()):
        children = dice.sample(ROLES, dice.randint(0, 3))
        role.delegations = Delegations(
            {signer.public_key.keyid: signer.public_key},
            {name: _delegation(name, signer.public_key.keyid, dice) for name in children},
        )
        for path in dice.sample(PATHS, dice.choice((0, 0, 1, 2))):
            role.targets[path] = release_target(path, f"{path} {dice.random()}".encode())
    repo.delegated = every
    repo.signers |= {name: [signer] for name in ROLES}
    repo.publish()
    return repo


def _delegation(name: str, keyid: str, dice: random.Random) -> DelegatedRole:
    patterns = dice.sample(PATTERNS, dice.randint(1, 2))
    return DelegatedRole(name, [keyid], 1, dice.random() < 0.3, patterns)


class Fetcher(FetcherInterface):
    """Gives the stock client what lies in the repository, and notes what it asked for."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        self.asked.append(name)
        if name not in self._repo.files:
            raise DownloadHTTPError("not found", 404)
        yield self._repo.files[name]


def stock(repo: Repo, path: str) -> tuple[Any, list[str]]:
    """What python-tuf's own client finds, and which files it asks for."""
    fetcher = Fetcher(repo)
    with tempfile.TemporaryDirectory() as folder:
        root = repo.files["1.root.json"]
        updater = Updater(folder, "https://x/", fetcher=fetcher, bootstrap=root)
        updater._trusted_set.reference_time = NOW
        updater.refresh()
        return updater.get_targetinfo(path), fetcher.asked


@pytest.mark.parametrize("seed", range(12))
def test_the_same_walk_as_the_stock_client(seed: int) -> None:
    """For every path: the same target or none, by the same requests in the same order."""
    repo = world(seed)
    for path in PATHS:
        expected, order = stock(repo, path)
        repo.asked.clear()
        client = TufClient({"root.json": repo.files["1.root.json"]}, repo.fetch, NOW)
        client.refresh()
        ours = client.find(path)
        assert (ours.target if ours else None) == expected
        assert repo.asked == order


def test_the_graphs_are_worth_it() -> None:
    """Among them are finds and misses, long walks and short ones."""
    walks = [stock(world(seed), path) for seed in range(12) for path in PATHS]
    assert {target is None for target, _ in walks} == {True, False}
    assert len({len(order) for _, order in walks}) >= 4
