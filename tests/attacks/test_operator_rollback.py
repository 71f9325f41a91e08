"""A store that shows the operator's own side an older, honestly signed state."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from simulators.signed import NOW, Signed

from ota.repositories.catalogue import StoreCatalogue
from signing.errors import Outage, Refusal


def catalogue(signed: Signed) -> StoreCatalogue:
    return StoreCatalogue(
        signed.policy,
        signed.store,
        lambda: signed.repos.anchor("image"),
        lambda: NOW,
        signed.repos.memory,
    )


def test_older_image_repository_is_refused(tmp_path: Path) -> None:
    """Replaying the repository as it was before a release is noticed, by every reader."""
    signed = Signed(tmp_path).created()
    signed.released("1.0.0")
    store = tmp_path / "store"
    shutil.copytree(store, tmp_path / "before")
    signed.released("2.0.0")
    assert len(catalogue(signed).releases()) == 2
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "before", store)
    for read in (catalogue(signed).releases, lambda: signed.repos.image().state(NOW)):
        with pytest.raises(Refusal) as caught:
            read()
        assert caught.value.code == "metadata-rollback"


def test_vanished_repository_is_an_outage(tmp_path: Path) -> None:
    """A repository that was there is never taken for one that was never published."""
    signed = Signed(tmp_path).created()
    signed.released("1.0.0")
    assert len(catalogue(signed).releases()) == 1
    ((tmp_path / "store") / "image" / "metadata" / "timestamp.json").unlink()
    with pytest.raises(Outage):
        signed.repos.image().state(NOW)
